//! Whether the library loads into an ELF program, and the program's MPI library.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{BinaryFormat, Object, ObjectSection};

use super::command::{LIMIT, Loads, libmpi_among};
use super::run::run;
use crate::exec::Changes;
use crate::preload_list::{System, is_sanitizer};
use crate::shared::logging::escape;
use crate::wrapper::preload_env;

/// Asks ld.so about an ELF program: with --list it loads the program's libraries, and does not start the program.
pub fn look(program: &Path, library: &Path, environment: &mut Changes) -> (Loads, Option<PathBuf>) {
    let unknown = |why: &str| (Loads::Unknown(format!("{} {why}", escape(program))), None);
    let read = |file: &Path| fs::read(file).unwrap_or_default();
    let (bytes, own) = (read(program), read(library));
    let (file, own) = match (object::File::parse(&*bytes), object::File::parse(&*own)) {
        (Ok(file), Ok(own)) if file.format() == BinaryFormat::Elf => (file, own),
        _ => return unknown("is neither a script nor an ELF program"),
    };
    if (file.is_64(), file.architecture()) != (own.is_64(), own.architecture()) {
        return unknown("is for another kind of processor than the library");
    }
    let linker = file.section_by_name(".interp");
    let Some(linker) = linker.and_then(|section| section.data().ok()) else {
        return unknown("is statically linked");
    };
    let linker = OsStr::from_bytes(linker.strip_suffix(b"\0").unwrap_or(linker));
    let mut list = Command::new(linker);
    list.arg("--list").arg(program);
    let secure = secure_because(program);
    if secure.is_none() {
        match preload_env::variables(System::HERE, library, |name| std::env::var_os(name)) {
            Ok(variables) => list.envs(variables),
            Err(why) => return (Loads::Breaks(why), None),
        };
    }
    let ran = run(&mut list, LIMIT);
    let files = ran.stdout.lines().filter_map(|line| {
        let file = line.split_once(" => ").map_or(line, |(_, file)| file);
        Some(Path::new(file.trim().rsplit_once(" (0x")?.0))
    });
    let files: Vec<&Path> = files.collect();
    let named = |is: &dyn Fn(&[u8]) -> bool| {
        let name = |file: &&&Path| is(file.file_name().unwrap_or_default().as_bytes());
        files.iter().find(name).map(|file| file.to_path_buf())
    };
    let libmpi = libmpi_among(&files, environment);
    let loads = if let Some(why) = secure {
        Loads::No(format!(
            "{} {why}, and such a program takes no LD_PRELOAD",
            escape(program)
        ))
    } else if !ran.status.is_some_and(|status| status.success()) {
        let mut said = ran.stderr.lines().chain(ran.stdout.lines());
        Loads::Breaks(
            said.next()
                .unwrap_or("its dynamic linker can't be run")
                .to_owned(),
        )
    } else if named(&|name| name == System::HERE.library().as_bytes()).is_none() {
        Loads::No(ran.stderr.lines().next().unwrap_or_default().to_owned())
    } else if let Some(runtime) = named(&is_sanitizer).filter(|_| !sanitizer_is_first()) {
        Loads::Breaks(format!(
            "AddressSanitizer ends a program in which another library comes first: put {} first in LD_PRELOAD",
            escape(&runtime)
        ))
    } else {
        Loads::Yes
    };
    (loads, libmpi)
}

/// Why the program runs in secure-execution mode: ld.so(8).
fn secure_because(program: &Path) -> Option<&'static str> {
    if let Ok(file) = program.metadata() {
        let has = |bit: libc::mode_t| file.mode() & bit != 0;
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        if has(libc::S_ISUID) && file.uid() != user.as_raw() {
            return Some("is setuid");
        }
        if has(libc::S_ISGID) && file.gid() != group.as_raw() {
            return Some("is setgid");
        }
    }
    let path = CString::new(program.as_os_str().as_bytes()).unwrap_or_default();
    let name = c"security.capability".as_ptr();
    // SAFETY: two C strings; with a size of 0 nothing is written.
    let size = unsafe { libc::getxattr(path.as_ptr(), name, std::ptr::null_mut(), 0) };
    (size > 0).then_some("has file capabilities")
}

fn sanitizer_is_first() -> bool {
    let list = std::env::var_os("LD_PRELOAD").unwrap_or_default();
    let mut items = list.as_bytes().split(|byte| b": ".contains(byte));
    let first = items.find(|item| !item.is_empty());
    first.is_some_and(is_sanitizer)
}
