//! What Linux tells of another process, in /proc.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use super::stdin_of;
use crate::shared::stdin::Stdin;

fn proc(pid: Pid, name: &str) -> PathBuf {
    Path::new("/proc")
        .join(pid.as_raw_nonzero().to_string())
        .join(name)
}

pub fn arguments(pid: Pid) -> Vec<OsString> {
    words_of(&fs::read(proc(pid, "cmdline")).unwrap_or_default())
}

/// The words of a `cmdline`.
pub fn words_of(line: &[u8]) -> Vec<OsString> {
    let line = line.strip_suffix(b"\0").unwrap_or(line);
    let words = line.split(|&byte| byte == 0);
    words
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect()
}

pub fn stdin(pid: Pid) -> Stdin {
    let file = proc(pid, "fd/0");
    match file.metadata() {
        Ok(metadata) => stdin_of(metadata.mode(), metadata.rdev(), &file),
        Err(_) => Stdin::Closed,
    }
}

pub fn directory(pid: Pid) -> Option<PathBuf> {
    fs::read_link(proc(pid, "cwd")).ok()
}

/// The file that it has open and whose link in /proc is this, as that has no other name.
pub fn open_file(pid: Pid, link: &[u8]) -> Option<fs::File> {
    let all = fs::read_dir(proc(pid, "fd")).ok()?.flatten();
    let mut paths = all.map(|entry| entry.path());
    let is_it =
        |path: &PathBuf| fs::read_link(path).is_ok_and(|to| to.as_os_str().as_bytes() == link);
    let path = paths.find(is_it)?;
    fs::File::options().read(true).write(true).open(path).ok()
}

pub fn is_stopped(pid: Pid) -> bool {
    let stat = procfs::process::Process::new(pid.as_raw_pid()).and_then(|it| it.stat());
    stat.is_ok_and(|stat| ['T', 't'].contains(&stat.state))
}

/// The files that it has mapped.
pub fn files(pid: Pid) -> Vec<PathBuf> {
    files_of(&fs::read(proc(pid, "maps")).unwrap_or_default())
}

/// The files of a `maps`.
pub fn files_of(maps: &[u8]) -> Vec<PathBuf> {
    let files = maps.split(|&byte| byte == b'\n').filter_map(|line| {
        let start = line.iter().position(|&byte| byte == b'/')?;
        Some(Path::new(OsStr::from_bytes(&line[start..])).to_owned())
    });
    files.collect()
}
