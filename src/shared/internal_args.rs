//! How the library calls the agent, and where library and command find each other.
//!
//! `spawnfix --agent VERSION PID MPI [NAME=VALUE…] -- FILE ARGV…`: the library's version, the application's process id,
//! what its MPI calls itself (empty: not known), the settings as they were when the application was loaded, and the
//! launch, as libmpi would have executed it. Built by `after_fork` in the library, where nothing may be allocated;
//! parsed here.

use std::ffi::{CStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::shared::settings::{self, Settings};

/// The option by which the command is the agent.
pub const AGENT: &CStr = c"--agent";

/// What stands between the settings and the launch.
pub const END_OF_SETTINGS: &CStr = c"--";

/// This version of library and command.
pub const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!(),
    };

/// The section of the library's file in which its version stands: an ELF note, whose description is the version.
pub const VERSION_SECTION: &str = if cfg!(target_vendor = "apple") {
    "__spawnfix"
} else {
    ".note.spawnfix"
};

/// Where the library looks for the command, from its own directory. Where the installer chose a LIBDIR, the last is a
/// link.
pub const COMMAND_PLACES: [&str; 4] = [
    "spawnfix",
    "../bin/spawnfix",
    "../../bin/spawnfix",
    "spawnfix/spawnfix",
];

/// Where the command looks for the library, from its own directory. Where the installer chose a LIBDIR, the third is a
/// link; the last is where cargo builds both.
pub const LIBRARY_PLACES: [&str; 4] = ["../lib", "../lib64", "../lib/spawnfix", "."];

/// What the agent was called with.
pub struct AgentArgs {
    /// The library's version.
    pub version: OsString,
    /// The application's process id.
    pub application: i32,
    /// What the application's MPI calls itself, if the library knows.
    pub mpi: Option<String>,
    /// The settings at the application's start.
    pub settings: Settings,
    /// The launcher that libmpi was about to execute.
    pub file: OsString,
    /// Its arguments, its name among them.
    pub argv: Vec<OsString>,
}

impl AgentArgs {
    /// Parses what stands behind [`AGENT`]. `None`: the library did not write this.
    pub fn parse(mut words: impl Iterator<Item = OsString>) -> Option<AgentArgs> {
        let version = words.next()?;
        let application = words.next()?.to_str()?.parse().ok()?;
        let mpi = words.next()?.into_string().ok()?;
        let end = END_OF_SETTINGS.to_bytes();
        let settings: Vec<_> = words
            .by_ref()
            .take_while(|word| word.as_bytes() != end)
            .collect();
        // The library has complained of values that can't be used.
        let (settings, _) = settings::parse(settings.iter().map(|word| word.as_bytes()));
        Some(AgentArgs {
            version,
            application,
            mpi: Some(mpi).filter(|mpi| !mpi.is_empty()),
            settings,
            file: words.next()?,
            argv: words.collect(),
        })
    }
}
