import os
import sys

from mpi4py import MPI


def parent():
    num_procs = 1

    errcodes = [0] * num_procs
    comm_world = MPI.COMM_WORLD
    intercomm = comm_world.Spawn(
        "python",
        ["repro.py", "child"],
        num_procs,
        MPI.INFO_NULL,
        0,
        errcodes
    )
    intercomm.barrier()


def child():
    print("Hello from child")
    comm_world = MPI.COMM_WORLD
    comm_world.barrier()

    intercomm = comm_world.Get_parent()
    intercomm.barrier()

if __name__ == "__main__":
    if len(sys.argv) >= 2 and sys.argv[1] == "child":
        child()
    else:
        parent() 
