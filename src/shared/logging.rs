//! One format, `spawnfix[PID]: LEVEL: text`, from three places: env_logger in the program and in the agent, write(2) in
//! a forked child.

use std::ffi::{CStr, CString};
use std::fmt::{self, Write as _};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use libc::c_int;
use log::{Level, LevelFilter, Log, Metadata, Record};

/// The logger that `log`'s macros reach. It builds env_logger when there is something to say: most processes
/// under the preload say nothing.
struct Lazy;

static LAZY: Lazy = Lazy;

/// SPAWNFIX_LOG, and SPAWNFIX_LOG_FILE.
static FILTER: OnceLock<String> = OnceLock::new();
static FILE: OnceLock<CString> = OnceLock::new();

/// The level that holds in a forked child, which can't ask env_logger.
static CHILD_LEVEL: AtomicUsize = AtomicUsize::new(Level::Warn as usize);

/// The module whose level in SPAWNFIX_LOG counts for the forked child's lines.
const CHILD_TARGET: &str = "spawnfix::preload::after_fork";

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

/// Starts logging by this filter, or at `warn`, into this file, or to stderr. Once a process, while nothing else runs.
pub fn start(filter: Option<&str>, file: Option<&CStr>) {
    // SAFETY: F_GETFD only asks.
    if unsafe { libc::fcntl(libc::STDERR_FILENO, libc::F_GETFD) } < 0 {
        STDERR.store(false, Ordering::Relaxed);
    }
    let _ = log::set_logger(&LAZY);
    log::set_max_level(LevelFilter::Warn);
    if let Some(file) = file {
        let _ = FILE.set(file.to_owned());
    }
    if let Some(filter) = filter {
        let _ = FILTER.set(filter.to_owned());
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
}

fn logger() -> &'static env_logger::Logger {
    static LOGGER: OnceLock<env_logger::Logger> = OnceLock::new();
    LOGGER.get_or_init(|| {
        env_logger::Builder::new()
            .parse_filters(FILTER.get().map_or("warn", String::as_str))
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
    let file = FILE.get().map_or(-1, |file| open_append(file));
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

/// Whether lines could be appended to this file, as far as can be told without creating it: most processes under the
/// preload have nothing to log.
pub fn can_append(path: &Path) -> bool {
    let accessible = |path: &Path, mode| {
        CString::new(path.as_os_str().as_bytes())
            // SAFETY: access takes a C string.
            .is_ok_and(|path| unsafe { libc::access(path.as_ptr(), mode) == 0 })
    };
    match path.metadata() {
        Ok(there) => !there.is_dir() && accessible(path, libc::W_OK),
        Err(_) => {
            // A link to nowhere would be followed when the file is created.
            let parent = path.parent().filter(|_| !path.is_symlink());
            parent.is_some_and(|parent| accessible(parent, libc::W_OK | libc::X_OK))
        }
    }
}

/// Opens the log, not through a symbolic link that is another user's: in /tmp anyone could have left one there, to a
/// file of this user's.
fn open_append(path: &CStr) -> c_int {
    // O_NONBLOCK: a named pipe without a reader is an error then, not a wait.
    let flags = libc::O_WRONLY
        | libc::O_APPEND
        | libc::O_CREAT
        | libc::O_CLOEXEC
        | libc::O_NOCTTY
        | libc::O_NONBLOCK;
    // SAFETY: `path` is a C string; O_CREAT's mode follows; lstat fills `link` when it returns 0, and only then is it
    // read.
    unsafe {
        let fd = libc::open(path.as_ptr(), flags | libc::O_NOFOLLOW, 0o666);
        if fd >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ELOOP) {
            return fd;
        }
        let mut link = MaybeUninit::<libc::stat>::uninit();
        let known = libc::lstat(path.as_ptr(), link.as_mut_ptr()) == 0;
        if known && [0, libc::geteuid()].contains(&link.assume_init().st_uid) {
            return libc::open(path.as_ptr(), flags, 0o666);
        }
        -1
    }
}

/// A word from outside, with its control characters escaped: for messages and the log.
pub fn escape(word: &(impl AsRef<std::ffi::OsStr> + ?Sized)) -> Escaped<'_> {
    Escaped(std::os::unix::ffi::OsStrExt::as_bytes(word.as_ref()))
}
