"""Spawns five children one after the other; `free`: ends the fourth, and spawns a sixth. Reports on which host each runs."""

import os
import sys
import time

from mpi4py import MPI

# What hydra tells its processes of their host: up to MPICH 4.1, and in 4.2.
HOST = ["MPICH_INTERFACE_HOSTNAME", "MPIR_CVAR_CH3_INTERFACE_HOSTNAME"]


def child():
    parent = MPI.Comm.Get_parent()
    host = next(os.environ[name] for name in HOST if name in os.environ)
    parent.send((host, os.getpid()), dest=0)
    parent.recv(source=0)
    parent.Disconnect()


def application():
    children = []

    def spawn():
        children.append(MPI.COMM_SELF.Spawn(sys.executable, [__file__, "child"]))
        host, pid = children[-1].recv(source=0)
        print("host=" + host, file=report)
        return pid

    with open(os.environ["APP_REPORT"], "a") as report:
        pids = [spawn() for _ in range(5)]
        if "free" in sys.argv:
            children[3].ssend(None, dest=0)  # it has arrived when the call returns
            children.pop(3).Disconnect()
            while os.path.exists(f"/proc/{pids[3]}"):
                time.sleep(0.1)
            time.sleep(1)  # until its mpiexec has ended
            spawn()
        for child in children:
            child.send(None, dest=0)
            child.Disconnect()
        print("end=0", file=report)


child() if sys.argv[1:] == ["child"] else application()
