//! Whether the library loads into a program, as far as can be told without starting it.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ask::answer;
use super::verdict::Loads;
use crate::check::binary::{self, Binary};
use crate::preload_list::{System, is_sanitizer};
use crate::shared::logging::escape;
use crate::wrapper::preload_env;

pub fn told(loads: &Loads) -> String {
    match loads {
        Loads::Yes => "yes".to_owned(),
        Loads::No(why) | Loads::Harms(why) => format!("no: {why}"),
        Loads::Unknown(why) => format!("unknown: {why}"),
    }
}

/// Whether the library loads into this program, and the MPI library that is loaded with it.
pub fn loads(program: &Path, library: &Path) -> (Loads, Option<PathBuf>) {
    if System::HERE == System::MacOs {
        return (on_macos(program), None);
    }
    match dynamic_linker(program, library) {
        Ok(linker) => list(&linker, program, library),
        Err(loads) => (loads, None),
    }
}

/// By where the program is, and how it is signed.
fn on_macos(program: &Path) -> Loads {
    let name = escape(program);
    let protected = ["/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/", "/System/"];
    let path = program.as_os_str().as_bytes();
    if protected
        .iter()
        .any(|place| path.starts_with(place.as_bytes()))
    {
        return Loads::No(format!(
            "System Integrity Protection takes DYLD_INSERT_LIBRARIES from {name}"
        ));
    }
    let (_, said) = answer(Command::new("codesign").args(["-d", "-v"]).arg(program));
    let mut lines = said.lines();
    let hardened = lines.any(|line| line.contains("flags=") && line.contains("runtime"));
    match binary::read(program) {
        Ok(Binary::MachO) if hardened => {
            Loads::No(format!("{name} is signed with the hardened runtime"))
        }
        Ok(Binary::MachO) => Loads::Yes,
        _ => Loads::Unknown(format!("{name} is neither a script nor a Mach-O program")),
    }
}

/// The dynamic linker that the program asks for, if that may load the library.
fn dynamic_linker(program: &Path, library: &Path) -> Result<PathBuf, Loads> {
    let name = escape(program);
    let no = |why: &str| Err(Loads::No(format!("{name} {why}")));
    let unknown = |why: &str| Err(Loads::Unknown(format!("{name} {why}")));
    let Ok(metadata) = program.metadata() else {
        return unknown("can't be looked at");
    };
    if metadata.mode() & u32::from(libc::S_ISUID as u16 | libc::S_ISGID as u16) != 0 {
        return no("is setuid or setgid, and such a program takes no LD_PRELOAD");
    }
    if has_capabilities(program) {
        return no("has file capabilities, and such a program takes no LD_PRELOAD");
    }
    let Ok(kind) = binary::read(program) else {
        return unknown("can't be read");
    };
    let (Binary::Elf(elf), Ok(Binary::Elf(own))) = (kind, binary::read(library)) else {
        return unknown("is neither a script nor an ELF program");
    };
    if elf.bits != own.bits {
        return Err(Loads::No(format!(
            "one of {name} and the library is 32-bit, the other 64-bit"
        )));
    }
    if elf.machine != own.machine {
        return no("is for another kind of processor than the library");
    }
    match elf.loader {
        None => no("is statically linked"),
        Some(linker) if !linker.exists() => no(&format!(
            "asks for the dynamic linker {}, which is not here",
            escape(&linker)
        )),
        Some(linker) => Ok(linker),
    }
}

/// What the dynamic linker itself says: with --list it loads all that the program would, and does not start it.
fn list(linker: &Path, program: &Path, library: &Path) -> (Loads, Option<PathBuf>) {
    let name = escape(program);
    let mut list = Command::new(linker);
    list.arg("--list").arg(program);
    match preload_env::variables(System::HERE, library, |name| std::env::var_os(name)) {
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
    if let Some((runtime, _)) = files().find(|(file, _)| is_sanitizer(file.as_bytes())) {
        let first = std::env::var_os("LD_PRELOAD").unwrap_or_default();
        let mut items = first.as_bytes().split(|byte| b": ".contains(byte));
        if !items
            .find(|item| !item.is_empty())
            .is_some_and(is_sanitizer)
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
    let Ok(path) = std::ffi::CString::new(file.as_os_str().as_bytes()) else {
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
