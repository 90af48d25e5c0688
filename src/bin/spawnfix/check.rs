//! `spawnfix --check`: whether a spawn from a command should work here.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::binary::{self, Binary};
use crate::mpi::{Family, Mpi};
use crate::preload::{self, System, Variable};
use crate::stdio::Stdin;
use crate::verdict::{Facts, Launcher, Loads, open_mpis_launcher};
use crate::{VERSION, launcher, manager, paths, print, shell, shown, whose};

/// How long a program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(10);

/// What this program is called with to load an MPI library and ask for its version, as a process of its own.
pub const ASK: &[u8] = b"--library-version";

/// What is found, a line each.
#[derive(Default)]
struct Report(Vec<(&'static str, String)>);

impl Report {
    fn add(&mut self, name: &'static str, text: impl Into<String>) {
        self.0.push((name, text.into()));
    }

    fn print(&self, works: bool, json: bool) -> ExitCode {
        let mut text = String::new();
        if json {
            for (name, said) in &self.0 {
                let _ = write!(
                    text,
                    "{}: {}, ",
                    quoted(&name.to_lowercase().replace(' ', "_")),
                    quoted(said)
                );
            }
            text = format!("{{{text}\"works\": {works}}}\n");
        } else {
            for (name, said) in &self.0 {
                let _ = writeln!(text, "{name:<10} {said}");
            }
        }
        print(&text);
        if works {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => _ = write!(quoted, "\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

/// Checks this command, or the machine.
pub fn main(words: &[OsString], settings: &[Variable], json: bool) -> ExitCode {
    for (name, _) in std::env::vars_os() {
        manager::note(name.as_bytes());
    }
    let mut report = Report::default();
    let own = paths::own().unwrap_or_default();
    report.add("spawnfix", format!("{VERSION}, {}", shown(&own)));
    let library = match preload::library() {
        Ok(library) => library,
        Err(complaint) => {
            crate::say(complaint);
            report.add("library", "not there");
            return report.print(false, json);
        }
    };
    // The words that it logs when it is loaded.
    let version = binary::text_between(&library, "spawnfix ", " is loaded");
    let version = version.unwrap_or("unknown version".to_owned());
    report.add("library", format!("{version}, {}", shown(&library)));
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
    let launchers = Launchers::find(&program);
    launchers.report(&mut report);

    let off = settings
        .iter()
        .rfind(|(name, _)| *name == "SPAWNFIX_GUARD")
        .map(|(_, value)| value.clone());
    let off = off
        .or_else(|| std::env::var_os("SPAWNFIX_GUARD"))
        .is_some_and(|guard| guard == "off");
    let command = words
        .first()
        .map_or("COMMAND".to_owned(), |word| shown(word).to_string());
    let steps = ["SLURM_STEP_ID", "SLURM_STEPID"];
    let used = launchers.used.as_ref();
    let mpi = program.mpi.as_ref().or(used.map(|used| &used.mpi));
    let facts = Facts {
        command: &command,
        loads: &program.loads,
        mpi: program.mpi.as_ref(),
        launcher: launchers.used.as_ref(),
        better: launchers.better(program.mpi.as_ref()),
        open_mpi_launches: paths::first(open_mpis_launcher(mpi)).is_some(),
        agent,
        off,
        manager: manager::of_this_program(),
        slurm_step: steps.iter().any(|step| std::env::var_os(step).is_some()),
    };
    let verdict = facts.verdict();
    report.add("verdict", verdict.text);
    report.print(verdict.works, json)
}

/// Whether the library will find its agent, and one of its own version.
fn agent(library: &Path, version: &str, report: &mut Report) -> bool {
    // As handover.rs looks for it.
    let directory = library.parent().unwrap_or(Path::new("/"));
    let places = ["", "../bin", "../../bin", "spawnfix"];
    let places = places.map(|place| directory.join(place).join("spawnfix"));
    let Some(agent) = places.iter().find(|place| paths::is_program(place)) else {
        let place = shown(directory);
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
        format!("{}, {}{but}", shown(OsStr::new(&said)), shown(&agent)),
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

/// A command, as a user types it: its interpreter if it is a script, whether it is a shell, whether the library loads, its
/// MPI.
fn program(words: &[OsString], library: &Path, report: &mut Report) -> Program {
    let name = shown(&words[0]);
    let Some(file) = paths::first(&words[0]) else {
        report.add("command", format!("{name}: not found on PATH"));
        return Program {
            loads: Loads::No(format!("there is no {name}")),
            mpi: None,
            library: None,
        };
    };
    let mut text = shown(&file).to_string();
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
        let _ = write!(text, ", run by {}", shown(&program));
    }
    report.add("command", text);
    report.add("shell", match shell::shell(&argv, Stdin::of_this_program()) {
        Some(word) => format!("yes, by {}: Ctrl-C and its children's crashes spare it", shown(word)),
        None => "no: Ctrl-C and its children's crashes reach it, too, as MPI has it; 'spawnfix -i' spares it".to_owned(),
    });
    let (loads, mut mpi_library) = loads(&program, library);
    let mut mpi = None;
    if let Some(file) = &mpi_library {
        let mut ask = Command::new(paths::own().unwrap_or_default());
        let (_, said) = answer(ask.arg(OsStr::from_bytes(ASK)).arg(file));
        mpi = Some(Mpi::named(said.as_bytes())).filter(|mpi| mpi.family != Family::Unknown);
    }
    let program_name = program.file_name().unwrap_or_default().as_bytes();
    if mpi.is_none() && (program_name.starts_with(b"python") || program_name.starts_with(b"pypy")) {
        let (_, said) = answer(Command::new(&program).args(["-c", ASK_PYTHON]));
        let (said, mapped) = said.split_once("\nlibmpi is ").unwrap_or((&said, ""));
        mpi = Some(Mpi::named(said.as_bytes())).filter(|mpi| mpi.family != Family::Unknown);
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

fn told(loads: &Loads) -> String {
    match loads {
        Loads::Yes => "yes".to_owned(),
        Loads::No(why) | Loads::Harms(why) => format!("no: {why}"),
        Loads::Unknown(why) => format!("unknown: {why}"),
    }
}

/// Whether the library loads into this program, and the MPI library that is loaded with it.
fn loads(program: &Path, library: &Path) -> (Loads, Option<PathBuf>) {
    let name = shown(program);
    let no = |why: String| (Loads::No(format!("{name} {why}")), None);
    if System::HERE == System::MacOs {
        let (_, said) = answer(Command::new("codesign").args(["-d", "-v"]).arg(program));
        let signed = said
            .lines()
            .any(|line| line.contains("flags=") && line.contains("runtime"));
        let protected = ["/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/", "/System/"];
        return match binary::read(program) {
            _ if protected
                .iter()
                .any(|place| program.as_os_str().as_bytes().starts_with(place.as_bytes())) =>
            {
                let why =
                    format!("System Integrity Protection takes DYLD_INSERT_LIBRARIES from {name}");
                (Loads::No(why), None)
            }
            Ok(Binary::MachO) if signed => no("is signed with the hardened runtime".to_owned()),
            Ok(Binary::MachO) => (Loads::Yes, None),
            _ => (
                Loads::Unknown(format!("{name} is neither a script nor a Mach-O program")),
                None,
            ),
        };
    }
    let Ok(metadata) = program.metadata() else {
        return (Loads::Unknown(format!("{name} can't be looked at")), None);
    };
    if metadata.mode() & u32::from(libc::S_ISUID as u16 | libc::S_ISGID as u16) != 0 {
        return no("is setuid or setgid, and such a program takes no LD_PRELOAD".to_owned());
    }
    if has_capabilities(program) {
        return no("has file capabilities, and such a program takes no LD_PRELOAD".to_owned());
    }
    let Ok(kind) = binary::read(program) else {
        return (Loads::Unknown(format!("{name} can't be read")), None);
    };
    let (Binary::Elf(elf), Ok(Binary::Elf(own))) = (kind, binary::read(library)) else {
        return (
            Loads::Unknown(format!("{name} is neither a script nor an ELF program")),
            None,
        );
    };
    if elf.bits != own.bits {
        return (
            Loads::No(format!(
                "one of {name} and the library is 32-bit, the other 64-bit"
            )),
            None,
        );
    }
    if elf.machine != own.machine {
        return no("is for another kind of processor than the library".to_owned());
    }
    let Some(loader) = elf.loader else {
        return no("is statically linked".to_owned());
    };
    if !loader.exists() {
        return no(format!(
            "asks for the dynamic linker {}, which is not here",
            shown(&loader)
        ));
    }
    // The loader itself says: --list loads all that the program would, and does not start it.
    let mut list = Command::new(&loader);
    list.arg("--list").arg(program);
    match preload::variables(System::HERE, library, |name| std::env::var_os(name)) {
        Ok(variables) => list.envs(variables),
        Err(why) => return (Loads::No(why), None),
    };
    let (status, said) = answer(&mut list);
    let lines = || said.lines().map(str::trim);
    let files = || {
        lines().filter_map(|line| {
            line.split_once(" => ")
                .map_or(line, |(_, file)| file)
                .rsplit_once(" (0x")
        })
    };
    let base = |file: &str| file.rsplit('/').next().unwrap_or(file).to_owned();
    let mpi = files()
        .map(|(file, _)| file)
        .find(|file| base(file).starts_with("libmpi") && base(file).contains(".so"));
    let mpi = mpi.map(PathBuf::from);
    let complaint = || {
        let ours = base(&library.to_string_lossy());
        let about = lines().find(|line| line.contains(&ours) && !line.contains(" (0x"));
        about
            .or_else(|| lines().next())
            .unwrap_or("the dynamic linker does not say why")
            .to_owned()
    };
    if !status.is_some_and(|status| status.success()) {
        let why = format!("{name} does not start with it: {}", complaint());
        return (Loads::Harms(why), mpi);
    }
    if !files().any(|(file, _)| base(file) == System::HERE.library()) {
        return (Loads::No(complaint()), mpi);
    }
    if let Some((runtime, _)) = files().find(|(file, _)| preload::is_sanitizer(file.as_bytes())) {
        let first = std::env::var_os("LD_PRELOAD").unwrap_or_default();
        let mut items = first.as_bytes().split(|byte| b": ".contains(byte));
        if !items
            .find(|item| !item.is_empty())
            .is_some_and(preload::is_sanitizer)
        {
            let why = format!(
                "{name} is built with AddressSanitizer, which ends a program that has another library in front of it: \
                 LD_PRELOAD={runtime} spawnfix … keeps it first"
            );
            return (Loads::Harms(why), mpi);
        }
    }
    (Loads::Yes, mpi)
}

/// Whether the file has capabilities: capabilities(7).
#[cfg(target_os = "linux")]
fn has_capabilities(file: &Path) -> bool {
    let Ok(path) = CString::new(file.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: two C strings; with a size of 0 nothing is written.
    unsafe {
        libc::getxattr(
            path.as_ptr(),
            c"security.capability".as_ptr(),
            std::ptr::null_mut(),
            0,
        ) > 0
    }
}

#[cfg(not(target_os = "linux"))]
fn has_capabilities(_: &Path) -> bool {
    false
}

/// The mpiexecs: the one that a spawn will launch, and others that a user should know of.
struct Launchers {
    used: Option<Launcher>,
    /// First on PATH, and another MPI's.
    passed_by: Option<Launcher>,
    /// On PATH behind the first, and of another MPI.
    behind: Option<Launcher>,
}

impl Launchers {
    /// By the agent's own search, for MPICH's kin. Otherwise the first on PATH.
    fn find(program: &Program) -> Launchers {
        let on_path = paths::find(OsStr::new("mpiexec")).unwrap_or_default();
        let kin = program
            .mpi
            .as_ref()
            .is_some_and(|mpi| mpi.family.is_mpich_kin());
        let searched = kin.then(|| {
            let path = std::env::var_os("PATH");
            launcher::find(path.as_deref(), program.library.as_deref()).candidates
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
        Launchers {
            used,
            passed_by,
            behind,
        }
    }

    fn report(&self, report: &mut Report) {
        let named = |launcher: &Launcher| {
            let mpi = match launcher.mpi.family {
                Family::Unknown => "unknown".to_owned(),
                _ => launcher.mpi.to_string(),
            };
            format!("{}: {mpi}", shown(&launcher.file))
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
    fn better(&self, mpi: Option<&Mpi>) -> Option<&Path> {
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
        let mut mpi = Mpi::named(versions_name(&said).as_bytes());
        if mpi.family == Family::Unknown {
            mpi = match whose::family_of(&file) {
                Some(Family::OpenMpi) => Mpi::named(b"Open MPI"),
                Some(Family::Intel) => Mpi::named(b"Intel(R) MPI"),
                Some(Family::Mvapich) => Mpi::named(b"MVAPICH"),
                Some(Family::Mpich) => Mpi::named(b"MPICH"),
                _ => mpi,
            };
        }
        Launcher { file, mpi }
    }
}

/// What an mpiexec says of its version, as MPI_Get_library_version would: `HYDRA build details` for MPICH's, OpenRTE for
/// Open MPI 4's.
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

/// What a command says; it gets no stdin and ten seconds. A status: it has ended in that time.
fn answer(command: &mut Command) -> (Option<ExitStatus>, String) {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let Ok(mut child) = command.spawn() else {
        return (None, String::new());
    };
    let said = Arc::new(Mutex::new(Vec::new()));
    let mut readers = Vec::new();
    let mut read = |from: Option<Box<dyn Read + Send>>| {
        let said = said.clone();
        readers.extend(from.map(|mut from| {
            std::thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = from.read(&mut chunk) {
                    said.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend(&chunk[..count]);
                }
            })
        }));
    };
    read(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    read(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let began = Instant::now();
    let mut status = None;
    while status.is_none() && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
        status = child.try_wait().ok().flatten();
    }
    // What a child of it still holds open is not waited for long.
    let ended = Instant::now();
    while status.is_some()
        && readers.iter().any(|reader| !reader.is_finished())
        && ended.elapsed() < Duration::from_secs(1)
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    if let (Ok(group), true) = (i32::try_from(child.id()), status.is_none()) {
        // SAFETY: kill takes two integers; the group is our child's, which nobody has waited for.
        unsafe { libc::kill(-group, libc::SIGKILL) };
        let _ = child.wait();
    }
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    (status, String::from_utf8_lossy(&said).into_owned())
}

/// `spawnfix --library-version FILE`: loads an MPI library and prints what it says of itself.
pub fn answer_what_library(file: Option<&OsString>) -> ExitCode {
    type Ask = unsafe extern "C" fn(*mut libc::c_char, *mut libc::c_int) -> libc::c_int;
    let Some(file) = file.and_then(|file| CString::new(file.as_bytes()).ok()) else {
        return ExitCode::from(2);
    };
    let mut text = [0_u8; 16384]; // MPI_MAX_LIBRARY_VERSION_STRING is 8192 at most
    let mut length = 0;
    // SAFETY: C strings; the function is MPI's, may be called before MPI_Init, and fills less than the buffer, whose last
    // byte stays 0.
    unsafe {
        let library = libc::dlopen(file.as_ptr(), libc::RTLD_LAZY | libc::RTLD_GLOBAL);
        let ask = if library.is_null() {
            library
        } else {
            libc::dlsym(library, c"MPI_Get_library_version".as_ptr())
        };
        if ask.is_null() {
            return ExitCode::FAILURE;
        }
        std::mem::transmute::<*mut libc::c_void, Ask>(ask)(text.as_mut_ptr().cast(), &mut length);
    }
    print(
        &CStr::from_bytes_until_nul(&text)
            .unwrap_or_default()
            .to_string_lossy(),
    );
    ExitCode::SUCCESS
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
            assert_eq!(Mpi::named(versions_name(said).as_bytes()).to_string(), name);
        }
    }

    #[test]
    fn json_strings_have_no_loose_ends() {
        assert_eq!(
            quoted("a \"b\" \\ ü\n\u{1}"),
            r#""a \"b\" \\ ü\u000a\u0001""#
        );
    }

    #[test]
    fn what_a_command_says_is_had_even_if_it_leaves_a_child_behind() {
        let began = Instant::now();
        let (status, said) =
            answer(Command::new("sh").args(["-c", "echo here; echo there >&2; sleep 5 & exit 3"]));
        assert_eq!(status.and_then(|status| status.code()), Some(3));
        assert!(said.contains("here") && said.contains("there"));
        assert!(began.elapsed() < Duration::from_secs(4));
    }
}
