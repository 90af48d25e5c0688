"""spawn.c's story in Python, with mpi4py: spawn.py Spawn|Spawn_multiple|MPIPoolExecutor."""

import fcntl
import os
import sys
import time


def report(line):
    with open(os.environ["APP_REPORT"], "a") as file:
        file.write(line + "\n")


def keep(line):
    with open(os.environ["APP_READ"], "a") as file:
        file.write(line)


def square(number):
    return number * number


def child(word):
    from mpi4py import MPI

    print(f"hello from child {MPI.COMM_WORLD.rank + 1} of {MPI.COMM_WORLD.size}", flush=True)
    if "CHILD_READS" in os.environ:
        report(f"child_read={len(sys.stdin.read())}")
    parent = MPI.Comm.Get_parent()
    parent.gather(square(MPI.COMM_WORLD.rank + 5), root=0)
    parent.Disconnect()
    report(f"child={word}")
    report("bye=")


def main(how):
    kept = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 100)
    was = os.fstat(0)

    from mpi4py import MPI
    from mpi4py.futures import MPIPoolExecutor

    report(f"pid={os.getpid()}")
    for _ in range(2):
        keep(sys.stdin.readline())

    report("spawning=")
    me = [os.path.abspath(__file__), "child"]
    if how == "MPIPoolExecutor":
        with MPIPoolExecutor(max_workers=1) as pool:
            squares = list(pool.map(square, [5, 6]))
        report("bye=")
    else:
        if how == "Spawn":
            children = MPI.COMM_SELF.Spawn(sys.executable, [*me, "first"], maxprocs=2)
        else:
            children = MPI.COMM_SELF.Spawn_multiple(
                [sys.executable, sys.executable], [[*me, "first"], [*me, "second"]], [1, 1]
            )
        squares = children.gather(None, root=MPI.ROOT)
        children.Disconnect()
    report(f"squares={squares}")
    report("working=")
    time.sleep(1 if "CHILD_READS" in os.environ else 0.3)

    for line in sys.stdin:
        keep(line)

    is_ = os.fstat(0)
    flags = fcntl.fcntl(0, fcntl.F_GETFL)
    fcntl.fcntl(0, fcntl.F_SETFL, flags ^ os.O_APPEND)
    same = fcntl.fcntl(kept, fcntl.F_GETFL) == flags ^ os.O_APPEND and (was.st_dev, was.st_ino) == (is_.st_dev, is_.st_ino)
    fcntl.fcntl(0, fcntl.F_SETFL, flags)
    report(f"same_stdin={'yes' if same else 'no'}")
    for fd in 0, 1, 2:
        report(f"nonblock_{fd}={'no' if os.get_blocking(fd) else 'yes'}")
    report("end=")


if __name__ == "__main__":
    if sys.argv[1] == "child":
        child(sys.argv[2])
    else:
        main(sys.argv[1])
