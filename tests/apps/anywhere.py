"""What a script does, or someone types at a prompt, on the machine at hand: anywhere.py STATEMENT...

A script has the statements as arguments. At a prompt, after `from anywhere import *`, they are typed. Facts go to APP_REPORT.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time

CHILD = "from mpi4py import MPI;p=MPI.Comm.Get_parent();p.Barrier();p.Disconnect()"


def report(name, value=""):
    with open(os.environ["APP_REPORT"], "a") as file:
        file.write(f"{name}={value}\n")


def begin():
    """MPI_Init."""
    global MPI
    report("beginning")
    from mpi4py import MPI

    report("began")


def one(children):
    group = MPI.COMM_SELF.Spawn(sys.executable, ["-c", CHILD], children)
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
