//! The agent: the process manager of one application.
//!
//! What an MPI library starts for a singleton becomes this process first (after_fork.rs in the library). For Open MPI it
//! only gets a stdin of its own, and becomes prte or orted. For MPICH and its kin it stays until the application and its
//! jobs have ended. One life of it:
//!
//! 1. [`main`] reads its arguments and the application's command line: is it an interactive session ([`interactive`])?
//! 2. It connects to the port at which libmpi waits ([`connection`]). From then on libmpi sends it the requests of an
//!    MPI process to its process manager: PMI-1 ([`pmi`](crate::pmi)).
//! 3. What can be known of one process, its [`server`](crate::pmi::server) answers at once. A spawn, the size of the
//!    universe and published names need one of its [`jobs`]: an mpiexec ([`launcher`]) whose only process is a
//!    [`bridge`]. The bridge connects to the agent ([`listener`]), and passes requests and replies between the agent and
//!    mpiexec. mpiexec starts the children.
//! 4. In an interactive session each spawn is a job of its own, and the end of a job touches nothing else. In any other
//!    application one job serves all spawns from one [`context`], and MPI's own rule holds: when a job crashes, the
//!    application ends.
//! 5. Children that end before they connect to the application are [lost](lost_children); a [`placeholder`] connects
//!    instead.
//! 6. [`signals`]: the agent is in the application's process group. An interactive session keeps the terminal's signals
//!    from its children; any other application's children get them.
//! 7. The application ends, its jobs end or are detached, and the agent ends. It has one thread, and its [`event_loop`]
//!    waits for all of this at once.
//!
//! Theory of operation: a job is a state machine without I/O ([`job_state`], where its states are drawn); [`job`] has its
//! sockets and processes; [`jobs`] decides. If the agent is killed, the kernel kills its launchers, and libmpi has no
//! process manager any more: the same as when mpiexec is killed without spawnfix.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use rustix::process::Pid;

use self::application::Application;
use self::event_loop::Agent;
use self::launcher::Launchers;
use crate::exec::{Changes, execve};
use crate::interactive;
use crate::mpi::launch::Launch;
use crate::mpi::remedies::{Facts, Target, remedies};
use crate::mpi::{Mpi, environment};
use crate::output::eprint_prefixed;
use crate::preload_list;
use crate::procs;
use crate::shared::internal_args::{AgentArgs, VERSION};
use crate::shared::logging;
use crate::shared::logging::escape;
use crate::shared::paths;
use crate::shared::settings::Settings;
use crate::shared::stdio;

mod application;
pub mod bridge;
mod connection;
mod context;
mod event_loop;
mod job;
mod job_state;
mod jobs;
mod launcher;
mod listener;
mod lost_children;
pub mod placeholder;
mod places;
mod processes;
mod signals;
mod supervision;
mod waiting;

/// Runs the agent with the arguments behind `--agent`.
pub fn main(words: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(called) = AgentArgs::parse(words) else {
        eprint_prefixed("--agent is for the library's own use");
        return ExitCode::from(2);
    };
    logging::start(
        called.settings.log.as_deref(),
        called.settings.log_file.as_deref(),
    );
    #[cfg(target_vendor = "apple")]
    crate::shared::macos::note_terminals();
    // A background process group that writes to a terminal in `tostop` mode would be stopped.
    // SAFETY: signal takes no pointers here.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
    let arguments = called.argv.iter().map(|word| word.as_bytes());
    let launch = Launch::recognise(called.file.as_bytes(), arguments);
    close_inherited(&passed_descriptors(&called.argv));
    let isolation = stdio::isolate();
    let application = Pid::from_raw(called.application).and_then(Application::new);
    let (Some(launch), Some(mut application)) = (launch, application) else {
        log::debug!("the application is gone, or this is no launch");
        return ExitCode::FAILURE;
    };
    let session = session_word(&called.settings, &application);
    application.interactive = session.is_some();
    let name = launch.name();
    let session = match session {
        Some(word) => format!("interactive: {word}"),
        None => "not interactive".to_owned(),
    };
    log::info!(
        "acting as {name} for process {} ({session}); {isolation}",
        application.pid
    );
    let environment = launcher_environment(&called, launch, application.libmpi());
    if called.version.as_bytes() != VERSION.to_bytes() {
        log::warn!(
            "the library is of spawnfix {}, and this executable of {}: {name} only gets a stdin of its own; install both \
             from one version",
            escape(&called.version),
            env!("CARGO_PKG_VERSION")
        );
        return become_launcher(&called, &environment);
    }
    match launch {
        Launch::Mpiexec { port } => {
            let launchers = Launchers {
                mpi: called.mpi.clone(),
                environment: environment.clone(),
                reported: String::new(),
            };
            match Agent::new(application, port, launchers) {
                Ok(agent) => agent.run(),
                Err(error) => {
                    log::error!(
                        "the application can't be served: {error}: {name} only gets a stdin of its own"
                    );
                    return become_launcher(&called, &environment);
                }
            }
            ExitCode::SUCCESS
        }
        Launch::Prte | Launch::Orted => {
            if application.interactive && rustix::process::setpgid(None, None).is_ok() {
                log::info!("{name} gets a process group of its own");
            }
            become_launcher(&called, &environment)
        }
    }
}

/// The word by which the application is taken for an interactive session, if it is one.
fn session_word(settings: &Settings, application: &Application) -> Option<String> {
    let pid = application.pid;
    let parent = procs::look(pid).and_then(|process| process.parent);
    let parent = parent.map(procs::arguments).unwrap_or_default();
    // Since 4.3.2 MPICH's forked child has fd 0 closed: ask for the application's.
    let stdin = procs::stdin(pid);
    interactive::session_word(settings.interactive, &procs::arguments(pid), &parent, stdin)
}

/// How a launcher's environment differs from this process's: it has no library of ours, and the launcher's remedies.
fn launcher_environment(called: &AgentArgs, launch: Launch, libmpi: Option<PathBuf>) -> Changes {
    let mut changes = Changes::new();
    let list = std::env::var_os(preload_list::VARIABLE);
    if let Some(list) = list.filter(|_| !called.settings.inherit) {
        changes.push((
            preload_list::VARIABLE.into(),
            preload_list::without_us(&list),
        ));
    }
    if !called.settings.remedies {
        return changes;
    }
    let mpi = called
        .mpi
        .as_ref()
        .map(|mpi| Mpi::from_version_text(mpi.as_bytes()));
    let target = match launch {
        Launch::Mpiexec { .. } => Target::Mpiexec,
        Launch::Prte => Target::Prte,
        Launch::Orted => Target::Orted,
    };
    let facts = Facts {
        target,
        mpi: mpi.as_ref(),
        libmpi: libmpi.as_deref(),
        variable: &|name| std::env::var_os(name),
        foreign_pmi: true, // what starts this agent is a singleton
        only_loopback: environment::only_loopback(),
        interactive: false,
    };
    for remedy in remedies(&facts) {
        let (variable, why) = (remedy.variable, remedy.why);
        match &remedy.value {
            Some(value) => log::info!(
                "remedy: {variable}={} for {}: {why}",
                escape(value),
                launch.name()
            ),
            None => log::info!("remedy: {variable} is not set for {}: {why}", launch.name()),
        }
        changes.push((variable.into(), remedy.value));
    }
    changes
}

/// Becomes the launcher that MPI started, where execvp would find it. If that can't be executed, ends as MPI's own child
/// would: with a message.
fn become_launcher(called: &AgentArgs, environment: &Changes) -> ExitCode {
    let file = paths::first(&called.file).map_or(called.file.clone(), PathBuf::into_os_string);
    let error = match CString::new(file.as_bytes()) {
        Ok(file) => {
            // SAFETY: signal takes no pointers here. Rust's runtime has set SIGPIPE to be ignored.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            execve(&file, &called.argv, environment)
        }
        Err(_) => io::ErrorKind::InvalidInput.into(),
    };
    log::error!("{} can't be run: {error}", escape(&called.file));
    ExitCode::from(127)
}

/// Closes the application's descriptors, from 3 on, but these: a reader of one of its pipes would otherwise wait for this
/// process to end, and its ports would stay taken.
fn close_inherited(kept: &[i32]) {
    // SAFETY: fd 0 makes room for the directory's descriptor, where this process may have no more; `isolate` takes it.
    unsafe { libc::close(0) };
    let open = std::fs::read_dir("/dev/fd").into_iter().flatten().flatten();
    let numbers: Vec<i32> = open
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for fd in numbers {
        if fd > 2 && !kept.contains(&fd) {
            // SAFETY: this process has opened nothing yet that it keeps; the directory's own descriptor is closed already.
            unsafe { libc::close(fd) };
        }
    }
}

/// The descriptors that Open MPI passes to its launcher: behind these options stands a number (start_dvm in
/// ompi/dpm/dpm.c, fork_hnp in orte/mca/ess/singleton/ess_singleton_module.c).
fn passed_descriptors(argv: &[OsString]) -> Vec<i32> {
    const OPTIONS: [&str; 3] = ["--report-uri", "--keepalive", "--singleton-died-pipe"];
    let pairs = argv.windows(2);
    let passed = pairs.filter(|pair| OPTIONS.iter().any(|option| pair[0] == *option));
    passed
        .filter_map(|pair| pair[1].to_str()?.parse().ok())
        .collect()
}
