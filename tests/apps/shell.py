"""What someone has at hand in a Python shell: a child that it spawns, asks, and ends. shell.c is the same in C."""

import os
import sys
import time


def report(name, value=""):
    with open(os.environ["APP_REPORT"], "a") as file:
        file.write(f"{name}={value}\n")


def child():
    from mpi4py import MPI

    parent = MPI.Comm.Get_parent()
    while True:
        while not parent.Iprobe(source=0):  # without spinning: whoever is left behind costs no processor
            time.sleep(0.005)
        word = parent.recv(source=0)
        if word is None:
            break
        parent.send(-word, 0)


def spawn():
    global team, number
    from mpi4py import MPI

    number = 0
    team = MPI.COMM_SELF.Spawn(sys.executable, [os.path.abspath(__file__), "child"])
    report("spawned", os.getpid())


def ask():
    """Asks the child, and reports whether it answers within 5 s."""
    global number
    number += 1
    team.send(number, 0)
    end = time.monotonic() + 5
    while not team.Iprobe(source=0):
        if time.monotonic() > end:
            return report("unanswered", number)
        time.sleep(0.005)
    report("answered" if team.recv(source=0) == -number else "unanswered", number)


def work():
    """Works until it is interrupted."""
    try:
        report("working")
        for _ in range(60000):  # a Ctrl-C that comes just before a sleep is heard after it
            time.sleep(0.001)
        report("never_interrupted")
    except KeyboardInterrupt:
        report("interrupted")
        raise


def leave():
    """Ends the child's work."""
    team.send(None, 0)
    report("leaving")


def story():
    """All of it, with no more input."""
    spawn()
    ask()
    for _ in range(3):
        try:
            work()
        except KeyboardInterrupt:
            ask()
    time.sleep(1)
    ask()
    leave()


if __name__ == "__main__":
    child()
