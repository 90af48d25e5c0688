//! `spawnfix --check`: whether a spawn from a command should work here.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use self::ask::answer;
use self::loads::{loads, told};
use self::mpiexecs::Mpiexecs;
use self::report::Report;
use self::verdict::{Facts, Loads, open_mpis_launcher};
use crate::interactive;
use crate::mpi::{Family, Mpi};
use crate::mpi::{behavior, environment};
use crate::output::eprint_prefixed;
use crate::shared::internal_args::COMMAND_PLACES;
use crate::shared::logging::escape;
use crate::shared::paths;
use crate::shared::stdio::Stdin;
use crate::wrapper::preload_env::{self, Variable};

pub mod ask;
mod binary;
mod loads;
mod mpiexecs;
mod report;
mod verdict;

/// This program's version, and the library's that it takes for its own.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Checks this command, or the machine.
pub fn main(words: &[OsString], settings: &[Variable], json: bool) -> ExitCode {
    let mut report = Report::default();
    let own = paths::own().unwrap_or_default();
    report.add("spawnfix", format!("{VERSION}, {}", escape(&own)));
    let library = match preload_env::library() {
        Ok(library) => library,
        Err(complaint) => {
            eprint_prefixed(complaint);
            report.add("library", "not there");
            return report.print(false, json);
        }
    };
    let version = binary::library_version(&library);
    let version = version.unwrap_or("unknown version".to_owned());
    report.add("library", format!("{version}, {}", escape(&library)));
    let agent = agent(&library, &version, &mut report);

    let program = match words {
        [] => {
            // Any program will do: /bin/sh is on each machine.
            let (loads, _) = loads(Path::new("/bin/sh"), &library);
            let said = format!(
                "{} (into /bin/sh; 'spawnfix --check COMMAND' tells for COMMAND)",
                told(&loads)
            );
            report.add("loads", said);
            Program {
                loads,
                mpi: None,
                library: None,
            }
        }
        words => program(words, &library, &mut report),
    };
    if let Some(behavior) = program.mpi.as_ref().and_then(behavior::of) {
        let (without, with) = behavior.without_and_with();
        report.add(
            "measured",
            format!(
                "{} without spawnfix: {without}; with it: {with}",
                behavior.name
            ),
        );
    }
    let mpiexecs = Mpiexecs::find(program.mpi.as_ref(), program.library.as_deref());
    mpiexecs.report(&mut report);

    let command = words
        .first()
        .map_or("COMMAND".to_owned(), |word| escape(word).to_string());
    let steps = ["SLURM_STEP_ID", "SLURM_STEPID"];
    let used = mpiexecs.used.as_ref();
    let mpi = program.mpi.as_ref().or(used.map(|used| &used.mpi));
    let facts = Facts {
        command: &command,
        loads: &program.loads,
        mpi: program.mpi.as_ref(),
        launcher: mpiexecs.used.as_ref(),
        better: mpiexecs.better(program.mpi.as_ref()),
        open_mpi_launches: paths::first(open_mpis_launcher(mpi)).is_some(),
        agent,
        off: is_off(settings),
        manager: environment::manager(|name| std::env::var_os(name).is_some()),
        slurm_step: steps.iter().any(|step| std::env::var_os(step).is_some()),
    };
    let verdict = facts.verdict();
    report.add("verdict", verdict.text);
    report.print(verdict.works, json)
}

/// Whether SPAWNFIX_GUARD=off holds, of options or of the environment.
fn is_off(settings: &[Variable]) -> bool {
    let given = settings.iter().rfind(|(name, _)| *name == "SPAWNFIX_GUARD");
    let guard = given.map(|(_, value)| value.clone());
    guard
        .or_else(|| std::env::var_os("SPAWNFIX_GUARD"))
        .is_some_and(|guard| guard == "off")
}

/// Whether the library will find its agent, and one of its own version.
fn agent(library: &Path, version: &str, report: &mut Report) -> bool {
    let directory = library.parent().unwrap_or(Path::new("/"));
    let places = COMMAND_PLACES.map(|place| directory.join(place));
    let Some(agent) = places.iter().find(|place| paths::is_program(place)) else {
        let place = escape(directory);
        report.add("agent", format!("not there: the library looks for the program spawnfix in {place}, and in ../bin, ../../bin and spawnfix from there"));
        return false;
    };
    let agent = agent.canonicalize().unwrap_or(agent.clone());
    let said = if Some(&agent) == paths::own().as_ref() {
        VERSION.to_owned()
    } else {
        let (_, said) = answer(Command::new(&agent).arg("--version"));
        said.trim().trim_start_matches("spawnfix ").to_owned()
    };
    let same = said == version;
    let but = if same {
        ""
    } else {
        ": not the library's version"
    };
    report.add(
        "agent",
        format!("{}, {}{but}", escape(OsStr::new(&said)), escape(&agent)),
    );
    same
}

/// A command's program.
struct Program {
    loads: Loads,
    mpi: Option<Mpi>,
    /// The file of its MPI library.
    library: Option<PathBuf>,
}

/// A command, as a user types it: its interpreter if it is a script, whether it is a shell, whether the library loads,
/// its MPI.
fn program(words: &[OsString], library: &Path, report: &mut Report) -> Program {
    let name = escape(&words[0]);
    let Some(file) = paths::first(&words[0]) else {
        report.add("command", format!("{name}: not found on PATH"));
        return Program {
            loads: Loads::No(format!("there is no {name}")),
            mpi: None,
            library: None,
        };
    };
    let mut text = escape(&file).to_string();
    let mut argv = words.to_vec();
    let mut program = file;
    // A script's interpreter may be a script, as pyenv's python is.
    for _ in 0..3 {
        let Some(mut interpreter) = paths::interpreter_of(&program) else {
            break;
        };
        argv[0] = program.into_os_string();
        program = PathBuf::from(&interpreter[0]);
        interpreter.append(&mut argv);
        argv = interpreter;
        let _ = write!(text, ", run by {}", escape(&program));
    }
    report.add("command", text);
    report.add("shell", match interactive::evidence(&argv, &[], Stdin::of_this_process()) {
        Some(word) => format!("yes, by {}: Ctrl-C and its children's crashes spare it", escape(word)),
        None => "no: Ctrl-C and its children's crashes reach it, too, as MPI has it; 'spawnfix -i' spares it".to_owned(),
    });
    let (loads, mut mpi_library) = loads(&program, library);
    let mut mpi = None;
    if let Some(file) = &mpi_library {
        let mut ask = Command::new(paths::own().unwrap_or_default());
        let (_, said) = answer(ask.arg(OsStr::from_bytes(ask::WHAT_LIBRARY)).arg(file));
        mpi = Some(Mpi::from_version_text(said.as_bytes()))
            .filter(|mpi| mpi.family != Family::Unknown);
    }
    let program_name = program.file_name().unwrap_or_default().as_bytes();
    if mpi.is_none() && (program_name.starts_with(b"python") || program_name.starts_with(b"pypy")) {
        let (_, said) = answer(Command::new(&program).args(["-c", ASK_PYTHON]));
        let (said, mapped) = said.split_once("\nlibmpi is ").unwrap_or((&said, ""));
        mpi = Some(Mpi::from_version_text(said.as_bytes()))
            .filter(|mpi| mpi.family != Family::Unknown);
        mpi_library =
            Some(PathBuf::from(mapped.trim())).filter(|file| mpi.is_some() && file.is_file());
    }
    report.add("loads", told(&loads));
    let named = mpi.as_ref().map(Mpi::to_string);
    report.add(
        "its MPI",
        named.unwrap_or("not known; taken to be that of mpiexec".to_owned()),
    );
    Program {
        loads,
        mpi,
        library: mpi_library,
    }
}

/// Says which MPI an interpreter's mpi4py has, and from which file.
const ASK_PYTHON: &str = "import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
print(MPI.Get_library_version().strip('\\0'))
import os.path
if os.path.exists('/proc/self/maps'):
    for line in open('/proc/self/maps'):
        file = line.rstrip().partition('/')
        if os.path.basename(file[2]).startswith('libmpi'):
            print('libmpi is', '/' + file[2])
            break";
