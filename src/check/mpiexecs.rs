//! The mpiexecs that a user should know of, and whose they are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ask::answer;
use super::report::Report;
use super::verdict::Launcher;
use crate::mpi::mpiexec;
use crate::mpi::{Family, Mpi};
use crate::shared::logging::escape;
use crate::shared::paths;

/// The mpiexecs: the one that a spawn will launch, and others that a user should know of.
pub struct Mpiexecs {
    pub used: Option<Launcher>,
    /// First on PATH, and another MPI's.
    passed_by: Option<Launcher>,
    /// On PATH behind the first, and of another MPI.
    behind: Option<Launcher>,
}

impl Mpiexecs {
    /// By the agent's own search, for MPICH's kin. Otherwise the first on PATH.
    pub fn find(mpi: Option<&Mpi>, libmpi: Option<&Path>) -> Mpiexecs {
        let on_path = paths::find(OsStr::new("mpiexec")).unwrap_or_default();
        let kin = mpi.is_some_and(|mpi| mpi.family.is_mpich_kin());
        let searched = kin.then(|| {
            let path = std::env::var_os("PATH");
            mpiexec::find(path.as_deref(), libmpi).candidates
        });
        let used = searched.and_then(|candidates| Some(candidates.into_iter().next()?.file));
        let used = used.or_else(|| on_path.first().cloned());
        let used = used.map(Launcher::of);
        let mut others = on_path
            .into_iter()
            .filter(|file| used.as_ref().is_some_and(|used| used.file != *file));
        let first = paths::first("mpiexec");
        let mut passed_by = None;
        if used.as_ref().map(|used| &used.file) != first.as_ref() {
            passed_by = others.next().map(Launcher::of);
        }
        let other = |launcher: &Launcher| {
            used.as_ref()
                .is_some_and(|used| used.mpi.family != launcher.mpi.family)
        };
        let behind = if passed_by.is_none() {
            others.map(Launcher::of).find(other)
        } else {
            None
        };
        Mpiexecs {
            used,
            passed_by,
            behind,
        }
    }

    pub fn report(&self, report: &mut Report) {
        let named = |launcher: &Launcher| {
            let mpi = match launcher.mpi.family {
                Family::Unknown => "unknown".to_owned(),
                _ => launcher.mpi.to_string(),
            };
            format!("{}: {mpi}", escape(&launcher.file))
        };
        report.add(
            "mpiexec",
            self.used
                .as_ref()
                .map_or("not found on PATH".to_owned(), named),
        );
        if let Some(launcher) = &self.passed_by {
            report.add("passed by", format!("{} (first on PATH)", named(launcher)));
        }
        if let Some(launcher) = &self.behind {
            report.add("behind it", named(launcher));
        }
    }

    /// The directory of an mpiexec further back that is of the program's MPI.
    pub fn better(&self, mpi: Option<&Mpi>) -> Option<&Path> {
        let behind = self
            .behind
            .as_ref()
            .filter(|behind| mpi.is_some_and(|mpi| mpi.family == behind.mpi.family))?;
        behind.file.parent()
    }
}

impl Launcher {
    /// Asks this mpiexec for its version.
    fn of(file: PathBuf) -> Launcher {
        let (_, said) = answer(Command::new(&file).arg("--version"));
        let mut mpi = Mpi::from_version_text(versions_name(&said).as_bytes());
        if mpi.family == Family::Unknown {
            mpi = match mpiexec::family_of(&file) {
                Some(Family::OpenMpi) => Mpi::from_version_text(b"Open MPI"),
                Some(Family::Intel) => Mpi::from_version_text(b"Intel(R) MPI"),
                Some(Family::Mvapich) => Mpi::from_version_text(b"MVAPICH"),
                Some(Family::Mpich) => Mpi::from_version_text(b"MPICH"),
                _ => mpi,
            };
        }
        Launcher { file, mpi }
    }
}

/// What an mpiexec says of its version, as MPI_Get_library_version would: `HYDRA build details` for MPICH's, OpenRTE
/// for Open MPI 4's.
fn versions_name(said: &str) -> String {
    let line = |start| {
        let mut lines = said.lines().map(str::trim);
        lines.find_map(|line| Some(line.strip_prefix(start)?.trim()))
    };
    match line("Version:").filter(|_| said.contains("HYDRA")) {
        Some(version) => {
            let options = line("Configure options:").unwrap_or_default();
            format!("MPICH Version: {version}\nMPICH configure: {options}\n")
        }
        None => said.replace("(OpenRTE)", "(Open MPI)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mpiexecs_version_is_read_as_its_mpi_would_say_it() {
        for (said, name) in [
            (
                "HYDRA build details:\n    Version:                                 4.2.3\n",
                "MPICH 4.2.3",
            ),
            (
                "mpiexec (OpenRTE) 4.1.8\n\nReport bugs to",
                "Open MPI 4.1.8",
            ),
            ("mpiexec (Open MPI) 5.0.11\n", "Open MPI 5.0.11"),
            (
                "Intel(R) MPI Library for Linux* OS, Version 2021.13 Build 20240701",
                "Intel MPI 2021.13",
            ),
        ] {
            assert_eq!(
                Mpi::from_version_text(versions_name(said).as_bytes()).to_string(),
                name
            );
        }
    }
}
