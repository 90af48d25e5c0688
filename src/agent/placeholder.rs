//! The placeholder: a child that connects to the application in place of lost ones, so that libmpi returns from its
//! spawn. The library then makes that an MPI error (failed_spawn.rs).

use std::ffi::{CStr, CString, OsString, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use crate::output::eprint_prefixed;
use crate::pmi::message::Message;
use crate::shared::logging::escape;

/// The option of this executable that makes it one: `spawnfix --placeholder LIBMPI`, started by MPI as a child.
pub const OPTION: &[u8] = b"--placeholder";

/// The request that starts a placeholder for the children of this spawn.
pub fn request(spawn: &Message, own: &Path, libmpi: &Path) -> Message {
    let arguments = [OPTION, libmpi.as_os_str().as_bytes()];
    spawn.with_command(own.as_os_str().as_bytes(), &arguments)
}

/// Connects with this MPI library, disconnects and ends.
pub fn main(libmpi: Option<&OsString>) -> ExitCode {
    let Some(libmpi) = libmpi else {
        return ExitCode::from(2);
    };
    match connect(libmpi) {
        Ok(()) => ExitCode::SUCCESS,
        Err(missing) => {
            eprint_prefixed(format_args!(
                "no placeholder for lost children: {missing} in {}",
                escape(libmpi)
            ));
            ExitCode::FAILURE
        }
    }
}

/// # Errors
/// What the library lacks.
fn connect(libmpi: &OsString) -> Result<(), &'static str> {
    type Init = unsafe extern "C" fn(*mut c_int, *mut *mut *mut libc::c_char) -> c_int;
    type OfHandle = unsafe extern "C" fn(*mut usize) -> c_int;
    type OfComm = unsafe extern "C" fn(usize) -> c_int;
    type Finalize = unsafe extern "C" fn() -> c_int;
    let file = CString::new(libmpi.as_bytes()).map_err(|_| "a NUL")?;
    // SAFETY: a C string; what a libmpi runs as it is loaded is what it runs in every application.
    let library = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_LAZY | libc::RTLD_GLOBAL) };
    if library.is_null() {
        return Err("nothing can be loaded");
    }
    let find = |name: &'static CStr| {
        // SAFETY: a C string, and a handle of dlopen's.
        let address = unsafe { libc::dlsym(library, name.as_ptr()) };
        let missing = name.to_str().unwrap_or_default();
        (!address.is_null()).then_some(address).ok_or(missing)
    };
    let (init, get_parent) = (find(c"PMPI_Init")?, find(c"PMPI_Comm_get_parent")?);
    let barrier = find(c"PMPI_Barrier")?;
    let (disconnect, finalize) = (find(c"PMPI_Comm_disconnect")?, find(c"PMPI_Finalize")?);
    // A handle is an int or a pointer.
    let mut parent = 0_usize;
    // SAFETY: the addresses are those of MPI's functions, whose prototypes these are; MPI_Init takes nulls; the handle
    // has room for either, and is what the others take.
    unsafe {
        std::mem::transmute::<*mut c_void, Init>(init)(std::ptr::null_mut(), std::ptr::null_mut());
        std::mem::transmute::<*mut c_void, OfHandle>(get_parent)(&raw mut parent);
        // The application has returned from its spawn when it comes to this.
        std::mem::transmute::<*mut c_void, OfComm>(barrier)(parent);
        std::mem::transmute::<*mut c_void, OfHandle>(disconnect)(&raw mut parent);
        std::mem::transmute::<*mut c_void, Finalize>(finalize)();
    }
    Ok(())
}
