//! Lost children: a spawn was answered, and its children ended before they connected to the application.
//!
//! libmpi waits for them without end, and sends the agent nothing meanwhile. One spawn whose children are lost:
//!
//! ```text
//! library                       agent                          mpiexec, placeholder
//!   spawn page: a call begins
//!   libmpi: cmd=spawn ────────>   asks a job ──────────────────> starts the children
//!   libmpi  <──── rc=0 ────────   notes the call (Connecting)
//!   libmpi waits                  looks for the children: none is left for 2 s, and the page says that the call lasts
//!                                 page: this call has failed
//!                                 starts a job for a placeholder ──> a child that connects to libmpi,
//!   libmpi: success  <───────────────────────────────────────────   in place of the lost ones
//!   failed_spawn: sees the page, disconnects the placeholder ────>  ends
//!   the call returns MPI_ERR_SPAWN
//! ```

use std::time::{Duration, Instant};

use super::application::Application;
use super::job::Job;
use super::placeholder;
use crate::pmi::message::Message;
use crate::procs;
use crate::shared::paths;
use crate::shared::spawn_page::SpawnPage;

/// How long no child may be seen before the children are taken for lost: mpiexec may not have started them yet, or libmpi
/// may be about to return.
const LOST_AFTER: Duration = Duration::from_secs(2);
/// How often the agent looks for them.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A spawn that was answered, and whose children may not have connected yet.
pub struct Connecting {
    page: &'static SpawnPage,
    /// The call that the application was in when its spawn was answered.
    call: u32,
    /// The job that has answered, in the words of the log.
    job: String,
    looked: Instant,
    /// Since when no child was seen.
    nobody: Option<Instant>,
    /// The user has given the spawn up.
    pub given_up: bool,
}

impl Connecting {
    /// This job has answered the spawn. `None`: which call the application is in can't be known.
    pub fn new(page: &'static SpawnPage, job: String) -> Option<Connecting> {
        Some(Connecting {
            page,
            call: page.only_call()?,
            job,
            looked: Instant::now(),
            nobody: None,
            given_up: false,
        })
    }

    /// Whether the call has returned, or others run beside it.
    pub fn is_over(&self) -> bool {
        self.page.only_call() != Some(self.call)
    }

    /// Looks whether the children of the job that answered have ended, if it still runs. Children of another spawn in the
    /// same job hide that.
    pub fn children_are_lost(&mut self, job: Option<&Job>, application: &Application) -> bool {
        if self.given_up {
            return job.is_none();
        }
        if self.looked.elapsed() < LOOK_EVERY {
            return false;
        }
        self.looked = Instant::now();
        let has_children = job.is_some_and(|job| !job.has_no_children(&procs::all()));
        let stopped = matches!(procs::state(application.pid), Some('T' | 't'));
        if has_children || stopped {
            self.nobody = None;
            return false;
        }
        self.nobody.get_or_insert_with(Instant::now).elapsed() >= LOST_AFTER
    }

    /// Marks the call as failed, for the library. Returns the request for a placeholder of this spawn's children, which lets
    /// libmpi return; `None` if there can be no placeholder.
    pub fn fail(&self, spawn: &Message, application: &Application) -> Option<Message> {
        let job = &self.job;
        let files = paths::own_by_name().ok().zip(application.libmpi());
        let Some((own, libmpi)) = files else {
            log::error!(
                "{job}: the children ended before they connected; the application may wait for them without end"
            );
            return None;
        };
        if !self.given_up {
            log::error!("{job}: the children ended before they connected; the spawn fails");
        }
        self.page.fail(self.call);
        let libfabric = application.libfabric();
        Some(placeholder::request(
            spawn,
            &own,
            &libmpi,
            libfabric.as_deref(),
        ))
    }
}
