//! What reads words from outside, as the fuzzer reaches it: the modules of library and command themselves.

#![allow(dead_code, missing_docs)]

#[path = "../../../src/interactive/mod.rs"]
pub mod interactive;
#[path = "../../../src/mpi/mod.rs"]
pub mod mpi;
#[path = "../../../src/output.rs"]
mod output;
#[path = "../../../src/pmi/mod.rs"]
pub mod pmi;
#[path = "../../../src/preload_list.rs"]
pub mod preload_list;
#[path = "../../../src/procs/mod.rs"]
pub mod procs;
#[path = "../../../src/shared/mod.rs"]
pub mod shared;

#[path = "../../../src/preload/own_path.rs"]
pub mod own_path;
#[path = "../../../src/preload/stack_buffer.rs"]
pub mod stack_buffer;
/// Where these two look for each other.
pub mod preload {
    pub use crate::{own_path, stack_buffer};
}
#[path = "../../../src/wrapper/preload_env.rs"]
pub mod preload_env;
/// What preload_env.rs asks of this process, which the lists of libraries do not depend on.
pub mod wrapper {
    pub mod startup_state {
        pub fn is_ignored(_signal: i32) -> bool {
            false
        }
    }
}

/// Whether this text can neither drive a terminal nor begin a line of its own.
pub fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}
