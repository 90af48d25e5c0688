//! System calls of the forked child, the agent and the bridge fail, one at a time, or what they need is missing: the
//! spawn works, or it is an MPI error and a message; the program reads on as if nothing had been.
//!
//! strace(1) injects: what is wrong is wrong in one process, once, at a known call. A run without a fault is recorded
//! first, so that every call of it is known.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use tempfile::TempDir;

/// How many programs run at a time: they mostly wait.
const AT_A_TIME: usize = 6;
/// How long a spawn may take, with whatever is wrong.
pub const SPAWN: Duration = Duration::from_secs(25);
/// How long anything may outlive the program. It is 2 s, and what a loaded machine adds.
const OUTLIVES: Duration = Duration::from_secs(4);

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whom {
    Agent,
    Bridge,
    /// The child that libmpi forks, until it is the agent.
    Child,
    /// The same where there is no agent for it: it becomes mpiexec.
    LoneChild,
}

impl Whom {
    fn word(self) -> &'static str {
        match self {
            Whom::Agent => "agent",
            Whom::Bridge => "bridge",
            Whom::Child => "child",
            Whom::LoneChild => "lone child",
        }
    }

    /// Whether the trace tells of what counts from this line on. Before main, Rust's runtime ends the process where
    /// something fails; the last that it does is to set a stack for signals. A child's begins where strace has it.
    fn begins(self, line: &str) -> bool {
        match self {
            Whom::Agent | Whom::Bridge => {
                line.starts_with("sigaltstack(") && !line.contains("(NULL")
            }
            Whom::Child | Whom::LoneChild => line.starts_with("getpgid("),
        }
    }
}

/// What may go wrong with a system call, of the errors that its manual page knows: what a signal interrupts, and what a
/// process or a machine may run out of. On a loopback stream and a pipe nothing else goes wrong.
fn errors(call: &str) -> &'static [&'static str] {
    match call {
        "openat" | "open" => &["EMFILE", "ENFILE", "EINTR", "ENOMEM", "EPERM"],
        // Not "socket" and "connect": the agent's first socket is its only way to the application.
        "socketpair" | "pipe2" | "accept4" | "accept" | "epoll_create1" | "eventfd2" => {
            &["EMFILE", "ENFILE", "ENOMEM"]
        }
        "pidfd_open" => &["EMFILE", "ENFILE", "ENOMEM"],
        "dup" | "dup2" | "dup3" => &["EMFILE", "EINTR"],
        "read" | "recvfrom" | "recvmsg" => &["EINTR"],
        "write" | "sendto" | "sendmsg" => &["EINTR"],
        "poll" | "ppoll" => &["EINTR", "ENOMEM"],
        "connect" => &["EINTR"],
        "bind" | "listen" | "getsockname" | "setsockopt" | "shutdown" => &["ENOMEM", "EPERM"],
        "clone" | "clone3" | "fork" | "vfork" => &["EAGAIN", "ENOMEM", "EPERM"],
        "execve" => &["ENOMEM", "EAGAIN", "EMFILE", "ENFILE", "EPERM"],
        "wait4" | "waitid" => &["EINTR"],
        "kill" | "setpgid" => &["EPERM"],
        "fcntl" => &["EMFILE"],
        "ioctl" => &["EPERM", "EINTR"],
        "prctl" => &["EPERM"],
        "mmap" | "mremap" => &["ENOMEM"],
        "getdents64" | "readlink" | "readlinkat" | "statx" | "newfstatat" | "stat" | "lstat" => {
            &["ENOMEM"]
        }
        _ => &[],
    }
}

/// A call of a recorded run: its name, and how many of that name there were with it.
#[derive(Clone, Debug)]
struct Step {
    call: String,
    nth: usize,
}

#[derive(Clone, Debug)]
pub struct Case {
    mpi: Mpi,
    whom: Whom,
    fault: Option<String>,
    /// How long the spawn may take.
    limit: Duration,
}

/// What came of a case.
pub struct Outcome {
    pub report: Report,
    /// strace's.
    trace: String,
    /// How long anything outlived the program.
    pub outlived: Duration,
    took: Duration,
}

impl Outcome {
    /// Whether the fault was there.
    fn was_hit(&self) -> bool {
        ["INJECTED", "killed by SIGKILL"]
            .iter()
            .any(|word| self.trace.contains(word))
    }
}

/// Where the library finds, in the agent's place, the program that becomes it under strace.
fn place() -> PathBuf {
    static ONCE: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    ONCE.get_or_init(|| {
        let mut compiler = Command::new("cc");
        compiler.arg(app("under_strace.c"));
        let wrapper = build(compiler, "under_strace.c", "faults");
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults");
        fs::create_dir_all(&place).expect("target/tmp can be written");
        for (from, to) in [(wrapper, "spawnfix"), (library(), "libspawnfix.so")] {
            let part = place.join(format!("{to}.{}", std::process::id()));
            fs::copy(from, &part).expect("target/tmp can be written");
            fs::rename(&part, place.join(to)).expect("it can be renamed");
        }
        place
    })
    .clone()
}

/// This library, and behind it the one that has the program's child traced.
fn with_traced_child(library: &Path) -> OsString {
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC"])
        .arg(app("traced_child.c"));
    let tracing = build(compiler, "traced_child.c", "faults");
    join(join(library, ":"), tracing)
}

/// strace, or the test says that it skips.
pub fn strace_is_here() -> bool {
    let here = Command::new("strace")
        .arg("-V")
        .output()
        .is_ok_and(|output| output.status.success());
    if !here {
        skip("strace is not there");
    }
    here
}

impl Case {
    pub fn new(mpi: Mpi, whom: Whom) -> Case {
        Case {
            mpi,
            whom,
            fault: None,
            limit: SPAWN,
        }
    }

    /// With less time for the spawn, which is expected to hang.
    pub fn within(mut self, limit: Duration) -> Case {
        self.limit = limit;
        self
    }

    pub fn fault(mut self, fault: impl Into<String>) -> Case {
        self.fault = Some(fault.into());
        self
    }

    /// A process of a job that fails ends the job, and in what is not interactive the program: who aborts, aborts all. And
    /// where a forked child has no agent to execute, what goes wrong there comes of it as without the library.
    fn may_end(&self, outcome: &Outcome) -> Option<&'static str> {
        let fault = self.fault.as_deref().unwrap_or_default();
        let is = |words: &[&str]| words.iter().any(|word| fault.contains(word));
        let clean = outcome.report.left.is_empty() && outcome.outlived < OUTLIVES;
        let killed = clean && outcome.report.signal() == Some(libc::SIGKILL);
        let hung = clean && outcome.report.fact("spawned").is_none();
        let lost = clean && outcome.report.read != outcome.report.sent;
        match self.whom {
            Whom::Bridge if killed && is(&["signal=KILL", "EIO", "EPIPE"]) => {
                Some("the program ended with its job")
            }
            Whom::LoneChild if (killed || lost) && is(&["openat:", "dup2:"]) => {
                Some("mpiexec kept the terminal, as without the library")
            }
            Whom::LoneChild if hung && is(&["execve:"]) => {
                Some("mpiexec could not be executed: the spawn hung, as without the library")
            }
            _ => None,
        }
    }

    pub fn run(&self) -> Outcome {
        let own = TempDir::new_in(place()).expect("target/tmp can be written");
        let trace = own.path().join("trace");
        let program = Program::new(self.mpi.compile("faulted.c"))
            .under(self.mpi)
            .library(true)
            .env("SPAWNFIX_INTERACTIVE", "0");
        let mut program = match self.whom {
            Whom::Agent | Whom::Bridge => program
                .env("LD_PRELOAD", place().join("libspawnfix.so"))
                .env("FAULT_IN", self.whom.word())
                .env("FAULT_PLACE", own.path())
                .env("FAULT_REAL", agent().parent().expect("a directory")),
            Whom::Child => program.env("LD_PRELOAD", with_traced_child(&library())),
            Whom::LoneChild => {
                let lone = own.path().join("libspawnfix.so");
                fs::copy(library(), &lone).expect("target/tmp can be written");
                program.env("LD_PRELOAD", with_traced_child(&lone))
            }
        };
        let names = match self.whom {
            Whom::Agent | Whom::Bridge => ["FAULT_TRACE", "FAULT"],
            Whom::Child | Whom::LoneChild => ["CHILD_TRACE", "CHILD_FAULT"],
        };
        program = program.env(names[0], &trace);
        if let Some(fault) = &self.fault {
            program = program.env(names[1], format!("inject={fault}"));
        }
        let (report, outlived, took) = play(program, self.limit);
        let trace = fs::read(&trace).unwrap_or_default();
        Outcome {
            report,
            trace: String::from_utf8_lossy(&trace).into_owned(),
            outlived,
            took,
        }
    }
}

/// Types at the program as it spawns and after it.
pub fn play(program: Program, limit: Duration) -> (Report, Duration, Duration) {
    let since = Instant::now();
    let mut session = program.start();
    session.line("before");
    let spawned = session.reported_within(limit, "heard");
    let took = since.elapsed();
    if spawned {
        session.line("one");
        session.line("two");
        session.line("end");
        session.reported("end");
    } else {
        session.has_seconds(0);
    }
    for _ in 0..500 {
        if session.ended() || !spawned {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    let ended = Instant::now();
    while session.ended() && !session.others().is_empty() && ended.elapsed() < OUTLIVES {
        thread::sleep(Duration::from_millis(20));
    }
    let outlived = ended.elapsed();
    (session.finish(), outlived, took)
}

/// What is wrong with it, or how it went.
pub fn judge(report: &Report, outlived: Duration) -> Result<&'static str, String> {
    let fact = |name| report.fact(name);
    if let Some(signal) = report.signal() {
        return Err(format!("the program was ended by signal {signal}"));
    }
    if fact("spawned").is_none() {
        return Err("the spawn never returned".to_owned());
    }
    if report.code() != Some(0) {
        return Err(format!("the program ended with {:?}", report.status));
    }
    if report.count("spawned") != 1 || report.count("spawning") != 1 {
        return Err("there was a second copy".to_owned());
    }
    if report.read != report.sent {
        return Err("not each line was read".to_owned());
    }
    for (name, value) in [("terminal", "same"), ("flags", "same"), ("stdin", "same")] {
        if fact(name) != Some(value) {
            return Err(format!("{name}: {:?}", fact(name)));
        }
    }
    if !report.left.is_empty() || outlived >= OUTLIVES {
        return Err(format!("left after {outlived:?}: {:?}", report.left));
    }
    if fact("spawned") == Some("0") {
        return match fact("heard") {
            Some("yes") => Ok("the spawn worked"),
            _ => Ok("the spawn worked, and its child was gone then"),
        };
    }
    let told = |level| {
        Report::lines(&report.log)
            .chain(Report::lines(&report.output))
            .any(|line| line.level == level)
    };
    if told("ERROR") || told("WARN") {
        Ok("an MPI error, and a message")
    } else {
        Err("an MPI error without a message".to_owned())
    }
}

/// The calls of a run without a fault, except those before it counts, and the one by which std's Command hears
/// whether its child could exec: where that fails, which it can't, Command waits for the child's end.
fn steps(whom: Whom, trace: &str) -> Vec<Step> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut all = Vec::new();
    let mut counts_now = false;
    for line in trace.lines() {
        let Some((call, _)) = line.split_once('(') else {
            continue;
        };
        if !call
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            continue;
        }
        let count = counts.entry(call).or_default();
        *count += 1;
        let hears_of_exec = line.starts_with("recvfrom(") && line.contains(", 8, 0, NULL, NULL)");
        if counts_now && !hears_of_exec {
            all.push(Step {
                call: call.to_owned(),
                nth: *count,
            });
        }
        counts_now |= whom.begins(line);
    }
    all
}

/// Runs all of them, several at a time; says what came of each kind, and fails if one went wrong.
fn run_all(title: &str, cases: &[Case]) {
    let missed = AtomicUsize::new(0);
    let table: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
    let wrong = Mutex::new(Vec::new());
    let longest = Mutex::new((Duration::ZERO, Duration::ZERO));
    let since = Instant::now();
    several(AT_A_TIME, cases, |case| {
        let outcome = case.run();
        let judged = judge(&outcome.report, outcome.outlived);
        let word = match judged.or_else(|why| case.may_end(&outcome).ok_or(why)) {
            Ok(how) if outcome.was_hit() => how.to_owned(),
            Ok(_) => {
                missed.fetch_add(1, Ordering::Relaxed);
                "the call did not come this time".to_owned()
            }
            Err(why) => {
                let line = outcome
                    .trace
                    .lines()
                    .rev()
                    .find(|line| line.contains("INJECTED"));
                let text = format!(
                    "{} {:?} {}: {why}: {}",
                    case.mpi.name,
                    case.whom,
                    case.fault.as_deref().unwrap_or("no fault"),
                    line.unwrap_or_default()
                );
                eprintln!("WRONG {text}");
                wrong
                    .lock()
                    .unwrap()
                    .push(format!("{text}\n{}", outcome.report));
                format!("WRONG: {why}")
            }
        };
        *table.lock().unwrap().entry(word).or_default() += 1;
        let mut longest = longest.lock().unwrap();
        longest.0 = longest.0.max(outcome.took);
        longest.1 = longest.1.max(outcome.outlived);
    });
    let mut text = format!("{title}: {} runs in {:.0?}\n", cases.len(), since.elapsed());
    for (word, count) in table.into_inner().unwrap() {
        let _ = writeln!(text, "    {count:5} {word}");
    }
    let (took, outlived) = longest.into_inner().unwrap();
    let _ = writeln!(
        text,
        "    the longest spawn took {took:.1?}; the last process went {outlived:.1?} after the program"
    );
    eprint!("{text}");
    let wrong = wrong.into_inner().unwrap();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("{}.txt", title.replace([' ', ','], "-")));
    fs::write(&file, format!("{text}\n{}", wrong.join("\n\n"))).expect("target/tmp can be written");
    assert!(
        wrong.is_empty(),
        "{} of {} went wrong: see {}\n{}",
        wrong.len(),
        cases.len(),
        file.display(),
        wrong[0]
    );
    let missed = missed.into_inner();
    assert!(
        // How much the agent reads in /proc depends on what else runs on this machine.
        missed <= 1 + cases.len() / 4,
        "in {missed} of {} runs nothing failed",
        cases.len()
    );
}

/// A run without a fault, under strace: it works, and tells the calls. The shortest of three: on a busy machine the
/// agent looks at what sends no word of itself now and then, and those calls come in few runs.
fn record(mpi: Mpi, whom: Whom) -> String {
    let runs = (0..3).map(|_| {
        let outcome = Case::new(mpi, whom).run();
        let judged = judge(&outcome.report, outcome.outlived);
        outcome.report.check(
            judged == Ok("the spawn worked"),
            &format!("it works without a fault: {judged:?}"),
        );
        outcome.trace
    });
    let trace = runs.min_by_key(String::len).expect("three runs");
    // Which call a `when=` means is looked up there.
    let file = format!("{} {}.strace", whom.word(), mpi.name);
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(file), &trace)
        .expect("target/tmp can be written");
    trace
}

/// Of all cases, each so many.
pub fn failing_calls(mpi: Mpi, whom: Whom, every: usize) {
    at_calls("", mpi, whom, every, |call| {
        // Errors that last. Between libmpi and the agent one is the end, as libmpi takes no other.
        let lasting: &[_] = match call {
            "read" | "recvfrom" if whom == Whom::Bridge => &["EIO"],
            "write" | "sendto" if whom == Whom::Bridge => &["EPIPE"],
            _ => &[],
        };
        let errors = errors(call).iter().chain(lasting);
        errors.map(|error| format!("error={error}")).collect()
    });
}

/// What is injected into each call, or each so many.
pub fn at_calls(
    what: &str,
    mpi: Mpi,
    whom: Whom,
    every: usize,
    faults: impl Fn(&str) -> Vec<String>,
) {
    if !strace_is_here() {
        return;
    }
    for mpi in that_are_here(&[mpi]) {
        let mut cases = Vec::new();
        for step in steps(whom, &record(mpi, whom)) {
            for fault in faults(&step.call) {
                let fault = format!("{}:{fault}:when={}", step.call, step.nth);
                cases.push(Case::new(mpi, whom).fault(fault));
            }
        }
        let cases: Vec<_> = cases.into_iter().step_by(every).collect();
        let title = format!("{}{what} {}, each {every}", whom.word(), mpi.name);
        run_all(&title, &cases);
    }
}
