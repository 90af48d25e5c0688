//! The agent: what an MPI library launches for a program becomes this process first.
//!
//! For MPICH and its kin it is the program's process manager, for as long as the program and what it spawned last:
//!
//! 1. It connects to the port on which libmpi waits, and they greet each other (PMII_singinit in MPICH's
//!    src/pmi/src/pmi_v1.c). The program is now its [`client`]: libmpi asks what a program asks its process manager
//!    ([`pmi`]).
//! 2. What one process's process manager can know by itself it [`answers`] itself: keys and values, barriers, sizes.
//! 3. For a spawn, the size of the universe and published names it launches one of its [`jobs`], by as many [`attempts`]
//!    as there are [`candidates`]: an mpiexec with a bridge in it ([`job`], [`bridge`]), through which it asks that. In a
//!    shell ([`shell`]) each spawn has a job of its own, so that one job's end is nobody else's; in any other program one
//!    job serves all, and its end is the program's.
//! 4. It hears the terminal's signals in the program's place, and passes on to its jobs what they would have heard,
//!    unless the program is a shell. The [`event_loop`] waits for all of these at once.
//! 5. If children end while they are still [`connecting`], it has a stand-in connect. If it is killed itself, a
//!    [`standby`] goes on in its place.
//!
//! For Open MPI it only gives prte or orted a stdin of its own, and becomes it.
//!
//! [`bridge`]: crate::agent::bridge
//! [`job`]: crate::agent::job
//! [`candidates`]: crate::mpi::mpiexec
//! [`pmi`]: crate::pmi
//! [`shell`]: crate::interactive

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use self::attempts::Attempts;
use self::event_loop::Agent;
use self::handed::Handed;
use crate::agent::program::Program;
use crate::exec::{Changes, execve};
use crate::interactive;
use crate::mpi::launch::Launch;
use crate::output::eprint_prefixed;
use crate::shared::logging;
use crate::shared::logging::escape;
use crate::shared::settings::{InteractiveSetting, Settings};
use crate::shared::stdio;
use crate::wrapper::preload_env;

mod app_connection;
mod attempts;
pub mod bridge;
mod event_loop;
mod greeting;
mod handed;
mod job;
mod jobs;
mod launcher;
mod listener;
mod lost_children;
mod patient;
pub mod placeholder;
mod program;
mod signals;
mod standby;

/// Runs the agent with what stands behind `--agent`.
pub fn main(words: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(handed) = Handed::parse(words) else {
        eprint_prefixed("--agent is how the library calls this program; a user has no use for it");
        return ExitCode::from(2);
    };
    logging::start(
        handed.settings.log.as_deref(),
        handed.settings.log_file.as_deref(),
    );
    #[cfg(not(target_os = "linux"))]
    stdio::terminals::note();
    // A group in the background that writes to a terminal set to `tostop` would be stopped.
    // SAFETY: signal takes no pointers here.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
    let arguments = handed.argv.iter().map(|word| word.as_bytes());
    let launch = Launch::recognise(handed.file.as_bytes(), arguments);
    if matches!(launch, Some(Launch::Mpiexec { .. })) {
        close_all_else();
    }
    let program = handed.program.and_then(Program::new);
    let (Some(launch), Some(program)) = (launch, program) else {
        log::debug!("the program is gone, or launches nothing");
        return ExitCode::FAILURE;
    };
    let shell = shell_by(&handed.settings, &program);
    let isolation = stdio::isolate();
    let name = launch.name();
    let whom = match &shell {
        Some(by) => format!("a shell ({by})"),
        None => "no shell".to_owned(),
    };
    log::log!(
        isolation.level(),
        "this process stands in for {name}; its program {} is {whom}; {isolation}",
        program.pid
    );
    let environment = launchers_environment(&handed.settings);
    if handed.version != env!("CARGO_PKG_VERSION") {
        log::warn!(
            "the library is spawnfix {}, and the program {}: {name} gets a stdin of its own, and no more",
            escape(&handed.version),
            env!("CARGO_PKG_VERSION")
        );
        return become_launcher(&handed, &environment);
    }
    match launch {
        Launch::Mpiexec { port } => {
            let attempts = Attempts::new(handed.mpi, environment);
            match Agent::live(program, port, shell.is_some(), attempts) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    log::error!("the program can't be reached: {error}");
                    ExitCode::FAILURE
                }
            }
        }
        Launch::Prte | Launch::Orted => {
            if shell.is_some() && rustix::process::setpgid(None, None).is_ok() {
                log::info!("{name} gets a process group of its own");
            }
            become_launcher(&handed, &environment)
        }
    }
}

/// By what the program is taken for a shell, if it is.
fn shell_by(settings: &Settings, program: &Program) -> Option<String> {
    match settings.interactive {
        InteractiveSetting::Yes => Some("SPAWNFIX_INTERACTIVE=1".to_owned()),
        InteractiveSetting::No => None,
        InteractiveSetting::Auto => interactive::evidence(
            &program.arguments(),
            &program.parents_arguments(),
            program.stdin(),
        )
        .map(|word| escape(word).to_string()),
    }
}

/// What the launcher's environment has that ours has not, and the other way round.
fn launchers_environment(settings: &Settings) -> Changes {
    let mut changes = Changes::new();
    if let Some(list) = std::env::var_os(preload_env::VARIABLE).filter(|_| !settings.inherit) {
        changes.push((preload_env::VARIABLE.into(), preload_env::without_us(&list)));
    }
    // In a job step hydra's own srun would wait for what the step holds (pmodels/mpich issues 5835, 6804).
    let set = |name| std::env::var_os(name).is_some();
    if set("SLURM_JOB_ID") && !set("SLURM_OVERLAP") {
        changes.push(("SLURM_OVERLAP".into(), Some("1".into())));
    }
    changes
}

/// Becomes what MPI launched. If that can't be executed, ends as MPI's own child would: with a message.
fn become_launcher(handed: &Handed, environment: &Changes) -> ExitCode {
    let error = match CString::new(handed.file.as_bytes()) {
        Ok(file) => {
            // SAFETY: signal takes no pointers here. What Rust's runtime has set SIGPIPE to is put back.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            execve(&file, &handed.argv, environment)
        }
        Err(_) => io::ErrorKind::InvalidInput.into(),
    };
    log::error!("{} can't be run: {error}", escape(&handed.file));
    ExitCode::from(127)
}

/// Closes what the program has open: a pipe of its own would seem never to end.
fn close_all_else() {
    // Linux 5.9. To read a directory takes a descriptor, and there may be none.
    #[cfg(target_os = "linux")]
    // SAFETY: close_range(2) takes three integers; this process has opened nothing yet that it keeps.
    if unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_int::MAX, 0) } == 0 {
        return;
    }
    let directory = if cfg!(target_os = "linux") {
        "/proc/self/fd"
    } else {
        "/dev/fd"
    };
    let open = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let numbers: Vec<i32> = open
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for fd in numbers.into_iter().filter(|&fd| fd > 2) {
        // SAFETY: this process has opened nothing yet that it keeps; the directory's own descriptor is closed already.
        unsafe { libc::close(fd) };
    }
}
