//! A job: an mpiexec that the agent started, and the bridge in it, through which the agent asks it what a program asks its
//! process manager.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::launcher::{Candidate, How};
use crate::logging::Escaped;
use crate::patient;
use crate::pmi::{Framer, Message};
use crate::tree::{self, Process};

/// Where a bridge finds its agent, and the key that only the two know: loopback or not, anyone could connect.
#[derive(Debug, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
    key: String,
}

/// What a bridge says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Its process manager serves it. Its process id, which is of use to an agent on the same host.
    Ready(u32),
    /// There is no process manager that speaks PMI-1 to it.
    NoManager,
}

impl Address {
    /// In the environment of mpiexec, and so of the bridge. Other users can't read it there.
    pub const VARIABLE: &str = "SPAWNFIX_BRIDGE";

    pub fn parse(text: &str) -> Option<Address> {
        let mut words = text.split(' ');
        let mut word = || words.next();
        Some(Address {
            host: word()?.to_owned(),
            port: word()?.parse().ok()?,
            key: word()?.to_owned(),
        })
    }

    /// The line by which a bridge makes itself known.
    pub fn greeting(&self, greeting: Greeting) -> String {
        match greeting {
            Greeting::Ready(pid) => format!("{} ready {pid}\n", self.key),
            Greeting::NoManager => format!("{} no-manager\n", self.key),
        }
    }

    /// What a greeting begins with: a bridge says it as soon as it is connected, and the rest when it knows it.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether this begins with the key. Whatever is wrong with it, that takes the same time.
    fn is_known_to(&self, said: &[u8]) -> bool {
        let pairs = said.iter().zip(self.key.as_bytes());
        said.len() >= self.key.len() && pairs.fold(0, |wrong, (a, b)| wrong | (a ^ b)) == 0
    }

    /// What this line, of one who knows the key, says behind it.
    fn greeted(&self, line: &[u8]) -> Option<Greeting> {
        let words = std::str::from_utf8(line.get(self.key.len()..)?).ok()?;
        match words.split_whitespace().collect::<Vec<_>>()[..] {
            ["ready", pid] => Some(Greeting::Ready(pid.parse().ok()?)),
            ["no-manager"] => Some(Greeting::NoManager),
            _ => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.host, self.port, self.key)
    }
}

/// This host's name, as others may know it.
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The variables by which hydra is told of hosts to launch on (src/pm/hydra/lib/tools/bootstrap/external and
/// mpiexec/options.c in MPICH), Intel's its own. With one of them, the bridge may be on another host.
const HOSTS: [&str; 9] = [
    "HYDRA_HOST_FILE",
    "I_MPI_HYDRA_HOST_FILE",
    "SLURM_JOB_ID",
    "SLURM_NODELIST",
    "PBS_NODEFILE",
    "LSB_MCPU_HOSTS",
    "PE_HOSTFILE",
    "COBALT_NODEFILE",
    "LOADL_HOSTFILE",
];

/// The variable that tells hydra of hosts, if one does.
pub fn told_of_hosts() -> Option<&'static str> {
    HOSTS
        .into_iter()
        .find(|name| std::env::var_os(name).is_some())
}

/// A connection over which nobody has made itself known yet. Any user of this host, or of others, may have opened it, and
/// thousands more, to keep the bridge from being heard.
struct Stranger {
    stream: TcpStream,
    said: Vec<u8>,
    since: Instant,
}

/// What came of a stranger.
enum Heard {
    /// It may say more.
    Waits,
    /// It has hung up, or is to be hung up on.
    Dismissed,
    Greeted(Greeting),
}

impl Stranger {
    fn new(stream: TcpStream) -> Stranger {
        Stranger {
            stream,
            said: Vec::new(),
            since: Instant::now(),
        }
    }

    /// Hears what it has to say by now, and not a byte behind its greeting: that is for the next reader.
    fn hear(&mut self, address: &Address) -> Heard {
        let key = address.key.len();
        let mut buffer = [0; 64];
        loop {
            let more = key.saturating_sub(self.said.len()).clamp(1, buffer.len());
            match self.stream.read(&mut buffer[..more]) {
                Ok(count @ 1..) => self.said.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.waits(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                _ => return Heard::Dismissed,
            }
            // Not before it has said as much as a key is: it would find the key out digit by digit.
            if self.said.len() < key {
                continue;
            }
            if !address.is_known_to(&self.said) {
                return Heard::Dismissed;
            }
            if self.said.last() == Some(&b'\n') || self.said.len() > LONGEST_GREETING {
                let greeting = address.greeted(&self.said);
                return greeting.map_or(Heard::Dismissed, Heard::Greeted);
            }
        }
    }

    /// One that knows the key is the bridge, and has all the time that its process manager takes.
    fn waits(&self) -> Heard {
        if self.said.len() >= KEY_LENGTH || self.since.elapsed() < PATIENCE {
            Heard::Waits
        } else {
            Heard::Dismissed
        }
    }
}

/// How long a stranger may be silent, and how many there may be at a time: the oldest makes room.
const PATIENCE: Duration = Duration::from_secs(10);
const MOST_STRANGERS: usize = 256;
/// How many may come before anything else is attended to.
const MOST_AT_A_TIME: usize = 512;
/// How many may wait to be accepted: as many as Linux allows (net.core.somaxconn). std asks for 128.
const BACKLOG: libc::c_int = 4096;
/// A key, in hexadecimal digits.
const KEY_LENGTH: usize = 32;
const LONGEST_GREETING: usize = 100;
/// How long mpiexec may take to find that a process which has ended had crashed.
const SETTLED: Duration = Duration::from_secs(1);

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
    Starting {
        listener: TcpListener,
        address: Address,
        strangers: Vec<Stranger>,
    },
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
        let here = if told_of_hosts().is_some() {
            Ipv4Addr::UNSPECIFIED
        } else {
            Ipv4Addr::LOCALHOST
        };
        let listener = TcpListener::bind((here, 0)).map_err(How::resources)?;
        listener.set_nonblocking(true).map_err(How::resources)?;
        // SAFETY: listen takes no pointers; the socket listens already, and goes on with a longer queue.
        unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) };
        let address = Address {
            host: host_name(),
            port: listener.local_addr().map_err(How::resources)?.port(),
            key: key().map_err(How::resources)?,
        };
        // Called by its path: hydra finds its proxy beside it.
        let mut command = Command::new(&candidate.file);
        command
            .args(["-n", "1"])
            .arg(own_file().map_err(How::resources)?)
            .arg("--bridge");
        command.env(Address::VARIABLE, address.to_string());
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
            stage: Stage::Starting {
                listener,
                address,
                strangers: Vec::new(),
            },
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
        matches!(self.stage, Stage::Starting { .. })
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
            Stage::Starting { .. } => rustix::process::test_kill_process_group(self.pid).is_ok(),
            Stage::Serving { .. } => self.background,
            Stage::Left => false,
        }
    }

    /// The sockets on which something may happen.
    pub fn sockets(&self) -> Vec<rustix::fd::BorrowedFd<'_>> {
        use rustix::fd::AsFd;
        match &self.stage {
            Stage::Starting {
                listener,
                strangers,
                ..
            } => {
                let mut all = vec![listener.as_fd()];
                all.extend(strangers.iter().map(|stranger| stranger.stream.as_fd()));
                all
            }
            Stage::Serving { bridge, .. } => vec![bridge.as_fd()],
            Stage::Left => Vec::new(),
        }
    }

    /// Looks at its sockets. `ready` tells, in the order of [`Job::sockets`], on which something happened.
    pub fn attend(&mut self, ready: &[bool]) -> Vec<Event> {
        match &mut self.stage {
            Stage::Starting { .. } => self.receive(ready),
            Stage::Serving { .. } if ready.first() == Some(&true) => self.listen(),
            _ => Vec::new(),
        }
    }

    /// Sees to who comes, until the one comes who knows the key.
    fn receive(&mut self, ready: &[bool]) -> Vec<Event> {
        let Stage::Starting {
            listener,
            address,
            strangers,
        } = &mut self.stage
        else {
            return Vec::new();
        };
        let mut known = None;
        for (at, mut stranger) in std::mem::take(strangers).into_iter().enumerate() {
            let heard = match ready.get(at + 1) {
                Some(true) => stranger.hear(address),
                _ => stranger.waits(),
            };
            match heard {
                Heard::Waits => strangers.push(stranger),
                Heard::Dismissed => {}
                Heard::Greeted(greeting) => known = Some((greeting, stranger.stream)),
            }
        }
        let mut most = MOST_AT_A_TIME;
        while known.is_none() && ready.first() == Some(&true) && most > 0 {
            most -= 1;
            let mut stranger = match listener.accept() {
                Ok((stream, _)) => match stream.set_nonblocking(true) {
                    Ok(()) => Stranger::new(stream),
                    Err(_) => continue,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // It has gone already, or there are no more descriptors.
                Err(_) => {
                    known = make_room(strangers, address);
                    continue;
                }
            };
            match stranger.hear(address) {
                Heard::Dismissed => {}
                Heard::Greeted(greeting) => known = Some((greeting, stranger.stream)),
                Heard::Waits => {
                    if strangers.len() >= MOST_STRANGERS {
                        known = make_room(strangers, address);
                    }
                    strangers.push(stranger);
                }
            }
        }
        match known {
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

/// Hangs up on the stranger that has been there longest without the key. It is heard a last time: it may be the bridge.
fn make_room(strangers: &mut Vec<Stranger>, address: &Address) -> Option<(Greeting, TcpStream)> {
    let unknown = |stranger: &Stranger| stranger.said.len() < KEY_LENGTH;
    let at = strangers.iter().position(unknown)?;
    match strangers[at].hear(address) {
        Heard::Greeted(greeting) => return Some((greeting, strangers.remove(at).stream)),
        Heard::Waits if !unknown(&strangers[at]) => {}
        _ => drop(strangers.remove(at)),
    }
    None
}

/// 128 bits that nobody else knows.
fn key() -> io::Result<String> {
    let mut bytes = [0; KEY_LENGTH / 2];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn address() -> Address {
        Address::parse(&format!("here 4711 {KEY}")).unwrap()
    }

    /// What the agent makes of one who says this.
    fn heard(pieces: &[&str]) -> Vec<&'static str> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut stranger = Stranger::new(stream);
        let mut heard = Vec::new();
        for piece in pieces {
            other.write_all(piece.as_bytes()).unwrap();
            // Until it is there.
            stranger.stream.set_nonblocking(false).unwrap();
            let _ = stranger.stream.peek(&mut [0]);
            stranger.stream.set_nonblocking(true).unwrap();
            heard.push(match stranger.hear(&address()) {
                Heard::Waits => "waits",
                Heard::Dismissed => "dismissed",
                Heard::Greeted(Greeting::Ready(7)) => "ready",
                Heard::Greeted(_) => "no manager",
            });
        }
        heard
    }

    #[test]
    fn who_knows_the_key_is_greeted_and_nobody_else() {
        assert_eq!(heard(&[KEY, " ready 7\n"]), ["waits", "ready"]);
        assert_eq!(heard(&[&format!("{KEY} no-manager\n")]), ["no manager"]);
        let wrong = KEY.replace('f', "e");
        assert_eq!(heard(&[&format!("{wrong} ready 7\n")]), ["dismissed"]);
        assert_eq!(heard(&[&KEY[1..], " ready 7\n"]), ["waits", "dismissed"]);
        assert_eq!(heard(&[KEY, &" ".repeat(100)]), ["waits", "dismissed"]);
    }

    #[test]
    fn a_wrong_digit_is_no_news_before_the_last_one() {
        let half = &KEY[..16];
        let pieces = |half| heard(&[half, &"0".repeat(15), "0"]);
        assert_eq!(pieces(half), ["waits", "waits", "dismissed"]);
        assert_eq!(pieces(&half.replace('0', "1")), pieces(half));
    }

    #[test]
    fn what_is_behind_the_greeting_is_for_the_next_reader() {
        assert_eq!(heard(&[&format!("{KEY} ready 7\ncmd=x\n")]), ["ready"]);
    }
}
