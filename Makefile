# spawnfix: `make` alone prints what can be made.

# Cargo's files stay under target/, whatever the user's environment says.
export CARGO_TARGET_DIR := $(CURDIR)/target
CARGO ?= cargo
PYTHON ?= python3
EXT := $(if $(filter Darwin,$(shell uname -s)),dylib,so)
LIB := target/release/libspawnfix.$(EXT)

.PHONY: help build test demo shell lint clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

build: ## build target/release/libspawnfix.so (.dylib on macOS)
	$(CARGO) build --release --locked

test: build ## fetch the MPI libraries into target/mpi (once), then run every test
	scripts/fetch-mpi --all
	$(CARGO) test --locked $(TESTFLAGS)

demo: build ## the story on a pseudo-terminal, without and with the library
	scripts/fetch-mpi mpich-4.2.3
	$(PYTHON) scripts/demo.py $(LIB)

shell: build ## IPython under the library, to try by hand
	scripts/fetch-mpi mpich-4.2.3
	LD_PRELOAD=$(CURDIR)/$(LIB) PATH="$(CURDIR)/target/mpi/mpich-4.2.3/bin:$$PATH" ipython

lint: ## formatting, clippy, shellcheck
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	shellcheck scripts/fetch-mpi .ci/run

clean: ## remove all that was built or fetched
	rm -rf target
