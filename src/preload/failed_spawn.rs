//! A spawn whose children never came: the agent sees that, and lets a stand-in connect, so that libmpi returns; here it
//! becomes an MPI error.

use std::sync::OnceLock;

use libc::c_int;

use crate::preload::real_fn::Real;
use crate::shared::spawn_page::Calls;

/// What tells the agent which calls the program is in; made at the first of them.
static CALLS: OnceLock<Option<&'static Calls>> = OnceLock::new();

/// A call that spawns, from its begin to its end.
pub struct Call {
    calls: &'static Calls,
    number: u32,
}

impl Call {
    /// It begins, over this communicator. `None`: the agent can't be told of it, or there would be no help.
    ///
    /// # Safety
    /// It must be a communicator's handle.
    pub unsafe fn begin(comm: usize) -> Option<Call> {
        // SAFETY: by this function's contract.
        if unsafe { !is_alone(comm) } {
            return None;
        }
        let calls = *CALLS.get_or_init(Calls::create);
        calls.map(|calls| Call {
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
    }
}

/// MPI_ERR_SPAWN in the mpi.h of MPICH and its kin, and in MPI 5's standard ABI (libmpi_abi).
const ERR_SPAWN: c_int = 42;
const ERR_SPAWN_ABI: c_int = 53;

/// Whether this process is alone in this communicator. Others in it would have to part with a stand-in as well, and
/// know nothing of it.
///
/// # Safety
/// It must be a communicator's handle.
unsafe fn is_alone(comm: usize) -> bool {
    type Size = unsafe extern "C-unwind" fn(usize, *mut c_int) -> c_int;
    let mut count = 0;
    // SAFETY: the address is that of PMPI_Comm_size, whose prototype this is; by this function's contract.
    Real::find("PMPI_Comm_size").is_some_and(|real| unsafe {
        std::mem::transmute::<usize, Size>(real.address())(comm, &mut count) == 0 && count == 1
    })
}

/// The functions of MPI's by which a program parts with a stand-in and hears of an error.
pub struct Parting {
    barrier: Real,
    disconnect: Real,
    handler: Real,
    /// Whether it is MPI 5's standard ABI, in which a handle is a pointer.
    abi: bool,
}

impl Parting {
    pub fn find() -> Option<Parting> {
        let handler = Real::find("PMPI_Comm_call_errhandler")?;
        let file = handler.object();
        let name = file.rsplit('/').next().unwrap_or_default();
        Some(Parting {
            barrier: Real::find("PMPI_Barrier")?,
            disconnect: Real::find("PMPI_Comm_disconnect")?,
            abi: name.starts_with("libmpi_abi"),
            handler,
        })
    }

    /// Parts with the stand-in, which does the same, and raises MPI_ERR_SPAWN on the caller's communicator, as libmpi
    /// would. The handler may end the program, or throw.
    ///
    /// # Safety
    /// `comm` must be the communicator's handle that the spawn was given, `intercomm` the place where it has put the
    /// new one's.
    pub unsafe fn error(&self, comm: usize, intercomm: usize) -> c_int {
        type OfComm = unsafe extern "C-unwind" fn(usize) -> c_int;
        type CallErrorHandler = unsafe extern "C-unwind" fn(usize, c_int) -> c_int;
        let code = if self.abi { ERR_SPAWN_ABI } else { ERR_SPAWN };
        let place = std::ptr::with_exposed_provenance::<c_int>(intercomm);
        // SAFETY: the addresses are those of the functions of these names, whose prototypes these are; by this
        // function's contract. A handle is a pointer in the standard ABI, else an int.
        unsafe {
            let children = match self.abi {
                true => *place.cast::<usize>(),
                false => *place as usize,
            };
            std::mem::transmute::<usize, OfComm>(self.barrier.address())(children);
            std::mem::transmute::<usize, OfComm>(self.disconnect.address())(intercomm);
            std::mem::transmute::<usize, CallErrorHandler>(self.handler.address())(comm, code);
        }
        code
    }
}
