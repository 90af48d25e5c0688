//! One format, `spawnfix[PID]: LEVEL: text`, from two places: env_logger in the program, write(2) in a forked child.

use std::ffi::CStr;
use std::fmt::{self, Write as _};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use libc::c_int;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::settings::{self, Complaint};

/// The logger that `log`'s macros reach. It builds env_logger when there is something to say: most processes
/// under the preload say nothing.
struct Lazy;

static LAZY: Lazy = Lazy;

/// The level that holds in a forked child, which can't ask env_logger.
static CHILD_LEVEL: AtomicUsize = AtomicUsize::new(Level::Warn as usize);

/// The module whose level in SPAWNFIX_LOG counts for the forked child's lines.
const CHILD_TARGET: &str = "spawnfix::guard";

impl Log for Lazy {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        logger().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        logger().log(record);
    }

    fn flush(&self) {}
}

/// Whether fd 2 was open at load. Where it was not, whatever the program or libmpi opens next has that number.
static STDERR: AtomicBool = AtomicBool::new(true);

/// Starts logging, for the ctor, and warns of the settings that could not be used.
pub fn start(complaints: Vec<Complaint>) {
    // SAFETY: F_GETFD only asks.
    if unsafe { libc::fcntl(libc::STDERR_FILENO, libc::F_GETFD) } < 0 {
        STDERR.store(false, Ordering::Relaxed);
    }
    let _ = log::set_logger(&LAZY);
    log::set_max_level(LevelFilter::Warn);
    if settings::get().log.is_some() {
        let logger = logger();
        log::set_max_level(logger.filter());
        let enabled = |level: &Level| {
            let metadata = Metadata::builder()
                .level(*level)
                .target(CHILD_TARGET)
                .build();
            logger.enabled(&metadata)
        };
        let child = Level::iter().filter(enabled).max();
        CHILD_LEVEL.store(child.map_or(0, |level| level as usize), Ordering::Relaxed);
    }
    for complaint in complaints {
        log::warn!("{complaint}");
    }
}

fn logger() -> &'static env_logger::Logger {
    static LOGGER: OnceLock<env_logger::Logger> = OnceLock::new();
    LOGGER.get_or_init(|| {
        env_logger::Builder::new()
            .parse_filters(settings::get().log.as_deref().unwrap_or("warn"))
            .format(|buffer, record| {
                let pid = std::process::id();
                io::Write::write_fmt(
                    buffer,
                    format_args!("spawnfix[{pid}]: {}: {}\n", record.level(), record.args()),
                )
            })
            .target(env_logger::Target::Pipe(Box::new(Output)))
            .build()
    })
}

/// Where env_logger's lines go; each arrives whole.
struct Output;

impl io::Write for Output {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        emit(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Between fork and exec: logs one line from a buffer on the stack, if `level` is enabled.
///
/// A line that is longer than the buffer is cut.
pub fn from_child(level: Level, text: fmt::Arguments<'_>) {
    if level as usize > CHILD_LEVEL.load(Ordering::Relaxed) {
        return;
    }
    let mut line = Line::default();
    // SAFETY: getpid has no arguments and cannot fail.
    let pid = unsafe { libc::getpid() };
    // An error means only that the line was cut.
    let _ = write!(line, "spawnfix[{pid}]: {level}: {text}");
    emit(line.end());
}

/// A line on the stack.
struct Line {
    bytes: [u8; Line::SIZE],
    used: usize,
}

impl Line {
    /// Room for a PATH of the usual length; PIPE_BUF or less, so that a pipe takes a line whole.
    const SIZE: usize = 4096;

    /// The line with its line feed, for which `write_str` left room.
    fn end(&mut self) -> &[u8] {
        self.bytes[self.used] = b'\n';
        &self.bytes[..=self.used]
    }
}

impl Default for Line {
    fn default() -> Line {
        Line {
            bytes: [0; Line::SIZE],
            used: 0,
        }
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = Line::SIZE - 1 - self.used;
        let taken = text.len().min(room);
        self.bytes[self.used..self.used + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.used += taken;
        if taken < text.len() {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

/// Bytes from outside (a path, a setting, a version), safe to show: what could drive a terminal or start a new
/// line is escaped.
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() {
                    write!(f, "{}", character.escape_default())?;
                } else {
                    f.write_char(character)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Writes a line to SPAWNFIX_LOG_FILE or stderr, in one write(2); async-signal-safe. A line that can't be
/// written is lost: the program goes on.
fn emit(line: &[u8]) {
    let file = settings::get().log_file.as_deref();
    let file = file.map_or(-1, open_append);
    let fd = if file >= 0 { file } else { libc::STDERR_FILENO };
    if file < 0 && !STDERR.load(Ordering::Relaxed) {
        return;
    }
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLOUT,
        revents: 0,
    };
    // A pipe whose reader has gone would send SIGPIPE, and a log line must not end the program.
    // POLLNVAL is macOS's answer for /dev/tty, which it can't poll; on a closed descriptor, write only fails.
    let gone = libc::POLLERR | libc::POLLHUP;
    // SAFETY: `poll` is one pollfd that lives here; `line` is readable for its length; `file` is ours to close.
    unsafe {
        libc::poll(&mut poll, 1, 0);
        if poll.revents & gone == 0 {
            libc::write(fd, line.as_ptr().cast(), line.len());
        }
        if file >= 0 {
            libc::close(file);
        }
    }
}

/// Whether lines can be appended to this file. Creates it if need be.
pub fn can_append(path: &CStr) -> bool {
    let fd = open_append(path);
    // SAFETY: `fd` was opened here, or is -1, which close refuses.
    fd >= 0 && unsafe { libc::close(fd) } == 0
}

fn open_append(path: &CStr) -> c_int {
    // O_NONBLOCK: a named pipe without a reader is an error then, not a wait.
    let flags = libc::O_WRONLY
        | libc::O_APPEND
        | libc::O_CREAT
        | libc::O_CLOEXEC
        | libc::O_NOCTTY
        | libc::O_NONBLOCK;
    // SAFETY: `path` is a C string; O_CREAT's mode follows.
    unsafe { libc::open(path.as_ptr(), flags, 0o666) }
}
