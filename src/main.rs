//! The program `spawnfix`: runs a command with the library loaded into it, tells what a spawn will come to, and ends
//! what was left behind. What the library needs done for a spawn it does, too, called by no user.
//!
//! One run of the wrapper, as `spawnfix ipython`:
//!
//! 1. [`options`] says what is asked, or what is wrong with it; the shells' [`completions`] are made from the same
//!    parser. Called by another name, through a link, nothing is asked: it is the command of that name further down
//!    PATH ([`paths`]).
//! 2. [`run`] finds the command, and [`preload`] the library and the variables by which the dynamic linker loads it.
//! 3. [`exec`] makes this process the command, which has all that it would have had without us ([`inherited`]).
//!
//! One life of the agent, in [`agent`] step by step:
//!
//! 1. A program spawns, and what its libmpi launches becomes `spawnfix --agent` (handover.rs in the library). The agent
//!    looks at the [`program`]: is it a [`shell`], by its [`command_line`]?
//! 2. From then on the agent is the process manager of that one program ([`pmi`]). What such a one can't know it asks a
//!    [`job`]: an mpiexec ([`candidates`], [`whose`]) that runs `spawnfix --bridge`, maybe on another host ([`hosts`]).
//! 3. The [`bridge`] makes itself known ([`greeting`]), and passes on what agent and mpiexec say to each other.
//!    Children are launched. [`signals`] come, and children end, which the [`tree`] of processes shows. What fails for
//!    a moment is tried again ([`patient`]).
//! 4. Children may end before they have connected to the program: a [`stand_in`] does in their place, if the program
//!    still is in its call, as [`calls`] tells.
//! 5. The program and its jobs end, and so does the agent.
//!
//! Beside these: [`check`] tells beforehand what all that would come to, by what programs and their files ([`binary`])
//! say and what is [`known`] of each MPI; [`sweep`] ends agents that are left among this user's [`processes`]. What
//! users read is [`output`]'s, or in the log. On macOS, libproc.rs stands for /proc.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use output::{eprint_prefixed, print_flushed};

mod agent;
mod check;
mod cleanup;
mod exec;
mod interactive;
#[allow(dead_code)] // each root uses a part
mod mpi;
mod output;
mod pmi;
mod procs;
#[allow(dead_code)]
mod shared;
mod wrapper;

use agent::{bridge, placeholder};
use shared::paths;
use wrapper::options::{Act, Asked};
use wrapper::{completions, options, run};

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
        Some(placeholder::WORD) => return placeholder::main(arguments.get(1)),
        Some(check::ask::WHAT_LIBRARY) => {
            return check::ask::answer_what_library(arguments.get(1));
        }
        _ => {}
    }
    match options::parse(&arguments) {
        Ok(asked) => act(asked),
        Err(complaint) => {
            eprint_prefixed(complaint);
            eprint_prefixed("'spawnfix --help' shows the options");
            ExitCode::from(2)
        }
    }
}

fn act(asked: Asked) -> ExitCode {
    let Asked {
        act,
        settings,
        words,
    } = asked;
    match act {
        Act::Run => return run::command(words, settings),
        Act::PrintEnv => return run::print_env(settings),
        Act::Check { json } => return check::main(&words, &settings, json),
        Act::Sweep { pids, dry } => return cleanup::main(&pids, dry),
        Act::Completions(shell) => print_flushed(&completions::of(shell)),
        Act::Say(text) => print_flushed(&text),
    }
    ExitCode::SUCCESS
}
