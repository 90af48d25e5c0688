//! The application of a trial, `spawnfix --trial LIBMPI CHILDREN`: it loads this MPI library, spawns, exchanges a barrier
//! with the children and leaves. On its stdout it says how far it came; what MPI says goes to stderr.

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int, c_void};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::ptr::{null, null_mut};
use std::time::Instant;

use crate::agent::placeholder;
use crate::mpi::library::Library;
use crate::shared::paths::{self, file_name};

/// The option of this executable that makes it one.
pub const OPTION: &[u8] = b"--trial";

/// Begins what follows the MPI library's version on stdout: each step that comes next, and last the spawn's milliseconds.
pub const NEXT: char = '\u{1e}';

/// MPI_COMM_SELF, MPI_INFO_NULL and MPI_THREAD_MULTIPLE, which are the implementation's own.
fn constants(library: &Library, file: &OsStr) -> (usize, usize, c_int) {
    let open_mpis = [c"ompi_mpi_comm_self", c"ompi_mpi_info_null"].map(|name| library.object(name));
    match open_mpis {
        // MPI 5's standard ABI: mpi_abi.h.
        _ if file_name(file.as_bytes()).starts_with(b"libmpi_abi") => (0x102, 0x130, 4096),
        // Open MPI's handles are the addresses of its objects: OMPI_PREDEFINED_GLOBAL in its mpi.h.
        [Some(comm_self), Some(info_null)] => (comm_self, info_null, 3),
        // mpi.h of MPICH and its kin.
        _ => (0x4400_0001, 0x1c00_0000, 3),
    }
}

/// Runs the application.
pub fn main(words: &[OsString]) -> ExitCode {
    let [libmpi, children] = words else {
        return ExitCode::from(2);
    };
    let children = children.to_str().and_then(|word| word.parse().ok());
    if let Err(why) = spawn(libmpi, children.unwrap_or(1)) {
        eprintln!("{why}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// A copy of fd 1. From here on, what MPI and the children write to fd 1 goes to fd 2.
fn own_stdout() -> io::Result<File> {
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(stdout.into())
}

/// # Errors
/// What the library lacks, or the function that failed.
fn spawn(libmpi: &OsStr, children: c_int) -> Result<(), String> {
    type Text = unsafe extern "C" fn(*mut u8, *mut c_int) -> c_int;
    type Init = unsafe extern "C" fn(*mut c_int, *mut c_void, c_int, *mut c_int) -> c_int;
    type Spawn = unsafe extern "C" fn(
        *const c_char,
        *const *const c_char,
        c_int,
        usize,
        c_int,
        usize,
        *mut usize,
        *mut c_int,
    ) -> c_int;
    type OfComm = unsafe extern "C" fn(usize) -> c_int;
    type OfHandle = unsafe extern "C" fn(*mut usize) -> c_int;
    type Finalize = unsafe extern "C" fn() -> c_int;
    let mut stdout = own_stdout().map_err(|error| error.to_string())?;
    let library = Library::load(libmpi)?;
    let (comm_self, info_null, multiple) = constants(&library, libmpi);
    let command = paths::own().ok_or("the path of this executable is not known")?;
    let string = |bytes: &[u8]| CString::new(bytes).map_err(|error| error.to_string());
    let command = string(command.as_os_str().as_bytes())?;
    let (option, file) = (string(placeholder::OPTION)?, string(libmpi.as_bytes())?);
    let argv = [option.as_ptr(), file.as_ptr(), c"host".as_ptr(), null()];
    let mut text = [0_u8; 16384]; // MPI_MAX_LIBRARY_VERSION_STRING is 8192 at most
    let mut errcodes = vec![0; usize::try_from(children).unwrap_or(1)];
    let (mut length, mut provided, mut intercomm) = (0, 0, 0_usize);
    // SAFETY: these are the prototypes of MPI's functions. MPI_Get_library_version may be called before MPI_Init, and leaves
    // the last byte of the text 0. MPI_Init_thread takes nulls. The strings and arrays live until the end of this
    // function; `intercomm` has room for a handle of either kind.
    unsafe {
        let version: Text = library.function(c"MPI_Get_library_version")?;
        let init: Init = library.as_application(c"MPI_Init_thread")?;
        let spawn: Spawn = library.as_application(c"MPI_Comm_spawn")?;
        let barrier: OfComm = library.function(c"MPI_Barrier")?;
        let disconnect: OfHandle = library.function(c"MPI_Comm_disconnect")?;
        let finalize: Finalize = library.function(c"MPI_Finalize")?;
        version(text.as_mut_ptr(), &mut length);
        let version = CStr::from_bytes_until_nul(&text).unwrap_or_default();
        let _ = stdout.write_all(version.to_bytes());
        let mut next = |step: &str| _ = write!(stdout, "{NEXT}{step}");
        next("MPI_Init");
        init(null_mut(), null_mut(), multiple, &mut provided);
        next("MPI_Comm_spawn");
        let began = Instant::now();
        let (command, argv) = (command.as_ptr(), argv.as_ptr());
        let errcodes = errcodes.as_mut_ptr();
        let code = spawn(
            command,
            argv,
            children,
            info_null,
            0,
            comm_self,
            &mut intercomm,
            errcodes,
        );
        if code != 0 {
            return Err(format!("MPI_Comm_spawn returned the error code {code}"));
        }
        let milliseconds = began.elapsed().as_millis();
        next("exchanging a barrier with the children");
        barrier(intercomm);
        disconnect(&mut intercomm);
        next("MPI_Finalize");
        finalize();
        next(&milliseconds.to_string());
    }
    Ok(())
}
