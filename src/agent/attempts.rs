//! Launching a job: one mpiexec after the other, until one serves; and what is said when none is left.

use std::path::{Path, PathBuf};

use crate::agent::job::{Job, Task};
use crate::agent::launcher;
use crate::agent::program::Program;
use crate::exec::Changes;
use crate::mpi::hosts;
use crate::mpi::mpiexec::{self, Found, LaunchError, NoLauncher};
use crate::shared::logging::escape;
use crate::shared::paths;

pub struct Attempts {
    /// What the program's MPI calls itself, if the library knows.
    mpi: Option<String>,
    /// What the launchers' environment has that ours has not, and the other way round.
    environment: Changes,
    /// The failure that was told last.
    told: Option<String>,
}

impl Attempts {
    pub fn new(mpi: Option<String>, environment: Changes) -> Attempts {
        Attempts {
            mpi,
            environment,
            told: None,
        }
    }

    /// The job of the next mpiexec that runs. `None`: none is left, and the log says so. `last` is what did not serve
    /// before.
    pub fn next(
        &mut self,
        mut task: Task,
        mut last: Option<(PathBuf, LaunchError)>,
        program: &Program,
    ) -> Option<Job> {
        // Where the program is now, as it may have changed its directory since its first spawn.
        let directory = program.directory();
        while let Some(candidate) = task.untried.next() {
            match launcher::launch(
                task.number,
                &task.purpose,
                &candidate,
                directory.as_deref(),
                &self.environment,
            ) {
                Ok(launched) => return Some(Job::new(task, launched)),
                Err(error) => {
                    warn_of_next(&task, &candidate.file, error);
                    last = Some((candidate.file, error));
                }
            }
        }
        let path = std::env::var_os("PATH");
        let failure = NoLauncher {
            last: last.as_ref().map(|(file, error)| (file.as_path(), *error)),
            mpi: self.mpi.clone(),
            path: path.as_deref(),
            hosts: hosts::told_of_hosts().zip(paths::own_by_name().ok()),
        };
        let failure = failure.to_string();
        let purpose = task.purpose;
        // A program may try again and again.
        if self.told.as_ref() == Some(&failure) {
            log::info!("{purpose}: as before, {failure}");
        } else {
            log::error!("{purpose}: {failure}");
            self.told = Some(failure);
        }
        None
    }
}

/// The mpiexecs to try, and what was found that can't serve.
pub fn look_for_launchers(program: &Program) -> Found {
    let libmpi = program.libmpi();
    let found = mpiexec::find(std::env::var_os("PATH").as_deref(), libmpi.as_deref());
    for (file, why) in &found.unfit {
        log::info!("{} {why}", escape(file));
    }
    found
}

/// That this file does not serve, and which one is next, if one is.
pub fn warn_of_next(task: &Task, file: &Path, error: LaunchError) {
    if let Some(next) = task.untried.as_slice().first() {
        log::warn!(
            "{} {error}; the next is {}, {}",
            escape(file),
            escape(&next.file),
            next.why
        );
    }
}
