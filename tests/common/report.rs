//! What was seen of a program, and what must hold of any.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// A line of the library's log.
#[derive(Debug, PartialEq)]
pub struct Line<'a> {
    pub pid: u32,
    pub level: &'a str,
    pub text: &'a str,
}

/// What was seen of a program. Printed, it is what a bug report would hold.
pub struct Report {
    pub(super) story: String,
    pub pid: u32,
    /// None: it was still running at the deadline.
    pub status: Option<ExitStatus>,
    /// What came on the terminal, and in the pipe if there was one.
    pub output: String,
    /// SPAWNFIX_LOG_FILE.
    pub log: String,
    /// What a program of tests/apps reported.
    pub facts: Vec<(String, String)>,
    /// What a program of tests/apps read from its stdin.
    pub read: Vec<u8>,
    /// What it was sent.
    pub sent: Vec<u8>,
    /// Command lines of what it started and what outlived it.
    pub left: Vec<String>,
    /// The terminal's modes before and after, where a shell started the program.
    pub modes: Option<(String, String)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.story)?;
        match self.status {
            Some(status) => writeln!(f, "ended: {status}")?,
            None => writeln!(f, "was still running at the deadline")?,
        }
        writeln!(
            f,
            "sent {} bytes, read {}",
            self.sent.len(),
            self.read.len()
        )?;
        if self.sent.len().max(self.read.len()) < 2000 && self.sent != self.read {
            writeln!(f, "sent: {:?}", String::from_utf8_lossy(&self.sent))?;
            writeln!(f, "read: {:?}", String::from_utf8_lossy(&self.read))?;
        }
        for (name, value) in &self.facts {
            writeln!(f, "reported: {name}={value}")?;
        }
        if let Some((before, after)) = &self.modes
            && before != after
        {
            writeln!(f, "the terminal was: {before}\nand is:           {after}")?;
        }
        for command in &self.left {
            writeln!(f, "left behind: {command}")?;
        }
        let indent = |text: &str| {
            text.lines()
                .flat_map(|line| ["    ", line, "\n"])
                .collect::<String>()
        };
        write!(
            f,
            "output:\n{}log:\n{}",
            indent(&self.output),
            indent(&self.log)
        )
    }
}

impl Report {
    /// Fails the test with everything that was seen.
    #[track_caller]
    pub fn check(&self, holds: bool, what: &str) {
        assert!(holds, "expected: {what}\n{self}");
    }

    /// All that was reported by this name, in order.
    pub fn values(&self, name: &str) -> impl DoubleEndedIterator<Item = &str> {
        let facts = self.facts.iter().filter(move |(n, _)| n == name);
        facts.map(|(_, value)| value.as_str())
    }

    /// What the program reported by this name, the last time.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.values(name).next_back()
    }

    /// How often it reported this.
    pub fn count(&self, name: &str) -> usize {
        self.values(name).count()
    }

    pub fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    pub fn signal(&self) -> Option<i32> {
        self.status.and_then(|status| status.signal())
    }

    /// The library's lines among these.
    pub fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
        text.lines().filter_map(|line| {
            let (pid, rest) = line[line.find("spawnfix[")? + 9..].split_once("]: ")?;
            let (level, text) = rest.split_once(": ")?;
            Some(Line {
                pid: pid.parse().ok()?,
                level,
                text,
            })
        })
    }

    /// The log's lines from the program itself.
    pub fn said(&self) -> Vec<Line<'_>> {
        Self::lines(&self.log)
            .filter(|line| line.pid == self.pid)
            .collect()
    }

    /// The log's lines from other processes: the forked child, before it becomes the launcher, and what follows.
    pub fn said_by_others(&self) -> Vec<Line<'_>> {
        Self::lines(&self.log)
            .filter(|line| line.pid != self.pid)
            .collect()
    }

    /// The program lived, and the launcher had nothing to say.
    #[track_caller]
    pub fn check_ended_well(&self) {
        self.check(self.status.is_some(), "it ends");
        self.check(self.code() == Some(0), "exit status 0");
        // Hydra's messages start so, MPICH's and Intel's.
        for complaint in [
            "[mpiexec@",
            "[proxy:",
            "HYD",
            "BAD TERMINATION",
            "Traceback",
            "Fatal error",
        ] {
            self.check(!self.output.contains(complaint), "no message of mpiexec's");
        }
        self.check(self.left.is_empty(), "nothing is left behind");
    }

    /// An agent took mpiexec's place: where an MPI needs no cure of its input, this is what tells the library's part.
    #[track_caller]
    pub fn check_has_agent(&self) {
        self.check(
            self.log.contains("acting as mpiexec"),
            "the agent serves it",
        );
    }

    /// The library says what it does, and warns of nothing.
    #[track_caller]
    pub fn check_no_warning(&self) {
        let calm = Self::lines(&self.log).all(|line| line.level == "INFO");
        self.check(calm, "no warning");
    }

    /// The disease of most: the launcher kills what it takes input from.
    #[track_caller]
    pub fn check_killed(&self) {
        self.check(
            self.signal() == Some(libc::SIGKILL),
            "without the library it is killed",
        );
    }

    /// Each byte sent was read once, in order, without an error.
    #[track_caller]
    pub fn check_read_all(&self) {
        self.check(self.fact("read_error").is_none(), "no error while reading");
        self.check(
            self.read == self.sent,
            "every byte that was sent is read once, in order",
        );
    }
}
