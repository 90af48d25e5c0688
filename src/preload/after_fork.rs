//! The forked child that is to become a launcher: it becomes the agent instead, or, where there is none, isolates its
//! stdin and terminal.
//!
//! All of this runs between fork and exec, in the child of an application that may have threads: nothing allocates,
//! takes a lock or calls dlsym. What is bound on its first call takes no lock (build.rs).

use std::ffi::{CStr, CString};
use std::fmt::{self, Write as _};
use std::sync::OnceLock;

use libc::c_int;
use log::Level;

use crate::mpi::Mpi;
use crate::mpi::launch::Launch;
use crate::preload::host_process::{self, Uncancelled};
use crate::preload::own_path::find_command;
use crate::preload::stack_buffer::StackBuffer;
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

/// Between fork and exec: executes the agent in the launcher's place. If it returns, there is no agent, and this child
/// is isolated, to become the launcher itself.
#[cold]
pub fn exec_agent<'a>(launch: Launch, file: &'a CStr, arguments: impl Iterator<Item = &'a CStr>) {
    std::mem::forget(Uncancelled::new()); // the exec ends it
    // Since 4.3.2 MPICH's child has no fd 0. Rust's runtime would open /dev/null there for the agent, to read and write.
    // SAFETY: F_GETFD only asks.
    if unsafe { libc::fcntl(libc::STDIN_FILENO, libc::F_GETFD) } < 0 {
        let _ = stdio::replace_stdin();
    }
    host_process::keep_nohup();
    exec_command(file, arguments);
    let isolation = stdio::isolate();
    // If the application ignores SIGCHLD, the launcher would inherit that. Intel MPI's then takes its processes for killed,
    // and kills the application. (Measured with 2021.13: five spawns of six.)
    // SAFETY: signal is async-signal-safe, and takes no pointers here.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let name = launch.name();
    log(
        Level::Info,
        format_args!("this child becomes {name}: {isolation}"),
    );
    let [beside, second, third, last] = COMMAND_PLACES;
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
fn exec_command<'a>(file: &'a CStr, arguments: impl Iterator<Item = &'a CStr>) {
    let mut application = StackBuffer::<12>::new();
    // SAFETY: getppid has no arguments and cannot fail.
    let _ = write!(application, "{}", unsafe { libc::getppid() });
    let application = application.c_str().unwrap_or_default();
    let mpi = MPI.get().map_or(c"", |mpi| mpi.as_c_str());
    let head = [c"spawnfix", AGENT, VERSION, application, mpi].into_iter();
    let settings = host_process::settings_as_words().iter();
    let words = head
        .chain(settings.map(|word| word.as_c_str()))
        .chain([END_OF_SETTINGS, file])
        .map(CStr::as_ptr);
    let mut words = words.chain(arguments.map(CStr::as_ptr));
    // The last place stays null.
    let mut argv = [std::ptr::null(); MAX_WORDS];
    for (place, word) in argv[..MAX_WORDS - 1].iter_mut().zip(&mut words) {
        *place = word;
    }
    if words.next().is_some() {
        return;
    }
    find_command(|path| {
        // SAFETY: the path is a C string, argv a null-terminated array of C strings, environ what execve takes.
        unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), host_process::environ()) };
        None::<()>
    });
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

/// Between fork and exec: logs one line, if some module logs at `level`: the child can't ask env_logger. A line longer
/// than PIPE_BUF is cut.
fn log(level: Level, text: fmt::Arguments<'_>) {
    if level > log::max_level() {
        return;
    }
    let mut line = StackBuffer::<{ libc::PIPE_BUF }>::new();
    // An error means only that the line was cut.
    let _ = writeln!(line, "{}", logging::Line(level, text));
    logging::emit(line.bytes());
}
