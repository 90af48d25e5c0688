//! The program `spawnfix`: runs a command with the library loaded into it, tells what a spawn will come to, and ends what
//! was left behind. The manual page, spawnfix(1), says what for.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

mod agent;
mod binary;
mod bridge;
mod check;
mod command_line;
mod completions;
mod greeting;
mod hosts;
mod inherited;
mod job;
mod launcher;
#[cfg(any(test, target_os = "macos"))]
mod libproc;
mod options;
mod output;
mod paths;
mod patient;
mod pmi;
mod preload;
mod processes;
mod program;
mod run;
mod shell;
mod signals;
mod sweep;
mod tree;
mod whose;

// What library and program both know. Each uses a part of it.
#[allow(dead_code)]
#[path = "../../launch.rs"]
mod launch;
#[allow(dead_code)]
#[path = "../../logging.rs"]
mod logging;
#[allow(dead_code)]
#[path = "../../manager.rs"]
mod manager;
#[allow(dead_code)]
#[path = "../../mpi.rs"]
mod mpi;
#[allow(dead_code)]
#[path = "../../settings.rs"]
mod settings;
#[allow(dead_code)]
#[path = "../../stdio.rs"]
mod stdio;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "spawnfix".into());
    let arguments: Vec<OsString> = arguments.collect();
    if !paths::is_our_name(&name) {
        return run::by_another_name(&name, arguments);
    }
    // Our own calls of this program, none of them a user's: they don't pass through the option parser.
    match arguments.first().map(|word| word.as_bytes()) {
        Some(b"--agent") => return agent::main(arguments.into_iter().skip(1)),
        Some(b"--bridge") => return bridge::main(),
        Some(check::ask::WHAT_LIBRARY) => return check::ask::answer_what_library(arguments.get(1)),
        _ => {}
    }
    run::main(&arguments)
}
