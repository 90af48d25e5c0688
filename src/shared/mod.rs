//! What library and command both use.

pub mod logging;
pub mod paths;
pub mod settings;
pub mod spawn_page;
pub mod stdin;
pub mod stdio;
