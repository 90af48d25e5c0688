//! What follows from the end of a job, and of what belongs to it: launchers, bridges, children.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::WaitOptions;

use super::job::Job;
use super::job_state::{End, State};
use super::jobs::{App, Jobs};
use crate::mpi::mpiexec::LaunchError;
use crate::procs;
use crate::shared::logging::escape;

/// How long a job may take to end before it is killed. All in all it may take 2 s.
pub const GRACE: Duration = Duration::from_millis(1200);

/// How long a launcher may run before it has started anything, and how long it is then watched. Hydra may wait for a name
/// server first.
const START_TIME: Duration = Duration::from_secs(10);
const WATCH_TIME: Duration = Duration::from_secs(20);

impl Jobs {
    /// Detaches a session's jobs whose children have all ended, at each spawn and a moment later: there may be a
    /// thousand.
    pub(super) fn detach_idle(&mut self, except: Option<usize>) {
        let mut older = self
            .all
            .iter_mut()
            .filter(|job| job.task.dedicated && Some(job.task.number) != except)
            .peekable();
        if older.peek().is_some() {
            let all = procs::all();
            older.for_each(|job| job.detach_if_idle(&all));
        }
    }

    /// Collects the status of each launcher that has ended.
    pub fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let status = ExitStatus::from_raw(status.as_raw());
            if let Some(job) = self.all.iter_mut().find(|job| job.pid == pid) {
                job.status = Some(status);
            }
        }
    }

    /// Whether something has to be looked at from time to time.
    pub fn need_ticks(&self) -> bool {
        self.connecting.is_some()
            || self.pending.is_some()
            || self.all.iter().any(|job| {
                matches!(
                    job.state,
                    State::Starting | State::Detaching | State::Terminating
                ) || job.status.is_some()
                    || job.seems_idle()
            })
    }

    /// Looks after what sends nothing by itself: children that are lost, launchers that have failed or ended, jobs that
    /// do not end.
    pub fn tick(&mut self, app: &mut App) {
        self.look_for_lost_children(app);
        self.say_what_is_awaited(app);
        if (self.all.iter()).any(|job| job.seems_idle() && job.has_been_idle()) {
            self.detach_idle(None);
        }
        let numbers: Vec<_> = self.all.iter().map(|job| job.task.number).collect();
        for number in numbers {
            if let Some(at) = self.position(number) {
                self.tick_job(at, app);
            }
        }
    }

    fn look_for_lost_children(&mut self, app: &mut App) {
        self.drop_returned();
        let Some(connecting) = self.connecting.as_mut() else {
            return;
        };
        if app.gone {
            self.connecting = None;
        } else if connecting.children_are_lost(&self.all, &app.process) {
            let number = self.next_number();
            let failed = self.connecting.take();
            let placeholder = failed.and_then(|failed| failed.fail(number, &app.process));
            if let Some((task, attempts)) = placeholder {
                self.start(task, attempts, app);
            }
        }
    }

    fn tick_job(&mut self, at: usize, app: &mut App) {
        let job = &mut self.all[at];
        if job.is_for(State::Terminating, GRACE) {
            job.kill();
        }
        // The application is gone without MPI_Finalize, and its bridge with it.
        let left = [State::Detaching, State::Detached];
        if app.gone && !app.finalized && left.iter().any(|&state| job.is_for(state, GRACE)) {
            job.terminate();
        }
        let watched =
            job.is_for(State::Starting, START_TIME) && !job.is_for(State::Starting, WATCH_TIME);
        if watched && job.status.is_none() && job.has_started_nothing() {
            self.launcher_failed(at, LaunchError::StartedNothing, app);
            return;
        }
        let asked = (self.pending.as_ref()).is_some_and(|asked| asked.job == job.task.number);
        if asked && job.is_for(State::Broken, GRACE) {
            log::error!(
                "{}: the bridge is gone, but mpiexec goes on; ending the job",
                job.task
            );
            job.terminate();
        }
        let Some(status) = job.status else {
            return;
        };
        if job.has_stragglers() && !job.is_for(State::Terminating, 2 * GRACE) {
            return;
        }
        if job.has_survivors() {
            if job.state == State::Starting && !job.in_background {
                job.in_background = true;
                log::warn!(
                    "{} {}; waiting for what it left in the background",
                    escape(&job.launcher),
                    LaunchError::ended(status)
                );
            }
            return;
        }
        job.launcher_ended(status);
        match job.state {
            State::Gone(End::Failed) => {
                self.launcher_failed(at, LaunchError::ended(status), app);
                self.all.swap_remove(at);
            }
            State::Gone(end) => {
                let job = self.all.swap_remove(at);
                self.ended(&job, end, status, app);
            }
            _ => {}
        }
    }

    /// A job is over: its children are gone.
    fn ended(&mut self, job: &Job, end: End, status: ExitStatus, app: &mut App) {
        let task = &job.task;
        let asked = (self.pending.as_ref()).is_some_and(|asked| asked.job == task.number);
        self.fail_request(task.number, "job_ended", app);
        let crashed = end == End::Crashed && !app.finalized && !app.gone;
        if crashed && task.placeholder {
            log::error!("{task} ended: {status}; the application may wait without end");
        } else if crashed && app.process.interactive {
            let pid = app.process.pid;
            let wait = match procs::state(pid) {
                Some('R') => format!(
                    "; a call that waits for its children may wait without end: 'kill {pid}' ends this session"
                ),
                _ => String::new(),
            };
            log::warn!(
                "{task} is gone: mpiexec ended with {status}; this session goes on, and can spawn again{wait}"
            );
        } else if crashed {
            app.process.kill_group();
        } else if asked && end == End::Finished && !app.gone {
            log::error!("{task} ended before it answered: {status}");
        } else {
            log::info!("{task} ended: {status}");
        }
    }
}
