//! `spawnfix --sweep`: ends agents whose application is gone. An agent that is asked to end ends its jobs first.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use crate::output::print_flushed;
use crate::procs::{self, Process};
use crate::shared::paths;

/// How long an agent may take to end its jobs and itself.
const LIMIT: Duration = Duration::from_secs(10);

/// Ends these agents, or all of this user's, if their application is gone; with `dry`, lists them. The exit status is 0
/// if afterwards none of them is left.
pub fn main(pids: &[i32], dry: bool) -> ExitCode {
    let orphans = procs::all().into_values().filter(is_orphan);
    let orphans: BTreeMap<_, _> = orphans
        .map(|agent| (agent.pid.as_raw_pid(), agent))
        .collect();
    let all: Vec<_> = orphans.keys().copied().collect();
    if all.is_empty() && pids.is_empty() {
        print_flushed("no agent is left without its application\n");
    }
    let mut some_left = false;
    for pid in if pids.is_empty() { &all } else { pids } {
        let result = match orphans.get(pid) {
            None => Ok("left alone, it is no agent of yours whose application is gone".to_owned()),
            Some(_) if dry => Err("would be ended, its application is gone".to_owned()),
            Some(agent) => end(agent),
        };
        some_left |= result.is_err();
        let (Ok(said) | Err(said)) = result;
        print_flushed(&format!("{pid}: {said}\n"));
    }
    ExitCode::from(u8::from(some_left))
}

/// Whether this is an agent of this user, `spawnfix --agent VERSION APPLICATION …`, whose application is gone: the
/// application forked the agent, and is no longer its parent. An agent of another container does not count, because its
/// arguments have that container's process ids.
fn is_orphan(process: &Process) -> bool {
    if process.user != rustix::process::geteuid().as_raw() {
        return false;
    }
    let words = procs::arguments(process.pid);
    let mut words = words.iter().map(|word| word.to_str());
    if (words.next(), words.next()) != (Some(Some("spawnfix")), Some(Some("--agent"))) {
        return false;
    }
    let application = words.nth(1).flatten().and_then(|word| word.parse().ok());
    application.is_some_and(|pid| process.parent != Pid::from_raw(pid))
        && procs::executable(process.pid).is_some_and(|file| paths::is_our_name(file.as_os_str()))
        && procs::sees_the_same_pids(process.pid)
}

/// Asks an agent to end, and waits until it has.
fn end(agent: &Process) -> Result<String, String> {
    match agent.signal(Signal::TERM) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(format!("not ended, it can't be signalled: {error}")),
    }
    let began = Instant::now();
    while agent.runs() {
        if began.elapsed() > LIMIT {
            return Err(format!("not ended, it has not obeyed SIGTERM in {LIMIT:?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok("ended, its application was gone".to_owned())
}
