"""Spawns children with lists of words, and compares what each child says it got: words.py CHILD [NUMBER], where words.c is
the child. Without a number: all lists, a spawn of two commands at once, and one that is too long."""

import os
import sys

from mpi4py import MPI

LISTS = [
    [],
    [b"a\\b"],
    [b"one\ntwo"],
    [b""],
    [b"", b"", b""],
    [b"endcmd"],
    [b"x\nendcmd\nmcmd=spawn\nnprocs=1"],
    [b"a b"],
    [b" a ", b"\t"],
    [b'"'],
    [b"it's"],
    [b"\\"],
    [b"\\\\"],
    [b"trailing\\"],
    [b"back\\", b"slash"],
    [b"\n"],
    [b"\n\n", b"\\n"],
    [b"caf\xc3\xa9"],
    [b"\xff\xfe\x80"],
    [b"\x01\x02\x1b[0m"],
    [b"arg1=x", b"argcnt=9"],
    [b"execname=/bin/false", b"totspawns=3", b"spawnssofar=3"],
    [b"cmd=finalize"],
    [b"mcmd=spawn"],
    [b"%41", b"%", b"%%"],
    [b"$HOME", b"`id`", b"*", b"~"],
    [b"-n", b"--", b"-h", b"--child"],
    [b"a=b", b"=", b";", b"|", b"&"],
    [b"x" * 799, b"y" * 800, b"z" * 801],
    [b"x" * 20000],
    [b"x" * 500] * 60,
    [b"w"] * 700,
    [b"\\" * 5000],
    [bytes(range(1, 256))],
]


def report(line):
    with open(os.environ["APP_REPORT"], "a") as file:
        file.write(line + "\n")


def spawned(lists):
    child = sys.argv[1]
    if len(lists) == 1:
        team = MPI.COMM_SELF.Spawn(child, lists[0])
    else:
        team = MPI.COMM_SELF.Spawn_multiple([child] * len(lists), lists, [1] * len(lists))
    got = []
    for rank in range(len(lists)):
        status = MPI.Status()
        team.Probe(rank, 0, status)
        words = bytearray(status.Get_count(MPI.BYTE))
        team.Recv([words, MPI.BYTE], rank, 0)
        got.append(bytes(words).split(b"\0")[:-1])
    team.Disconnect()
    return got


if sys.argv[2:]:
    words = LISTS[int(sys.argv[2])]
    report(f"same={'yes' if spawned([words]) == [words] else 'no'}")
else:
    for number, words in enumerate(LISTS):
        report(f"list_{number}={'same' if spawned([words]) == [words] else 'changed'}")
    two = [[b"plain"], [b"", b"\\"]]
    report(f"two={'same' if spawned(two) == two else 'changed'}")
    long = [[b"x" * 100_000, b"", b"y\n" * 65_000], [b"z" * 131_071]]
    report(f"long={'same' if spawned(long) == long else 'changed'}")
    try:
        spawned([[b"x" * 131_072]])
        report("too_long=passed")
    except MPI.Exception as error:
        report(f"too_long={error.Get_error_class() == MPI.ERR_SPAWN}")
    report(f"after={'same' if spawned([[b'still here']]) == [[b'still here']] else 'changed'}")
report("end=")
