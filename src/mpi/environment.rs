//! What environment variables say of process managers and hosts, and what interfaces there are.

use std::ffi::OsString;
use std::mem::MaybeUninit;

/// The variables by which a process manager shows an application that it started it.
///
/// PMI_*: MPICH's, Intel MPI's and Slurm's; PMIX_*: Open MPI's, Slurm's, Flux's.
const MANAGERS: [&str; 5] = [
    "PMI_RANK",
    "PMI_FD",
    "PMI_PORT",
    "PMIX_RANK",
    "PMIX_NAMESPACE",
];

/// Who manages this process, by its environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Management {
    /// The variable by which a process manager tells that it started this process.
    pub manager: Option<&'static str>,
    /// Whether the PMI_* variables were inherited from another process, whose manager does not serve this one.
    pub foreign_pmi: bool,
}

/// Who manages the process that has these variables. `is_connected` says whether a descriptor is a connected socket.
///
/// PMI_FD is one end of a socket pair (hydra: src/pm/hydra/proxy/pmip_pg.c in MPICH; Slurm:
/// src/plugins/mpi/pmi2/spawn.c). Where it is not, for example in a kernel that a notebook server under mpiexec started,
/// the variables are another process's.
pub fn management(
    variable: impl Fn(&str) -> Option<OsString>,
    is_connected: impl FnOnce(i32) -> bool,
) -> Management {
    let pmi_fd = variable("PMI_FD");
    let number = |text: &OsString| text.to_str()?.trim().parse().ok();
    let foreign_pmi = pmi_fd.is_some_and(|text| !number(&text).is_some_and(is_connected));
    let is_own = |name: &str| !(foreign_pmi && name.starts_with("PMI_"));
    let mut managers = MANAGERS.into_iter();
    Management {
        manager: managers.find(|name| is_own(name) && variable(name).is_some()),
        foreign_pmi,
    }
}

/// Whether this process has a connected socket under this number, whose other end is open. A process manager closes its
/// end after MPI_Finalize, and a script may start another application then.
pub fn is_connected(fd: i32) -> bool {
    let mut address = MaybeUninit::<libc::sockaddr_storage>::uninit();
    let mut size = size_of_val(&address) as libc::socklen_t;
    let mut hangup = libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    };
    // SAFETY: getpeername takes any descriptor, and fills at most `size` bytes, which nobody reads; poll has one pollfd.
    unsafe {
        libc::getpeername(fd, address.as_mut_ptr().cast(), &mut size) == 0
            && libc::poll(&mut hangup, 1, 0) == 0
    }
}

/// The variables by which hydra finds hosts to launch on (src/pm/hydra/lib/tools/bootstrap/external and
/// mpiexec/options.c in MPICH; I_MPI_* are Intel MPI's). With one of them, the bridge may be on another host.
const HOSTS: [&str; 11] = [
    "HYDRA_HOST_FILE",
    "I_MPI_HYDRA_HOST_FILE",
    "I_MPI_HYDRA_HOSTS_GROUP",
    "SLURM_JOB_ID",
    "SLURM_NODELIST",
    "PBS_NODEFILE",
    "LSB_MCPU_HOSTS",
    "LSB_DJOB_HOSTFILE",
    "PE_HOSTFILE",
    "COBALT_NODEFILE",
    "LOADL_HOSTFILE",
];

/// The variable by which hydra finds hosts, if `is_set` knows one.
pub fn hosts(is_set: impl Fn(&str) -> bool) -> Option<&'static str> {
    HOSTS.into_iter().find(|name| is_set(name))
}

/// Whether this machine has no network but the loopback: no route, as the table of IPv4 routes leaves the loopback's own out
/// (proc(5)). With IPv6 alone this holds, too: what is meant is children on this host, which connect over the loopback then.
pub fn only_loopback() -> bool {
    std::fs::read_to_string("/proc/net/route").is_ok_and(|routes| has_no_route(&routes))
}

fn has_no_route(table: &str) -> bool {
    table.lines().count() < 2
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn only_a_connected_socket_is_one() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert!(is_connected(one.as_raw_fd()));
        assert!(!is_connected(
            std::fs::File::open("/dev/null").unwrap().as_raw_fd()
        ));
        assert!(!is_connected(-1));
    }

    #[test]
    fn the_first_line_of_the_table_is_no_route() {
        let head = "Iface\tDestination\tGateway\n";
        assert!(has_no_route("") && has_no_route(head));
        assert!(!has_no_route(&format!("{head}eth0\t00000000\t010011AC\n")));
        assert!(!has_no_route(&format!(
            "{head}eth0\t00000000\neth1\t00000000\n"
        )));
    }

    #[test]
    fn a_pmi_descriptor_that_is_no_socket_is_another_processs() {
        let of = |variables: &[(&str, &str)], connected: bool| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            };
            management(variable, |fd| connected && fd == 7)
        };
        let own = |manager| Management {
            manager,
            foreign_pmi: false,
        };
        let pmi = [("PMI_RANK", "0"), ("PMI_FD", "7")];
        assert_eq!(of(&pmi, true), own(Some("PMI_RANK")));
        assert_eq!(of(&[("PMI_RANK", "0")], false), own(Some("PMI_RANK")));
        assert_eq!(of(&[], false), own(None));
        let foreign = |manager| Management {
            manager,
            foreign_pmi: true,
        };
        assert_eq!(of(&pmi, false), foreign(None));
        assert_eq!(of(&[("PMI_FD", "seven")], true), foreign(None));
        let both = [("PMI_FD", "9"), ("PMIX_RANK", "0")];
        assert_eq!(of(&both, true), foreign(Some("PMIX_RANK")));
    }

    #[test]
    fn the_variable_that_names_hosts_is_found() {
        for name in HOSTS {
            assert_eq!(hosts(|asked| asked == name), Some(name));
        }
        assert_eq!(hosts(|_| true), Some("HYDRA_HOST_FILE"));
        assert_eq!(hosts(|_| false), None);
    }
}
