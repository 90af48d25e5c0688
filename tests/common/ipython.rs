//! IPython's full prompt, on a terminal that answers the prompt's questions as a terminal does.

use std::ffi::OsString;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::{LOOK, Mpi, Program, Report, Session, app, join, lock, skip};

/// From key to key.
const KEY: Duration = Duration::from_millis(2);
/// Someone waits this long for the next prompt, then types on.
const PROMPT: Duration = Duration::from_millis(1500);
/// Longer than it takes to leave.
const LEAVING: Duration = Duration::from_secs(30);
/// The same without the library, where one that has lost its input won't read `exit`.
const LEAVING_WITHOUT: Duration = Duration::from_secs(12);
/// What the prompt asks for the cursor's place (DSR, ECMA-48), and the answer that it is at the top left. The answer is
/// input like any key: what reads the terminal in its place takes it as well.
const WHERE_IS_THE_CURSOR: &[u8] = b"\x1b[6n";
const HERE: &[u8] = b"\x1b[1;1R";

/// The program `ipython` of an MPI's environment.
pub fn program(mpi: Mpi) -> Program {
    Program::new(mpi.bin("ipython"))
        .arg("--no-banner")
        .under(mpi)
}

/// What someone types at.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    IPython,
    SimplePrompt,
    Python,
    R,
    C,
    /// A Jupyter kernel, whose cells are typed at kernel.py.
    Kernel,
}

impl Kind {
    /// Whether it can be had: R, which no MPI brings along, may not be there, and the reason is said then.
    pub fn is_here(self) -> bool {
        let here = !matches!(self, Kind::R) || Command::new("R").arg("--version").output().is_ok();
        if !here {
            skip("there is no R");
        }
        here
    }

    pub fn program(self, mpi: Mpi) -> Program {
        match self {
            Kind::IPython => program(mpi).with_words(),
            Kind::SimplePrompt => program(mpi).arg("--simple-prompt").with_words(),
            Kind::Python => Program::new(mpi.bin("python"))
                .arg("-q")
                .under(mpi)
                .with_words(),
            Kind::R => Program::new("R")
                .args(["--no-save", "--quiet"])
                .under(mpi)
                .beside("session.R")
                .env(
                    "SESSION_R",
                    mpi.compile_as("session_r.c", &["-shared", "-fPIC"]),
                )
                .env("APP_CHILD", mpi.compile("session.c"))
                .env("R_LD_LIBRARY_PATH", r_library_path(mpi)),
            Kind::C => Program::new(mpi.compile("session.c")).under(mpi),
            Kind::Kernel => Program::new(mpi.bin("python"))
                .arg(app("kernel.py"))
                .arg("console")
                .under(mpi)
                .with_words(),
        }
    }

    /// What brings the words of session.py to hand.
    pub fn words(self) -> &'static str {
        match self {
            Kind::R => "source('session.R')",
            _ => "import os, time; from session import *",
        }
    }

    /// What ends it: in good order, or at once and without MPI_Finalize.
    pub fn way_out(self, in_order: bool) -> &'static str {
        match (self, in_order) {
            (Kind::R, true) => "bye()",
            (Kind::R, false) => "quit_at_once()",
            (_, true) | (Kind::Kernel, _) => "exit()",
            (_, false) => "os._exit(0)",
        }
    }

    pub fn start(self, program: Program) -> IPython {
        match self {
            Kind::IPython | Kind::SimplePrompt => IPython::start(program),
            Kind::Python | Kind::R | Kind::Kernel => {
                let mut prompt = IPython::at(program.start());
                prompt.printed("> ");
                prompt
            }
            Kind::C => IPython::at(program.start()),
        }
    }

    /// How one says this here.
    pub fn say(self, word: &str) -> String {
        match self {
            Kind::C => word.to_owned(),
            _ => format!("{word}()"),
        }
    }
}

/// R puts its own directories in front of LD_LIBRARY_PATH, the system's among them, which may have another libfabric.
fn r_library_path(mpi: Mpi) -> OsString {
    let home = Command::new("R").arg("RHOME").output().expect("R is here");
    let home = String::from_utf8_lossy(&home.stdout).trim().to_owned();
    let lib = mpi.prefix().join("lib");
    let path = [mpi.library_path(&lib), lib.join("mpich").into()];
    let path = path
        .into_iter()
        .fold(OsString::new(), |path, next| join(join(path, next), ":"));
    join(path, home + "/lib")
}

/// An IPython at which someone types. Its prompt numbers the cells: `In [7]:` is shown when six have been read.
pub struct IPython {
    session: Session,
    typed: Vec<String>,
    heard: usize,
}

impl IPython {
    /// Starts it and waits for its first prompt.
    pub fn start(program: Program) -> Self {
        let mut prompt = Self::at(program.start());
        let limit = prompt.session.deadline;
        prompt.wait(limit, |prompt| prompt.cell() == 1);
        prompt
    }

    /// Types at a prompt, whosever it is, as at an IPython.
    pub fn at(session: Session) -> Self {
        Self {
            session,
            typed: Vec::new(),
            heard: 0,
        }
    }

    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// What came on the terminal, without control sequences.
    pub fn screen(&self) -> String {
        plain(&self.session.screen())
    }

    /// The number of its latest prompt.
    pub fn cell(&self) -> usize {
        let screen = self.screen();
        let numbers = screen
            .split("In [")
            .skip(1)
            .filter_map(|rest| rest.split(']').next()?.parse().ok());
        numbers.max().unwrap_or(0)
    }

    /// Answers what the prompt has asked since the last time.
    fn answer(&mut self) {
        let questions = {
            let output = lock(&self.session.output.text);
            let news = &output[self.heard..];
            // The start of a question whose rest is to come is looked at again.
            self.heard = output.len() - news.len().min(WHERE_IS_THE_CURSOR.len() - 1);
            news.windows(WHERE_IS_THE_CURSOR.len())
                .filter(|text| *text == WHERE_IS_THE_CURSOR)
                .count()
        };
        for _ in 0..questions {
            self.session.send(HERE);
        }
    }

    /// Waits, and answers the prompt's questions meanwhile. False: it ended, or that did not come true in time.
    fn wait(&mut self, limit: Instant, what: impl Fn(&Self) -> bool) -> bool {
        loop {
            let ended = self.session.ended();
            self.answer();
            if what(self) {
                return true;
            }
            if ended || Instant::now() > limit.min(self.session.deadline) {
                return false;
            }
            thread::sleep(LOOK);
        }
    }

    /// Types a line key by key and does not look up.
    pub fn type_on(&mut self, line: &str) {
        self.typed.push(line.to_owned());
        for key in line.bytes().chain([b'\r']) {
            if self.session.ended() {
                return;
            }
            self.session.send([key]);
            thread::sleep(KEY);
            self.answer();
        }
    }

    /// Types a line, and waits for the next prompt, as long as people do. False: it did not come.
    pub fn type_line(&mut self, line: &str) -> bool {
        let before = self.cell();
        self.type_on(line);
        self.wait(Instant::now() + PROMPT, |prompt| prompt.cell() > before)
    }

    /// The same, pasted. IPython draws its prompt anew at each key: keys are for where a launcher may take some of them.
    pub fn paste_line(&mut self, line: &str) -> bool {
        let before = self.cell();
        self.paste(line);
        self.wait(Instant::now() + PROMPT, |prompt| prompt.cell() > before)
    }

    /// Pastes a line.
    pub fn paste(&mut self, line: &str) {
        self.typed.push(line.to_owned());
        if !self.session.ended() {
            self.session.send(format!("{line}\r"));
        }
    }

    /// Waits until it printed this. False: it ended, or the deadline passed.
    pub fn printed(&mut self, text: &str) -> bool {
        self.wait(self.session.deadline, |prompt| {
            prompt.screen().contains(text)
        })
    }

    /// Asks it to report, as the fact `In`, each cell that it read.
    pub fn report_cells(&mut self) {
        self.paste_line(
            r#"print(*["In=" + cell for cell in In[1:]], sep="\n", file=open("report", "w"))"#,
        );
    }

    /// What was typed, line by line.
    pub fn typed(&self) -> Vec<String> {
        self.typed.clone()
    }

    /// How often this has been reported.
    pub fn reports(&self, name: &str) -> usize {
        let facts = self.session.facts();
        facts.iter().filter(|(n, _)| n == name).count()
    }

    /// What was reported by this name, the last time.
    pub fn fact(&self, name: &str) -> Option<String> {
        let facts = self.session.facts().into_iter().rev();
        let mut values = facts.filter(|(n, _)| n == name).map(|(_, value)| value);
        values.next()
    }

    /// Waits until what is under tests/apps reported this so often. False: it ended, or the deadline passed.
    pub fn reported(&mut self, name: &str, times: usize) -> bool {
        let limit = self.session.deadline.duration_since(Instant::now());
        self.reported_within(limit, name, times)
    }

    /// The same, for so long.
    pub fn reported_within(&mut self, limit: Duration, name: &str, times: usize) -> bool {
        self.wait(Instant::now() + limit, |prompt| {
            prompt.reports(name) >= times
        })
    }

    /// Waits until one of these has been reported. False: it ended, or none came in time.
    pub fn reported_any_within(&mut self, limit: Duration, names: &[&str]) -> bool {
        self.wait(Instant::now() + limit, |prompt| {
            let facts = prompt.session.facts();
            facts.iter().any(|(name, _)| names.contains(&name.as_str()))
        })
    }

    /// Waits until the log says this so often. False: it ended, or that did not come in time.
    pub fn logged_within(&mut self, limit: Duration, text: &str, times: usize) -> bool {
        let log = self.session.dir().join("log");
        self.wait(Instant::now() + limit, |_| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            log.matches(text).count() >= times
        })
    }

    /// Types `exit` and waits for its end.
    pub fn leave(self) -> Report {
        self.leave_by("exit")
    }

    /// Types this and waits for its end.
    pub fn leave_by(mut self, word: &str) -> Report {
        self.type_on(word);
        self.finish()
    }

    /// Waits for its end, which is not far.
    pub fn finish(mut self) -> Report {
        let leaving = match self.session.library {
            true => LEAVING,
            false => LEAVING_WITHOUT,
        };
        let limit = Instant::now() + leaving;
        self.session.deadline = self.session.deadline.min(limit);
        let mut report = self.session.finish();
        report.output = plain(&report.output);
        report
    }
}

/// A terminal's output without control sequences: CSI, OSC and the two-byte ones, carriage returns and bells.
fn plain(output: &str) -> String {
    let mut plain = String::new();
    let mut rest = output.chars();
    while let Some(char) = rest.next() {
        match char {
            '\x1b' => match rest.next() {
                Some('[') => {
                    rest.find(|char| matches!(char, '@'..='~'));
                }
                Some(']') => {
                    rest.find(|char| matches!(char, '\x07' | '\\'));
                }
                _ => (),
            },
            '\r' | '\x07' => (),
            _ => plain.push(char),
        }
    }
    plain
}
