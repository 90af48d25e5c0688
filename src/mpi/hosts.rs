//! This host, and whether there are others to launch on.

/// This host's name, as others may know it.
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The variables by which hydra is told of hosts to launch on (src/pm/hydra/lib/tools/bootstrap/external and
/// mpiexec/options.c in MPICH), Intel's its own. With one of them, the bridge may be on another host.
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

/// The variable that tells hydra of hosts, if one does.
pub fn told_of_hosts() -> Option<&'static str> {
    HOSTS
        .into_iter()
        .find(|name| std::env::var_os(name).is_some())
}
