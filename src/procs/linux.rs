//! What Linux shows of other processes, in /proc.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use super::{Process, stdin_of};
use crate::shared::paths;
use crate::shared::stdio::Stdin;

fn proc(pid: Pid, name: &str) -> PathBuf {
    format!("/proc/{}/{name}", pid.as_raw_nonzero()).into()
}

/// All process ids.
pub fn pids() -> Vec<Pid> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pid = |entry: fs::DirEntry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
    all.filter_map(pid).collect()
}

/// The process of this number. `None`: there is none, or it has ended.
pub fn look(pid: Pid) -> Option<Process> {
    let process = procfs::process::Process::new(pid.as_raw_pid()).ok()?;
    let stat = process.stat().ok()?;
    (!['Z', 'X'].contains(&stat.state)).then_some(Process {
        pid,
        parent: Pid::from_raw(stat.ppid),
        user: process.uid().ok()?,
        started: stat.starttime,
    })
}

/// Signals this process if it is `same`. Where the kernel has pidfds (Linux 5.3), no other process can come between the
/// look and the signal.
pub fn signal_if(pid: Pid, signal: Signal, same: impl FnOnce() -> bool) -> Result<(), Errno> {
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty());
    if !same() {
        return Err(Errno::SRCH);
    }
    match pidfd {
        Ok(pidfd) => rustix::process::pidfd_send_signal(pidfd, signal),
        Err(_) => rustix::process::kill_process(pid, signal),
    }
}

/// Whether its process ids are those of this process: it is in no container.
pub fn sees_the_same_pids(pid: Pid) -> bool {
    fs::read_link(proc(pid, "ns/pid")).ok() == fs::read_link("/proc/self/ns/pid").ok()
}

/// Its executable file, by the path that it had when it was started.
pub fn executable(pid: Pid) -> Option<PathBuf> {
    let file = fs::read_link(proc(pid, "exe")).ok()?;
    // Behind the path of a file that an update has replaced.
    let bytes = paths::without_deleted(file.as_os_str().as_bytes());
    Some(PathBuf::from(OsStr::from_bytes(bytes)))
}

/// Its command line.
pub fn arguments(pid: Pid) -> Vec<OsString> {
    words_of(&fs::read(proc(pid, "cmdline")).unwrap_or_default())
}

/// The words of a `cmdline`.
pub fn words_of(line: &[u8]) -> Vec<OsString> {
    let line = line.strip_suffix(b"\0").unwrap_or(line);
    let words = line.split(|&byte| byte == 0).map(OsStr::from_bytes);
    words.map(OsStr::to_owned).collect()
}

/// What it has on fd 0.
pub fn stdin(pid: Pid) -> Stdin {
    let file = proc(pid, "fd/0");
    let open = file.metadata().ok();
    open.map_or(Stdin::Closed, |open| {
        stdin_of(open.mode(), open.rdev(), &file)
    })
}

/// Its working directory.
pub fn directory(pid: Pid) -> Option<PathBuf> {
    fs::read_link(proc(pid, "cwd")).ok()
}

/// By which path a file that it has open can be opened, whose link in /proc is this: for a file without another name.
pub fn open_file(pid: Pid, link: &[u8]) -> Option<PathBuf> {
    let all = fs::read_dir(proc(pid, "fd")).ok()?.flatten();
    let mut paths = all.map(|entry| entry.path());
    paths.find(|path| fs::read_link(path).is_ok_and(|to| to.as_os_str().as_bytes() == link))
}

/// Its main thread's state, a letter of proc(5): T or t is stopped, by Ctrl-Z or a debugger; R computes, or polls without a
/// pause as MPICH does while it waits.
pub fn state(pid: Pid) -> Option<char> {
    Some(stat(pid)?.state)
}

/// Its controlling terminal, if that is a pseudo-terminal: majors 136 to 143 (Documentation/admin-guide/devices.txt in
/// Linux).
pub fn terminal(pid: Pid) -> Option<PathBuf> {
    let (major, minor) = stat(pid)?.tty_nr();
    let is_pty = (136..144).contains(&major);
    is_pty.then(|| format!("/dev/pts/{}", (major - 136) * 256 + minor).into())
}

fn stat(pid: Pid) -> Option<procfs::process::Stat> {
    let process = procfs::process::Process::new(pid.as_raw_pid()).ok()?;
    process.stat().ok()
}

/// Whether it was started with this variable, `NAME=value`, in its environment.
pub fn has_variable(pid: Pid, variable: &[u8]) -> bool {
    let variables = words_of(&fs::read(proc(pid, "environ")).unwrap_or_default());
    variables.iter().any(|word| word.as_bytes() == variable)
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
