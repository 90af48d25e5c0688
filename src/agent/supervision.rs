//! What follows from the end of a job, and of what belongs to it: launchers, bridges, children.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::WaitOptions;

use super::application::App;
use super::job::Job;
use super::job_state::{End, State};
use super::jobs::Jobs;
use super::lost_children::Connecting;
use crate::mpi::mpiexec::LaunchError;
use crate::procs;

/// How long a job may take to end before it is killed. All in all it may take 2 s.
pub const GRACE: Duration = Duration::from_millis(1200);

/// How long a launcher may run before it has started anything. Hydra may wait for a name server first.
const START_TIME: Duration = Duration::from_secs(10);

impl Jobs {
    /// Collects the status of each launcher that has ended.
    pub fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let status = ExitStatus::from_raw(status.as_raw());
            if let Some(job) = self.all.iter_mut().find(|job| job.pid() == pid) {
                job.status = Some(status);
            }
        }
    }

    /// Whether something has to be looked at from time to time.
    pub fn need_ticks(&self) -> bool {
        use State::{Detaching, Starting, Terminating};
        let mut jobs = self.all.iter();
        self.asked.is_some()
            || jobs.any(|job| {
                matches!(job.state, Starting | Detaching | Terminating)
                    || job.status.is_some()
                    || job.task.placeholder
            })
    }

    /// Looks after what sends nothing by itself: children that are lost, launchers that have failed or ended, jobs that
    /// do not end.
    pub fn tick(&mut self, app: &mut App) {
        self.drop_returned();
        self.look_after_asked(app);
        // Backwards: a job that has ended is replaced by the last one, and a new one is appended.
        for at in (0..self.all.len()).rev() {
            self.tick_job(at, app);
        }
    }

    /// Looks whether the children for which the application waits are lost, and says what it waits for.
    fn look_after_asked(&mut self, app: &mut App) {
        let Some(asked) = &mut self.asked else {
            return;
        };
        let mut jobs = self.all.iter();
        let job = jobs.find(|job| job.task.number == asked.job);
        let are_lost = |to: &mut Connecting| to.children_are_lost(job, &app.process);
        if let Some(connecting) = asked.connecting.take_if(are_lost) {
            let request = connecting.fail(&asked.message, &app.process);
            self.asked = None;
            if let Some(request) = request {
                self.start_placeholder(request, app);
            }
        } else if let Some(job) = job {
            asked.say_what_is_awaited(job, app.process.interactive);
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
        // MPICH 4 may send the last word to a placeholder at its next call only: until then that process spins.
        if job.task.placeholder && job.is_for(State::Serving, GRACE) && !self.contexts.is_spawning()
        {
            job.give_up();
        }
        let asked = (self.asked.as_ref()).is_some_and(|asked| asked.awaits(job.task.number));
        if asked && job.is_for(State::Broken, GRACE) {
            let task = &job.task;
            log::error!("{task}: the bridge is gone, but mpiexec goes on; ending the job");
            job.terminate();
        }
        let Some(status) = job.status else {
            // For a while: to look costs more the more processes there are, and it may wait for a step of Slurm's.
            let is_late = job.is_for(State::Starting, START_TIME)
                && !job.is_for(State::Starting, 2 * START_TIME);
            if is_late && job.processes.has_started_nothing() {
                self.launcher_failed(at, LaunchError::StartedNothing, app);
            }
            return;
        };
        if job.has_stragglers() && !job.is_for(State::Terminating, 2 * GRACE) {
            return;
        }
        job.launcher_ended(status);
        if let State::Gone(end) = job.state {
            if end == End::Failed {
                self.launcher_failed(at, LaunchError::ended(status), app);
            } else {
                self.ended(at, end, status, app);
            }
            self.all.swap_remove(at);
        }
    }

    /// A job is over: its children are gone.
    fn ended(&mut self, at: usize, end: End, status: ExitStatus, app: &mut App) {
        let number = self.all[at].task.number;
        let asked = (self.asked.as_ref()).is_some_and(|asked| asked.awaits(number));
        self.fail_request(number, "job_ended", app);
        let Job { task, .. } = &self.all[at];
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
