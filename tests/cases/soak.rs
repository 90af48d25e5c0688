//! However often one spawns, briefly: tests/long/soak.rs takes half an hour.

use crate::common::soak::*;
use crate::common::*;

const COUNTS: Counts = Counts {
    spawns: 32,
    programs: 4,
    groups: 1,
    children: 16,
    seconds: 120,
};

#[test]
fn without_the_library_many_spawns_need_an_empty_stdin() {
    without_the_library(&COUNTS);
}

tests! {
    many_spawns:
    an_application_spawns_on_and_on_and_loses_no_line_under_mpich_4_2_3(&COUNTS, MPICH_4_2_3, "0");
    a_session_spawns_on_and_on_and_loses_no_line_under_mpich_4_2_3(&COUNTS, MPICH_4_2_3, "1");
    an_application_spawns_on_and_on_and_loses_no_line_under_mpich_5_0_2(&COUNTS, MPICH_5_0_2, "0");
    a_session_spawns_on_and_on_and_loses_no_line_under_mpich_5_0_2(&COUNTS, MPICH_5_0_2, "1");
}

#[test]
fn many_applications_one_after_the_other_lose_no_line() {
    programs(&COUNTS, COUNTS.programs, 1);
}

#[test]
fn eight_applications_at_a_time_lose_no_line() {
    programs(&COUNTS, 8 * COUNTS.groups, 8);
}

#[test]
fn an_application_with_many_children_at_once_loses_no_line() {
    many_children(&COUNTS);
}
