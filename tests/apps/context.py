"""Spawns children from changed environments and directories, and by four threads at once, and compares what each one says it
has: context.py CHILD [universe], where context.c is the child.
context.py CHILD crash: two children from two environments, of which the second one crashes."""

import os
import sys
import threading
import time

NAMES = ["CONTEXT", "OTHER", "BIG_0", "BIG_9"]


def report(line):
    with open(os.environ["APP_REPORT"], "a") as file:
        file.write(line + "\n")


def context():
    try:
        directory = os.getcwd()
    except OSError:
        directory = "gone"
    return [os.environ.get(name) for name in NAMES] + [directory]


from mpi4py import MPI
from mpi4py.futures import MPIPoolExecutor

CHILD, *STORY = sys.argv[1:]


def spawn(name, way="leave"):
    try:
        team = MPI.COMM_SELF.Spawn(CHILD, [way, *NAMES])
    except MPI.Exception:
        report(f"{name}=error")
        return
    status = MPI.Status()
    team.Probe(0, 0, status)
    words = bytearray(status.Get_count(MPI.BYTE))
    team.Recv([words, MPI.BYTE], 0, 0)
    *values, directory, _ = os.fsdecode(bytes(words)).split("\0")
    got = [value[1:] if value else None for value in values] + [directory]
    report(f"{name}={'same' if got == context() else got}")
    if way == "leave":
        team.Disconnect()


def pool(name):
    os.environ["CONTEXT"] = name
    os.mkdir(name)
    os.chdir(name)
    with MPIPoolExecutor(1, main=False) as workers:  # spawned at the first use
        got = [*workers.map(os.getenv, NAMES), workers.submit(os.getcwd).result()]
        report(f"{name}={'same' if got == context() else got}")


if STORY == ["crash"]:
    spawn("first", "stay")
    os.environ["CONTEXT"] = "1"
    spawn("second", "crash")
    time.sleep(20)
    report("end=")
    sys.exit()

if STORY == ["universe"]:
    MPI.COMM_WORLD.Get_attr(MPI.UNIVERSE_SIZE)
    os.environ["OTHER"] = "after the universe"
home = os.getcwd()
spawn("first")
os.environ["CONTEXT"] = "1"
spawn("set")
os.environ["CONTEXT"] = "two\nlines = \\ \xff"
spawn("changed")
spawn("again")
os.environ["CONTEXT"] = "threads"
threads = [threading.Thread(target=spawn, args=["thread"]) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
del os.environ["CONTEXT"]
spawn("unset")
os.mkdir("elsewhere")
os.chdir("elsewhere")
spawn("moved")
os.rmdir(os.getcwd())
spawn("removed")
os.chdir(home)
spawn("back")
pool("pool")
pool("second_pool")
for number in range(10):
    os.environ[f"BIG_{number}"] = str(number) * 100_000
spawn("big")
report("end=")
