//! What library and command both use.

pub mod child_words;
pub mod dispositions;
pub mod internal_args;
pub mod logging;
#[cfg(target_vendor = "apple")]
pub mod macos;
pub mod paths;
pub mod settings;
pub mod spawn_page;
pub mod stdio;
