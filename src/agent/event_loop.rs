//! The agent's event loop: it waits, handles signals, serves the application's requests and looks after the jobs, until
//! the application and its jobs have ended.

use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::application::{App, Application};
use super::connection::Connection;
use super::jobs::Jobs;
use super::launcher::Launchers;
use super::listener::host_name;
use super::signals::{self, Signals};
use super::supervision::GRACE;
use crate::pmi::message::Message;
use crate::pmi::server::{Action, Server};

/// How often the agent looks at what sends no event, while there is such a thing: every 100 ms.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// How long MPI_Finalize may wait for the jobs' end under Slurm.
const SLURM_FINALIZE_GRACE: Duration = Duration::from_secs(1);

/// The agent of one application.
pub struct Agent {
    app: App,
    server: Server,
    jobs: Jobs,
    signals: Signals,
    /// The reply to `finalize`, and when it is due.
    finalizing: Option<(Message, Instant)>,
    /// When the terminal was closed.
    hung_up: Option<Instant>,
}

impl Agent {
    /// Connects to the application at this port.
    ///
    /// # Errors
    /// The application does not listen there, or the system has no descriptor or memory left.
    pub fn new(process: Application, port: u16, launchers: Launchers) -> io::Result<Agent> {
        // Before the connection: where this fails, another launcher can still make it.
        let signals = signals::handle()?;
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        let mut connection = Connection::new("the application".to_owned(), stream);
        connection.send(&Server::hello());
        let time = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let (host, pid, time) = (host_name(), std::process::id(), time.as_micros());
        Ok(Agent {
            app: App {
                process,
                connection,
                finalized: false,
                gone: false,
            },
            server: Server::new(format!("singleton_{host}_{pid}_{time:x}")),
            jobs: Jobs::new(launchers),
            signals,
            finalizing: None,
            hung_up: None,
        })
    }

    /// Serves the application until it and its jobs have ended.
    pub fn run(mut self) {
        while !(self.app.gone && self.jobs.is_empty()) {
            self.wait();
            self.handle_signals();
            self.app.connection.read_available();
            self.jobs.read_available(&mut self.app);
            self.serve();
            self.look_after();
        }
    }

    /// Waits until something happens.
    fn wait(&self) {
        let end = self.app.process.end().filter(|_| !self.app.gone);
        let fds = std::iter::once(self.signals.get_read().as_fd())
            .chain(end)
            .chain(self.app.connection.fd())
            .chain(self.jobs.sockets());
        let mut fds: Vec<_> = fds
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let ticks = self.jobs.need_ticks()
            || self.finalizing.is_some()
            || self.app.gone && !self.app.finalized
            || (end.is_none() || self.hung_up.is_some()) && !self.app.gone;
        // An error does no harm: all that follows looks for itself.
        let _ = poll(&mut fds, ticks.then_some(&TICK));
    }

    /// Signals of the terminal, or of whoever signals the application's process group, or of `spawnfix --sweep`.
    fn handle_signals(&mut self) {
        let interactive = self.app.process.interactive;
        let raised = self.signals.pending().filter_map(Signal::from_named_raw);
        for signal in raised {
            match signal {
                Signal::CHILD => {}
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
            let Some(message) = self.app.connection.next_message() else {
                return;
            };
            match self.server.handle(message) {
                Action::Reply(reply) => self.app.connection.send(&reply),
                Action::AskJob(message) => self.jobs.ask(message, &mut self.app),
                Action::Finalize(reply) => {
                    self.app.finalized = true;
                    self.jobs.detach_serving();
                    // In a Slurm batch job, the application's end may be all for which Slurm waits: it would cancel the job
                    // steps in which the launchers are just ending, and say so. So the application ends a little later.
                    let slurm = std::env::var_os("SLURM_JOB_ID");
                    let grace = slurm.map_or(Duration::ZERO, |_| SLURM_FINALIZE_GRACE);
                    self.finalizing = Some((reply, Instant::now() + grace));
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
        let is_due = |due: &Instant| self.jobs.is_empty() || Instant::now() >= *due;
        if let Some((reply, _)) = self.finalizing.take_if(|(_, due)| is_due(due)) {
            self.app.connection.send(&reply);
        }
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
