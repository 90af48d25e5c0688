//! What environment variables say of process managers and hosts.

/// The variables by which a process manager tells an application that it started it.
///
/// PMI_*: MPICH's, Intel MPI's and Slurm's; PMIX_*: Open MPI's, Slurm's, Flux's.
const MANAGERS: [&str; 5] = [
    "PMI_RANK",
    "PMI_FD",
    "PMI_PORT",
    "PMIX_RANK",
    "PMIX_NAMESPACE",
];

/// The variable by which a process manager tells that it started this process, if `is_set` knows one.
pub fn manager(is_set: impl Fn(&str) -> bool) -> Option<&'static str> {
    MANAGERS.into_iter().find(|name| is_set(name))
}

/// The variables by which hydra finds hosts to launch on (src/pm/hydra/lib/tools/bootstrap/external and
/// mpiexec/options.c in MPICH), Intel MPI's its own. With one of them, the bridge may be on another host.
const HOSTS: [&str; 9] = [
    "HYDRA_HOST_FILE",
    "I_MPI_HYDRA_HOST_FILE",
    "SLURM_JOB_ID",
    "SLURM_NODELIST",
    "PBS_NODEFILE",
    "LSB_MCPU_HOSTS",
    "PE_HOSTFILE",
    "COBALT_NODEFILE",
    "LOADL_HOSTFILE",
];

/// The variable by which hydra finds hosts, if `is_set` knows one.
pub fn hosts(is_set: impl Fn(&str) -> bool) -> Option<&'static str> {
    HOSTS.into_iter().find(|name| is_set(name))
}
