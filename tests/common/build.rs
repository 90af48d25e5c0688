//! Compilers: programs of tests/apps.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use super::{Mpi, app, join, lock, target};

impl Mpi {
    /// tests/apps/SOURCE, compiled. Compiled once, and again when the source is newer.
    pub fn compile(&self, source: &str) -> PathBuf {
        self.compile_as(source, &[])
    }

    /// The same, with these flags.
    pub fn compile_as(&self, source: &str, flags: &[&str]) -> PathBuf {
        let mpicc = self
            .mpicc
            .unwrap_or_else(|| panic!("{} has no headers", self.name));
        let mut command;
        if self.name.starts_with("impi") {
            // Its mpicc asks for an installation outside Python's.
            let prefix = self.prefix();
            let fortran = source.ends_with(".f90");
            command = Command::new(if fortran { "gfortran" } else { "cc" });
            command
                .arg("-I")
                .arg(prefix.join("include"))
                .arg("-L")
                .arg(prefix.join("lib"));
            command
                .arg(app(source))
                .args(fortran.then_some("-lmpifort"))
                .arg("-lmpi");
            command.arg(join("-Wl,-rpath,", prefix.join("lib")));
        } else {
            command = Command::new(self.bin(mpicc));
            command.arg(app(source));
            command.args(source.ends_with(".f90").then_some("-lgfortran"));
        }
        command.args(flags);
        build(command, source, &format!("{}-{mpicc}", self.name))
    }
}

/// Runs a compiler, with `-o` added, unless what it makes is there and newer than its source. For tests/apps/SOURCE;
/// the result is target/apps/PLACE/SOURCE without its extension.
pub fn build(mut compiler: Command, source: &str, place: &str) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = lock(&ONE_AT_A_TIME);
    let made = target()
        .join("apps")
        .join(place)
        .join(source)
        .with_extension("");
    let changed = |file: &Path| fs::metadata(file).and_then(|m| m.modified()).ok();
    let shared = ["report.h", "report.inc"].map(|name| changed(&app(name)));
    let sources = shared.into_iter().fold(changed(&app(source)), Ord::max);
    if changed(&made).is_some_and(|made| Some(made) > sources) {
        return made;
    }
    fs::create_dir_all(made.parent().expect("it is a file in a directory"))
        .expect("target/apps can be made");
    // Renamed when whole: another test process may be at the same.
    let part = made.with_extension(std::process::id().to_string());
    let output = compiler.arg("-Wall").arg("-o").arg(&part).output();
    let output = output.unwrap_or_else(|e| panic!("{:?}: {e}", compiler.get_program()));
    assert!(
        output.status.success(),
        "{compiler:?}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::rename(&part, &made).expect("a file can be renamed beside itself");
    made
}
