//! Every system call of the forked child, the agent and the bridge fails in turn.

use crate::common::syscall_faults::*;
use crate::common::*;

/// How wide a step through the agent's table is: FAULTS_EVERY=1 is all of it, three minutes for each MPI.
fn width() -> usize {
    let every = std::env::var("FAULTS_EVERY").map_or(Ok(15), |every| every.parse());
    every.expect("FAULTS_EVERY is a number")
}

#[test]
#[ignore = "make test-faults runs it"]
fn each_fifteenth_call_of_the_agent_fails_in_turn_under_mpich_4_2_3() {
    failing_calls(MPICH_4_2_3, Whom::Agent, width());
}

#[test]
#[ignore = "make test-faults runs it"]
fn each_fifteenth_call_of_the_agent_fails_in_turn_under_mpich_5_0_2() {
    failing_calls(MPICH_5_0_2, Whom::Agent, width());
}

#[test]
#[ignore = "make test-faults runs it"]
fn every_call_of_the_bridge_fails_in_turn() {
    failing_calls(MPICH_4_2_3, Whom::Bridge, 1);
    failing_calls(MPICH_5_0_2, Whom::Bridge, 1);
}

#[test]
#[ignore = "make test-faults runs it"]
fn the_bridge_is_killed_at_each_call() {
    for mpi in [MPICH_4_2_3, MPICH_5_0_2] {
        let kill = |_: &str| vec!["signal=KILL".to_owned()];
        at_calls(" killed", mpi, Whom::Bridge, 1, kill);
    }
}

#[test]
#[ignore = "make test-faults runs it"]
fn every_call_of_the_forked_child_fails_in_turn() {
    for mpi in [MPICH_4_2_3, MPICH_5_0_2] {
        failing_calls(mpi, Whom::Child, 1);
        failing_calls(mpi, Whom::LoneChild, 1);
    }
}
