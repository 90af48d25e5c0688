//! The launches that MPI libraries make by themselves, recognised by file name and arguments.
//!
//! | MPI | call | source |
//! | --- | --- | --- |
//! | MPICH, Intel MPI, MVAPICH | `execvp("mpiexec", {"mpiexec", ["-v",] "-pmi_args", PORT, "default_interface",
//! "default_key", PID})` | PMII_singinit in MPICH's src/pmi/src/pmi_v1.c |
//! | Open MPI 5 | `execv("/…/prte", {"prte", …, "--singleton", ID, "--keepalive", FD})` | start_dvm in ompi/dpm/dpm.c |
//! | Open MPI 4 | `execv("/…/orted", {"orted", …, "--singleton-died-pipe", FD, …})` | fork_hnp in
//! orte/mca/ess/singleton/ess_singleton_module.c |

use crate::shared::paths;

/// What an MPI library starts for a singleton.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launch {
    /// MPICH's mpiexec, for which libmpi listens at a port of the loopback.
    Mpiexec {
        /// That port.
        port: u16,
    },
    /// Open MPI 5's prte.
    Prte,
    /// Open MPI 4's orted.
    Orted,
}

/// How far into its arguments `-pmi_args` can stand: first or second.
const LAST_PLACE: usize = 2;

impl Launch {
    /// The launch that an exec of `file` with these arguments, `argv[0]` among them, is. Async-signal-safe. Most execs
    /// are none by their file's name alone.
    pub fn recognise<'a>(
        file: &[u8],
        mut arguments: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Option<Launch> {
        let has = |option: &[u8]| arguments.clone().any(|argument| argument == option);
        match paths::file_name(file) {
            b"mpiexec" => {
                let mut words = arguments.by_ref().skip(1).take(LAST_PLACE);
                words.find(|word| *word == b"-pmi_args")?;
                let port = std::str::from_utf8(arguments.next()?).ok()?;
                let port = port.parse().ok()?;
                let interface = arguments.next()?;
                (interface == b"default_interface").then_some(Launch::Mpiexec { port })
            }
            b"prte" => (has(b"--singleton") && has(b"--keepalive")).then_some(Launch::Prte),
            b"orted" => has(b"--singleton-died-pipe").then_some(Launch::Orted),
            _ => None,
        }
    }

    /// The launcher's name.
    pub fn name(self) -> &'static str {
        match self {
            Launch::Mpiexec { .. } => "mpiexec",
            Launch::Prte => "prte",
            Launch::Orted => "orted",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recognise(file: &str, argv: &[&str]) -> Option<Launch> {
        Launch::recognise(file.as_bytes(), argv.iter().map(|word| word.as_bytes()))
    }

    #[test]
    fn mpichs_command_line_is_recognised() {
        let rest = ["-pmi_args", "43210", "default_interface", "default_key"];
        let launch = Some(Launch::Mpiexec { port: 43210 });
        for file in ["mpiexec", "/opt/mpich/bin/mpiexec"] {
            let plain = [&["mpiexec"], &rest[..], &["4711"]].concat();
            assert_eq!(recognise(file, &plain), launch);
            let verbose = [&["mpiexec", "-v"], &rest[..], &["4711"]].concat();
            assert_eq!(recognise(file, &verbose), launch);
        }
    }

    #[test]
    fn open_mpis_command_lines_are_recognised() {
        let prte = "prte --prtemca schizo prte --no-ready-msg --report-uri 14 --singleton singleton.vm.5814.0 \
                    --keepalive 15";
        let prte: Vec<_> = prte.split_whitespace().collect();
        assert_eq!(recognise("/opt/bin/prte", &prte), Some(Launch::Prte));
        let orted =
            "orted --hnp --set-sid --report-uri 8 --singleton-died-pipe 9 -mca state_novm_select 1";
        let orted: Vec<_> = orted.split_whitespace().collect();
        assert_eq!(recognise("/opt/bin/orted", &orted), Some(Launch::Orted));
        assert_eq!(recognise("/opt/bin/prted", &prte), None);
    }

    #[test]
    fn a_launch_has_its_launchers_name() {
        let launches = [Launch::Mpiexec { port: 1 }, Launch::Prte, Launch::Orted];
        assert_eq!(launches.map(Launch::name), ["mpiexec", "prte", "orted"]);
    }

    #[test]
    fn what_users_run_is_not() {
        for line in [
            "mpiexec",
            "mpiexec -n 2 ./app",
            "mpiexec -pmi_args",
            "mpiexec -pmi_args 43210",
            "mpiexec -pmi_args 43210 notes.txt",
            "mpiexec -pmi_args 65536 default_interface",
            "mpiexec -n 1 -pmi_args 43210 default_interface",
            "grep -pmi_args 43210 default_interface",
            "prte --daemonize",
            "prte --singleton x",
            "orted --hnp",
        ] {
            let words: Vec<_> = line.split_whitespace().collect();
            assert_eq!(recognise(words[0], &words), None, "{line}");
        }
        assert_eq!(recognise("mpiexec", &[]), None);
        assert_eq!(recognise("", &["mpiexec"]), None);
    }

    proptest! {
        #[test]
        fn no_other_argv_is_taken_for_a_launch(file in "mpiexec|prte|orted|.{0,9}", argv in
            proptest::collection::vec("[^\0]{0,12}|-pmi_args|--singleton|[0-9]{1,6}", 0..12)) {
            let words: Vec<_> = argv.iter().map(String::as_str).collect();
            prop_assert_eq!(recognise(&file, &words), None);
        }
    }
}
