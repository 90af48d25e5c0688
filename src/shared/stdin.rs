//! What fd 0 is.

use std::fmt;
use std::mem::MaybeUninit;

use libc::c_int;

/// What fd 0 is, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdin {
    Terminal,
    Pipe,
    Socket,
    File,
    DevNull,
    Device,
    Closed,
}

impl Stdin {
    /// Looks at this process's fd 0.
    pub fn of_this_program() -> Stdin {
        let Some(stat) = stat(libc::STDIN_FILENO) else {
            return Stdin::Closed;
        };
        match stat.st_mode & libc::S_IFMT {
            libc::S_IFIFO => Stdin::Pipe,
            libc::S_IFSOCK => Stdin::Socket,
            libc::S_IFREG => Stdin::File,
            libc::S_IFCHR if is_terminal(libc::STDIN_FILENO) => Stdin::Terminal,
            libc::S_IFCHR if is_dev_null(&stat) => Stdin::DevNull,
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

/// Async-signal-safe.
pub fn stat(fd: c_int) -> Option<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills `stat` when it returns 0, and only then is it read.
    unsafe { (libc::fstat(fd, stat.as_mut_ptr()) == 0).then(|| stat.assume_init()) }
}

/// Async-signal-safe.
pub fn is_terminal(fd: c_int) -> bool {
    // SAFETY: isatty takes any descriptor.
    unsafe { libc::isatty(fd) == 1 }
}

fn is_dev_null(stat: &libc::stat) -> bool {
    let mut null = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the path is a C string; stat fills `null` when it returns 0, and only then is it read.
    unsafe {
        libc::stat(c"/dev/null".as_ptr(), null.as_mut_ptr()) == 0
            && null.assume_init().st_rdev == stat.st_rdev
    }
}
