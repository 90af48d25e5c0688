//! The process manager that started this program, if one did.

use std::sync::OnceLock;

use crate::settings;

/// The variables by which a process manager tells a program that it started it.
///
/// PMI_*: MPICH's, Intel MPI's and Slurm's; PMIX_*: Open MPI's, Slurm's, Flux's.
const MANAGERS: [&str; 5] = [
    "PMI_RANK",
    "PMI_FD",
    "PMI_PORT",
    "PMIX_RANK",
    "PMIX_NAMESPACE",
];

static MANAGER: OnceLock<&str> = OnceLock::new();

/// Looks for a process manager, for the ctor. Later it would be too late: in a program that nobody started, Open MPI 4's
/// MPI_Init sets PMIX_RANK itself.
pub fn note() {
    // SAFETY: the ctor runs before the program's own code, so nothing changes the environment meanwhile.
    let mut variables = unsafe { settings::environment(b"PMI") };
    let manager = variables.find_map(|variable| {
        let name = variable.split(|&byte| byte == b'=').next()?;
        MANAGERS.into_iter().find(|known| known.as_bytes() == name)
    });
    if let Some(manager) = manager {
        let _ = MANAGER.set(manager);
    }
}

/// The variable by which a process manager told this program that it started it, if one did.
pub fn of_this_program() -> Option<&'static str> {
    MANAGER.get().copied()
}
