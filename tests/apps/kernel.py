"""Drives a Jupyter kernel as a notebook's server does, and reports what comes of each step.

kernel.py STORY [LIBRARY]: the kernel is installed as by `ipykernel install`, with LIBRARY preloaded if there is one. What the
cells call is session.py's. The story `console` takes its cells from the terminal, a line each, and Ctrl-C interrupts the
kernel; the kernel alone has what this process has preloaded.
"""

import os
import signal
import sys
import time

story, libraries = sys.argv[1], sys.argv[2:]
if story == "console" and "LD_PRELOAD" in os.environ:
    libraries = [os.environ.pop("LD_PRELOAD")]
HERE = os.getcwd()
NAME = "mpi"
# How long a cell may take, and how long a kernel that was asked to end.
PATIENCE = 15
LEAVING = 3
# Within which nothing of a kernel is left.
SOON = 2


def report(name, value=""):
    with open(os.environ["APP_REPORT"], "a") as file:
        file.write(f"{name}={value}\n")


os.environ["JUPYTER_PATH"] = os.path.join(HERE, "share", "jupyter")
if libraries:
    os.environ.update(SPAWNFIX_LOG="info", SPAWNFIX_LOG_FILE=os.path.join(HERE, "log"))
# They read the environment when they are imported.
from ipykernel.kernelspec import install  # noqa: E402
from jupyter_client import KernelManager  # noqa: E402
from traitlets.config import Config  # noqa: E402

# TCP's ports are chosen before the kernel has them, and another of the tests' programs may be given one meanwhile.
CONFIG = Config({"KernelManager": {"transport": "ipc"}})
install(prefix=HERE, kernel_name=NAME, env={"LD_PRELOAD": libraries[0]} if libraries else None)


def others():
    """The processes that this one has started, by the mark that they inherit; a shell that started it has the mark, too."""
    mark = f"SPAWNED_BY_TEST={os.environ['SPAWNED_BY_TEST']}".encode()
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in (os.getpid(), os.getppid()):
            try:
                with open(f"/proc/{name}/environ", "rb") as environ:
                    if mark not in environ.read().split(b"\0"):
                        continue
                with open(f"/proc/{name}/cmdline", "rb") as cmdline:
                    words = cmdline.read().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
            if words:  # else a zombie
                found[int(name)] = words
    return found


def check_left(old, step):
    """Reports which of these are there after a while."""
    end = time.monotonic() + SOON
    while (left := old.keys() & others().keys()) and time.monotonic() < end:
        time.sleep(0.02)
    for pid in left:
        report("left", f"{step}: {old[pid]}")
    report("ended", step)


class Kernel:
    def __init__(self):
        self.manager = KernelManager(config=CONFIG, kernel_name=NAME, shutdown_wait_time=LEAVING)
        self.manager.start_kernel()
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=40)

    def send(self, code):
        # An interrupted cell must not take along the one that is sent right after it.
        return self.client.execute(code, store_history=False, stop_on_error=False)

    def outcome(self, message, name, patience=PATIENCE):
        """Waits for a cell's end, and reports what it was: `ok`, an exception's name, `dead`."""
        end = time.monotonic() + patience
        said = "unanswered"
        while time.monotonic() < end:
            try:
                reply = self.client.get_shell_msg(timeout=0.1)
            except Exception:  # queue.Empty
                if not self.manager.is_alive():
                    said = "dead"
                    break
                continue
            if reply["parent_header"].get("msg_id") == message:
                content = reply["content"]
                said = "ok" if content["status"] == "ok" else content.get("ename", content["status"])
                break
        if name:
            report(name, said)
        return said

    def run(self, code, name="cell"):
        return self.outcome(self.send(code), name) == "ok"

    def interrupt(self, patience=PATIENCE):
        """Interrupts a cell that works. The next one asks the child."""
        before = count("working")
        message = self.send("work()")
        end = time.monotonic() + PATIENCE
        while count("working") == before and time.monotonic() < end:
            time.sleep(0.01)
        self.manager.interrupt_kernel()
        return self.outcome(message, "interrupt", patience) == "KeyboardInterrupt"

    def restart(self, now):
        old = others()
        self.manager.restart_kernel(now=now)
        self.client.wait_for_ready(timeout=40)
        check_left(old, "restart")

    def shutdown(self):
        old = others()
        self.manager.shutdown_kernel()
        self.client.stop_channels()
        check_left(old, "shutdown")


def count(name):
    with open(os.environ["APP_REPORT"]) as file:
        return sum(line.startswith(name + "=") for line in file)


def begin(kernel):
    kernel.run("from session import *")
    kernel.run("spawn(); ask()", "spawn")


def interrupted():
    kernel = Kernel()
    begin(kernel)
    for _ in range(2):
        if not kernel.interrupt(4):
            break
        kernel.run("ask()", "ask")
    kernel.shutdown()


def crashed(ways):
    kernel = Kernel()
    begin(kernel)
    for how in ways:
        # Longer than a launcher takes to kill it.
        alive = kernel.run(f"crash('{how}')", "crash") and kernel.run("time.sleep(10)", "rest")
        if not alive or not kernel.run("spawn(); ask()", "spawn"):
            break
    kernel.shutdown()


def whole_day():
    """A kernel's day. Whoever has seen to its children before it restarts finds a good order."""
    kernel = Kernel()
    begin(kernel)
    for _ in range(2):
        kernel.interrupt()
        kernel.run("ask()", "ask")
    for how in ("segv", "abort", "exit"):
        kernel.run(f"crash('{how}')", "crash")
        kernel.run("spawn(); ask()", "spawn")
    kernel.restart(now=False)  # while the child works
    begin(kernel)
    kernel.interrupt()
    kernel.run("ask()", "ask")
    kernel.restart(now=True)
    begin(kernel)
    kernel.run("crash('segv')", "crash")
    kernel.run("spawn(); ask()", "spawn")
    kernel.shutdown()


def notebook():
    """Three cells, run whole: one spawns, one's child crashes, one spawns again."""
    import nbformat
    from nbclient import NotebookClient

    cells = ["from session import *; spawn(); ask()", "crash('segv'); time.sleep(6)", "spawn(); ask(); leave()"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    old = others()
    client = NotebookClient(notebook, config=CONFIG, timeout=PATIENCE, kernel_name=NAME)
    try:
        client.execute()
        report("notebook", "ok")
    except Exception as error:
        report("notebook", type(error).__name__)
    check_left({pid: name for pid, name in others().items() if pid not in old}, "notebook")


def console():
    """A cell a line, until `exit()`."""
    pressed = []
    signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    kernel = Kernel()
    while True:
        print("> ", end="", flush=True)
        code = sys.stdin.readline().strip()
        if code in ("", "exit()"):
            break
        pressed.clear()
        message = kernel.send(code)
        while (said := kernel.outcome(message, None, 0.3)) == "unanswered":
            if pressed:
                pressed.clear()
                kernel.manager.interrupt_kernel()
        report("cell", said)
    kernel.shutdown()


report("starting", story)
{
    "day": whole_day,
    "interrupted": interrupted,
    "segv": lambda: crashed(["segv"]),
    "abort": lambda: crashed(["abort"]),
    "exit": lambda: crashed(["exit"]),
    "notebook": notebook,
    "console": console,
}[story]()
report("done", story)
