//! Workers that end before they come to their MPI_Init: a script with a slip of the pen, a program that is no MPI
//! program, an mpiexec that is killed too early. libmpi waits for them without end, with mpiexec before the program as
//! well as without. Under the library the spawn is an MPI error, and the program goes on.

use crate::common::ipython::{self, IPython};
use crate::common::*;

/// How long the program may wait, in milliseconds: they are looked for after they have been gone for two seconds.
const LIMIT: u64 = 10_000;

/// tests/apps/lost_children.c under this MPI.
fn lost(mpi: Mpi, args: &[&str]) -> Program {
    Program::new(mpi.compile("lost_children.c"))
        .args(args)
        .under(mpi)
}

fn interactive(program: Program, is_one: bool) -> Program {
    program.env("SPAWNFIX_INTERACTIVE", if is_one { "1" } else { "0" })
}

/// It has its error, has spawned again, and has read what was typed meanwhile.
#[track_caller]
fn check_cured(report: &Report) {
    report.check(
        report.fact("spawned") == Some("MPI_ERR_SPAWN, null"),
        "the error of a spawn that failed, and no communicator",
    );
    report.check(
        report.fact("pages") == Some("1"),
        "one descriptor is left, of the page that the agent reads",
    );
    check_goes_on(report);
}

#[track_caller]
fn check_goes_on(report: &Report) {
    let took = report.fact("took").and_then(|ms| ms.parse().ok());
    report.check(took.is_some_and(|ms: u64| ms < LIMIT), "in time");
    report.check(report.fact("heard") == Some("42"), "the next spawn works");
    report.check(report.fact("read") == Some("typed"), "the line is read");
    report.check(report.code() == Some(0), "exit status 0");
    report.check(report.left.is_empty(), "nothing is left behind");
    let errors = Report::lines(&report.log).filter(|line| line.level == "ERROR");
    let errors: Vec<_> = errors.collect();
    report.check(
        errors.len() == 1
            && errors[0]
                .text
                .contains("the children ended before they connected"),
        "one error that says why",
    );
}

#[track_caller]
fn a_worker_that_never_comes(mpi: Mpi) {
    if !mpi.is_here() {
        return;
    }
    // Intel MPI ends a program, and is to, one of whose processes exits with another status than 0.
    for (is_session, args) in [
        (false, &["universe", "1", "/bin/true"][..]),
        (true, &["multiple", "2", "/bin/false"]),
    ] {
        let mut session = interactive(lost(mpi, args), is_session)
            .library(true)
            .start();
        session.reported("spawning");
        session.line("typed");
        check_cured(&session.finish());
    }
}

tests! {
    a_worker_that_never_comes:
    a_worker_that_never_comes_is_an_mpi_error_under_mpich_4_0_3(MPICH_4_0_3);
    a_worker_that_never_comes_is_an_mpi_error_under_mpich_4_1_3(MPICH_4_1_3);
    a_worker_that_never_comes_is_an_mpi_error_under_mpich_4_2_3(MPICH_4_2_3);
    a_worker_that_never_comes_is_an_mpi_error_under_mpich_4_3_2(MPICH_4_3_2);
    a_worker_that_never_comes_is_an_mpi_error_under_mpich_5_0_2(MPICH_5_0_2);
    a_worker_that_never_comes_is_an_mpi_error_under_the_standard_abi(MPICH_5_0_2_ABI);
    a_worker_that_never_comes_is_an_mpi_error_under_intel_mpi(INTEL_MPI);
}

/// The story under Open MPI: what counts is a child that was seen, and a process that lives for a few milliseconds may not be.
#[track_caller]
fn a_worker_under_open_mpi(mpi: Mpi) {
    if !mpi.is_here() {
        return;
    }
    let one = &["1", "sleep", "0.5"][..];
    for (is_session, args) in [(false, one), (true, &["multiple", "2", "sleep", "0.5"])] {
        let mut session = interactive(lost(mpi, args), is_session)
            .library(true)
            .start();
        session.reported("spawning");
        session.line("typed");
        let report = session.finish();
        report.check(
            report.fact("spawned") == Some("another error, null"),
            "an MPI error, and no communicator",
        );
        check_goes_on(&report);
    }
    let bare = lost(mpi, one).deadline(15).start().finish();
    bare.check(bare.fact("spawning").is_some(), "it spawns");
    bare.check(
        bare.fact("spawned").is_none(),
        "without the library it waits",
    );
}

tests! {
    a_worker_under_open_mpi:
    a_worker_that_never_comes_is_an_mpi_error_under_open_mpi_4(OPEN_MPI_4);
    a_worker_that_never_comes_is_an_mpi_error_under_open_mpi(OPEN_MPI);
}

/// They are at work before their MPI_Init for longer than it takes to find that there is nobody.
#[test]
fn workers_that_come_late_are_waited_for() {
    side_by_side(&SICK_AND_HEALTHY, |mpi| {
        let child = mpi.compile("lost_children.c");
        let late = format!("/bin/sleep 5; exec {}", child.display());
        let args = ["2", "/bin/sh", "-c", &late];
        let mut session = interactive(lost(mpi, &args), true).library(true).start();
        session.line("typed");
        let report = session.finish();
        report.check(
            report.fact("spawned") == Some("success, a communicator"),
            "the spawn works",
        );
        report.check(
            report.count("heard") == 3,
            "both are heard, and the next one",
        );
        report.check(report.code() == Some(0), "exit status 0");
        let warned = Report::lines(&report.log).any(|line| line.level != "INFO");
        report.check(!warned, "no word of it");
    });
}

#[test]
fn with_the_default_error_handler_the_program_ends() {
    side_by_side(&MPICHS, |mpi| {
        let report = lost(mpi, &["fatal", "1", "/bin/true"]).library(true).run();
        report.check(
            report.status.is_some_and(|status| !status.success()),
            "it ends, and not well",
        );
        report.check(report.output.contains("Fatal error in"), "MPI's message");
        report.check(report.left.is_empty(), "nothing is left behind");
    });
}

#[test]
fn without_the_library_it_waits_without_end() {
    side_by_side(&SICK_AND_HEALTHY, |mpi| {
        let args = ["1", "/bin/true"];
        let mpiexec = Program::new(mpi.bin("mpiexec")).args(["-n", "1"]);
        let under_mpiexec = mpiexec
            .arg(mpi.compile("lost_children.c"))
            .args(args)
            .under(mpi);
        for program in [lost(mpi, &args), under_mpiexec] {
            let mut session = program.start();
            session.reported("spawning");
            session.has_seconds(5);
            let report = session.finish();
            report.check(report.status.is_none(), "it hangs");
            report.check(report.count("spawned") == 0, "in its spawn");
        }
    });
}

/// At IPython's prompt: a worker that lacks a module, then a line that an IPython answers.
fn at_the_prompt(mpi: Mpi, library: bool) -> Report {
    let mut prompt = IPython::start(ipython::program(mpi).library(library));
    prompt.paste_line("import os, sys; from mpi4py import MPI");
    prompt.type_line(r#"MPI.COMM_SELF.Spawn(sys.executable, ["-c", "import no_such_module"])"#);
    prompt.type_line(r#"print("the answer:", os.getpid())"#);
    if library {
        prompt.printed("the answer: ");
    } else {
        prompt.session().has_seconds(5);
    }
    prompt.leave()
}

#[test]
fn a_worker_without_a_module_is_an_exception_in_ipython() {
    side_by_side(&SICK_AND_HEALTHY, |mpi| {
        let report = at_the_prompt(mpi, true);
        let answer = format!("the answer: {}", report.pid);
        report.check(
            report.output.contains("Exception: Error in spawn call"),
            "an exception",
        );
        report.check(report.output.contains(&answer), "the prompt answers");
        report.check(report.code() == Some(0), "exit status 0");
        let sick = at_the_prompt(mpi, false);
        sick.check(
            !sick.output.contains(&format!("the answer: {}", sick.pid)),
            "without the library it never does",
        );
    });
}
