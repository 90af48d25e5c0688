//! mpiexec is killed now and then: tests/long/kill_injection.rs does it at every step of a spawn.

use std::thread;
use std::time::Duration;

use crate::common::kill_injection::*;
use crate::common::*;

#[test]
fn mpiexec_is_killed_now_and_then() {
    let times = |times: &[u64]| -> Vec<_> {
        let times = times.iter().copied().map(Duration::from_millis);
        times.map(When::After).collect()
    };
    let (few, more) = (times(&[100, 200]), times(&[0, 30, 60, 300]));
    let cases = [(MPICH_4_2_3, &more), (INTEL_MPI, &more)];
    thread::scope(|scope| {
        let all = cases.map(|(mpi, more)| {
            let few = &few;
            scope.spawn(move || match mpi.is_here() {
                true => killed(mpi, few, more),
                false => Vec::new(),
            })
        });
        all.into_iter().for_each(|wrongs| check(&outcome(wrongs)));
    });
}
