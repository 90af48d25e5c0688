#!/usr/bin/env python3
"""Plays the story twice: IPython on a pseudo-terminal, a spawn, and someone who types on.

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
MARK = "SPAWNFIX_DEMO"  # in the environment of everything started here, and of what that starts

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
    """As much of a terminal as IPython's prompt uses; rows that scroll off the top are kept."""

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
        self.held = ""  # the start of a sequence whose end hasn't come
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data):
        """Shows data, and returns what a terminal answers to it."""
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


class Shell:
    """IPython, in a session of its own on a terminal of its own."""

    def __init__(self, venv, home, library, tell):
        self.mark = "%s=%d.%d" % (MARK, os.getpid(), time.time_ns())
        self.screen, self.tell, self.told = Screen(), tell, 0
        self.status, self.eof, self.keys, self.proxies = None, False, 0, []
        environment = {
            "PATH": os.path.join(venv, "bin") + os.pathsep + os.environ.get("PATH", os.defpath),
            "HOME": home,  # no history or settings of the user's
            "IPYTHONDIR": os.path.join(home, "ipython"),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            # The prompt asks the terminal where the cursor is, and gets the answer as keystrokes: mpiexec
            # reads that too, and the session would end before anyone has typed a key.
            "PROMPT_TOOLKIT_NO_CPR": "1",
        }
        # SPAWNFIX_GUARD=off shows what this program says when there is no cure.
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
        """Shows what comes, for a time, or until something is so, or the shell has ended."""
        end = time.monotonic() + seconds
        while not until():
            left = end - time.monotonic()
            if left <= 0:
                return False
            if self.status is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.status = status
                    end = min(end, time.monotonic() + 0.5)  # for the last words
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
            pass  # the shell has gone; watch() says so

    def type(self, line, seconds):
        """Types a line, as far as the shell lives, key by key; then waits for the next prompt."""
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
        """Passes on the rows that won't change any more: those above the latest prompt."""
        rows = self.screen.shown()
        last = len(rows)
        if not everything:
            prompts = [i for i, row in enumerate(rows) if row.startswith("In [")]
            last = prompts[-1] if prompts else 0
        for row in rows[self.told : last]:
            if row:
                self.tell(row)
        self.told = max(self.told, last)

    def listen(self):
        """Keeps the proxies' stderr open, for last_words()."""
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
        """A proxy says why it ends through mpiexec, but SIGKILLs that with the shell before it is passed on.
        What is still in the pipe then, we pass on."""
        for fd in self.proxies:
            try:
                self.screen.text += "\n" + os.read(fd, 65536).decode("utf-8", "replace")
            except OSError:
                pass  # it had nothing to say
            os.close(fd)
        self.proxies = []

    def left(self):
        """What was started here and is still there. mpiexec's proxies leave our session, so go by the mark."""
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
        """Ends all that is left. Again and again, as one that is being started may be missed."""
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


def play(venv, library, tell):
    """One session from its first prompt to its end: what was typed, what was read, how it ended."""
    home, shell = tempfile.mkdtemp(prefix="spawnfix-demo-"), None
    try:
        with open(os.path.join(home, "worker.py"), "w") as file:
            file.write(WORKER)
        if library:  # by a path without blanks, at which the dynamic linker would split it
            link = os.path.join(home, os.path.basename(library))
            os.symlink(library, link)
            library = link
        shell = Shell(venv, home, library, tell)
        started = shell.watch(START, lambda: shell.screen.prompt() == 1)
        shell.watch(0.2)
        for line in BEFORE if started else []:
            shell.type(line, SPAWN)
        spawned = shell.screen.prompt() == len(BEFORE) + 1
        shell.listen()
        shell.keys = typed = 0
        for line in LINES if spawned else []:
            typed += shell.status is None
            shell.type(line, REPLY)
        keys = shell.keys
        for line in AFTER if spawned else []:
            shell.type(line, REPLY)
        if spawned:
            shell.watch(5, lambda: shell.status is not None and shell.eof)
        ended = shell.status  # None: by nobody but close(), below
        if ended is not None:
            shell.last_words()
        shell.report(everything=True)
    finally:
        # A second Ctrl-C must not keep this from ending.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if shell:
            shell.close()
        shutil.rmtree(home, ignore_errors=True)
        handle_signals()
    rows = shell.screen.shown()
    read = [n for row in rows for n in re.findall(r"^line (\d+)$", row)]
    said = re.findall(r"\[(?:proxy|mpiexec)[^]\r\n]*\] [^\r\n]+", shell.screen.text)
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
        return "left by exit, status %d" % result["status"]
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

    def tell(row):
        if row.startswith("[proxy") or row.startswith("[mpiexec"):
            row = paint("31", row)
        elif not row.startswith("In [") and not row.startswith("   ..."):
            row = paint("2", row) if not re.match(r"line \d+$", row) else paint("32", row)
        say("  | " + row)

    handle_signals()
    say("IPython on a terminal, started without mpiexec. Someone spawns a child and types %d lines more." % len(LINES))
    say()
    say(paint("1", "Without the library: ipython"))
    without = play(venv, None, tell)
    say("  = " + paint("1;31" if without["killed"] else "1", end(without)))
    say()
    preload = "DYLD_INSERT_LIBRARIES" if sys.platform == "darwin" else "LD_PRELOAD"
    say(paint("1", "With it: %s=%s ipython" % (preload, os.path.basename(library))))
    cured = play(venv, library, tell)
    say("  = " + paint("1", end(cured)))
    say()

    say("%-20s %12s %12s   %s" % ("", "lines typed", "lines read", "the session"))
    for name, result in (("without the library", without), ("with the library", cured)):
        say("%-20s %12d %12d   %s" % (name, result["typed"], result["read"], end(result)))
    if without["killed"] and without["said"]:
        say()
        say("What killed it, in its own words:")
        for line in without["said"]:
            say("  " + line)
    say()

    ill = without["spawned"] and bool(without["killed"]) and without["read"] < len(LINES)
    well = cured["spawned"] and cured["all"] and cured["status"] == 0
    if ill and well:
        say(paint("1;32", "Seen and cured.") + " mpiexec, launched by the spawn, read the keyboard in the shell's place and then")
        say("killed it. With the library mpiexec has no keyboard to read, and the shell reads every line.")
        return 0
    for fine, name, result in ((ill, "without", without), (well, "with", cured)):
        if fine:
            continue
        if not result["started"]:
            why = "IPython came to no prompt in %d s" % START
        elif not result["spawned"]:
            why = "the spawn did not come back, or failed"
        elif name == "without":
            why = "the session was expected to be killed, but it read %d of %d lines and %s" % (
                result["read"], len(LINES), "was " + end(result) if result["killed"] else end(result))
        else:
            why = "%d of %d lines were read, and the session was expected to be left by exit, status 0, but: %s" % (
                result["read"], len(LINES), end(result))
        half = "Not seen." if name == "without" else "Not cured."
        say("%s %s the library, %s." % (paint("1;31", half), name.capitalize(), why))
    return 1


if __name__ == "__main__":
    sys.exit(main())
