"""A Python program that spawns with mpi4py, takes an error as Python programs do, and goes on."""

import os
import sys
import time

from mpi4py import MPI


def report(name, text=""):
    with open(os.environ["APP_REPORT"], "a") as file:
        file.write(f"{name}={os.getpid()} {text}\n")


report("start")
for _ in range(3):
    report("attempting")
    start = time.monotonic()
    try:
        MPI.COMM_SELF.Spawn(sys.executable, ["-c", "from mpi4py import MPI"])
        outcome = "succeeded"
    except MPI.Exception as error:
        outcome = "failed"
        print("the program was told of an error", flush=True)
    report("attempt", f"{outcome} {(time.monotonic() - start) * 1000:.0f} ms")
MPI.Finalize()
report("end")
print("the program went on to its end", flush=True)
