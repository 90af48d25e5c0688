"""
second_user: another user of the machine, who tries what another user can. Started by root, it becomes that user first.

second_user knock PORT HOW          connects to a port of the loopback, and says HOW much came back: nothing should
second_user look WORD               looks for WORD in every command line, and into every environment, until told to stop
"""
import errno
import os
import resource
import secrets
import select
import socket
import sys
import time

SECOND_USER = 65534  # Linux's overflow uid: nobody

# A thousand connections are as many descriptors; root may have that, and the second user keeps it.
most = max(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1100)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
os.setgroups([])
os.setgid(SECOND_USER)
os.setuid(SECOND_USER)
assert os.getresuid() == (SECOND_USER,) * 3


def say(line):
    print(line, flush=True)


def told_to_stop(seconds):
    """Whether the test has closed our stdin."""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def connect(port):
    """A connection, or none if the port does not take it just now or any more."""
    connection = socket.socket()
    connection.setblocking(False)
    try:
        connection.connect(("127.0.0.1", port))
    except BlockingIOError:
        pass
    except OSError as error:
        connection.close()
        if error.errno == errno.EADDRNOTAVAIL:
            time.sleep(0.01)
        return None
    return connection


def knock(port, how):
    words = {
        "silent": [b""],
        "no key": [b"00000001", b"\n", b"cmd=init pmi_version=1 pmi_subversion=1\n"] * 334,
        "wrong key": [b"%s00000001" % secrets.token_hex(16).encode() for _ in range(1000)],
        "garbage": [secrets.token_bytes(1 << size) for size in range(21)] * 10,
    }
    tried = answered = said = 0
    kept = []

    def hear(connection):
        nonlocal answered, said
        try:
            count = len(connection.recv(1000))
        except BlockingIOError:
            return
        except OSError:
            return
        said += count
        answered += count > 0

    stop = False
    for word in words[how]:
        while not (connection := connect(port)) and not stop:
            stop = told_to_stop(0)
        tried += 1
        if connection:
            kept.append((connection, word))
        if tried % 500 == 0 and told_to_stop(0):
            stop = True
            break
    say("knocked")
    left = [(connection, word) for connection, word in kept if word]
    while not stop:
        waiting = []
        for connection, word in left:
            try:
                sent = connection.send(word)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                sent = len(word)  # it has hung up: nothing more to say to it
            if word[sent:]:
                waiting.append((connection, word[sent:]))
        left = waiting
        stop = told_to_stop(0.02)
    for connection, _ in kept:
        hear(connection)
    say(f"tried={tried} connected={len(kept)} answered={answered} bytes={said}")


def look(word):
    word = word.encode()
    looks = lines = found = opened = 0
    seen = set()
    say("looking")
    while not told_to_stop(0.005):
        looks += 1
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    line = file.read()
            except OSError:
                continue
            lines += 1
            found += word in line
            program = os.path.basename(line.split(b"\0")[0])
            if program in (b"mpiexec", b"mpiexec.hydra", b"hydra_pmi_proxy", b"spawnfix"):
                seen.add((pid, program))
            if (pid, program) in seen:
                try:
                    with open(f"/proc/{pid}/environ", "rb") as file:
                        opened += bool(file.read())
                except OSError:
                    pass
    names = " ".join(sorted({program.decode() for _, program in seen}))
    say(f"looks={looks} lines={lines} found={found} environments={opened} seen={names}")


if sys.argv[1] == "knock":
    knock(int(sys.argv[2]), sys.argv[3])
else:
    look(sys.stdin.readline().strip())
