"""Spawns children with the info key `host`, which names this very host, one after the other; each ends before the next."""

import os
import sys
import time

from mpi4py import MPI


def report(line):
    with open(os.environ["APP_REPORT"], "a") as file:
        file.write(line + "\n")


if sys.argv[1:] == ["child"]:
    parent = MPI.Comm.Get_parent()
    parent.send((os.uname().nodename, os.getpid()), dest=0)
    parent.recv(source=0)
    parent.Disconnect()
    sys.exit()

for host in [MPI.Get_processor_name(), "127.0.0.1", "localhost"] * 2:
    child = MPI.COMM_SELF.Spawn(sys.executable, [__file__, "child"], info=MPI.Info.Create({"host": host}))
    name, pid = child.recv(source=0)
    report(f"child={name}")
    child.ssend(None, dest=0)  # it has arrived when the call returns
    child.Disconnect()
    until = time.monotonic() + 30
    while os.path.exists(f"/proc/{pid}/exe") and time.monotonic() < until:  # a zombie has none
        time.sleep(0.01)
    time.sleep(0.5)  # until mpiexec has seen its proxy end
report("end=0")
