//! A spawn whose children ended before they connected becomes an MPI error: the library disconnects from the placeholder that
//! connected in their place, and raises MPI_ERR_SPAWN as libmpi would.

use libc::c_int;

use crate::preload::real_fn::RealFn;
use crate::shared::paths;

/// MPI_ERR_SPAWN in the mpi.h of MPICH and its kin, and in MPI 5's standard ABI (libmpi_abi).
const ERR_SPAWN: c_int = 42;
const ERR_SPAWN_ABI: c_int = 53;

/// The MPI functions by which the application disconnects from a placeholder and gets its error.
pub struct ErrorPath {
    barrier: RealFn,
    disconnect: RealFn,
    handler: RealFn,
    /// Whether it is MPI 5's standard ABI, in which a handle is a pointer.
    abi: bool,
}

impl ErrorPath {
    /// Those of the application's MPI.
    pub fn find() -> Option<ErrorPath> {
        let handler = RealFn::find("PMPI_Comm_call_errhandler")?;
        let file = handler.file();
        Some(ErrorPath {
            barrier: RealFn::find("PMPI_Barrier")?,
            disconnect: RealFn::find("PMPI_Comm_disconnect")?,
            abi: paths::file_name(file.as_bytes()).starts_with(b"libmpi_abi"),
            handler,
        })
    }

    /// Disconnects from the placeholder, which does the same.
    ///
    /// # Safety
    /// `intercomm` must be the place where the spawn has put the new communicator's handle.
    pub unsafe fn disconnect(&self, intercomm: usize) {
        type OfComm = unsafe extern "C-unwind" fn(usize) -> c_int;
        let place = std::ptr::with_exposed_provenance::<c_int>(intercomm);
        // SAFETY: these are the prototypes of the functions; by this function's contract. A handle is a pointer in the
        // standard ABI, else an int.
        unsafe {
            let children = match self.abi {
                true => *place.cast::<usize>(),
                false => *place as usize,
            };
            self.barrier.cast::<OfComm>()(children);
            self.disconnect.cast::<OfComm>()(intercomm);
        }
    }

    /// Raises MPI_ERR_SPAWN on this communicator, as libmpi would. The error handler may end the application, or throw.
    ///
    /// # Safety
    /// It must be a communicator's handle.
    pub unsafe fn raise(&self, comm: usize) -> c_int {
        type CallErrorHandler = unsafe extern "C-unwind" fn(usize, c_int) -> c_int;
        let code = if self.abi { ERR_SPAWN_ABI } else { ERR_SPAWN };
        // SAFETY: this is the prototype of PMPI_Comm_call_errhandler; by this function's contract.
        unsafe { self.handler.cast::<CallErrorHandler>()(comm, code) };
        code
    }
}
