//! A request for which the application waits, and what is said to the person who waits.

use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use super::job::Job;
use super::lost_children::Connecting;
use super::processes::is_child;
use crate::mpi::is_libmpi;
use crate::pmi::message::Message;
use crate::procs::{self, Process};
use crate::shared::logging::escape;

/// After how long the agent says what the application waits for.
const NOTICES: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];

/// A request that a job has to answer; a spawn lasts until its children have connected.
pub struct Asked {
    pub message: Message,
    /// The number of the job.
    pub job: usize,
    /// Set once the job has answered a spawn.
    pub connecting: Option<Connecting>,
    since: Instant,
    /// How many notices were given.
    noticed: usize,
}

impl Asked {
    pub fn new(message: Message, job: usize) -> Asked {
        Asked {
            message,
            job,
            connecting: None,
            since: Instant::now(),
            noticed: 0,
        }
    }

    /// Whether this job has not answered yet.
    pub fn awaits(&self, job: usize) -> bool {
        self.job == job && self.connecting.is_none()
    }

    /// Says what the application waits for, if it has waited long enough: in the log, or on a terminal.
    pub fn say_what_is_awaited(&mut self, job: &Job, interactive: bool) {
        let waited = self.since.elapsed();
        if !matches!(NOTICES.get(self.noticed), Some(notice) if waited >= *notice) {
            return;
        }
        self.noticed += 1;
        let what = match self.connecting {
            Some(_) => awaited_children(job, self.message.total_processes()),
            None => {
                let (launcher, pid) = (escape(&job.launcher), job.pid());
                format!("{launcher} (process {pid}) has not answered")
            }
        };
        let hint = match interactive {
            true => "; Ctrl-C gives the spawn up",
            false => "",
        };
        // A pipe's reader may take it for the application's data.
        let level = match std::io::stderr().is_terminal() {
            true => log::Level::Warn,
            false => log::Level::Info,
        };
        let (task, seconds) = (&job.task, waited.as_secs());
        log::log!(level, "{task}: {what} after {seconds} s{hint}");
    }
}

/// Which of this job's children libmpi waits for. All of them connect together, when the last one is in MPI_Init.
fn awaited_children(job: &Job, total: usize) -> String {
    let mut late = job.children(&procs::all()).unwrap_or_default();
    late.retain(is_late);
    let Some(first) = late.iter().min_by_key(|child| child.pid.as_raw_pid()) else {
        return format!("the {total} children have not connected");
    };
    let number = late.len().min(total);
    let words = procs::arguments(first.pid);
    let words: Vec<_> = words.iter().map(|word| escape(word).to_string()).collect();
    let (command, pid) = (words.join(" "), first.pid);
    format!(
        "{number} of {total} children have not called MPI_Init, for example '{command}' (process {pid})"
    )
}

/// Whether this is a child that seems not to have called MPI_Init: it has no MPI library, or it lacks what MPICH and Intel
/// MPI open in MPI_Init.
fn is_late(process: &Process) -> bool {
    let files: Vec<_> = procs::files(process.pid).into_iter().collect();
    let has_libmpi = files
        .iter()
        .any(|file| is_libmpi(file.file_name().unwrap_or_default().as_bytes()));
    let is_in_init = files.iter().any(|file| file.starts_with("/dev/shm"))
        || procs::open_file(process.pid, b"anon_inode:[eventpoll]").is_some();
    is_child(process) && !(has_libmpi && is_in_init)
}
