//! Whether dyld loads the library into a program.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::{LIMIT, Loads};
use super::run::run;
use crate::exec::Changes;
use crate::shared::logging::escape;

/// Whether the library loads. Which MPI library the program has is not known.
pub fn look(program: &Path, _: &Path, _: &mut Changes) -> (Loads, Option<PathBuf>) {
    (loads(program), None)
}

/// Decides by the program's directory and its signature.
fn loads(program: &Path) -> Loads {
    let name = escape(program);
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
