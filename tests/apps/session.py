"""What someone has at hand in a Python shell: children that it spawns, asks, has crash, and ends. session.c is the same in C,
and is the child if APP_CHILD names it: it starts in a tenth of the time."""

import os
import signal
import sys
import time
from array import array

if "APP_CHILD" in os.environ:
    CHILD = [os.environ["APP_CHILD"], "child"]
else:
    CHILD = [sys.executable, os.path.abspath(__file__), "child"]
# What a child is sent: a number, which it sends back negated, or one of these, as in session.c.
LEAVE = 0
CRASHES = {"segv": 1000000, "abort": 1000001, "exit": 1000002}


def report(name, value=""):
    with open(os.environ["APP_REPORT"], "a") as file:
        file.write(f"{name}={value}\n")


def child():
    from mpi4py import MPI

    parent = MPI.Comm.Get_parent()
    while True:
        while not parent.Iprobe(source=0):  # without spinning: whoever is left behind costs no processor
            time.sleep(0.005)
        word = hear(parent)
        if word == LEAVE:
            break
        if word in CRASHES.values():
            report("dying", word)
        if word == CRASHES["segv"]:
            os.kill(os.getpid(), signal.SIGSEGV)
        if word == CRASHES["abort"]:
            MPI.COMM_WORLD.Abort(3)
        if word == CRASHES["exit"]:  # without MPI_Finalize
            # Hydra's proxy looks no further than the end of the output (main in pmip.c). A dying process closes its
            # descriptors in their order, the connection of its MPI after the output: sometimes that goes unnoticed.
            if "PMI_FD" in os.environ:
                os.close(int(os.environ["PMI_FD"]))
            os._exit(3)
        say(-word, parent)


def say(word, to):
    to.Send(array("i", [word]), 0)


def hear(whom):
    word = array("i", [0])
    whom.Recv(word, 0)
    return word[0]


teams = []
number = 0


def spawn():
    """Spawns a child, which is the one that the rest is about, until the next."""
    global team
    from mpi4py import MPI

    team = MPI.COMM_SELF.Spawn(CHILD[0], CHILD[1:])
    teams.append(team)
    report("spawned", os.getpid())


def use(which):
    """Turns to an older child."""
    global team
    team = teams[which]


def tell(word):
    """Sends the child a last word. MPICH 4.1 and 4.2 push it only inside MPI calls."""
    say(word, team)
    for _ in range(60):
        try:
            team.Iprobe(source=0)
        except Exception:  # it is gone
            break
        time.sleep(0.005)


def crash(how):
    """Has the child crash: `segv`, `abort`, `exit`."""
    tell(CRASHES[how])
    report("crashed", how)


def ask():
    """Asks the child, and reports whether it answers within 5 s."""
    global number
    number += 1
    say(number, team)
    end = time.monotonic() + 5
    while not team.Iprobe(source=0):
        if time.monotonic() > end:
            return report("unanswered", number)
        time.sleep(0.005)
    report("answered" if hear(team) == -number else "unanswered", number)


def hang():
    """Spawns children that never call MPI_Init, and reports how someone got out of it: by Ctrl-C, and the call by an MPI error."""
    from mpi4py import MPI

    report("hanging")
    try:
        try:
            MPI.COMM_SELF.Spawn("sleep", ["300"], maxprocs=2)
        except MPI.Exception:
            time.sleep(0.1)  # here at the latest Python raises the KeyboardInterrupt
            raise
    except BaseException as left:
        mpi_error = isinstance(left.__context__, MPI.Exception)
        report("got_out", f"{type(left).__name__}, {'an MPI error' if mpi_error else 'no MPI error'}")
        raise


def receive(how):
    """Has the child crash, as `crash` does, waits for a word of it, and reports an MPI error."""
    from mpi4py import MPI

    report("receiving", how)
    say(CRASHES[how], team)
    try:
        hear(team)
    except MPI.Exception:
        report("lost", "an MPI error")


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
    tell(LEAVE)
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
