//! A Jupyter kernel is interrupted, loses its children, restarts, and goes on; a notebook is run whole.
//!
//! jupyter_client drives it, as in JupyterLab and VS Code, and nbclient, which is behind `jupyter execute`. The kernel
//! is the one that README's command installs. tests/apps/kernel.py is the driver.

use crate::common::*;

/// A kernel's story, with the library in its kernelspec or without.
fn drive(mpi: Mpi, story: &str, cured: bool) -> Report {
    let driver = Program::new(mpi.bin("python"))
        .arg(app("kernel.py"))
        .arg(story)
        .args(cured.then(library));
    let driver = driver.under(mpi).with_words();
    // The kernel has the library, the driver has not.
    driver.deadline(if cured { 240 } else { 80 }).run()
}

/// What the steps of this name came to.
fn steps<'a>(report: &'a Report, name: &'a str) -> Vec<&'a str> {
    report.values(name).collect()
}

/// The kernel did all that was asked, and nothing of it outlived it for 2 s.
#[track_caller]
fn check_served(report: &Report, spawns: usize, crashes: usize, interrupts: usize) {
    report.check(report.count("done") == 1, "the driver comes to its end");
    report.check(
        steps(report, "spawn") == vec!["ok"; spawns],
        "each spawn succeeds",
    );
    report.check(
        steps(report, "interrupt") == vec!["KeyboardInterrupt"; interrupts],
        "each interrupt reaches the cell, and no more",
    );
    report.check(
        steps(report, "ask") == vec!["ok"; interrupts],
        "the kernel goes on after an interrupt",
    );
    report.check(
        report.count("answered") == spawns + interrupts && report.count("unanswered") == 0,
        "the children answer after each spawn and each interrupt",
    );
    report.check(
        steps(report, "crash") == vec!["ok"; crashes],
        "the kernel goes on after each crash",
    );
    check_nothing_left(report);
}

#[track_caller]
fn check_nothing_left(report: &Report) {
    report.check(
        report.count("left") == 0 && report.count("ended") > 0,
        "2 s after its end nothing of the kernel is left",
    );
    report.check(report.left.is_empty(), "nothing is left in the end");
    report.check(report.code() == Some(0), "the driver's exit status is 0");
}

/// Its day: see kernel.py.
const SPAWNS: usize = 1 + 3 + 1 + 2;
const CRASHES: usize = 3 + 1;
const INTERRUPTS: usize = 2 + 1;

#[test]
fn a_kernel_is_interrupted_loses_children_spawns_again_restarts_and_leaves_nothing() {
    side_by_side(&HYDRAS, |mpi| {
        let report = drive(mpi, "day", true);
        check_served(&report, SPAWNS, CRASHES, INTERRUPTS);
        report.check(report.log.contains("(interactive: "), "the log tells it");
    });
}

/// Its libmpi has fault tolerance in a session, so the kernel survives its children's crashes.
#[test]
fn a_kernel_under_open_mpi_is_interrupted_restarts_and_leaves_nothing() {
    side_by_side(&[OPEN_MPI], |mpi| {
        check_served(&drive(mpi, "day", true), SPAWNS, CRASHES, INTERRUPTS);
    });
}

#[test]
fn without_the_library_an_interrupt_after_a_spawn_kills_the_kernel() {
    side_by_side(&[MPICH_5_0_2], |mpi| {
        let report = drive(mpi, "interrupted", false);
        report.check(steps(&report, "spawn") == ["ok"], "it spawns");
        let interrupts = steps(&report, "interrupt");
        report.check(
            interrupts
                .iter()
                .any(|came| ["dead", "unanswered"].contains(came))
                || report.count("unanswered") > 0,
            "an interrupt kills the kernel, or its children, or the kernel does not come back",
        );
    });
}

#[test]
fn without_the_library_a_child_that_crashes_kills_the_kernel() {
    several(2, &["segv", "exit"], |how| {
        side_by_side(&[MPICH_5_0_2], |mpi| {
            let report = drive(mpi, how, false);
            report.check(
                report.count("answered") == 1,
                "it spawns, and the child answers",
            );
            let killed = ["crash", "rest"]
                .iter()
                .any(|step| steps(&report, step).contains(&"dead"));
            report.check(killed, "the crash kills the kernel");
        });
    });
}

#[test]
fn a_notebook_run_whole_survives_its_children() {
    side_by_side(&HYDRAS, |mpi| {
        let report = drive(mpi, "notebook", true);
        report.check(
            report.fact("notebook") == Some("ok"),
            "it runs to its last cell",
        );
        report.check(report.count("answered") == 2, "both children answer");
        check_nothing_left(&report);
    });
}

#[test]
fn without_the_library_a_notebook_dies_with_its_child() {
    side_by_side(&[MPICH_5_0_2], |mpi| {
        let report = drive(mpi, "notebook", false);
        report.check(
            report.fact("notebook") == Some("DeadKernelError"),
            "its kernel dies",
        );
        report.check(report.count("answered") == 1, "after the first spawn");
    });
}
