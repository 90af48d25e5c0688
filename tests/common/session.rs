//! A program that runs on a pseudo-terminal, and someone who types.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{LOOK, Report, lock};

pub const CTRL_C: u8 = 3;
pub const CTRL_D: u8 = 4;

/// Every process that a test starts has it, with a value of the session's own.
pub(super) const MARK: &str = "SPAWNED_BY_TEST";
/// How long something may take that may well not come at all.
const SOON: Duration = Duration::from_secs(1);
/// How long the launcher and the children may outlive the program: with the library only a defect makes it that long.
const LINGER: Duration = Duration::from_secs(15);
/// The same without the library, where some launchers stay for good.
const LINGER_WITHOUT: Duration = Duration::from_secs(4);
/// README's promise.
const LINGER_AFTER_A_SESSION: Duration = Duration::from_secs(2);

/// A process that a program started.
#[derive(Clone, Debug)]
pub struct Process {
    pub pid: i32,
    pub stopped: bool,
    pub command: String,
}

/// A program that runs.
pub struct Session {
    pub(super) story: String,
    pub(super) library: bool,
    /// See [`Program::under_a_shell`](super::Program::under_a_shell).
    pub(super) shell: bool,
    /// The terminal's modes before.
    pub(super) modes: String,
    pub(super) deadline: Instant,
    pub(super) child: Child,
    pub(super) mark: String,
    pub(super) dir: TempDir,
    pub(super) terminal: File,
    pub(super) keyboard: Keyboard,
    pub(super) output: Arc<Output>,
    pub(super) readers: Vec<JoinHandle<()>>,
    pub(super) sent: Vec<u8>,
}

impl Session {
    /// The program's process id, which is its session's as well.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its working directory, made for it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Types, or writes into the pipe. To a program that is dead, this does nothing.
    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        self.sent.extend_from_slice(text);
        let _ = match &mut self.keyboard {
            Keyboard::Terminal => self.terminal.write_all(text),
            Keyboard::Pipe(pipe) => pipe.write_all(text),
            Keyboard::None => panic!("this program's stdin takes no input"),
        };
    }

    /// Sends a line.
    pub fn line(&mut self, line: &str) {
        self.send(format!("{line}\n"));
    }

    /// Presses a key that is no input for the program: Ctrl-D, Ctrl-C.
    pub fn key(&mut self, key: u8) {
        let _ = self.terminal.write_all(&[key]);
    }

    /// Closes the terminal's window.
    pub fn hang_up(&mut self) {
        self.output.hung_up.store(true, Ordering::Relaxed);
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        self.terminal = File::open("/dev/null").expect("there is a /dev/null");
    }

    /// Writes all of this into the pipe from a thread of its own, as it may be more than a pipe takes, and closes it.
    pub fn pour(&mut self, bytes: Vec<u8>) {
        self.sent.extend_from_slice(&bytes);
        let Keyboard::Pipe(mut pipe) = std::mem::replace(&mut self.keyboard, Keyboard::None) else {
            panic!("this program's stdin is no pipe");
        };
        thread::spawn(move || pipe.write_all(&bytes));
    }

    /// Ends the input: Ctrl-D at the start of a line, or the end of the pipe. Where the launcher may take the key,
    /// which it may without the library, it is pressed until the program ends.
    pub fn end_of_input(&mut self) {
        if !matches!(self.keyboard, Keyboard::Terminal) {
            self.keyboard = Keyboard::None;
            return;
        }
        self.key(CTRL_D);
        for _ in 0..if self.library { 0 } else { 40 } {
            thread::sleep(Duration::from_millis(50));
            if self.ended() {
                break;
            }
            self.key(CTRL_D);
        }
    }

    /// Whether this comes true before the program's end and the deadline.
    fn wait_until(&mut self, what: impl FnMut(&Self) -> bool) -> bool {
        self.wait_within(Duration::MAX, what)
    }

    fn wait_within(&mut self, limit: Duration, mut what: impl FnMut(&Self) -> bool) -> bool {
        let since = Instant::now();
        loop {
            let ended = self.ended();
            if what(self) {
                return true;
            }
            if ended || since.elapsed() > limit || Instant::now() > self.deadline {
                return false;
            }
            thread::sleep(LOOK);
        }
    }

    /// Whether the program ended.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
            || self.shell && self.shell_says().is_some()
    }

    /// How the program ended, in the shell's words.
    fn shell_says(&self) -> Option<ExitStatus> {
        let said = fs::read_to_string(self.dir.path().join("status")).ok()?;
        let code: i32 = said.strip_suffix('\n')?.parse().ok()?;
        // dash's and bash's $?: 128 more than the signal.
        Some(ExitStatus::from_raw(if code > 128 {
            code - 128
        } else {
            code << 8
        }))
    }

    /// The terminal's modes, and the flags of the shell's stdin.
    fn modes(&self) -> String {
        let fd = fs::read_to_string(format!("/proc/{}/fdinfo/0", self.pid())).unwrap_or_default();
        let flags = fd.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
        let blocks = match flags.unwrap_or_default() & libc::O_NONBLOCK {
            0 => "",
            _ => "; it does not block",
        };
        modes(&self.terminal) + blocks
    }

    /// Waits until a program of tests/apps reported `NAME=`. False: it ended, or the deadline passed.
    pub fn reported(&mut self, name: &str) -> bool {
        self.wait_until(|session| session.facts().iter().any(|(n, _)| n == name))
    }

    /// The same, for what may well not come.
    pub fn reported_soon(&mut self, name: &str) -> bool {
        self.reported_within(SOON, name)
    }

    /// The same, for so long.
    pub fn reported_within(&mut self, limit: Duration, name: &str) -> bool {
        self.wait_within(limit, |session| {
            session.facts().iter().any(|(n, _)| n == name)
        })
    }

    /// What it was sent until now.
    pub fn sent(&self) -> &[u8] {
        &self.sent
    }

    /// Waits until the output holds this text `times` times. False: it ended, or the deadline passed.
    pub fn printed(&mut self, text: &str, times: usize) -> bool {
        self.wait_until(|session| session.screen().matches(text).count() >= times)
    }

    /// The same, for what may well not come.
    pub fn printed_soon(&mut self, text: &str, times: usize) -> bool {
        self.wait_within(SOON, |session| {
            session.screen().matches(text).count() >= times
        })
    }

    /// From now on it has this long: for a program that is expected to hang.
    pub fn has_seconds(&mut self, seconds: u64) {
        self.deadline = self
            .deadline
            .min(Instant::now() + Duration::from_secs(seconds));
    }

    /// What it printed until now.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&lock(&self.output.text)).into_owned()
    }

    /// The lines `name=value` of all files `report*`, the program's own first.
    pub(super) fn facts(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(self.dir.path()).expect("it is there until the session ends");
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.file_stem().is_some_and(|stem| stem == "report"));
        files.sort();
        let texts = files.iter().map(|file| fs::read(file).unwrap_or_default());
        let texts: Vec<_> = texts
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .collect();
        let lines = texts.iter().flat_map(|text| text.lines());
        let facts = lines.filter_map(|line| line.split_once('='));
        facts
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// Waits for its end, and the end of all it started.
    pub fn finish(mut self) -> Report {
        let ended = self.wait_until(|_| false) || self.ended();
        let status = match (ended, self.shell) {
            (true, true) => self.shell_says(),
            (true, false) => self.child.wait().ok(),
            (false, _) => None,
        };
        let linger = match ended {
            false => Duration::ZERO,
            true if self.shell => LINGER_AFTER_A_SESSION,
            true if self.library => LINGER,
            true => LINGER_WITHOUT,
        };
        let linger = Instant::now() + linger;
        let mut left = self.others();
        while !left.is_empty() && Instant::now() < linger {
            thread::sleep(LOOK);
            left = self.others();
        }
        let modes = self.shell.then(|| self.modes());
        self.kill();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        let path = |name| self.dir.path().join(name);
        Report {
            story: std::mem::take(&mut self.story),
            pid: self.pid(),
            status,
            output: self.screen(),
            log: fs::read_to_string(path("log")).unwrap_or_default(),
            facts: self.facts(),
            read: fs::read(path("read")).unwrap_or_default(),
            sent: std::mem::take(&mut self.sent),
            left: left.into_iter().map(|process| process.command).collect(),
            modes: modes.map(|modes| (std::mem::take(&mut self.modes), modes)),
        }
    }

    /// What it started and is alive.
    pub fn others(&self) -> Vec<Process> {
        let leader = self.child.id() as i32;
        let living = living();
        let ours = living.iter().filter(|one| {
            let marked = one.mark.as_ref() == Some(&self.mark);
            (marked || one.session == leader) && one.process.pid != leader
        });
        ours.map(|one| one.process.clone()).collect()
    }

    /// Kills it, and what it started, until there is nothing left.
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for _ in 0..200 {
            let others = self.others();
            if others.is_empty() {
                return;
            }
            for Process { pid, .. } in others {
                // SAFETY: a plain system call; the process carries this session's mark, or is of its session.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A process, and what tells whose it is.
struct Living {
    process: Process,
    session: i32,
    mark: Option<String>,
}

/// All processes that live. One look at /proc answers everybody who asked before it began, and there is a rest after
/// each: many sessions that watch at the same time would be most of what the machine does.
fn living() -> Arc<Vec<Living>> {
    const REST: Duration = Duration::from_millis(100);
    static LAST: Mutex<Option<(Instant, Arc<Vec<Living>>)>> = Mutex::new(None);

    let asked = Instant::now();
    let mut last = lock(&LAST);
    if let Some((began, living)) = &*last {
        if *began >= asked {
            return Arc::clone(living);
        }
        thread::sleep((*began + REST).saturating_duration_since(asked));
    }
    let began = Instant::now();
    let entries = fs::read_dir("/proc").expect("there is a /proc").flatten();
    let living = Arc::new(entries.filter_map(|entry| alive(&entry.path())).collect());
    *last = Some((began, Arc::clone(&living)));
    living
}

/// The process of this directory of /proc, unless it has ended.
fn alive(of: &Path) -> Option<Living> {
    let pid = of.file_name()?.to_str()?.parse().ok()?;
    let stat = fs::read_to_string(of.join("stat")).ok()?;
    // proc(5): after the command in brackets come state, ppid, pgrp, session.
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    let text = |name: &str| {
        let bytes = fs::read(of.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let environment = text("environ");
    let mut values = environment.split('\0').filter_map(|variable| {
        let value = variable.strip_prefix(MARK)?;
        value.strip_prefix('=')
    });
    Some(Living {
        mark: values.next().map(str::to_owned),
        session: fields.nth(2)?.parse().ok()?,
        process: Process {
            pid,
            stopped: state == "T",
            command: text("cmdline").replace('\0', " ").trim_end().to_owned(),
        },
    })
}

/// A terminal's modes, as a line; none of what is no terminal any more.
pub(super) fn modes(terminal: &File) -> String {
    let mut modes = std::mem::MaybeUninit::<libc::termios>::zeroed();
    // SAFETY: tcgetattr() fills a termios, or leaves the zeroes, which are one.
    let modes = unsafe {
        libc::tcgetattr(terminal.as_raw_fd(), modes.as_mut_ptr());
        modes.assume_init()
    };
    let flags = [modes.c_iflag, modes.c_oflag, modes.c_cflag, modes.c_lflag];
    format!("{flags:?} {:?}", modes.c_cc)
}

/// Where a session's input goes.
pub(super) enum Keyboard {
    Terminal,
    Pipe(File),
    None,
}

/// What a program prints, as it comes.
#[derive(Default)]
pub(super) struct Output {
    pub(super) text: Mutex<Vec<u8>>,
    hung_up: AtomicBool,
}

impl Output {
    /// Reads until nobody can write there any more.
    pub(super) fn collect(
        self: &Arc<Self>,
        mut from: impl Read + AsRawFd + Send + 'static,
    ) -> JoinHandle<()> {
        let output = Arc::clone(self);
        thread::spawn(move || {
            let mut buffer = [0; 65536];
            let mut readable = libc::pollfd {
                fd: from.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            loop {
                // SAFETY: one pollfd. A terminal hangs up when the last descriptor is closed: no read may hold one.
                let ready = unsafe { libc::poll(&mut readable, 1, 50) };
                if output.hung_up.load(Ordering::Relaxed) {
                    return;
                }
                if ready == 0 {
                    continue;
                }
                // A terminal that nobody has open reads as EIO.
                let Ok(count @ 1..) = from.read(&mut buffer) else {
                    return;
                };
                lock(&output.text).extend_from_slice(&buffer[..count]);
            }
        })
    }
}
