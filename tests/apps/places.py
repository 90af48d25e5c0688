"""Spawns five children one after the other, which live until all are there; reports on which host each runs."""

import os
import sys

from mpi4py import MPI

# What hydra tells its processes of their host: up to MPICH 4.1, and in 4.2.
HOST = ["MPICH_INTERFACE_HOSTNAME", "MPIR_CVAR_CH3_INTERFACE_HOSTNAME"]


def child():
    parent = MPI.Comm.Get_parent()
    parent.send(next(os.environ[name] for name in HOST if name in os.environ), dest=0)
    parent.recv(source=0)
    parent.Disconnect()


def application():
    children = []
    with open(os.environ["APP_REPORT"], "a") as report:
        for _ in range(5):
            children.append(MPI.COMM_SELF.Spawn(sys.executable, [__file__, "child"]))
            print("host=" + children[-1].recv(source=0), file=report)
        for one in children:
            one.send(None, dest=0)
            one.Disconnect()
        print("end=0", file=report)


child() if sys.argv[1:] == ["child"] else application()
