//! Which process descends from which: for a job's idleness and its end.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::process::{Pid, Signal};

use crate::shared::stdin::Stdin;

#[cfg(any(test, target_os = "macos"))]
pub mod macos;
pub mod processes;

#[cfg(target_os = "linux")]
pub mod linux;

#[cfg(target_os = "linux")]
pub use linux::{arguments, directory, files, is_stopped, open_file, stdin};
#[cfg(target_os = "macos")]
pub use macos::of_pid::{arguments, directory, files, is_stopped, open_file, stdin};

/// A process, as it was when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: Pid,
    pub parent: Option<Pid>,
    /// By which it is told from a later one with the same number.
    started: u64,
}

impl Process {
    /// Kills it, if it is still the one that was looked at.
    pub fn kill(&self) {
        if look(self.pid).is_some_and(|now| now.started == self.started) {
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        }
    }
}

/// All that live; zombies do not.
#[cfg(target_os = "linux")]
pub fn all() -> HashMap<Pid, Process> {
    let all = procfs::process::all_processes()
        .into_iter()
        .flatten()
        .flatten();
    let all = all.filter_map(|process| look_at(&process));
    all.map(|process| (process.pid, process)).collect()
}

#[cfg(target_os = "linux")]
fn look(pid: Pid) -> Option<Process> {
    look_at(&procfs::process::Process::new(pid.as_raw_nonzero().get()).ok()?)
}

#[cfg(target_os = "linux")]
fn look_at(process: &procfs::process::Process) -> Option<Process> {
    let stat = process.stat().ok()?;
    (!['Z', 'X'].contains(&stat.state)).then_some(Process {
        pid: Pid::from_raw(stat.pid)?,
        parent: Pid::from_raw(stat.ppid),
        started: stat.starttime,
    })
}

/// All of this user's that live.
#[cfg(target_os = "macos")]
pub fn all() -> HashMap<Pid, Process> {
    let pids = macos::pids().into_iter().filter_map(Pid::from_raw);
    let all = pids.filter_map(look);
    all.map(|process| (process.pid, process)).collect()
}

#[cfg(target_os = "macos")]
fn look(pid: Pid) -> Option<Process> {
    let info = macos::look(pid.as_raw_nonzero().get())?;
    Some(Process {
        pid,
        parent: i32::try_from(info.pbi_ppid).ok().and_then(Pid::from_raw),
        started: info.pbi_start_tvsec * 1_000_000 + info.pbi_start_tvusec,
    })
}

/// Those of `all` that descend from this one, it left out.
pub fn descendants(all: &HashMap<Pid, Process>, of: Pid) -> Vec<Process> {
    let descends = |process: &&Process| ancestors(all, process.pid).any(|ancestor| ancestor == of);
    all.values().filter(descends).copied().collect()
}

/// The parent, its parent and so on.
pub fn ancestors(all: &HashMap<Pid, Process>, of: Pid) -> impl Iterator<Item = Pid> {
    let parent = |pid: &Pid| all.get(pid).and_then(|process| process.parent);
    // The look was not of one moment: a number may have come round.
    std::iter::successors(parent(&of), parent).take(all.len())
}

/// What a file of this mode and device is, on another process's fd 0. It can be opened by this path.
fn stdin_of(mode: u32, device: u64, path: &Path) -> Stdin {
    let kind = mode as libc::mode_t & libc::S_IFMT;
    if kind == libc::S_IFCHR {
        // To ask a device whether it is a terminal, it has to be opened.
        let device = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
            .open(path);
        if device.is_ok_and(|device| device.is_terminal()) {
            return Stdin::Terminal;
        }
    }
    match kind {
        libc::S_IFIFO => Stdin::Pipe,
        libc::S_IFSOCK => Stdin::Socket,
        libc::S_IFREG => Stdin::File,
        _ if Path::new("/dev/null")
            .metadata()
            .is_ok_and(|null| null.rdev() == device) =>
        {
            Stdin::DevNull
        }
        _ => Stdin::Device,
    }
}
