//! The application's jobs: which one answers a request, and what follows from the end of one.

use std::os::fd::BorrowedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Signal, WaitOptions};

use super::app_connection::AppConnection;
use super::application::Application;
use super::job::{Job, Received, ReplyTo, Task};
use super::job_state::{End, State};
use super::launcher::{Attempts, Launchers};
use super::lost_children::PendingConnect;
use crate::mpi::mpiexec::LaunchError;
use crate::pmi::message::{Message, Request};
use crate::procs;
use crate::shared::logging::Escaped;
use crate::shared::logging::escape;
use crate::shared::spawn_page::Calls;

/// How long a job may take to end before it is killed. All in all it may take 2 s.
pub const GRACE: Duration = Duration::from_millis(1200);

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
struct Pending {
    message: Message,
    job: usize,
}

/// The jobs.
pub struct Jobs {
    launchers: Launchers,
    all: Vec<Job>,
    started: usize,
    pending: Option<Pending>,
    /// Which spawns the application is in, once its library says so.
    page: Option<&'static Calls>,
    connecting: Option<PendingConnect>,
    /// Names that the application published, for later jobs.
    published: Vec<Message>,
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

    fn next_number(&mut self) -> usize {
        self.started += 1;
        self.started
    }

    /// Starts the next launcher for this task. If none is left, the application's request fails.
    fn start(&mut self, task: Task, attempts: Attempts, app: &mut App) {
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
    fn fail_request(&mut self, number: usize, reason: &str, app: &mut App) {
        if let Some(Pending { message, .. }) = self.pending.take_if(|asked| asked.job == number) {
            let failure = Request::of(&message).failure(reason);
            app.connection.send(&failure.in_reply_to(&message));
        }
    }

    /// The job's launcher does not serve: the next one is tried.
    fn launcher_failed(&mut self, at: usize, error: LaunchError, app: &mut App) {
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

    fn position(&self, number: usize) -> Option<usize> {
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

    /// Detaches a session's jobs whose children have all ended, at each spawn and a moment later: there may be a
    /// thousand.
    fn detach_idle(&mut self, except: Option<usize>) {
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
            || self.all.iter().any(|job| {
                matches!(job.state, State::Starting | State::Terminating)
                    || job.status.is_some()
                    || job.seems_idle()
                    || job.state == State::Broken && self.pending.is_some()
            })
    }

    /// Looks after what sends nothing by itself: children that are lost, launchers that have failed or ended, jobs that
    /// do not end.
    pub fn tick(&mut self, app: &mut App) {
        self.look_for_lost_children(app);
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
        let Some(connecting) = self.connecting.as_mut() else {
            return;
        };
        if app.gone || connecting.is_over() {
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
            log::warn!(
                "{task} is gone: mpiexec ended with {status}; this session goes on, and can spawn again"
            );
        } else if crashed {
            app.process.kill_group();
        } else if asked && end == End::Finished && !app.gone {
            log::error!("{task} ended before it answered: {status}");
        } else {
            log::info!("{task} ended: {status}");
        }
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
    pub fn terminate(&mut self) {
        self.all.iter_mut().for_each(Job::terminate);
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
