//! A spawn that the process manager has answered: libmpi now waits for the children to connect, for ever if need be.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::attempts;
use crate::agent::job::{Asker, Job, Task};
use crate::agent::placeholder;
use crate::agent::program::Program;
use crate::mpi::mpiexec::Candidate;
use crate::pmi::message::Message;
use crate::procs;
use crate::shared::paths;
use crate::shared::spawn_page::Calls;

/// How long nothing may be left of the children before they are taken for lost: mpiexec may not have started them yet,
/// or the program not have got round to what they had said.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often they are looked for.
const REST: Duration = Duration::from_millis(500);

pub struct Connecting {
    calls: &'static Calls,
    /// The call that the program was in when its spawn was answered.
    call: u32,
    question: Message,
    /// The job that answered. `None`: it ended with its agent.
    job: Option<usize>,
    purpose: String,
    /// What launched the children.
    launcher: Option<PathBuf>,
    looked: Instant,
    /// Since when nobody was seen.
    nobody: Option<Instant>,
}

impl Connecting {
    /// This job has answered this spawn. `None`: nobody can tell in which call the program is.
    pub fn new(calls: &'static Calls, question: Message, job: &Job) -> Option<Connecting> {
        Some(Connecting {
            job: Some(job.task.number),
            purpose: format!("job {}, {}", job.task.number, job.task.purpose),
            launcher: Some(job.launcher.clone()),
            ..Connecting::inherited(calls, question)?
        })
    }

    /// An agent that is dead had answered this spawn, or was about to. `None`: the program is in no call any more.
    pub fn inherited(calls: &'static Calls, question: Message) -> Option<Connecting> {
        Some(Connecting {
            calls,
            call: calls.only_one()?,
            question,
            job: None,
            purpose: "a spawn".to_owned(),
            launcher: None,
            looked: Instant::now(),
            nobody: None,
        })
    }

    /// Whether the program has come back from that call, or is in others as well.
    pub fn is_over(&self) -> bool {
        self.calls.only_one() != Some(self.call)
    }

    /// Whether the children have ended. Some of another spawn that are in the same job hide that.
    pub fn is_lost(&mut self, all: &[Job], program: &Program) -> bool {
        if self.looked.elapsed() < REST {
            return false;
        }
        self.looked = Instant::now();
        let job = all.iter().find(|job| Some(job.task.number) == self.job);
        let somebody = job.is_some_and(|job| !job.has_nobody(&procs::all()));
        if somebody || program.is_stopped() {
            self.nobody = None;
            return false;
        }
        self.nobody.get_or_insert_with(Instant::now).elapsed() >= PATIENCE
    }

    /// The job by which a stand-in for them connects. `None`: there can't be one.
    pub fn stand_in(&self, number: usize, program: &Program) -> Option<Task> {
        let purpose = &self.purpose;
        let files = paths::own_by_name().ok().zip(program.libmpi());
        let Some((own, libmpi)) = files else {
            log::error!(
                "{purpose}: the children have ended, and had not connected to the program, which waits for them for ever"
            );
            return None;
        };
        log::error!(
            "{purpose}: the children have ended, and had not connected to the program; the spawn fails"
        );
        self.calls.fail(self.call);
        let question = placeholder::instead_of(&self.question, &own, &libmpi);
        let untried = match &self.launcher {
            Some(file) => vec![Candidate {
                file: file.clone(),
                why: "which has launched the children",
            }],
            None => attempts::look_for_launchers(program).candidates,
        };
        Some(Task {
            number,
            purpose: "a stand-in for children".to_owned(),
            of_its_own: true,
            stand_in: true,
            questions: vec![(question, Asker::Agent)],
            untried: untried.into_iter(),
        })
    }
}
