//! A spawn whose children ended before they connected becomes an MPI error.
//!
//! The library counts the calls in a [`SpawnPage`]. The agent sees by the page that the application waits for children
//! that are gone, has a placeholder connect in their place, so that libmpi returns, and marks the call as failed. The
//! library then disconnects from the placeholder, and raises MPI_ERR_SPAWN as libmpi would.

#[cfg(target_os = "linux")]
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use libc::c_int;

use crate::preload::real_fn::RealFn;
use crate::shared::paths;
use crate::shared::spawn_page::SpawnPage;

/// A call that spawns, from its begin to its end.
pub struct Call {
    page: &'static SpawnPage,
    number: u32,
}

impl Call {
    /// A call over this communicator begins. `None`: the agent can't see it, or the library could not help.
    ///
    /// # Safety
    /// It must be a communicator's handle.
    pub unsafe fn begin(comm: usize) -> Option<Call> {
        static PAGE: OnceLock<Option<&SpawnPage>> = OnceLock::new();
        // SAFETY: by this function's contract.
        if unsafe { !is_alone(comm) } {
            return None;
        }
        let page = (*PAGE.get_or_init(create_page))?;
        let number = page.begun.fetch_add(1, Ordering::SeqCst) + 1;
        Some(Call { page, number })
    }

    /// Whether its children ended before they connected, which libmpi doesn't know.
    pub fn has_failed(&self) -> bool {
        self.page.failed.load(Ordering::SeqCst) == self.number
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.page.returned.fetch_add(1, Ordering::SeqCst);
    }
}

/// How many descriptors are left to the application: libmpi needs four for a spawn.
const DESCRIPTORS_LEFT: libc::rlim_t = 16;

/// A page that the agent finds by its descriptor, which stays open. `None`: the system has no memfd, or the process may
/// soon have no descriptor left for libmpi.
fn create_page() -> Option<&'static SpawnPage> {
    #[cfg(target_os = "linux")]
    // SAFETY: a C string and integers; glibc before 2.27 has no memfd_create. The descriptor is this function's own.
    // All zeroes is a rlimit.
    unsafe {
        // SpawnPage::LINK has this name.
        let name = c"spawnfix".as_ptr();
        let created = libc::syscall(libc::SYS_memfd_create, name, libc::MFD_CLOEXEC) as RawFd;
        // Above fd 2: what the application has closed there stays closed.
        let fd = libc::fcntl(created, libc::F_DUPFD_CLOEXEC, 3);
        libc::close(created);
        let mut limit = std::mem::zeroed::<libc::rlimit>();
        let usable = fd >= 0
            && libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0
            && fd as libc::rlim_t + DESCRIPTORS_LEFT < limit.rlim_cur
            && libc::ftruncate(fd, size_of::<SpawnPage>() as libc::off_t) == 0;
        let page = usable.then(|| SpawnPage::map(fd)).flatten();
        if page.is_none() {
            libc::close(fd);
        }
        page
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// MPI_ERR_SPAWN in the mpi.h of MPICH and its kin, and in MPI 5's standard ABI (libmpi_abi).
const ERR_SPAWN: c_int = 42;
const ERR_SPAWN_ABI: c_int = 53;

/// Whether this process is alone in this communicator. Others in it would have to disconnect from the placeholder as
/// well, and their library does not see it.
///
/// # Safety
/// It must be a communicator's handle.
unsafe fn is_alone(comm: usize) -> bool {
    type Size = unsafe extern "C-unwind" fn(usize, *mut c_int) -> c_int;
    let mut count = 0;
    // SAFETY: the address is that of PMPI_Comm_size, whose prototype this is; by this function's contract.
    RealFn::find("PMPI_Comm_size").is_some_and(|real| unsafe {
        std::mem::transmute::<usize, Size>(real.address())(comm, &mut count) == 0 && count == 1
    })
}

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
        let file = handler.object();
        Some(ErrorPath {
            barrier: RealFn::find("PMPI_Barrier")?,
            disconnect: RealFn::find("PMPI_Comm_disconnect")?,
            abi: paths::file_name(file.as_bytes()).starts_with(b"libmpi_abi"),
            handler,
        })
    }

    /// Disconnects from the placeholder, which does the same, and raises MPI_ERR_SPAWN on the caller's communicator, as
    /// libmpi would. The error handler may end the application, or throw.
    ///
    /// # Safety
    /// `comm` must be the communicator's handle that the spawn was given, `intercomm` the place where it has put the
    /// new one's.
    pub unsafe fn error(&self, comm: usize, intercomm: usize) -> c_int {
        type OfComm = unsafe extern "C-unwind" fn(usize) -> c_int;
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
            self.raise(comm)
        }
    }

    /// Raises MPI_ERR_SPAWN on this communicator. The error handler may end the application, or throw.
    ///
    /// # Safety
    /// It must be a communicator's handle.
    pub unsafe fn raise(&self, comm: usize) -> c_int {
        type CallErrorHandler = unsafe extern "C-unwind" fn(usize, c_int) -> c_int;
        let code = if self.abi { ERR_SPAWN_ABI } else { ERR_SPAWN };
        // SAFETY: the address is that of PMPI_Comm_call_errhandler, whose prototype this is; by this function's contract.
        unsafe {
            std::mem::transmute::<usize, CallErrorHandler>(self.handler.address())(comm, code)
        };
        code
    }
}
