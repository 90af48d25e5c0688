//! The call guard, for an MPI that spawnfix does not know: around the real call, in the application, fd 0 reads as
//! closed.

use libc::c_int;

use crate::preload::nested::{Nested, User};
use crate::shared::stdio::{self, Stdin};

/// While one lives, fd 0 of the application is what [`stdio::replace_stdin`] makes it. Dropping the last one puts back what
/// was there: the same open file description, the same FD_CLOEXEC; nothing, if fd 0 was closed.
///
/// The number 0 is never free in between. Other threads see the change, as descriptors belong to the process.
pub type CallGuard = User<SetAside>;

static SET_ASIDE: Nested<SetAside> = Nested::new();

/// Takes fd 0 away from the application. `None`: it can't be saved or replaced, and is as before.
pub fn begin(call: &str) -> Option<CallGuard> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        log::warn!(
            "{call}: all {threads} threads of this process are without stdin during the call"
        );
    }
    let failed = |errno: &c_int| {
        log::warn!("{call}: stdin can't be replaced (errno {errno}); the call goes on without")
    };
    SET_ASIDE.enter(save_and_replace).inspect_err(failed).ok()
}

/// What was fd 0.
pub enum SetAside {
    Closed,
    Open { saved: c_int, flags: c_int },
}

impl Drop for SetAside {
    fn drop(&mut self) {
        // What the application itself has put there meanwhile stays.
        let ours = is_replaced();
        // SAFETY: `saved` was duplicated by `save_and_replace` and is closed nowhere else. fd 0 is closed only if it is
        // what `save_and_replace` opened there.
        unsafe {
            match *self {
                SetAside::Closed if ours => _ = libc::close(libc::STDIN_FILENO),
                SetAside::Closed => {}
                SetAside::Open { saved, flags } => {
                    if ours {
                        libc::dup2(saved, libc::STDIN_FILENO);
                        libc::fcntl(libc::STDIN_FILENO, libc::F_SETFD, flags);
                    }
                    libc::close(saved);
                }
            }
        }
    }
}

fn save_and_replace() -> Result<SetAside, c_int> {
    // SAFETY: fcntl, open, dup2 and close on descriptors of which only fd 0 is not ours.
    unsafe {
        let flags = libc::fcntl(libc::STDIN_FILENO, libc::F_GETFD);
        if flags < 0 {
            stdio::replace_stdin()?;
            return Ok(SetAside::Closed);
        }
        // Above fd 2, so that the copy is nobody's stdout or stderr.
        let saved = libc::fcntl(libc::STDIN_FILENO, libc::F_DUPFD_CLOEXEC, 3);
        if saved < 0 {
            return Err(stdio::errno());
        }
        stdio::replace_stdin().inspect_err(|_| _ = libc::close(saved))?;
        Ok(SetAside::Open { saved, flags })
    }
}

/// Whether fd 0 is what [`stdio::replace_stdin`] makes it.
fn is_replaced() -> bool {
    // SAFETY: F_GETFL only asks.
    let flags = unsafe { libc::fcntl(libc::STDIN_FILENO, libc::F_GETFL) };
    flags & libc::O_ACCMODE == libc::O_WRONLY && Stdin::of_this_process() == Stdin::DevNull
}
