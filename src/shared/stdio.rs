//! What a launcher gets on fd 0, 1 and 2, in place of the program's stdin and terminal.

use std::ffi::CStr;
use std::fmt;

use libc::c_int;

use crate::shared::stdin::{Stdin, is_terminal, stat};

/// Opened for writing only, it takes fd 0 and yet every read of it fails with EBADF, as if fd 0 were closed. Were
/// fd 0 really closed, the next descriptor that libmpi opens would get its number: the socket on which it waits
/// for mpiexec, which mpiexec would then have for its stdin.
const NO_STDIN: &CStr = c"/dev/null";

/// Whether fd 0 is open. Async-signal-safe.
pub fn has_stdin() -> bool {
    // SAFETY: F_GETFD only asks.
    unsafe { libc::fcntl(libc::STDIN_FILENO, libc::F_GETFD) >= 0 }
}

/// The C library's errno. Async-signal-safe.
pub fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Cuts this process, which is to become a launcher or to start one, off from the program's stdin and terminal.
///
/// - fd 0 becomes `/dev/null`, open for writing only.
/// - fd 1 and 2, where they are a terminal or a pipe, get an open file description of their own: O_NONBLOCK,
///   which MPICH 4.1's mpiexec sets (pmodels/mpich issue 1782), is a flag of the description, and would reach
///   the program through it, on a terminal its stdin too.
///
/// What cannot be done to fd 1 and 2 is left as it is: the launcher then runs as it would without us. Doing it twice
/// does no harm. Only async-signal-safe calls.
pub fn isolate() -> Isolation {
    Isolation {
        stdin: take_stdin(),
        stdout: reopen(libc::STDOUT_FILENO),
        stderr: reopen(libc::STDERR_FILENO),
    }
}

/// What [`isolate`] did, for the log.
pub struct Isolation {
    stdin: Result<(), c_int>,
    stdout: Reopened,
    stderr: Reopened,
}

impl Isolation {
    /// Whether the program's stdin is safe.
    pub fn level(&self) -> log::Level {
        if self.stdin.is_ok() {
            log::Level::Info
        } else {
            log::Level::Warn
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stdin closed")?;
        if let Err(errno) = self.stdin {
            write!(f, " (/dev/null can't be opened: errno {errno})")?;
        }
        write!(f, ", stdout {}, stderr {}", self.stdout, self.stderr)
    }
}

/// fd 0 becomes [`NO_STDIN`]. Gives errno when it can't be opened. Async-signal-safe.
pub fn replace_stdin() -> Result<(), c_int> {
    // SAFETY: the path is a C string; `null` is closed only if it is not fd 0 itself, as it is where fd 0 was closed.
    unsafe {
        let null = libc::open(NO_STDIN.as_ptr(), libc::O_WRONLY);
        if null < 0 {
            return Err(errno());
        }
        if null == libc::STDIN_FILENO {
            return Ok(());
        }
        let done = libc::dup2(null, libc::STDIN_FILENO);
        let errno = errno();
        libc::close(null);
        if done < 0 { Err(errno) } else { Ok(()) }
    }
}

/// Between fork and exec: [`replace_stdin`], for a process that has no use for fd 0 itself. Where it may have no more
/// descriptors, fd 0 makes room, and where there is no /dev/null, it is a pipe that has ended. Closed it stays only if
/// that can't be had, either.
pub fn take_stdin() -> Result<(), c_int> {
    replace_stdin().or_else(|errno| {
        let mut ends = [-1; 2];
        // SAFETY: fd 0 is this process's own, and is opened anew at once; pipe fills an array of two, the first of
        // which is fd 0 then, as the lowest number that is free.
        unsafe {
            libc::close(libc::STDIN_FILENO);
            if replace_stdin().is_ok() {
                return Ok(());
            }
            if libc::pipe(ends.as_mut_ptr()) < 0 {
                return Err(errno);
            }
            libc::close(ends[1]);
        }
        Ok(())
    })
}

/// Whether fd 0 is [`NO_STDIN`].
pub fn is_no_stdin() -> bool {
    // SAFETY: F_GETFL only asks.
    let flags = unsafe { libc::fcntl(libc::STDIN_FILENO, libc::F_GETFL) };
    flags & libc::O_ACCMODE == libc::O_WRONLY && Stdin::of_this_program() == Stdin::DevNull
}

/// What became of an output descriptor, for the log.
enum Reopened {
    Terminal,
    Pipe,
    /// Neither a terminal nor a pipe: a file's flags do no harm, and a socket can't be opened again.
    Other,
    /// It could not be opened again, for this errno.
    Failed(c_int),
}

impl fmt::Display for Reopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reopened::Terminal | Reopened::Pipe => f.write_str("reopened"),
            Reopened::Other => f.write_str("kept"),
            Reopened::Failed(errno) => write!(f, "kept (it can't be reopened: errno {errno})"),
        }
    }
}

/// Gives `fd` an open file description of its own, if it is a terminal or a pipe.
fn reopen(fd: c_int) -> Reopened {
    let Some(stat) = stat(fd) else {
        return Reopened::Other;
    };
    let done = match stat.st_mode & libc::S_IFMT {
        libc::S_IFIFO => Reopened::Pipe,
        libc::S_IFCHR if is_terminal(fd) && !is_pty_master(fd) => Reopened::Terminal,
        _ => return Reopened::Other,
    };
    // SAFETY: `fd` is open, as fstat has shown; `own` is a descriptor that was opened here.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        // O_NONBLOCK: opening a pipe that nobody reads any more fails then, where it would wait for a reader.
        let own = match open_again(
            fd,
            (flags & libc::O_ACCMODE) | libc::O_NONBLOCK | libc::O_NOCTTY,
        ) {
            Ok(own) => own,
            Err(errno) => return Reopened::Failed(errno),
        };
        libc::fcntl(own, libc::F_SETFL, flags & !libc::O_NONBLOCK);
        libc::dup2(own, fd);
        libc::close(own);
    }
    done
}

/// Whether this is the master side of a pseudo-terminal: opening that again would make a new terminal.
fn is_pty_master(fd: c_int) -> bool {
    #[cfg(target_os = "linux")]
    {
        let mut number: libc::c_uint = 0;
        // SAFETY: TIOCGPTN (tty_ioctl(4)) writes one unsigned int, on a master only.
        unsafe { libc::ioctl(fd, libc::TIOCGPTN, &mut number) == 0 }
    }
    #[cfg(target_vendor = "apple")]
    {
        /// sys/ttycom.h: `_IOC(IOC_OUT, 't', 83, 128)`.
        const TIOCPTYGNAME: libc::c_ulong = 0x4080_7453;
        let mut name = [0u8; 128];
        // SAFETY: TIOCPTYGNAME (xnu, bsd/kern/tty_dev.c) writes 128 bytes, on a master only.
        unsafe { libc::ioctl(fd, TIOCPTYGNAME, name.as_mut_ptr()) == 0 }
    }
}

/// Opens what `fd` refers to once more.
///
/// # Safety
/// `fd` must be open.
#[cfg(target_os = "linux")]
unsafe fn open_again(fd: c_int, flags: c_int) -> Result<c_int, c_int> {
    let path = match fd {
        libc::STDOUT_FILENO => c"/proc/self/fd/1",
        _ => c"/proc/self/fd/2",
    };
    open(path, flags)
}

/// Opens the terminal that `fd` refers to once more, by its name at load.
///
/// There is no /proc, and /dev/fd/N shares the description: a pipe cannot be opened again.
///
/// # Safety
/// `fd` must be open.
#[cfg(not(target_os = "linux"))]
unsafe fn open_again(fd: c_int, flags: c_int) -> Result<c_int, c_int> {
    open(terminals::name(fd).ok_or(libc::ENXIO)?, flags)
}

fn open(path: &CStr, flags: c_int) -> Result<c_int, c_int> {
    // SAFETY: `path` is a C string.
    match unsafe { libc::open(path.as_ptr(), flags) } {
        -1 => Err(errno()),
        fd => Ok(fd),
    }
}

/// The names of the terminals on fd 1 and 2, taken at load: ttyname is not async-signal-safe.
#[cfg(not(target_os = "linux"))]
pub mod terminals {
    use std::ffi::{CStr, CString};
    use std::sync::OnceLock;

    use libc::c_int;

    static NAMES: OnceLock<[Option<(libc::dev_t, CString)>; 2]> = OnceLock::new();

    /// While nothing else runs.
    pub fn note() {
        NAMES.get_or_init(|| [libc::STDOUT_FILENO, libc::STDERR_FILENO].map(ask));
    }

    fn ask(fd: c_int) -> Option<(libc::dev_t, CString)> {
        let stat = crate::shared::stdin::stat(fd)?;
        let mut name = [0; 128];
        // SAFETY: the buffer has the length that is told; on success it holds a C string.
        unsafe {
            (libc::ttyname_r(fd, name.as_mut_ptr(), name.len()) == 0)
                .then(|| (stat.st_rdev, CStr::from_ptr(name.as_ptr()).to_owned()))
        }
    }

    /// The name of the terminal on `fd`, if it is one of those that were there at load.
    pub fn name(fd: c_int) -> Option<&'static CStr> {
        let device = crate::shared::stdin::stat(fd)?.st_rdev;
        let names = NAMES.get()?.iter().flatten();
        names
            .filter(|(noted, _)| *noted == device)
            .map(|(_, name)| name.as_c_str())
            .next()
    }
}
