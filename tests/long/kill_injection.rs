//! mpiexec and the agent are killed at every step of a spawn.

use crate::common::kill_injection::*;
use crate::common::*;

#[test]
#[ignore = "make test-faults runs it"]
fn mpiexec_is_killed_every_10_ms() {
    killed_every(10, Victim::Mpiexec);
}

#[test]
#[ignore = "make test-faults runs it"]
fn mpiexec_is_killed_after_each_pmi_message() {
    let all = that_are_here(&MPIS).flat_map(killed_after_each_message);
    check(&all.collect::<Vec<_>>());
}

#[test]
#[ignore = "make test-faults runs it"]
fn the_agent_is_killed_every_20_ms() {
    killed_every(20, Victim::Launched);
}
