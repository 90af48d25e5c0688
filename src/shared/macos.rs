//! Terminals on macOS, which has no /proc through which to open one again.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use libc::c_int;

/// The terminals on fd 1 and 2 at load, by device: ttyname is not async-signal-safe.
static TERMINALS: OnceLock<[Option<(libc::dev_t, CString)>; 2]> = OnceLock::new();

/// Takes note of the terminals on fd 1 and 2, while nothing else runs.
pub fn note_terminals() {
    TERMINALS.get_or_init(|| {
        [libc::STDOUT_FILENO, libc::STDERR_FILENO].map(|fd| {
            let device = device(fd)?;
            let mut name = [0; 128];
            // SAFETY: the buffer has the length that is given; on success it holds a C string.
            unsafe {
                (libc::ttyname_r(fd, name.as_mut_ptr(), name.len()) == 0)
                    .then(|| (device, CStr::from_ptr(name.as_ptr()).to_owned()))
            }
        })
    });
}

/// The path of the terminal on `fd`, if it is one of those that were there at load.
pub fn terminal(fd: c_int) -> Option<&'static CStr> {
    let device = device(fd)?;
    let terminals = TERMINALS.get()?.iter().flatten();
    let mut same = terminals.filter(|(noted, _)| *noted == device);
    same.next().map(|(_, path)| path.as_c_str())
}

fn device(fd: c_int) -> Option<libc::dev_t> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: fstat fills `stat` when it returns 0, and only then is it read.
    unsafe { (libc::fstat(fd, stat.as_mut_ptr()) == 0).then(|| stat.assume_init().st_rdev) }
}

/// Whether `fd` is the master side of a pseudo-terminal.
pub fn is_pty_master(fd: c_int) -> bool {
    /// sys/ttycom.h: `_IOC(IOC_OUT, 't', 83, 128)`.
    const TIOCPTYGNAME: libc::c_ulong = 0x4080_7453;
    let mut name = [0u8; 128];
    // SAFETY: TIOCPTYGNAME (xnu, bsd/kern/tty_dev.c) writes 128 bytes, on a master only.
    unsafe { libc::ioctl(fd, TIOCPTYGNAME, name.as_mut_ptr()) == 0 }
}
