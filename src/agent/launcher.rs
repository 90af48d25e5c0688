//! How a job's launcher is found and started: one mpiexec after the other, until one serves.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Pid;

use super::application::Application;
use super::context::Context;
use super::listener::{Endpoint, Listener};
use crate::exec::Changes;
use crate::mpi::mpiexec::{self, Candidate, LaunchError, no_launcher};
use crate::mpi::{Family, Mpi};
use crate::shared::logging::escape;
use crate::shared::paths;

/// Starts launchers for one application.
pub struct Launchers {
    /// The name and version of the application's MPI, if the library knows them.
    pub mpi: Option<String>,
    /// How a launcher's environment differs from this process's.
    pub environment: Changes,
    /// The failure that was logged last.
    pub reported: String,
}

/// The launchers that may still be tried for one job, best first.
#[derive(Default)]
pub struct Attempts {
    untried: std::vec::IntoIter<Candidate>,
    /// What was tried last, or was found and can't serve.
    last: Option<(PathBuf, LaunchError)>,
}

/// A launcher that runs.
pub struct Launched {
    pub file: PathBuf,
    pub pid: Pid,
    /// Where its bridge is expected.
    pub listener: Listener,
}

impl Attempts {
    /// The launchers of this application's MPI, as they are found in this context.
    pub fn find(application: &Application, context: &Context) -> Attempts {
        let libmpi = application.libmpi();
        let found = mpiexec::find(context.variable("PATH"), libmpi.as_deref());
        for (file, why) in &found.rejected {
            log::info!("{} {why}", escape(file));
        }
        Attempts {
            untried: found.candidates.into_iter(),
            last: found.rejected.into_iter().next(),
        }
    }

    /// Notes that this launcher does not serve, and says which one is next.
    pub fn failed(&mut self, file: PathBuf, error: LaunchError) {
        if let Some(next) = self.untried.as_slice().first() {
            let (file, next_file) = (escape(&file), escape(&next.file));
            log::warn!("{file} {error}; trying {next_file}, {}", next.why);
        }
        self.last = Some((file, error));
    }
}

impl Launchers {
    /// Whether the application's MPI is Intel's.
    pub fn is_of_intel(&self) -> bool {
        let family = |mpi: &String| Mpi::from_version_text(mpi.as_bytes()).family;
        self.mpi.as_ref().map(family) == Some(Family::Intel)
    }

    /// Starts the next launcher that can be executed, in this context and for these hosts. `None`: none is left, and the log
    /// says so. `job` is the job's name in the log.
    pub fn start_next(
        &mut self,
        attempts: &mut Attempts,
        job: &str,
        context: &Context,
        hosts: Option<&str>,
    ) -> Option<Launched> {
        let directory = context.directory.as_ref().map(|path| path.as_os_str());
        if let Some(path) =
            directory.filter(|path| paths::without_deleted(path.as_bytes()) != path.as_bytes())
        {
            let path = escape(path);
            log::warn!("{job}: the application's directory is gone: {path}");
        }
        while let Some(Candidate { file, why }) = attempts.untried.next() {
            match start(&file, hosts, context, &self.environment) {
                Ok((pid, listener)) => {
                    log::info!("{job}: started {}, {why}, as process {pid}", escape(&file));
                    return Some(Launched {
                        file,
                        pid,
                        listener,
                    });
                }
                Err(error) => attempts.failed(file, error),
            }
        }
        let last = attempts.last.as_ref();
        let failure = no_launcher(
            last.map(|(file, error)| (file.as_path(), *error)),
            self.mpi.as_deref(),
            context.variable("PATH"),
            context.hosts().zip(paths::own_by_name().ok()),
        );
        // An application may try again and again: the log says once why it can't.
        if failure != self.reported {
            log::error!("{job}: {failure}");
            self.reported = failure;
        }
        None
    }
}

/// Starts this launcher, with the bridge as its only process, in a process group of its own.
///
/// # Errors
/// It could not be executed, or the system has no resources for it.
fn start(
    file: &Path,
    hosts: Option<&str>,
    context: &Context,
    environment: &Changes,
) -> Result<(Pid, Listener), LaunchError> {
    let listener = Listener::open(context).map_err(LaunchError::resources)?;
    // By its path: hydra looks for its proxy beside argv[0].
    let mut command = Command::new(file);
    if let Some(hosts) = hosts {
        command.args(["-hosts", hosts]);
    }
    command
        .args(["-n", "1"])
        .arg(paths::own_by_name().map_err(LaunchError::resources)?)
        .arg("--bridge");
    command.env_clear().envs(&*context.environment);
    for (name, value) in environment {
        // What the application has changed itself stays as it is.
        if context.environment.get(name) == std::env::var_os(name).as_ref() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    }
    command.env(Endpoint::VARIABLE, listener.endpoint.to_string());
    // The agent's own need not be entered, which nobody may be allowed to.
    if context.directory.is_some() && context.directory != std::env::current_dir().ok() {
        command.current_dir(&context.entrance);
    }
    command.process_group(0);
    #[cfg(target_os = "linux")]
    {
        let agent = rustix::process::getpid();
        // SAFETY: prctl and getppid are async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                // The launcher does not outlive an agent that is killed. SIGTERM would not do: one that comes early
                // makes Intel's mpiexec wait without end for a proxy that spins.
                rustix::process::set_parent_process_death_signal(Some(
                    rustix::process::Signal::KILL,
                ))?;
                if rustix::process::getppid() != Some(agent) {
                    return Err(std::io::ErrorKind::BrokenPipe.into());
                }
                Ok(())
            });
        }
    }
    let child = command.spawn().map_err(LaunchError::not_run)?;
    Ok((Pid::from_child(&child), listener))
}
