//! The application's jobs: which one answers a request, and what follows from the end of one.

use std::os::fd::BorrowedFd;

use rustix::process::Signal;

use super::app_connection::AppConnection;
use super::application::Application;
use super::job::{Job, Received, ReplyTo, Task};
use super::job_state::State;
use super::launcher::{Attempts, Launchers};
use super::lost_children::PendingConnect;
use super::waiting::Waiting;
use crate::mpi::mpiexec::LaunchError;
use crate::pmi::message::{Message, Request};
use crate::procs;
use crate::shared::logging::Escaped;
use crate::shared::spawn_page::SpawnPage;

/// The application, as its jobs need it.
pub struct App {
    pub process: Application,
    pub connection: AppConnection,
    /// It has called MPI_Finalize.
    pub finalized: bool,
    /// Its process has ended.
    pub gone: bool,
}

/// A request of the application's that a job has to answer.
pub(super) struct Pending {
    pub(super) message: Message,
    pub(super) job: usize,
}

/// The jobs.
pub struct Jobs {
    pub(super) launchers: Launchers,
    pub(super) all: Vec<Job>,
    pub(super) started: usize,
    pub(super) pending: Option<Pending>,
    /// Which spawns the application is in, once its library says so.
    pub(super) page: Option<&'static SpawnPage>,
    pub(super) connecting: Option<PendingConnect>,
    /// How long the application has waited for a spawn.
    pub(super) waiting: Option<Waiting>,
    /// Names that the application published, for later jobs.
    pub(super) published: Vec<Message>,
}

impl Jobs {
    pub fn new(launchers: Launchers) -> Jobs {
        Jobs {
            launchers,
            all: Vec::new(),
            started: 0,
            pending: None,
            page: None,
            connecting: None,
            waiting: None,
            published: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a request waits for a job's reply.
    pub fn is_asked(&self) -> bool {
        self.pending.is_some()
    }

    /// Sends a request to the job that serves it, or starts a job for it.
    pub fn ask(&mut self, message: Message, app: &mut App) {
        let spawns = Request::of(&message) == Request::Spawn;
        self.waiting = None;
        if spawns {
            self.connecting = None;
        }
        let dedicated = app.process.interactive && spawns;
        if let Some(job) = self
            .all
            .iter_mut()
            .find(|job| !dedicated && job.is_shared())
        {
            job.request(message.clone(), ReplyTo::Application);
            let job = job.task.number;
            self.pending = Some(Pending { message, job });
            return;
        }
        let published = self.published.iter().cloned();
        let mut requests: Vec<_> = published.map(|name| (name, ReplyTo::Nobody)).collect();
        requests.push((message.clone(), ReplyTo::Application));
        let task = Task {
            number: self.next_number(),
            purpose: purpose(&message),
            dedicated,
            placeholder: false,
            requests,
        };
        let job = task.number;
        self.pending = Some(Pending { message, job });
        self.start(task, Attempts::find(&app.process), app);
    }

    pub(super) fn next_number(&mut self) -> usize {
        self.started += 1;
        self.started
    }

    /// Starts the next launcher for this task. If none is left, the application's request fails.
    pub(super) fn start(&mut self, task: Task, attempts: Attempts, app: &mut App) {
        // Where the application is now: it may have changed its directory since its first spawn.
        let directory = procs::directory(app.process.pid);
        let name = task.to_string();
        match self
            .launchers
            .start_next(attempts, &name, directory.as_deref())
        {
            Some(launched) => self.all.push(Job::new(task, launched)),
            None => self.fail_request(task.number, "no_launcher", app),
        }
    }

    /// Tells the application that its request to this job has failed, if there is one.
    pub(super) fn fail_request(&mut self, number: usize, reason: &str, app: &mut App) {
        if let Some(Pending { message, .. }) = self.pending.take_if(|asked| asked.job == number) {
            let failure = Request::of(&message).failure(reason);
            app.connection.send(&failure.in_reply_to(&message));
        }
    }

    /// The job's launcher does not serve: the next one is tried.
    pub(super) fn launcher_failed(&mut self, at: usize, error: LaunchError, app: &mut App) {
        let number = self.next_number();
        let job = &mut self.all[at];
        job.terminate();
        let (task, mut others) = job.take_task(number);
        let (old, file) = (job.task.number, job.launcher.clone());
        if let Some(pending) = self.pending.as_mut().filter(|asked| asked.job == old) {
            pending.job = number;
        } else if !task.placeholder {
            return;
        }
        if !app.gone {
            others.failed(file, error);
            self.start(task, others, app);
        }
    }

    /// The sockets to wait for, each with its job's number.
    pub fn sockets(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.all.iter().flat_map(|job| {
            let sockets = job.sockets().into_iter();
            sockets.map(|socket| (job.task.number, socket))
        })
    }

    /// Something can be read from this job.
    pub fn read_available(&mut self, number: usize, app: &mut App) {
        let Some(at) = self.position(number) else {
            return;
        };
        for received in self.all[at].read_available() {
            match received {
                Received::Ready => log::debug!("job {number} is ready"),
                Received::NoManager => self.launcher_failed(at, LaunchError::NoManager, app),
                Received::Reply(reply) => self.forward(at, reply, app),
            }
        }
    }

    pub(super) fn position(&self, number: usize) -> Option<usize> {
        self.all.iter().position(|job| job.task.number == number)
    }

    /// Forwards a job's reply to the application.
    fn forward(&mut self, at: usize, reply: Message, app: &mut App) {
        let number = self.all[at].task.number;
        let asked = self.pending.take_if(|pending| pending.job == number);
        if let Some(Pending { message, .. }) = asked.filter(|_| !reply.is_failure()) {
            match Request::of(&message) {
                Request::Publish => self.published.push(message),
                Request::Spawn => {
                    self.page = self.page.or_else(|| app.process.spawn_page());
                    let job = &self.all[at];
                    self.connecting =
                        (self.page).and_then(|page| PendingConnect::new(page, message, job));
                }
                _ => {}
            }
        }
        app.connection.send(&reply);
        self.detach_idle(Some(number));
    }

    /// The application aborts: each job does so, too.
    pub fn abort(&mut self, message: &Message) {
        for job in &mut self.all {
            match job.state {
                State::Serving => job.request(message.clone(), ReplyTo::Nobody),
                _ => job.terminate(),
            }
        }
    }

    /// Detaches the jobs that serve: they last as long as their children.
    pub fn detach_serving(&mut self) {
        let serving = self
            .all
            .iter_mut()
            .filter(|job| job.state == State::Serving);
        serving.for_each(Job::detach);
    }

    /// The application has ended after MPI_Finalize: jobs last as long as their children.
    pub fn detach_all(&mut self) {
        self.pending = None;
        self.all.iter_mut().for_each(Job::detach);
    }

    /// Ends all jobs.
    pub fn end(&mut self) {
        self.pending = None;
        let all = procs::all();
        self.all.iter_mut().for_each(|job| job.end(&all));
    }

    /// Ctrl-C in an interactive session: gives up the spawn that has not returned yet, if there is one.
    pub fn interrupt(&mut self, app: &mut App) {
        self.drop_returned();
        let connecting = self.connecting.as_mut();
        let number = match (&self.pending, connecting) {
            (Some(pending), _) => pending.job,
            (None, Some(connecting)) => connecting.give_up(),
            (None, None) => return,
        };
        if let Some(at) = self.position(number) {
            let job = &mut self.all[at];
            let why = match self.pending.is_some() {
                true => "its launcher has not answered",
                false => "its children have not connected",
            };
            log::warn!(
                "{}: given up after Ctrl-C, as {why}; the spawn fails",
                job.task
            );
            job.give_up();
        }
        self.fail_request(number, "interrupted", app);
    }

    /// Forgets a spawn that has returned.
    pub(super) fn drop_returned(&mut self) {
        self.connecting.take_if(|connecting| connecting.is_over());
    }

    /// Sends all jobs a signal.
    pub fn signal(&self, signal: Signal) {
        self.all.iter().for_each(|job| job.signal(signal));
    }
}

/// What a job is for, in the log.
fn purpose(message: &Message) -> String {
    let word = |key| {
        message
            .value(key)
            .map(|value| Escaped(value).to_string())
            .unwrap_or_default()
    };
    match Request::of(message) {
        Request::Spawn => {
            let more = match message.number("totspawns") {
                Some(2..) => " and more",
                _ => "",
            };
            format!("a spawn of {} {}{more}", word("nprocs"), word("execname"))
        }
        Request::UniverseSize => "the size of the universe".to_owned(),
        Request::Publish | Request::Unpublish | Request::Lookup => "published names".to_owned(),
        _ => format!("'{}'", Escaped(message.command())),
    }
}
