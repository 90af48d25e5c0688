//! The program `spawnfix`.

use std::env;
use std::process::ExitCode;

// What library and program both know. Each uses a part of it.
#[allow(dead_code)]
#[path = "../../launch.rs"]
mod launch;
#[allow(dead_code)]
#[path = "../../logging.rs"]
mod logging;
#[allow(dead_code)]
#[path = "../../mpi.rs"]
mod mpi;
#[allow(dead_code)]
#[path = "../../settings.rs"]
mod settings;
#[allow(dead_code)]
#[path = "../../stdio.rs"]
mod stdio;

mod agent;
mod bridge;
mod job;
mod launcher;
mod pmi;
mod preload;
mod processes;
mod program;
mod shell;
mod signals;

fn main() -> ExitCode {
    let mut words = env::args_os().skip(1);
    let first = words.next();
    match first.as_ref().and_then(|word| word.to_str()) {
        Some("--agent") => agent::main(words),
        Some("--bridge") => bridge::main(),
        _ => ExitCode::SUCCESS,
    }
}
