//! `spawnfix --sweep`: it ends the agents whose program is gone, with what they launched, and no other process.

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
    let (said, status) = sweep(&["--dry-run"], &pids);
    let [used_pid, left_pid, stranger_pid] = &pids;
    assert!(
        said.contains(&format!("in use     agent {used_pid}: its program {own} (")),
        "{said}"
    );
    assert!(
        said.contains(&format!("left       agent {left_pid} has run for ")),
        "{said}"
    );
    assert!(
        said.contains(&format!("left alone {stranger_pid}: no agent of yours")),
        "{said}"
    );
    assert_eq!(said.lines().count(), 3, "{said}");
    assert_eq!(status, Some(1));
    assert!(runs(&mut used) && runs(&mut left) && runs(&mut stranger));

    let (said, _) = sweep(&[], &pids);
    assert!(
        said.contains(&format!("ended      agent {left_pid} had run for ")),
        "{said}"
    );
    assert!(runs(&mut used) && !runs(&mut left) && runs(&mut stranger));
    let (said, status) = sweep(&[], &[*used_pid]);
    assert_eq!(status, Some(0), "{said}");
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
                let is_it = |line: &str| {
                    line.starts_with(word)
                        && line.split([' ', ':']).any(|word| word == pid.to_string())
                };
                assert!(
                    said.lines().any(is_it),
                    "{}: {word} {pid}\n{said}",
                    mpi.name
                );
            }
            assert_eq!(status, Some(code), "{}: {said}", mpi.name);
        };
        check(&[], ["in use", "in use"], 0);

        if mpi.name == INTEL_MPI.name {
            // At its exit the shell waits for the child, and a shell that is killed leaves nothing behind.
            left.kill(libc::SIGKILL);
            assert_eq!(left.become_of(NOBODY), NOBODY, "{}", mpi.name);
            check(&[], ["in use", "left alone"], 1);
            assert_eq!(used.become_of(ALL), ALL, "{}", mpi.name);
            return;
        }
        left.tell("exit");
        // A shell that is done with MPI is in use all the same.
        used.tell("finish");
        assert!(used.reported("finished", 1), "{}: it is done", mpi.name);
        assert_eq!(left.become_of(LEFT), LEFT, "{}", mpi.name);
        check(&["--dry-run"], ["in use", "left"], 1);
        assert_eq!(left.become_of(LEFT), LEFT, "{}", mpi.name);
        check(&[], ["in use", "ended"], 0);
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
            let expected = format!("left alone {pid}: no agent of yours that a program launched\n");
            assert_eq!((said, status), (expected, Some(1)), "{}", mpi.name);
        }
        assert_eq!(pids(), before, "{}", mpi.name);
        assert_eq!(bash.who(), ALL, "{}", mpi.name);
    });
}
