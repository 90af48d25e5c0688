//! Which mpiexec serves the program, and what is said when none does.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::mpi::Family;
use crate::mpi::whose;
use crate::shared::logging::escape;

/// An mpiexec that may serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub file: PathBuf,
    /// Why this one, for the log.
    pub why: &'static str,
}

/// All that may serve, best first, and what was found that can't.
#[derive(Debug, Default)]
pub struct Found {
    pub candidates: Vec<Candidate>,
    /// Open MPI's, or not to be executed.
    pub unfit: Vec<(PathBuf, LaunchError)>,
}

/// How a launch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchError {
    /// It could not be executed, for this errno.
    NotRun(i32),
    /// It is Open MPI's, and was not run.
    OpenMpis,
    /// It ended with this status.
    Exited(i32),
    /// It was ended by this signal.
    Killed(i32),
    /// It started the bridge without PMI-1.
    NoManager,
    /// There were no descriptors, no memory or the like, for this errno.
    Resources(i32),
}

impl LaunchError {
    pub fn not_run(error: io::Error) -> LaunchError {
        LaunchError::NotRun(error.raw_os_error().unwrap_or(libc::EINVAL))
    }

    pub fn resources(error: io::Error) -> LaunchError {
        LaunchError::Resources(error.raw_os_error().unwrap_or(libc::EINVAL))
    }

    pub fn ended(status: ExitStatus) -> LaunchError {
        match (status.code(), status.signal()) {
            (Some(code), _) => LaunchError::Exited(code),
            (_, signal) => LaunchError::Killed(signal.unwrap_or(0)),
        }
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The file is there: what is not is the interpreter that its first line names.
            LaunchError::NotRun(libc::ENOENT) => {
                f.write_str("can't be run: its interpreter is not there")
            }
            LaunchError::NotRun(libc::EACCES) => f.write_str("can't be run: it is not executable"),
            LaunchError::NotRun(errno) => {
                write!(f, "can't be run ({})", io::Error::from_raw_os_error(*errno))
            }
            LaunchError::OpenMpis => f.write_str("is Open MPI's"),
            LaunchError::Exited(status) => {
                write!(f, "ended with exit status {status} before it answered")
            }
            LaunchError::Killed(signal) => {
                write!(f, "was killed by signal {signal} before it answered")
            }
            LaunchError::NoManager => f.write_str("is no process manager that speaks PMI-1"),
            LaunchError::Resources(errno) => {
                write!(
                    f,
                    "could not be started ({})",
                    io::Error::from_raw_os_error(*errno)
                )
            }
        }
    }
}

/// Where execvp looks if PATH is not set: execvp(3).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The names under which hydra is installed where `mpiexec` may be another MPI's: MPICH's own, and Debian's.
const OTHER_NAMES: [&str; 2] = ["mpiexec.hydra", "mpiexec.mpich"];

/// Looks for an mpiexec: on this PATH, beside this libmpi's directory. Nothing is run.
pub fn find(path: Option<&OsStr>, libmpi: Option<&Path>) -> Found {
    let mut found = Found::default();
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    let on_path = |name: &'static str| {
        // An empty directory is the working directory.
        std::env::split_paths(path).map(move |directory| Path::new(".").join(directory).join(name))
    };
    for file in on_path("mpiexec") {
        found.add(file, "the first on PATH");
    }
    // In lib, or in lib/x86_64-linux-gnu.
    let places = libmpi.into_iter().flat_map(Path::ancestors).skip(2).take(2);
    for prefix in places {
        found.add(
            prefix.join("bin/mpiexec"),
            "the one of the program's own libmpi",
        );
    }
    for name in OTHER_NAMES {
        for file in on_path(name) {
            found.add(file, "MPICH's by its name on PATH");
        }
    }
    found
}

impl Found {
    fn add(&mut self, file: PathBuf, why: &'static str) {
        let file: PathBuf = file.components().collect();
        let Ok(metadata) = file.metadata() else {
            return;
        };
        let known = |other: &Path| other.canonicalize().ok() == file.canonicalize().ok();
        if !metadata.is_file()
            || self
                .candidates
                .iter()
                .any(|candidate| known(&candidate.file))
            || self.unfit.iter().any(|(unfit, _)| known(unfit))
        {
            return;
        }
        if metadata.permissions().mode() & 0o111 == 0 {
            self.unfit.push((file, LaunchError::NotRun(libc::EACCES)));
        } else if whose::family_of(&file) == Some(Family::OpenMpi) {
            self.unfit.push((file, LaunchError::OpenMpis));
        } else {
            let why = match self.candidates.is_empty() {
                true if self.unfit.is_empty() => why,
                true if why == "the first on PATH" => "the first on PATH that may serve",
                _ => why,
            };
            self.candidates.push(Candidate { file, why });
        }
    }
}

/// That no mpiexec serves, in the words of the log.
pub struct NoLauncher<'a> {
    /// The last that was tried, or what was found that can't serve.
    pub last: Option<(&'a Path, LaunchError)>,
    /// The program's MPI, if it is known.
    pub mpi: Option<String>,
    pub path: Option<&'a OsStr>,
    /// What told mpiexec of hosts, and the program that it runs on the first of them.
    pub hosts: Option<(&'static str, PathBuf)>,
}

impl fmt::Display for NoLauncher<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last {
            None => f.write_str("mpiexec was not found on PATH")?,
            Some((file, error)) => write!(f, "{} {error}", escape(file))?,
        }
        f.write_str(", so MPI can launch nothing")?;
        if let Some(mpi) = &self.mpi {
            write!(f, "; this program has {mpi}")?;
        }
        match self.last {
            Some((_, LaunchError::OpenMpis)) => {
                f.write_str(": put the mpiexec of the program's own MPI on PATH")?
            }
            None | Some((_, LaunchError::NotRun(_))) => {
                f.write_str(": put the directory with the mpiexec of the program's MPI on PATH")?;
            }
            Some((_, LaunchError::Exited(_) | LaunchError::Killed(_))) => {
                if let Some((variable, bridge)) = &self.hosts {
                    let bridge = escape(bridge);
                    write!(
                        f,
                        ": it launches where {variable} says, and the first of those hosts must have {bridge}"
                    )?;
                }
                return Ok(());
            }
            _ => return Ok(()),
        }
        let path = self.path.unwrap_or(OsStr::new("not set"));
        write!(f, "; PATH is {}", escape(path))
    }
}

/// libmpi.so.12, libmpich.so.12, libmpi.12.dylib, libmpi_abi.so.0, Cray's libmpi_gnu.so.12, a wheel's
/// libmpi-d26c8c51.so.12.
pub fn is_libmpi(name: &[u8]) -> bool {
    let rest = name.strip_prefix(b"libmpi").unwrap_or_default();
    let rest = rest.strip_prefix(b"ch").unwrap_or(rest);
    let kin = [
        &b".so"[..],
        b"_abi",
        b"-",
        b"_gnu",
        b"_intel",
        b"_cray",
        b"_nvidia",
    ];
    kin.iter().any(|kin| rest.starts_with(kin))
        || rest.starts_with(b".") && rest.ends_with(b".dylib")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A directory with these files, each with its mode.
    fn place(files: &[(&str, u32)]) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        for (name, mode) in files {
            let file = place.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(*mode)).unwrap();
        }
        place
    }

    #[test]
    fn the_first_that_may_serve_comes_first_and_all_others_after_it() {
        let place = place(&[
            ("plain/mpiexec", 0o644),
            ("open/mpiexec", 0o755),
            ("open/ompi_info", 0o755),
            ("one/mpiexec", 0o755),
            ("two/mpiexec", 0o755),
            ("two/mpiexec.hydra", 0o755),
            ("own/bin/mpiexec", 0o755),
            ("own/lib/libmpi.so.12", 0o644),
        ]);
        let at = |name: &str| place.path().join(name);
        let directories = ["no", "plain", "open", "one", "two", "one"].map(at);
        let path = std::env::join_paths(directories).unwrap();
        let found = find(Some(&path), Some(&at("own/lib/libmpi.so.12")));
        let candidates = [
            ("one/mpiexec", "the first on PATH that may serve"),
            ("two/mpiexec", "the first on PATH"),
            ("own/bin/mpiexec", "the one of the program's own libmpi"),
            ("two/mpiexec.hydra", "MPICH's by its name on PATH"),
        ];
        let candidates = candidates.map(|(file, why)| Candidate {
            file: at(file),
            why,
        });
        assert_eq!(found.candidates, candidates);
        let unfit = [
            (at("plain/mpiexec"), LaunchError::NotRun(libc::EACCES)),
            (at("open/mpiexec"), LaunchError::OpenMpis),
        ];
        assert_eq!(found.unfit, unfit);
        assert!(
            find(Some(OsStr::new("/no/such")), None)
                .candidates
                .is_empty()
        );
    }

    #[test]
    fn a_failure_says_what_was_run_how_it_ended_and_what_to_do() {
        let failure = |last: Option<(&str, LaunchError)>| {
            let failure = NoLauncher {
                last: last.map(|(file, how)| (Path::new(file), how)),
                mpi: Some("MPICH 4.2.3".to_owned()),
                path: Some(OsStr::new("/x")),
                hosts: Some(("PBS_NODEFILE", PathBuf::from("/opt/bin/spawnfix"))),
            };
            failure.to_string()
        };
        assert_eq!(
            failure(None),
            "mpiexec was not found on PATH, so MPI can launch nothing; this program has MPICH 4.2.3: put the directory \
             with the mpiexec of the program's MPI on PATH; PATH is /x"
        );
        assert_eq!(
            failure(Some(("/bin/mpiexec", LaunchError::Exited(3)))),
            "/bin/mpiexec ended with exit status 3 before it answered, so MPI can launch nothing; this program has \
             MPICH 4.2.3: it launches where PBS_NODEFILE says, and the first of those hosts must have \
             /opt/bin/spawnfix"
        );
        let open_mpis = failure(Some(("/bin/mpiexec", LaunchError::OpenMpis)));
        assert!(open_mpis.starts_with("/bin/mpiexec is Open MPI's, so MPI can launch nothing;"));
    }
}
