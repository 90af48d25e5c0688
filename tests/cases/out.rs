//! A person leaves what hangs, and reads what is awaited; what ends, ends quietly: common/stories.rs has what happens.
//! How often it holds, and closed terminals: soak.

use crate::common::ipython::Kind;
use crate::common::stories::*;
use crate::common::*;

tests! {
    tell:
    someone_in_ipython_gets_out_of_everything(&OUT_OF_EVERYTHING, Kind::IPython, &HYDRAS);
    someone_in_python_gets_out_of_everything(&OUT_OF_EVERYTHING, Kind::Python, &HYDRAS);
    someone_at_a_kernel_gets_out_of_everything(&OUT_OF_EVERYTHING, Kind::Kernel, &HYDRAS);
    someone_in_r_gets_out_of_everything(&OUT_OF_EVERYTHING, Kind::R, &HYDRAS);

    someone_in_ipython_who_waits_for_the_dead_is_told(&WAITS_FOR_THE_DEAD, Kind::IPython, &HYDRAS);
    someone_in_python_who_waits_for_the_dead_is_told(&WAITS_FOR_THE_DEAD, Kind::Python, &HYDRAS);
    someone_at_a_kernel_who_waits_for_the_dead_is_told(&WAITS_FOR_THE_DEAD, Kind::Kernel, &HYDRAS);
    someone_in_r_who_waits_for_the_dead_is_told(&WAITS_FOR_THE_DEAD, Kind::R, &HYDRAS);

    children_that_die_under_open_mpi_spare_ipython(&CHILDREN_DIE, Kind::IPython, &[OPEN_MPI]);
    children_that_die_under_open_mpi_spare_python(&CHILDREN_DIE, Kind::Python, &[OPEN_MPI]);
    children_that_die_under_open_mpi_spare_a_kernel(&CHILDREN_DIE, Kind::Kernel, &[OPEN_MPI]);
    children_that_die_under_open_mpi_spare_r(&CHILDREN_DIE, Kind::R, &[OPEN_MPI]);

    someone_who_waits_is_told_after_10_s(&NOTICES, Kind::Python, &HYDRAS);
    // libmpi spins meanwhile, and the agent's part is the same under each MPI.
    someone_who_waits_for_children_is_told_again_after_a_minute(&CHILDREN_HANG_FOR_A_MINUTE, Kind::Python, &[MPICH_5_0_2]);
    someone_who_waits_for_a_launcher_is_told_again_after_a_minute(&LAUNCHER_HANGS_FOR_A_MINUTE, Kind::Python, &[MPICH_5_0_2]);
}

tests! {
    fails_without_the_library:
    without_the_library_ctrl_c_leaves_no_children_that_hang_in_ipython(&CHILDREN_HANG, Kind::IPython, &HYDRAS);
    without_the_library_ctrl_c_leaves_no_children_that_hang_in_python(&CHILDREN_HANG, Kind::Python, &[MPICH_5_0_2]);
    without_the_library_ctrl_c_leaves_no_children_that_hang_in_a_kernel(&CHILDREN_HANG, Kind::Kernel, &[MPICH_5_0_2]);
    without_the_library_ctrl_c_leaves_no_children_that_hang_in_r(&CHILDREN_HANG, Kind::R, &[MPICH_5_0_2]);
    without_the_library_ctrl_c_leaves_no_launcher_that_hangs(&LAUNCHER_HANGS, Kind::Python, &HYDRAS);
    without_the_library_children_that_die_under_open_mpi_end_ipython(&CHILDREN_DIE, Kind::IPython, &[OPEN_MPI]);
    without_the_library_children_that_die_under_open_mpi_end_python(&CHILDREN_DIE, Kind::Python, &[OPEN_MPI]);
    without_the_library_children_that_die_under_open_mpi_end_a_kernel(&CHILDREN_DIE, Kind::Kernel, &[OPEN_MPI]);
    without_the_library_children_that_die_under_open_mpi_end_r(&CHILDREN_DIE, Kind::R, &[OPEN_MPI]);
}

/// A wrapper puts the child into the background, out of the tree of processes, and ends.
#[test]
fn a_child_that_was_reparented_is_waited_for() {
    side_by_side(&HYDRAS, |mpi| {
        let child = mpi.compile("lost_children.c");
        let late = format!(
            "(setsid sh -c 'sleep 4; exec {}' &) >/dev/null 2>&1; sleep 0.1",
            child.display()
        );
        for interactive in ["0", "1"] {
            let program = Program::new(&child)
                .args(["1", "/bin/sh", "-c", &late])
                .under(mpi)
                .env("SPAWNFIX_INTERACTIVE", interactive);
            let mut session = program.library(true).start();
            session.line("typed");
            let report = session.finish();
            report.check(
                report.fact("spawned") == Some("success, a communicator"),
                "the spawn works",
            );
            report.check_has_agent();
            report.check(report.left.is_empty(), "nothing is left behind");
        }
    });
}

#[test]
fn only_a_terminal_is_told_what_is_awaited() {
    side_by_side(&SICK_AND_HEALTHY, only_a_terminal_is_told);
}
