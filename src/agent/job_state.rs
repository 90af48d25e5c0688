//! The states of a job, as a pure function: no process, no socket, no clock.
//!
//! ```text
//!              bridge ready            detach               all replied
//!   Starting ──────────────> Serving ─────────> Detaching ──────────────> Detached
//!      │                        │                   │                        │
//!      │ launcher ended         │ bridge lost       │ bridge lost: Detached  │
//!      v                        v                   │                        │
//!   Gone(Failed)             Broken                 │                        │
//!                               │ launcher ended    │ launcher ended         │ launcher ended
//!                               v                   v                        v
//!                         Gone(Crashed)     Gone(Finished), or Gone(Crashed) if its status is not 0
//!
//!   terminate, in any state: Terminating ── launcher ended ──> Gone(Terminated)
//! ```

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The launcher runs, and its bridge has not connected yet.
    Starting,
    /// The bridge is connected: the job answers requests.
    Serving,
    /// The bridge was asked to finalize. Replies are still to come.
    Detaching,
    /// The bridge has finalized and left. The job lasts as long as its children.
    Detached,
    /// The bridge has left before it finalized: a process of the job has crashed, or the launcher was killed. The
    /// launcher is expected to end soon.
    Broken,
    /// The job was asked to end.
    Terminating,
    /// The job has ended.
    Gone(End),
}

/// How a job has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its launcher ended before a bridge connected. Another launcher may serve.
    Failed,
    /// All its processes ended well.
    Finished,
    /// A process crashed, called MPI_Abort or exited without MPI_Finalize; or the launcher was killed.
    Crashed,
    /// The agent ended it.
    Terminated,
}

/// What happens to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The bridge has connected, and has a process manager.
    BridgeReady,
    /// The bridge is to finalize: the job no longer needs it.
    Detach,
    /// No reply is outstanding.
    AllReplied,
    /// The bridge has closed its connection.
    BridgeLost,
    /// The job is to end.
    Terminate,
    /// The launcher has ended.
    LauncherEnded {
        /// Whether its exit status was 0.
        success: bool,
    },
}

impl State {
    /// The transition table. An event that means nothing in this state leaves it as it is.
    pub fn next(self, event: Event) -> State {
        use Event::{AllReplied, BridgeLost, BridgeReady, Detach, LauncherEnded, Terminate};
        use State::{Broken, Detached, Detaching, Gone, Serving, Starting, Terminating};
        match (self, event) {
            (Gone(_), _) => self,

            (Starting, LauncherEnded { .. }) => Gone(End::Failed),
            (Broken, LauncherEnded { .. }) => Gone(End::Crashed),
            (Terminating, LauncherEnded { .. }) => Gone(End::Terminated),
            (_, LauncherEnded { success: true }) => Gone(End::Finished),
            (_, LauncherEnded { success: false }) => Gone(End::Crashed),

            (_, Terminate) => Terminating,

            (Starting, BridgeReady) => Serving,
            // There is no bridge that could finalize.
            (Starting, Detach) => Terminating,
            (Serving, Detach) => Detaching,
            (Serving, BridgeLost) => Broken,
            (Detaching, AllReplied | BridgeLost) => Detached,

            _ => self,
        }
    }

    /// Whether the job can answer requests, now or when its bridge has connected.
    pub fn takes_requests(self) -> bool {
        matches!(self, State::Starting | State::Serving)
    }

    /// Whether the job has a connection: to its bridge, or a port at which the bridge is expected.
    pub fn is_connected(self) -> bool {
        matches!(self, State::Starting | State::Serving | State::Detaching)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDED: Event = Event::LauncherEnded { success: true };
    const ENDED_BADLY: Event = Event::LauncherEnded { success: false };

    /// Where these events lead from the start.
    fn after(events: &[Event]) -> State {
        events
            .iter()
            .fold(State::Starting, |at, event| at.next(*event))
    }

    #[test]
    fn a_job_that_serves_and_is_detached_ends_well() {
        use Event::{AllReplied, BridgeReady, Detach};
        assert_eq!(after(&[BridgeReady]), State::Serving);
        // Replies come all the time.
        assert_eq!(after(&[BridgeReady, AllReplied]), State::Serving);
        assert_eq!(after(&[BridgeReady, Detach]), State::Detaching);
        assert_eq!(after(&[BridgeReady, Detach, Detach]), State::Detaching);
        let detached = [BridgeReady, Detach, AllReplied];
        assert_eq!(after(&detached), State::Detached);
        assert_eq!(after(&detached).next(ENDED), State::Gone(End::Finished));
        assert_eq!(after(&[BridgeReady, ENDED]), State::Gone(End::Finished));
    }

    #[test]
    fn a_bridge_that_leaves_before_it_finalized_is_a_crash() {
        use Event::{BridgeLost, BridgeReady, Detach};
        assert_eq!(after(&[BridgeReady, BridgeLost]), State::Broken);
        let crashed = State::Gone(End::Crashed);
        // Whatever its launcher says of it.
        assert_eq!(after(&[BridgeReady, BridgeLost, ENDED]), crashed);
        assert_eq!(after(&[BridgeReady, BridgeLost, ENDED_BADLY]), crashed);
        assert_eq!(after(&[BridgeReady, ENDED_BADLY]), crashed);
        assert_eq!(after(&[BridgeReady, BridgeLost, Detach]), State::Broken);
        // After it was asked to, it may leave.
        assert_eq!(after(&[BridgeReady, Detach, BridgeLost]), State::Detached);
        assert_eq!(
            after(&[BridgeReady, Detach, BridgeLost, ENDED_BADLY]),
            crashed
        );
    }

    #[test]
    fn a_launcher_that_ends_before_its_bridge_connected_has_failed() {
        assert_eq!(after(&[ENDED]), State::Gone(End::Failed));
        assert_eq!(after(&[ENDED_BADLY]), State::Gone(End::Failed));
        assert_eq!(after(&[Event::BridgeLost]), State::Starting);
        assert_eq!(after(&[Event::AllReplied]), State::Starting);
        assert_eq!(after(&[Event::Detach]), State::Terminating);
    }

    #[test]
    fn a_job_that_the_agent_ends_is_no_crash() {
        use Event::{AllReplied, BridgeLost, BridgeReady, Detach, Terminate};
        for before in [
            &[][..],
            &[BridgeReady],
            &[BridgeReady, Detach],
            &[BridgeReady, Detach, AllReplied],
            &[BridgeReady, BridgeLost],
            &[Terminate],
        ] {
            let terminating = after(before).next(Terminate);
            assert_eq!(terminating, State::Terminating, "{before:?}");
            for event in [BridgeReady, Detach, AllReplied, BridgeLost] {
                assert_eq!(terminating.next(event), State::Terminating, "{event:?}");
            }
            for ended in [ENDED, ENDED_BADLY] {
                assert_eq!(terminating.next(ended), State::Gone(End::Terminated));
            }
        }
    }

    #[test]
    fn nothing_happens_to_a_job_that_has_ended() {
        use Event::{AllReplied, BridgeLost, BridgeReady, Detach, Terminate};
        for end in [End::Failed, End::Finished, End::Crashed, End::Terminated] {
            for event in [
                BridgeReady,
                Detach,
                AllReplied,
                BridgeLost,
                Terminate,
                ENDED,
            ] {
                assert_eq!(State::Gone(end).next(event), State::Gone(end));
            }
        }
    }

    #[test]
    fn requests_and_connections_are_of_some_states() {
        use State::{Broken, Detached, Detaching, Gone, Serving, Starting, Terminating};
        let of = |state: State| (state.takes_requests(), state.is_connected());
        assert_eq!([Starting, Serving].map(of), [(true, true); 2]);
        assert_eq!(of(Detaching), (false, true));
        let others = [Detached, Broken, Terminating, Gone(End::Finished)];
        assert_eq!(others.map(of), [(false, false); 4]);
    }
}
