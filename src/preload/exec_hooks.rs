//! The exported execvp and execv: a launch becomes the agent, all else goes to the real function.

use std::ffi::CStr;
#[cfg(target_vendor = "apple")]
use std::sync::atomic::AtomicPtr;

use libc::{c_char, c_int};

use crate::mpi::launch::Launch;
use crate::preload::after_fork;
use crate::preload::c_strings::c_strings;
use crate::preload::host_process;
use crate::shared::settings::GuardSetting;
use crate::shared::stdio;

// int execvp(const char *file, char *const argv[]): exec(3). What MPICH and its kin call in their forked child.
redhook::hook! {
    unsafe fn execvp(file: *const c_char, argv: *const *const c_char) -> c_int => execvp_hook {
        // SAFETY: the caller keeps the function's contract.
        unsafe { execute(redhook::real!(execvp), file, argv) }
    }
}

// int execv(const char *path, char *const argv[]): exec(3). What Open MPI calls in its forked child.
redhook::hook! {
    unsafe fn execv(path: *const c_char, argv: *const *const c_char) -> c_int => execv_hook {
        // SAFETY: the caller keeps the function's contract.
        unsafe { execute(real_execv, path, argv) }
    }
}

/// execv is execve with the environment that is there (POSIX); so called, it needs no look-up at load, which every
/// process would pay for.
#[cfg(not(target_vendor = "apple"))]
unsafe extern "C" fn real_execv(path: *const c_char, argv: *const *const c_char) -> c_int {
    // SAFETY: the caller keeps the function's contract, and environ is what it takes.
    unsafe { libc::execve(path, argv, host_process::environ()) }
}
#[cfg(target_vendor = "apple")]
use execv as real_execv;

/// dyld finds redhook's tuples by their section; without a reference to them, the compiler would leave them out.
#[cfg(target_vendor = "apple")]
#[used]
static EXECVP_TUPLE: AtomicPtr<execvp::execvp> = AtomicPtr::new(&raw mut execvp::execvp);
#[cfg(target_vendor = "apple")]
#[used]
static EXECV_TUPLE: AtomicPtr<execv::execv> = AtomicPtr::new(&raw mut execv::execv);

/// Finds the real execvp, for the ctor: a forked child can't look it up.
pub fn resolve() {
    let _ = redhook::real!(execvp);
}

/// Calls the real function; if this is an MPI's launch, executes the agent instead. A vforked child comes here, too:
/// what is no launch writes nothing.
///
/// # Safety
/// The arguments must be what execv and execvp take.
unsafe fn execute(
    real: unsafe extern "C" fn(*const c_char, *const *const c_char) -> c_int,
    file: *const c_char,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: by this function's contract. A null file or argv is the real function's to refuse.
    unsafe {
        if file.is_null() || host_process::settings().guard == GuardSetting::Off {
            return real(file, argv);
        }
        let name = CStr::from_ptr(file);
        let arguments = c_strings(argv);
        let words = arguments.clone().map(CStr::to_bytes);
        let Some(launch) = Launch::recognise(name.to_bytes(), words) else {
            return real(file, argv);
        };
        after_fork::exec_agent(launch, name, arguments);
        real(file, argv);
        after_fork::exit(name, stdio::errno())
    }
}
