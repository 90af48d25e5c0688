//! What an MPI has to find in its environment, or must not find, so that a spawn works on the machine at hand: one table.
//!
//! The library applies the application's rows around MPI_Init or around the spawn, the agent the launcher's. A row never
//! replaces a value that the user has set.

use std::ffi::OsString;
use std::path::Path;

use crate::mpi::{Family, Mpi};
use crate::shared::paths;

/// Whose environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The application's, while MPI_Init runs.
    Init,
    /// The application's, while MPI_Comm_spawn runs.
    Spawn,
    /// Hydra's mpiexec's.
    Mpiexec,
    /// Open MPI 4's orted's.
    Orted,
    /// Open MPI 5's prte's.
    Prte,
}

/// What the conditions rest on.
pub struct Facts<'a> {
    /// Whose environment it is.
    pub target: Target,
    /// The application's MPI, if it is known.
    pub mpi: Option<&'a Mpi>,
    /// The file of its library, if it is known.
    pub libmpi: Option<&'a Path>,
    /// The value of a variable.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Whether the PMI_* variables are another process's ([`crate::mpi::environment::management`]).
    pub foreign_pmi: bool,
    /// Whether there is no network but the loopback.
    pub only_loopback: bool,
    /// Whether the application is an interactive session.
    pub interactive: bool,
}

/// A change to an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// The variable.
    pub variable: &'static str,
    /// Its value; `None`: it must not be there.
    pub value: Option<OsString>,
    /// Why, for the log.
    pub why: &'static str,
}

/// A row of the table.
struct Row {
    targets: &'static [Target],
    /// The variable that is set or removed, then those by which the user may have said the same.
    variables: &'static [&'static str],
    change: Change,
    why: &'static str,
}

enum Change {
    /// To this value, if this holds and none of the variables is set.
    Set(&'static str, fn(&Facts<'_>) -> bool),
    /// To the value that this gives, if it gives one and none of the variables is set.
    SetTo(fn(&Facts<'_>) -> Option<OsString>),
    /// The one variable whose value the user keeps: it gets longer.
    Extend(fn(&Facts<'_>) -> Option<OsString>),
    /// The variables are removed, if this holds.
    Remove(fn(&Facts<'_>) -> bool),
}

/// All remedies. Where no source is named, the case was tried: see tests/cases/anywhere.rs.
const TABLE: &[Row] = {
    use Change::{Extend, Remove, Set, SetTo};
    use Target::{Init, Mpiexec, Orted, Prte, Spawn};
    &[
        Row {
            targets: &[Orted],
            variables: &["OMPI_MCA_rmaps_base_oversubscribe"],
            change: Set("1", |_| true),
            why: "Open MPI 4 counts the machine's cores, and the children of earlier spawns, and refuses more",
        },
        Row {
            targets: &[Init, Orted],
            variables: &["OPAL_PREFIX"],
            change: SetTo(moved_prefix),
            why: "Open MPI looks for its files where it was built, and was installed elsewhere",
        },
        Row {
            targets: &[Orted],
            variables: &["OMPI_MCA_plm_rsh_agent"],
            change: Set("sh", |facts| {
                !facts.has_on_path("ssh") && !facts.has_on_path("rsh")
            }),
            why: "Open MPI 4 asks for a remote shell, which it does not use on one host, and there is none on PATH",
        },
        Row {
            targets: &[Init, Orted, Prte],
            variables: &[
                "OMPI_MCA_btl_tcp_if_include",
                "OMPI_MCA_btl_tcp_if_exclude",
                "OMPI_MCA_btl",
            ],
            change: Set("lo", |facts| facts.only_loopback && facts.is_open_mpi()),
            why: "there is no network interface but the loopback, which Open MPI leaves out by itself",
        },
        Row {
            targets: &[Init, Prte],
            variables: &[
                "OMPI_MCA_btl_tcp_disable_family",
                "OMPI_MCA_btl_tcp_if_include",
                "OMPI_MCA_reachable",
                "OMPI_MCA_btl",
            ],
            change: Set("6", |facts| {
                facts.is_from(Family::OpenMpi, &[5]) && !facts.is_from(Family::OpenMpi, &[5, 0, 8])
            }),
            why: "where there is IPv6, Open MPI 5.0.7 finds no way to the children (open-mpi/ompi issue 14079)",
        },
        Row {
            targets: &[Spawn],
            variables: &["PATH"],
            change: Extend(path_to_prte),
            why: "Open MPI 5 looks for prte on PATH only (open-mpi/ompi issue 12349)",
        },
        Row {
            targets: &[Mpiexec],
            variables: &["HYDRA_LAUNCHER", "HYDRA_BOOTSTRAP"],
            change: Set("fork", |facts| facts.is_slurm_without_srun()),
            why: "Slurm's variables name this host alone, and there is no srun on PATH",
        },
        Row {
            targets: &[Mpiexec],
            variables: &["I_MPI_HYDRA_BOOTSTRAP"],
            change: Set("fork", |facts| facts.is_slurm_without_srun()),
            why: "Slurm's variables name this host alone, and there is no srun on PATH",
        },
        Row {
            targets: &[Mpiexec],
            variables: &["SLURM_OVERLAP"],
            change: Set("1", |facts| facts.is_set("SLURM_JOB_ID")),
            why: "in a job step hydra's own srun would wait for what the step holds (pmodels/mpich issues 5835, 6804)",
        },
        Row {
            targets: &[Init],
            variables: &["SLURM_STEP_ID", "SLURM_STEPID"],
            change: Remove(|facts| facts.is_open_mpi_before(&[5])),
            why: "in a job step Open MPI 4 refuses an application that srun did not start through PMIx",
        },
        Row {
            targets: &[Init, Mpiexec],
            variables: &[
                "PMI_FD",
                "PMI_RANK",
                "PMI_SIZE",
                "PMI_ID",
                "PMI_PORT",
                "PMI_SPAWNED",
                // MPICH 4.1's hydra takes it for its own, and kills the application (tried).
                "HYDI_CONTROL_FD",
            ],
            change: Remove(|facts| facts.foreign_pmi),
            why: "it was inherited from an application that a process manager started; PMI_FD is not its socket here",
        },
        Row {
            targets: &[Init, Mpiexec],
            variables: &["I_MPI_SPAWN"],
            change: Set("on", |facts| facts.is_from(Family::Intel, &[2021, 18])),
            why: "from 2021.18 on, Intel MPI can't spawn without it",
        },
        Row {
            targets: &[Init],
            variables: &["OMPI_MCA_mpi_ft_enable"],
            change: Set("true", |facts| facts.is_session_of_open_mpi_5()),
            why: "without it a child's crash ends an interactive session under Open MPI 5",
        },
    ]
};

/// What this environment needs.
pub fn remedies(facts: &Facts<'_>) -> Vec<Remedy> {
    let mut remedies = Vec::new();
    for row in TABLE {
        if !row.targets.contains(&facts.target) {
            continue;
        }
        let set = row.variables.iter().filter(|name| facts.is_set(name));
        let is_free = set.clone().next().is_none();
        let value = match row.change {
            Change::Set(value, applies) => (is_free && applies(facts)).then(|| value.into()),
            Change::SetTo(value) => value(facts).filter(|_| is_free),
            Change::Extend(value) => value(facts),
            Change::Remove(applies) => {
                let removed = set.filter(|_| applies(facts));
                remedies.extend(removed.map(|variable| row.remedy(variable, None)));
                None
            }
        };
        remedies.extend(value.map(|value| row.remedy(row.variables[0], Some(value))));
    }
    remedies
}

impl Row {
    fn remedy(&self, variable: &'static str, value: Option<OsString>) -> Remedy {
        Remedy {
            variable,
            value,
            why: self.why,
        }
    }
}

impl Facts<'_> {
    fn is_set(&self, name: &str) -> bool {
        (self.variable)(name).is_some()
    }

    fn is_open_mpi(&self) -> bool {
        matches!(self.target, Target::Orted | Target::Prte)
            || self.mpi.is_some_and(|mpi| mpi.family == Family::OpenMpi)
    }

    fn is_open_mpi_before(&self, version: &[u32]) -> bool {
        let before = |mpi: &Mpi| mpi.family == Family::OpenMpi && mpi.version.as_slice() < version;
        self.target == Target::Orted || self.mpi.is_some_and(before)
    }

    fn is_from(&self, family: Family, version: &[u32]) -> bool {
        self.mpi
            .is_some_and(|mpi| mpi.family == family && mpi.version.as_slice() >= version)
    }

    fn is_session_of_open_mpi_5(&self) -> bool {
        self.interactive && self.is_from(Family::OpenMpi, &[5])
    }

    fn path(&self) -> Option<OsString> {
        (self.variable)("PATH")
    }

    fn has_on_path(&self, name: &str) -> bool {
        let path = self.path();
        paths::directories(path.as_deref())
            .any(|directory| paths::is_program(&directory.join(name)))
    }

    /// Whether Slurm's variables are there, of a job on one host, without Slurm's commands: in a container, in a
    /// terminal that outlived its job.
    fn is_slurm_without_srun(&self) -> bool {
        let nodes = |name| (self.variable)(name).unwrap_or_default();
        let several = |list: OsString| {
            list.as_encoded_bytes()
                .iter()
                .any(|byte| b",[".contains(byte))
        };
        self.is_set("SLURM_JOB_ID")
            && !several(nodes("SLURM_NODELIST"))
            && !several(nodes("SLURM_JOB_NODELIST"))
            && !self.has_on_path("srun")
    }
}

/// The directory above libmpi's, if an Open MPI is there as a whole: where pip, conda or a copied tree put it. A system's
/// own has its files in several places, and is where it was built for. Open MPI 4 looks for orted there; Open MPI 5 for what
/// OMPI_MCA_mpi_ft_enable sets (share/openmpi/amca-param-sets/ft-mpi; ompi/runtime/ompi_mpi_params.c), and prints an error
/// if it is not there.
fn moved_prefix(facts: &Facts<'_>) -> Option<OsString> {
    let prefix = facts.libmpi?.parent()?.parent()?;
    let needed = match facts.is_open_mpi_before(&[5]) {
        true => prefix.join("bin/orted").is_file(),
        false => facts.is_session_of_open_mpi_5(),
    };
    let is_whole = needed && prefix.join("share/openmpi").is_dir();
    let is_systems = prefix.starts_with("/usr") && !prefix.starts_with("/usr/local");
    (is_whole && !is_systems).then(|| prefix.into())
}

/// PATH, and at its end the directory of the prte that belongs to this libmpi, if PATH has none.
fn path_to_prte(facts: &Facts<'_>) -> Option<OsString> {
    let bin = facts.libmpi?.parent()?.parent()?.join("bin");
    let needs = facts.is_from(Family::OpenMpi, &[5])
        && !facts.has_on_path("prte")
        && paths::is_program(&bin.join("prte"));
    let mut path = facts.path().filter(|_| needs)?;
    path.push(":");
    path.push(bin);
    Some(path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// What this environment of this target needs, as `NAME=VALUE` or `-NAME`.
    fn needed(
        target: Target,
        mpi: &str,
        variables: &[(&str, &str)],
        change: impl FnOnce(&mut Facts<'_>),
    ) -> Vec<String> {
        let mpi = Mpi::from_version_text(mpi.as_bytes());
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let mut facts = Facts {
            target,
            mpi: Some(&mpi),
            libmpi: None,
            variable: &variable,
            foreign_pmi: false,
            only_loopback: false,
            interactive: false,
        };
        change(&mut facts);
        let shown = |remedy: Remedy| match remedy.value {
            Some(value) => format!("{}={}", remedy.variable, value.to_string_lossy()),
            None => format!("-{}", remedy.variable),
        };
        remedies(&facts).into_iter().map(shown).collect()
    }

    const OPEN_MPI_4: &str = "Open MPI v4.1.8";
    const OPEN_MPI_5: &str = "Open MPI v5.0.11";
    const MPICH: &str = "MPICH Version: 4.2.3";

    #[test]
    fn a_healthy_place_needs_nothing_but_open_mpi_4s_slots() {
        let usual = [("PATH", "/usr/bin:/bin"), ("HOME", "/root")];
        for mpi in [
            OPEN_MPI_4,
            OPEN_MPI_5,
            MPICH,
            "Intel(R) MPI Library 2021.13",
        ] {
            for target in [Target::Init, Target::Spawn, Target::Mpiexec, Target::Prte] {
                assert!(needed(target, mpi, &usual, |_| ()).is_empty(), "{mpi}");
            }
        }
        let slots = "OMPI_MCA_rmaps_base_oversubscribe";
        let ssh = place(&["ssh"]);
        let path = ("PATH", ssh.path().to_str().unwrap());
        let orted =
            |variables: &[(&str, &str)]| needed(Target::Orted, OPEN_MPI_4, variables, |_| ());
        assert_eq!(orted(&[path]), [format!("{slots}=1")]);
        assert!(orted(&[path, (slots, "0")]).is_empty());
        assert_eq!(
            orted(&[("PATH", "/no"), (slots, "0")]),
            ["OMPI_MCA_plm_rsh_agent=sh"]
        );
    }

    #[test]
    fn without_a_network_open_mpi_takes_the_loopback_unless_told_otherwise() {
        let alone = |facts: &mut Facts<'_>| facts.only_loopback = true;
        for (target, mpi) in [
            (Target::Init, OPEN_MPI_4),
            (Target::Init, OPEN_MPI_5),
            (Target::Prte, OPEN_MPI_5),
        ] {
            assert_eq!(
                needed(target, mpi, &[], alone),
                ["OMPI_MCA_btl_tcp_if_include=lo"]
            );
            assert!(needed(target, mpi, &[("OMPI_MCA_btl", "self")], alone).is_empty());
        }
        assert!(needed(Target::Init, MPICH, &[], alone).is_empty());
    }

    #[test]
    fn slurm_without_srun_is_one_host() {
        let job = |nodes, more: &[(&'static str, &'static str)]| {
            let all = [
                &[
                    ("SLURM_JOB_ID", "7"),
                    ("SLURM_NODELIST", nodes),
                    ("PATH", "/no"),
                ],
                more,
            ];
            needed(Target::Mpiexec, MPICH, &all.concat(), |_| ())
        };
        assert_eq!(
            job("node1", &[]),
            [
                "HYDRA_LAUNCHER=fork",
                "I_MPI_HYDRA_BOOTSTRAP=fork",
                "SLURM_OVERLAP=1"
            ]
        );
        assert_eq!(job("node[1-2]", &[]), ["SLURM_OVERLAP=1"]);
        assert_eq!(job("node1,node2", &[("SLURM_OVERLAP", "0")]), [""; 0]);
        let own = [("HYDRA_BOOTSTRAP", "ssh"), ("I_MPI_HYDRA_BOOTSTRAP", "ssh")];
        assert_eq!(job("node1", &own), ["SLURM_OVERLAP=1"]);
        let srun = place(&["srun"]);
        let on_path = [
            ("SLURM_JOB_ID", "7"),
            ("PATH", srun.path().to_str().unwrap()),
        ];
        let found = needed(Target::Mpiexec, MPICH, &on_path, |_| ());
        assert_eq!(found, ["SLURM_OVERLAP=1"]);
    }

    #[test]
    fn what_another_process_left_is_removed() {
        let left = [("PMI_FD", "7"), ("PMI_RANK", "0"), ("PMI_SIZE", "1")];
        let removed = needed(Target::Init, MPICH, &left, |facts| facts.foreign_pmi = true);
        assert_eq!(removed, ["-PMI_FD", "-PMI_RANK", "-PMI_SIZE"]);
        assert!(needed(Target::Init, MPICH, &left, |_| ()).is_empty());
        let step = [("SLURM_STEP_ID", "0")];
        assert_eq!(
            needed(Target::Init, OPEN_MPI_4, &step, |_| ()),
            ["-SLURM_STEP_ID"]
        );
        assert!(needed(Target::Init, OPEN_MPI_5, &step, |_| ()).is_empty());
    }

    #[test]
    fn versions_that_cannot_spawn_by_themselves_get_what_they_need() {
        let intel = |version| {
            let text = format!("Intel(R) MPI Library {version} for Linux* OS");
            needed(Target::Mpiexec, &text, &[], |_| ())
        };
        assert_eq!(intel("2021.18"), ["I_MPI_SPAWN=on"]);
        let debian = |target| needed(target, "Open MPI v5.0.7", &[], |_| ());
        for target in [Target::Init, Target::Prte] {
            assert_eq!(debian(target), ["OMPI_MCA_btl_tcp_disable_family=6"]);
        }
        assert_eq!(intel("2022.1"), ["I_MPI_SPAWN=on"]);
        assert!(intel("2021.17").is_empty());
        let session = |mpi| needed(Target::Init, mpi, &[], |facts| facts.interactive = true);
        assert_eq!(session(OPEN_MPI_5), ["OMPI_MCA_mpi_ft_enable=true"]);
        assert!(session(OPEN_MPI_4).is_empty());
    }

    fn place(programs: &[&str]) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        for program in programs {
            let file = place.path().join(program);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        place
    }

    #[test]
    fn what_open_mpi_looks_for_is_found_beside_its_library() {
        let tree = place(&["bin/orted", "bin/prte", "share/openmpi/help.txt"]);
        let libmpi: &Path = Box::leak(tree.path().join("lib/libmpi.so.40").into_boxed_path());
        let prefix = tree.path().display();
        let beside = |target, mpi, path: &str| {
            needed(target, mpi, &[("PATH", path)], |facts| {
                facts.libmpi = Some(libmpi)
            })
        };
        assert_eq!(
            beside(Target::Init, OPEN_MPI_4, "/bin"),
            [format!("OPAL_PREFIX={prefix}")]
        );
        assert!(beside(Target::Init, OPEN_MPI_5, "/bin").is_empty());
        let session = needed(Target::Init, OPEN_MPI_5, &[], |facts| {
            (facts.libmpi, facts.interactive) = (Some(libmpi), true);
        });
        let fault_tolerance = "OMPI_MCA_mpi_ft_enable=true".to_owned();
        assert_eq!(session, [format!("OPAL_PREFIX={prefix}"), fault_tolerance]);
        let longer = beside(Target::Spawn, OPEN_MPI_5, "/no/such:rel");
        assert_eq!(longer, [format!("PATH=/no/such:rel:{prefix}/bin")]);
        let there = format!("/bin:{prefix}/bin");
        assert!(beside(Target::Spawn, OPEN_MPI_5, &there).is_empty());
        fs::remove_dir_all(tree.path().join("share")).unwrap();
        assert!(beside(Target::Init, OPEN_MPI_4, "/bin").is_empty());
    }
}
