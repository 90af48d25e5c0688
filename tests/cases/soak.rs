//! However often one spawns, briefly: tests/long/soak.rs takes half an hour.

use crate::common::ipython::Kind;
use crate::common::soak::*;
use crate::common::*;

const COUNTS: Counts = Counts {
    spawns: 32,
    programs: 4,
    groups: 1,
    children: 16,
    left: 12,
    windows: 1,
    alone: false,
    seconds: 120,
};

soaks!(&COUNTS);
