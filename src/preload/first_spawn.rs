//! Open MPI 5 starts a prte in each thread whose spawn finds none, and hangs at times if several do (seen with 5.0.11,
//! without the library as well). So the first spawn goes alone; the others find its prte.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::mpi::{Family, Mpi};

/// Whether a spawn has succeeded.
static HAS_LAUNCHER: Mutex<bool> = Mutex::new(false);

/// The first spawn, while it runs.
pub struct FirstSpawn(MutexGuard<'static, bool>);

impl FirstSpawn {
    /// Waits for a first spawn that runs. `None`: this is not the first one, or the MPI does not need this.
    pub fn begin(mpi: &Mpi) -> Option<FirstSpawn> {
        if mpi.family != Family::OpenMpi || mpi.version.as_slice() < &[5] {
            return None;
        }
        let has_launcher = HAS_LAUNCHER.lock().unwrap_or_else(PoisonError::into_inner);
        (!*has_launcher).then_some(FirstSpawn(has_launcher))
    }

    /// It has returned this code.
    pub fn end(mut self, code: libc::c_int) {
        *self.0 = code == 0;
    }
}
