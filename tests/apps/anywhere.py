"""Spawns under an MPI of which nothing is set: what a user has who types `python script.py`.

usage: anywhere.py CHILDREN TIMES [beside LIBRARY | interrupted | nohup | server | threads]

beside: another MPI library is loaded first; interrupted: Ctrl-C comes before the spawn; nohup: SIGHUP is ignored; server: it has
a port that what it starts inherits; threads: four at once. What was seen goes to stdout.
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


def environment():
    """What a program that is started now has."""
    output = subprocess.run(["/usr/bin/env", "-0"], capture_output=True, check=True).stdout
    return dict(line.split(b"=", 1) for line in output.split(b"\0") if b"=" in line)


def spawn(children, times):
    for _ in range(times):
        group = MPI.COMM_SELF.Spawn(sys.executable, ["-c", CHILD], children)
        group.Barrier()
        group.Disconnect()


children, times, what, *more = int(sys.argv[1]), int(sys.argv[2]), *(sys.argv[3:] or [""])
before = environment()
if what == "beside":
    ctypes.CDLL(more[0])
if what == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
if what == "server":
    server = socket.create_server(("127.0.0.1", 0))
    server.set_inheritable(True)
    port = server.getsockname()[1]

from mpi4py import MPI  # noqa: E402 (MPI_Init)

if what == "interrupted":
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
if what == "threads":
    each = [threading.Thread(target=spawn, args=(children, times)) for _ in range(4)]
    for thread in each:
        thread.start()
    for thread in each:
        thread.join()
else:
    spawn(children, times)
if what == "nohup":
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(0.2)
if what == "server":
    server.close()
    socket.create_server(("127.0.0.1", port), reuse_port=False).close()
    print("the port is free", flush=True)
after = environment()
changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
print("changed:", b" ".join(changed).decode(), flush=True)
print(f"spawned {children} {times} times", flush=True)
