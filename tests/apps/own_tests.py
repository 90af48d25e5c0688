"""mpi4py's own tests of spawning, in $MPI4PY_TESTS; then reads what was typed meanwhile, up to a line `end`."""

import os
import sys
import unittest

sys.path.insert(0, os.environ["MPI4PY_TESTS"])
import mpitestutil  # mpi4py's

# It would skip them all under MPICH 4.0 without mpiexec, which tells the program no appnum.
mpitestutil.disable_mpi_spawn = lambda: False


def report(line):
    with open(os.environ["APP_REPORT"], "a") as file:
        file.write(line + "\n")


class Result(unittest.TextTestResult):
    def startTest(self, test):
        super().startTest(test)
        report(f"testing={test.id()}")

    def addSuccess(self, test):
        super().addSuccess(test)
        report(f"passed={test.id()}")


suite = unittest.defaultTestLoader.loadTestsFromName("test_spawn")
report("starting=")
result = unittest.TextTestRunner(verbosity=2, resultclass=Result).run(suite)
report(f"ran={result.testsRun}")
with open(os.environ["APP_READ"], "a") as file:
    for line in iter(sys.stdin.readline, "end\n"):
        if not line:
            report("read_error=the input ended")
            break
        file.write(line)
