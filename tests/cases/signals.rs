//! A program spawns in a storm of signals, while it forks, while its threads are cancelled, and reads every line.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::common::*;

/// How often it spawns.
const SPAWNS: usize = 6;
/// What a terminal keeps for a reader is 4 KB (N_TTY_BUF_SIZE in Linux's tty.h): someone who is not read stops typing.
const AHEAD: usize = 2000;

fn signals(mpi: Mpi, how: &[&str], interactive: &str) -> Program {
    Program::new(mpi.compile_as("signals.c", &["-pthread"]))
        .arg(SPAWNS.to_string())
        .args(how.iter().copied())
        .under(mpi)
        .env("SPAWNFIX_INTERACTIVE", interactive)
}

/// Types until the program is done with spawning, and some more.
fn type_along(program: Program) -> Report {
    let mut session = program.start();
    let mut line = 0;
    while !session.ended() && !session.reported_within(Duration::ZERO, "working") {
        let read = fs::metadata(session.dir().join("read")).map_or(0, |file| file.len() as usize);
        if session.sent().len() < read + AHEAD {
            line += 1;
            session.line(&format!("line {line}"));
        }
        thread::sleep(Duration::from_millis(10));
    }
    session.line("the last line");
    session.end_of_input();
    session.finish()
}

/// It did what it does in calm, and the storm was one.
#[track_caller]
fn check_weathered(report: &Report, how: &[&str]) {
    report.check_ended_well();
    report.check(report.fact("end").is_some(), "it comes to its end");
    report.check(
        report.fact("thread_multiple") == Some("1"),
        "its threads may call MPI",
    );
    let spawned = report.values("spawned");
    report.check(
        spawned.filter(|codes| *codes == "0 0").count() == SPAWNS,
        "every spawn succeeds",
    );
    report.check(report.fact("wrong") == Some("0"), "nothing else is wrong");
    report.check(
        report.fact("read_error").is_none(),
        "no error while reading",
    );
    let number = |fact: &str| -> usize {
        let word = report.fact(fact).and_then(|fact| fact.split(' ').next());
        word.and_then(|word| word.parse().ok()).unwrap_or(0)
    };
    if how.contains(&"disabled") {
        report.check(
            number("cancelled") == SPAWNS,
            "every thread dies of its cancellation, once it takes one",
        );
    } else {
        let storm = report.fact("storm").unwrap_or("").split(", ");
        let counts: Vec<usize> = storm
            .filter_map(|count| count.split(' ').next()?.parse().ok())
            .collect();
        report.check(
            counts.len() == 4 && counts.iter().all(|count| *count >= 10 * SPAWNS),
            "ten signals of each kind a spawn, or more",
        );
    }
    if how.contains(&"forks") {
        report.check(number("forked") >= SPAWNS, "it forked all the while");
    }
}

/// With the library it reads each line, in an interactive session and not. Without it, it does as well where nothing is
/// to be cured; where there is, it is killed, and what it can do is seen of it with nothing to read.
#[track_caller]
fn story(mpi: Mpi, how: &[&str]) {
    if !mpi.is_here() {
        return;
    }
    for interactive in ["0", "1"] {
        let cured = type_along(signals(mpi, how, interactive).library(true));
        check_weathered(&cured, how);
        cured.check_read_all();
        cured.check_no_warning();
        cured.check_has_agent();
    }
    let bare = type_along(signals(mpi, how, "0"));
    if mpi.disease == Disease::Killed {
        bare.check_killed();
        let unread = signals(mpi, how, "0").stdin(Stdin::Null).run();
        check_weathered(&unread, how);
    } else {
        check_weathered(&bare, how);
        bare.check_read_all();
    }
}

tests! {
    story:
    every_spawn_succeeds_in_a_storm_of_signals_under_mpich_4_2_3(MPICH_4_2_3, &[]);
    every_spawn_succeeds_in_a_storm_of_signals_under_mpich_5_0_2(MPICH_5_0_2, &[]);
    every_spawn_succeeds_in_a_storm_of_signals_that_restart_calls(MPICH_4_2_3, &["restart"]);
    every_spawn_succeeds_in_a_storm_of_signals_while_a_thread_forks(MPICH_4_2_3, &["forks"]);
    a_spawn_leaves_a_cancellation_disabled_that_its_thread_has_disabled(MPICH_5_0_2, &["disabled"]);
}
