//! A job's processes on this host: which are children, and which the launcher's own.

use std::collections::HashMap;

use rustix::process::Pid;

use crate::mpi::Family;
use crate::mpi::mpiexec::family_of;
use crate::procs::{self, Process};

/// Where a job's processes are found.
pub struct Processes {
    pub launcher: Pid,
    /// The bridge, if it is on this host.
    pub bridge: Option<Pid>,
    /// The variable that the job's processes inherit: it marks those that the tree of processes does not show.
    pub mark: String,
}

impl Processes {
    /// All but the launcher's own ancestors of the bridge, and the bridge: the descendants of the launcher, or, where there
    /// are none, whatever has inherited the job's mark. `None`: that can't be known.
    pub fn children(&self, all: &HashMap<Pid, Process>) -> Option<Vec<Process>> {
        let bridge = self.bridge?;
        let own: Vec<Pid> = std::iter::once(bridge)
            .chain(procs::ancestors(all, bridge))
            .collect();
        if !own.contains(&self.launcher) {
            return None;
        }
        let mut children = procs::descendants(all, self.launcher);
        children.retain(|process| !own.contains(&process.pid));
        if children.is_empty() {
            children = self.marked(all);
            children.retain(|process| !own.contains(&process.pid));
        }
        Some(children)
    }

    /// The processes that have inherited the job's mark.
    fn marked(&self, all: &HashMap<Pid, Process>) -> Vec<Process> {
        let user = rustix::process::geteuid().as_raw();
        let own = all.values().filter(|process| process.user == user);
        own.filter(|process| procs::has_variable(process.pid, self.mark.as_bytes()))
            .copied()
            .collect()
    }

    /// Whether the launcher is a hydra that runs though it has started no proxy, as one whose srun is missing does. Of a
    /// script that can't be known.
    pub fn has_started_nothing(&self) -> bool {
        let all = procs::all();
        let is_launcher = |process: &Process| process.pid == self.launcher;
        procs::descendants(&all, self.launcher).is_empty()
            && self.marked(&all).iter().all(is_launcher)
            && procs::executable(self.launcher)
                .and_then(|file| family_of(&file))
                .is_some_and(Family::is_mpich_kin)
    }
}

/// Whether this is a child, or a process of one: hydra's proxies and Intel's start children of a spawn with this variable.
pub fn is_child(process: &Process) -> bool {
    procs::has_variable(process.pid, b"PMI_SPAWNED=1")
}
