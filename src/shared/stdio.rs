//! fd 0, 1 and 2: what they are, and what a launcher gets in place of the application's.

use std::ffi::CStr;
use std::fmt;
use std::mem::MaybeUninit;

use libc::c_int;

/// What fd 0 is, for the log and for telling an interactive session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// A terminal.
    Terminal,
    /// A pipe, with or without a name.
    Pipe,
    /// A socket.
    Socket,
    /// A regular file.
    File,
    /// `/dev/null`.
    DevNull,
    /// Any other device.
    Device,
    /// Not open.
    Closed,
}

impl Stdin {
    /// Looks at this process's fd 0.
    pub fn of_this_process() -> Stdin {
        match stat(libc::STDIN_FILENO) {
            None => Stdin::Closed,
            Some(stat) => Stdin::of(stat.st_mode, stat.st_rdev, || {
                is_terminal(libc::STDIN_FILENO)
            }),
        }
    }

    /// What an open file of this mode (`st_mode`) and device (`st_rdev`) is. `is_terminal` is asked of a character
    /// device only.
    pub fn of(
        mode: libc::mode_t,
        device: libc::dev_t,
        is_terminal: impl FnOnce() -> bool,
    ) -> Stdin {
        match mode & libc::S_IFMT {
            libc::S_IFIFO => Stdin::Pipe,
            libc::S_IFSOCK => Stdin::Socket,
            libc::S_IFREG => Stdin::File,
            libc::S_IFCHR if is_terminal() => Stdin::Terminal,
            libc::S_IFCHR if is_dev_null(device) => Stdin::DevNull,
            _ => Stdin::Device,
        }
    }
}

impl fmt::Display for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stdin::Terminal => "a terminal",
            Stdin::Pipe => "a pipe",
            Stdin::Socket => "a socket",
            Stdin::File => "a file",
            Stdin::DevNull => "/dev/null",
            Stdin::Device => "a device",
            Stdin::Closed => "closed",
        })
    }
}

/// `fstat` of this descriptor, or `None` if it is not open. Async-signal-safe.
fn stat(fd: c_int) -> Option<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills `stat` when it returns 0, and only then is it read.
    unsafe { (libc::fstat(fd, stat.as_mut_ptr()) == 0).then(|| stat.assume_init()) }
}

/// Async-signal-safe.
fn is_terminal(fd: c_int) -> bool {
    // SAFETY: isatty takes any descriptor.
    unsafe { libc::isatty(fd) == 1 }
}

fn is_dev_null(device: libc::dev_t) -> bool {
    let mut null = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the path is a C string; stat fills `null` when it returns 0, and only then is it read.
    unsafe {
        libc::stat(c"/dev/null".as_ptr(), null.as_mut_ptr()) == 0
            && null.assume_init().st_rdev == device
    }
}

/// Opened for writing only, it takes fd 0 and yet every read of it fails with EBADF, as if fd 0 were closed. If fd 0
/// were really closed, the next descriptor that libmpi opens would get its number: the socket on which libmpi waits for
/// mpiexec, which mpiexec would then have as its stdin.
const NO_STDIN: &CStr = c"/dev/null";

/// The C library's errno. Async-signal-safe.
pub fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Cuts this process, which is to become a launcher or to start one, off from the application's stdin and terminal.
///
/// - fd 0 becomes `/dev/null`, open for writing only.
/// - fd 1 and 2, where they are a terminal or a pipe, get an open file description of their own: O_NONBLOCK, which
///   MPICH 4.1's mpiexec sets (pmodels/mpich issue 1782), is a flag of the description, and would reach the application
///   through it, on a terminal its stdin too.
///
/// What cannot be done to fd 1 and 2 is left as it is: the launcher then runs as it would without us. Doing it twice
/// does no harm. Only async-signal-safe calls.
pub fn isolate() -> Isolation {
    Isolation {
        stdin: replace_stdin(),
        stdout: reopen(libc::STDOUT_FILENO),
        stderr: reopen(libc::STDERR_FILENO),
    }
}

/// What [`isolate`] did, for the log.
pub struct Isolation {
    stdin: Result<(), c_int>,
    stdout: Result<bool, c_int>,
    stderr: Result<bool, c_int>,
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stdin {
            Ok(()) => f.write_str("stdin closed")?,
            Err(errno) => write!(f, "stdin shared (/dev/null can't be opened: errno {errno})")?,
        }
        for (name, reopened) in [("stdout", self.stdout), ("stderr", self.stderr)] {
            match reopened {
                Ok(true) => write!(f, ", {name} reopened")?,
                Ok(false) => write!(f, ", {name} kept")?,
                Err(errno) => write!(f, ", {name} kept (it can't be reopened: errno {errno})")?,
            }
        }
        Ok(())
    }
}

/// Makes fd 0 [`NO_STDIN`], without a moment in which the number is free.
///
/// # Errors
/// errno, if `/dev/null` can't be opened or duplicated; fd 0 is as before then.
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

/// Gives `fd` an open file description of its own, if it is a terminal or a pipe: a file's flags do no harm, and a socket
/// can't be opened again. Tells whether it did so, or the errno for which it could not.
fn reopen(fd: c_int) -> Result<bool, c_int> {
    let kind = stat(fd).map(|stat| stat.st_mode & libc::S_IFMT);
    match kind {
        Some(libc::S_IFIFO) => {}
        Some(libc::S_IFCHR) if is_terminal(fd) && !is_pty_master(fd) => {}
        _ => return Ok(false),
    }
    // SAFETY: `fd` is open, as fstat has shown; `own` is a descriptor that was opened here.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        // O_NONBLOCK: opening a pipe that nobody reads any more fails then, where it would wait for a reader.
        let first = (flags & libc::O_ACCMODE) | libc::O_NONBLOCK | libc::O_NOCTTY;
        let own = open_again(fd, first)?;
        libc::fcntl(own, libc::F_SETFL, flags & !libc::O_NONBLOCK);
        libc::dup2(own, fd);
        libc::close(own);
    }
    Ok(true)
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
    super::macos::is_pty_master(fd)
}

/// Opens what `fd` refers to once more, and gives errno if that fails.
///
/// # Safety
/// `fd` must be open.
unsafe fn open_again(fd: c_int, flags: c_int) -> Result<c_int, c_int> {
    #[cfg(target_os = "linux")]
    let path = match fd {
        libc::STDOUT_FILENO => c"/proc/self/fd/1",
        _ => c"/proc/self/fd/2",
    };
    // There is no /proc, and /dev/fd/N shares the description: a pipe cannot be opened again.
    #[cfg(target_vendor = "apple")]
    let path = super::macos::terminal(fd).ok_or(libc::ENXIO)?;
    // SAFETY: `path` is a C string.
    match unsafe { libc::open(path.as_ptr(), flags) } {
        -1 => Err(errno()),
        fd => Ok(fd),
    }
}
