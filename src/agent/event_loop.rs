//! One life of the agent: it waits for the program, its jobs and signals, and attends to each, until all have ended.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use super::app_connection::Client;
use super::attempts::Attempts;
use super::jobs::{GRACE, Jobs};
use super::standby::Role;
use crate::agent::patient;
use crate::agent::program::Program;
use crate::agent::signals::Signals;
use crate::pmi::message::{Message, Request};
use crate::pmi::server::Answers;

/// How often what sends no word of itself is looked at, while there is such a thing.
const TICK: Duration = Duration::from_millis(100);
/// How long a program's MPI_Finalize may wait for its jobs to end under Slurm.
const PARTING: Duration = Duration::from_secs(1);

pub struct Agent {
    client: Client,
    answers: Answers,
    jobs: Jobs,
    signals: Signals,
    /// Since when `finalize` waits for its answer.
    parting: Option<Instant>,
    /// When the terminal was closed.
    hung_up: Option<Instant>,
}

impl Agent {
    /// Connects to the program, serves it until it and its jobs have ended, and ends. If it is killed, its standby does
    /// all that in its place.
    ///
    /// # Errors
    /// The program does not wait at this port, or is gone.
    pub fn live(program: Program, port: u16, shell: bool, attempts: Attempts) -> io::Result<()> {
        // Whatever is missing: the program waits for just this, and nobody else can tell it that there is nothing.
        let signals = patient::open(Signals::new, || !program.is_gone())?;
        let mut jobs = Jobs::new(attempts);
        // At the program's next spawn there is nothing left to be found.
        jobs.find_calls(&program);
        let (client, role) = Client::connect(program, port, shell, true)?;
        let mut agent = Agent {
            answers: Answers::new(client.subversion),
            client,
            jobs,
            signals,
            parting: None,
            hung_up: None,
        };
        if let Some(Role::Successor) = role {
            agent.take_over();
        }
        agent.run();
        role.into_iter().for_each(Role::dismiss);
        Ok(())
    }

    /// In a standby, whose agent is dead. The jobs have ended with it.
    fn take_over(&mut self) {
        let program = &self.client.program;
        if program.is_gone() {
            return;
        }
        self.client.finalized = self.client.had_finalized();
        if self.client.had_children() && !self.client.shell && !self.client.finalized {
            log::error!("the agent of process {} was killed", program.pid);
            // As where mpiexec was killed: MPI's own rule.
            self.client.end_program();
            return;
        }
        log::error!(
            "the agent of process {} was killed: this process takes its place; what was spawned has ended with it",
            program.pid
        );
        // What came for the agent.
        let _ = self.signals.heard();
        self.jobs.find_calls(&self.client.program);
        let last = self.client.recover();
        self.answers = Answers::new(self.client.subversion);
        let Some((message, answered)) = last else {
            return;
        };
        match Request::of(&message) {
            Request::Spawn => {
                self.jobs.inherit(message.clone());
                if !answered {
                    let failure = Request::Spawn.failure("agent_killed");
                    self.client.answer(&failure.to(&message));
                }
            }
            _ if answered => {}
            _ => self.serve(message),
        }
    }

    /// Serves until the program and its jobs have ended.
    fn run(&mut self) {
        // What came together with the greeting is here already.
        self.serve_program();
        while !(self.client.gone && self.jobs.is_empty()) {
            self.wait();
            self.hear_signals();
            self.jobs.reap();
            self.serve_program();
            self.jobs.look_after(&mut self.client);
            self.part();
            if !self.client.gone && self.client.program.is_gone() {
                self.program_ended();
            }
            // Intel's libmpi survives the signal, and waits in MPI_Finalize for children that are gone. Without us the
            // program would have been killed at once.
            if !self.client.gone && self.hung_up.is_some_and(|since| since.elapsed() > GRACE) {
                self.client.end_program();
            }
        }
    }

    /// Answers the program's `finalize`. In a batch job, the program's end may be all that Slurm waits for: it would
    /// cancel the job steps in which the launchers end just then, and say so.
    fn part(&mut self) {
        let patience = match std::env::var_os("SLURM_JOB_ID") {
            Some(_) if !self.jobs.is_empty() => PARTING,
            _ => Duration::ZERO,
        };
        if self
            .parting
            .is_some_and(|since| since.elapsed() >= patience)
        {
            self.parting = None;
            self.client.answer(&Request::Finalize.success(""));
        }
    }

    /// Waits until something happens, and attends to the jobs' sockets.
    fn wait(&mut self) {
        let connection = self.client.fd();
        let end = self.client.program.end().filter(|_| !self.client.gone);
        let sockets = self.jobs.sockets();
        let watched = connection
            .into_iter()
            .chain(sockets.iter().flatten().copied());
        let watched = watched.chain(end).chain([self.signals.fd()]);
        let mut fds: Vec<_> = watched
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let look = self.jobs.are_restless()
            || self.parting.is_some()
            || (end.is_none() || self.hung_up.is_some()) && !self.client.gone;
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(TICK.subsec_nanos()),
        };
        // Interrupted is as good as ready. Without memory there is nothing to do but to wait for some.
        if poll(&mut fds, look.then_some(&tick)) == Err(Errno::NOMEM) {
            thread::sleep(TICK);
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let heard = connection.is_some() && ready.next() == Some(true);
        let ready: Vec<Vec<bool>> = sockets
            .iter()
            .map(|sockets| ready.by_ref().take(sockets.len()).collect())
            .collect();
        drop(fds);
        drop(sockets);
        if heard {
            self.client.hear();
        }
        self.jobs.attend(&ready, &mut self.client);
    }

    /// Answers the program, question by question: a later one waits for a job's answer to an earlier one.
    fn serve_program(&mut self) {
        while !self.jobs.has_question() {
            let Some(message) = self.client.next() else {
                return;
            };
            self.serve(message);
        }
    }

    fn serve(&mut self, message: Message) {
        let request = Request::of(&message);
        match request {
            // A greeting, which its agent did not live to hear.
            _ if message.command() == b"singinit" => {}
            Request::Finalize => {
                self.client.finalizes();
                self.jobs.let_serving_go();
                self.parting = Some(Instant::now());
            }
            Request::Abort => {
                log::info!("the program aborts");
                self.jobs.abort(&message);
            }
            _ => match self.answers.answer(request) {
                Some(answer) => self.client.answer(&answer.to(&message)),
                None => self.jobs.ask(message, &mut self.client),
            },
        }
    }

    /// The program has ended. Without MPI_Finalize, its jobs end with it.
    fn program_ended(&mut self) {
        self.client.ended();
        self.jobs.forget_question();
        if self.client.finalized {
            log::info!(
                "the program has ended, after MPI_Finalize: what it spawned is free to go on"
            );
            self.jobs.let_go();
        } else {
            log::info!("the program has ended without MPI_Finalize: its jobs end");
            self.jobs.terminate();
        }
    }

    /// What came from the terminal, or from whoever signals the program's process group, or from `spawnfix --sweep`.
    fn hear_signals(&mut self) {
        for signal in self.signals.heard() {
            match signal {
                Signal::TERM => self.jobs.terminate(),
                // The program leads its terminal's session, and leaves it in good order: that hangs up, too.
                Signal::HUP if self.client.finalized && self.client.program.leads_session => {}
                Signal::HUP if self.client.shell => {
                    self.jobs.terminate();
                    self.hung_up.get_or_insert_with(Instant::now);
                }
                _ if self.client.shell => {}
                Signal::TSTP => {
                    self.jobs.signal(Signal::TSTP);
                    let _ = signal_hook::low_level::emulate_default_handler(libc::SIGTSTP);
                }
                signal => self.jobs.signal(signal),
            }
        }
    }
}
