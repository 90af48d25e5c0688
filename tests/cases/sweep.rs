//! `spawnfix --sweep`: it ends the agents whose application is gone, with what they started, and no other process.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::bash_session::{ALL, BashSession, LEFT, NOBODY};
use crate::common::commands::*;
use crate::common::installed::*;
use crate::common::*;

/// `spawnfix --sweep`, of these processes only: whoever runs the tests may have jobs, and so do other tests. What it
/// says, in order, and its exit status.
fn sweep(options: &[&str], pids: &[i32]) -> (String, Option<i32>) {
    let pids = pids.iter().map(|pid| pid.to_string());
    let output = run(command(wrapper()).arg("--sweep").args(options).args(pids));
    assert!(output.stderr.is_empty(), "{output:?}");
    (text(&output.stdout), output.status.code())
}

/// A program that is called as an agent is, and does nothing until it is ended: by its parent, or by whom it says that
/// it serves another program.
struct Agent(std::process::Child);

impl Agent {
    fn start(program: &Path, serves: u32) -> Agent {
        let mut agent = command(program);
        agent
            .arg0("spawnfix")
            .args(["--agent", VERSION])
            .arg(serves.to_string())
            .arg("--");
        let mut child = agent.stdout(Stdio::piped()).spawn().expect("it starts");
        // It is what it is from its first byte on.
        let _ = child.stdout.take().expect("piped").read(&mut [0]);
        Agent(child)
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("a pid")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sweep_ends_the_agents_whose_program_is_gone_and_no_other_process() {
    let dir = place();
    let waits = "#include <unistd.h>\nint main(void) { write(1, \"x\", 1); for (;;) pause(); }\n";
    let agent = compiled(dir.path().join("spawnfix"), waits, "cc", &[]);
    let other = compiled(dir.path().join("other"), waits, "cc", &[]);
    let own = std::process::id();
    // A process whose number is not its parent's: that program is gone.
    let mut used = Agent::start(&agent, own);
    let mut left = Agent::start(&agent, 1);
    let mut stranger = Agent::start(&other, 1);
    let pids = [used.pid(), left.pid(), stranger.pid()];
    let runs = |agent: &mut Agent| agent.0.try_wait().expect("it is our child").is_none();
    let [used_pid, left_pid, stranger_pid] = &pids;
    let alone =
        |pid| format!("{pid}: left alone, it is no agent of yours whose application is gone\n");
    let expected = |left: &str| {
        let [first, last] = [used_pid, stranger_pid].map(alone);
        format!("{first}{left_pid}: {left}\n{last}")
    };
    let listed = expected("would be ended, its application is gone");
    assert_eq!(sweep(&["--dry-run"], &pids), (listed, Some(1)));
    assert!(runs(&mut used) && runs(&mut left) && runs(&mut stranger));

    let ended = expected("ended, its application was gone");
    assert_eq!(sweep(&[], &pids), (ended, Some(0)));
    assert!(runs(&mut used) && !runs(&mut left) && runs(&mut stranger));
    assert_eq!(sweep(&[], &[*used_pid]), (alone(used_pid), Some(0)));
}

#[test]
fn sweep_ends_what_was_left_behind_and_nothing_else() {
    side_by_side(&HYDRAS, |mpi| {
        let start = || {
            BashSession::start(mpi, "", |bash| {
                bash.library(true).env("SPAWNFIX_INTERACTIVE", "1")
            })
        };
        let mut used = start();
        let mut left = start();
        let agents = [&used, &left].map(|bash| bash.agent().expect("it was launched"));
        let check = |options: &[&str], words: [&str; 2], code| {
            let (said, status) = sweep(options, &agents);
            for (word, pid) in words.iter().zip(agents) {
                let line = format!("{pid}: {word}");
                assert!(said.contains(&line), "{}: {line}\n{said}", mpi.name);
            }
            assert_eq!(status, Some(code), "{}: {said}", mpi.name);
        };
        check(&[], ["left alone", "left alone"], 0);

        if mpi.name == INTEL_MPI.name {
            // At its exit the session waits for the child, and a session that is killed leaves nothing behind.
            left.kill(libc::SIGKILL);
            assert_eq!(left.become_of(NOBODY), NOBODY, "{}", mpi.name);
            check(&[], ["left alone", "left alone"], 0);
            assert_eq!(used.become_of(ALL), ALL, "{}", mpi.name);
            return;
        }
        left.tell("exit");
        // A session that is done with MPI still has its agent.
        used.tell("finish");
        assert!(used.reported("finished", 1), "{}: it is done", mpi.name);
        assert_eq!(left.become_of(LEFT), LEFT, "{}", mpi.name);
        check(&["--dry-run"], ["left alone", "would be ended"], 1);
        assert_eq!(left.become_of(LEFT), LEFT, "{}", mpi.name);
        check(&[], ["left alone", "ended"], 0);
        assert_eq!(left.become_of(NOBODY), NOBODY, "{}", mpi.name);
        assert_eq!(used.become_of(ALL), ALL, "{}", mpi.name);
    });
}

#[test]
fn sweep_leaves_strangers_alone() {
    // A job that was left to run without its shell, and what looks like an agent.
    const STRANGERS: &str = "trap '' HUP; setsid mpiexec -n 1 sleep 60 &
        setsid sh -c 'sleep 60; :' spawnfix --agent 0.1.0 4711 -- mpiexec &";
    side_by_side(&HYDRAS, |mpi| {
        let bash = BashSession::start(mpi, "", |bash| bash.library(true));
        let strangers = Program::new("sh")
            .args(["-c", STRANGERS])
            .under(mpi)
            .start();
        let pids = || {
            let pids = strangers.others().into_iter().map(|process| process.pid);
            pids.collect::<Vec<_>>()
        };
        let sleepers = || {
            let all = strangers.others().into_iter();
            all.filter(|process| process.command == "sleep 60").count()
        };
        let limit = Instant::now() + Duration::from_secs(20);
        while sleepers() < 2 && Instant::now() < limit {
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(sleepers(), 2, "{}", mpi.name);
        let before = pids();
        let agent = bash.agent();
        let ours = bash.session.others().into_iter().map(|process| process.pid);
        for pid in before
            .iter()
            .copied()
            .chain(ours.filter(|pid| Some(*pid) != agent))
        {
            let (said, status) = sweep(&[], &[pid]);
            let alone =
                format!("{pid}: left alone, it is no agent of yours whose application is gone\n");
            assert_eq!((said, status), (alone, Some(0)), "{}", mpi.name);
        }
        assert_eq!(pids(), before, "{}", mpi.name);
        assert_eq!(bash.who(), ALL, "{}", mpi.name);
    });
}
