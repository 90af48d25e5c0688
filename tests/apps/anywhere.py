"""What a script does, or someone types at a prompt, on the machine at hand: anywhere.py STATEMENT...

A script has the statements as arguments. At a prompt, after `from anywhere import *`, they are typed. Facts go to APP_REPORT.
"""

import atexit
import ctypes
import glob
import os
import signal
import socket
import subprocess
import sys
import threading
import time

# spawn_once.c, which starts in a tenth of the time, or the same in Python.
if "APP_CHILD" in os.environ:
    CHILD = [os.environ["APP_CHILD"], "child"]
else:
    CHILD = [sys.executable, "-c", "from mpi4py import MPI;p=MPI.Comm.Get_parent();p.Barrier();p.Disconnect()"]


def report(name, value=""):
    with open(os.environ["APP_REPORT"], "a") as file:
        file.write(f"{name}={value}\n")


def begin():
    """MPI_Init."""
    global MPI
    report("beginning")
    from mpi4py import MPI

    report("began")


class Dlsym:
    """MPI for a caller that binds its functions by dlsym on its own handle of libmpi, as Julia's ccall and .NET do: no preloaded
    MPI_Init or MPI_Comm_spawn is ever called."""

    class Exception(Exception):
        def Get_error_class(self):
            return self.args[0]

    def __init__(self):
        file = glob.glob(os.path.join(sys.prefix, "lib", "libmpi.so.[14]*"))[0]
        self.libmpi = ctypes.CDLL(file, mode=os.RTLD_LOCAL | os.RTLD_NOW)
        try:  # Open MPI's handles are the addresses of its objects, and others' are numbers of their mpi.h
            objects = ["ompi_mpi_comm_self", "ompi_mpi_info_null", "ompi_mpi_errors_return"]
            handles = [ctypes.addressof(ctypes.c_char.in_dll(self.libmpi, name)) for name in objects]
        except ValueError:
            handles = [0x44000001, 0x1C000000, 0x54000001]
        self.comm_self, self.info_null, errors_return = map(ctypes.c_void_p, handles)
        self.libmpi.MPI_Init(None, None)
        self.libmpi.MPI_Comm_set_errhandler(self.comm_self, errors_return)
        atexit.register(self.libmpi.MPI_Finalize)

    def one(self, children):
        group, codes = ctypes.c_void_p(), (ctypes.c_int * children)()
        command, *argv = map(os.fsencode, CHILD)
        argv = (ctypes.c_char_p * 3)(*argv, None)
        info, to = self.info_null, ctypes.byref(group)
        code = self.libmpi.MPI_Comm_spawn(command, argv, children, info, 0, self.comm_self, to, codes)
        if code:
            raise Dlsym.Exception(code)
        self.libmpi.MPI_Barrier(group)
        self.libmpi.MPI_Comm_disconnect(to)


def begin_by_dlsym():
    """MPI_Init, past the hooks."""
    global MPI
    report("beginning")
    MPI = Dlsym()
    report("began")


def one(children):
    if isinstance(MPI, Dlsym):
        return MPI.one(children)
    group = MPI.COMM_SELF.Spawn(CHILD[0], CHILD[1:], children)
    group.Barrier()
    group.Disconnect()


def spawn(children, times):
    """Spawns so many children so often; the first error is raised."""
    report("spawning")
    try:
        for _ in range(times):
            one(children)
    except MPI.Exception as error:
        report("error", error.Get_error_class())
        raise
    report("spawned", f"{children} {times} times")


def threads():
    """Spawns from four threads at once."""
    each = [threading.Thread(target=spawn, args=(1, 1)) for _ in range(4)]
    for thread in each:
        thread.start()
    for thread in each:
        thread.join()


def beside(library):
    """Another MPI library is loaded: a file of target/mpi."""
    ctypes.CDLL(os.path.join(os.path.dirname(sys.prefix), library))


def interrupted():
    """Works until Ctrl-C."""
    try:
        report("working")
        for _ in range(60000):
            time.sleep(0.001)
    except KeyboardInterrupt:
        report("interrupted")


def hung_up():
    """Whoever logs out sends SIGHUP to each job, which is a process group; `nohup` has it ignored."""
    os.killpg(0, signal.SIGHUP)
    time.sleep(0.5)
    report("lives")


def listen():
    """Has a port that what it starts inherits."""
    global server
    server = socket.create_server(("127.0.0.1", 0))
    server.set_inheritable(True)


def listen_again():
    """The port is free again, unless someone holds it."""
    port = server.getsockname()[1]
    server.close()
    try:
        socket.create_server(("127.0.0.1", port), reuse_port=False).close()
    except OSError as error:
        report("error", error)
        raise


def environment(*front):
    """What a program that is started now has."""
    command = [*front, "/usr/bin/env", "-0"]
    output = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True).stdout
    for variable in filter(None, output.decode().split("\0")):
        report(" ".join(["environment", *front[:1]]), variable.encode("unicode_escape").decode())


def script(*statements):
    """Starts a script, which gets this one's environment, and none of its files."""
    command = [sys.executable, os.path.abspath(__file__), *statements]
    report("script", subprocess.run(command, stdin=subprocess.DEVNULL).returncode)


def crash():
    """Spawns a child, and lets it die."""
    child = "import os,signal;from mpi4py import MPI;p=MPI.Comm.Get_parent();p.Barrier();os.kill(os.getpid(),signal.SIGSEGV)"
    group = MPI.COMM_SELF.Spawn(sys.executable, ["-c", child])
    group.Barrier()
    for _ in range(100):  # it is noticed inside MPI calls
        time.sleep(0.01)
        try:
            group.Iprobe()
        except MPI.Exception:
            break
    report("crashed")


if __name__ == "__main__":
    for statement in sys.argv[1:]:
        eval(statement)
    report("end")
