//! How a job's mpiexec is launched: with the bridge as its only process, in a process group of its own.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Pid;

use super::listener::Reception;
use crate::agent::greeting::Address;
use crate::exec::Changes;
use crate::mpi::mpiexec::{Candidate, LaunchError};
use crate::shared::logging::escape;
use crate::shared::paths;

/// An mpiexec that runs.
pub struct Launched {
    pub file: PathBuf,
    pub pid: Pid,
    /// Where its bridge is awaited.
    pub reception: Reception,
}

/// Launches it for this job, in this directory, with these changes to the environment.
///
/// # Errors
/// It could not be executed, or there are no resources for it.
pub fn launch(
    number: usize,
    purpose: &str,
    candidate: &Candidate,
    directory: Option<&Path>,
    environment: &Changes,
) -> Result<Launched, LaunchError> {
    let reception = Reception::open().map_err(LaunchError::resources)?;
    // Called by its path: hydra finds its proxy beside it.
    let mut command = Command::new(&candidate.file);
    command
        .args(["-n", "1"])
        .arg(paths::own_by_name().map_err(LaunchError::resources)?)
        .arg("--bridge");
    command.env(Address::VARIABLE, reception.address().to_string());
    for (name, value) in environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    command.process_group(0);
    #[cfg(target_os = "linux")]
    {
        let agent = rustix::process::getpid();
        // SAFETY: prctl and getppid are async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                // The job does not outlive an agent that is killed. SIGTERM would not do: one that comes early leaves
                // Intel's mpiexec waiting for ever for a proxy that spins.
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
    let pid = Pid::from_child(&child);
    log::info!(
        "job {number}, {purpose}: {} is launched, {}, as process {}",
        escape(&candidate.file),
        candidate.why,
        child.id()
    );
    Ok(Launched {
        file: candidate.file.clone(),
        pid,
        reception,
    })
}
