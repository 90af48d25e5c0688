//! mpi4py's own tests of spawning pass in a Python started without mpiexec, and who types meanwhile loses nothing.
//!
//! With the library, under every MPICH. Each test tells both halves.

use std::thread;
use std::time::Duration;

use crate::common::*;

/// How many mpi4py 4.1.2 has.
const TESTS: usize = 44;
/// From line to line. Nobody reads them before the end, and a terminal keeps no more than 4095 bytes.
const LINE: Duration = Duration::from_millis(100);
const LINES: usize = 350;

/// Types until the tests are over, and then a last line.
fn own_tests(mpi: Mpi, library: bool) -> Report {
    let tests = target().join("mpi4py-tests");
    assert!(
        tests.join("complete").exists(),
        "{} is not there: `scripts/fetch/mpi4py-tests` fetches it, `make test` does both",
        tests.display()
    );
    let python = Program::new(mpi.bin("python")).arg(app("own_tests.py"));
    let python = python.under(mpi).env("MPI4PY_TESTS", tests);
    let mut session = python.library(library).deadline(200).start();
    session.reported("starting");
    if !library && mpi.disease == Disease::Hangs {
        session.reported("testing");
        session.has_seconds(3);
    }
    for number in 1..=LINES {
        if session.ended() || session.reported_within(LINE, "ran") {
            break;
        }
        session.line(&format!("line {number}"));
    }
    session.reported("ran");
    session.line("and a last one");
    let typed = session.sent().to_owned();
    session.line("end");
    let mut report = session.finish();
    report.sent = typed;
    report
}

#[track_caller]
fn check_all_pass(report: &Report) {
    report.check(
        report.fact("ran") == Some(&TESTS.to_string()),
        "it runs all the tests",
    );
    report.check(report.count("passed") == TESTS, "all pass");
    report.check_read_all();
    report.check_ended_well();
}

#[track_caller]
fn check_disease(report: &Report, mpi: Mpi) {
    match mpi.disease {
        Disease::Killed => report.check(
            report.signal() == Some(libc::SIGKILL) && report.fact("ran").is_none(),
            "without the library it is killed",
        ),
        Disease::Hangs => {
            report.check(report.status.is_none(), "without the library it hangs");
            report.check(
                report.count("testing") > report.count("passed"),
                "in one of the tests",
            );
        }
        Disease::Robbed | Disease::Healthy => check_all_pass(report),
    }
}

#[track_caller]
fn all_pass_while_someone_types(mpi: Mpi) {
    if !mpi.is_here() {
        return;
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            let cured = own_tests(mpi, true);
            check_all_pass(&cured);
            cured.check_has_agent();
        });
        scope.spawn(|| check_disease(&own_tests(mpi, false), mpi));
    });
}

tests! {
    all_pass_while_someone_types:
    mpi4pys_own_tests_pass_under_mpich_4_0_3(MPICH_4_0_3);
    mpi4pys_own_tests_pass_under_mpich_4_1_3(MPICH_4_1_3);
    mpi4pys_own_tests_pass_under_mpich_4_2_3(MPICH_4_2_3);
    mpi4pys_own_tests_pass_under_mpich_5_0_2(MPICH_5_0_2);
}
