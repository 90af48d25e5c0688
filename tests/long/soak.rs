//! However often one spawns, every line is read and nothing grows: a thousand spawns, hundreds of programs.

use crate::common::ipython::Kind;
use crate::common::soak::*;
use crate::common::*;

const COUNTS: Counts = Counts {
    spawns: 1000,
    programs: 50,
    groups: 7,
    children: 64,
    left: 100,
    windows: 20,
    alone: true,
    seconds: 1200,
};

soaks!(&COUNTS, #[ignore = "make soak runs it: half an hour"]);
