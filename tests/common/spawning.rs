//! A program that spawns and reads on: someone starts it and types, or feeds it, and what must be so at its end.

use std::thread::sleep;
use std::time::Duration;

use super::{CTRL_D, Disease, Mpi, Program, Report, Stdin};

/// A program of tests/apps, started by hand under this MPI.
pub fn started(mpi: Mpi, app: &str, library: bool) -> Program {
    let (program, script) = match app.strip_suffix(".py") {
        Some(_) => (mpi.bin("python"), Some(super::app(app))),
        None => (mpi.compile(app), None),
    };
    let program = Program::new(program)
        .args(script)
        .under(mpi)
        .library(library);
    // What works takes a fraction of a second.
    if mpi.disease == Disease::Hangs && !library {
        program.deadline(4)
    } else {
        program
    }
}

/// Someone types: before the spawn, during it, right after it while the program computes, and once the children are
/// gone.
///
/// `ends`: how often a reader has to meet the end of a terminal's input until it believes it.
pub fn type_along(program: Program, ends: usize) -> Report {
    let mut session = program.start();
    for line in ["one", "two", "", "three"] {
        session.line(line);
    }
    session.reported("spawning");
    session.line("four, while it spawns");
    session.reported("working");
    session.line("five, while it computes");
    session.line("six");
    // Intel MPI's children may stay until the program ends.
    session.reported_soon("bye");
    // Time for mpiexec to notice that the children's output ended, and to set O_NONBLOCK if it is one that does.
    sleep(Duration::from_millis(300));
    session.line("seven, to a program that waits for it");
    sleep(Duration::from_millis(50));
    session.send("eight is not a whole line");
    session.key(CTRL_D); // pushes it through
    for _ in 1..ends {
        sleep(Duration::from_millis(50));
        session.key(CTRL_D);
    }
    sleep(Duration::from_millis(50));
    session.end_of_input();
    if !session.library {
        session.has_seconds(5); // where even the end is lost
    }
    session.finish()
}

/// 1 MB, in lines that tell where they are.
pub fn a_megabyte() -> Vec<u8> {
    (0..40_000)
        .flat_map(|line| format!("line {line:07} of the input\n").into_bytes())
        .collect()
}

pub fn feed(program: Program, stdin: Stdin) -> Report {
    match stdin {
        Stdin::Terminal => type_along(program, 1),
        Stdin::Pipe => {
            // As in `producer | program | consumer`.
            let mut session = program.stdin(stdin).piped().start();
            session.pour(a_megabyte());
            session.finish()
        }
        _ => program.stdin(stdin).run(),
    }
}

/// What stdin is, in the log's words.
pub fn in_words(stdin: &Stdin) -> &'static str {
    match stdin {
        Stdin::Terminal => "terminal",
        Stdin::Pipe => "pipe",
        Stdin::File(_) => "file",
        Stdin::Null => "/dev/null",
        // MPI_Init opens a file, and it gets the number 0, before anyone calls a spawn.
        Stdin::Closed => "stdin is",
    }
}

/// The program ended well, read all it was sent, and its descriptors are as they were.
#[track_caller]
pub fn check_cured(report: &Report) {
    report.check_ended_well();
    report.check_read_all();
    report.check(report.fact("wrong").is_none(), "MPI's answers are right");
    report.check(
        report.fact("same_stdin") != Some("no"),
        "fd 0 is the same open file description as before",
    );
    for nonblock in ["nonblock_0", "nonblock_1", "nonblock_2"] {
        report.check(
            report.fact(nonblock) != Some("yes"),
            "no O_NONBLOCK is left on fd 0, 1, 2",
        );
    }
}

/// The log of `calls` spawns, the first of which launched an mpiexec, reads as a short story.
#[track_caller]
pub fn check_told(report: &Report, mpi: Mpi, stdin: &str, function: &str, calls: usize) {
    let said = report.said();
    report.check(said.iter().all(|line| line.level == "INFO"), "no warning");
    let (decisions, outcomes): (Vec<_>, Vec<_>) = said
        .iter()
        .filter(|line| line.text.contains(&format!("{function}:")))
        .partition(|line| line.text.contains("guard"));
    report.check(
        (decisions.len(), outcomes.len()) == (calls, calls),
        "a decision and an outcome for each call",
    );
    for (decision, outcome) in decisions.iter().zip(&outcomes) {
        for word in [mpi.product, "singleton", stdin, "guard: launch"] {
            report.check(
                decision.text.contains(word),
                &format!("the decision tells '{word}'"),
            );
        }
        report.check(
            outcome.text.contains("returned 0") && outcome.text.contains(" ms"),
            "the outcome tells the return code and the time",
        );
    }
    let others = report.said_by_others();
    let agents: Vec<_> = others
        .iter()
        .filter(|line| line.text.contains("stdin closed"))
        .collect();
    report.check(agents.len() == 1, "the agent tells what it did, once");
    report.check(
        agents[0]
            .text
            .starts_with(&format!("acting as {} for process ", mpi.launcher())),
        "the agent tells what it acts as",
    );
    let launched = others
        .iter()
        .filter(|line| line.text.contains(": started "));
    report.check(
        (launched.count() > 0) == (mpi.launcher() == "mpiexec"),
        "and which mpiexec serves",
    );
}

/// Without the library it suffers what is known of its MPI.
#[track_caller]
pub fn check_disease(report: &Report, mpi: Mpi) {
    match mpi.disease {
        Disease::Killed => report.check_killed(),
        Disease::Robbed => {
            report.check(
                report.read.len() < report.sent.len(),
                "without the library input is lost",
            );
        }
        Disease::Hangs => report.check(report.status.is_none(), "without the library it hangs"),
        Disease::Healthy => check_cured(report),
    }
}
