//! A program, described, then started.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pty_process::blocking as pty;
use tempfile::TempDir;

use super::session::{Keyboard, MARK, Output, modes};
use super::{INTEL_MPI, Mpi, Report, Session, app, library, lock, path_behind};

/// How long a program may take, unless its test says otherwise. Only a defect makes it that long, on a slow machine too.
/// A test of a program that hangs sets a deadline of its own.
const DEADLINE: Duration = Duration::from_secs(90);

/// What a program has on fd 0.
#[derive(Clone, Debug)]
pub enum Stdin {
    /// The terminal, on which the session types.
    Terminal,
    /// A pipe into which the session writes.
    Pipe,
    /// A regular file with these bytes.
    File(Vec<u8>),
    /// /dev/null.
    Null,
    /// Nothing: `<&-`.
    Closed,
}

/// A program to run, and where.
pub struct Program {
    argv: Vec<OsString>,
    mpi: Option<Mpi>,
    prepared: bool,
    library: bool,
    logged: bool,
    stdin: Stdin,
    piped: bool,
    env: Vec<(OsString, OsString)>,
    files: Vec<&'static str>,
    deadline: Duration,
    shell: bool,
}

/// What starts a program that is not to lead its terminal's session: it has a process group of its own, as under the shell
/// at which someone types. Then the shell waits for a line.
const SHELL: [&str; 5] = [
    "sh",
    "-m",
    "-c",
    r#""$@"; echo $? >status; read -r _"#,
    "sh",
];

impl Program {
    /// On a terminal, without the library, under no MPI.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            argv: vec![program.into()],
            mpi: None,
            prepared: false,
            library: false,
            logged: true,
            stdin: Stdin::Terminal,
            piped: false,
            env: Vec::new(),
            files: Vec::new(),
            deadline: DEADLINE,
            shell: false,
        }
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.argv.push(arg.into());
        self
    }

    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.argv.extend(args.into_iter().map(Into::into));
        self
    }

    /// With this MPI's bin first on PATH.
    pub fn under(mut self, mpi: Mpi) -> Self {
        self.mpi = Some(mpi);
        self.prepared = true;
        self
    }

    /// Under this MPI, of which nothing is set but what lets root run it: PATH has none.
    pub fn with_nothing_set(mut self, mpi: Mpi) -> Self {
        self.mpi = Some(mpi);
        self
    }

    /// With the library preloaded, or without; logging at `info` into the report.
    pub fn library(mut self, preloaded: bool) -> Self {
        self.library = preloaded;
        self
    }

    /// No SPAWNFIX_LOG and SPAWNFIX_LOG_FILE: the library says what it says by itself, on stderr.
    pub fn unlogged(mut self) -> Self {
        self.logged = false;
        self
    }

    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// stdout and stderr go into a pipe, not to the terminal.
    pub fn piped(mut self) -> Self {
        self.piped = true;
        self
    }

    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// With a copy of this file of tests/apps in its working directory.
    pub fn beside(mut self, name: &'static str) -> Self {
        self.files.push(name);
        self
    }

    /// With the words of session.py at hand, and what they spawn.
    pub fn with_words(self) -> Self {
        self.beside("session.py").child("session.c")
    }

    /// It spawns this program of tests/apps, which starts in a tenth of a Python's time. Without its vars.sh, which a user of
    /// Python does without, a compiled program does not find what Intel's libmpi needs: there the child is a Python.
    pub fn child(self, source: &str) -> Self {
        let mpi = self.mpi.expect("it runs under an MPI");
        match mpi.mpicc.is_some() && mpi.name != INTEL_MPI.name {
            true => self.env("APP_CHILD", mpi.compile(source)),
            false => self,
        }
    }

    /// Started from a shell, which outlives it: the report has what is left 2 s after its end, and whether the terminal is
    /// as it was.
    pub fn under_a_shell(mut self) -> Self {
        self.shell = true;
        self
    }

    pub fn deadline(mut self, seconds: u64) -> Self {
        self.deadline = Duration::from_secs(seconds);
        self
    }

    /// Starts it, and leaves it alone until it ends.
    pub fn run(self) -> Report {
        self.start().finish()
    }

    /// Starts it.
    pub fn start(mut self) -> Session {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let mark = format!(
            "{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let dir =
            TempDir::with_prefix("spawnfix-test-").expect("there is a place for temporary files");

        for name in &self.files {
            fs::copy(app(name), dir.path().join(name))
                .unwrap_or_else(|e| panic!("tests/apps/{name}: {e}"));
        }

        let argv = self.argv.clone();
        if self.shell {
            self.argv.splice(0..0, SHELL.map(OsString::from));
        }
        let mut command = Command::new(&self.argv[0]);
        command
            .args(&self.argv[1..])
            .current_dir(dir.path())
            .env_clear();
        command
            .env(MARK, &mark)
            .env("HOME", dir.path())
            .env("TERM", "xterm")
            .env("LC_ALL", "C.UTF-8");
        command
            .env("APP_REPORT", dir.path().join("report"))
            .env("APP_READ", dir.path().join("read"));
        let prepared = self.mpi.filter(|_| self.prepared);
        let bin = prepared.map(|mpi| mpi.prefix().join("bin"));
        command.env("PATH", path_behind(bin.as_deref().as_slice()));
        if let Some(mpi) = prepared {
            mpi.settings(&mut command, &argv, self.library, dir.path());
        } else if let Some(mpi) = self.mpi {
            mpi.permissions(&mut command, dir.path());
        }
        if let Some(guard) = std::env::var_os("SPAWNFIX_GUARD") {
            command.env("SPAWNFIX_GUARD", guard);
        }
        if self.library {
            command.env("LD_PRELOAD", library());
            if self.logged {
                command
                    .env("SPAWNFIX_LOG", "info")
                    .env("SPAWNFIX_LOG_FILE", dir.path().join("log"));
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));

        // Descriptors that are not close-on-exec for a moment must not reach another test's program.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let one = lock(&ONE_AT_A_TIME);
        let (terminal, pts) = pty::open().expect("there is a pseudo-terminal to be had");
        let size = pty_process::Size::new(40, 100);
        terminal.resize(size).expect("a terminal can be resized");
        // SAFETY: signal() is async-signal-safe. A shell that runs the tests in the background ignores some of these,
        // and a program would inherit that.
        unsafe {
            command.pre_exec(|| {
                for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGHUP, libc::SIGTSTP] {
                    libc::signal(signal, libc::SIG_DFL);
                }
                Ok(())
            });
        }
        let mut command = pty::Command::from(command);
        let mut pipe = None;
        let mut sent = Vec::new();
        command = match &self.stdin {
            Stdin::Terminal => command,
            Stdin::Pipe => {
                let (reader, writer) = new_pipe();
                pipe = Some(writer);
                command.stdin(reader)
            }
            Stdin::File(bytes) => {
                sent.clone_from(bytes);
                let path = dir.path().join("input");
                fs::write(&path, bytes).expect("the temporary directory can be written");
                command.stdin(File::open(path).expect("it was just written"))
            }
            Stdin::Null => command.stdin(Stdio::null()),
            Stdin::Closed => {
                // SAFETY: close() is async-signal-safe, and nothing of the child's owns fd 0 between fork and exec.
                unsafe {
                    command.stdin(Stdio::null()).pre_exec(|| {
                        libc::close(0);
                        Ok(())
                    })
                }
            }
        };
        let output = Arc::new(Output::default());
        let mut readers = Vec::new();
        if self.piped {
            let (reader, writer) = new_pipe();
            command = command
                .stdout(writer.try_clone().expect("a descriptor can be duplicated"))
                .stderr(writer);
            readers.push(output.collect(reader));
        }
        let started = command.spawn(pts);
        drop(one);
        let child = started.unwrap_or_else(|e| panic!("{:?}: {e}", self.argv[0]));
        let terminal = File::from(OwnedFd::from(terminal));
        readers.push(
            output.collect(
                terminal
                    .try_clone()
                    .expect("a descriptor can be duplicated"),
            ),
        );

        let keyboard = match self.stdin {
            Stdin::Terminal => Keyboard::Terminal,
            Stdin::Pipe => pipe.map_or(Keyboard::None, Keyboard::Pipe),
            Stdin::File(_) | Stdin::Null | Stdin::Closed => Keyboard::None,
        };
        let story = format!(
            "{:?} under {}, {} the library",
            self.argv,
            self.mpi.map_or("no MPI", |mpi| mpi.name),
            if self.library { "with" } else { "without" }
        );
        let deadline = Instant::now() + self.deadline;
        Session {
            story,
            library: self.library,
            shell: self.shell,
            modes: modes(&terminal),
            deadline,
            child,
            mark,
            dir,
            terminal,
            keyboard,
            output,
            readers,
            sent,
        }
    }
}

/// A pipe, both ends close-on-exec.
fn new_pipe() -> (File, File) {
    let mut ends = [-1; 2];
    #[cfg(target_os = "linux")]
    // SAFETY: pipe2() fills an array of two.
    let made = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    #[cfg(not(target_os = "linux"))]
    // SAFETY: pipe() fills an array of two; the flag is set on what it opened.
    let made = unsafe {
        let made = libc::pipe(ends.as_mut_ptr());
        ends.map(|fd| libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC));
        made
    };
    assert_eq!(made, 0, "{}", io::Error::last_os_error());
    // SAFETY: both are open, and nobody else's.
    ends.map(|fd| unsafe { File::from_raw_fd(fd) }).into()
}
