//! The program's jobs: which one a question is for, and what becomes of it.

use std::os::fd::BorrowedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Signal, WaitOptions};

use super::app_connection::Client;
use super::attempts::{self, Attempts};
use super::lost_children::Connecting;
use crate::agent::job::{Asker, Event, Job, Task};
use crate::agent::program::Program;
use crate::mpi::mpiexec::LaunchError;
use crate::pmi::message::{Message, Request};
use crate::procs;
use crate::shared::logging::Escaped;
use crate::shared::logging::escape;
use crate::shared::spawn_page::Calls;

/// How long a job may take to end before it is killed. In all it may take 2 s.
pub const GRACE: Duration = Duration::from_millis(1200);

/// A question of the program's that a job has to answer.
struct Pending {
    message: Message,
    job: usize,
}

pub struct Jobs {
    attempts: Attempts,
    all: Vec<Job>,
    started: usize,
    pending: Option<Pending>,
    /// Which calls the program is in, once that is known.
    calls: Option<&'static Calls>,
    /// A spawn that was answered, while the program may wait for the children to connect.
    connecting: Option<Connecting>,
    /// Names that the program published, for the jobs that come later.
    published: Vec<Message>,
}

impl Jobs {
    pub fn new(attempts: Attempts) -> Jobs {
        Jobs {
            attempts,
            all: Vec::new(),
            started: 0,
            pending: None,
            calls: None,
            connecting: None,
            published: Vec::new(),
        }
    }

    /// Looks for what tells which calls the program is in: it is there from its first spawn on.
    pub fn find_calls(&mut self, program: &Program) {
        self.calls = self.calls.or_else(|| program.calls());
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// In a standby: this spawn was asked of an agent that is dead, and with it is the job. libmpi may know by now that
    /// it failed, or wait for the children.
    pub fn inherit(&mut self, spawn: Message) {
        self.connecting = (self.calls).and_then(|calls| Connecting::inherited(calls, spawn));
    }

    /// Whether a question waits for its answer.
    pub fn has_question(&self) -> bool {
        self.pending.is_some()
    }

    /// Nobody waits for an answer any more.
    pub fn forget_question(&mut self) {
        self.pending = None;
    }

    /// Asks the job that is there for it, or starts one.
    pub fn ask(&mut self, message: Message, client: &mut Client) {
        let spawns = Request::of(&message) == Request::Spawn;
        if spawns {
            self.connecting = None;
        }
        let of_its_own = client.shell && spawns;
        let mut jobs = self.all.iter_mut();
        if let Some(job) = jobs.find(|job| !of_its_own && job.can_be_asked()) {
            let number = job.task.number;
            job.ask(message.clone(), Asker::Program);
            self.pending = Some(Pending {
                message,
                job: number,
            });
            return;
        }
        self.started += 1;
        self.pending = Some(Pending {
            message: message.clone(),
            job: self.started,
        });
        let purpose = purpose(&message);
        let published = self.published.iter().cloned();
        let mut questions: Vec<_> = published.map(|name| (name, Asker::Agent)).collect();
        questions.push((message, Asker::Program));
        let found = attempts::look_for_launchers(&client.program);
        let task = Task {
            number: self.started,
            purpose,
            of_its_own,
            stand_in: false,
            questions,
            untried: found.candidates.into_iter(),
        };
        self.start(task, found.unfit.into_iter().next(), client);
    }

    /// Starts the next mpiexec that may serve this task, or tells the program that none does.
    fn start(&mut self, task: Task, last: Option<(PathBuf, LaunchError)>, client: &mut Client) {
        let number = task.number;
        match self.attempts.next(task, last, &client.program) {
            Some(job) => self.all.push(job),
            None => self.fail_question(number, "no_launcher", client),
        }
    }

    /// Answers the program's question to this job, if there is one, that it failed.
    fn fail_question(&mut self, number: usize, reason: &str, client: &mut Client) {
        if let Some(Pending { message, .. }) = self.pending.take_if(|asked| asked.job == number) {
            let failure = Request::of(&message).failure(reason);
            client.answer(&failure.to(&message));
        }
    }

    /// A job has not come to serve: the next mpiexec is tried.
    fn failed(&mut self, at: usize, error: LaunchError, client: &mut Client) {
        let mut job = self.all.swap_remove(at);
        job.terminate();
        if client.gone || self.pending.is_none() && !job.task.stand_in {
            return;
        }
        attempts::warn_of_next(&job.task, &job.launcher, error);
        self.start(job.task, Some((job.launcher, error)), client);
    }

    /// The sockets of each on which something may happen.
    pub fn sockets(&self) -> Vec<Vec<BorrowedFd<'_>>> {
        self.all.iter().map(Job::sockets).collect()
    }

    /// Looks at their sockets. `ready` tells, in the order of [`Jobs::sockets`], on which something happened.
    pub fn attend(&mut self, ready: &[Vec<bool>], client: &mut Client) {
        let jobs = self.all.iter_mut().zip(ready);
        let events: Vec<_> = jobs
            .map(|(job, ready)| (job.task.number, job.attend(ready)))
            .collect();
        // All of them first: `ready` goes by places, and one that fails gives up its place.
        for (number, events) in events {
            for event in events {
                self.hear(number, event, client);
            }
        }
    }

    fn hear(&mut self, number: usize, event: Event, client: &mut Client) {
        let Some(at) = self.all.iter().position(|job| job.task.number == number) else {
            return;
        };
        match event {
            Event::Ready => log::debug!("job {number} serves"),
            Event::NoManager => self.failed(at, LaunchError::NoManager, client),
            Event::Answer(answer) => {
                let asked = self.pending.take_if(|pending| pending.job == number);
                if let Some(Pending { message, .. }) = asked.filter(|_| !answer.is_failure()) {
                    match Request::of(&message) {
                        Request::Publish => self.published.push(message),
                        Request::Spawn => {
                            client.has_children();
                            self.find_calls(&client.program);
                            let job = &self.all[at];
                            self.connecting =
                                (self.calls).and_then(|calls| Connecting::new(calls, message, job));
                        }
                        _ => {}
                    }
                }
                client.answer(&answer);
                self.let_idle_go(Some(number));
            }
        }
    }

    /// In a shell, at each spawn and a moment later: jobs whose children have all ended are let go. There may be a
    /// thousand.
    fn let_idle_go(&mut self, but: Option<usize>) {
        let mut older = self
            .all
            .iter_mut()
            .filter(|job| job.task.of_its_own && Some(job.task.number) != but)
            .peekable();
        if older.peek().is_some() {
            let all = procs::all();
            older.for_each(|job| job.let_go_if_idle(&all));
        }
    }

    /// Takes the status of each child that has ended.
    pub fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let status = ExitStatus::from_raw(status.as_raw());
            if let Some(job) = self.all.iter_mut().find(|job| job.pid == pid) {
                job.status = Some(status);
            }
        }
    }

    /// Whether any of them is to be looked at though it sends no word of itself.
    pub fn are_restless(&self) -> bool {
        self.all.iter().any(|job| {
            job.is_starting()
                || job.ending.is_some()
                || job.status.is_some()
                || job.seems_idle()
                || job.is_broken_for(Duration::ZERO) && self.pending.is_some()
        }) || self.connecting.is_some()
    }

    /// Children that have ended before they connected are stood in for: the program would wait for ever.
    fn stand_in(&mut self, client: &mut Client) {
        let all = &self.all;
        let Some(connecting) = self.connecting.as_mut().filter(|_| !client.gone) else {
            self.connecting = None;
            return;
        };
        if connecting.is_over() {
            self.connecting = None;
        } else if connecting.is_lost(all, &client.program) {
            let number = self.started + 1;
            if let Some(task) = connecting.stand_in(number, &client.program) {
                self.started = number;
                self.start(task, None, client);
            }
            self.connecting = None;
        }
    }

    /// Jobs that have ended, that failed to start, that don't end.
    pub fn look_after(&mut self, client: &mut Client) {
        self.stand_in(client);
        if (self.all.iter()).any(|job| job.seems_idle() && job.has_been_idle()) {
            self.let_idle_go(None);
        }
        let mut at = 0;
        while at < self.all.len() {
            let job = &mut self.all[at];
            if let Some(since) = job.ending {
                if since.elapsed() > GRACE {
                    job.kill();
                }
            }
            let asked =
                (self.pending.as_ref()).is_some_and(|pending| pending.job == job.task.number);
            if asked && job.is_broken_for(GRACE) {
                log::error!(
                    "job {}, {}: its bridge is gone, and mpiexec goes on without it; it is ended",
                    job.task.number,
                    job.task.purpose
                );
                job.terminate();
            }
            let Some(status) = job.status else {
                at += 1;
                continue;
            };
            if job.goes_on() {
                if job.is_starting() && !job.background {
                    job.background = true;
                    log::warn!(
                        "{} {}; something of it goes on in the background, and is waited for",
                        escape(&job.launcher),
                        LaunchError::ended(status)
                    );
                }
                at += 1;
            } else if job.is_starting() && job.ending.is_none() {
                self.failed(at, LaunchError::ended(status), client);
            } else {
                let job = self.all.swap_remove(at);
                self.ended(&job, status, client);
            }
        }
    }

    /// A job is over: its children are gone.
    fn ended(&mut self, job: &Job, status: ExitStatus, client: &mut Client) {
        let asked = self
            .pending
            .as_ref()
            .is_some_and(|pending| pending.job == job.task.number);
        self.fail_question(job.task.number, "job_ended", client);
        let well = status.success() && !job.broken || job.ending.is_some() || client.finalized;
        if well || client.gone || job.task.stand_in {
            // The program waits for a stand-in's success, too.
            let expected = asked || job.task.stand_in && !well && !client.gone;
            let level = match expected && job.ending.is_none() {
                true => log::Level::Error,
                false => log::Level::Info,
            };
            log::log!(
                level,
                "job {}, {}, ended: {status}",
                job.task.number,
                job.task.purpose
            );
        } else if client.shell {
            log::warn!(
                "job {}, {}, is gone: mpiexec ended with {status}; this shell goes on, and can spawn again",
                job.task.number,
                job.task.purpose
            );
        } else {
            client.end_program();
        }
    }

    /// The program aborts.
    pub fn abort(&mut self, message: &Message) {
        for job in &mut self.all {
            if job.is_serving() {
                job.ask(message.clone(), Asker::Agent);
            } else {
                job.terminate();
            }
        }
    }

    /// Lets those go that serve: they last as long as their children.
    pub fn let_serving_go(&mut self) {
        for job in self.all.iter_mut().filter(|job| job.is_serving()) {
            job.let_go();
        }
    }

    /// Lets all go.
    pub fn let_go(&mut self) {
        for job in &mut self.all {
            job.let_go();
        }
    }

    pub fn terminate(&mut self) {
        for job in &mut self.all {
            job.terminate();
        }
    }

    pub fn signal(&self, signal: Signal) {
        for job in &self.all {
            job.signal(signal);
        }
    }
}

/// What a job is for, in the log.
fn purpose(message: &Message) -> String {
    let word = |key| {
        message
            .value(key)
            .map(|value| Escaped(value).to_string())
            .unwrap_or_default()
    };
    match Request::of(message) {
        Request::Spawn => {
            let more = match message.number("totspawns") {
                Some(2..) => " and more",
                _ => "",
            };
            format!("a spawn of {} {}{more}", word("nprocs"), word("execname"))
        }
        Request::UniverseSize => "the size of the universe".to_owned(),
        Request::Publish | Request::Unpublish | Request::Lookup => "published names".to_owned(),
        _ => format!("'{}'", Escaped(message.command())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::os::unix::fs::PermissionsExt;

    use rustix::process::getppid;

    use super::*;
    use crate::agent::greeting::{Address, Greeting};
    use crate::agent::launcher;
    use crate::exec::Changes;
    use crate::mpi::mpiexec::Candidate;

    /// This process's parent, as a client, and the other end of its connection.
    fn client() -> (Client, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let libmpi = std::thread::spawn(move || {
            let (mut libmpi, _) = listener.accept().unwrap();
            libmpi.write_all(b"cmd=singinit\n").unwrap();
            libmpi
        });
        let program = Program::new(getppid().unwrap()).unwrap();
        let (client, _) = Client::connect(program, port, true, false).unwrap();
        (client, libmpi.join().unwrap())
    }

    /// A job whose mpiexec does nothing, and where its bridge would find the agent.
    fn job(number: usize) -> (Job, Address) {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("mpiexec");
        let told = place.path().join("mpiexec.told");
        let script = "#!/bin/sh\necho \"$SPAWNFIX_BRIDGE\" >\"$0.new\"; mv \"$0.new\" \"$0.told\"; exec sleep 60\n";
        fs::write(&file, script).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let candidate = Candidate { file, why: "x" };
        let launched = launcher::launch(number, "x", &candidate, None, &Changes::new()).unwrap();
        let task = Task {
            number,
            purpose: "x".to_owned(),
            of_its_own: true,
            stand_in: false,
            questions: Vec::new(),
            untried: Vec::new().into_iter(),
        };
        let job = Job::new(task, launched);
        while !told.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let address = Address::parse(fs::read_to_string(told).unwrap().trim()).unwrap();
        (job, address)
    }

    #[test]
    fn a_job_that_fails_is_gone_and_the_one_behind_it_is_not() {
        let (mut client, mut libmpi) = client();
        let mut jobs = Jobs::new(Attempts::new(None, Changes::new()));
        let (failing, address) = job(1);
        let (other, _) = job(2);
        jobs.all = vec![failing, other];
        jobs.pending = Some(Pending {
            message: Message::line("cmd=spawn"),
            job: 1,
        });
        let mut bridge = TcpStream::connect((Ipv4Addr::LOCALHOST, address.port)).unwrap();
        let greeting = address.greeting(Greeting::NoManager);
        bridge.write_all(greeting.as_bytes()).unwrap();
        // Once to accept, and as often as it takes until all is there.
        while jobs.has_question() {
            let ready: Vec<_> = jobs
                .sockets()
                .iter()
                .map(|all| vec![true; all.len()])
                .collect();
            jobs.attend(&ready, &mut client);
        }
        let numbers: Vec<_> = jobs.all.iter().map(|job| job.task.number).collect();
        assert_eq!(numbers, [2]);
        drop(client);
        let mut said = String::new();
        libmpi.read_to_string(&mut said).unwrap();
        assert!(
            said.ends_with("cmd=spawn_result rc=1 msg=no_launcher\n"),
            "{said}"
        );
        for job in &mut jobs.all {
            job.terminate();
        }
    }
}
