"""A spawn, and nothing else: the exit status is 0 if it works."""

import sys

from mpi4py import MPI

if sys.argv[1:] == ["child"]:
    others = MPI.Comm.Get_parent()
else:
    others = MPI.COMM_SELF.Spawn(sys.executable, [sys.argv[0], "child"])
others.Barrier()
others.Disconnect()
