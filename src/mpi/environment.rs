//! The process manager that started this program, if one did.

use std::sync::OnceLock;

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

/// Takes note of a process manager's `NAME=value`, for the ctor; false: it is none. Later it would be too late: in a
/// program that nobody started, Open MPI 4's MPI_Init sets PMIX_RANK itself.
pub fn note(variable: &[u8]) -> bool {
    let name = variable.split(|&byte| byte == b'=').next();
    let manager = MANAGERS
        .into_iter()
        .find(|known| Some(known.as_bytes()) == name);
    manager
        .inspect(|manager| _ = MANAGER.set(manager))
        .is_some()
}

/// The variable by which a process manager told this program that it started it, if one did.
pub fn of_this_program() -> Option<&'static str> {
    MANAGER.get().copied()
}
