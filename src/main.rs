//! The command `spawnfix`. By its first words it is one of:
//!
//! - the [`wrapper`], `spawnfix COMMAND`: runs a command with the library loaded into it;
//! - [`check`], `spawnfix --check`: tries a spawn as a command would make it;
//! - [`cleanup`], `spawnfix --sweep`: ends agents whose application is gone;
//! - the [`agent`], its [`bridge`] or a [`placeholder`]: started by the library or by the agent, never by a user.
//!
//! Called by another name, through a link, it is the wrapper of the command of that name further down PATH.
//!
//! Below these: [`mpi`], what is known of MPI implementations; [`pmi`], the protocol PMI-1; [`interactive`], whose command
//! line is an interactive session's; [`procs`], other processes; [`shared`], what the library uses, too.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

mod agent;
mod check;
mod cleanup;
mod exec;
mod interactive;
mod mpi;
mod output;
mod pmi;
mod preload_list;
mod procs;
mod shared;
mod wrapper;

use agent::{bridge, placeholder};
use shared::child_words::CHILD;
use shared::internal_args::AGENT;
use shared::paths;
use wrapper::options::{self, Cli};
use wrapper::run;

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_else(|| "spawnfix".into());
    let words: Vec<OsString> = words.collect();
    if !paths::is_our_name(&name) {
        return run::by_another_name(&name, words);
    }
    // Internal roles do not pass through the option parser.
    match words.first().map(|word| word.as_bytes()) {
        Some(word) if word == AGENT.to_bytes() => return agent::main(words.into_iter().skip(1)),
        Some(word) if word == CHILD.to_bytes() => return run::child(words.into_iter().skip(1)),
        Some(b"--bridge") => return bridge::main(),
        Some(placeholder::OPTION) => return placeholder::main(&words[1..]),
        Some(check::application::OPTION) => return check::application::main(&words[1..]),
        _ => {}
    }
    match Cli::of(&words) {
        Ok(cli) => act(cli),
        Err(error) => {
            let _ = error.print();
            ExitCode::from(error.exit_code() as u8)
        }
    }
}

fn act(cli: Cli) -> ExitCode {
    if let Some(shell) = cli.completions {
        output::print_flushed(&options::completions(shell));
        ExitCode::SUCCESS
    } else if cli.print_env {
        run::print_env(cli.settings())
    } else if cli.checks() {
        check::main(&cli)
    } else if cli.sweep {
        cleanup::main(&cli.pids, cli.dry_run)
    } else {
        let settings = cli.settings();
        run::command(cli.words, settings)
    }
}
