//! What reads words from outside, as the fuzzer reaches it: the modules of library and program themselves.

#![allow(dead_code, missing_docs)]

#[path = "../../../src/bin/spawnfix/binary.rs"]
pub mod binary;
#[path = "../../../src/calls.rs"]
mod calls;
#[path = "../../../src/bin/spawnfix/command_line.rs"]
mod command_line;
#[path = "../../../src/environment.rs"]
pub mod environment;
#[path = "../../../src/bin/spawnfix/known.rs"]
pub mod known;
#[path = "../../../src/launch.rs"]
pub mod launch;
#[path = "../../../src/location.rs"]
pub mod location;
#[path = "../../../src/logging.rs"]
mod logging;
#[path = "../../../src/mpi.rs"]
pub mod mpi;
#[path = "../../../src/bin/spawnfix/output.rs"]
mod output;
#[path = "../../../src/bin/spawnfix/paths.rs"]
pub mod paths;
#[path = "../../../src/bin/spawnfix/pmi.rs"]
pub mod pmi;
#[path = "../../../src/bin/spawnfix/preload.rs"]
pub mod preload;
#[path = "../../../src/bin/spawnfix/program.rs"]
pub mod program;
#[path = "../../../src/settings.rs"]
pub mod settings;
#[path = "../../../src/bin/spawnfix/shell.rs"]
pub mod shell;
#[path = "../../../src/stdin.rs"]
pub mod stdin;
#[path = "../../../src/stdio.rs"]
mod stdio;

/// Whether this text can neither drive a terminal nor begin a line of its own.
pub fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}
