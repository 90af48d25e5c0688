//! Says what a spawn waits for, to the person who waits.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use super::job::{Job, is_child};
use super::jobs::{App, Jobs};
use crate::mpi::is_libmpi;
use crate::procs::{self, Process};
use crate::shared::logging::escape;

/// After how long the agent says what the spawn waits for.
const NOTICES: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];

/// A spawn, or another request, that has not returned.
pub struct Waiting {
    since: Instant,
    told: usize,
}

impl Jobs {
    /// Says what the application waits for, if it has waited long enough: in the log, or on a terminal.
    pub(super) fn say_what_is_awaited(&mut self, app: &App) {
        let connecting = self.connecting.as_ref();
        let number = match (&self.pending, connecting) {
            (Some(pending), _) => pending.job,
            (None, Some(connecting)) => connecting.job(),
            (None, None) => {
                self.waiting = None;
                return;
            }
        };
        let waiting = self.waiting.get_or_insert_with(|| Waiting {
            since: Instant::now(),
            told: 0,
        });
        let waited = waiting.since.elapsed();
        if NOTICES
            .get(waiting.told)
            .is_none_or(|notice| waited < *notice)
        {
            return;
        }
        waiting.told += 1;
        let Some(job) = self.all.iter().find(|job| job.task.number == number) else {
            return;
        };
        let what = match connecting.filter(|_| self.pending.is_none()) {
            Some(connecting) => awaited_children(job, connecting.children()),
            None => {
                let (launcher, pid) = (escape(&job.launcher), job.pid);
                format!("{launcher} (process {pid}) has not answered")
            }
        };
        let hint = match app.process.interactive {
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
    let children = job.children(&procs::all()).unwrap_or_default();
    let mut late: Vec<_> = children.iter().filter(|child| is_late(child)).collect();
    late.sort_by_key(|child| child.pid.as_raw_pid());
    let Some(first) = late.first() else {
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

/// Whether this child seems not to have called MPI_Init: it has no MPI library, or it lacks what MPICH and Intel MPI open
/// in MPI_Init.
fn is_late(process: &Process) -> bool {
    if !is_child(process) {
        return false;
    }
    let files = procs::files(process.pid);
    let mut names = files
        .into_iter()
        .map(|file| file.into_os_string().into_encoded_bytes());
    let (mut has_libmpi, mut shares_memory) = (false, false);
    names.by_ref().for_each(|name| {
        has_libmpi |= is_libmpi(name.rsplit(|&byte| byte == b'/').next().unwrap_or_default());
        shares_memory |= name.starts_with(b"/dev/shm/");
    });
    !(has_libmpi
        && (shares_memory || procs::open_file(process.pid, b"anon_inode:[eventpoll]").is_some()))
}
