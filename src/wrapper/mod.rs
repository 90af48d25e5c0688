//! `spawnfix COMMAND`.

pub mod options;
pub mod preload_env;
pub mod run;
pub mod startup_state;
