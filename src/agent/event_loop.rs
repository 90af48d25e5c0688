//! The agent's event loop: it waits, handles signals, serves the application's requests and looks after the jobs, until
//! the application and its jobs have ended.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::app_connection::AppConnection;
use super::application::Application;
use super::jobs::{App, Jobs};
use super::launcher::Launchers;
use super::signals::Signals;
use super::supervision::GRACE;
use crate::agent::listener::host_name;
use crate::pmi::message::Message;
use crate::pmi::server::{Action, Server};

/// How often the agent looks at what sends no event, while there is such a thing.
const TICK: Duration = Duration::from_millis(100);
/// How long MPI_Finalize may wait for the jobs' end under Slurm.
const SLURM_FINALIZE_GRACE: Duration = Duration::from_secs(1);

/// The agent of one application.
pub struct Agent {
    app: App,
    server: Server,
    jobs: Jobs,
    signals: Signals,
    /// The reply to `finalize`, and since when libmpi waits for it.
    finalizing: Option<(Message, Instant)>,
    /// When the terminal was closed.
    hung_up: Option<Instant>,
}

/// What there is to read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Application,
    /// The job of this number.
    Job(usize),
    /// Nothing: it is enough to wake up.
    Wake,
}

impl Agent {
    /// Connects to the application at this port.
    ///
    /// # Errors
    /// The application does not listen there, or the system has no descriptor or memory left.
    pub fn new(process: Application, port: u16, launchers: Launchers) -> io::Result<Agent> {
        let mut connection = AppConnection::open(port, &Server::hello())?;
        let signals = Signals::new().inspect_err(|_| connection.send(&Server::refusal()))?;
        let host = host_name();
        let pid = std::process::id();
        let time = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let name = format!("singleton_{host}_{pid}_{:x}", time.as_micros());
        Ok(Agent {
            app: App {
                process,
                connection,
                finalized: false,
                gone: false,
            },
            server: Server::new(name),
            jobs: Jobs::new(launchers),
            signals,
            finalizing: None,
            hung_up: None,
        })
    }

    /// Serves the application until it and its jobs have ended.
    ///
    /// # Errors
    /// libmpi closes the connection before it says what it speaks.
    pub fn run(mut self) -> io::Result<()> {
        while !(self.app.gone && self.jobs.is_empty()) {
            self.wait();
            self.handle_signals();
            self.serve();
            self.look_after();
            if !self.server.is_connected() && self.app.connection.fd().is_none() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Waits until something happens, and reads what there is to read.
    fn wait(&mut self) {
        for token in self.poll() {
            match token {
                Token::Application => self.app.connection.read_available(),
                Token::Job(number) => self.jobs.read_available(number, &mut self.app),
                Token::Wake => {}
            }
        }
    }

    fn poll(&self) -> Vec<Token> {
        let end = self.app.process.end().filter(|_| !self.app.gone);
        let mut watched: Vec<(Token, BorrowedFd<'_>)> = vec![(Token::Wake, self.signals.fd())];
        watched.extend(end.map(|fd| (Token::Wake, fd)));
        let connection = self.app.connection.fd();
        watched.extend(connection.map(|fd| (Token::Application, fd)));
        let jobs = self.jobs.sockets();
        watched.extend(jobs.map(|(number, fd)| (Token::Job(number), fd)));
        let mut fds: Vec<_> = watched
            .iter()
            .map(|(_, fd)| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
            .collect();
        let ticks = self.jobs.need_ticks()
            || self.finalizing.is_some()
            || (end.is_none() || self.hung_up.is_some()) && !self.app.gone;
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: TICK.subsec_nanos().into(),
        };
        // An error leaves no events: that a signal came shows when the next poll finds its pipe readable.
        if poll(&mut fds, ticks.then_some(&tick)).is_err() {
            return Vec::new();
        }
        let ready = watched.iter().zip(&fds);
        let ready = ready.filter(|(_, fd)| !fd.revents().is_empty());
        let mut tokens: Vec<_> = ready.map(|((token, _), _)| *token).collect();
        tokens.dedup();
        tokens
    }

    /// Signals of the terminal, or of whoever signals the application's process group, or of `spawnfix --sweep`.
    fn handle_signals(&mut self) {
        let interactive = self.app.process.interactive;
        for signal in self.signals.take() {
            match signal {
                Signal::TERM => self.jobs.end(),
                // When an application that leads its terminal's session ends well, the kernel sends SIGHUP, too.
                Signal::HUP
                    if self.app.finalized
                        && self.app.process.leads_session
                        && !self.app.process.terminal_is_gone() => {}
                Signal::HUP if interactive => {
                    self.jobs.end();
                    self.hung_up.get_or_insert_with(Instant::now);
                }
                Signal::INT if interactive => self.jobs.interrupt(&mut self.app),
                _ if interactive => {}
                Signal::TSTP => {
                    self.jobs.signal(Signal::TSTP);
                    let _ = signal_hook::low_level::emulate_default_handler(libc::SIGTSTP);
                }
                signal => self.jobs.signal(signal),
            }
        }
    }

    /// Serves the application's requests, one after the other: while a job has one to answer, the next one waits.
    fn serve(&mut self) {
        while !self.jobs.is_asked() {
            let Some(message) = self.app.connection.next_request() else {
                return;
            };
            match self.server.handle(message) {
                Action::Reply(reply) => self.app.connection.send(&reply),
                Action::AskJob(message) => self.jobs.ask(message, &mut self.app),
                Action::Finalize(reply) => {
                    self.app.finalized = true;
                    self.jobs.detach_serving();
                    self.finalizing = Some((reply, Instant::now()));
                }
                Action::Abort(message) => {
                    log::info!("the application aborts");
                    self.jobs.abort(&message);
                }
            }
        }
    }

    /// Looks after what happens without an event of its own.
    fn look_after(&mut self) {
        self.jobs.reap();
        self.jobs.tick(&mut self.app);
        self.reply_to_finalize();
        if self.app.gone {
            return;
        }
        if self.app.process.is_gone() {
            self.application_ended();
        } else if self.hung_up.is_some_and(|since| since.elapsed() > GRACE) {
            // Intel's libmpi survives SIGHUP, and waits in MPI_Finalize for children that are gone. Without us mpiexec
            // would have killed the application at once.
            self.app.process.kill_group();
        }
    }

    /// In a Slurm batch job, the application's end may be all for which Slurm waits: it would cancel the job steps in which
    /// the launchers are just ending, and say so. So the application ends a little later.
    fn reply_to_finalize(&mut self) {
        let grace = match std::env::var_os("SLURM_JOB_ID") {
            Some(_) if !self.jobs.is_empty() => SLURM_FINALIZE_GRACE,
            _ => Duration::ZERO,
        };
        let due = |(_, since): &mut (Message, Instant)| since.elapsed() >= grace;
        if let Some((reply, _)) = self.finalizing.take_if(due) {
            self.app.connection.send(&reply);
        }
    }

    /// The application has ended. Without MPI_Finalize, its jobs end with it.
    fn application_ended(&mut self) {
        self.app.gone = true;
        self.app.connection.close();
        if self.app.finalized {
            log::info!("the application has ended, after MPI_Finalize; its children may go on");
            self.jobs.detach_all();
        } else {
            log::info!("the application has ended without MPI_Finalize; ending its jobs");
            self.jobs.end();
        }
    }
}
