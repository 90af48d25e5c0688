//! One format, `spawnfix[PID]: LEVEL: text`, and one way to write a line: the lines that env_logger's filter lets through come
//! this way, and so do those of a forked child, which the library formats on the stack.

use std::ffi::{CStr, CString, OsStr};
use std::fmt::{self, Write as _};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::c_int;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::shared::paths::is_accessible;

/// The logger that `log`'s macros reach. It builds env_logger when there is something to say: most processes
/// under the preload say nothing.
struct Lazy;

/// SPAWNFIX_LOG, and SPAWNFIX_LOG_FILE.
static FILTER: OnceLock<String> = OnceLock::new();
static FILE: OnceLock<CString> = OnceLock::new();

/// Whether fd 2 was open at load. Where it was not, it is whatever the application or libmpi opens next.
static STDERR: AtomicBool = AtomicBool::new(true);

impl Log for Lazy {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        logger().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if logger().matches(record) {
            emit(format!("{}\n", Line(record.level(), *record.args())).as_bytes());
        }
    }

    fn flush(&self) {}
}

/// Starts logging by this filter, or at `warn`, into this file, or to stderr. Once a process, while nothing else runs.
pub fn start(filter: Option<&str>, file: Option<&CStr>) {
    // SAFETY: F_GETFD only asks.
    if unsafe { libc::fcntl(libc::STDERR_FILENO, libc::F_GETFD) } < 0 {
        STDERR.store(false, Ordering::Relaxed);
    }
    let _ = log::set_logger(&Lazy);
    log::set_max_level(LevelFilter::Warn);
    if let Some(file) = file {
        let _ = FILE.set(file.to_owned());
    }
    if let Some(filter) = filter {
        let _ = FILTER.set(filter.to_owned());
        log::set_max_level(logger().filter());
    }
}

fn logger() -> &'static env_logger::Logger {
    static LOGGER: OnceLock<env_logger::Logger> = OnceLock::new();
    LOGGER.get_or_init(|| {
        let filter = FILTER.get().map_or("warn", String::as_str);
        env_logger::Builder::new().parse_filters(filter).build()
    })
}

/// A line of the log, without its line feed.
pub struct Line<'a>(pub Level, pub fmt::Arguments<'a>);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line(level, text) = self;
        write!(f, "spawnfix[{}]: {level}: {text}", std::process::id())
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
/// written is lost: the process goes on.
pub fn emit(line: &[u8]) {
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
    // A pipe whose reader has gone would send SIGPIPE, and a log line must not end the process.
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
    match path.metadata() {
        Ok(there) => !there.is_dir() && is_accessible(path, libc::W_OK),
        Err(_) => {
            // A link to nowhere would be followed when the file is created.
            let parent = path.parent().filter(|_| !path.is_symlink());
            parent.is_some_and(|parent| is_accessible(parent, libc::W_OK | libc::X_OK))
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
pub fn escape(word: &(impl AsRef<OsStr> + ?Sized)) -> Escaped<'_> {
    Escaped(word.as_ref().as_bytes())
}
