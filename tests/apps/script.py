"""script.py HOW: spawns a child, has it crash, and goes on for a while. No shell: a program that is run to its end."""

import os
import sys
import time

from session import ask, crash, report, spawn

spawn()
ask()
crash(sys.argv[1])
time.sleep(10)  # longer than a launcher takes to kill it
report("lived")
os._exit(0)  # Intel's MPI_Finalize waits without end for a child that crashed
