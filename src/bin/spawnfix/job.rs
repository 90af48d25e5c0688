//! A job: an mpiexec that the agent started, and the bridge in it, through which the agent asks it what a program asks its
//! process manager.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use self::reception::Reception;
use crate::greeting::{Address, Greeting};
use crate::launcher::{Candidate, How};
use crate::logging::Escaped;
use crate::patient;
use crate::pmi::{Framer, Message};
use crate::tree::{self, Process};

mod reception;

/// How long mpiexec may take to find that a process which has ended had crashed.
const SETTLED: Duration = Duration::from_secs(1);
/// How long the bridge may take to take what it is sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whom an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    Program,
    /// The agent itself, which only has to know that it came.
    Agent,
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
    pub number: usize,
    /// What it was started for, for the log.
    pub purpose: String,
    pub launcher: PathBuf,
    /// mpiexec's process, which leads a process group.
    pub pid: Pid,
    stage: Stage,
    /// What is to be asked as soon as the bridge is there.
    questions: Vec<(Message, Asker)>,
    /// Whose answers are to come, in their order.
    answers: VecDeque<Asker>,
    /// Whether it serves one spawn and nothing else.
    pub of_its_own: bool,
    /// The bridge went away before it was let go: a process of the job failed, or mpiexec was killed.
    pub broken: bool,
    pub status: Option<ExitStatus>,
    /// Told once: mpiexec ended, and something of it goes on in the background.
    pub background: bool,
    /// When it was told to end.
    pub ending: Option<Instant>,
    /// Its processes at that time.
    remains: Vec<Process>,
    /// Whether it was told to let the bridge go.
    leaving: bool,
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
    /// Starts mpiexec, in this directory, with these changes to the environment.
    ///
    /// # Errors
    /// It could not be executed, or there are no resources for it.
    pub fn start(
        number: usize,
        purpose: &str,
        candidate: &Candidate,
        directory: Option<&Path>,
        environment: &[(OsString, Option<OsString>)],
    ) -> Result<Job, How> {
        let reception = Reception::open().map_err(How::resources)?;
        // Called by its path: hydra finds its proxy beside it.
        let mut command = Command::new(&candidate.file);
        command
            .args(["-n", "1"])
            .arg(own_file().map_err(How::resources)?)
            .arg("--bridge");
        command.env(Address::VARIABLE, reception.address().to_string());
        for (name, value) in environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        command.process_group(0);
        #[cfg(target_os = "linux")]
        {
            let agent = rustix::process::getpid();
            // SAFETY: prctl and getppid are async-signal-safe.
            unsafe {
                command.pre_exec(move || {
                    // The job does not outlive an agent that is killed.
                    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
                    if rustix::process::getppid() != Some(agent) {
                        return Err(io::ErrorKind::BrokenPipe.into());
                    }
                    Ok(())
                });
            }
        }
        let child = command.spawn().map_err(How::not_run)?;
        let pid = Pid::from_child(&child);
        log::info!(
            "job {number}, {purpose}: {} is launched, {}, as process {}",
            Escaped(candidate.file.as_os_str().as_bytes()),
            candidate.why,
            child.id()
        );
        Ok(Job {
            number,
            purpose: purpose.to_owned(),
            launcher: candidate.file.clone(),
            pid,
            stage: Stage::Starting(reception),
            questions: Vec::new(),
            answers: VecDeque::new(),
            of_its_own: false,
            broken: false,
            status: None,
            background: false,
            ending: None,
            remains: Vec::new(),
            leaving: false,
            idle: None,
        })
    }

    /// Asks it, at once or as soon as it can be asked.
    pub fn ask(&mut self, message: Message, asker: Asker) {
        if let Stage::Serving { bridge, .. } = &mut self.stage {
            // If the bridge is gone, that shows when it is read.
            let _ = patient::write_all(bridge, message.bytes());
            self.answers.push_back(asker);
        } else {
            self.questions.push((message, asker));
        }
    }

    /// What was to be asked and was not, for the next mpiexec.
    pub fn unasked(self) -> Vec<(Message, Asker)> {
        self.questions
    }

    /// Lets it go if all its processes but mpiexec's own and the bridge have ended, and had a while ago: nothing more will come
    /// of it. Just after their end mpiexec may still find that one of them crashed, and is to say so. A job on other hosts
    /// may not be known so well, and stays until the program ends.
    pub fn leave_if_idle(&mut self, all: &HashMap<Pid, Process>) {
        if !self.has_nobody(all) {
            self.idle = None;
        } else if self.has_been_idle() {
            self.leave();
        } else {
            self.idle.get_or_insert_with(Instant::now);
        }
    }

    /// Whether nothing is left of it but mpiexec's own processes and the bridge.
    fn has_nobody(&self, all: &HashMap<Pid, Process>) -> bool {
        let Stage::Serving {
            pid: Some(bridge), ..
        } = self.stage
        else {
            return false;
        };
        let mut chain: Vec<_> = tree::ancestors(all, bridge).collect();
        chain.push(bridge);
        let own = |process: &Process| chain.contains(&process.pid);
        self.answers.is_empty()
            && chain.contains(&self.pid)
            && tree::descendants(all, self.pid).iter().all(own)
    }

    /// Whether it was seen idle, and is to be looked at again.
    pub fn seems_idle(&self) -> bool {
        self.idle.is_some() && !self.leaving
    }

    /// Whether that was long enough ago.
    pub fn has_been_idle(&self) -> bool {
        self.idle.is_some_and(|since| since.elapsed() > SETTLED)
    }

    /// Whether it can be asked, now or soon.
    pub fn serves(&self) -> bool {
        !self.of_its_own
            && !self.leaving
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

    /// Lets the bridge go, in good order: the job then lasts as long as its children.
    pub fn leave(&mut self) {
        if !std::mem::replace(&mut self.leaving, true) {
            self.ask(Message::line("cmd=finalize"), Asker::Agent);
        }
    }

    /// A bridge that goes before `finalize` is answered is a process that failed.
    fn hang_up_if_left(&mut self) {
        if self.leaving && self.answers.is_empty() {
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
        self.remains = tree::descendants(&tree::all(), self.pid);
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

    /// Whether anything of it may go on, now that mpiexec has ended: a launcher may have put itself into the background.
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
                for (message, asker) in std::mem::take(&mut self.questions) {
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
                    log::trace!("job {}: {}", self.number, Escaped(message.bytes()));
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
            self.broken = !self.leaving;
            self.hang_up();
        } else {
            self.hang_up_if_left();
        }
        events
    }
}

/// This program's file, for the bridge. After an update it is the new one, under the old one's name.
pub fn own_file() -> io::Result<PathBuf> {
    let file = std::env::current_exe()?;
    let bytes = file.as_os_str().as_bytes();
    Ok(match bytes.strip_suffix(b" (deleted)") {
        Some(path) => Path::new(std::ffi::OsStr::from_bytes(path)).to_owned(),
        None => file,
    })
}
