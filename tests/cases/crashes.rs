//! A child crashes: whoever sits at a prompt goes on, and spawns again; a script ends, as MPI's own rule has it.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::ipython::{IPython, Kind};
use crate::common::*;

/// SIGSEGV, MPI_Abort on MPI_COMM_WORLD, an exit without MPI_Finalize.
const WAYS: [&str; 3] = ["segv", "abort", "exit"];
/// Within which everything of a session that was killed is gone.
const SOON: Duration = Duration::from_secs(2);

/// Someone at a prompt who has children at hand: session.py.
struct Desk {
    kind: Kind,
    prompt: IPython,
    spawns: usize,
    answers: usize,
    crashes: usize,
}

impl Desk {
    fn open(kind: Kind, mpi: Mpi) -> Self {
        let mut prompt = kind.start(kind.program(mpi).library(true));
        prompt.paste_line(kind.words());
        Self::at(kind, prompt)
    }

    fn at(kind: Kind, prompt: IPython) -> Self {
        Self {
            kind,
            prompt,
            spawns: 0,
            answers: 0,
            crashes: 0,
        }
    }

    /// Types this, and waits until it has been reported so often in all. If it never is, the report at the end says so.
    fn act(&mut self, line: &str, fact: &str, times: usize) {
        self.prompt.type_on(line);
        self.prompt
            .reported_within(Duration::from_secs(45), fact, times);
    }

    fn spawn(&mut self) {
        self.spawns += 1;
        self.act("spawn()", "spawned", self.spawns);
        self.ask("ask()");
    }

    fn ask(&mut self, line: &str) {
        self.answers += 1;
        self.act(line, "answered", self.answers);
    }

    fn crash(&mut self, how: &str) {
        self.crashes += 1;
        self.act(&format!("crash('{how}')"), "crashed", self.crashes);
    }

    /// How many jobs the log says are gone.
    fn gone(&mut self) -> usize {
        let log = fs::read_to_string(self.prompt.session().dir().join("log"));
        gone(&log.unwrap_or_default())
    }

    /// Waits until the log tells of so many jobs.
    fn wait_until_gone(&mut self, count: usize) {
        let limit = Instant::now() + Duration::from_secs(5);
        while self.gone() < count && Instant::now() < limit {
            thread::sleep(LOOK);
        }
    }

    /// Leaves, and checks what was asked for. Intel's MPI_Finalize waits without end for children that crashed.
    #[track_caller]
    fn leave(mut self, mpi: Mpi) -> Report {
        let times = 1 + self.prompt.reports("leaving");
        self.act("leave()", "leaving", times);
        let in_order = mpi.name != INTEL_MPI.name;
        let report = self.prompt.leave_by(self.kind.way_out(in_order));
        report.check(
            report.count("spawned") == self.spawns,
            "each spawn succeeds",
        );
        report.check(
            report.count("answered") == self.answers && report.count("unanswered") == 0,
            "each child answers",
        );
        report.check(
            report.count("crashed") == self.crashes,
            "each crash returns",
        );
        report.check(report.code() == Some(0), "exit status 0");
        report.check(report.left.is_empty(), "nothing is left behind");
        report
    }
}

/// How many lines of a log say that a job is gone, and the session not.
fn gone(log: &str) -> usize {
    Report::lines(log)
        .filter(|line| {
            line.level == "WARN"
                && line.text.contains(" is gone")
                && line.text.contains("this session goes on")
        })
        .count()
}

fn someone_spawns_again_after_each_crash(kind: Kind) {
    if !kind.is_here() {
        return;
    }
    side_by_side(&HYDRAS, |mpi| {
        let mut desk = Desk::open(kind, mpi);
        for how in WAYS {
            desk.spawn();
            desk.crash(how);
        }
        let noticed = WAYS.into_iter().filter(|how| mpi.notices(how)).count();
        desk.wait_until_gone(noticed);
        desk.spawn();
        let report = desk.leave(mpi);
        report.check(
            (noticed..=WAYS.len()).contains(&gone(&report.log)),
            "one warning for each crash that the MPI notices",
        );
    });
}

tests! {
    someone_spawns_again_after_each_crash:
    someone_in_ipython_spawns_again_after_each_crash(Kind::IPython);
    someone_in_python_spawns_again_after_each_crash(Kind::Python);
    someone_in_r_spawns_again_after_each_crash(Kind::R);
}

/// Nothing is typed once there is a launcher that may take it.
fn crash_in_one_line(kind: Kind, program: Program, how: &str) -> Report {
    let mut prompt = kind.start(program);
    let sleep = match kind {
        Kind::R => "Sys.sleep",
        _ => "time.sleep",
    };
    prompt.type_on(&format!(
        "{}; spawn(); ask(); crash('{how}'); {sleep}(10); report('lived'); {}",
        kind.words(),
        kind.way_out(false)
    ));
    prompt.reported_within(Duration::from_secs(30), "lived", 1);
    prompt.finish()
}

/// It is killed where the MPI notices the crash, and mostly comes to its end where not.
#[track_caller]
fn check_killed_if(report: &Report, noticed: bool) {
    let killed = report.signal() == Some(libc::SIGKILL) && report.count("lived") == 0;
    if noticed {
        report.check(killed, "it is killed, as the MPI notices the crash");
    } else {
        let lived = report.code() == Some(0) && report.count("lived") == 1;
        report.check(lived || killed, "it lives, or is killed by its mpiexec");
    }
}

fn without_the_library_a_crash_kills(kind: Kind, mpis: &[Mpi]) {
    if !kind.is_here() {
        return;
    }
    thread::scope(|scope| {
        let ways = WAYS.map(|how| {
            scope.spawn(move || {
                side_by_side(mpis, |mpi| {
                    let report = crash_in_one_line(kind, kind.program(mpi), how);
                    report.check(report.count("answered") == 1, "the child answers");
                    check_killed_if(&report, mpi.notices(how));
                })
            })
        });
        ways.into_iter().for_each(|way| drop(outcome(way)));
    });
}

tests! {
    without_the_library_a_crash_kills:
    without_the_library_a_crash_kills_ipython(Kind::IPython, &HYDRAS);
    without_the_library_a_crash_kills_python(Kind::Python, &[MPICH_5_0_2]);
    without_the_library_a_crash_kills_r(Kind::R, &[MPICH_5_0_2]);
}

#[test]
fn one_group_crashes_and_the_other_still_answers() {
    side_by_side(&HYDRAS, |mpi| {
        let mut desk = Desk::open(Kind::IPython, mpi);
        desk.spawn();
        desk.spawn();
        desk.crash("segv"); // the second
        desk.wait_until_gone(1);
        desk.ask("use(0); ask()");
        desk.spawn();
        desk.ask("use(0); ask()");
        desk.act("leave(); use(2)", "leaving", 1);
        let report = desk.leave(mpi);
        report.check(
            gone(&report.log) == 1,
            "one warning for the one that crashed",
        );
    });
}

#[test]
fn someone_spawns_again_after_an_mpiexec_was_killed() {
    side_by_side(&HYDRAS, |mpi| {
        let mut desk = Desk::open(Kind::IPython, mpi);
        for (round, signal) in [libc::SIGKILL, libc::SIGTERM].into_iter().enumerate() {
            desk.spawn();
            let all = desk.prompt.session().others();
            let launcher = all.iter().find(|process| {
                process.command.contains("mpiexec") && process.command.ends_with("--bridge")
            });
            let launcher = launcher.expect("there is one").pid;
            // SAFETY: a plain system call; the process carries this session's mark.
            unsafe { libc::kill(launcher, signal) };
            desk.wait_until_gone(round + 1);
        }
        desk.spawn();
        let report = desk.leave(mpi);
        report.check(gone(&report.log) == 2, "one warning for each");
    });
}

/// A script is not interactive: with the library and without, a crash that the MPI notices ends it.
#[test]
fn a_crash_ends_a_script_as_it_does_without_the_library() {
    thread::scope(|scope| {
        let ways =
            WAYS.map(|how| scope.spawn(move || side_by_side(&HYDRAS, |mpi| script(mpi, how))));
        ways.into_iter().for_each(|way| drop(outcome(way)));
    });
}

fn script(mpi: Mpi, how: &str) {
    let run = |library| {
        let python = Program::new(mpi.bin("python")).arg("script.py");
        let python = python.under(mpi).with_words();
        python.beside("script.py").arg(how).library(library).run()
    };
    let (bare, cured) = (run(false), run(true));
    for report in [&bare, &cured] {
        report.check(report.count("answered") == 1, "the child answers");
        check_killed_if(report, mpi.notices(how));
    }
    cured.check(cured.log.contains("(not interactive)"), "the log tells it");
    cured.check(cured.left.is_empty(), "nothing is left behind");
}

/// A Python in which someone spawns twice, started by another program, which keeps the terminal open at its end; and
/// its process.
fn open_under_sh(mpi: Mpi, library: bool) -> (Desk, i32) {
    let python = format!("'{}' -q; sleep 60", mpi.bin("python").display());
    let sh = Program::new("sh").args(["-c", &python]).under(mpi);
    let mut prompt = Kind::Python.start(sh.with_words().library(library));
    // In one line: without the library nothing can be typed after a spawn.
    prompt.paste(
        "import os, time; from session import *; spawn(); ask(); spawn(); ask(); report('there')",
    );
    assert!(
        prompt.reported("there", 1),
        "{}\n{}",
        mpi.name,
        prompt.screen()
    );
    let pid = prompt.fact("spawned").and_then(|pid| pid.parse().ok());
    (Desk::at(Kind::Python, prompt), pid.expect("it is a number"))
}

/// What is left of it, without the processes that don't count: those that it would take 2 s to end are waited for.
fn left(desk: &mut Desk, but: Option<i32>) -> Vec<Process> {
    let since = Instant::now();
    loop {
        let mut all = desk.prompt.session().others();
        all.retain(|process| Some(process.pid) != but && process.command != "sleep 60");
        if all.is_empty() || since.elapsed() > SOON {
            return all;
        }
        thread::sleep(LOOK);
    }
}

fn kill(pid: i32) {
    // SAFETY: a plain system call; the process reported its id itself, a moment ago, and has not ended.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

#[test]
fn everything_ends_within_2_s_of_a_session_that_is_killed() {
    side_by_side(&HYDRAS, |mpi| {
        let (mut desk, pid) = open_under_sh(mpi, true);
        kill(pid);
        let left = left(&mut desk, None);
        assert!(left.is_empty(), "{}: {left:?}", mpi.name);
    });
}

/// Whoever is forked inherits libmpi's connection to its process manager, and keeps it open.
#[test]
fn everything_ends_within_2_s_of_a_session_whose_own_child_holds_its_connections() {
    side_by_side(&HYDRAS, |mpi| {
        let (mut desk, pid) = open_under_sh(mpi, true);
        let fork = "held = os.fork() or (time.sleep(60), os._exit(0)); report('held', held)";
        desk.act(fork, "held", 1);
        let held = desk.prompt.fact("held").and_then(|pid| pid.parse().ok());
        kill(pid);
        let left = left(&mut desk, held);
        assert!(left.is_empty(), "{}: {left:?}", mpi.name);
        let lives = |pid: i32| desk.prompt.session().others().iter().any(|p| p.pid == pid);
        assert!(held.is_some_and(lives), "{}: who holds it lives", mpi.name);
    });
}

/// MPICH's mpiexec ends with its connection, Intel's does not.
#[test]
fn without_the_library_intel_mpi_leaves_what_a_killed_session_spawned() {
    side_by_side(&[INTEL_MPI], |mpi| {
        let (mut desk, pid) = open_under_sh(mpi, false);
        kill(pid);
        let left = left(&mut desk, None);
        let mpiexec = |process: &Process| process.command.contains("mpiexec");
        assert!(left.iter().any(mpiexec), "{left:?}");
    });
}
