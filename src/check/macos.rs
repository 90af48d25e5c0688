//! Whether dyld loads the library into a program.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::FileKind;

use super::command::{LIMIT, Loads};
use super::run::run;
use crate::exec::Changes;
use crate::preload_list::System;
use crate::shared::logging::escape;
use crate::wrapper::preload_env;

/// Whether the library loads. Which MPI library the program has is not known.
pub fn look(program: &Path, library: &Path, _: &mut Changes) -> (Loads, Option<PathBuf>) {
    let variables = preload_env::variables(System::HERE, library, |name| std::env::var_os(name));
    (
        variables.map_or_else(Loads::Breaks, |_| loads(program)),
        None,
    )
}

/// Decides by the program's kind, its directory and its signature.
fn loads(program: &Path) -> Loads {
    let name = escape(program);
    let bytes = fs::read(program).unwrap_or_default();
    if !matches!(
        FileKind::parse(&*bytes),
        Ok(FileKind::MachO64 | FileKind::MachOFat32 | FileKind::MachOFat64)
    ) {
        return Loads::Unknown(format!("{name} is neither a script nor a Mach-O program"));
    }
    let protected = ["/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/", "/System/"];
    if protected
        .iter()
        .any(|place| program.as_os_str().as_bytes().starts_with(place.as_bytes()))
    {
        let what = "System Integrity Protection takes DYLD_INSERT_LIBRARIES from";
        return Loads::No(format!("{what} {name}"));
    }
    let ran = run(
        Command::new("codesign").args(["-d", "-v"]).arg(program),
        LIMIT,
    );
    let mut lines = ran.stderr.lines();
    match lines.any(|line| line.contains("flags=") && line.contains("runtime")) {
        true => Loads::No(format!("{name} is signed with the hardened runtime")),
        false => Loads::Yes,
    }
}
