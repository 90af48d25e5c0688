//! The program and the library as users have them: built, and installed somewhere.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::commands::{command, says};
use super::{join, library, root};

pub const LIB: &str = "libspawnfix.so";
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The program as it was built: whoever types `spawnfix COMMAND` knows it as the wrapper.
pub use super::agent as wrapper;

/// A copy of the program.
pub fn copy(path: impl Into<PathBuf>) -> PathBuf {
    let path = path.into();
    fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("it is ours");
    // By another process: see `script`.
    let copied = Command::new("cp").arg(wrapper()).arg(&path).status();
    assert!(copied.is_ok_and(|status| status.success()));
    path
}

/// `make GOAL NAME=VALUE…`, in the source tree.
pub fn make(goal: &str, variables: &[(&str, &OsStr)]) -> Command {
    library();
    let mut make = command("make");
    make.args(["--silent", "-C"]).arg(root()).arg(goal);
    for (name, value) in variables {
        make.arg(join(format!("{name}="), value));
    }
    make
}

/// `make install PREFIX=…`.
pub fn install(prefix: &Path) {
    says(&mut make("install", &[("PREFIX", prefix.as_os_str())]));
}

/// What is under a directory, in order. Directories have a slash at the end.
pub fn tree(dir: &Path) -> Vec<String> {
    fn walk(top: &Path, dir: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).expect("it can be listed") {
            let entry = entry.expect("it can be listed");
            let path = entry.path();
            let name = path.strip_prefix(top).expect("it is below").display();
            if entry.file_type().expect("it has a type").is_dir() {
                found.push(format!("{name}/"));
                walk(top, &path, found);
            } else {
                found.push(name.to_string());
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, dir, &mut found);
    found.sort();
    found
}

pub fn files(dir: &Path) -> Vec<String> {
    let mut files = tree(dir);
    files.retain(|name| !name.ends_with('/'));
    files
}

/// `cat /proc/self/maps` under this command: where the library was loaded from, links resolved.
pub fn mapped(command: &mut Command) -> Vec<PathBuf> {
    let maps = says(command.args(["cat", "/proc/self/maps"]));
    let mut paths = Vec::new();
    for line in maps.lines().filter(|line| line.ends_with(LIB)) {
        let path = PathBuf::from(&line[line.find('/').expect("a file's line has its path")..]);
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// What is said of this.
pub fn line<'a>(printed: &'a str, name: &str) -> &'a str {
    let line = printed.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in:\n{printed}"))
        .trim()
}
