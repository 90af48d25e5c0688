//! The application's jobs: which one answers a request.

use std::os::fd::BorrowedFd;

use rustix::process::Signal;

use super::application::App;
use super::context::{Context, Contexts};
use super::job::{Job, ReplyTo, Task};
use super::job_state::State;
use super::launcher::{Attempts, Launchers};
use super::listener::addresses;
use super::lost_children::Connecting;
use super::places::{Chosen, Places};
use super::waiting::Asked;
use crate::mpi::mpiexec::LaunchError;
use crate::pmi::message::{Message, Request};
use crate::procs;
use crate::shared::logging::Escaped;

/// The jobs.
pub struct Jobs {
    launchers: Launchers,
    pub(super) all: Vec<Job>,
    started: usize,
    pub(super) asked: Option<Asked>,
    pub(super) contexts: Contexts,
    /// Names that the application published, for later jobs.
    published: Vec<Message>,
}

impl Jobs {
    pub fn new(launchers: Launchers) -> Jobs {
        Jobs {
            launchers,
            all: Vec::new(),
            started: 0,
            asked: None,
            contexts: Contexts::new(),
            published: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a request waits for a job's reply.
    pub fn is_asked(&self) -> bool {
        (self.asked.as_ref()).is_some_and(|asked| asked.connecting.is_none())
    }

    /// Sends a request to the job that serves it, or starts a job for it.
    pub fn ask(&mut self, mut message: Message, app: &mut App) {
        let spawns = Request::of(&message) == Request::Spawn;
        let dedicated = app.process.interactive && spawns;
        let context = self.contexts.now(&app.process);
        // All children start on this host anyway. For a `host` MPICH 4.2's mpiexec starts a proxy of its own, and fails when
        // that has ended: ui_cmd_cb in src/pm/hydra/mpiexec/pmiserv_pmci.c (pmodels/mpich pull request 7712).
        if spawns && context.hosts().is_none() {
            let own = [addresses(), vec!["localhost".to_owned()]].concat();
            message = message.without_hosts(&own);
        }
        let serves = |job: &&mut Job| {
            !dedicated && job.is_shared() && (!spawns || job.task.context == context)
        };
        if let Some(job) = self.all.iter_mut().find(serves) {
            job.request(message.clone(), ReplyTo::Application);
            self.asked = Some(Asked::new(message, job.task.number));
            return;
        }
        let published = self.published.iter().cloned();
        let mut requests: Vec<_> = published.map(|name| (name, ReplyTo::Nobody)).collect();
        requests.push((message.clone(), ReplyTo::Application));
        let places = self.places(dedicated, &message, &context);
        let task = Task {
            number: self.next_number(),
            purpose: purpose(&message),
            dedicated,
            places,
            placeholder: false,
            requests,
            attempts: Attempts::find(&app.process, &context),
            context,
        };
        self.asked = Some(Asked::new(message, task.number));
        self.start(task, app);
    }

    /// Starts a job for a placeholder, with this request.
    pub(super) fn start_placeholder(&mut self, request: Message, app: &mut App) {
        let context = self.contexts.now(&app.process);
        let task = Task {
            number: self.next_number(),
            purpose: "a placeholder for lost children".to_owned(),
            dedicated: true,
            places: Chosen::default(),
            placeholder: true,
            requests: vec![(request, ReplyTo::Nobody)],
            attempts: Attempts::find(&app.process, &context),
            context,
        };
        self.start(task, app);
    }

    /// The places for the children of a session's spawn.
    fn places(&self, dedicated: bool, spawn: &Message, context: &Context) -> Chosen {
        let is_chosen = dedicated && !self.launchers.is_of_intel();
        let Some(places) = is_chosen.then(|| Places::of(context)).flatten() else {
            return Chosen::default();
        };
        let all = procs::all();
        let takes = |job: &&Job| {
            job.task.context.environment == context.environment && !job.has_no_children(&all)
        };
        let taken = self.all.iter().filter(takes);
        let taken = taken.flat_map(|job| job.task.places.places.iter().copied());
        places.of_spawn(spawn, taken)
    }

    fn next_number(&mut self) -> usize {
        self.started += 1;
        self.started
    }

    /// Starts the next launcher for this task. If none is left, the application's request fails.
    fn start(&mut self, mut task: Task, app: &mut App) {
        let name = task.to_string();
        let (attempts, context) = (&mut task.attempts, &task.context);
        let hosts = task.places.hosts.as_deref();
        match (self.launchers).start_next(attempts, &name, context, hosts) {
            Some(launched) => self.all.push(Job::new(task, launched)),
            None => self.fail_request(task.number, "no_launcher", app),
        }
    }

    /// Tells the application that its request to this job has failed, if there is one.
    pub(super) fn fail_request(&mut self, number: usize, reason: &str, app: &mut App) {
        if let Some(Asked { message, .. }) = self.asked.take_if(|asked| asked.awaits(number)) {
            let failure = Request::of(&message).failure(reason);
            app.connection.send(&failure.in_reply_to(&message));
        }
    }

    /// The job's launcher does not serve: the next one is tried.
    pub(super) fn launcher_failed(&mut self, at: usize, error: LaunchError, app: &mut App) {
        let number = self.next_number();
        let job = &mut self.all[at];
        job.terminate();
        let (old, file) = (job.task.number, job.launcher.clone());
        let mut task = job.take_task(number);
        match self.asked.as_mut().filter(|asked| asked.awaits(old)) {
            Some(asked) => asked.job = number,
            None if task.placeholder => {}
            None => return,
        }
        if !app.gone {
            task.attempts.failed(file, error);
            self.start(task, app);
        }
    }

    /// The sockets to wait for.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all.iter().flat_map(Job::sockets)
    }

    /// Reads what the jobs have sent, and forwards replies to the application.
    pub fn read_available(&mut self, app: &mut App) {
        // A job that starts meanwhile is appended.
        for at in 0..self.all.len() {
            match self.all[at].read_available() {
                Ok(replies) => replies
                    .into_iter()
                    .for_each(|reply| self.forward(at, &reply, app)),
                Err(error) => self.launcher_failed(at, error, app),
            }
        }
    }

    fn forward(&mut self, at: usize, reply: &Message, app: &mut App) {
        let number = self.all[at].task.number;
        let Some(mut asked) = self.asked.take_if(|asked| asked.awaits(number)) else {
            return;
        };
        let request = Request::of(&asked.message);
        let spawns = request == Request::Spawn;
        match request {
            _ if reply.is_failure() => {}
            Request::Publish => self.published.push(asked.message),
            Request::Spawn => {
                let job = self.all[at].task.to_string();
                let page = self.contexts.page(&app.process);
                asked.connecting = page.and_then(|page| Connecting::new(page, job));
                self.asked = Some(asked).filter(|asked| asked.connecting.is_some());
            }
            _ => {}
        }
        app.connection.send(reply);
        if spawns {
            self.detach_idle(number);
        }
    }

    /// Detaches the other jobs whose children have all ended, at each spawn: there may be a thousand. A job on other hosts
    /// can't be seen so well, and stays until the application ends.
    fn detach_idle(&mut self, except: usize) {
        let is_older = |job: &&mut Job| job.task.number != except;
        let mut older = self.all.iter_mut().filter(is_older).peekable();
        if older.peek().is_some() {
            let all = procs::all();
            older
                .filter(|job| job.has_no_children(&all))
                .for_each(Job::detach);
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
        let jobs = self.all.iter_mut();
        jobs.filter(|job| job.state == State::Serving)
            .for_each(Job::detach);
    }

    /// The application has ended after MPI_Finalize: jobs last as long as their children.
    pub fn detach_all(&mut self) {
        self.asked = None;
        self.all.iter_mut().for_each(Job::detach);
    }

    /// Ends all jobs.
    pub fn end(&mut self) {
        self.asked = None;
        let all = procs::all();
        self.all.iter_mut().for_each(|job| job.end(&all));
    }

    /// Ctrl-C in an interactive session: gives up the spawn that has not returned yet, if there is one.
    pub fn interrupt(&mut self, app: &mut App) {
        self.drop_returned();
        let Some(asked) = &mut self.asked else {
            return;
        };
        let why = match &mut asked.connecting {
            None => "its launcher has not answered",
            Some(connecting) => {
                connecting.given_up = true;
                "its children have not connected"
            }
        };
        let number = asked.job;
        let mut jobs = self.all.iter_mut();
        if let Some(job) = jobs.find(|job| job.task.number == number) {
            let task = &job.task;
            log::warn!("{task}: given up after Ctrl-C, as {why}; the spawn fails");
            job.give_up();
        }
        self.fail_request(number, "interrupted", app);
    }

    /// Forgets a spawn that has returned.
    pub(super) fn drop_returned(&mut self) {
        let is_over = |asked: &mut Asked| {
            let connecting = asked.connecting.as_ref();
            connecting.is_some_and(Connecting::is_over)
        };
        self.asked.take_if(is_over);
    }

    /// Sends all jobs a signal.
    pub fn signal(&self, signal: Signal) {
        self.all.iter().for_each(|job| job.signal(signal));
    }
}

/// What a job is for, in the log.
fn purpose(message: &Message) -> String {
    let word = |key| Escaped(message.value(key).unwrap_or_default());
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
