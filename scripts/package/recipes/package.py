# Spack: put it into packages/spawnfix/package.py of a repository of yours (`spack repo create`, `spack repo add`), and set
# `git` to your clone; then `spack install spawnfix`. Tried with Spack 1.2.0.dev0 and spack-packages of July 2026, with gcc and
# Rust as externals.
from spack_repo.builtin.build_systems.makefile import MakefilePackage

from spack.package import *


class Spawnfix(MakefilePackage):
    """A preload library: MPI applications that call MPI_Comm_spawn without mpiexec keep their stdin."""

    git = "file:///path/to/spawnfix"

    license("MIT OR Apache-2.0")

    version("main", branch="main")

    depends_on("c", type="build")
    depends_on("rust@1.85:", type="build")

    build_targets = ["build"]

    @property
    def install_targets(self):
        return ["install", f"PREFIX={self.prefix}"]

    def check(self):
        """`make test` downloads MPI libraries: not during an installation."""

    def setup_run_environment(self, env):
        # For LD_PRELOAD=libspawnfix.so. This directory holds only the library.
        env.prepend_path("LD_LIBRARY_PATH", self.prefix.lib.spawnfix)
