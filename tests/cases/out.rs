//! A person leaves what hangs, is told what is awaited, and what ends, ends quietly. Each case also without the library.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::ipython::{IPython, Kind};
use crate::common::*;

/// How long what works may take.
const LIMIT: Duration = Duration::from_secs(30);
const CTRL_C: u8 = 3;
/// How long a call that was given up may take to return.
const RETURN: Duration = Duration::from_secs(8);
/// What someone types: children that never call MPI_Init.
const SLEEPERS: &str = r#"MPI.COMM_SELF.Spawn("sleep", ["300"], maxprocs=2)"#;
/// What brings MPI to hand.
const WORDS: &str = "from session import *; from mpi4py import MPI";

/// A prompt of this kind, with session.py's words at hand.
fn prompt(kind: Kind, mpi: Mpi, library: bool) -> IPython {
    let mut prompt = kind.start(kind.program(mpi).library(library));
    prompt.type_line(WORDS);
    prompt
}

/// Types a spawn that hangs, and waits until its children run.
fn spawn_sleepers(prompt: &mut IPython) {
    prompt.type_on(SLEEPERS);
    let limit = Instant::now() + RETURN;
    while sleepers(prompt) < 2 && Instant::now() < limit {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Presses Ctrl-C, and waits until the prompt reads a line again, for this time.
fn give_up(prompt: &mut IPython, time: usize) {
    prompt.session().key(CTRL_C);
    // What was typed ahead of a Ctrl-C is lost: tcsetattr(3), NOFLSH.
    thread::sleep(Duration::from_millis(100));
    prompt.type_on("report('returned')");
    prompt.reported_within(RETURN, "returned", time);
}

/// How many sleepers this session has.
fn sleepers(prompt: &mut IPython) -> usize {
    let others = prompt.session().others();
    let sleep = |other: &&Process| other.command.starts_with("sleep 300");
    others.iter().filter(sleep).count()
}

/// The lines of this level.
fn lines<'a>(report: &'a Report, level: &str) -> Vec<&'a str> {
    Report::lines(&report.log)
        .filter(|line| line.level == level)
        .map(|line| line.text)
        .collect()
}

#[track_caller]
fn ctrl_c_leaves_a_spawn_whose_children_hang(kind: Kind) {
    side_by_side(&HYDRAS, |mpi| {
        let mut prompt = prompt(kind, mpi, true);
        for time in 1..=2 {
            spawn_sleepers(&mut prompt);
            give_up(&mut prompt, time);
        }
        prompt.type_on("spawn(); ask(); leave()");
        prompt.reported_within(LIMIT, "leaving", 1);
        let report = prompt.leave_by(kind.way_out(true));
        report.check(report.count("returned") == 2, "each call returns");
        report.check(report.count("answered") == 1, "the next spawn works");
        let warnings = lines(&report, "WARN");
        report.check(
            warnings.len() == 2
                && warnings[0]
                    .contains("given up after Ctrl-C, as its children have not connected"),
            "one warning each that says what was given up",
        );
        report.check(lines(&report, "ERROR").is_empty(), "and nothing else");
        report.check(report.code() == Some(0), "exit status 0");
        report.check(report.left.is_empty(), "nothing is left behind");
    });
}

#[test]
fn ctrl_c_leaves_a_spawn_whose_children_hang_in_python() {
    ctrl_c_leaves_a_spawn_whose_children_hang(Kind::Python);
}

#[test]
fn ctrl_c_leaves_a_spawn_whose_children_hang_in_ipython() {
    ctrl_c_leaves_a_spawn_whose_children_hang(Kind::IPython);
}

#[test]
fn without_the_library_ctrl_c_kills_the_session() {
    side_by_side(&[MPICH_4_2_3, MPICH_5_0_2], |mpi| {
        let mut prompt = prompt(Kind::Python, mpi, false);
        spawn_sleepers(&mut prompt);
        prompt.session().key(CTRL_C);
        let report = prompt.leave_by("exit()");
        report.check(
            report.code() != Some(0),
            "it is killed, or hangs: it does not end well",
        );
    });
}

/// An mpiexec that never answers.
#[test]
fn ctrl_c_leaves_a_launcher_that_does_not_answer() {
    side_by_side(&SICK_AND_HEALTHY, |mpi| {
        let place = tempfile::tempdir().expect("there is a place for temporary files");
        let file = place.path().join("mpiexec");
        commands::script(&file, "#!/bin/sh\nexec /bin/sleep 300\n");
        let python = Kind::Python;
        let program = python.program(mpi).env("PATH", place.path()).library(true);
        let mut prompt = python.start(program);
        prompt.type_line(WORDS);
        prompt.type_on(SLEEPERS);
        prompt.logged_within(LIMIT, ": started ", 1);
        give_up(&mut prompt, 1);
        let report = prompt.leave_by("exit()");
        report.check(report.count("returned") == 1, "the call returns");
        let warnings = lines(&report, "WARN");
        report.check(
            warnings.len() == 1
                && warnings[0].contains("given up after Ctrl-C, as its launcher has not answered"),
            "one warning that says what was given up",
        );
        report.check(report.left.is_empty(), "nothing is left behind");
        report.check(report.code() == Some(0), "exit status 0");
    });
}

#[test]
fn ctrl_c_after_a_spawn_has_returned_touches_nothing() {
    side_by_side(&HYDRAS, |mpi| {
        let mut prompt = prompt(Kind::Python, mpi, true);
        for time in 1..=3 {
            prompt.type_on("spawn(); work()");
            prompt.reported_within(LIMIT, "working", time);
            prompt.session().key(CTRL_C);
            prompt.reported_within(LIMIT, "interrupted", time);
            prompt.type_on("ask()");
            prompt.reported_within(LIMIT, "answered", time);
        }
        for team in 0..3 {
            prompt.type_on(&format!("use({team}); leave()"));
            prompt.reported_within(LIMIT, "leaving", team + 1);
        }
        let report = prompt.leave_by("exit()");
        report.check(report.count("answered") == 3, "all children answer");
        report.check(lines(&report, "WARN").is_empty(), "not a word");
        report.check(report.code() == Some(0), "exit status 0");
        report.check(report.left.is_empty(), "nothing is left behind");
    });
}

/// After ten seconds, and after a minute: not in this test.
#[test]
fn somebody_who_waits_is_told_for_whom() {
    side_by_side(&HYDRAS, |mpi| {
        let mut prompt = prompt(Kind::Python, mpi, true);
        spawn_sleepers(&mut prompt);
        prompt.logged_within(Duration::from_secs(14), "have not called MPI_Init", 1);
        give_up(&mut prompt, 1);
        let report = prompt.leave_by("exit()");
        let told = Report::lines(&report.log).find(|line| {
            line.text
                .contains("2 of 2 children have not called MPI_Init")
        });
        let told = told.map(|line| line.text).unwrap_or_default();
        report.check(
            told.contains("'sleep 300' (process ") && told.ends_with("; Ctrl-C gives the spawn up"),
            "how many, which command, and what to do",
        );
    });
}

/// A wrapper puts the child into the background, out of the tree of processes, and ends.
#[test]
fn a_child_that_was_reparented_is_waited_for() {
    side_by_side(&HYDRAS, |mpi| {
        let child = mpi.compile("lost_children.c");
        let late = format!(
            "(setsid sh -c 'sleep 4; exec {}' &) >/dev/null 2>&1; sleep 0.1",
            child.display()
        );
        for interactive in ["0", "1"] {
            let program = Program::new(&child)
                .args(["1", "/bin/sh", "-c", &late])
                .under(mpi)
                .env("SPAWNFIX_INTERACTIVE", interactive);
            let mut session = program.library(true).start();
            session.line("typed");
            let report = session.finish();
            report.check(
                report.fact("spawned") == Some("success, a communicator"),
                "the spawn works",
            );
            report.check(report.left.is_empty(), "nothing is left behind");
        }
    });
}

/// Everything of a session whose terminal's window is closed.
fn close_the_window(mpi: Mpi, library: bool) -> usize {
    let mut prompt = prompt(Kind::Python, mpi, library);
    prompt.type_on("spawn(); ask()");
    prompt.reported_within(LIMIT, "answered", 1);
    prompt.session().hang_up();
    let limit = Instant::now() + Duration::from_secs(2);
    loop {
        let left = prompt.session().others().len() + usize::from(!prompt.session().ended());
        if left == 0 || Instant::now() > limit {
            prompt.finish();
            return left;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_closed_terminal_leaves_nothing() {
    side_by_side(&HYDRAS, |mpi| {
        for _ in 0..3 {
            assert_eq!(close_the_window(mpi, true), 0, "{}", mpi.name);
        }
    });
}

/// At the end of a session without MPI_Finalize whose children have ended, only our own bridge is left of its job.
#[test]
fn our_own_bridge_is_not_reported_as_a_crash() {
    side_by_side(&HYDRAS, |mpi| {
        let mut prompt = prompt(Kind::Python, mpi, true);
        prompt.type_on("spawn(); ask(); leave()");
        prompt.reported_within(LIMIT, "leaving", 1);
        let is_child = |process: &Process| process.command.contains("bin/python");
        let limit = Instant::now() + LIMIT;
        while prompt.session().others().iter().any(is_child) && Instant::now() < limit {
            thread::sleep(Duration::from_millis(20));
        }
        let report = prompt.leave_by("os._exit(0)");
        report.check(
            !report.output.contains("BAD TERMINATION")
                && !report.output.contains("YOUR APPLICATION"),
            "not a word of mpiexec's",
        );
        report.check(report.left.is_empty(), "nothing is left behind");
    });
}

/// A receive from a dead child waits for ever: that is libmpi's.
#[test]
fn a_session_that_waits_for_the_dead_is_told_how_to_end() {
    side_by_side(&HYDRAS, |mpi| {
        let mut prompt = prompt(Kind::Python, mpi, true);
        prompt.type_on("spawn(); ask()");
        prompt.reported_within(LIMIT, "answered", 1);
        prompt.type_on("import session; session.team.send('segv', 0); session.team.recv()");
        let told = prompt.logged_within(LIMIT, "may wait without end", 1);
        let pid = prompt.session().pid();
        let log = fs::read_to_string(prompt.session().dir().join("log")).unwrap_or_default();
        assert!(told, "{}: {log}", mpi.name);
        assert!(
            log.contains(&format!("'kill {pid}' ends this session")),
            "{log}"
        );
        // SAFETY: a plain system call; the process is this test's child.
        unsafe { libc::kill(pid as i32, libc::SIGTERM) };
        let report = prompt.finish();
        report.check(report.left.is_empty(), "nothing is left behind");
    });
}
