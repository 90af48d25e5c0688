//! mpiexec is killed at every step of a spawn.

use crate::common::kill_injection::*;
use crate::common::*;

#[test]
#[ignore = "make test-faults runs it"]
fn mpiexec_is_killed_every_10_ms() {
    killed_every(10);
}

#[test]
#[ignore = "make test-faults runs it"]
fn mpiexec_is_killed_after_each_pmi_message() {
    let all = that_are_here(&MPIS).flat_map(killed_after_each_message);
    check(&all.collect::<Vec<_>>());
}
