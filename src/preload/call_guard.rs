//! The call guard, for an MPI that spawnfix does not know: around the real call, in the application, fd 0 reads as
//! closed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use libc::c_int;

use crate::shared::stdio::{self, Stdin};

/// While one lives, fd 0 of the application is what [`stdio::replace_stdin`] makes it. Dropping the last one puts back what
/// was there: the same open file description, the same FD_CLOEXEC; nothing, if fd 0 was closed.
///
/// The number 0 is never free in between. Other threads see the change, as descriptors belong to the process.
pub struct CallGuard(());

/// What the guards that live at present have set aside: the first one saves, the last one restores.
static SET_ASIDE: Mutex<SetAside> = Mutex::new(SetAside {
    guards: 0,
    original: Original::Closed,
});

struct SetAside {
    guards: usize,
    original: Original,
}

enum Original {
    Closed,
    Open { saved: c_int, flags: c_int },
}

impl CallGuard {
    /// Takes fd 0 away from the application.
    ///
    /// # Errors
    /// Gives errno when fd 0 can't be saved or replaced; it is as before then.
    pub fn new() -> Result<CallGuard, c_int> {
        let mut aside = set_aside();
        if aside.guards == 0 {
            aside.original = save_and_replace()?;
        }
        aside.guards += 1;
        Ok(CallGuard(()))
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let mut aside = set_aside();
        aside.guards -= 1;
        if aside.guards > 0 {
            return;
        }
        // What the application itself has put there meanwhile stays.
        let ours = is_replaced();
        // SAFETY: `saved` was duplicated by `save_and_replace` and is closed nowhere else. fd 0 is closed only if it is
        // what `save_and_replace` opened there.
        unsafe {
            match aside.original {
                Original::Closed if ours => libc::close(libc::STDIN_FILENO),
                Original::Closed => 0,
                Original::Open { saved, .. } if !ours => libc::close(saved),
                Original::Open { saved, flags } => {
                    libc::dup2(saved, libc::STDIN_FILENO);
                    libc::fcntl(libc::STDIN_FILENO, libc::F_SETFD, flags);
                    libc::close(saved)
                }
            };
        }
    }
}

fn set_aside() -> MutexGuard<'static, SetAside> {
    SET_ASIDE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn save_and_replace() -> Result<Original, c_int> {
    // SAFETY: fcntl, open, dup2 and close on descriptors of which only fd 0 is not ours.
    unsafe {
        let flags = libc::fcntl(libc::STDIN_FILENO, libc::F_GETFD);
        if flags < 0 {
            stdio::replace_stdin()?;
            return Ok(Original::Closed);
        }
        // Above fd 2, so that the copy is nobody's stdout or stderr.
        let saved = libc::fcntl(libc::STDIN_FILENO, libc::F_DUPFD_CLOEXEC, 3);
        if saved < 0 {
            return Err(stdio::errno());
        }
        if let Err(errno) = stdio::replace_stdin() {
            libc::close(saved);
            return Err(errno);
        }
        Ok(Original::Open { saved, flags })
    }
}

/// Whether fd 0 is what [`stdio::replace_stdin`] makes it.
fn is_replaced() -> bool {
    // SAFETY: F_GETFL only asks.
    let flags = unsafe { libc::fcntl(libc::STDIN_FILENO, libc::F_GETFL) };
    flags & libc::O_ACCMODE == libc::O_WRONLY && Stdin::of_this_process() == Stdin::DevNull
}

/// How many threads the application has, as far as the system tells.
pub fn threads() -> Option<usize> {
    #[cfg(target_os = "linux")]
    return Some(std::fs::read_dir("/proc/self/task").ok()?.count());
    #[cfg(target_vendor = "apple")]
    return super::macos::threads();
}
