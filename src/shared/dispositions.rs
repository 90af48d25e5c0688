//! What this process does on a signal.

use std::mem::MaybeUninit;

use libc::c_int;

/// A signal's disposition. `None`: there is no such signal.
pub fn disposition(signal: c_int) -> Option<libc::sigaction> {
    let mut now = MaybeUninit::uninit();
    // SAFETY: without a new disposition, sigaction only fills `now`, which is read only if it did.
    unsafe {
        (libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) == 0)
            .then(|| now.assume_init())
    }
}

/// Whether this process ignores this signal.
pub fn is_ignored(signal: c_int) -> bool {
    disposition(signal).is_some_and(|now| now.sa_sigaction == libc::SIG_IGN)
}
