//! The agent: what an MPI library launches for a program becomes this process first.
//!
//! For MPICH and its kin it is the program's process manager, for as long as the program and what it spawned last:
//!
//! 1. It connects to the port on which libmpi waits, and they greet each other (PMII_singinit in MPICH's
//!    src/pmi/src/pmi_v1.c). From then on libmpi asks what a program asks its process manager ([`pmi`]).
//! 2. What one process's process manager can know by itself it answers itself: keys and values, barriers, sizes.
//! 3. For a spawn, the size of the universe and published names it starts a job: an mpiexec ([`launcher`]) with a bridge in it
//!    ([`job`], [`bridge`]), through which it asks that. In a shell ([`shell`]) each spawn has a job of its own, so that one
//!    job's end is nobody else's; in any other program one job serves all, and its end is the program's.
//! 4. It hears the terminal's signals in the program's place, and passes on to its jobs what they would have heard, unless
//!    the program is a shell.
//!
//! For Open MPI it only gives prte or orted a stdin of its own, and becomes it.
//!
//! [`bridge`]: crate::bridge
//! [`job`]: crate::job
//! [`launcher`]: crate::launcher
//! [`pmi`]: crate::pmi
//! [`shell`]: crate::shell

use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions};

use crate::job::{Asker, Event, Job};
use crate::launch::Launch;
use crate::launcher::{self, Candidate, Failure, How};
use crate::logging::{self, Escaped};
use crate::pmi::{Framer, Message, Request};
use crate::program::Program;
use crate::settings::{self, InteractiveSetting, Settings};
use crate::signals::Signals;
use crate::stdio;
use crate::tree;
use crate::{patient, preload, shell};

/// How often what sends no word of itself is looked at, while there is such a thing.
const TICK: Duration = Duration::from_millis(100);
/// How long a job may take to end before it is killed. In all it may take 2 s.
const GRACE: Duration = Duration::from_millis(1200);

/// How long a program's MPI_Finalize may wait for its jobs to end under Slurm.
const PARTING: Duration = Duration::from_secs(1);

/// What the library handed over.
struct Handed {
    version: OsString,
    program: Option<Pid>,
    settings: Settings,
    /// What the program's MPI calls itself, if the library knows.
    mpi: Option<String>,
    file: OsString,
    argv: Vec<OsString>,
}

impl Handed {
    /// `VERSION PROGRAM [NAME=VALUE…] -- FILE ARGV…`: see become_agent in handover.rs.
    fn parse(mut words: impl Iterator<Item = OsString>) -> Option<Handed> {
        let version = words.next()?;
        let program = words.next()?.to_str()?.parse().ok().and_then(Pid::from_raw);
        let settings: Vec<_> = words.by_ref().take_while(|word| word != "--").collect();
        let mpi = settings
            .iter()
            .find_map(|word| word.to_str()?.strip_prefix("MPI="));
        let mpi = mpi.map(str::to_owned);
        // The library has complained of what is wrong.
        let (settings, _) = settings::parse(settings.iter().map(|word| word.as_bytes()));
        Some(Handed {
            version,
            program,
            settings,
            mpi,
            file: words.next()?,
            argv: words.collect(),
        })
    }
}

/// Runs the agent with what stands behind `--agent`.
pub fn main(words: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(handed) = Handed::parse(words) else {
        eprintln!(
            "spawnfix: --agent is how the library calls this program; a user has no use for it"
        );
        return ExitCode::from(2);
    };
    logging::start(
        handed.settings.log.as_deref(),
        handed.settings.log_file.as_deref(),
    );
    #[cfg(not(target_os = "linux"))]
    stdio::terminals::note();
    // A group in the background that writes to a terminal set to `tostop` would be stopped.
    // SAFETY: signal takes no pointers here.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
    let arguments = handed.argv.iter().map(|word| word.as_bytes());
    let launch = Launch::recognise(handed.file.as_bytes(), arguments);
    if matches!(launch, Some(Launch::Mpiexec { .. })) {
        close_all_else();
    }
    let program = handed.program.and_then(Program::new);
    let (Some(launch), Some(program)) = (launch, program) else {
        log::debug!("the program is gone, or launches nothing");
        return ExitCode::FAILURE;
    };
    let why = interactive(&handed.settings, &program);
    let isolation = stdio::isolate();
    let name = launch.name();
    let whom = match &why {
        Some(why) => format!("a shell ({why})"),
        None => "no shell".to_owned(),
    };
    log::log!(
        isolation.level(),
        "this process stands in for {name}; its program {} is {whom}; {isolation}",
        program.pid
    );
    let environment = launchers_environment(&handed.settings);
    if handed.version != env!("CARGO_PKG_VERSION") {
        log::warn!(
            "the library is spawnfix {}, and the program {}: {name} gets a stdin of its own, and no more",
            Escaped(handed.version.as_bytes()),
            env!("CARGO_PKG_VERSION")
        );
        return become_launcher(&handed, &environment);
    }
    match launch {
        Launch::Mpiexec { port } => {
            match Agent::connect(program, port, why.is_some(), handed.mpi, environment) {
                Ok(mut agent) => {
                    agent.run();
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    log::error!("the program can't be reached: {error}");
                    ExitCode::FAILURE
                }
            }
        }
        Launch::Prte | Launch::Orted => {
            if why.is_some() && rustix::process::setpgid(None, None).is_ok() {
                log::info!("{name} gets a process group of its own");
            }
            become_launcher(&handed, &environment)
        }
    }
}

/// Why the program is treated as a shell, if it is.
fn interactive(settings: &Settings, program: &Program) -> Option<String> {
    match settings.interactive {
        InteractiveSetting::Yes => Some("SPAWNFIX_INTERACTIVE=1".to_owned()),
        InteractiveSetting::No => None,
        InteractiveSetting::Auto => shell::shell(&program.arguments(), program.stdin())
            .map(|word| Escaped(word.as_bytes()).to_string()),
    }
}

/// What the launcher's environment has that ours has not, and the other way round.
fn launchers_environment(settings: &Settings) -> Vec<(OsString, Option<OsString>)> {
    let mut changes = Vec::new();
    if let Some(list) = std::env::var_os(preload::VARIABLE).filter(|_| !settings.inherit) {
        changes.push((preload::VARIABLE.into(), preload::without_us(&list)));
    }
    // In a job step hydra's own srun would wait for what the step holds (pmodels/mpich issues 5835, 6804).
    let set = |name| std::env::var_os(name).is_some();
    if set("SLURM_JOB_ID") && !set("SLURM_OVERLAP") {
        changes.push(("SLURM_OVERLAP".into(), Some("1".into())));
    }
    changes
}

/// Becomes what MPI launched. If that can't be executed, ends as MPI's own child would: with a message.
fn become_launcher(handed: &Handed, environment: &[(OsString, Option<OsString>)]) -> ExitCode {
    let error = match execute(handed, environment) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    log::error!("{} can't be run: {error}", Escaped(handed.file.as_bytes()));
    ExitCode::from(127)
}

/// Not by std's exec: that calls execvp, and this process, too, has the library preloaded, which would take the launch over
/// once more.
fn execute(handed: &Handed, changes: &[(OsString, Option<OsString>)]) -> io::Result<Infallible> {
    let changed = |name: &OsStr| changes.iter().any(|(changed, _)| changed == name);
    let kept = std::env::vars_os().filter(|(name, _)| !changed(name));
    let set = changes
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
    let variables = kept.chain(set).map(|(mut variable, value)| {
        variable.push("=");
        variable.push(value);
        variable
    });
    let strings = |words: &mut dyn Iterator<Item = OsString>| -> io::Result<Vec<CString>> {
        words
            .map(|word| Ok(CString::new(word.into_vec())?))
            .collect()
    };
    let pointers = |strings: &[CString]| -> Vec<_> {
        strings
            .iter()
            .map(|word| word.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let file = CString::new(handed.file.as_bytes())?;
    let words = strings(&mut handed.argv.iter().cloned())?;
    let variables = strings(&mut { variables })?;
    let (argv, environment) = (pointers(&words), pointers(&variables));
    // SAFETY: a C string, and two null-terminated arrays of C strings that live until then. What Rust's runtime has set
    // SIGPIPE to is put back.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::execve(file.as_ptr(), argv.as_ptr(), environment.as_ptr());
    }
    Err(io::Error::last_os_error())
}

/// Closes what the program has open: a pipe of its own would seem never to end.
fn close_all_else() {
    let directory = if cfg!(target_os = "linux") {
        "/proc/self/fd"
    } else {
        "/dev/fd"
    };
    let open = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let numbers: Vec<i32> = open
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for fd in numbers.into_iter().filter(|&fd| fd > 2) {
        // SAFETY: this process has opened nothing yet that it keeps; the directory's own descriptor is closed already.
        unsafe { libc::close(fd) };
    }
}

/// A question of the program's that a job has to answer.
struct Pending {
    message: Message,
    job: usize,
}

struct Agent {
    program: Program,
    /// The connection to libmpi. None: it has hung up.
    connection: Option<TcpStream>,
    framer: Framer,
    /// PMI's subversion, as the program's libmpi speaks it.
    subversion: u32,
    shell: bool,
    mpi: Option<String>,
    environment: Vec<(OsString, Option<OsString>)>,
    keys: HashMap<Vec<u8>, Vec<u8>>,
    signals: Signals,
    jobs: Vec<Job>,
    started: usize,
    /// The mpiexecs that a job in its start may still try.
    untried: HashMap<usize, Vec<Candidate>>,
    pending: Option<Pending>,
    /// The failure that was told last.
    told: Option<String>,
    /// Names that the program published, for the jobs that come later.
    published: Vec<Message>,
    finalized: bool,
    /// Since when `finalize` waits for its answer.
    parting: Option<Instant>,
    /// The program is gone.
    gone: bool,
    /// When the terminal was closed.
    hung_up: Option<Instant>,
}

impl Agent {
    /// Connects to the program, and greets it.
    fn connect(
        program: Program,
        port: u16,
        shell: bool,
        mpi: Option<String>,
        environment: Vec<(OsString, Option<OsString>)>,
    ) -> io::Result<Agent> {
        // Whatever is missing: the program waits for just this, and nobody else can tell it that there is nothing.
        let signals = patient::open(Signals::new, || !program.is_gone())?;
        let mut connection = patient::open(
            || TcpStream::connect((Ipv4Addr::LOCALHOST, port)),
            || !program.is_gone(),
        )?;
        let _ = connection.set_nodelay(true);
        patient::write_all(&mut connection, b"cmd=singinit authtype=none\n")?;
        let mut framer = Framer::default();
        let mut buffer = [0; 1024];
        let greeting = loop {
            if let Some(message) = framer.next().map_err(|_| io::ErrorKind::InvalidData)? {
                break message;
            }
            match patient::read(&mut connection, &mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => framer.push(&buffer[..count]),
            }
        };
        // libmpi takes it for the name of its process group, which no other may have.
        let name = format_args!(
            "singleton_{}_{}",
            crate::hosts::host_name(),
            std::process::id()
        )
        .to_string();
        let time = std::time::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default()
            .as_micros();
        let info = format!("cmd=singinit_info versionok=yes stdio=no kvsname={name}_{time:x}\n");
        patient::write_all(&mut connection, info.as_bytes())?;
        Ok(Agent {
            program,
            connection: Some(connection),
            framer,
            subversion: greeting.number("pmi_subversion").unwrap_or(1),
            shell,
            mpi,
            environment,
            keys: HashMap::new(),
            signals,
            jobs: Vec::new(),
            started: 0,
            untried: HashMap::new(),
            pending: None,
            told: None,
            published: Vec::new(),
            finalized: false,
            parting: None,
            gone: false,
            hung_up: None,
        })
    }

    /// Serves until the program and its jobs have ended.
    fn run(&mut self) {
        // What came together with the greeting is here already.
        self.serve_program();
        while !(self.gone && self.jobs.is_empty()) {
            self.wait();
            self.hear_signals();
            self.reap();
            self.serve_program();
            self.look_after_jobs();
            self.part();
            if !self.gone && self.program.is_gone() {
                self.program_ended();
            }
            // Intel's libmpi survives the signal, and waits in MPI_Finalize for children that are gone. Without us the
            // program would have been killed at once.
            if !self.gone && self.hung_up.is_some_and(|since| since.elapsed() > GRACE) {
                self.end_program();
            }
        }
    }

    /// Answers the program's `finalize`. In a batch job, the program's end may be all that Slurm waits for: it would cancel the
    /// job steps in which the launchers end just then, and say so.
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
            self.answer(&Request::Finalize.success(""));
        }
    }

    /// Waits until something happens, and attends to the jobs' sockets.
    fn wait(&mut self) {
        let connection = self.connection.as_ref().map(AsFd::as_fd);
        let end = self.program.end().filter(|_| !self.gone);
        let sockets: Vec<Vec<_>> = self.jobs.iter().map(Job::sockets).collect();
        let watched = connection
            .into_iter()
            .chain(sockets.iter().flatten().copied());
        let watched = watched.chain(end).chain([self.signals.fd()]);
        let mut fds: Vec<_> = watched
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let restless = self.jobs.iter().any(|job| {
            job.is_starting() || job.ending.is_some() || job.status.is_some() || job.seems_idle()
        });
        let look = restless
            || self.parting.is_some()
            || (end.is_none() || self.hung_up.is_some()) && !self.gone;
        let tick = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(TICK.subsec_nanos()),
        };
        // Interrupted is as good as ready.
        let _ = poll(&mut fds, look.then_some(&tick));
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let heard = connection.is_some() && ready.next() == Some(true);
        let ready: Vec<Vec<bool>> = sockets
            .iter()
            .map(|sockets| ready.by_ref().take(sockets.len()).collect())
            .collect();
        drop(fds);
        drop(sockets);
        if heard {
            self.hear_program();
        }
        for (at, ready) in ready.iter().enumerate() {
            let events = self.jobs[at].attend(ready);
            let number = self.jobs[at].number;
            for event in events {
                self.job_said(number, event);
            }
        }
    }

    fn hear_program(&mut self) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let mut buffer = [0; 65536];
        match patient::read(connection, &mut buffer) {
            // The program's children may hold the connection open, and it may close it: only its end counts.
            Ok(0) | Err(_) => self.connection = None,
            Ok(count) => self.framer.push(&buffer[..count]),
        }
    }

    /// Answers the program, question by question: a later one waits for a job's answer to an earlier one.
    fn serve_program(&mut self) {
        while self.pending.is_none() {
            match self.framer.next() {
                Ok(None) => return,
                Ok(Some(message)) => {
                    log::trace!("the program: {}", Escaped(message.bytes()));
                    self.serve(message);
                }
                Err(_) => {
                    log::error!("the program sends what is no PMI");
                    self.connection = None;
                    self.framer = Framer::default();
                    return;
                }
            }
        }
    }

    fn serve(&mut self, message: Message) {
        let request = Request::of(&message);
        let answer = match request {
            Request::Init => {
                let subversion = self.subversion;
                request.success(format_args!(" pmi_version=1 pmi_subversion={subversion}"))
            }
            // Hydra's (src/pm/hydra/lib/pmiserv_common.h).
            Request::GetMaxes => request.success(" kvsname_max=256 keylen_max=64 vallen_max=1024"),
            Request::AppNum => request.success(" appnum=0"),
            Request::KvsName => {
                request.success(format_args!(" kvsname=singleton_{}", std::process::id()))
            }
            Request::Put { key, value } => {
                self.keys.insert(key.to_vec(), value.to_vec());
                request.success("")
            }
            Request::Get { key } => match self.keys.get(key) {
                Some(value) => request.success(format_args!(
                    " found=TRUE value={}",
                    String::from_utf8_lossy(value)
                )),
                None if key == b"PMI_process_mapping" => {
                    request.success(" found=TRUE value=(vector,(0,1,1))")
                }
                None => request.failure("key_not_found"),
            },
            Request::Barrier { tag } => match tag {
                Some(tag) => request.success(format_args!(" tag={}", String::from_utf8_lossy(tag))),
                None => request.success(""),
            },
            Request::Finalize => {
                self.finalized = true;
                for job in self.jobs.iter_mut().filter(|job| job.is_serving()) {
                    job.leave();
                }
                self.parting = Some(Instant::now());
                return;
            }
            Request::Abort => {
                log::info!("the program aborts");
                for job in &mut self.jobs {
                    if job.is_serving() {
                        job.ask(message.clone(), Asker::Agent);
                    } else {
                        job.terminate();
                    }
                }
                return;
            }
            Request::UniverseSize
            | Request::Publish
            | Request::Unpublish
            | Request::Lookup
            | Request::Spawn
            | Request::Other => return self.ask_job(message),
        };
        self.answer(&answer.to(&message));
    }

    fn answer(&mut self, message: &Message) {
        log::trace!("to the program: {}", Escaped(message.bytes()));
        if let Some(connection) = &mut self.connection {
            if patient::write_all(connection, message.bytes()).is_err() {
                self.connection = None;
            }
        }
    }

    /// Asks the job that is there for it, or starts one.
    fn ask_job(&mut self, message: Message) {
        let spawns = Request::of(&message) == Request::Spawn;
        let of_its_own = self.shell && spawns;
        let serving = self.jobs.iter_mut().find(|job| !of_its_own && job.serves());
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
        let found = self.look_for_launchers();
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
        self.start_job(number, &purpose, questions, of_its_own, last);
    }

    /// The mpiexecs to try, and what was found that can't serve.
    fn look_for_launchers(&self) -> (Vec<Candidate>, Option<(PathBuf, How)>) {
        let libmpi = self.program.libmpi();
        let found = launcher::find(std::env::var_os("PATH").as_deref(), libmpi.as_deref());
        for (file, how) in &found.unfit {
            log::info!("{} {how}", Escaped(file.as_os_str().as_bytes()));
        }
        (found.candidates, found.unfit.into_iter().next())
    }

    /// Starts the next mpiexec that may serve this job, or tells the program that none does.
    fn start_job(
        &mut self,
        number: usize,
        purpose: &str,
        questions: Vec<(Message, Asker)>,
        of_its_own: bool,
        mut last: Option<(PathBuf, How)>,
    ) {
        // Where the program is now, as it may have changed its directory since its first spawn.
        let directory = self.program.directory();
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
                    self.jobs.push(job);
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
            hosts: crate::hosts::told_of_hosts().zip(crate::job::own_file().ok()),
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
            self.answer(&failure.to(&pending.message));
        }
    }

    fn warn_of_next(&self, number: usize, file: &std::path::Path, how: How) {
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
    fn job_failed(&mut self, at: usize, how: How) {
        let mut job = self.jobs.swap_remove(at);
        job.terminate();
        let (number, of_its_own) = (job.number, job.of_its_own);
        let (purpose, launcher) = (job.purpose.clone(), job.launcher.clone());
        let questions = job.unasked();
        if self.gone || self.pending.is_none() {
            return;
        }
        self.warn_of_next(number, &launcher, how);
        self.start_job(
            number,
            &purpose,
            questions,
            of_its_own,
            Some((launcher, how)),
        );
    }

    fn job_said(&mut self, number: usize, event: Event) {
        let Some(at) = self.jobs.iter().position(|job| job.number == number) else {
            return;
        };
        match event {
            Event::Ready => {
                log::debug!("job {number} serves");
                self.untried.remove(&number);
            }
            Event::NoManager => self.job_failed(at, How::NoManager),
            Event::Answer(answer) => {
                if let Some(pending) = self.pending.take_if(|pending| pending.job == number) {
                    if Request::of(&pending.message) == Request::Publish && !answer.is_failure() {
                        self.published.push(pending.message);
                    }
                }
                self.answer(&answer);
                self.leave_idle_jobs(Some(number));
            }
        }
    }

    /// In a shell, at each spawn and a moment later: jobs whose children have all ended are let go. There may be a thousand.
    fn leave_idle_jobs(&mut self, but: Option<usize>) {
        let mut older = self
            .jobs
            .iter_mut()
            .filter(|job| job.of_its_own && Some(job.number) != but)
            .peekable();
        if older.peek().is_some() {
            let all = tree::all();
            older.for_each(|job| job.leave_if_idle(&all));
        }
    }

    /// Takes the status of each child that has ended.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let status = ExitStatus::from_raw(status.as_raw());
            if let Some(job) = self.jobs.iter_mut().find(|job| job.pid == pid) {
                job.status = Some(status);
            }
        }
    }

    /// Jobs that have ended, that failed to start, that don't end.
    fn look_after_jobs(&mut self) {
        if (self.jobs.iter()).any(|job| job.seems_idle() && job.has_been_idle()) {
            self.leave_idle_jobs(None);
        }
        let mut at = 0;
        while at < self.jobs.len() {
            let job = &mut self.jobs[at];
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
                self.job_failed(at, How::ended(status));
            } else {
                let job = self.jobs.swap_remove(at);
                self.job_ended(&job, status);
            }
        }
    }

    /// A job is over: its children are gone.
    fn job_ended(&mut self, job: &Job, status: ExitStatus) {
        if let Some(pending) = self.pending.take_if(|pending| pending.job == job.number) {
            let failure = Request::of(&pending.message).failure("job_ended");
            self.answer(&failure.to(&pending.message));
        }
        let well = status.success() && !job.broken || job.ending.is_some() || self.finalized;
        if well || self.gone {
            log::info!("job {}, {}, ended: {status}", job.number, job.purpose);
        } else if self.shell {
            log::warn!(
                "job {}, {}, is gone: mpiexec ended with {status}; this shell goes on, and can spawn again",
                job.number,
                job.purpose
            );
        } else {
            self.end_program();
        }
    }

    /// MPI's own rule, where the program is no shell: who aborts, aborts all. Hydra kills the program's process group
    /// (HYD_pmcd_pmip_send_signal and its callers in src/pm/hydra/proxy/pmip_cb.c), and so do we, who are in it.
    fn end_program(&mut self) {
        let _ = rustix::process::getpgid(Some(self.program.pid))
            .and_then(|group| rustix::process::kill_process_group(group, Signal::KILL));
    }

    /// The program has ended. Without MPI_Finalize, its jobs end with it.
    fn program_ended(&mut self) {
        self.gone = true;
        self.connection = None;
        self.pending = None;
        if self.finalized {
            log::info!(
                "the program has ended, after MPI_Finalize: what it spawned is free to go on"
            );
            for job in &mut self.jobs {
                job.leave();
            }
        } else {
            log::info!("the program has ended without MPI_Finalize: its jobs end");
            self.end_jobs();
        }
    }

    fn end_jobs(&mut self) {
        for job in &mut self.jobs {
            job.terminate();
        }
    }

    /// What came from the terminal, or from whoever signals the program's process group, or from `spawnfix --sweep`.
    fn hear_signals(&mut self) {
        for signal in self.signals.heard() {
            match signal {
                Signal::TERM => self.end_jobs(),
                // The program leads its terminal's session, and leaves it in good order: that hangs up, too.
                Signal::HUP if self.finalized && self.program.leads_session => {}
                Signal::HUP if self.shell => {
                    self.end_jobs();
                    self.hung_up.get_or_insert_with(Instant::now);
                }
                _ if self.shell => {}
                Signal::TSTP => {
                    self.pass_on(Signal::TSTP);
                    let _ = signal_hook::low_level::emulate_default_handler(libc::SIGTSTP);
                }
                signal => self.pass_on(signal),
            }
        }
    }

    fn pass_on(&self, signal: Signal) {
        for job in &self.jobs {
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
