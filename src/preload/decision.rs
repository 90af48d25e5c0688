//! What to do about a spawn: the whole table, and nothing but the table.

use std::fmt;

use crate::mpi::{Family, Mpi};
use crate::shared::settings::GuardSetting;
use crate::shared::stdio::Stdin;

/// What a decision rests on, and what its log line says.
#[derive(Debug)]
pub struct Facts {
    /// SPAWNFIX_GUARD.
    pub setting: GuardSetting,
    /// The variable by which a process manager shows that it started the application, if one did.
    pub manager: Option<&'static str>,
    /// The application's MPI.
    pub mpi: Mpi,
    /// What fd 0 is.
    pub stdin: Stdin,
}

/// What is done about a spawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nothing.
    None,
    /// Nothing in the application; the agent is executed in the launcher's place.
    Launch,
    /// The same, and fd 0 is replaced around the call.
    Call,
}

/// The table: a guard, and why this one.
pub fn decide(facts: &Facts) -> (Guard, &'static str) {
    use GuardSetting::{Auto, Call, Launch, Off};
    let is_known = facts.mpi.family != Family::Unknown;
    match (facts.setting, facts.manager) {
        (Off, _) => (Guard::None, "SPAWNFIX_GUARD=off"),
        (_, Some(manager)) if facts.mpi.family.uses_manager(manager) => (
            Guard::None,
            "a process manager started this application, so MPI starts no launcher",
        ),
        (Launch, _) => (Guard::Launch, "SPAWNFIX_GUARD=launch"),
        (Call, _) => (Guard::Call, "SPAWNFIX_GUARD=call"),
        (Auto, _) if is_known => (
            Guard::Launch,
            "the launcher of this MPI would share the application's terminal and its end",
        ),
        (Auto, _) => (
            Guard::Call,
            "spawnfix does not know this MPI: stdin is replaced around the call",
        ),
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, ", self.mpi)?;
        match self.manager {
            Some(variable) => write!(f, "under a process manager ({variable} is set)")?,
            None => write!(f, "singleton")?,
        }
        write!(f, ", stdin is {}", self.stdin)
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Guard::None => "none",
            Guard::Launch => "launch",
            Guard::Call => "call",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(setting: GuardSetting, manager: Option<&'static str>, library: &str) -> Facts {
        Facts {
            setting,
            manager,
            mpi: Mpi::from_version_text(library.as_bytes()),
            stdin: Stdin::Terminal,
        }
    }

    fn guard(setting: GuardSetting, manager: Option<&'static str>, library: &str) -> Guard {
        decide(&facts(setting, manager, library)).0
    }

    #[test]
    fn auto_goes_by_the_mpi() {
        let auto = |library| guard(GuardSetting::Auto, None, library);
        assert_eq!(auto("MPICH Version:\t4.2.3\n"), Guard::Launch);
        assert_eq!(
            auto("Intel(R) MPI Library 2021.13 for Linux* OS\n"),
            Guard::Launch
        );
        assert_eq!(auto("MVAPICH2 Version      :\t2.3.7\n"), Guard::Launch);
        assert_eq!(auto("Open MPI v5.0.11, package: …"), Guard::Launch);
        assert_eq!(auto("Open MPI v4.1.8, package: …"), Guard::Launch);
        assert_eq!(auto("Somebody's MPI 1.0"), Guard::Call);
        assert_eq!(auto(""), Guard::Call);
    }

    #[test]
    fn a_set_guard_holds_for_every_mpi() {
        for library in [
            "MPICH Version:\t4.2.3\n",
            "Open MPI v5.0.11",
            "Somebody's MPI 1.0",
        ] {
            assert_eq!(guard(GuardSetting::Launch, None, library), Guard::Launch);
            assert_eq!(guard(GuardSetting::Call, None, library), Guard::Call);
            assert_eq!(guard(GuardSetting::Off, None, library), Guard::None);
        }
    }

    #[test]
    fn under_a_process_manager_nothing_is_done() {
        use GuardSetting::*;
        for setting in [Auto, Launch, Call, Off] {
            assert_eq!(
                guard(setting, Some("PMI_RANK"), "MPICH Version:\t4.2.3\n"),
                Guard::None
            );
        }
    }

    #[test]
    fn mpich_may_not_use_a_pmix_server() {
        let guard = |library| guard(GuardSetting::Auto, Some("PMIX_RANK"), library);
        assert_eq!(guard("MPICH Version:\t4.2.3\n"), Guard::Launch);
        assert_eq!(guard("Open MPI v5.0.11, package: …"), Guard::None);
    }

    #[test]
    fn the_line_says_what_a_bug_report_needs() {
        let facts = facts(
            GuardSetting::Auto,
            None,
            "MPICH Version:\t4.2.3\nMPICH Release date: …",
        );
        assert_eq!(
            facts.to_string(),
            "MPICH 4.2.3, singleton, stdin is a terminal"
        );
        assert_eq!(decide(&facts).0.to_string(), "launch");
    }
}
