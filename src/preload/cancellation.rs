//! A thread's cancellation (pthread_cancel(3)), which must not come in the middle of what is ours.

use libc::c_int;

/// While it lives, a cancellation of this thread waits: it would unwind into a catch_unwind of ours, which can't let a
/// foreign unwinding pass, and aborts.
pub struct Uncancelled(c_int);

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

impl Uncancelled {
    pub fn new() -> Uncancelled {
        /// pthread.h: 1 in glibc and musl, 0 on macOS.
        const DISABLE: c_int = if cfg!(target_vendor = "apple") { 0 } else { 1 };
        let mut before = 0;
        // SAFETY: it writes one int.
        unsafe { pthread_setcancelstate(DISABLE, &mut before) };
        Uncancelled(before)
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        // SAFETY: the state is what the call above gave; it writes one int.
        unsafe { pthread_setcancelstate(self.0, &mut 0) };
    }
}
