//! The program `spawnfix`.

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

#[allow(dead_code)] // until the agent asks
mod shell;

fn main() -> ExitCode {
    ExitCode::SUCCESS
}
