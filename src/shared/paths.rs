//! Files: what a name is on PATH, who interprets a script, and where this executable is.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why a command can't be run, as an exit status: a shell's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// There is such a file, and it can't be executed.
    NotExecutable = 126,
    /// There is none.
    Missing = 127,
}

/// Where execvp looks if PATH is not set: execvp(3), in glibc.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The directories of this PATH, or of the default one, in order. An empty one is the working directory.
pub fn directories(path: Option<&OsStr>) -> impl Iterator<Item = PathBuf> + '_ {
    std::env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH)))
        .map(|directory| Path::new(".").join(directory))
}

/// The last component of a path.
pub fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// The path that a link in /proc leads to, without the mark of a file that is no more: after an update, the new file
/// has that path.
pub fn without_deleted(link: &[u8]) -> &[u8] {
    link.strip_suffix(b" (deleted)").unwrap_or(link)
}

/// The executable files that a name has on PATH, in order. A name with a slash in it is its own path.
///
/// # Errors
/// There is none, or none that this user may execute.
pub fn find(name: &OsStr) -> Result<Vec<PathBuf>, NotFound> {
    let path = std::env::var_os("PATH");
    let files: Vec<_> = match name.as_bytes().contains(&b'/') {
        true => vec![PathBuf::from(name)],
        false => directories(path.as_deref())
            .map(|directory| directory.join(name).components().collect::<PathBuf>())
            .filter(|file| !name.is_empty() && file.is_file())
            .collect(),
    };
    let exists = files.iter().any(|file| file.exists());
    let programs: Vec<_> = files.into_iter().filter(|file| is_program(file)).collect();
    match (programs.is_empty(), exists) {
        (false, _) => Ok(programs),
        (true, true) => Err(NotFound::NotExecutable),
        (true, false) => Err(NotFound::Missing),
    }
}

/// The first of [`find`].
pub fn first(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    find(name.as_ref()).ok()?.into_iter().next()
}

/// Whether it is a file that this user may execute.
pub fn is_program(file: &Path) -> bool {
    file.is_file() && is_accessible(file, libc::X_OK)
}

/// access(2).
pub fn is_accessible(path: &Path, mode: libc::c_int) -> bool {
    let path = CString::new(path.as_os_str().as_bytes());
    // SAFETY: access takes a C string.
    path.is_ok_and(|path| unsafe { libc::access(path.as_ptr(), mode) == 0 })
}

/// The words behind a script's `#!`, with `env` replaced by what it would run. `None`: no script.
pub fn interpreter_of(file: &Path) -> Option<Vec<OsString>> {
    interpreter_in(&first_bytes(file), |name| first(name))
}

/// Whether this is a script that /usr/bin/env starts.
pub fn starts_with_env(script: &Path) -> bool {
    let start = first_bytes(script);
    let line = start.strip_prefix(b"#!").unwrap_or_default();
    line.trim_ascii_start().starts_with(b"/usr/bin/env ")
}

/// As much of a file as the kernel looks at (BINPRM_BUF_SIZE).
fn first_bytes(file: &Path) -> Vec<u8> {
    let mut start = Vec::new();
    if let Ok(file) = File::open(file) {
        let _ = file.take(256).read_to_end(&mut start);
    }
    start
}

/// The same for a script that starts so.
pub fn interpreter_in(
    start: &[u8],
    find: impl FnOnce(&OsStr) -> Option<PathBuf>,
) -> Option<Vec<OsString>> {
    let line = start
        .strip_prefix(b"#!")?
        .split(|&byte| byte == b'\n')
        .next()?;
    let mut words: Vec<_> = line
        .split(|byte| b" \t\r\0".contains(byte))
        .filter(|word| !word.is_empty())
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect();
    if words.first()?.as_bytes().ends_with(b"/env") {
        words.remove(0);
        if words.first()? == "-S" {
            words.remove(0);
        }
        let program = words.first_mut()?;
        *program = find(program)?.into_os_string();
    }
    Some(words)
}

/// Whether a name, or a path's last part, is one of this executable's: `spawnfix`, `spawnfix-0.1`. Any other is the name
/// of a command that it was linked in front of.
pub fn is_our_name(name: &OsStr) -> bool {
    let name = Path::new(name).file_name().unwrap_or_default().as_bytes();
    name.strip_prefix(b"spawnfix")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"-"))
}

/// Whether this file is this executable, or another installation's, by whatever name.
pub fn is_wrapper(file: &Path) -> bool {
    let identity = |file: &Path| fs::metadata(file).map(|file| (file.dev(), file.ino())).ok();
    file.canonicalize().is_ok_and(|real| {
        let is_own = |own: PathBuf| identity(&own) == identity(&real);
        is_our_name(real.as_os_str()) || own().is_some_and(is_own)
    })
}

/// This executable's own file, without symbolic links.
pub fn own() -> Option<PathBuf> {
    // Without /proc, as in a bare chroot, it is what its name leads to.
    let named = || first(std::env::args_os().next()?);
    let file = std::env::current_exe().ok().or_else(named)?;
    file.canonicalize().ok()
}

/// This executable's file, under the name by which it was started: after an update that is the new one's.
pub fn own_by_name() -> std::io::Result<PathBuf> {
    let file = std::env::current_exe()?;
    let bytes = file.as_os_str().as_bytes();
    Ok(PathBuf::from(OsStr::from_bytes(without_deleted(bytes))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scripts_interpreter_is_what_env_would_run() {
        let words = |start: &str| {
            let found = interpreter_in(start.as_bytes(), |name| {
                (name != "missing").then(|| Path::new("/found").join(name))
            });
            found.map(|words| words.join(OsStr::new("|")).into_string().unwrap())
        };
        for (start, expected) in [
            ("#!/bin/sh\n", Some("/bin/sh")),
            ("#! /bin/sh -e -u\necho", Some("/bin/sh|-e|-u")),
            ("#!/usr/bin/env python3\n", Some("/found/python3")),
            ("#!/usr/bin/env python3\r\n", Some("/found/python3")),
            (
                "#!/usr/bin/env -S ipython -i --x\n",
                Some("/found/ipython|-i|--x"),
            ),
            ("#!/usr/bin/env missing\n", None),
            ("#!/usr/bin/env\n", None),
            ("#!\n", None),
            ("", None),
            ("\u{7f}ELF", None),
            (
                "#!/bin/cut-off-by-the-end-of-the-file",
                Some("/bin/cut-off-by-the-end-of-the-file"),
            ),
        ] {
            assert_eq!(words(start).as_deref(), expected, "{start:?}");
        }
    }

    #[test]
    fn the_wrappers_names_are_its_own() {
        for (name, ours) in [
            ("spawnfix", true),
            ("/opt/bin/spawnfix", true),
            ("spawnfix-0.1", true),
            ("spawnfixed", false),
            ("ipython", false),
            ("", false),
        ] {
            assert_eq!(is_our_name(OsStr::new(name)), ours, "{name}");
        }
    }
}
