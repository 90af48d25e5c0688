//! The forked child that is to become a launcher: it becomes the agent instead, or, where there is none, isolates its
//! stdin and terminal.
//!
//! All of this runs between fork and exec, in the child of an application that may have threads: nothing allocates,
//! takes a lock or asks the dynamic linker for a symbol.

use std::ffi::{CStr, CString};
use std::fmt::{self, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::{c_char, c_int};
use log::{Level, Metadata};

use crate::mpi::Mpi;
use crate::mpi::launch::Launch;
use crate::preload::host_process::{self, Uncancelled};
use crate::preload::own_path::{PathBuffer, own_directory};
use crate::shared::internal_args::{AGENT, COMMAND_PLACES, END_OF_SETTINGS, VERSION};
use crate::shared::logging::{self, Escaped};
use crate::shared::stdio;

/// What the application's MPI calls itself, for the agent's messages.
static MPI: OnceLock<CString> = OnceLock::new();

/// In the application, before a fork: takes note of its MPI.
pub fn note_mpi(mpi: &Mpi) {
    if let Ok(name) = CString::new(mpi.to_string()) {
        let _ = MPI.set(name);
    }
}

/// As many words as a launch may have. Open MPI's have twenty.
const MAX_WORDS: usize = 128;

/// What execv and execvp take as `argv`, without its final null.
#[derive(Clone, Copy)]
pub struct Arguments(*const *const c_char);

impl Arguments {
    /// Between fork and exec: none if `argv` is null.
    ///
    /// # Safety
    /// `argv` must be null or a null-terminated array of C strings that stays as it is.
    pub unsafe fn new(argv: *const *const c_char) -> Option<Arguments> {
        (!argv.is_null()).then_some(Arguments(argv))
    }

    fn pointers(self) -> impl Iterator<Item = *const c_char> + Clone {
        (0..)
            // SAFETY: the array ends with a null, at which the iterator ends for good (`fuse`): `at` is not past it.
            .map_while(move |at| Some(unsafe { *self.0.add(at) }).filter(|word| !word.is_null()))
            .fuse()
    }

    /// The words.
    pub fn words<'a>(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        // SAFETY: an entry before the final null is a C string, by the contract of `new`.
        self.pointers()
            .map(|word| unsafe { CStr::from_ptr(word) }.to_bytes())
    }
}

/// Between fork and exec: executes the agent in the launcher's place. If it returns, there is no agent, and this child
/// is isolated, to become the launcher itself.
#[cold]
pub fn exec_agent(launch: Launch, file: &CStr, arguments: Arguments) {
    std::mem::forget(Uncancelled::new()); // the exec ends it
    // Since 4.3.2 MPICH's child has no fd 0. Rust's runtime would open /dev/null there for the agent, to read and write.
    // SAFETY: F_GETFD only asks.
    if unsafe { libc::fcntl(libc::STDIN_FILENO, libc::F_GETFD) } < 0 {
        let _ = stdio::replace_stdin();
    }
    exec_command(file, arguments);
    let isolation = stdio::isolate();
    // If the application ignores SIGCHLD, the launcher would inherit that. Intel MPI's then takes its processes for killed,
    // and kills the application. (Measured with 2021.13: five spawns of six.)
    // SAFETY: signal is async-signal-safe, and takes no pointers here.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let name = launch.name();
    log(
        isolation.level(),
        format_args!("this child becomes {name}: {isolation}"),
    );
    let [beside, others @ .., last] = COMMAND_PLACES;
    let [second, third] = others;
    log(
        Level::Warn,
        format_args!(
            "the command spawnfix {} was not found from the library's directory (as {beside}, {second}, {third} or {last}): \
             {name} gets a stdin of its own; Ctrl-C, crashes and failures reach the application as without spawnfix",
            env!("CARGO_PKG_VERSION")
        ),
    );
}

/// Between fork and exec: returns if there is no agent. The order of the words is that of
/// [`internal_args`](crate::shared::internal_args).
fn exec_command(file: &CStr, arguments: Arguments) {
    let mut argv = [std::ptr::null(); MAX_WORDS];
    // SAFETY: getppid has no arguments and cannot fail.
    let application = Decimal::of(unsafe { libc::getppid() });
    let mpi = MPI.get().map_or(c"", |mpi| mpi.as_c_str());
    let head = [c"spawnfix", AGENT, VERSION, application.text(), mpi].into_iter();
    let settings = host_process::settings_as_words().iter();
    let words = head
        .chain(settings.map(|word| word.as_c_str()))
        .chain([END_OF_SETTINGS, file])
        .map(CStr::as_ptr);
    let mut words = words.chain(arguments.pointers());
    // The last place stays null.
    for (place, word) in argv[..MAX_WORDS - 1].iter_mut().zip(&mut words) {
        *place = word;
    }
    let mut path = PathBuffer::default();
    if words.next().is_some() || own_directory(&mut path).is_none() {
        return;
    }
    let directory = path.used;
    for place in COMMAND_PLACES {
        path.used = directory;
        if let Some(path) = path.append(place.as_bytes()) {
            // SAFETY: the path is a C string, argv a null-terminated array of C strings, environ what execve takes.
            unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), host_process::environ()) };
        }
    }
}

/// In the child that could be neither the agent nor the launcher: ends it. It would run on as a second copy of the
/// application.
#[cold]
pub fn exit(file: &CStr, errno: c_int) -> ! {
    log(
        Level::Error,
        format_args!(
            "{} can't be executed (errno {errno}), and the spawn does not return",
            Escaped(file.to_bytes())
        ),
    );
    // SAFETY: _exit ends the process without running what the application has registered for its own end.
    unsafe { libc::_exit(127) }
}

/// A number on the stack, as text.
struct Decimal(Stack<12>);

impl Decimal {
    fn of(number: libc::pid_t) -> Decimal {
        let mut text = Stack::default();
        let _ = write!(text, "{number}\0");
        Decimal(text)
    }

    fn text(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0.bytes).unwrap_or_default()
    }
}

/// Text on the stack. What does not fit is cut.
struct Stack<const SIZE: usize> {
    bytes: [u8; SIZE],
    used: usize,
}

impl<const SIZE: usize> Default for Stack<SIZE> {
    fn default() -> Stack<SIZE> {
        Stack {
            bytes: [0; SIZE],
            used: 0,
        }
    }
}

impl<const SIZE: usize> fmt::Write for Stack<SIZE> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let taken = text.len().min(SIZE - self.used);
        self.bytes[self.used..self.used + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.used += taken;
        if taken < text.len() {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

/// The level that holds in a forked child, which can't ask env_logger.
static LEVEL: AtomicUsize = AtomicUsize::new(Level::Warn as usize);

/// In the application, at load: takes note of the level up to which this module logs.
pub fn note_level() {
    let enabled = |level: &Level| {
        let metadata = Metadata::builder();
        let metadata = { metadata }.level(*level).target(module_path!()).build();
        log::logger().enabled(&metadata)
    };
    let level = Level::iter().filter(enabled).max();
    LEVEL.store(level.map_or(0, |level| level as usize), Ordering::Relaxed);
}

/// Between fork and exec: logs one line, if `level` is enabled. A line longer than PIPE_BUF is cut.
fn log(level: Level, text: fmt::Arguments<'_>) {
    if level as usize > LEVEL.load(Ordering::Relaxed) {
        return;
    }
    let mut line = Stack::<{ libc::PIPE_BUF }>::default();
    // An error means only that the line was cut.
    let _ = writeln!(line, "{}", logging::Line(level, text));
    logging::emit(&line.bytes[..line.used]);
}
