//! The command that is checked: what would run, whether the library loads into it, which MPI library it has. The command
//! itself is not run.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use object::{Object, ObjectSection};

#[cfg(target_os = "linux")]
use super::linux as system;
#[cfg(target_os = "macos")]
use super::macos as system;
use super::run::run;
use crate::exec::Changes;
use crate::interactive;
use crate::mpi::mpiexec::family_of;
use crate::mpi::{Family, is_libmpi};
use crate::shared::internal_args::VERSION_SECTION;
use crate::shared::logging::escape;
use crate::shared::paths::{self, NotFound};
use crate::shared::stdio::Stdin;

/// The time limit for a program that is asked about itself.
pub const LIMIT: Duration = Duration::from_secs(10);

/// What is checked.
#[derive(Default)]
pub struct Subject {
    /// Its file and its interpreter. Empty: no command was given.
    pub file: String,
    /// The word by which it is an interactive session.
    pub session: Option<String>,
    pub loads: Loads,
    /// Its MPI library.
    pub libmpi: Option<PathBuf>,
    /// What it sets in its environment before MPI_Init, as far as that is known.
    pub environment: Changes,
    /// Whether that is only the MPI library that belongs to the mpiexec on PATH.
    pub guessed: bool,
}

/// Whether the library loads into a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Loads {
    #[default]
    Yes,
    /// The program runs without it, for this reason.
    No(String),
    /// The program does not start with it, for this reason.
    Breaks(String),
    /// It does not, for this reason, and the program's MPI library is not known.
    Unknown(String),
}

impl Subject {
    /// Looks at this command, or at none.
    ///
    /// # Errors
    /// There is no such command.
    pub fn of(words: &[OsString], library: &Path) -> Result<Subject, NotFound> {
        let mut subject = Subject::default();
        if let Some(name) = words.first() {
            subject.look_at(paths::find(name)?.remove(0), words.to_vec(), library);
        }
        if subject.libmpi.is_none() && matches!(subject.loads, Loads::Yes | Loads::No(_)) {
            subject.libmpi = paths::first("mpiexec").and_then(|mpiexec| beside(&mpiexec));
            subject.guessed = true;
        }
        Ok(subject)
    }

    fn look_at(&mut self, mut program: PathBuf, mut argv: Vec<OsString>, library: &Path) {
        self.file = escape(&program).to_string();
        // A script's interpreter may be a script, as pyenv's python is.
        for _ in 0..3 {
            let Some(mut interpreter) = paths::interpreter_of(&program) else {
                break;
            };
            argv[0] = program.into_os_string();
            program = PathBuf::from(&interpreter[0]);
            interpreter.append(&mut argv);
            argv = interpreter;
            self.file += &format!(", run by {}", escape(&program));
        }
        let session = interactive::evidence(&argv, &[], Stdin::of_this_process());
        self.session = session.map(|word| escape(word).to_string());
        (self.loads, self.libmpi) = system::look(&program, library, &mut self.environment);
        let name = program.file_name().unwrap_or_default().as_bytes();
        let is_python = name.starts_with(b"python") || name.starts_with(b"pypy");
        if self.libmpi.is_none() && is_python {
            (self.libmpi, self.environment) = of_mpi4py(&program);
        }
    }
}

/// The version in the library's file.
pub fn version_of(library: &Path) -> Option<String> {
    let bytes = fs::read(library).ok()?;
    let object = object::File::parse(&*bytes).ok()?;
    let note = object.section_by_name(VERSION_SECTION)?.data().ok()?;
    // An ELF note: three words, of which the second is the length of the version; then "spawnfix", padded.
    let length = u32::from_ne_bytes(note.get(4..8)?.try_into().ok()?);
    let version = note.get(24..)?.get(..length as usize)?;
    Some(std::str::from_utf8(version).ok()?.to_owned())
}

/// Prints which files an interpreter's mpi4py has loaded, and which variables it has set, as it does for Intel MPI.
const ASK_PYTHON: &str = "import os
before = dict(os.environ)
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
for name, value in os.environ.items():
    if before.get(name) != value: print(name + '=' + value)
for line in open('/proc/self/maps'):
    print(line.rstrip()[line.find('/'):])";

/// The MPI library among the files that a program loads; and where the libraries of the same prefix are, as mpi4py loads
/// Intel MPI's libfabric before libmpi looks for it (dlopen_impi_libfabric in its _mpiabi.py).
pub fn libmpi_among(files: &[&Path], changes: &mut Changes) -> Option<PathBuf> {
    let name = |file: &Path| file.file_name().unwrap_or_default().as_bytes().to_owned();
    let libmpi = files.iter().find(|file| is_libmpi(&name(file)))?;
    let prefix = libmpi.parent()?.parent()?;
    let beside = files
        .iter()
        .filter(|file| file.starts_with(prefix) && name(file).starts_with(b"lib"));
    let mut places: Vec<_> = beside.filter_map(|file| file.parent()).collect();
    places.dedup();
    let present = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let present: Vec<_> = std::env::split_paths(&present).collect();
    let all = std::env::join_paths(
        places
            .into_iter()
            .chain(present.iter().map(PathBuf::as_path)),
    );
    changes.push(("LD_LIBRARY_PATH".into(), all.ok()));
    Some(libmpi.to_path_buf())
}

fn of_mpi4py(python: &Path) -> (Option<PathBuf>, Changes) {
    let ran = run(Command::new(python).args(["-c", ASK_PYTHON]), LIMIT);
    let lines = || ran.stdout.lines();
    let set = lines().filter(|line| !line.starts_with('/'));
    let set = set.filter_map(|line| line.split_once('='));
    let set = set.map(|(name, value)| (name.into(), Some(value.into())));
    let files: Vec<_> = lines()
        .map(Path::new)
        .filter(|file| file.is_absolute())
        .collect();
    let mut changes: Changes = set.collect();
    let libmpi = libmpi_among(&files, &mut changes);
    (libmpi, changes)
}

/// The MPI library that belongs to an mpiexec.
fn beside(mpiexec: &Path) -> Option<PathBuf> {
    let open_mpis = family_of(mpiexec) == Some(Family::OpenMpi);
    let mpiexec = mpiexec.canonicalize().ok()?;
    let prefix = mpiexec.parent()?.parent()?;
    let debian = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
    let places = ["lib", "lib64", "lib/release", &debian];
    let files = places
        .iter()
        .flat_map(|place| fs::read_dir(prefix.join(place)));
    let files = files
        .flatten()
        .flatten()
        .filter_map(|entry| entry.path().canonicalize().ok());
    let is_it = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        // libmpi.so.40 is Open MPI's, libmpi.so.12 is MPICH's and its kin's. In a wheel, libmpi.so is a short text.
        let is_open_mpis = format!("{name}.").contains(".so.40.");
        let is_library = file.metadata().is_ok_and(|metadata| metadata.len() > 4096);
        is_libmpi(name.as_bytes()) && is_open_mpis == open_mpis && is_library
    };
    files.filter(is_it).min()
}

/// The MPI libraries of MPICH's kin that belong to an mpiexec on PATH: they have the same ABI.
pub fn of_mpichs_kin() -> impl Iterator<Item = PathBuf> {
    let all = paths::find(OsStr::new("mpiexec"))
        .unwrap_or_default()
        .into_iter();
    let kin = all.filter(|mpiexec| family_of(mpiexec) != Some(Family::OpenMpi));
    kin.filter_map(|mpiexec| beside(&mpiexec))
}
