//! The program's jobs: which one a question is for, which mpiexec is tried next, how a job's end is told.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Signal, WaitOptions};

use super::client::Client;
use crate::job::{self, Asker, Event, Job};
use crate::launcher::{self, Candidate, Failure, How};
use crate::logging::Escaped;
use crate::pmi::{Message, Request};
use crate::program::Program;
use crate::{hosts, tree};

/// How long a job may take to end before it is killed. In all it may take 2 s.
pub const GRACE: Duration = Duration::from_millis(1200);

/// A question of the program's that a job has to answer.
struct Pending {
    message: Message,
    job: usize,
}

pub struct Jobs {
    /// What the program's MPI calls itself, if the library knows.
    mpi: Option<String>,
    /// What the launchers' environment has that ours has not, and the other way round.
    environment: Vec<(OsString, Option<OsString>)>,
    all: Vec<Job>,
    started: usize,
    /// The mpiexecs that a job in its start may still try.
    untried: HashMap<usize, Vec<Candidate>>,
    pending: Option<Pending>,
    /// The failure that was told last.
    told: Option<String>,
    /// Names that the program published, for the jobs that come later.
    published: Vec<Message>,
}

impl Jobs {
    pub fn new(mpi: Option<String>, environment: Vec<(OsString, Option<OsString>)>) -> Jobs {
        Jobs {
            mpi,
            environment,
            all: Vec::new(),
            started: 0,
            untried: HashMap::new(),
            pending: None,
            told: None,
            published: Vec::new(),
        }
    }

    pub fn are_over(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a question waits for its answer.
    pub fn are_asked(&self) -> bool {
        self.pending.is_some()
    }

    /// Nobody waits for an answer any more.
    pub fn forget_question(&mut self) {
        self.pending = None;
    }

    /// Asks the job that is there for it, or starts one.
    pub fn ask(&mut self, message: Message, client: &mut Client) {
        let spawns = Request::of(&message) == Request::Spawn;
        let of_its_own = client.shell && spawns;
        let serving = self.all.iter_mut().find(|job| !of_its_own && job.serves());
        if let Some(job) = serving {
            let number = job.number;
            job.ask(message.clone(), Asker::Program);
            self.pending = Some(Pending {
                message,
                job: number,
            });
            return;
        }
        self.started += 1;
        let number = self.started;
        let purpose = purpose(&message);
        let found = look_for_launchers(&client.program);
        self.pending = Some(Pending {
            message: message.clone(),
            job: number,
        });
        let mut questions: Vec<_> = self
            .published
            .iter()
            .map(|name| (name.clone(), Asker::Agent))
            .collect();
        questions.push((message, Asker::Program));
        let (mut candidates, last) = found;
        candidates.reverse();
        self.untried.insert(number, candidates);
        self.start(number, &purpose, questions, of_its_own, last, client);
    }

    /// Starts the next mpiexec that may serve this job, or tells the program that none does.
    fn start(
        &mut self,
        number: usize,
        purpose: &str,
        questions: Vec<(Message, Asker)>,
        of_its_own: bool,
        mut last: Option<(PathBuf, How)>,
        client: &mut Client,
    ) {
        // Where the program is now, as it may have changed its directory since its first spawn.
        let directory = client.program.directory();
        while let Some(candidate) = self.untried.get_mut(&number).and_then(Vec::pop) {
            match Job::start(
                number,
                purpose,
                &candidate,
                directory.as_deref(),
                &self.environment,
            ) {
                Ok(mut job) => {
                    for (message, asker) in questions {
                        job.ask(message, asker);
                    }
                    job.of_its_own = of_its_own;
                    self.all.push(job);
                    return;
                }
                Err(how) => {
                    self.warn_of_next(number, &candidate.file, how);
                    last = Some((candidate.file, how));
                }
            }
        }
        self.untried.remove(&number);
        let path = std::env::var_os("PATH");
        let failure = Failure {
            last: last.as_ref().map(|(file, how)| (file.as_path(), *how)),
            mpi: self.mpi.clone(),
            path: path.as_deref(),
            hosts: hosts::told_of_hosts().zip(job::own_file().ok()),
        };
        let failure = failure.to_string();
        // A program may try again and again.
        if self.told.as_ref() == Some(&failure) {
            log::info!("{purpose}: as before, {failure}");
        } else {
            log::error!("{purpose}: {failure}");
            self.told = Some(failure);
        }
        if let Some(pending) = self.pending.take_if(|pending| pending.job == number) {
            let failure = Request::of(&pending.message).failure("no_launcher");
            client.answer(&failure.to(&pending.message));
        }
    }

    fn warn_of_next(&self, number: usize, file: &Path, how: How) {
        if let Some(next) = self.untried.get(&number).and_then(|untried| untried.last()) {
            log::warn!(
                "{} {how}; the next is {}, {}",
                Escaped(file.as_os_str().as_bytes()),
                Escaped(next.file.as_os_str().as_bytes()),
                next.why
            );
        }
    }

    /// A job has not come to serve: the next mpiexec is tried.
    fn failed(&mut self, at: usize, how: How, client: &mut Client) {
        let mut job = self.all.swap_remove(at);
        job.terminate();
        let (number, of_its_own) = (job.number, job.of_its_own);
        let (purpose, launcher) = (job.purpose.clone(), job.launcher.clone());
        let questions = job.unasked();
        if client.gone || self.pending.is_none() {
            return;
        }
        self.warn_of_next(number, &launcher, how);
        self.start(
            number,
            &purpose,
            questions,
            of_its_own,
            Some((launcher, how)),
            client,
        );
    }

    /// The sockets of each on which something may happen.
    pub fn sockets(&self) -> Vec<Vec<BorrowedFd<'_>>> {
        self.all.iter().map(Job::sockets).collect()
    }

    /// Looks at their sockets. `ready` tells, in the order of [`Jobs::sockets`], on which something happened.
    pub fn attend(&mut self, ready: &[Vec<bool>], client: &mut Client) {
        let jobs = self.all.iter_mut().zip(ready);
        let events: Vec<_> = jobs
            .map(|(job, ready)| (job.number, job.attend(ready)))
            .collect();
        // One that failed is no longer there when the next one's are heard.
        for (number, events) in events {
            for event in events {
                self.hear(number, event, client);
            }
        }
    }

    fn hear(&mut self, number: usize, event: Event, client: &mut Client) {
        let Some(at) = self.all.iter().position(|job| job.number == number) else {
            return;
        };
        match event {
            Event::Ready => {
                log::debug!("job {number} serves");
                self.untried.remove(&number);
            }
            Event::NoManager => self.failed(at, How::NoManager, client),
            Event::Answer(answer) => {
                if let Some(pending) = self.pending.take_if(|pending| pending.job == number) {
                    if Request::of(&pending.message) == Request::Publish && !answer.is_failure() {
                        self.published.push(pending.message);
                    }
                }
                client.answer(&answer);
                self.leave_idle(Some(number));
            }
        }
    }

    /// In a shell, at each spawn and a moment later: jobs whose children have all ended are let go. There may be a thousand.
    fn leave_idle(&mut self, but: Option<usize>) {
        let mut older = self
            .all
            .iter_mut()
            .filter(|job| job.of_its_own && Some(job.number) != but)
            .peekable();
        if older.peek().is_some() {
            let all = tree::all();
            older.for_each(|job| job.leave_if_idle(&all));
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
            job.is_starting() || job.ending.is_some() || job.status.is_some() || job.seems_idle()
        })
    }

    /// Jobs that have ended, that failed to start, that don't end.
    pub fn look_after(&mut self, client: &mut Client) {
        if (self.all.iter()).any(|job| job.seems_idle() && job.has_been_idle()) {
            self.leave_idle(None);
        }
        let mut at = 0;
        while at < self.all.len() {
            let job = &mut self.all[at];
            if let Some(since) = job.ending {
                if since.elapsed() > GRACE {
                    job.kill();
                }
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
                        Escaped(job.launcher.as_os_str().as_bytes()),
                        How::ended(status)
                    );
                }
                at += 1;
            } else if job.is_starting() && job.ending.is_none() {
                self.failed(at, How::ended(status), client);
            } else {
                let job = self.all.swap_remove(at);
                self.ended(&job, status, client);
            }
        }
    }

    /// A job is over: its children are gone.
    fn ended(&mut self, job: &Job, status: ExitStatus, client: &mut Client) {
        if let Some(pending) = self.pending.take_if(|pending| pending.job == job.number) {
            let failure = Request::of(&pending.message).failure("job_ended");
            client.answer(&failure.to(&pending.message));
        }
        let well = status.success() && !job.broken || job.ending.is_some() || client.finalized;
        if well || client.gone {
            log::info!("job {}, {}, ended: {status}", job.number, job.purpose);
        } else if client.shell {
            log::warn!(
                "job {}, {}, is gone: mpiexec ended with {status}; this shell goes on, and can spawn again",
                job.number,
                job.purpose
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
    pub fn leave_serving(&mut self) {
        for job in self.all.iter_mut().filter(|job| job.is_serving()) {
            job.leave();
        }
    }

    /// Lets all go.
    pub fn leave(&mut self) {
        for job in &mut self.all {
            job.leave();
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

/// The mpiexecs to try, and what was found that can't serve.
fn look_for_launchers(program: &Program) -> (Vec<Candidate>, Option<(PathBuf, How)>) {
    let libmpi = program.libmpi();
    let found = launcher::find(std::env::var_os("PATH").as_deref(), libmpi.as_deref());
    for (file, how) in &found.unfit {
        log::info!("{} {how}", Escaped(file.as_os_str().as_bytes()));
    }
    (found.candidates, found.unfit.into_iter().next())
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
    use crate::greeting::{Address, Greeting};

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
        let client = Client::connect(program, port, true).unwrap();
        (client, libmpi.join().unwrap())
    }

    /// A job whose mpiexec does nothing, and where its bridge would find the agent.
    fn job(number: usize) -> (Job, Address) {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("mpiexec");
        let told = place.path().join("told");
        let script = "#!/bin/sh\necho \"$SPAWNFIX_BRIDGE\" >\"$0\".new; mv \"$0\".new \"${0%/*}\"/told; exec sleep 60\n";
        fs::write(&file, script).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let candidate = Candidate { file, why: "x" };
        let job = Job::start(number, "x", &candidate, None, &[]).unwrap();
        while !told.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let address = Address::parse(fs::read_to_string(told).unwrap().trim()).unwrap();
        (job, address)
    }

    #[test]
    fn a_job_that_fails_is_gone_and_the_one_behind_it_is_not() {
        let (mut client, mut libmpi) = client();
        let mut jobs = Jobs::new(None, Vec::new());
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
        while jobs.are_asked() {
            let ready: Vec<_> = jobs
                .sockets()
                .iter()
                .map(|all| vec![true; all.len()])
                .collect();
            jobs.attend(&ready, &mut client);
        }
        let numbers: Vec<_> = jobs.all.iter().map(|job| job.number).collect();
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
