//! The processes of this machine, as far as a job's end needs them.

use std::collections::HashMap;

use rustix::process::{Pid, Signal};

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
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    pids.filter_map(look)
        .map(|process| (process.pid, process))
        .collect()
}

/// This one, if it lives: proc(5).
#[cfg(target_os = "linux")]
fn look(pid: Pid) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // Behind the command in brackets, which may have any character in it: state, ppid, …, starttime.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    (!["Z", "X"].contains(fields.first()?)).then_some(Process {
        pid,
        parent: Pid::from_raw(fields.get(1)?.parse().ok()?),
        started: fields.get(19)?.parse().ok()?,
    })
}

/// Not told on this system.
#[cfg(not(target_os = "linux"))]
pub fn all() -> HashMap<Pid, Process> {
    HashMap::new()
}

#[cfg(not(target_os = "linux"))]
fn look(_: Pid) -> Option<Process> {
    None
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
