//! In a Slurm job, a step of it (`srun --pty ipython`) or the allocation itself (`salloc`), a spawn works.
//!
//! Without the library it waits without end for what the program itself holds, unless SLURM_OVERLAP is set. Each test
//! tells both halves.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

use crate::common::commands::script;
use crate::common::slurm::How;
use crate::common::*;

/// What its own launcher's srun needs to share the processors of the step that the program holds (srun(1)).
const OVERLAP: &str = "SLURM_OVERLAP";

/// tests/apps/spawn.c, in a job. None: the test is skipped.
fn spawning(mpi: Mpi, how: How) -> Option<Program> {
    let program = mpi.is_here().then(|| mpi.compile("spawn.c"))?;
    Some(slurm::program(how, program)?.under(mpi))
}

/// Someone types at it: before the spawn, and when it is over.
fn type_along(program: Program) -> Report {
    let mut session = program.library(true).start();
    session.reported("spawning");
    session.line("one, while it spawns");
    // Intel MPI's children may stay until the program ends.
    session.reported_soon("bye");
    session.line("two, to a program that waits for it");
    session.key(CTRL_D);
    session.finish()
}

/// Nobody types at it, as a launcher may read what is typed: that is not this file's story.
fn leave_alone(program: Program) -> Report {
    program.arg("blind").run()
}

/// The same, where it is expected to hang.
fn hang(program: Program) -> Report {
    let mut session = program.arg("blind").start();
    session.reported("spawning");
    session.has_seconds(3);
    session.finish()
}

#[track_caller]
fn check_spawned(report: &Report) {
    report.check_ended_well();
    check_worked(report);
}

/// It worked; at its end Slurm may say that it cancelled a job step which was about to end.
#[track_caller]
fn check_worked(report: &Report) {
    report.check(report.code() == Some(0), "exit status 0");
    report.check(report.fact("wrong").is_none(), "MPI's answers are right");
    report.check(
        report.fact("child") == Some("1 of 1, first"),
        "the child ran",
    );
    report.check(report.fact("end").is_some(), "the program came to its end");
}

#[track_caller]
fn check_hangs(report: &Report) {
    report.check(report.status.is_none(), "it hangs");
    report.check(
        report.fact("spawning").is_some() && report.fact("spawned").is_none(),
        "in its spawn",
    );
}

/// A program spawns in a job, and reads what is typed at it. Without the library its spawn hangs, or it `works` there.
#[track_caller]
fn a_spawn(mpi: Mpi, how: How, works: bool) {
    if spawning(mpi, how).is_none() {
        return;
    }
    let again = || spawning(mpi, how).expect("it was there a moment ago");
    let cured = || {
        let cured = type_along(again());
        check_spawned(&cured);
        cured.check_read_all();
    };
    let sick = || {
        if works {
            check_worked(&leave_alone(again()));
        } else {
            check_hangs(&hang(again()));
        }
    };
    // What those do who know of it. It is no cure for the input: they must not type.
    let known = || check_worked(&leave_alone(again().env(OVERLAP, "1")));
    thread::scope(|scope| {
        scope.spawn(cured);
        scope.spawn(sick);
        scope.spawn(known);
    });
}

tests! {
    a_spawn:
    in_a_step_a_spawn_works_under_mpich_4_1_3(MPICH_4_1_3, How::Step, false);
    in_a_step_a_spawn_works_under_mpich_4_2_3(MPICH_4_2_3, How::Step, false);
    in_a_step_a_spawn_works_under_mpich_5_0_2(MPICH_5_0_2, How::Step, false);
    in_a_step_a_spawn_works_under_intel_mpi_as_it_does_by_itself(INTEL_MPI, How::Step, true);
    in_a_step_a_spawn_works_under_open_mpi_5_as_it_does_by_itself(OPEN_MPI, How::Step, true);
    in_an_allocation_a_spawn_works_under_mpich_4_1_3(MPICH_4_1_3, How::Allocation, false);
    in_an_allocation_a_spawn_works_under_mpich_4_2_3_as_it_does_by_itself(MPICH_4_2_3, How::Allocation, true);
    in_an_allocation_a_spawn_works_under_mpich_5_0_2_as_it_does_by_itself(MPICH_5_0_2, How::Allocation, true);
}

/// A directory for PATH, with an mpiexec that reports its SLURM_OVERLAP and becomes the real one.
fn a_telling_mpiexec() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("telling-mpiexec");
        let tells = "#!/bin/sh\n\
            echo \"overlap=${SLURM_OVERLAP-not set}\" >>\"$APP_REPORT\"\n\
            exec \"$MPIEXEC\" \"$@\"\n";
        script(directory.join("mpiexec"), tells);
        directory
    })
}

/// The program's launcher is one that tells.
fn told(program: Program) -> Program {
    program
        .env("PATH", path_behind(&[a_telling_mpiexec()]))
        .env("MPIEXEC", MPICH_4_2_3.bin("mpiexec"))
}

#[test]
fn the_launcher_has_slurm_overlap_in_an_allocation_only_and_a_users_value_is_kept() {
    if !MPICH_4_2_3.is_here() {
        return;
    }
    let Some(inside) = spawning(MPICH_4_2_3, How::Allocation) else {
        return;
    };
    let again = || spawning(MPICH_4_2_3, How::Allocation).expect("it was there a moment ago");
    let outside = || Program::new(MPICH_4_2_3.compile("spawn.c")).under(MPICH_4_2_3);
    let cases = [
        ("in an allocation", inside, true, "1"),
        ("the user's", again().env(OVERLAP, "mine"), true, "mine"),
        ("outside", outside(), true, "not set"),
        (
            "the user's, outside",
            outside().env(OVERLAP, "mine"),
            true,
            "mine",
        ),
        ("without the library", again(), false, "not set"),
        (
            "the user's, without",
            again().env(OVERLAP, "mine"),
            false,
            "mine",
        ),
    ];
    thread::scope(|scope| {
        for (which, program, library, value) in cases {
            scope.spawn(move || {
                let report = leave_alone(told(program).library(library));
                check_worked(&report);
                let was = report.fact("overlap");
                report.check(
                    was == Some(value),
                    &format!("{which}: '{value}', not {was:?}"),
                );
            });
        }
    });
}
