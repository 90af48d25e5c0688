#!/usr/bin/env python3
"""Plays the same session twice, without the library and with it: IPython on a pseudo-terminal, a spawn, and more typing.

usage: demo.py LIBRARY [VENV]

LIBRARY is libspawnfix.so (.dylib on macOS); VENV a Python environment with IPython, mpi4py and
an affected MPICH, by default target/mpi/mpich-4.2.3 of this checkout.

Exit status: 0 if the session dies without the library and lives with it, 1 if not, 2 for bad usage.
"""

import codecs
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROWS, COLUMNS = 40, 100
START = 20.0  # seconds that IPython may take to its first prompt
REPLY = 2.0  # a person waits this long for the next prompt, then types on
SPAWN = 8.0  # the same, for the spawn itself
KEY = 0.012  # from key to key
MARK = "SPAWNFIX_DEMO"  # a variable in the environment of IPython, by which all its descendants are found

WORKER = """\
print("hello from the child", flush=True)
from mpi4py import MPI
MPI.Comm.Get_parent().Barrier()
"""
BEFORE = [
    "import sys; from mpi4py import MPI",
    'team = MPI.COMM_SELF.Spawn(sys.executable, ["worker.py"])',
]
LINES = ['print("line", %d)' % n for n in range(1, 9)]
AFTER = ["team.Barrier()", "exit"]


class Screen:
    """A terminal emulator, as far as IPython's prompt needs one. Rows that scroll off the top are kept."""

    TOKEN = re.compile(
        r"\x1b\[([0-?]*)[ -/]*([@-~])"  # CSI, with its parameters and its final letter
        r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: the window's title
        r"|\x1b[ -/]*[0-Z\\^-~]"
        r"|[\x00-\x1a\x1c-\x1f]"
        r"|[^\x00-\x1f]+"
    )

    def __init__(self):
        self.rows, self.top, self.row, self.col = [[]], 0, 0, 0
        self.text = ""  # what was written, in order, without control sequences
        self.held = ""  # the start of an incomplete control sequence
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data):
        """Draws data, and returns the bytes that a terminal would answer."""
        text, at, answer = self.held + self.decoder.decode(data), 0, ""
        while at < len(text):
            token = self.TOKEN.match(text, at)
            if not token:
                break
            at = token.end()
            if token.group(2):
                answer += self.control(token.group(1), token.group(2))
            elif token.group()[0] != "\x1b":
                self.write(token.group())
        self.held = text[at:]
        return answer.encode()

    def write(self, text):
        self.text += text
        if text == "\n":
            self.move(self.row + 1, self.col)
        elif text == "\r":
            self.col = 0
        elif text == "\b":
            self.col = max(0, self.col - 1)
        elif text >= " ":
            for char in text:
                if self.col == COLUMNS:
                    self.move(self.row + 1, 0)
                row = self.rows[self.row]
                row.extend(" " * (self.col + 1 - len(row)))
                row[self.col] = char
                self.col += 1

    def control(self, parameters, letter):
        numbers = [int(n) for n in re.findall(r"\d+", parameters)]
        n = max(1, numbers[0]) if numbers else 1
        if letter == "A":
            self.move(max(self.top, self.row - n), self.col)
        elif letter == "B":
            self.move(min(self.top + ROWS - 1, self.row + n), self.col)
        elif letter == "C":
            self.col = min(COLUMNS - 1, self.col + n)
        elif letter == "D":
            self.col = max(0, self.col - n)
        elif letter == "H":
            column = numbers[1] - 1 if len(numbers) > 1 else 0
            self.move(self.top + min(n, ROWS) - 1, max(0, min(COLUMNS - 1, column)))
        elif letter in "JK":
            first = 0 if numbers[:1] == [2] else self.col
            del self.rows[self.row][first:]
            if letter == "J":
                del self.rows[self.row + 1 :]
        elif letter == "n" and parameters == "6":
            return "\x1b[%d;%dR" % (self.row - self.top + 1, self.col + 1)
        return ""

    def move(self, row, col):
        self.row, self.col = row, col
        while len(self.rows) <= row:
            self.rows.append([])
        self.top = max(self.top, row - ROWS + 1)

    def shown(self):
        return ["".join(row).rstrip() for row in self.rows]

    def prompt(self):
        """The number of IPython's latest prompt, which grows by one for each line that it has read."""
        return max([int(n) for n in re.findall(r"In \[(\d+)\]:", self.text)], default=0)


class Session:
    """IPython, in a process session of its own on a pseudo-terminal of its own."""

    def __init__(self, venv, home, library, print_row):
        self.mark = "%s=%d.%d" % (MARK, os.getpid(), time.time_ns())
        self.screen, self.print_row, self.printed = Screen(), print_row, 0
        self.status, self.eof, self.keys, self.proxies = None, False, 0, []
        environment = {
            "PATH": os.path.join(venv, "bin") + os.pathsep + os.environ.get("PATH", os.defpath),
            "HOME": home,  # no history or settings of the user's
            "IPYTHONDIR": os.path.join(home, "ipython"),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            # Otherwise the prompt asks the terminal where the cursor is. The terminal answers by keystrokes, mpiexec
            # reads them, and the session ends before anybody has typed a key.
            "PROMPT_TOOLKIT_NO_CPR": "1",
        }
        # SPAWNFIX_GUARD=off shows what this script prints when the library does nothing.
        environment.update((k, v) for k, v in os.environ.items() if k.startswith("SPAWNFIX_"))
        environment.update([self.mark.split("=")])
        if library:
            name = "DYLD_INSERT_LIBRARIES" if sys.platform == "darwin" else "LD_PRELOAD"
            environment[name] = library
        python = os.path.join(venv, "bin", "python")
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
                os.chdir(home)
                os.execve(python, [python, "-m", "IPython", "--no-banner"], environment)
            finally:
                os._exit(127)

    def watch(self, seconds, until=lambda: False):
        """Draws output for some seconds, or until a condition holds, or IPython has ended."""
        end = time.monotonic() + seconds
        while not until():
            left = end - time.monotonic()
            if left <= 0:
                return False
            if self.status is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.status = status
                    end = min(end, time.monotonic() + 0.5)  # for its last output
            if self.eof:
                if self.status is not None:
                    return False
                time.sleep(0.02)
            elif select.select([self.fd], [], [], min(left, 0.05))[0]:
                try:
                    data = os.read(self.fd, 65536)
                except OSError:  # EIO: nobody has the terminal open any more
                    data = b""
                self.eof = not data
                self.send(self.screen.feed(data))
        return True

    def send(self, data):
        try:
            os.write(self.fd, data)
        except OSError:
            pass  # IPython has ended; watch() reports that

    def type(self, line, seconds):
        """Types a line key by key while IPython lives; then waits for the next prompt."""
        before = self.screen.prompt()
        for key in line + "\r":
            if self.status is not None:
                break
            self.send(key.encode())
            self.keys += 1
            self.watch(KEY)
        self.watch(seconds, lambda: self.screen.prompt() > before)
        self.report()

    def report(self, everything=False):
        """Prints the rows that will not change any more: those above the latest prompt."""
        rows = self.screen.shown()
        last = len(rows)
        if not everything:
            prompts = [i for i, row in enumerate(rows) if row.startswith("In [")]
            last = prompts[-1] if prompts else 0
        for row in rows[self.printed : last]:
            if row:
                self.print_row(row)
        self.printed = max(self.printed, last)

    def listen(self):
        """Opens the stderr of hydra's proxies, for last_words()."""
        for pid in self.left():
            try:
                with open("/proc/%d/comm" % pid) as file:
                    if file.read().startswith("hydra"):
                        name = "/proc/%d/fd/2" % pid
                        if stat.S_ISFIFO(os.stat(name).st_mode):
                            self.proxies.append(os.open(name, os.O_RDONLY | os.O_NONBLOCK))
            except OSError:
                pass  # gone, or no /proc here

    def last_words(self):
        """A proxy writes its last message to mpiexec, but kills it together with IPython before mpiexec prints it. The
        message is still in the pipe: read it there."""
        for fd in self.proxies:
            try:
                self.screen.text += "\n" + os.read(fd, 65536).decode("utf-8", "replace")
            except OSError:
                pass  # no message
            os.close(fd)
        self.proxies = []

    def left(self):
        """The pids that are left of this session. The proxies leave the process session, so MARK identifies them."""
        found = []
        if os.path.isdir("/proc/self"):
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    with open("/proc/%s/environ" % pid, "rb") as file:
                        if self.mark.encode() in file.read().split(b"\0"):
                            found.append(int(pid))
                except OSError:
                    pass  # gone, or another user's
        else:
            listing = subprocess.run(
                ["ps", "-AEww", "-o", "pid=,command="], stdout=subprocess.PIPE, universal_newlines=True
            )
            for line in listing.stdout.splitlines():
                if self.mark in line.split():
                    found.append(int(line.split()[0]))
        return found

    def close(self):
        """Kills what is left, repeatedly, because a process that is just being started may be missed."""
        for _ in range(50):
            pids = self.left()
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            if self.status is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.status = status
            if not pids and self.status is not None:
                break
            time.sleep(0.05)
        os.close(self.fd)


def play(venv, library, print_row):
    """Plays one session and returns what was typed, what was read, and how it ended."""
    home, session = tempfile.mkdtemp(prefix="spawnfix-demo-"), None
    try:
        with open(os.path.join(home, "worker.py"), "w") as file:
            file.write(WORKER)
        if library:  # a path without blanks, because the dynamic linker splits LD_PRELOAD at them
            link = os.path.join(home, os.path.basename(library))
            os.symlink(library, link)
            library = link
        session = Session(venv, home, library, print_row)
        started = session.watch(START, lambda: session.screen.prompt() == 1)
        session.watch(0.2)
        for line in BEFORE if started else []:
            session.type(line, SPAWN)
        spawned = session.screen.prompt() == len(BEFORE) + 1
        session.listen()
        session.keys = typed = 0
        for line in LINES if spawned else []:
            typed += session.status is None
            session.type(line, REPLY)
        keys = session.keys
        for line in AFTER if spawned else []:
            session.type(line, REPLY)
        if spawned:
            session.watch(5, lambda: session.status is not None and session.eof)
        ended = session.status  # None: only close() below will end it
        if ended is not None:
            session.last_words()
        session.report(everything=True)
    finally:
        # A second Ctrl-C must not keep this from ending.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if session:
            session.close()
        shutil.rmtree(home, ignore_errors=True)
        handle_signals()
    rows = session.screen.shown()
    read = [n for row in rows for n in re.findall(r"^line (\d+)$", row)]
    said = re.findall(r"\[(?:proxy|mpiexec)[^]\r\n]*\] [^\r\n]+", session.screen.text)
    return {
        "started": started,
        "spawned": spawned,
        "typed": typed,
        "keys": keys,
        "read": len(read),
        "all": read == [str(n) for n in range(1, len(LINES) + 1)],
        "said": said,
        "killed": ended is not None and os.WIFSIGNALED(ended) and os.WTERMSIG(ended),
        "status": os.WEXITSTATUS(ended) if ended is not None and os.WIFEXITED(ended) else None,
    }


def end(result):
    """How a session ended, in a few words."""
    if result["killed"]:
        keys = "%d keystroke%s" % (result["keys"], "" if result["keys"] == 1 else "s")
        return "killed by %s after %s" % (signal.Signals(result["killed"]).name, keys)
    if result["status"] is not None:
        return "ended by exit, status %d" % result["status"]
    return "never came to its end"


def handle_signals():
    def stop(number, _frame):
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def main():
    arguments = sys.argv[1:]
    if not 1 <= len(arguments) <= 2 or arguments[0].startswith("-"):
        print(__doc__.split("\n\n", 1)[1].strip(), file=sys.stderr)
        return 2
    library = os.path.abspath(arguments[0])
    venv = os.path.abspath(arguments[1] if len(arguments) > 1 else os.path.join(ROOT, "target", "mpi", "mpich-4.2.3"))
    for path, remedy in (
        (library, "make build"),
        (os.path.join(venv, "bin", "mpiexec"), "scripts/fetch/mpi mpich-4.2.3"),
    ):
        if not os.path.exists(path):
            print("demo.py: %s isn't there; '%s' makes it" % (path, remedy), file=sys.stderr)
            return 2

    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def paint(code, text):
        return "\x1b[%sm%s\x1b[0m" % (code, text) if colours else text

    def say(text=""):
        print(text, flush=True)

    def print_row(row):
        if row.startswith("[proxy") or row.startswith("[mpiexec"):
            row = paint("31", row)
        elif not row.startswith("In [") and not row.startswith("   ..."):
            row = paint("2", row) if not re.match(r"line \d+$", row) else paint("32", row)
        say("  | " + row)

    handle_signals()
    say("IPython on a terminal, started without mpiexec. A person spawns a child, then types %d more lines." % len(LINES))
    say()
    say(paint("1", "Without spawnfix: ipython"))
    without = play(venv, None, print_row)
    say("  = " + paint("1;31" if without["killed"] else "1", end(without)))
    say()
    preload = "DYLD_INSERT_LIBRARIES" if sys.platform == "darwin" else "LD_PRELOAD"
    say(paint("1", "With spawnfix: %s=%s ipython" % (preload, os.path.basename(library))))
    cured = play(venv, library, print_row)
    say("  = " + paint("1", end(cured)))
    say()

    say("%-20s %12s %12s   %s" % ("", "lines typed", "lines read", "the session"))
    for name, result in (("without spawnfix", without), ("with spawnfix", cured)):
        say("%-20s %12d %12d   %s" % (name, result["typed"], result["read"], end(result)))
    if without["killed"] and without["said"]:
        say()
        say("The messages of the process that killed it:")
        for line in without["said"]:
            say("  " + line)
    say()

    ill = without["spawned"] and bool(without["killed"]) and without["read"] < len(LINES)
    well = cured["spawned"] and cured["all"] and cured["status"] == 0
    if ill and well:
        say(paint("1;32", "Seen and fixed.") + " Without spawnfix, the mpiexec that the spawn started read the keyboard, and")
        say("then killed the session. With spawnfix it cannot read the keyboard, and IPython reads every line.")
        return 0
    for fine, name, result in ((ill, "without", without), (well, "with", cured)):
        if fine:
            continue
        if not result["started"]:
            why = "IPython showed no prompt within %d s" % START
        elif not result["spawned"]:
            why = "the spawn did not return, or failed"
        elif name == "without":
            why = "the session was expected to be killed, but it read %d of %d lines and %s" % (
                result["read"], len(LINES), "was " + end(result) if result["killed"] else end(result))
        else:
            why = "%d of %d lines were read; the session was expected to end by exit with status 0, but: %s" % (
                result["read"], len(LINES), end(result))
        half = "Not seen." if name == "without" else "Not fixed."
        say("%s %s spawnfix, %s." % (paint("1;31", half), name.capitalize(), why))
    return 1


if __name__ == "__main__":
    sys.exit(main())
