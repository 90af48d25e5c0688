//! What a spawn will come to: a pure function of what `--check` found.

use std::path::{Path, PathBuf};

use crate::mpi::behavior::{self, Spawn};
use crate::mpi::{Family, Mpi};
use crate::shared::logging::escape;

/// Whether the library loads into a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loads {
    Yes,
    /// And why not.
    No(String),
    /// And why that can't be told.
    Unknown(String),
    /// And why the program does not even start with it.
    Harms(String),
}

/// An mpiexec.
#[derive(Debug)]
pub struct Launcher {
    pub file: PathBuf,
    /// The MPI that it is of, with its version.
    pub mpi: Mpi,
}

/// What a verdict rests on.
pub struct Facts<'a> {
    /// The program, as the user calls it.
    pub command: &'a str,
    pub loads: &'a Loads,
    /// The program's MPI, if it has told.
    pub mpi: Option<&'a Mpi>,
    /// The mpiexec that a spawn will launch.
    pub launcher: Option<&'a Launcher>,
    /// A directory with an mpiexec of the program's MPI, which PATH has further back.
    pub better: Option<&'a Path>,
    /// Whether PATH has what this Open MPI launches, whosever mpiexec comes first.
    pub open_mpi_launches: bool,
    /// Whether the agent is there, and of the library's version.
    pub agent: bool,
    /// SPAWNFIX_GUARD=off.
    pub off: bool,
    /// The variable of the process manager that started this.
    pub manager: Option<&'static str>,
    /// Whether this is a step of a Slurm job.
    pub slurm_step: bool,
}

/// What is to be expected.
#[derive(Debug)]
pub struct Verdict {
    /// Whether a spawn should work, and leave the program its stdin.
    pub works: bool,
    pub text: String,
}

impl Facts<'_> {
    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        let launchers = self.launcher.map(|launcher| &launcher.mpi);
        let mpi = self.mpi.or(launchers);
        let family = mpi.map_or(Family::Unknown, |mpi| mpi.family);
        if let Loads::Harms(_) = self.loads {
            return no(format!(
                "{} does not start with the library in it; run it without",
                self.command
            ));
        }
        let open_mpi_4 =
            family == Family::OpenMpi && mpi.is_some_and(|mpi| mpi.version.as_slice() < &[5]);
        if open_mpi_4
            && self.slurm_step
            && !self
                .manager
                .is_some_and(|variable| variable.starts_with("PMIX"))
        {
            return no(
                "in a step of a Slurm job Open MPI 4's MPI_Init ends a program that srun did not start through PMIx; \
                       start it in the allocation itself (salloc), or as srun --mpi=pmix does, or use Open MPI 5",
            );
        }
        if let Some(variable) = self.manager.filter(|manager| family.uses_manager(manager)) {
            return yes(format!(
                "not needed: {variable} is set, so a process manager started this and will do the launching"
            ));
        }
        match family {
            Family::OpenMpi => self.open_mpi(mpi),
            _ => self.mpich(mpi),
        }
    }

    fn open_mpi(&self, mpi: Option<&Mpi>) -> Verdict {
        if !self.open_mpi_launches {
            return no(format!(
                "{} has Open MPI, whose {} is not on PATH; put {} in front on PATH",
                self.command,
                open_mpis_launcher(mpi),
                self.better
                    .map_or("it".to_owned(), |better| escape(better).to_string())
            ));
        }
        match mpi.and_then(behavior::of).and_then(|known| known.harm()) {
            Some(harm) => self.cure(harm),
            None => self.nothing_but_keys("Open MPI", "the children"),
        }
    }

    fn mpich(&self, mpi: Option<&Mpi>) -> Verdict {
        if let Some(why) = mpi.and_then(Mpi::cannot_spawn) {
            return no(why);
        }
        let Some(launcher) = self.launcher else {
            return no(
                "without an mpiexec on PATH, a program started by itself can't spawn; add the bin of its MPI to PATH",
            );
        };
        let mpi = mpi.unwrap_or(&launcher.mpi);
        match (mpi.family, launcher.mpi.family) {
            (Family::Unknown, _) if self.mpi.is_some() => {
                return not_known(
                    "that MPI is none that spawnfix was measured with; it replaces stdin around the call",
                );
            }
            (_, Family::Unknown) => {
                return not_known(
                    "spawnfix was measured with the mpiexec of MPICH, of Intel MPI and of Open MPI",
                );
            }
            (_, Family::OpenMpi) => {
                return no(format!(
                    "{} has {mpi}, which the mpiexec of Open MPI can't serve; put {} in front on PATH",
                    self.command,
                    self.better
                        .map_or("the bin of its MPI".to_owned(), |better| escape(better)
                            .to_string())
                ));
            }
            _ => {}
        }
        // A launcher's version counts where it has to serve the program by itself.
        let hangs = |mpi: &Mpi| behavior::of(mpi).filter(|known| known.spawn == Spawn::Hangs);
        let known = hangs(mpi)
            .or_else(|| hangs(&launcher.mpi).filter(|_| !self.agent))
            .or_else(|| behavior::of(mpi));
        match known {
            Some(known) => match known.harm() {
                Some(harm) if hangs(mpi).is_some() && !self.agent && self.loads == &Loads::Yes => no(format!(
                    "{harm}; spawnfix cures that with its agent, which is not there"
                )),
                Some(harm) => self.cure(harm),
                None => self.nothing_but_keys("MPICH", "the program"),
            },
            None => self.cure("its mpiexec, as MPICH's, may read the program's stdin (this version was not tried)"),
        }
    }

    fn cure(&self, harm: &str) -> Verdict {
        match self.loads {
            _ if self.off => no_cure(format!(
                "{harm}, and SPAWNFIX_GUARD=off switches the cure off"
            )),
            Loads::Yes => yes(format!("cured here: without spawnfix {harm}")),
            _ => no_cure(format!(
                "{harm}, and the library does not load into {}",
                self.command
            )),
        }
    }

    fn nothing_but_keys(&self, name: &str, spared: &str) -> Verdict {
        let mut text = format!("not needed, except for Ctrl-C: this {name} leaves stdin alone");
        if self.loads == &Loads::Yes && !self.off {
            text += &format!("; with spawnfix, Ctrl-C in a shell spares {spared}");
        }
        yes(text)
    }
}

/// What this Open MPI launches.
pub fn open_mpis_launcher(mpi: Option<&Mpi>) -> &'static str {
    let before_5 = mpi.is_some_and(|mpi| !mpi.version.is_empty() && mpi.version.as_slice() < &[5]);
    if before_5 { "orted" } else { "prte" }
}

fn yes(text: impl Into<String>) -> Verdict {
    Verdict {
        works: true,
        text: text.into(),
    }
}

fn no(text: impl std::fmt::Display) -> Verdict {
    Verdict {
        works: false,
        text: format!("no: {text}"),
    }
}

fn no_cure(text: impl std::fmt::Display) -> Verdict {
    Verdict {
        works: false,
        text: format!("not cured: {text}"),
    }
}

fn not_known(text: impl std::fmt::Display) -> Verdict {
    Verdict {
        works: false,
        text: format!("not known: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict on a program with this MPI, started under a launcher of that one, after a change to the facts.
    fn verdict(mpi: &str, launcher: &str, change: impl FnOnce(&mut Facts<'_>)) -> String {
        let mpi = Mpi::from_version_text(mpi.as_bytes());
        let launcher = Launcher {
            file: "/opt/bin/mpiexec".into(),
            mpi: Mpi::from_version_text(launcher.as_bytes()),
        };
        let mut facts = Facts {
            command: "app",
            loads: &Loads::Yes,
            mpi: Some(&mpi),
            launcher: Some(&launcher),
            better: None,
            open_mpi_launches: true,
            agent: true,
            off: false,
            manager: None,
            slurm_step: false,
        };
        change(&mut facts);
        let verdict = facts.verdict();
        let well = verdict.text.starts_with("cured") || verdict.text.starts_with("not needed");
        assert_eq!(verdict.works, well, "{verdict:?}");
        verdict.text
    }

    const MPICH_4_0: &str = "MPICH Version: 4.0.3";
    const MPICH_4_2: &str = "MPICH Version: 4.2.3";
    const MPICH_5: &str = "MPICH Version: 5.0.2";
    const UCX: &str = "MPICH Version: 4.0.2\nMPICH Device: ch4:ucx";
    const OPEN_MPI_4: &str = "Open MPI v4.1.8";

    #[test]
    fn the_agent_serves_what_its_mpiexec_cannot() {
        let with = |agent| verdict(MPICH_4_0, MPICH_4_0, |facts| facts.agent = agent);
        assert!(with(true).starts_with("cured here: without spawnfix the spawn hangs"));
        assert!(with(false).starts_with("no: the spawn hangs"));
        assert!(verdict(MPICH_4_2, MPICH_5, |_| ()).starts_with("cured here: "));
    }

    #[test]
    fn a_build_that_cannot_spawn_is_named_with_what_to_get_instead() {
        let said = verdict(UCX, MPICH_4_2, |_| ());
        assert!(
            said.starts_with("no: ") && said.contains("get MPICH 4.3.2 or later"),
            "{said}"
        );
    }

    #[test]
    fn open_mpi_4_refuses_in_a_slurm_step() {
        let step = |manager| {
            verdict(OPEN_MPI_4, OPEN_MPI_4, |facts| {
                facts.slurm_step = true;
                facts.manager = manager;
            })
        };
        assert!(step(None).starts_with("no: in a step of a Slurm job"));
        assert!(step(Some("PMI_RANK")).starts_with("no: in a step of a Slurm job"));
        assert!(step(Some("PMIX_RANK")).starts_with("not needed: PMIX_RANK is set"));
        assert!(verdict(OPEN_MPI_4, OPEN_MPI_4, |_| ()).starts_with("cured here: "));
        assert!(
            verdict("Open MPI v5.0.11", OPEN_MPI_4, |facts| facts.slurm_step =
                true)
            .starts_with("not needed")
        );
    }

    #[test]
    fn mpich_does_not_heed_a_pmix_server() {
        let under = |manager| verdict(MPICH_4_2, MPICH_4_2, |facts| facts.manager = Some(manager));
        assert!(under("PMI_RANK").starts_with("not needed: PMI_RANK is set"));
        assert!(under("PMIX_RANK").starts_with("cured here"));
    }

    #[test]
    fn what_keeps_the_cure_away_is_named() {
        let off = verdict(MPICH_4_2, MPICH_4_2, |facts| facts.off = true);
        assert!(
            off.starts_with("not cured: ") && off.contains("SPAWNFIX_GUARD=off"),
            "{off}"
        );
        static NO: Loads = Loads::No(String::new());
        static HARMS: Loads = Loads::Harms(String::new());
        let said = verdict(MPICH_4_2, MPICH_4_2, |facts| facts.loads = &NO);
        assert!(
            said.ends_with("and the library does not load into app"),
            "{said}"
        );
        let said = verdict(MPICH_5, MPICH_5, |facts| facts.loads = &HARMS);
        assert!(said.starts_with("no: app does not start"), "{said}");
        let said = verdict(OPEN_MPI_4, "Open MPI v5.0.11", |facts| {
            facts.open_mpi_launches = false
        });
        assert!(said.contains("whose orted is not on PATH"), "{said}");
        let better = Path::new("/opt/mpich/bin");
        let said = verdict(MPICH_4_2, "Open MPI v5.0.11", |facts| {
            facts.better = Some(better)
        });
        assert!(
            said.ends_with("put /opt/mpich/bin in front on PATH"),
            "{said}"
        );
        assert!(
            verdict(MPICH_4_2, MPICH_4_2, |facts| facts.launcher = None)
                .starts_with("no: without an mpiexec")
        );
        assert!(verdict(MPICH_4_2, "launcher 7", |_| ()).starts_with("not known: "));
        assert!(verdict("Toy 1.0", MPICH_4_2, |_| ()).starts_with("not known: "));
    }
}
