//! What the library respects in another's process: its environment as it was at load, and its threads' cancellation.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use libc::{c_char, c_int};

use crate::mpi::environment::{self, Management};
use crate::shared::settings::{self, Complaint, Settings};

/// What was read at load.
struct AtLoad {
    settings: Settings,
    /// The settings as `NAME=value`, for the agent: the environment may have been changed since.
    words: Vec<CString>,
}

static AT_LOAD: OnceLock<AtLoad> = OnceLock::new();

/// Who managed this process at load.
static MANAGEMENT: OnceLock<Management> = OnceLock::new();

/// Reads the environment, for the ctor. Gives a complaint for each setting that cannot be used.
pub fn read_environment() -> Vec<Complaint> {
    // SAFETY: the ctor runs while nothing else does, so nothing changes the environment before this function returns.
    let variables: Vec<&[u8]> = unsafe { variables() }.collect();
    // Most processes have none, and are spared the rest.
    if variables.is_empty() {
        return Vec::new();
    }
    let name = |variable: &'static [u8]| variable.split(|&byte| byte == b'=').next();
    // Now: later, in a singleton, Open MPI 4's MPI_Init sets PMIX_RANK itself, and descriptors get other uses.
    let value = |sought: &str| {
        let mut found = variables
            .iter()
            .filter_map(|it| it.strip_prefix(sought.as_bytes()));
        let value = found.find_map(|rest| rest.strip_prefix(b"="))?;
        Some(OsStr::from_bytes(value).to_owned())
    };
    let _ = MANAGEMENT.set(environment::management(value, environment::is_connected));
    if is_secure_execution() {
        return Vec::new();
    }
    let (settings, complaints) = settings::parse(variables.iter().copied());
    // The log file as an absolute path, in place of what stands in the environment.
    let log_file = settings.log_file.as_ref().map(|file| {
        let name = settings::LOG_FILE.as_bytes();
        [name, b"=", file.to_bytes()].concat()
    });
    let others = variables
        .iter()
        .filter(|variable| name(variable) != Some(settings::LOG_FILE.as_bytes()))
        .map(|variable| variable.to_vec());
    let words = log_file.into_iter().chain(others);
    let words = words.filter_map(|word| CString::new(word).ok()).collect();
    let _ = AT_LOAD.set(AtLoad { settings, words });
    complaints
}

/// The settings. A lock-free read: also usable between fork and exec.
pub fn settings() -> &'static Settings {
    static DEFAULT: Settings = Settings::DEFAULT;
    AT_LOAD.get().map_or(&DEFAULT, |at_load| &at_load.settings)
}

/// The settings as `NAME=value`. A lock-free read: also usable between fork and exec.
pub fn settings_as_words() -> &'static [CString] {
    AT_LOAD.get().map_or(&[], |at_load| &at_load.words)
}

/// Who managed this process at load.
pub fn management() -> Management {
    MANAGEMENT.get().copied().unwrap_or_default()
}

/// What the names of the variables begin with that are read at load: our own, and the process managers'.
const PREFIXES: [&[u8]; 2] = [b"SPAWNFIX_", b"PMI"];

/// Each `NAME=value` of the environment that begins with one of [`PREFIXES`], without copying it.
///
/// # Safety
/// Nothing may change the environment while the iterator or what it yielded is in use.
unsafe fn variables<'a>() -> impl Iterator<Item = &'a [u8]> {
    // SAFETY: by this function's contract the array stays as it is.
    let environ = unsafe { environ() };
    let variables = (0..).map_while(move |at| {
        if environ.is_null() {
            return None;
        }
        // SAFETY: environ ends with a null, at which this iterator ends for good (`fuse`): `at` is not past it.
        let variable = unsafe { *environ.add(at) };
        (!variable.is_null()).then_some(variable)
    });
    // Every process pays for this loop over its environment: most variables end here, at their first byte.
    let variables = variables.fuse().filter(|&variable| {
        let begins = |prefix: &[u8]| {
            let mut prefix = prefix.iter().enumerate();
            // SAFETY: `variable` is a C string, and the comparison ends with the first byte that differs, at the latest
            // its final zero.
            prefix.all(|(at, &byte)| unsafe { *variable.add(at) } == byte as c_char)
        };
        PREFIXES.iter().any(|prefix| begins(prefix))
    });
    // SAFETY: `variable` is a C string that stays as it is.
    variables.map(|variable| unsafe { CStr::from_ptr(variable) }.to_bytes())
}

/// The C library's `environ`: a null-terminated array of C strings, or null.
///
/// # Safety
/// The pointer is good as long as nothing changes the environment.
pub unsafe fn environ() -> *const *const c_char {
    #[cfg(target_vendor = "apple")]
    // SAFETY: _NSGetEnviron always returns the address of environ; a dylib cannot name environ itself.
    return unsafe { (*libc::_NSGetEnviron()).cast() };
    #[cfg(not(target_vendor = "apple"))]
    {
        unsafe extern "C" {
            static environ: *const *const c_char;
        }
        // SAFETY: the C library defines environ and has set it before any ctor runs.
        unsafe { environ }
    }
}

/// Whether the process has more rights than its user: setuid, setgid, file capabilities. In this secure-execution mode
/// (ld.so(8)) the environment is what another user wrote.
fn is_secure_execution() -> bool {
    #[cfg(target_os = "linux")]
    // SAFETY: getauxval takes an integer and only reads what the kernel passed at the start.
    return unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    #[cfg(target_vendor = "apple")]
    return super::macos::is_secure_execution();
}

/// While it lives, a cancellation of this thread (pthread_cancel(3)) waits: it would unwind into a catch_unwind of
/// ours, which can't let a foreign unwinding pass, and aborts.
pub struct Uncancelled(c_int);

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

impl Uncancelled {
    /// From now on it waits.
    pub fn new() -> Uncancelled {
        /// pthread.h: 1 in glibc and musl, 0 on macOS.
        const DISABLE: c_int = if cfg!(target_vendor = "apple") { 0 } else { 1 };
        let mut before = 0;
        // SAFETY: it writes one int.
        unsafe { pthread_setcancelstate(DISABLE, &mut before) };
        Uncancelled(before)
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        // SAFETY: the state is what the call above gave; it writes one int.
        unsafe { pthread_setcancelstate(self.0, &mut 0) };
    }
}
