//! What the library respects in another's process: its environment and nohup as they were at load, its signals, and the
//! cancellation of its threads.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_char, c_int};

use crate::mpi::environment::{self, Management};
use crate::preload::c_strings::c_strings_with;
use crate::shared::dispositions::is_ignored;
use crate::shared::settings::{self, Settings};

/// What was read at load.
struct AtLoad {
    settings: Settings,
    /// The settings as `NAME=value`, for the agent: the environment may have been changed since.
    words: Vec<CString>,
    management: Management,
}

static AT_LOAD: OnceLock<AtLoad> = OnceLock::new();

/// Reads the environment, for the ctor. Gives a complaint for each setting that cannot be used.
pub fn read_environment() -> Vec<String> {
    // SAFETY: the ctor runs while nothing else does, so nothing changes the environment before this function returns.
    let variables = unsafe { c_strings_with(&[b"SPAWNFIX_", b"PMI"], environ()) };
    let variables: Vec<&[u8]> = variables.map(CStr::to_bytes).collect();
    // Most processes have none, and are spared the rest.
    if variables.is_empty() {
        return Vec::new();
    }
    // Now: later, in a singleton, Open MPI 4's MPI_Init sets PMIX_RANK itself, and descriptors get other uses.
    let value = |sought: &str| {
        let mut found = variables
            .iter()
            .filter_map(|it| it.strip_prefix(sought.as_bytes()));
        let value = found.find_map(|rest| rest.strip_prefix(b"="))?;
        Some(OsStr::from_bytes(value).to_owned())
    };
    let management = environment::management(value, environment::is_connected);
    let trusted = if is_secure_execution() {
        &[]
    } else {
        &variables[..]
    };
    let (settings, complaints) = settings::parse(trusted.iter().copied());
    // The log file as an absolute path: the first of two definitions counts.
    let log_file = settings.log_file.as_ref().map(|file| {
        let name = settings::LOG_FILE.as_bytes();
        [name, b"=", file.to_bytes()].concat()
    });
    let others = trusted.iter().map(|variable| variable.to_vec());
    let words = log_file.into_iter().chain(others);
    let words = words.filter_map(|word| CString::new(word).ok()).collect();
    let _ = AT_LOAD.set(AtLoad {
        settings,
        words,
        management,
    });
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
    AT_LOAD
        .get()
        .map_or(Management::default(), |at_load| at_load.management)
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

/// Whether SIGHUP was ignored at load.
static NOHUP: AtomicBool = AtomicBool::new(false);

/// Takes note of nohup(1), for the ctor. UCX, which some MPICHs bring along, takes SIGHUP when it is loaded (ucs_debug_init:
/// src/ucs/debug/debug.c in UCX), and exec resets what was taken to the default.
pub fn note_nohup() {
    NOHUP.store(is_ignored(libc::SIGHUP), Ordering::Relaxed);
}

/// Between fork and exec: the launcher ignores SIGHUP if the application did at its start.
pub fn keep_nohup() {
    if NOHUP.load(Ordering::Relaxed) {
        // SAFETY: signal is async-signal-safe, and takes no pointers here.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    }
}

/// Runs what is the library's own in a call of the application's: a panic ends here, and a cancellation of the thread waits.
pub fn contained<T>(run: impl FnOnce() -> T) -> Option<T> {
    let _uncancelled = Uncancelled::new();
    catch_unwind(AssertUnwindSafe(run)).ok()
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
