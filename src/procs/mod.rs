//! Other processes: a table of all of them, and what the system knows of one.
//!
//! linux.rs and macos.rs have the same functions: `pids`, `look`, `signal_if`, and those for one process.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use crate::shared::stdio::Stdin;

#[cfg(target_os = "linux")]
pub mod linux;
#[cfg(any(test, target_os = "macos"))]
mod macos;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos::system;

pub use system::{
    arguments, directory, executable, files, has_variable, look, open_file, sees_the_same_pids,
    state, stdin, terminal,
};

/// A process at one moment. A zombie is not in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: Pid,
    pub parent: Option<Pid>,
    /// The effective user.
    pub user: u32,
    /// With the pid, this is one process and no later one.
    started: u64,
}

impl Process {
    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        look(self.pid).is_some_and(|now| now.started == self.started)
    }

    /// Sends it a signal. ESRCH: it has ended, and its pid may be another process's.
    pub fn signal(&self, signal: Signal) -> Result<(), Errno> {
        system::signal_if(self.pid, signal, || self.runs())
    }

    /// Kills it.
    pub fn kill(&self) {
        let _ = self.signal(Signal::KILL);
    }
}

/// All processes that this user can see; on macOS, this user's own.
pub fn all() -> HashMap<Pid, Process> {
    let all = system::pids().into_iter().filter_map(look);
    all.map(|process| (process.pid, process)).collect()
}

/// The descendants of this process among `all`.
pub fn descendants(all: &HashMap<Pid, Process>, of: Pid) -> Vec<Process> {
    let descends = |process: &&Process| ancestors(all, process.pid).any(|ancestor| ancestor == of);
    all.values().filter(descends).copied().collect()
}

/// The parent, its parent and so on.
pub fn ancestors(all: &HashMap<Pid, Process>, of: Pid) -> impl Iterator<Item = Pid> {
    let parent = |pid: &Pid| all.get(pid).and_then(|process| process.parent);
    // The table was not read in one moment: reused pids could make a circle.
    std::iter::successors(parent(&of), parent).take(all.len())
}

/// What a file of this mode and device is, on another process's fd 0. It can be opened by this path.
fn stdin_of(mode: u32, device: u64, path: &Path) -> Stdin {
    Stdin::of(mode as libc::mode_t, device as libc::dev_t, || {
        // To ask a device whether it is a terminal, it has to be opened.
        let device = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
            .open(path);
        device.is_ok_and(|device| device.is_terminal())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen_as_it_is() {
        let own = look(rustix::process::getpid()).unwrap();
        assert_eq!(own.parent, rustix::process::getppid());
        assert_eq!(own.user, rustix::process::geteuid().as_raw());
        assert_eq!(arguments(own.pid), std::env::args_os().collect::<Vec<_>>());
        assert_eq!(
            executable(own.pid).unwrap(),
            std::env::current_exe().unwrap().canonicalize().unwrap()
        );
        assert_eq!(
            directory(own.pid).unwrap(),
            std::env::current_dir().unwrap()
        );
        assert!(all().get(&own.pid) == Some(&own) && own.runs());
        assert!(sees_the_same_pids(own.pid) && state(own.pid).is_some());
        assert!(look(Pid::from_raw(i32::MAX).unwrap()).is_none());
    }

    #[test]
    fn a_later_process_with_the_same_pid_gets_no_signal() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let seen = look(pid).unwrap();
        assert!(descendants(&all(), rustix::process::getpid()).contains(&seen));
        let earlier = Process {
            started: seen.started - 1,
            ..seen
        };
        assert_eq!(earlier.signal(Signal::KILL), Err(Errno::SRCH));
        assert!(seen.runs() && seen.signal(Signal::KILL).is_ok());
        child.wait().unwrap();
        assert!(!seen.runs());
        assert_eq!(seen.signal(Signal::KILL), Err(Errno::SRCH));
    }
}
