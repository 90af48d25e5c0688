//! Open MPI's launcher, which is recognised by the fork that it begins with.
//!
//! Open MPI 5 (start_dvm in ompi/dpm/dpm.c) forks within `MPI_Comm_spawn`, and the child calls
//!
//! ```c
//! execv("/…/prte", {"prte", …, "--singleton", ID, "--keepalive", FD, NULL})
//! ```
//!
//! Those arguments could be recognised as surely as mpiexec's are, but not without a fourth export, through which each
//! execv of each program would pass. The fork tells as much: it is the only one in libmpi, and the thread that makes it
//! is the one that called `MPI_Comm_spawn`, which has not returned. So a fork handler, pthread_atfork(3), finds the child
//! that is to become the launcher. Only the first spawn of a program launches one.
//!
//! Open MPI 4's launcher, orted, is out of reach: MPI_Init launches it (`Mpi::launches_at_init`). It begins a session of
//! its own (`--set-sid`), so the terminal's signals don't reach it either.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::hooks;

/// The thread that is in a spawn of Open MPI's: its pthread_t, or 0. A thread-local variable would not do: to read
/// one in the child may allocate. Of several threads that spawn at once, the first launches.
static SPAWNING: AtomicUsize = AtomicUsize::new(0);

/// While one lives, a child that this thread forks is taken for Open MPI's launcher.
pub struct Expected(());

impl Expected {
    /// `None`: another thread spawns just now. `Err`: there is no fork handler, for this errno.
    pub fn begin() -> Result<Option<Expected>, libc::c_int> {
        /// What pthread_atfork gave, once.
        static HANDLER: OnceLock<libc::c_int> = OnceLock::new();
        // SAFETY: `in_child` stays as long as the program, as a preloaded library is never unloaded.
        let failed =
            HANDLER.get_or_init(|| unsafe { libc::pthread_atfork(None, None, Some(in_child)) });
        if *failed != 0 {
            return Err(*failed);
        }
        let free = SPAWNING.compare_exchange(0, this_thread(), Ordering::AcqRel, Ordering::Acquire);
        Ok(free.ok().map(|_| Expected(())))
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        SPAWNING.store(0, Ordering::Release);
    }
}

fn this_thread() -> usize {
    // SAFETY: pthread_self has no arguments and cannot fail; in a forked child it is what it was before.
    unsafe { libc::pthread_self() as usize }
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
        hooks::prepare_prte();
    }
}
