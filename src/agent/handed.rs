//! What the library hands over to the agent.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use rustix::process::Pid;

use crate::shared::settings::{self, Settings};

/// The library's words.
pub struct Handed {
    pub version: OsString,
    pub program: Option<Pid>,
    pub settings: Settings,
    /// What the program's MPI calls itself, if the library knows.
    pub mpi: Option<String>,
    pub file: OsString,
    pub argv: Vec<OsString>,
}

impl Handed {
    /// `VERSION PROGRAM [NAME=VALUE…] -- FILE ARGV…`: see become_agent in handover.rs.
    pub fn parse(mut words: impl Iterator<Item = OsString>) -> Option<Handed> {
        let version = words.next()?;
        let program = words.next()?.to_str()?.parse().ok().and_then(Pid::from_raw);
        let settings: Vec<_> = words.by_ref().take_while(|word| word != "--").collect();
        let mpi = settings
            .iter()
            .find_map(|word| word.to_str()?.strip_prefix("MPI="));
        let mpi = mpi.map(str::to_owned);
        // The library has complained of what is wrong.
        let (settings, _) = settings::parse(settings.iter().map(|word| word.as_bytes()));
        Some(Handed {
            version,
            program,
            settings,
            mpi,
            file: words.next()?,
            argv: words.collect(),
        })
    }
}
