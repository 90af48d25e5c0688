//! A job: an mpiexec that the agent started, and the bridge in it, through which the agent asks it what a program asks
//! its process manager.

use std::collections::{HashMap, VecDeque};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::launcher::Launched;
use super::listener::Reception;
use crate::agent::greeting::Greeting;
use crate::agent::patient;
use crate::mpi::mpiexec::Candidate;
use crate::pmi::message::{Framer, Message};
use crate::procs::{self, Process};
use crate::shared::logging::Escaped;

/// How long mpiexec may take to find that a process which has ended had crashed.
const SETTLED: Duration = Duration::from_secs(1);
/// How long a bridge may take to read what it is sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whom an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    Program,
    /// The agent itself, which only has to know that it came.
    Agent,
}

/// What a job is started for. If its mpiexec does not come to serve, the next one is.
pub struct Task {
    pub number: usize,
    /// In the words of the log.
    pub purpose: String,
    /// Whether the job serves this one spawn and nothing else.
    pub of_its_own: bool,
    /// Whether it is to stand in for children of another job.
    pub stand_in: bool,
    /// What is to be asked as soon as the bridge is there.
    pub questions: Vec<(Message, Asker)>,
    /// The mpiexecs that may still be tried, best first.
    pub untried: std::vec::IntoIter<Candidate>,
}

/// Where a job is on its way.
enum Stage {
    /// mpiexec runs, and its bridge has not come.
    Starting(Reception),
    /// The bridge is there.
    Serving {
        bridge: TcpStream,
        pid: Option<Pid>,
        framer: Framer,
    },
    /// The bridge is gone.
    Left,
}

/// A job.
pub struct Job {
    pub task: Task,
    pub launcher: PathBuf,
    /// mpiexec's process, which leads a process group.
    pub pid: Pid,
    stage: Stage,
    /// Whose answers are to come, in their order.
    answers: VecDeque<Asker>,
    /// The bridge went away before it was let go: a process of the job failed, or mpiexec was killed.
    pub broken: bool,
    /// Since when.
    broken_since: Option<Instant>,
    pub status: Option<ExitStatus>,
    /// Told once: mpiexec ended, and something of it goes on in the background.
    pub background: bool,
    /// When it was told to end.
    pub ending: Option<Instant>,
    /// Its processes at that time.
    remains: Vec<Process>,
    /// Whether the bridge was let go, or soon is.
    let_go: bool,
    /// Since when nothing is left of it but mpiexec and the bridge.
    idle: Option<Instant>,
}

/// What became of a job.
#[derive(Debug)]
pub enum Event {
    /// Its answer to the program.
    Answer(Message),
    /// Its bridge is there.
    Ready,
    /// Its bridge came, and has no process manager.
    NoManager,
}

impl Job {
    /// The job of an mpiexec that was launched for this task.
    pub fn new(task: Task, launched: Launched) -> Job {
        Job {
            task,
            launcher: launched.file,
            pid: launched.pid,
            stage: Stage::Starting(launched.reception),
            answers: VecDeque::new(),
            broken: false,
            broken_since: None,
            status: None,
            background: false,
            ending: None,
            remains: Vec::new(),
            let_go: false,
            idle: None,
        }
    }

    /// Asks it, at once or as soon as it can be asked.
    pub fn ask(&mut self, message: Message, asker: Asker) {
        if let Stage::Serving { bridge, .. } = &mut self.stage {
            // If the bridge is gone, that shows when it is read.
            let _ = patient::write_all(bridge, message.bytes());
            self.answers.push_back(asker);
        } else {
            self.task.questions.push((message, asker));
        }
    }

    /// Lets it go if all its processes but mpiexec's own and the bridge have ended, and had a while ago: nothing more
    /// will come of it. Just after their end mpiexec may still find that one of them crashed, and is to say so. A job
    /// on other hosts may not be known so well, and stays until the program ends.
    pub fn let_go_if_idle(&mut self, all: &HashMap<Pid, Process>) {
        if !self.has_nobody(all) {
            self.idle = None;
        } else if self.has_been_idle() {
            self.let_go();
        } else {
            self.idle.get_or_insert_with(Instant::now);
        }
    }

    /// Whether nothing is left of it but mpiexec's own processes and the bridge.
    pub fn has_nobody(&self, all: &HashMap<Pid, Process>) -> bool {
        let Stage::Serving {
            pid: Some(bridge), ..
        } = self.stage
        else {
            return false;
        };
        let mut chain: Vec<_> = procs::ancestors(all, bridge).collect();
        chain.push(bridge);
        let own = |process: &Process| chain.contains(&process.pid);
        self.answers.is_empty()
            && chain.contains(&self.pid)
            && procs::descendants(all, self.pid).iter().all(own)
    }

    /// Whether it was seen idle, and is to be looked at again.
    pub fn seems_idle(&self) -> bool {
        self.idle.is_some() && !self.let_go
    }

    /// Whether that was long enough ago.
    pub fn has_been_idle(&self) -> bool {
        self.idle.is_some_and(|since| since.elapsed() > SETTLED)
    }

    /// Whether it can be asked, now or soon.
    pub fn can_be_asked(&self) -> bool {
        !self.task.of_its_own
            && !self.let_go
            && self.ending.is_none()
            && !matches!(self.stage, Stage::Left)
    }

    /// Whether its bridge has not come yet.
    pub fn is_starting(&self) -> bool {
        matches!(self.stage, Stage::Starting(_))
    }

    /// Whether the bridge is there.
    pub fn is_serving(&self) -> bool {
        matches!(self.stage, Stage::Serving { .. })
    }

    /// Whether its bridge is gone, and mpiexec goes on. It mostly ends the job then, and is given this long.
    pub fn is_broken_for(&self, patience: Duration) -> bool {
        self.status.is_none()
            && self.ending.is_none()
            && self
                .broken_since
                .is_some_and(|since| since.elapsed() >= patience)
    }

    /// Lets the bridge go, in good order: the job then lasts as long as its children.
    pub fn let_go(&mut self) {
        if !std::mem::replace(&mut self.let_go, true) {
            self.ask(Message::line("cmd=finalize"), Asker::Agent);
        }
    }

    /// A bridge that goes before `finalize` is answered is a process that failed.
    fn hang_up_if_let_go(&mut self) {
        if self.let_go && self.answers.is_empty() {
            self.hang_up();
        }
    }

    /// Hangs up: after `finalize` the bridge ends well, before it the process manager ends the job.
    pub fn hang_up(&mut self) {
        if let Stage::Serving { bridge, .. } = &self.stage {
            let _ = bridge.shutdown(Shutdown::Both);
        }
        self.stage = Stage::Left;
    }

    /// Sends mpiexec and what it has in its process group a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process_group(self.pid, signal);
    }

    /// Asks mpiexec to end the job. It alone: its proxies are in its process group, and would complain of each other.
    pub fn terminate(&mut self) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(Instant::now());
        self.remains = procs::descendants(&procs::all(), self.pid);
        self.hang_up();
        if self.status.is_none() {
            let _ = rustix::process::kill_process(self.pid, Signal::TERM);
        }
    }

    /// Kills what has not ended by itself.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        // Intel's proxies outlive a mpiexec that is killed, each in a process group of its own.
        for process in std::mem::take(&mut self.remains) {
            process.kill();
        }
    }

    /// Whether anything of it may go on, now that mpiexec has ended: a launcher may have put itself into the
    /// background.
    pub fn goes_on(&self) -> bool {
        match self.stage {
            Stage::Starting(_) => rustix::process::test_kill_process_group(self.pid).is_ok(),
            Stage::Serving { .. } => self.background,
            Stage::Left => false,
        }
    }

    /// The sockets on which something may happen.
    pub fn sockets(&self) -> Vec<rustix::fd::BorrowedFd<'_>> {
        use rustix::fd::AsFd;
        match &self.stage {
            Stage::Starting(reception) => reception.sockets(),
            Stage::Serving { bridge, .. } => vec![bridge.as_fd()],
            Stage::Left => Vec::new(),
        }
    }

    /// Looks at its sockets. `ready` tells, in the order of [`Job::sockets`], on which something happened.
    pub fn attend(&mut self, ready: &[bool]) -> Vec<Event> {
        match &mut self.stage {
            Stage::Starting(_) => self.receive(ready),
            Stage::Serving { .. } if ready.first() == Some(&true) => self.listen(),
            _ => Vec::new(),
        }
    }

    /// Sees to who comes, until the bridge has come.
    fn receive(&mut self, ready: &[bool]) -> Vec<Event> {
        let Stage::Starting(reception) = &mut self.stage else {
            return Vec::new();
        };
        match reception.receive(ready) {
            None => Vec::new(),
            Some((Greeting::NoManager, _)) => vec![Event::NoManager],
            Some((Greeting::Ready(pid), bridge)) => {
                let _ = bridge.set_nonblocking(false);
                let _ = bridge.set_nodelay(true);
                let _ = bridge.set_write_timeout(Some(PATIENCE));
                let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
                self.stage = Stage::Serving {
                    bridge,
                    pid,
                    framer: Framer::default(),
                };
                for (message, asker) in std::mem::take(&mut self.task.questions) {
                    self.ask(message, asker);
                }
                vec![Event::Ready]
            }
        }
    }

    /// Hears what the process manager answers.
    fn listen(&mut self) -> Vec<Event> {
        let Stage::Serving { bridge, framer, .. } = &mut self.stage else {
            return Vec::new();
        };
        let mut events = Vec::new();
        let mut buffer = [0; 65536];
        let count = patient::read(bridge, &mut buffer).unwrap_or(0);
        framer.push(&buffer[..count]);
        let mut broken = count == 0;
        loop {
            match framer.next() {
                Ok(Some(message)) => {
                    log::trace!("job {}: {}", self.task.number, Escaped(message.bytes()));
                    if self.answers.pop_front() == Some(Asker::Program) {
                        events.push(Event::Answer(message));
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        if broken {
            self.broken = !self.let_go;
            self.broken_since = self.broken.then(Instant::now);
            self.hang_up();
        } else {
            self.hang_up_if_let_go();
        }
        events
    }
}
