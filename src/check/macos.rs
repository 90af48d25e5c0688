//! Whether dyld loads the library into a program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::{FileKind, Object};

use super::loads::Loads;
use super::run::{LIMIT, run};
use crate::exec::Changes;
use crate::shared::logging::escape;
use crate::shared::paths;
use crate::wrapper::preload_env::Variable;

/// Decides by the program's kind, its directory and its signature. Which MPI library it has is not known.
pub fn look(program: &Path, _: &[Variable], _: &mut Changes) -> (Loads, Option<PathBuf>) {
    (loads(program), None)
}

fn loads(program: &Path) -> Loads {
    let name = escape(program);
    let own = paths::own().unwrap_or_default();
    let [bytes, own] = [program, &own].map(|file| fs::read(file).unwrap_or_default());
    let architecture = |bytes: &[u8]| Some(object::File::parse(bytes).ok()?.architecture());
    match FileKind::parse(&*bytes) {
        // dyld: "terminating because inserted dylib … could not be loaded: … incompatible architecture".
        Ok(FileKind::MachO64) if architecture(&bytes) != architecture(&own) => {
            return Loads::Breaks(format!(
                "{name} is for another kind of processor than the library"
            ));
        }
        Ok(FileKind::MachO64 | FileKind::MachOFat32 | FileKind::MachOFat64) => {}
        _ => return Loads::Unknown(format!("{name} is neither a script nor a Mach-O program")),
    }
    let protected = ["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/System"];
    if protected.iter().any(|place| program.starts_with(place)) {
        let what = "System Integrity Protection takes DYLD_INSERT_LIBRARIES from";
        return Loads::No(format!("{what} {name}"));
    }
    let mut codesign = Command::new("codesign");
    let ran = run(codesign.args(["-d", "-v"]).arg(program), LIMIT);
    let mut lines = ran.stderr.lines();
    match lines.any(|line| line.contains("flags=") && line.contains("runtime")) {
        true => Loads::No(format!("{name} is signed with the hardened runtime")),
        false => Loads::Yes,
    }
}
