//! `spawnfix --sweep`: ends the agents whose program is gone, and they what they launched for it.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use crate::agent::STANDBY;
use crate::output::print_flushed;
use crate::procs::processes::{self, Process};
use crate::shared::logging::escape;
use crate::shared::paths;

/// How long an agent may take to end its jobs and itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at these agents, or at all of this user's.
pub fn main(pids: &[i32], dry: bool) -> ExitCode {
    let clean = std::cell::Cell::new(true);
    let report = |what: &str, text: String| {
        print_flushed(&format!("{what:<10} {text}\n"));
        clean.set(clean.get() && ["in use", "ended"].contains(&what));
    };
    let mut agents: Vec<Agent> = processes::all().into_iter().filter_map(Agent::of).collect();
    let all: Vec<i32> = agents.iter().map(|agent| agent.process.pid).collect();
    // A standby, which ends with its agent.
    agents.retain(|agent| !all.contains(&agent.process.parent));
    let is_agent = |pid: &&i32| agents.iter().any(|agent| agent.process.pid == **pid);
    let mut strangers = pids.iter().filter(|pid| !is_agent(pid)).peekable();
    let some = strangers.peek().is_some() || !agents.is_empty();
    for stranger in strangers {
        report(
            "left alone",
            format!("{stranger}: no agent of yours that a program launched"),
        );
    }
    for agent in agents {
        let pid = agent.process.pid;
        if !pids.is_empty() && !pids.contains(&pid) {
            continue;
        }
        let age = age(agent.process.age);
        match agent.program() {
            Serves::Runs(why) => report("in use", format!("agent {pid}: {why}")),
            Serves::Unknown(why) => report("left alone", format!("agent {pid}: {why}")),
            Serves::Gone if dry => {
                report(
                    "left",
                    format!("agent {pid} has run for {age}, and its program is gone"),
                );
            }
            Serves::Gone => match end(&agent.process) {
                Ok(()) => report(
                    "ended",
                    format!("agent {pid} had run for {age}, and its program was gone"),
                ),
                Err(why) => {
                    let text =
                        format!("agent {pid} has run for {age}, its program is gone, and {why}");
                    report("not ended", text);
                }
            },
        }
    }
    if !some {
        print_flushed("nothing of yours is left behind or in use\n");
    }
    if clean.get() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// An agent, and the program that it serves.
struct Agent {
    process: Process,
    program: i32,
}

/// What became of that program.
enum Serves {
    Runs(String),
    Gone,
    Unknown(&'static str),
}

impl Agent {
    /// The library's call: `spawnfix --agent VERSION PROGRAM …`.
    fn of(process: Process) -> Option<Agent> {
        let words: Vec<_> = process
            .words
            .iter()
            .map(|word| word.to_str().unwrap_or_default())
            .collect();
        let ["spawnfix", "--agent", _, program, ..] = words[..] else {
            return None;
        };
        let program = program.parse().ok()?;
        paths::is_our_name(&process.file).then_some(Agent { process, program })
    }

    /// Whether it is the standby of one, or was.
    fn is_standby(&self) -> bool {
        processes::name_of(self.process.pid)
            .is_some_and(|name| name.as_bytes() == STANDBY.to_bytes())
    }

    /// The program has forked the agent, and is its parent for as long as it lives; and it was there before a standby.
    fn program(&self) -> Serves {
        if self.process.contained {
            return Serves::Unknown("it is in a container: run 'spawnfix --sweep' there");
        }
        let serves = match self.is_standby() {
            true => processes::look(self.program)
                .is_some_and(|program| !program.is_younger_than(&self.process)),
            false => self.process.parent == self.program,
        };
        if !serves {
            return Serves::Gone;
        }
        let name = processes::name_of(self.program).unwrap_or_default();
        let name = Path::new(&name);
        Serves::Runs(format!(
            "its program {} ({}) is running",
            self.program,
            escape(name)
        ))
    }
}

/// Asks an agent to end, and waits until it has. Its pid may be another process's by now: where the kernel has pidfds
/// (Linux 5.3), the signal goes to the process that was looked at, and to no other.
fn end(agent: &Process) -> Result<(), String> {
    let pid = Pid::from_raw(agent.pid).ok_or("it has no number")?;
    #[cfg(target_os = "linux")]
    let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok();
    let same = || processes::look(agent.pid).is_some_and(|now| now.began == agent.began);
    let orphan = || {
        processes::look(agent.pid)
            .is_some_and(|now| now.parent == agent.parent && now.began == agent.began)
    };
    if !orphan() {
        return Ok(());
    }
    #[cfg(target_os = "linux")]
    let sent = match handle {
        Some(handle) => rustix::process::pidfd_send_signal(handle, Signal::TERM),
        None => rustix::process::kill_process(pid, Signal::TERM),
    };
    #[cfg(not(target_os = "linux"))]
    let sent = rustix::process::kill_process(pid, Signal::TERM);
    match sent {
        Err(Errno::SRCH) => return Ok(()),
        Err(error) => return Err(format!("it can't be signalled: {error}")),
        Ok(()) => {}
    }
    let began = Instant::now();
    while same() {
        if began.elapsed() > PATIENCE {
            return Err("SIGTERM does not end it".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A time, in its two largest units.
fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        86400.. => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
        3600.. => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        60.. => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_two_largest_units() {
        let told = |seconds| age(Duration::from_secs(seconds));
        assert_eq!(told(7), "7 s");
        assert_eq!(told(3599), "59 min");
        assert_eq!(told(3 * 3600 + 12 * 60), "3 h 12 min");
        assert_eq!(told(2 * 86400 + 3600), "2 d 1 h");
    }
}
