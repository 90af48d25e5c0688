//! The command that is checked: what would run, whether the library loads into it, which MPI library it has. The command
//! itself is not run.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSection};

use super::libmpi;
#[cfg(target_os = "linux")]
use super::linux as system;
use super::loads::Loads;
#[cfg(target_os = "macos")]
use super::macos as system;
use crate::exec::Changes;
use crate::interactive;
use crate::shared::internal_args::VERSION_SECTION;
use crate::shared::logging::escape;
use crate::shared::paths::{self, NotFound};
use crate::shared::stdio::Stdin;
use crate::wrapper::preload_env::Variable;

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
    /// Where that is not from the command itself: why it was taken, as the report says it.
    pub guessed: &'static str,
}

impl Subject {
    /// Looks at this command, or at none, as it would run with these variables, which preload the library.
    ///
    /// # Errors
    /// There is no such command.
    pub fn of(words: &[OsString], preload: &[Variable]) -> Result<Subject, NotFound> {
        let mut subject = Subject::default();
        if !words.is_empty() {
            let (program, argv) = subject.interpreted(words)?;
            let session = interactive::evidence(&argv, &[], Stdin::of_this_process());
            subject.session = session.map(|word| escape(word).to_string());
            let environment = &mut subject.environment;
            (subject.loads, subject.libmpi) = system::look(&program, preload, environment);
            let name = libmpi::name_of(&program);
            let is_python = name.starts_with(b"python") || name.starts_with(b"pypy");
            if is_python && subject.libmpi.is_none() {
                subject.libmpi = libmpi::of_mpi4py(&program, environment);
            }
        }
        if subject.libmpi.is_none() && matches!(subject.loads, Loads::Yes | Loads::No(_)) {
            subject.libmpi = paths::first("mpiexec").and_then(|mpiexec| libmpi::beside(&mpiexec));
            subject.guessed = " (that of the mpiexec on PATH: what the command loads is not known)";
        }
        Ok(subject)
    }

    /// The program that the kernel would start, and its command line.
    fn interpreted(&mut self, words: &[OsString]) -> Result<(PathBuf, Vec<OsString>), NotFound> {
        let (mut program, mut argv) = (paths::find(&words[0])?.remove(0), words.to_vec());
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
        Ok((program, argv))
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
