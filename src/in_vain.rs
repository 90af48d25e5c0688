//! A spawn whose children never came: the agent sees that, and lets a stand-in connect, so that libmpi returns; here it becomes
//! an MPI error.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use libc::c_int;

use crate::calls::Calls;
use crate::symbols::Real;

/// What tells the agent which calls the program is in; made at the first of them.
static CALLS: OnceLock<Option<&'static Calls>> = OnceLock::new();

/// Its descriptor, for as long as the agent has not come for it; then -1.
static CALLS_FD: AtomicI32 = AtomicI32::new(-1);

/// A call that spawns, from its begin to its end.
pub struct Call {
    calls: &'static Calls,
    number: u32,
}

impl Call {
    /// It begins. `None`: the agent can't be told of it.
    pub fn begin() -> Option<Call> {
        let calls = CALLS.get_or_init(|| {
            let (calls, fd) = Calls::create()?;
            CALLS_FD.store(fd, Ordering::Relaxed);
            Some(calls)
        });
        (*calls).map(|calls| Call {
            calls,
            number: calls.begin(),
        })
    }

    /// Whether its children never came, which libmpi doesn't know.
    pub fn is_in_vain(&self) -> bool {
        self.calls.has_failed(self.number)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.end();
        if self.calls.is_shared() {
            let fd = CALLS_FD.swap(-1, Ordering::Relaxed);
            if fd >= 0 {
                // SAFETY: nobody else uses it.
                unsafe { libc::close(fd) };
            }
        }
    }
}

/// MPI_ERR_SPAWN in the mpi.h of MPICH and its kin, and in MPI 5's standard ABI (libmpi_abi).
const ERR_SPAWN: c_int = 42;
const ERR_SPAWN_ABI: c_int = 53;

/// Parts with the stand-in, which does the same, and raises MPI_ERR_SPAWN on the caller's communicator, as libmpi would.
///
/// `comm` is the communicator's handle, `intercomm` where the new one's is.
///
/// # Safety
/// The handles must be what the spawn was given, and has filled.
pub unsafe fn error(comm: usize, intercomm: usize) -> c_int {
    type OfComm = unsafe extern "C-unwind" fn(usize) -> c_int;
    type CallErrorHandler = unsafe extern "C-unwind" fn(usize, c_int) -> c_int;
    let Some(handler) = Real::find("PMPI_Comm_call_errhandler") else {
        return ERR_SPAWN;
    };
    let abi = handler.object().contains("libmpi_abi.");
    let code = if abi { ERR_SPAWN_ABI } else { ERR_SPAWN };
    let parting = (
        Real::find("PMPI_Barrier"),
        Real::find("PMPI_Comm_disconnect"),
    );
    // SAFETY: the addresses are those of the functions of these names, whose prototypes these are; by this function's
    // contract. A handle is a pointer in the standard ABI, else an int. An error handler may end the program, or throw.
    unsafe {
        if let (Some(barrier), Some(disconnect)) = parting {
            let place = std::ptr::with_exposed_provenance::<c_int>(intercomm);
            let children = match abi {
                true => *place.cast::<usize>(),
                false => *place as usize,
            };
            std::mem::transmute::<usize, OfComm>(barrier.address())(children);
            std::mem::transmute::<usize, OfComm>(disconnect.address())(intercomm);
        }
        std::mem::transmute::<usize, CallErrorHandler>(handler.address())(comm, code);
    }
    code
}
