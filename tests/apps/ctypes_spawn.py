"""A caller that binds MPI's functions itself, each by dlsym on its own handle, as Julia's ccall and .NET do.

A preloaded MPI_Comm_spawn is never asked for here.

ctypes_spawn.py LIBMPI [deepbind]: with RTLD_DEEPBIND, what libmpi itself calls is not looked up in preloaded libraries either.
"""

import ctypes
import os
import sys
import time

deepbind = os.RTLD_DEEPBIND if sys.argv[2:] == ["deepbind"] else 0
libmpi = ctypes.CDLL(sys.argv[1], mode=os.RTLD_LOCAL | os.RTLD_NOW | deepbind)
COMM_WORLD = ctypes.c_int(0x44000000)  # mpi.h of MPICH and its kin, as the next three
COMM_SELF = ctypes.c_int(0x44000001)
COMM_NULL = 0x04000000
INFO_NULL = ctypes.c_int(0x1C000000)


def report(line):
    with open(os.environ["APP_REPORT"], "a") as file:
        file.write(line + "\n")


libmpi.MPI_Init(None, None)
parent = ctypes.c_int()
libmpi.MPI_Comm_get_parent(ctypes.byref(parent))
if parent.value != COMM_NULL:
    print("hello from child", flush=True)
    libmpi.MPI_Barrier(parent)
    libmpi.MPI_Comm_disconnect(ctypes.byref(parent))
    libmpi.MPI_Finalize()
    report("bye=")
    sys.exit()

with open(os.environ["APP_READ"], "a") as file:
    for _ in range(2):
        file.write(sys.stdin.readline())
report("spawning=")
children = ctypes.c_int()
argv = (ctypes.c_char_p * 3)(*(arg.encode() for arg in sys.argv[:2]), None)
code = ctypes.c_int(-1)
rc = libmpi.MPI_Comm_spawn(
    sys.executable.encode(), argv, 1, INFO_NULL, 0, COMM_SELF, ctypes.byref(children), ctypes.byref(code)
)
report(f"spawned={rc} {code.value}")
libmpi.MPI_Barrier(children)
libmpi.MPI_Comm_disconnect(ctypes.byref(children))
report("working=")
time.sleep(0.3)
with open(os.environ["APP_READ"], "a") as file:
    file.writelines(sys.stdin)
libmpi.MPI_Finalize()
report("end=")
