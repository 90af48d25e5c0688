//! Open MPI's launcher, which is recognised by the fork that it begins with.
//!
//! Open MPI 5 (start_dvm in ompi/dpm/dpm.c) forks within `MPI_Comm_spawn`, and the child calls
//!
//! ```c
//! execv("/…/prte", {"prte", …, "--singleton", ID, "--keepalive", FD, NULL})
//! ```
//!
//! Those arguments could be recognised as surely as mpiexec's are, but not without a fourth export, through which
//! each execv of each program would pass. The fork tells nearly as much: it is the only one in libmpi, and the
//! thread that makes it is the one that called `MPI_Comm_spawn`, which has not returned. So a fork handler,
//! pthread_atfork(3), finds the child that is to become the launcher. An error handler or a signal handler of the
//! program's that forks at that time would be taken for it, once: its child would lose what the launcher is to
//! lose, our entry in LD_PRELOAD and, if asked for, the program's process group. Only the first spawn of a program
//! launches.
//!
//! Open MPI 4's launcher, orted, is out of reach: MPI_Init launches it (`Mpi::launches_at_init`). It begins a session of
//! its own (`--set-sid`), so the terminal's signals don't reach it either.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::c_int;
use log::Level;

use crate::{guard, logging};

/// The thread whose next fork is the launcher's: its pthread_t, or 0. A thread-local variable would not do: to read
/// one in the child may allocate.
static SPAWNING: AtomicUsize = AtomicUsize::new(0);

/// While one lives, the first child that this thread forks is taken for Open MPI's launcher.
pub struct Expected(());

impl Expected {
    /// `None`, and a word in the log, if there is no fork handler to be had, or another thread is in a spawn.
    pub fn begin(name: &str) -> Option<Expected> {
        /// What pthread_atfork gave, once.
        static HANDLER: OnceLock<c_int> = OnceLock::new();
        // SAFETY: the handlers stay as long as the program, as a preloaded library is never unloaded.
        let errno = *HANDLER.get_or_init(|| unsafe {
            libc::pthread_atfork(None, Some(in_program), Some(in_child))
        });
        if errno != 0 {
            log::warn!("{name}: Open MPI's launcher can't be recognised (errno {errno})");
            return None;
        }
        match SPAWNING.compare_exchange(0, this_thread(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Some(Expected(())),
            // Left by a call that ended in a longjmp.
            Err(thread) if thread == this_thread() => Some(Expected(())),
            Err(_) => {
                log::info!("{name}: another thread's spawn is taken for the one that launches");
                None
            }
        }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        in_program();
    }
}

fn this_thread() -> usize {
    // SAFETY: pthread_self has no arguments and cannot fail; in a forked child it is what it was before.
    unsafe { libc::pthread_self() as usize }
}

/// In the program, after each fork: what this thread forks next is no launcher.
extern "C" fn in_program() {
    let _ = SPAWNING.compare_exchange(this_thread(), 0, Ordering::AcqRel, Ordering::Acquire);
}

/// Between fork and exec, in each child that the program forks: only async-signal-safe calls. A child that becomes no
/// launcher may spawn itself: it begins anew.
extern "C" fn in_child() {
    let spawning = SPAWNING.load(Ordering::Acquire);
    if spawning == 0 {
        return;
    }
    SPAWNING.store(0, Ordering::Release);
    if spawning == this_thread() {
        let _uncancelled = guard::Uncancelled::new();
        logging::from_child(Level::Info, format_args!("this child is taken for prte"));
        guard::set_apart("prte");
    }
}
