//! `spawnfix --check`: tries a spawn as the command would make it, and says what came of it and what would help.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use self::command::{Loads, Subject};
use self::report::Report;
use self::trial::Trial;
use crate::exec::Changes;
use crate::mpi::{Mpi, environment};
use crate::output::{eprint_prefixed, print_flushed, shell_word};
use crate::preload_list::{self, System};
use crate::shared::internal_args::COMMAND_PLACES;
use crate::shared::logging::escape;
use crate::shared::paths;
use crate::wrapper::preload_env::{self, Variable};
use crate::wrapper::run::say_not_found;

pub mod application;
mod command;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
mod report;
mod run;
mod trial;

/// This command's version, and the library's that belongs to it.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How long the first trial may take, each other one, and all together.
const FIRST: Duration = Duration::from_secs(20);
const OTHERS: Duration = Duration::from_secs(10);
const ALL: Duration = Duration::from_secs(50);

// Exit statuses beside 0 (works) and 1 (fails).
const NOT_TRIED: u8 = 3;

/// What is asked for.
pub struct Asked<'a> {
    /// The command. Empty: any application here.
    pub words: &'a [OsString],
    pub settings: &'a [Variable],
    pub json: bool,
    /// How many children are spawned, to see where they run.
    pub hosts: Option<u32>,
    /// Where all of it is written, for a bug report.
    pub report: Option<&'a Path>,
}

/// Runs a check and prints its report.
pub fn main(asked: &Asked) -> ExitCode {
    run::prepare();
    let mut report = Report::default();
    let own = paths::own().unwrap_or_default();
    report.add("spawnfix", format!("{VERSION}, {}", escape(&own)));
    let library = match preload_env::library() {
        Ok(library) => library,
        Err(complaint) => {
            eprint_prefixed(complaint);
            return ExitCode::FAILURE;
        }
    };
    versions(&library, &mut report);
    let subject = match Subject::of(asked.words, &library) {
        Ok(subject) => subject,
        Err(why) => return say_not_found(&asked.words[0], why),
    };
    describe(&subject, &mut report);
    let works = match (&subject.loads, &subject.libmpi) {
        (Loads::Breaks(why), _) => {
            report.add(
                "outcome",
                format!("fails: the command does not start: {why}"),
            );
            Some(false)
        }
        (_, None) => {
            report.add(
                "outcome",
                "not tried: no MPI library is known; name a COMMAND that has one, or put its mpiexec on PATH",
            );
            None
        }
        (_, Some(libmpi)) => {
            let trial = Trial {
                libmpi: libmpi.clone(),
                children: asked.hosts.unwrap_or(1),
                environment: environment_of(&subject, &library, asked),
            };
            try_it(asked, &subject, &trial, &mut report)
        }
    };
    if let Some(signal) = run::interrupted() {
        return ExitCode::from(128 + signal as u8);
    }
    if let Some(works) = works {
        report.add_value("works", works);
    }
    if let Some(Err(error)) = asked.report.map(|file| report.write(file)) {
        eprint_prefixed(format_args!("the report can't be written: {error}"));
    }
    print_flushed(&if asked.json {
        report.to_json()
    } else {
        report.to_text()
    });
    ExitCode::from(match works {
        Some(true) => 0,
        Some(false) => 1,
        None => NOT_TRIED,
    })
}

/// The library's version and the agent's, which the library looks for by itself.
fn versions(library: &Path, report: &mut Report) {
    let of_library = command::version_of(library).unwrap_or("unknown version".to_owned());
    report.add("library", format!("{of_library}, {}", escape(library)));
    let directory = library.parent().unwrap_or(Path::new("/"));
    let mut places = COMMAND_PLACES.iter().map(|place| directory.join(place));
    let Some(agent) = places.find(|place| paths::is_program(place)) else {
        let places = COMMAND_PLACES.join(", ");
        report.add(
            "agent",
            format!("not there: the library looks for it at {places}"),
        );
        return;
    };
    let agent = agent.canonicalize().unwrap_or(agent);
    let said = run::run(Command::new(&agent).arg("--version"), OTHERS).stdout;
    let version = escape(OsStr::new(said.trim().trim_start_matches("spawnfix "))).to_string();
    let differs = if version == of_library {
        ""
    } else {
        ": not the library's version"
    };
    report.add("agent", format!("{version}, {}{differs}", escape(&agent)));
}

fn describe(subject: &Subject, report: &mut Report) {
    if subject.file.is_empty() {
        return;
    }
    report.add("command", &*subject.file);
    report.add("session", match &subject.session {
        Some(word) => format!("yes, by {word}: Ctrl-C and a crash of its children spare it"),
        None => "no: Ctrl-C and a crash of its children end it, by MPI's rule; 'spawnfix -i' changes that".to_owned(),
    });
    report.add(
        "loads",
        match &subject.loads {
            Loads::Yes => "yes".to_owned(),
            Loads::No(why) | Loads::Breaks(why) | Loads::Unknown(why) => format!("no: {why}"),
        },
    );
}

/// How a trial's environment differs from this process's.
fn environment_of(subject: &Subject, library: &Path, asked: &Asked) -> Changes {
    let set = |(name, value): Variable| (OsString::from(name), Some(value));
    let preload = match subject.loads {
        Loads::Yes => preload_env::variables(System::HERE, library, |name| std::env::var_os(name)),
        _ => Ok(Vec::new()),
    };
    let mut changes = subject.environment.clone();
    changes.extend(preload.unwrap_or_default().into_iter().map(set));
    if subject.loads != Loads::Yes {
        let list = std::env::var_os(preload_list::VARIABLE).unwrap_or_default();
        changes.push((
            preload_list::VARIABLE.into(),
            preload_list::without_us(&list),
        ));
    }
    // Decided by the command's words, not by the trial's.
    if std::env::var_os("SPAWNFIX_INTERACTIVE").is_none_or(|value| value == "auto") {
        let interactive = if subject.session.is_some() { "1" } else { "0" };
        changes.push(set(("SPAWNFIX_INTERACTIVE", interactive.into())));
    }
    changes.extend(asked.settings.iter().cloned().map(set));
    let level = if asked.report.is_some() {
        "trace"
    } else {
        "info"
    };
    changes.push(set(("SPAWNFIX_LOG", level.into())));
    changes.push(("SPAWNFIX_LOG_FILE".into(), None));
    changes
}

/// Tries a spawn, and where it fails, what may help. `None`: it could not be tried.
fn try_it(asked: &Asked, subject: &Subject, trial: &Trial, report: &mut Report) -> Option<bool> {
    let began = Instant::now();
    let progress = Progress::start();
    progress.show("a spawn");
    let outcome = trial.run(None, FIRST);
    report.log.clone_from(&outcome.log);
    let libmpi = escape(&trial.libmpi).to_string();
    let Some(mpi) = &outcome.mpi else {
        report.add("outcome", format!("not tried: {libmpi} can't be loaded"));
        report.add_list("said", last_first(&outcome.said));
        return None;
    };
    let guessed = match subject.guessed {
        true => " (that of the mpiexec on PATH: what the command loads is not known)",
        false => "",
    };
    report.add("mpi", format!("{mpi}, {libmpi}{guessed}"));
    if let Some(launcher) = outcome.logged(": started ").last() {
        let launcher = launcher
            .rsplit_once(", as process")
            .map_or(launcher, |(launcher, _)| launcher);
        report.add("launcher", launcher);
    }
    let remedies: Vec<_> = outcome.logged("remedy: ").map(str::to_owned).collect();
    report.add_list("remedies", remedies);
    if asked.hosts.is_some() {
        report.add_list("hosts", outcome.hosts);
    }
    if let Some(milliseconds) = outcome.milliseconds {
        report.add("outcome", format!("works, in {milliseconds} ms"));
        report.add_value("milliseconds", milliseconds);
        return Some(true);
    }
    report.add("outcome", format!("fails: {}", outcome.failure));
    report.add_list("said", last_first(&outcome.said));
    // A process manager serves each of its processes once.
    let manager =
        environment::management(|name| std::env::var_os(name), environment::is_connected).manager;
    if !manager.is_some_and(|variable| mpi.family.uses_manager(variable)) {
        let (tried, advice) = what_helps(asked, trial, mpi, began, &progress);
        report.add_list("tried", tried);
        match advice {
            Some(advice) => report.add("advice", advice),
            None => report.add("advice", mpi.cannot_spawn.unwrap_or(NOTHING_HELPS)),
        }
    }
    Some(false)
}

const NOTHING_HELPS: &str =
    "nothing that was tried helps; 'spawnfix --report FILE COMMAND' writes what a bug report needs";

/// What MPI printed, the last line first.
fn last_first(said: &[String]) -> Vec<String> {
    const MOST: usize = 12;
    let last = said.iter().rev().take(MOST);
    last.map(|line| escape(line).to_string()).collect()
}

/// Tries what may help. Returns what was tried, and the line to type.
fn what_helps(
    asked: &Asked,
    trial: &Trial,
    mpi: &Mpi,
    began: Instant,
    progress: &Progress,
) -> (Vec<String>, Option<String>) {
    let mut tried = Vec::new();
    for remedy in trial::remedies(mpi.family, &trial.libmpi) {
        let left = ALL.saturating_sub(began.elapsed());
        if left.is_zero() || run::interrupted().is_some() {
            break;
        }
        progress.show(&remedy.text);
        let works = trial.run(Some(&remedy), left.min(OTHERS)).works();
        tried.push(format!(
            "{}: {}",
            remedy.text,
            if works { "works" } else { "fails" }
        ));
        if works {
            let words = asked.words.iter().map(shell_word).collect::<Vec<_>>();
            return (
                tried,
                Some(format!(
                    "type: {} spawnfix {}",
                    remedy.text,
                    words.join(" ")
                )),
            );
        }
    }
    (tried, None)
}

/// What is being tried: a line on the terminal, until it is dropped.
struct Progress(bool);

impl Progress {
    fn start() -> Progress {
        Progress(io::stderr().is_terminal())
    }

    fn show(&self, what: &str) {
        if self.0 {
            let _ = write!(io::stderr(), "\r\x1b[Kspawnfix: trying {what} …");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.0 {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
