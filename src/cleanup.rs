//! `spawnfix --sweep`: ends agents whose application is gone. An agent that is asked to end ends its jobs first.

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
    let mut orphans: Vec<_> = procs::all().into_values().filter(is_orphan).collect();
    orphans.sort_by_key(|orphan| orphan.pid.as_raw_pid());
    let listed = |pid: &&i32| {
        orphans
            .iter()
            .any(|orphan| orphan.pid.as_raw_pid() == **pid)
    };
    let mut text = String::new();
    for pid in pids.iter().filter(|pid| !listed(pid)) {
        text += &format!("{pid}: left alone, it is no agent of yours whose application is gone\n");
    }
    orphans.retain(|orphan| pids.is_empty() || pids.contains(&orphan.pid.as_raw_pid()));
    let mut left = 0;
    for orphan in &orphans {
        let result = match dry {
            true => Err("would be ended, its application is gone".to_owned()),
            false => end(orphan),
        };
        left += i32::from(result.is_err());
        let said = result
            .err()
            .unwrap_or("ended, its application was gone".to_owned());
        text += &format!("{}: {said}\n", orphan.pid.as_raw_pid());
    }
    if text.is_empty() {
        text += "no agent is left without its application\n";
    }
    print_flushed(&text);
    ExitCode::from(u8::from(left > 0))
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
fn end(agent: &Process) -> Result<(), String> {
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
    Ok(())
}
