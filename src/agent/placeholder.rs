//! The placeholder: a child that connects to the application in place of lost ones, so that libmpi returns from its
//! spawn. The library then makes that an MPI error (failed_spawn.rs).

use std::ffi::{OsString, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use crate::mpi::library::Library;
use crate::output::eprint_prefixed;
use crate::pmi::message::Message;
use crate::shared::logging::escape;

/// The option of this executable that makes it one: `spawnfix --placeholder LIBMPI [LIBFABRIC|host]`, started by MPI as a child.
pub const OPTION: &[u8] = b"--placeholder";

/// The request that starts a placeholder for the children of this spawn.
pub fn request(spawn: &Message, own: &Path, libmpi: &Path, libfabric: Option<&Path>) -> Message {
    let mut arguments = vec![OPTION, libmpi.as_os_str().as_bytes()];
    arguments.extend(libfabric.map(|file| file.as_os_str().as_bytes()));
    spawn.with_command(own.as_os_str().as_bytes(), &arguments)
}

/// Before the name of the host that it says it runs on.
pub const HOST: &str = "spawnfix: child on ";

/// Connects with this MPI library, disconnects and ends. A second word is the path of a libfabric to load before, or
/// something else: then it says where it runs.
pub fn main(words: &[OsString]) -> ExitCode {
    let Some((libmpi, more)) = words.split_first() else {
        return ExitCode::from(2);
    };
    match more.first() {
        // What libmpi then lacks, it says itself.
        Some(file) if Path::new(file).is_absolute() => _ = Library::load(file),
        Some(_) => {
            let host = rustix::system::uname();
            println!("{HOST}{}", host.nodename().to_string_lossy());
        }
        None => {}
    }
    match connect(libmpi) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprint_prefixed(format_args!(
                "no placeholder for lost children: {}: {why}",
                escape(libmpi)
            ));
            ExitCode::FAILURE
        }
    }
}

/// # Errors
/// What the library lacks.
fn connect(libmpi: &OsString) -> Result<(), String> {
    type Init = unsafe extern "C" fn(*mut c_int, *mut c_void) -> c_int;
    type OfHandle = unsafe extern "C" fn(*mut usize) -> c_int;
    type OfComm = unsafe extern "C" fn(usize) -> c_int;
    type Finalize = unsafe extern "C" fn() -> c_int;
    let library = Library::load(libmpi)?;
    // A handle is an int or a pointer.
    let mut parent = 0_usize;
    // SAFETY: these are the prototypes of MPI's functions; MPI_Init takes nulls; the handle has room for either kind, and
    // is what the others take.
    unsafe {
        let init: Init = library.function(c"PMPI_Init")?;
        let get_parent: OfHandle = library.function(c"PMPI_Comm_get_parent")?;
        let barrier: OfComm = library.function(c"PMPI_Barrier")?;
        let disconnect: OfHandle = library.function(c"PMPI_Comm_disconnect")?;
        let finalize: Finalize = library.function(c"PMPI_Finalize")?;
        init(std::ptr::null_mut(), std::ptr::null_mut());
        get_parent(&raw mut parent);
        // The application has returned from its spawn when it comes to this.
        barrier(parent);
        disconnect(&raw mut parent);
        finalize();
    }
    Ok(())
}
