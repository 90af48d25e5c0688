//! Whether the library loads into an ELF program, and the program's MPI library.

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{BinaryFormat, Object, ObjectSection};

use super::libmpi::{self, name_of};
use super::loads::Loads;
use super::run::{LIMIT, run};
use crate::exec::Changes;
use crate::preload_list::{System, is_sanitizer};
use crate::shared::logging::escape;
use crate::shared::paths;
use crate::wrapper::preload_env::Variable;

/// Asks ld.so about an ELF program: with --list it loads the program's libraries, and does not start the program.
pub fn look(program: &Path, preload: &[Variable], set: &mut Changes) -> (Loads, Option<PathBuf>) {
    let shown = escape(program);
    let unknown = |why: &str| (Loads::Unknown(format!("{shown} {why}")), None);
    let read = |file: &Path| fs::read(file).unwrap_or_default();
    let (bytes, own) = (read(program), read(&paths::own().unwrap_or_default()));
    let (file, own) = match (object::File::parse(&*bytes), object::File::parse(&*own)) {
        (Ok(file), Ok(own)) if file.format() == BinaryFormat::Elf => (file, own),
        _ => return unknown("is neither a script nor an ELF program"),
    };
    if file.architecture() != own.architecture() {
        return unknown("is for another kind of processor than the library");
    }
    let linker = file.section_by_name(".interp");
    let Some(linker) = linker.and_then(|section| section.data().ok()) else {
        return unknown("is statically linked");
    };
    let linker = OsStr::from_bytes(linker.strip_suffix(b"\0").unwrap_or(linker));
    let mut list = Command::new(linker);
    list.arg("--list").arg(program);
    let secure = is_secure(program);
    list.envs(preload.iter().filter(|_| !secure).cloned());
    let ran = run(&mut list, LIMIT);
    let files = ran.stdout.lines().filter_map(|line| {
        let file = line.split_once(" => ").map_or(line, |(_, file)| file);
        Some(Path::new(file.trim().rsplit_once(" (0x")?.0))
    });
    let files: Vec<&Path> = files.collect();
    // What is preloaded comes first in the list, in its order.
    let name = System::HERE.library().as_bytes();
    let own = files.iter().position(|file| name_of(file) == name);
    let runtime = files.iter().position(|file| is_sanitizer(name_of(file)));
    let said = ran.stderr.lines().chain(ran.stdout.lines()).next();
    let said = said.unwrap_or("its dynamic linker can't be run").to_owned();
    let loads = match (own, runtime) {
        _ if secure => Loads::No(format!(
            "{shown} is setuid, setgid or has file capabilities, and such a program takes no LD_PRELOAD"
        )),
        _ if !ran.status.is_some_and(|status| status.success()) => Loads::Breaks(said),
        (None, _) => Loads::No(said),
        (Some(own), Some(runtime)) if own < runtime => Loads::Breaks(format!(
            "AddressSanitizer ends a program in which another library comes first: put {} first in LD_PRELOAD",
            escape(files[runtime])
        )),
        _ => Loads::Yes,
    };
    (loads, libmpi::among(&files, set))
}

/// Whether the program runs in secure-execution mode: ld.so(8).
fn is_secure(program: &Path) -> bool {
    let sets_id = program.metadata().is_ok_and(|file| {
        let has = |bit: libc::mode_t| file.mode() & bit != 0;
        has(libc::S_ISUID) && file.uid() != rustix::process::geteuid().as_raw()
            || has(libc::S_ISGID) && file.gid() != rustix::process::getegid().as_raw()
    });
    let path = CString::new(program.as_os_str().as_bytes()).unwrap_or_default();
    let name = c"security.capability".as_ptr();
    // SAFETY: two C strings; with a size of 0 nothing is written.
    sets_id || unsafe { libc::getxattr(path.as_ptr(), name, std::ptr::null_mut(), 0) } > 0
}
