//! `spawnfix --check`: tries a spawn as the command would make it, and says what came of it and what would help.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use self::command::Subject;
use self::loads::Loads;
use self::report::Report;
use self::trial::Trial;
use crate::exec::Changes;
use crate::mpi::{Mpi, environment};
use crate::output::{eprint_prefixed, print_flushed, shell_word};
use crate::preload_list;
use crate::shared::internal_args::COMMAND_PLACES;
use crate::shared::logging::escape;
use crate::shared::paths;
use crate::shared::settings;
use crate::wrapper::options::Cli;
use crate::wrapper::preload_env::{self, Variable};
use crate::wrapper::run::say_not_found;

pub mod application;
mod command;
mod libmpi;
#[cfg(target_os = "linux")]
mod linux;
mod loads;
#[cfg(target_os = "macos")]
mod macos;
mod report;
mod run;
mod trial;

/// How long the first trial may take, each other one, and all together.
const FIRST: Duration = Duration::from_secs(20);
const OTHERS: Duration = Duration::from_secs(10);
const ALL: Duration = Duration::from_secs(50);

const NO_MPI: &str =
    "not tried: no MPI library is known; name a COMMAND that has one, or put its mpiexec on PATH";
const NOTHING_HELPS: &str =
    "nothing that was tried helps; 'spawnfix --report FILE COMMAND' writes what a bug report needs";

/// Runs a check and prints its report.
pub fn main(asked: &Cli) -> ExitCode {
    run::prepare();
    let (library, preload) = match preload_env::here() {
        Ok(found) => found,
        Err(complaint) => {
            eprint_prefixed(complaint);
            return ExitCode::FAILURE;
        }
    };
    let mut report = Report::default();
    versions(&library, &mut report);
    let subject = match Subject::of(&asked.words, &preload) {
        Ok(subject) => subject,
        Err(why) => return say_not_found(&asked.words[0], why),
    };
    describe(&subject, &mut report);
    let (works, outcome) = if let Loads::Breaks(why) = &subject.loads {
        let outcome = format!("fails: the command does not start: {why}");
        (Some(false), outcome)
    } else if let Some(libmpi) = &subject.libmpi {
        let trial = Trial {
            libmpi: libmpi.clone(),
            children: asked.hosts.unwrap_or(1),
            environment: environment_of(&subject, preload, asked),
        };
        try_it(asked, &subject, &trial, &mut report)
    } else {
        (None, NO_MPI.to_owned())
    };
    report.add("outcome", outcome);
    if let Some(signal) = run::interrupted() {
        return ExitCode::from(128 + signal as u8);
    }
    if let Some(works) = works {
        report.add_value("works", works);
    }
    if let Some(Err(error)) = asked.report.as_ref().map(|file| report.write(file)) {
        eprint_prefixed(format_args!("the report can't be written: {error}"));
    }
    print_flushed(&match asked.json {
        true => report.to_json(),
        false => report.to_text(),
    });
    works.map_or(3, |works| u8::from(!works)).into()
}

/// The library's version and the agent's, which the library looks for by itself.
fn versions(library: &Path, report: &mut Report) {
    let own = paths::own().unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    report.add("spawnfix", format!("{version}, {}", escape(&own)));
    let of_library = command::version_of(library).unwrap_or("unknown version".to_owned());
    report.add("library", format!("{of_library}, {}", escape(library)));
    let directory = library.parent().unwrap_or(Path::new("/"));
    let mut places = COMMAND_PLACES.iter().map(|place| directory.join(place));
    let looked = COMMAND_PLACES.join(", ");
    let agent = match places.find(|place| paths::is_program(place)) {
        None => format!("not there: the library looks for it at {looked}"),
        Some(agent) => {
            let said = run::run(Command::new(&agent).arg("--version"), run::LIMIT).stdout;
            let version = said.trim().trim_start_matches("spawnfix ");
            let differs = match version == of_library {
                true => "",
                false => ": not the library's version",
            };
            let agent = agent.canonicalize().unwrap_or(agent);
            format!("{}, {}{differs}", escape(version), escape(&agent))
        }
    };
    report.add("agent", agent);
}

fn describe(subject: &Subject, report: &mut Report) {
    if subject.file.is_empty() {
        return;
    }
    let session = match &subject.session {
        Some(word) => format!("yes, by {word}: Ctrl-C and a crash of its children spare it"),
        None => "no: Ctrl-C and a crash of its children end it, by MPI's rule; 'spawnfix -i' changes that".to_owned(),
    };
    let loads = match &subject.loads {
        Loads::Yes => "yes".to_owned(),
        Loads::No(why) | Loads::Breaks(why) | Loads::Unknown(why) => format!("no: {why}"),
    };
    report.add("command", &*subject.file);
    report.add("session", session);
    report.add("loads", loads);
}

/// How a trial's environment differs from this process's.
fn environment_of(subject: &Subject, preload: Vec<Variable>, asked: &Cli) -> Changes {
    let set = |(name, value): Variable| (OsString::from(name), Some(value));
    let mut changes = subject.environment.clone();
    match subject.loads {
        Loads::Yes => changes.extend(preload.into_iter().map(set)),
        _ => changes.push((preload_list::VARIABLE.into(), None)),
    }
    // Decided by the command's words, not by the trial's.
    let setting = std::env::var_os(settings::INTERACTIVE).unwrap_or_default();
    if setting.is_empty() || setting == "auto" {
        let interactive = if subject.session.is_some() { "1" } else { "0" };
        changes.push(set((settings::INTERACTIVE, interactive.into())));
    }
    changes.extend(asked.settings().into_iter().map(set));
    changes.push(set((settings::LOG, "trace".into())));
    changes.push((settings::LOG_FILE.into(), None));
    changes
}

/// Tries a spawn, and where it fails, what may help. `None`: it could not be tried.
fn try_it(
    asked: &Cli,
    subject: &Subject,
    trial: &Trial,
    report: &mut Report,
) -> (Option<bool>, String) {
    let began = Instant::now();
    show_progress("spawnfix: trying a spawn …");
    let outcome = trial.run(FIRST);
    show_progress("");
    report.log.clone_from(&outcome.log);
    let libmpi = escape(&trial.libmpi).to_string();
    let Some(mpi) = &outcome.mpi else {
        report.add_list("said", last_first(&outcome.said));
        return (None, format!("not tried: {libmpi} can't be loaded"));
    };
    report.add("mpi", format!("{mpi}, {libmpi}{}", subject.guessed));
    if let Some(launcher) = outcome.logged(": started ").last() {
        let end = launcher.rfind(", as process").unwrap_or(launcher.len());
        report.add("launcher", &launcher[..end]);
    }
    let taken: Vec<_> = outcome.logged("remedy: ").map(str::to_owned).collect();
    report.add_list("remedies", taken.clone());
    if asked.hosts.is_some() {
        report.add_list("hosts", outcome.hosts);
    }
    let failure = match outcome.result {
        Ok(milliseconds) => {
            report.add_value("milliseconds", milliseconds);
            if !subject.guessed.is_empty() {
                by_hand(asked, &taken, report);
            }
            return (Some(true), format!("works, in {milliseconds} ms"));
        }
        Err(failure) => failure,
    };
    report.add_list("said", last_first(&outcome.said));
    // A process manager serves each of its processes once.
    let manager =
        environment::management(|name| std::env::var_os(name), environment::is_connected).manager;
    if !manager.is_some_and(|variable| mpi.family.uses_manager(variable)) {
        what_helps(asked, trial, mpi, began, report);
    }
    (Some(false), format!("fails: {failure}"))
}

/// What the command has to be given by hand if it bypasses the hooks, as MPI.jl and ctypes do: the remedies of MPI_Init and
/// MPI_Comm_spawn.
fn by_hand(asked: &Cli, taken: &[String], report: &mut Report) {
    let remedies = taken.iter().filter_map(|text| text.split_once(" while "));
    let typed = |(remedy, _): (&str, &str)| match remedy.strip_suffix(" is not set") {
        Some(name) => format!("-u {name}"),
        None => shell_word(remedy),
    };
    let mut typed: Vec<_> = remedies.map(typed).collect();
    typed.sort_by_key(|word| !word.starts_with('-'));
    typed.dedup();
    if !typed.is_empty() {
        let (variables, words) = (typed.join(" "), typed_words(asked));
        let advice = format!(
            "if it binds MPI's functions by dlsym, as MPI.jl and ctypes do, type: env {variables} spawnfix {words}"
        );
        report.add("advice", advice);
    }
}

/// What MPI printed, the last line first.
fn last_first(said: &[String]) -> Vec<String> {
    let last = said.iter().rev().take(12);
    last.map(|line| escape(line).to_string()).collect()
}

/// Tries what may help, until something does.
fn what_helps(asked: &Cli, trial: &Trial, mpi: &Mpi, began: Instant, report: &mut Report) {
    let mut tried = Vec::new();
    let mut advice = mpi.cannot_spawn.unwrap_or(NOTHING_HELPS).to_owned();
    for (text, trial) in trial.remedies(mpi.family) {
        if began.elapsed() + OTHERS > ALL || run::interrupted().is_some() {
            break;
        }
        show_progress(&format!("spawnfix: trying {text} …"));
        if trial.run(OTHERS).result.is_ok() {
            advice = format!("type: {text} spawnfix {}", typed_words(asked));
            tried.push(format!("{text}: works"));
            break;
        }
        tried.push(format!("{text}: fails"));
    }
    show_progress("");
    report.add_list("tried", tried);
    report.add("advice", advice);
}

/// The command, as one types it in a shell.
fn typed_words(asked: &Cli) -> String {
    let words: Vec<_> = asked.words.iter().map(shell_word).collect();
    words.join(" ")
}

/// A line on the terminal, in place of the last one.
fn show_progress(line: &str) {
    if io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r\x1b[K{line}");
    }
}
