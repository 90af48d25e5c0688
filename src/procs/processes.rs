//! Processes of this user: from /proc, or on macOS from ps(1).

use std::ffi::OsString;
use std::time::Duration;

/// A process, as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    /// When it began. With the pid, this is one process and no other.
    pub began: String,
    /// How long it has run.
    pub age: Duration,
    /// Its program's file, or on macOS the first of its words.
    pub file: OsString,
    /// Its arguments, its name among them.
    pub words: Vec<OsString>,
    /// Whether its process ids are others than those seen from here.
    pub contained: bool,
}

impl Process {
    /// Whether it began later than that one. Where times are not numbers, nobody knows.
    pub fn is_younger_than(&self, other: &Process) -> bool {
        let ticks = |process: &Process| process.began.parse::<u64>().ok();
        ticks(self) > ticks(other)
    }
}

pub use system::{all, look, name_of};

#[cfg(target_os = "linux")]
mod system {
    use std::ffi::OsString;
    use std::fs;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::time::Duration;

    use procfs::Current;
    use procfs::process::{self, ProcState};

    use super::Process;

    /// Every process of this user's that has a program.
    pub fn all() -> Vec<Process> {
        let all = process::all_processes().into_iter().flatten().flatten();
        all.filter_map(look_at).collect()
    }

    /// The process of this number. `None`: there is none, it has ended, or it is not this user's.
    pub fn look(pid: i32) -> Option<Process> {
        look_at(process::Process::new(pid).ok()?)
    }

    fn look_at(process: process::Process) -> Option<Process> {
        // SAFETY: geteuid has no arguments and cannot fail.
        let user = unsafe { libc::geteuid() };
        let stat = process.stat().ok()?;
        let ended = matches!(stat.state().ok()?, ProcState::Zombie | ProcState::Dead);
        if ended || process.uid().ok()? != user {
            return None;
        }
        let cmdline = fs::read(format!("/proc/{}/cmdline", process.pid)).ok()?;
        let words = cmdline
            .strip_suffix(b"\0")
            .unwrap_or(&cmdline)
            .split(|&byte| byte == 0);
        let exe = process.exe().ok()?.into_os_string();
        let exe = exe.as_bytes();
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let up = procfs::Uptime::current().ok()?.uptime_duration();
        let started = stat.starttime as f64 / procfs::ticks_per_second() as f64;
        Some(Process {
            pid: process.pid,
            parent: stat.ppid,
            began: stat.starttime.to_string(),
            age: up.saturating_sub(Duration::from_secs_f64(started)),
            // Behind the path of a program that an update has replaced.
            file: OsString::from_vec(exe.strip_suffix(b" (deleted)").unwrap_or(exe).to_vec()),
            words: words
                .map(|word| OsString::from_vec(word.to_vec()))
                .collect(),
            contained: namespace(&process.pid.to_string()) != namespace("self"),
        })
    }

    /// The name of this process's program.
    pub fn name_of(pid: i32) -> Option<String> {
        process::Process::new(pid)
            .ok()?
            .stat()
            .ok()
            .map(|stat| stat.comm)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::process::Command;

    use super::{Process, of_ps};

    /// Every process of this user's.
    pub fn all() -> Vec<Process> {
        ps(&["-x"])
    }

    /// The process of this number. `None`: there is none, or it has ended.
    pub fn look(pid: i32) -> Option<Process> {
        ps(&["-p", &pid.to_string()]).pop()
    }

    fn ps(which: &[&str]) -> Vec<Process> {
        let mut ps = Command::new("/bin/ps");
        ps.args(which)
            .args(["-o", "stat=,pid=,ppid=,lstart=,etime=,command="]);
        let output = ps.env("LC_ALL", "C").output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&text)
            .lines()
            .filter_map(of_ps)
            .collect()
    }

    /// The name of this process's program.
    pub fn name_of(pid: i32) -> Option<String> {
        let file = look(pid)?.file;
        let name = std::path::Path::new(&file).file_name()?;
        Some(name.to_string_lossy().into_owned())
    }
}

/// A line of `ps -o stat=,pid=,ppid=,lstart=,etime=,command=`. A zombie is none. Words with blanks are several here;
/// those of an agent that are looked at have none.
#[cfg(any(test, not(target_os = "linux")))]
fn of_ps(line: &str) -> Option<Process> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [state, pid, parent, began @ ..] = &words[..] else {
        return None;
    };
    let (began, rest) = began.split_at_checked(5)?;
    let (age, words) = rest.split_first()?;
    // [[DAYS-]HOURS:]MINUTES:SECONDS
    let (days, clock) = age.split_once('-').unwrap_or(("0", age));
    let seconds = clock
        .split(':')
        .try_fold(0, |sum, part| Some(sum * 60 + part.parse::<u64>().ok()?));
    let days: u64 = days.parse().ok()?;
    (!state.starts_with('Z')).then_some(Process {
        pid: pid.parse().ok()?,
        parent: parent.parse().ok()?,
        began: began.join(" "),
        age: Duration::from_secs(days * 86400 + seconds?),
        file: words.first()?.into(),
        words: words.iter().map(OsString::from).collect(),
        contained: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen_as_it_is() {
        let own = look(std::process::id() as i32).unwrap();
        assert_eq!(own.words, std::env::args_os().collect::<Vec<_>>());
        // SAFETY: getppid has no arguments and cannot fail.
        assert_eq!(own.parent, unsafe { libc::getppid() });
        assert!(own.age < Duration::from_secs(3600) && !own.contained);
        assert!(
            all()
                .iter()
                .any(|process| process.pid == own.pid && process.began == own.began)
        );
        assert!(look(i32::MAX).is_none());
    }

    #[test]
    fn what_ps_says_is_understood() {
        let line = "Ss  4711     1 Tue Nov 24 06:36:42 2026 1-02:03:04 /opt/bin/spawnfix --agent 0.1.0 4700";
        let process = of_ps(line).unwrap();
        assert_eq!((process.pid, process.parent), (4711, 1));
        assert_eq!(process.age.as_secs(), 86400 + 2 * 3600 + 3 * 60 + 4);
        assert_eq!(process.file, "/opt/bin/spawnfix");
        assert_eq!(
            process.words[1..],
            ["--agent", "0.1.0", "4700"].map(OsString::from)
        );
        assert_eq!(
            of_ps("Z 1 2 Tue Nov 24 06:36:42 2026 00:01 (spawnfix)"),
            None
        );
        assert_eq!(of_ps("S 1 2 nonsense"), None);
        assert_eq!(of_ps(""), None);
    }
}
