//! One job: an mpiexec that the agent started, and its bridge, through which the agent sends PMI requests to it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::TcpStream;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::connection::Connection;
use super::context::Context;
use super::job_state::{Event, State};
use super::launcher::{Attempts, Launched};
use super::listener::{Endpoint, Listener};
use super::places::Chosen;
use super::processes::{Processes, is_child};
use crate::mpi::mpiexec::LaunchError;
use crate::pmi::message::Message;
use crate::procs::{self, Process};

/// How long a bridge may take to read what it is sent.
const BRIDGE_WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Who waits for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    Application,
    /// Nobody: it is enough that it comes.
    Nobody,
}

/// What a job is started for.
pub struct Task {
    pub number: usize,
    /// In the words of the log.
    pub purpose: String,
    /// Whether the job serves this one spawn and nothing else.
    pub dedicated: bool,
    /// The places that its children take, if the agent chooses them.
    pub places: Chosen,
    /// Whether its child is a placeholder for lost children of another job.
    pub placeholder: bool,
    /// What to send as soon as the bridge is connected.
    pub requests: Vec<(Message, ReplyTo)>,
    /// The launchers to try, if the one that runs does not serve.
    pub attempts: Attempts,
    /// Where its children start.
    pub context: Context,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {} ({})", self.number, self.purpose)
    }
}

/// How the agent is connected to a job; which of these belongs to which state is [`State::is_connected`].
enum Link {
    Listening(Listener),
    Bridge(Connection),
    Closed,
}

/// A job.
pub struct Job {
    pub task: Task,
    pub launcher: PathBuf,
    pub processes: Processes,
    pub state: State,
    /// When this state began.
    since: Instant,
    link: Link,
    /// Whose replies are to come, in their order.
    expected: VecDeque<ReplyTo>,
    /// The launcher's, once it has ended.
    pub status: Option<ExitStatus>,
    /// The processes that the job had when it was asked to end.
    stragglers: Vec<Process>,
}

impl Job {
    /// The job of a launcher that was started for this task.
    pub fn new(task: Task, launched: Launched) -> Job {
        let mark = format!("{}={}", Endpoint::VARIABLE, launched.listener.endpoint);
        Job {
            task,
            launcher: launched.file,
            processes: Processes {
                launcher: launched.pid,
                bridge: None,
                mark,
            },
            state: State::Starting,
            since: Instant::now(),
            link: Link::Listening(launched.listener),
            expected: VecDeque::new(),
            status: None,
            stragglers: Vec::new(),
        }
    }

    /// The launcher's process, which leads a process group.
    pub fn pid(&self) -> Pid {
        self.processes.launcher
    }

    /// Makes the transition of this event. Whether there is one.
    fn step(&mut self, event: Event) -> bool {
        let next = self.state.next(event);
        let changed = next != self.state;
        if changed {
            self.state = next;
            self.since = Instant::now();
        }
        if !next.is_connected() {
            self.link = Link::Closed;
        }
        changed
    }

    /// Sends a request, at once or as soon as the bridge is connected.
    pub fn request(&mut self, message: Message, reply_to: ReplyTo) {
        if let Link::Bridge(connection) = &mut self.link {
            connection.send(&message);
            self.expected.push_back(reply_to);
        } else {
            self.task.requests.push((message, reply_to));
        }
    }

    /// Whether it serves other requests than the one for which it was started.
    pub fn is_shared(&self) -> bool {
        !self.task.dedicated && self.state.takes_requests()
    }

    /// Takes the task away from a job whose launcher failed, for the next launcher.
    pub fn take_task(&mut self, number: usize) -> Task {
        Task {
            number,
            purpose: self.task.purpose.clone(),
            requests: std::mem::take(&mut self.task.requests),
            attempts: std::mem::take(&mut self.task.attempts),
            places: std::mem::take(&mut self.task.places),
            context: self.task.context.clone(),
            ..self.task
        }
    }

    /// Finalizes the bridge: the job then lasts as long as its children.
    pub fn detach(&mut self) {
        if self.step(Event::Detach) {
            match self.state {
                State::Detaching => self.request(Message::line("cmd=finalize"), ReplyTo::Nobody),
                _ => self.end_launcher(),
            }
        }
    }

    /// Ends it. Without children it ends by itself when the bridge has finalized, and mpiexec reports no crash.
    pub fn end(&mut self, all: &HashMap<Pid, Process>) {
        match self.children(all) {
            // What is left of them may be the proxy of a child that has just ended.
            Some(children) if !children.iter().any(is_child) => self.detach(),
            _ => self.terminate(),
        }
    }

    /// Ends a job that hangs, so that the launcher prints nothing about it: the launcher's processes on this host are killed
    /// at once, and the children are asked to end.
    pub fn give_up(&mut self) {
        if self.task.context.hosts().is_some() {
            return self.terminate();
        }
        if self.state == State::Terminating {
            return;
        }
        let all = procs::all();
        let its = procs::descendants(&all, self.pid()).into_iter();
        let (children, mut own): (Vec<_>, Vec<_>) = its.partition(is_child);
        // Parents first: a proxy of Intel's that sees its bridge die reports a crash.
        own.sort_by_key(|process| procs::ancestors(&all, process.pid).count());
        // Before the bridge is disconnected: its end is a crash for mpiexec.
        self.signal(Signal::KILL);
        own.iter().for_each(Process::kill);
        for child in &children {
            let _ = child.signal(Signal::TERM);
        }
        self.stragglers = children;
        self.step(Event::Terminate);
    }

    /// Whether one of the processes that it had when it was asked to end still runs.
    pub fn has_stragglers(&self) -> bool {
        self.state == State::Terminating && self.stragglers.iter().any(Process::runs)
    }

    /// Asks the launcher to end the job.
    pub fn terminate(&mut self) {
        if self.step(Event::Terminate) {
            self.end_launcher();
        }
    }

    /// The launcher alone: its proxies are in its process group, and would complain of each other.
    fn end_launcher(&mut self) {
        self.stragglers = procs::descendants(&procs::all(), self.pid());
        if self.status.is_none() {
            let _ = rustix::process::kill_process(self.pid(), Signal::TERM);
        }
    }

    /// Kills what has not ended by itself.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        // Intel's proxies survive an mpiexec that is killed, each in a process group of its own.
        let stragglers = std::mem::take(&mut self.stragglers);
        stragglers.iter().for_each(Process::kill);
    }

    /// Sends the launcher and what it has in its process group a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process_group(self.pid(), signal);
    }

    /// Whether it has been in this state for so long.
    pub fn is_for(&self, state: State, time: Duration) -> bool {
        self.state == state && self.since.elapsed() >= time
    }

    /// The launcher has ended, with this status.
    pub fn launcher_ended(&mut self, status: ExitStatus) {
        let success = status.success();
        self.step(Event::LauncherEnded { success });
    }

    /// Its processes on this host, without the launcher's own for the bridge. `None`: that can't be known.
    pub fn children(&self, all: &HashMap<Pid, Process>) -> Option<Vec<Process>> {
        let children = self.processes.children(all);
        children.filter(|_| self.expected.is_empty())
    }

    /// Whether nothing is left of it but what serves the bridge.
    pub fn has_no_children(&self, all: &HashMap<Pid, Process>) -> bool {
        self.children(all)
            .is_some_and(|children| children.is_empty())
    }

    /// The sockets to wait for.
    pub fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        match &self.link {
            Link::Listening(listener) => listener.sockets().collect(),
            Link::Bridge(connection) => connection.fd().into_iter().collect(),
            Link::Closed => Vec::new(),
        }
    }

    /// Reads what there is to read: the replies for the application.
    ///
    /// # Errors
    /// The bridge has connected, and has no process manager.
    pub fn read_available(&mut self) -> Result<Vec<Message>, LaunchError> {
        if let Link::Listening(listener) = &mut self.link {
            match listener.accept_bridge() {
                Some((0, _)) => return Err(LaunchError::NoManager),
                Some((pid, stream)) => self.bridge_connected(pid, stream),
                None => {}
            }
        }
        let mut replies = Vec::new();
        let Link::Bridge(connection) = &mut self.link else {
            return Ok(replies);
        };
        connection.read_available();
        while let Some(message) = connection.next_message() {
            if self.expected.pop_front() == Some(ReplyTo::Application) {
                replies.push(message);
            }
        }
        if connection.fd().is_none() {
            self.step(Event::BridgeLost);
        } else if self.expected.is_empty() {
            self.step(Event::AllReplied);
        }
        Ok(replies)
    }

    fn bridge_connected(&mut self, pid: u32, stream: TcpStream) {
        let number = self.task.number;
        log::debug!("job {number} is ready");
        let _ = stream.set_write_timeout(Some(BRIDGE_WRITE_TIMEOUT));
        self.processes.bridge = i32::try_from(pid).ok().and_then(Pid::from_raw);
        self.link = Link::Bridge(Connection::new(format!("job {number}"), stream));
        self.step(Event::BridgeReady);
        for (message, reply_to) in std::mem::take(&mut self.task.requests) {
            self.request(message, reply_to);
        }
    }
}
