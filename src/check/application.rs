//! The application of a trial, `spawnfix --trial LIBMPI CHILDREN`: it loads this MPI library, spawns, exchanges a barrier
//! with the children and leaves. On its stdout it says how far it came; what MPI says goes to stderr.

use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::fs::File;
use std::io::{self, Write as _};
use std::mem::transmute;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::ptr::null_mut;
use std::time::Instant;

use crate::agent::placeholder;
use crate::mpi::library::Library;
use crate::shared::paths;

/// The option of this executable that makes it one.
pub const OPTION: &[u8] = b"--trial";

// How each line on stdout begins.
/// The MPI library is loaded; its version follows.
pub const LOADED: &str = "MPI ";
/// MPI_Init has returned.
pub const INITIALIZED: &str = "initialized";
/// The spawn has returned; its milliseconds follow.
pub const SPAWNED: &str = "spawned ";
/// The barrier with the children is over.
pub const DONE: &str = "done";
/// It could not go on; the reason follows.
pub const FAILED: &str = "failed ";
/// Stands for a newline in the version.
pub const NEWLINE: &str = "\u{1f}";

/// Handles and constants, which are the implementation's own.
struct Constants {
    comm_self: usize,
    info_null: usize,
    thread_multiple: c_int,
}

impl Constants {
    fn of(library: &Library, file: &OsString) -> Constants {
        let name = file.as_bytes().rsplit(|byte| *byte == b'/').next();
        // MPI 5's standard ABI: mpi_abi.h.
        if name.is_some_and(|name| name.starts_with(b"libmpi_abi")) {
            return Constants {
                comm_self: 0x102,
                info_null: 0x130,
                thread_multiple: 4096,
            };
        }
        // Open MPI's handles are the addresses of its objects: OMPI_PREDEFINED_GLOBAL in its mpi.h.
        let object = |name| library.find(name).map(|address| address as usize);
        if let (Ok(comm_self), Ok(info_null)) =
            (object(c"ompi_mpi_comm_self"), object(c"ompi_mpi_info_null"))
        {
            return Constants {
                comm_self,
                info_null,
                thread_multiple: 3,
            };
        }
        // mpi.h of MPICH and its kin.
        Constants {
            comm_self: 0x4400_0001,
            info_null: 0x1c00_0000,
            thread_multiple: 3,
        }
    }
}

/// Runs the application.
pub fn main(words: &[OsString]) -> ExitCode {
    let [libmpi, children] = words else {
        return ExitCode::from(2);
    };
    let children = children.to_str().and_then(|word| word.parse().ok());
    let Ok(mut steps) = own_stdout() else {
        return ExitCode::from(2);
    };
    let mut say = |line: &str| _ = steps.write_all(format!("{line}\n").as_bytes());
    match spawn(libmpi, children.unwrap_or(1), &mut say) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(&format!("{FAILED}{why}"));
            ExitCode::FAILURE
        }
    }
}

/// A copy of fd 1. From here on, what MPI and the children write to fd 1 goes to fd 2.
fn own_stdout() -> io::Result<File> {
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // SAFETY: dup2 takes any descriptors; std's stdout is not used in this process.
    match unsafe { libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(stdout),
    }
}

/// # Errors
/// What the library lacks, or the function that failed.
fn spawn(libmpi: &OsString, children: c_int, say: &mut dyn FnMut(&str)) -> Result<(), String> {
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
    let library = Library::load(libmpi)?;
    let version = library.find(c"MPI_Get_library_version")?;
    // Those that spawnfix may have interposed.
    let init = library.find_as_application(c"MPI_Init_thread")?;
    let spawn = library.find_as_application(c"MPI_Comm_spawn")?;
    let barrier = library.find(c"MPI_Barrier")?;
    let disconnect = library.find(c"MPI_Comm_disconnect")?;
    let finalize = library.find(c"MPI_Finalize")?;
    let constants = Constants::of(&library, libmpi);
    let command = paths::own().ok_or("the path of this executable is not known")?;
    let string = |bytes: &[u8]| CString::new(bytes).map_err(|error| error.to_string());
    let command = string(command.as_os_str().as_bytes())?;
    let words = [placeholder::OPTION, libmpi.as_bytes(), b"host"];
    let words = words
        .map(string)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let words = words.iter().map(|word| word.as_ptr());
    let argv: Vec<_> = words.chain([std::ptr::null()]).collect();
    let mut text = [0_u8; 16384]; // MPI_MAX_LIBRARY_VERSION_STRING is 8192 at most
    let mut errcodes = vec![0; usize::try_from(children).unwrap_or(1)];
    let (mut length, mut provided, mut intercomm) = (0, 0, 0_usize);
    // SAFETY: the addresses are those of MPI's functions, whose prototypes these are. MPI_Get_library_version may be
    // called before MPI_Init, and leaves the last byte of the text 0. MPI_Init_thread takes nulls. The strings and arrays
    // live until the end of this function; `intercomm` has room for a handle of either kind.
    unsafe {
        transmute::<*mut c_void, Text>(version)(text.as_mut_ptr(), &mut length);
        let version = CStr::from_bytes_until_nul(&text).unwrap_or_default();
        let version = version.to_string_lossy().replace('\n', NEWLINE);
        say(&format!("{LOADED}{version}"));
        let multiple = constants.thread_multiple;
        transmute::<*mut c_void, Init>(init)(null_mut(), null_mut(), multiple, &mut provided);
        say(INITIALIZED);
        let began = Instant::now();
        let code = transmute::<*mut c_void, Spawn>(spawn)(
            command.as_ptr(),
            argv.as_ptr(),
            children,
            constants.info_null,
            0,
            constants.comm_self,
            &mut intercomm,
            errcodes.as_mut_ptr(),
        );
        if code != 0 {
            return Err(format!("MPI_Comm_spawn returned the error code {code}"));
        }
        say(&format!("{SPAWNED}{}", began.elapsed().as_millis()));
        transmute::<*mut c_void, OfComm>(barrier)(intercomm);
        transmute::<*mut c_void, OfHandle>(disconnect)(&mut intercomm);
        say(DONE);
        transmute::<*mut c_void, Finalize>(finalize)();
    }
    Ok(())
}
