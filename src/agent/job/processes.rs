//! A job's processes on this host: which are children, and which the launcher's own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::{Job, Link};
use crate::agent::job_state::State;
use crate::mpi::Family;
use crate::mpi::mpiexec::family_of;
use crate::procs::{self, Process};

/// How long mpiexec may take to find that a process which has ended had crashed.
const CRASH_REPORT_TIME: Duration = Duration::from_secs(1);
/// Whether this is a child, or a process of one: hydra's proxies and Intel's start children of a spawn with this variable.
pub fn is_child(process: &Process) -> bool {
    procs::has_variable(process.pid, b"PMI_SPAWNED=1")
}

impl Job {
    /// Its processes on this host, without the launcher's own and the bridge: the descendants of the launcher, or, where
    /// there are none, whatever has inherited the job's mark. `None`: that can't be known.
    pub fn children(&self, all: &HashMap<Pid, Process>) -> Option<Vec<Process>> {
        let Link::Bridge {
            pid: Some(bridge), ..
        } = self.link
        else {
            return None;
        };
        let own = self.own_processes(all, bridge);
        if !self.expected.is_empty() || !own.contains(&self.pid) {
            return None;
        }
        let mut children = procs::descendants(all, self.pid);
        children.retain(|process| !own.contains(&process.pid));
        if children.is_empty() {
            children = self.marked(all);
            children.retain(|process| !own.contains(&process.pid));
        }
        Some(children)
    }

    /// The bridge and its ancestors.
    fn own_processes(&self, all: &HashMap<Pid, Process>, bridge: Pid) -> Vec<Pid> {
        let ancestors = procs::ancestors(all, bridge);
        std::iter::once(bridge).chain(ancestors).collect()
    }

    /// The processes that have inherited the job's mark.
    fn marked(&self, all: &HashMap<Pid, Process>) -> Vec<Process> {
        let user = rustix::process::geteuid().as_raw();
        let own = all.values().filter(|process| process.user == user);
        own.filter(|process| procs::has_variable(process.pid, self.mark.as_bytes()))
            .copied()
            .collect()
    }

    /// Whether only the launcher's own processes and the bridge are left of it.
    pub fn has_no_children(&self, all: &HashMap<Pid, Process>) -> bool {
        self.children(all)
            .is_some_and(|children| children.is_empty())
    }

    /// Whether its launcher is a hydra that runs though it has started no proxy, as one whose srun is missing does. Of a
    /// script that can't be known.
    pub fn has_started_nothing(&self) -> bool {
        let all = procs::all();
        let is_own = |process: &Process| process.pid == self.pid;
        procs::descendants(&all, self.pid).is_empty()
            && self.marked(&all).iter().all(is_own)
            && procs::executable(self.pid)
                .and_then(|file| family_of(&file))
                .is_some_and(Family::is_mpich_kin)
    }

    /// Detaches it if it has had no children for a while: nothing more will come of it. Just after their end mpiexec may
    /// still report that one of them crashed. A job on other hosts can't be seen so well, and stays until the application
    /// ends.
    pub fn detach_if_idle(&mut self, all: &HashMap<Pid, Process>) {
        if !self.has_no_children(all) {
            self.idle = None;
        } else if self.has_been_idle() {
            self.detach();
        } else {
            self.idle.get_or_insert_with(Instant::now);
        }
    }

    /// Whether it was seen idle, and is to be looked at again.
    pub fn seems_idle(&self) -> bool {
        self.idle.is_some() && self.state == State::Serving
    }

    /// Whether that was long enough ago.
    pub fn has_been_idle(&self) -> bool {
        self.idle
            .is_some_and(|since| since.elapsed() > CRASH_REPORT_TIME)
    }
}
