//! One job: an mpiexec that the agent started, and its bridge, through which the agent sends PMI requests to it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

mod processes;

pub use processes::is_child;

use super::job_state::{Event, State};
use super::launcher::{Attempts, Launched};
use super::listener::{Endpoint, Hello, Listener};
use super::read;
use crate::mpi::environment;
use crate::pmi::decoder::Decoder;
use crate::pmi::message::Message;
use crate::procs::{self, Process};
use crate::shared::logging::Escaped;

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
    /// Whether its child is a placeholder for lost children of another job.
    pub placeholder: bool,
    /// What to send as soon as the bridge is connected.
    pub requests: Vec<(Message, ReplyTo)>,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {} ({})", self.number, self.purpose)
    }
}

/// How the agent is connected to a job; which of these belongs to which state is [`State::is_connected`].
enum Link {
    Listening(Listener),
    Bridge {
        stream: TcpStream,
        /// Its process, if it is on this host.
        pid: Option<Pid>,
        decoder: Decoder,
    },
    Closed,
}

/// A job.
pub struct Job {
    pub task: Task,
    pub launcher: PathBuf,
    /// The launcher's process, which leads a process group.
    pub pid: Pid,
    /// The variable that the job's processes inherit: it marks those that the tree of processes does not show.
    mark: String,
    /// The launchers to try if this one does not serve.
    others: Option<Attempts>,
    pub state: State,
    /// When this state began.
    since: Instant,
    link: Link,
    /// Whose replies are to come, in their order.
    expected: VecDeque<ReplyTo>,
    /// The launcher's, once it has ended.
    pub status: Option<ExitStatus>,
    /// The launcher has ended, and something of it goes on in the background.
    pub in_background: bool,
    /// The processes that the job had when it was asked to end.
    stragglers: Vec<Process>,
    /// Since when only the launcher and the bridge are left of it.
    idle: Option<Instant>,
}

/// What a job has received.
#[derive(Debug)]
pub enum Received {
    /// A reply for the application.
    Reply(Message),
    /// Its bridge has connected.
    Ready,
    /// Its bridge has connected, and has no process manager.
    NoManager,
}

impl Job {
    /// The job of a launcher that was started for this task.
    pub fn new(task: Task, launched: Launched) -> Job {
        Job {
            task,
            mark: format!("{}={}", Endpoint::VARIABLE, launched.listener.endpoint()),
            launcher: launched.file,
            pid: launched.pid,
            others: Some(launched.others),
            state: State::Starting,
            since: Instant::now(),
            link: Link::Listening(launched.listener),
            expected: VecDeque::new(),
            status: None,
            in_background: false,
            stragglers: Vec::new(),
            idle: None,
        }
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
            if let Link::Bridge { stream, .. } = &self.link {
                let _ = stream.shutdown(Shutdown::Both);
            }
            self.link = Link::Closed;
        }
        changed
    }

    /// Sends a request, at once or as soon as the bridge is connected.
    pub fn request(&mut self, message: Message, reply_to: ReplyTo) {
        if let Link::Bridge { stream, .. } = &mut self.link {
            // If the bridge is gone, the next read shows it.
            let _ = stream.write_all(message.bytes());
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
    pub fn take_task(&mut self, number: usize) -> (Task, Attempts) {
        let task = Task {
            number,
            purpose: self.task.purpose.clone(),
            requests: std::mem::take(&mut self.task.requests),
            ..self.task
        };
        let others = self.others.take().unwrap_or_else(Attempts::none);
        (task, others)
    }

    /// Finalizes the bridge: the job then lasts as long as its children.
    pub fn detach(&mut self) {
        if self.step(Event::Detach) {
            match self.state {
                State::Detaching => {
                    self.request(Message::line("cmd=finalize"), ReplyTo::Nobody);
                }
                _ => self.end_launcher(),
            }
        }
    }

    /// Ends it. Without children it ends by itself when the bridge has finalized, and mpiexec reports no crash.
    pub fn end(&mut self, all: &HashMap<Pid, Process>) {
        match self.has_no_children(all) {
            true => self.detach(),
            false => self.terminate(),
        }
    }

    /// Ends a job that hangs, so that the launcher prints nothing about it: the launcher's processes on this host are killed
    /// at once, and the children are asked to end.
    pub fn give_up(&mut self) {
        if environment::hosts(|name| std::env::var_os(name).is_some()).is_some() {
            return self.terminate();
        }
        let all = procs::all();
        let its = procs::descendants(&all, self.pid).into_iter();
        let (children, mut own): (Vec<_>, Vec<_>) = its.partition(is_child);
        // Parents first: a proxy of Intel's that sees its bridge die reports a crash.
        own.sort_by_key(|process| procs::ancestors(&all, process.pid).count());
        if self.state != State::Terminating {
            // Before the bridge is disconnected: its end is a crash for mpiexec.
            self.signal(Signal::KILL);
            own.iter().for_each(Process::kill);
            for child in &children {
                let _ = child.signal(Signal::TERM);
            }
            self.stragglers = children;
            self.step(Event::Terminate);
        }
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
        self.stragglers = procs::descendants(&procs::all(), self.pid);
        if self.status.is_none() {
            let _ = rustix::process::kill_process(self.pid, Signal::TERM);
        }
    }

    /// Kills what has not ended by itself.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        // Intel's proxies survive an mpiexec that is killed, each in a process group of its own.
        for process in std::mem::take(&mut self.stragglers) {
            process.kill();
        }
    }

    /// Sends the launcher and what it has in its process group a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process_group(self.pid, signal);
    }

    /// Whether it has been in this state for so long.
    pub fn is_for(&self, state: State, time: Duration) -> bool {
        self.state == state && self.since.elapsed() >= time
    }

    /// Whether something of the launcher goes on though its process has ended: it may have put itself into the
    /// background.
    pub fn has_survivors(&self) -> bool {
        match self.state {
            State::Starting => rustix::process::test_kill_process_group(self.pid).is_ok(),
            State::Serving | State::Detaching => self.in_background,
            _ => false,
        }
    }

    /// The launcher has ended, with this status, and nothing of it goes on.
    pub fn launcher_ended(&mut self, status: ExitStatus) {
        let success = status.success();
        self.step(Event::LauncherEnded { success });
    }

    /// The sockets to wait for.
    pub fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        match &self.link {
            Link::Listening(listener) => listener.sockets().collect(),
            Link::Bridge { stream, .. } => vec![stream.as_fd()],
            Link::Closed => Vec::new(),
        }
    }

    /// Reads from its sockets, one of which is ready.
    pub fn read_available(&mut self) -> Vec<Received> {
        match &self.link {
            Link::Listening(_) => self.accept_bridge().into_iter().collect(),
            Link::Bridge { .. } => self.read_replies(),
            Link::Closed => Vec::new(),
        }
    }

    fn accept_bridge(&mut self) -> Option<Received> {
        let Link::Listening(listener) = &mut self.link else {
            return None;
        };
        let (Hello::Ready(pid), stream) = listener.accept_bridge()? else {
            return Some(Received::NoManager);
        };
        let _ = stream.set_nonblocking(false);
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(BRIDGE_WRITE_TIMEOUT));
        self.link = Link::Bridge {
            stream,
            pid: i32::try_from(pid).ok().and_then(Pid::from_raw),
            decoder: Decoder::default(),
        };
        self.step(Event::BridgeReady);
        for (message, reply_to) in std::mem::take(&mut self.task.requests) {
            self.request(message, reply_to);
        }
        Some(Received::Ready)
    }

    fn read_replies(&mut self) -> Vec<Received> {
        let Link::Bridge {
            stream, decoder, ..
        } = &mut self.link
        else {
            return Vec::new();
        };
        let mut received = Vec::new();
        let mut buffer = [0; 65536];
        let count = read(stream, &mut buffer).unwrap_or(0);
        decoder.push(&buffer[..count]);
        let mut lost = count == 0;
        loop {
            match decoder.next() {
                Ok(Some(message)) => {
                    let number = self.task.number;
                    log::trace!("from job {number}: {}", Escaped(message.bytes()));
                    if self.expected.pop_front() == Some(ReplyTo::Application) {
                        received.push(Received::Reply(message));
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    lost = true;
                    break;
                }
            }
        }
        if lost {
            self.step(Event::BridgeLost);
        } else if self.expected.is_empty() {
            self.step(Event::AllReplied);
        }
        received
    }
}
