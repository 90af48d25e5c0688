"""
record.py: how tests/fuzz/corpus was recorded from the MPI libraries in target/mpi: what their processes say in PMI, as the
agent's log at `trace` has it, and what they call themselves.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests/fuzz/corpus"
NAMES = "mpich-4.0.3 mpich-4.1.3 mpich-4.2.3 mpich-4.3.1 mpich-4.3.2 mpich-5.0.2 impi-2021.13.1".split()
PROGRAM = """
import sys
from mpi4py import MPI
if sys.argv[1:]:
    parent = MPI.Comm.Get_parent()
    parent.Barrier()
    parent.Disconnect()
    sys.exit()
print(MPI.Get_library_version(), end="")
MPI.COMM_WORLD.Get_attr(MPI.UNIVERSE_SIZE)
me = [__file__, "a b", "c\\\\d", "=e"]
one = MPI.COMM_SELF.Spawn(sys.executable, args=me, maxprocs=2, info=MPI.Info.Create({"wdir": "/"}))
one.Barrier()
one.Disconnect()
two = MPI.COMM_SELF.Spawn_multiple([sys.executable] * 2, args=[me, me], maxprocs=[1, 1])
two.Barrier()
two.Disconnect()
port = MPI.Open_port()
MPI.Publish_name("a name", port)
MPI.Lookup_name("a name")
MPI.Unpublish_name("a name", port)
MPI.Close_port(port)
"""


def unescaped(text):
    return re.sub(r"\\(n|t|r|u\{([0-9a-f]+)\})", lambda m: chr(int(m[2], 16)) if m[2] else eval(f"'\\{m[1]}'"), text)


for name in sys.argv[1:] or NAMES:
    prefix = ROOT / "target/mpi" / name
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        (place / "program.py").write_text(PROGRAM)
        environment = {
            "PATH": f"{prefix}/bin:{os.environ['PATH']}",
            "HOME": str(place),
            "LD_PRELOAD": str(ROOT / "target/release/libspawnfix.so"),
            "SPAWNFIX_LOG": "trace",
            "SPAWNFIX_LOG_FILE": str(place / "log"),
        }
        if name.startswith("impi"):
            environment["LD_LIBRARY_PATH"] = f"{prefix}/lib:{prefix}/lib/libfabric"
            environment["FI_PROVIDER_PATH"] = f"{prefix}/lib/libfabric/prov"
        command = [str(prefix / "bin/python"), str(place / "program.py")]
        try:
            version = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=30).stdout
        except subprocess.TimeoutExpired as end:
            version = end.stdout or b""
        # The machine's names are nobody's business.
        host = os.uname().nodename
        clean = lambda text: re.sub(r"/\S*program\.py", "./program", text).replace(str(ROOT), "/opt").replace(host, "host")
        sides = {"program": "", "manager": ""}
        for line in (place / "log").read_text().splitlines():
            said = re.match(r"spawnfix\[\d+\]: TRACE: (the program|job \d+): (.*)", line)
            if said:
                sides["program" if said[1] == "the program" else "manager"] += clean(unescaped(said[2]))
        for side, text in sides.items():
            assert text, f"{name}: {side} says nothing"
            file = CORPUS / "pmi" / f"{name}-{side}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\x07" + text)  # in pieces of seven bytes
        # Its first lines: the rest is a compiler's command line.
        text = clean(version.decode()).split("MPICH CC")[0]
        (CORPUS / "versions").mkdir(exist_ok=True)
        (CORPUS / "versions" / name).write_text(text)
        print(name, {side: text.count("\n") for side, text in sides.items()}, text.splitlines()[:1])
