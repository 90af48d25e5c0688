//! What Rust's start-up changes in this process: the command must find it as the caller left it.
//!
//! Before `main`, std opens /dev/null on fd 0, 1 and 2 where one is closed, and ignores SIGPIPE
//! (library/std/src/sys/pal/unix/mod.rs: `init`).

use std::sync::atomic::{AtomicBool, Ordering};

use crate::shared::dispositions::is_ignored;

static CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];
static SIGPIPE_IGNORED: AtomicBool = AtomicBool::new(false);

ctor::declarative::ctor! {
    #[ctor(unsafe)]
    fn note() {
        for (fd, closed) in CLOSED.iter().enumerate() {
            // SAFETY: F_GETFD only asks.
            let answer = unsafe { libc::fcntl(fd as libc::c_int, libc::F_GETFD) };
            closed.store(answer < 0, Ordering::Relaxed);
        }
        SIGPIPE_IGNORED.store(is_ignored(libc::SIGPIPE), Ordering::Relaxed);
    }
}

/// Undoes the changes, just before an exec.
pub fn restore() {
    for (fd, closed) in CLOSED.iter().enumerate() {
        if closed.load(Ordering::Relaxed) {
            // SAFETY: the descriptor is the one that std opened in the place of a closed one; until the exec nothing
            // is read or written.
            unsafe { libc::close(fd as libc::c_int) };
        }
    }
    if !SIGPIPE_IGNORED.load(Ordering::Relaxed) {
        // SAFETY: the default action needs no handler of ours.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
}
