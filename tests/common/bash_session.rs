//! Someone who sits at tests/apps/session.c, which was started from a bash with job control.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::thread;
use std::time::{Duration, Instant};

use super::{LOOK, Mpi, Process, Program, Session};

pub const CTRL_Z: u8 = 26;
pub const CTRL_BACKSLASH: u8 = 28;

/// What [`BashSession::who`] says.
pub const ALL: &str = "application, launcher, child";
pub const LEFT: &str = "launcher, child";
pub const NOBODY: &str = "nobody";
pub const STOPPED: &str = " (stopped)";

/// What is said to stay must stay this long. What goes is gone in a fraction of it, except Open MPI's, which takes 2
/// s.
const STAYS: Duration = Duration::from_millis(1200);
/// How long what is said to go may take, on a machine with more to do.
const GOES: Duration = Duration::from_secs(15);
const PROMPT: &str = "bash: ";

pub struct BashSession {
    pub session: Session,
    control: File,
}

impl BashSession {
    /// Starts bash with these settings, in it what comes `first` and then the program, and waits for the child that it
    /// spawns.
    pub fn start(mpi: Mpi, first: &str, settings: impl FnOnce(Program) -> Program) -> Self {
        let bash = Program::new("bash").args(["--norc", "--noprofile", "-i"]);
        let bash = bash.env("PS1", PROMPT).under(mpi);
        let session = settings(bash).start();
        let control = session.dir().join("control");
        let path = CString::new(control.clone().into_os_string().into_vec()).expect("no NUL");
        // SAFETY: a C string.
        let made = unsafe { libc::mkfifo(path.as_ptr(), 0o600) };
        assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
        let control = OpenOptions::new().read(true).write(true).open(control);
        let mut bash = Self {
            session,
            control: control.expect("it was just made"),
        };
        assert!(bash.session.printed(PROMPT, 1), "bash prompts");
        bash.command(&format!("{first}{}", mpi.compile("session.c").display()));
        let there = bash.reported("spawned", 1) && bash.reported("child", 1);
        assert!(there, "{}: it spawns\n{}", mpi.name, bash.session.screen());
        bash
    }

    /// Types a command to bash.
    pub fn command(&mut self, command: &str) {
        self.session.send(format!("{command}\r"));
    }

    /// Waits until bash prompts once more than it has.
    pub fn bash_prompts(&mut self, act: impl FnOnce(&mut Self)) -> bool {
        let before = self.session.screen().matches(PROMPT).count();
        act(self);
        self.session.printed(PROMPT, before + 1)
    }

    /// Tells the program, not through the terminal, of which a launcher may take what is typed.
    pub fn tell(&mut self, words: &str) {
        let _ = writeln!(self.control, "{words}");
    }

    /// Waits until the program, or its child, reported this so often. False: not in time, or they are gone.
    pub fn reported(&mut self, name: &str, times: usize) -> bool {
        let count = |session: &Session| {
            let facts = session.facts();
            facts.iter().filter(|(n, _)| n == name).count()
        };
        while count(&self.session) < times {
            if Instant::now() > self.session.deadline || self.session.ended() {
                return false;
            }
            thread::sleep(LOOK);
        }
        true
    }

    /// Lets the program work, and waits until it does.
    pub fn work(&mut self, time: usize) {
        self.tell("work");
        assert!(self.reported("working", time), "it works");
    }

    /// Asks the child, over MPI. True: it answers.
    pub fn ask(&mut self, time: usize) -> bool {
        let asked = |bash: &Self, name: &str| {
            let fact = (name.to_owned(), time.to_string());
            bash.session.facts().contains(&fact)
        };
        self.tell("ask");
        while !asked(self, "answered") && !asked(self, "unanswered") && self.program().is_some() {
            if Instant::now() > self.session.deadline {
                return false;
            }
            thread::sleep(LOOK);
        }
        asked(self, "answered")
    }

    /// The program's process.
    pub fn program(&self) -> Option<i32> {
        self.find(|process| part(process) == Some(Part::Application))
    }

    /// The process that libmpi launched: the agent.
    pub fn agent(&self) -> Option<i32> {
        self.find(|process| part(process) == Some(Part::Agent))
    }

    /// The mpiexec that serves it.
    pub fn mpiexec(&self) -> Option<i32> {
        self.find(|process| {
            process.command.ends_with("spawnfix --bridge") && process.command.contains("mpiexec")
        })
    }

    fn find(&self, which: impl Fn(&Process) -> bool) -> Option<i32> {
        let mut all = self.session.others().into_iter();
        all.find(which).map(|process| process.pid)
    }

    /// Sends the program a signal.
    pub fn kill(&self, signal: i32) {
        let pid = self.program().expect("it runs");
        // SAFETY: a plain system call; the process carries this session's mark.
        unsafe { libc::kill(pid, signal) };
    }

    /// Who lives: `application, launcher, child`, or those of them that do, each `(stopped)` if it is.
    pub fn who(&self) -> String {
        let all = self.session.others();
        let named = [
            (Part::Application, "application"),
            (Part::Launcher, "launcher"),
            (Part::Child, "child"),
        ];
        let living = named.iter().filter_map(|(which, name)| {
            let mut its = all
                .iter()
                .filter(|process| part(process) == Some(*which))
                .peekable();
            its.peek()?;
            let stopped = its.any(|process| process.stopped);
            Some(format!("{name}{}", if stopped { STOPPED } else { "" }))
        });
        let living: Vec<_> = living.collect();
        if living.is_empty() {
            let agent = all.iter().any(|process| part(process) == Some(Part::Agent));
            return if agent { "the agent" } else { NOBODY }.to_owned();
        }
        living.join(", ")
    }

    /// Prints what lives, and the log.
    pub fn print_all(&self, what: &str) {
        let all = self.session.others().into_iter();
        let commands: Vec<_> = all.map(|process| process.command).collect();
        let log = fs::read_to_string(self.session.dir().join("log")).unwrap_or_default();
        println!("{what}\n{}\n{log}", commands.join("\n"));
    }

    /// Waits until exactly these live, and stay; gives who it was in the end.
    pub fn become_of(&self, expected: &str) -> String {
        let limit = Instant::now() + GOES;
        let mut since = None;
        loop {
            let who = self.who();
            if who != expected {
                since = None;
            } else if expected == NOBODY || since.get_or_insert_with(Instant::now).elapsed() > STAYS
            {
                return who;
            }
            if since.is_none() && Instant::now() > limit {
                return who;
            }
            thread::sleep(LOOK);
        }
    }
}

/// Which part of the play a process has.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Application,
    /// mpiexec, its proxies and the bridge; prte.
    Launcher,
    Child,
    /// It lives as long as anybody else does.
    Agent,
}

fn part(process: &Process) -> Option<Part> {
    let command = &process.command;
    if command.ends_with("/session child") {
        Some(Part::Child)
    } else if command.ends_with("/session") {
        Some(Part::Application)
    } else if command.starts_with("spawnfix --agent") {
        Some(Part::Agent)
    } else if ["mpiexec", "hydra_", "spawnfix --bridge", "prte", "orted"]
        .iter()
        .any(|name| command.contains(name))
    {
        Some(Part::Launcher)
    } else {
        None
    }
}
