//! mpiexec is killed, at every step of a spawn. Whatever comes, the terminal and what was typed on it are
//! as they were, there is no second copy, and no process is left.
//!
//! The spawn works, or it is an MPI error and a message, or an application that is not interactive ends by MPI's own rule, as it
//! does without the library. Beyond anybody's help is libmpi itself: for the moment in which it and the first child
//! make each other's acquaintance, it may crash or wait without end if that child is gone, and it waits without end to be
//! called by what was killed before it could call. Without the library the program is killed at any moment, or hangs:
//! each test has both.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// How many programs run at a time: they mostly wait.
const AT_A_TIME: usize = 6;
/// How long a spawn may take, with whatever is wrong.
const SPAWN: Duration = Duration::from_secs(15);
/// How long one is waited for that may well hang.
const HANGS: Duration = Duration::from_secs(4);
/// How long the rule by which a program ends with its job may take.
const RULE: Duration = Duration::from_secs(2);
/// How long anything may outlive the program. It is 2 s, and what a loaded machine adds.
const OUTLIVES: Duration = Duration::from_secs(4);

/// When.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// So long after it was forked.
    After(Duration),
    /// As soon as so many PMI messages came and went.
    Message(usize),
    Never,
}

#[derive(Clone, Copy, Debug)]
pub struct Case {
    mpi: Mpi,
    library: bool,
    /// SPAWNFIX_INTERACTIVE.
    interactive: bool,
    when: When,
}

/// What came of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Lived,
    Error,
    Signal(i32),
    Exit(i32),
    /// The spawn never returned.
    Hung,
    /// Nor here: mpiexec had answered that it has spawned, and libmpi waits for the children to connect.
    Waited,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Lived => f.write_str("the spawn worked, and the program lived"),
            End::Error => f.write_str("an MPI error, and the program lived"),
            End::Signal(signal) => write!(f, "the program was ended by signal {signal}"),
            End::Exit(code) => write!(f, "the program ended with {code}"),
            End::Hung => f.write_str("the spawn never returned"),
            End::Waited => f.write_str("libmpi waited for children that were gone"),
        }
    }
}

struct Outcome {
    report: Report,
    /// None: mpiexec was not there at that time.
    end: Option<End>,
    /// How long anything outlived the program, and what it was.
    outlived: Duration,
    left: Vec<String>,
}

impl Outcome {
    /// Whether all that is left is a proxy of MPICH 4.1's, which may wait without end (in poll, for one descriptor) where
    /// its mpiexec was killed as it came to it. That is so without the library, too.
    fn waiting_proxy(&self) -> bool {
        let proxy = |command: &String| command.contains("/mpich-4.1.3/bin/hydra_pmi_proxy ");
        !self.left.is_empty() && self.left.iter().all(proxy)
    }
}

/// The first process that this one's main thread has started, unless it has ended: proc(5), /proc/pid/task/tid/children.
fn child(parent: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let mut children = children.split_whitespace();
    children.find_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let ended = stat.rsplit(')').next()?.trim_start().starts_with('Z');
        if ended { None } else { pid.parse().ok() }
    })
}

fn kill(pid: u32) {
    // SAFETY: a plain system call; the process is a descendant of a session's own, and was there a moment ago.
    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
}

/// How many PMI messages a log at `trace` holds.
fn messages(log: &str) -> usize {
    Report::lines(log)
        .filter(|line| line.level == "TRACE")
        .count()
}

impl Case {
    /// Runs it, with someone typing.
    fn run(&self) -> Outcome {
        let program = Program::new(self.mpi.compile("faulted.c")).arg("kept");
        let mut session = program
            .under(self.mpi)
            .library(self.library)
            .env(
                "SPAWNFIX_INTERACTIVE",
                if self.interactive { "1" } else { "0" },
            )
            .env("SPAWNFIX_LOG", "trace")
            .deadline(60)
            .start();
        let keeper = session.pid();
        session.line("before");
        let program = first_child(&mut session, keeper, SPAWN);
        let killed = program.is_some_and(|program| self.kill_mpiexec(&mut session, program));
        let may_hang = !self.library || matches!(self.when, When::After(Duration::ZERO));
        let patience = if may_hang { HANGS } else { SPAWN };
        let returned = reported(&mut session, patience, &["heard", "ended"]);
        let hung = killed && !returned;
        if killed && !hung {
            let rule = if self.interactive { RULE / 4 } else { RULE };
            reported(&mut session, rule, &["ended"]);
        }
        if let (true, Some(program)) = (hung, program) {
            kill(program);
        }
        for line in ["one", "two", "end"] {
            session.line(line);
        }
        // Without the library the lines may have been taken.
        let patience = if self.library { SPAWN } else { HANGS };
        if !reported(&mut session, patience, &["ended"]) {
            program.into_iter().for_each(kill);
            reported(&mut session, HANGS, &["ended"]);
        }
        let ended = Instant::now();
        let mut left = session.others();
        while !left.is_empty() && ended.elapsed() < OUTLIVES {
            thread::sleep(LOOK);
            left = session.others();
        }
        let outlived = ended.elapsed();
        session.line("done");
        session.has_seconds(2);
        let report = session.finish();
        Outcome {
            end: killed.then(|| end(&report, hung)),
            outlived,
            left: left.into_iter().map(|process| process.command).collect(),
            report,
        }
    }

    /// Kills mpiexec at its time. False: it was not there then.
    fn kill_mpiexec(&self, session: &mut Session, program: u32) -> bool {
        let Some(launched) = first_child(session, program, SPAWN) else {
            return false;
        };
        // The mpiexec is the agent's child with the library, and libmpi's own without.
        let victim = match self.library {
            true => first_child(session, launched, SPAWN),
            false => Some(launched),
        };
        let Some(victim) = victim else {
            return false;
        };
        match self.when {
            When::Never => return false,
            When::After(time) => thread::sleep(time),
            When::Message(number) => {
                let log = session.dir().join("log");
                let since = Instant::now();
                while messages(&fs::read_to_string(&log).unwrap_or_default()) < number {
                    if since.elapsed() > HANGS || session.ended() {
                        return false;
                    }
                    thread::sleep(Duration::from_micros(200));
                }
            }
        }
        kill(victim);
        true
    }
}

/// Waits for the first child of this process.
fn first_child(session: &mut Session, parent: u32, patience: Duration) -> Option<u32> {
    let since = Instant::now();
    while since.elapsed() < patience && !session.ended() {
        if let Some(child) = child(parent) {
            return Some(child);
        }
        thread::sleep(Duration::from_micros(300));
    }
    None
}

/// Waits until one of these was reported.
fn reported(session: &mut Session, patience: Duration, names: &[&str]) -> bool {
    let since = Instant::now();
    loop {
        let mut names = names.iter();
        if names.any(|name| session.reported_within(Duration::ZERO, name)) {
            return true;
        }
        if since.elapsed() > patience || session.ended() {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn end(report: &Report, hung: bool) -> End {
    let mut words = report.fact("ended").unwrap_or_default().split(' ');
    let how = words.next().unwrap_or_default();
    let number = words
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(-1);
    match (how, number) {
        _ if hung && report.count("spawned") == 0 && answered(report) => End::Waited,
        _ if hung => End::Hung,
        ("signal", signal) => End::Signal(signal),
        (_, 0) if report.fact("spawned") == Some("0") => End::Lived,
        (_, 0) => End::Error,
        (_, code) => End::Exit(code),
    }
}

/// What is wrong whoever was killed and however the program ended.
fn harm(outcome: &Outcome) -> Option<String> {
    let report = &outcome.report;
    if report.count("spawning") != 1 || report.count("spawned") > 1 {
        return Some("there was a second copy".to_owned());
    }
    if report.read != report.sent {
        return Some("not each line was read once".to_owned());
    }
    for whose in ["", "keepers_"] {
        for (what, good) in [("terminal", "same"), ("flags", "same"), ("stdin", "same")] {
            let value = report.fact(&format!("{whose}{what}"));
            // A program that was ended tells nothing.
            if value.is_some_and(|value| value != good) || value.is_none() && !whose.is_empty() {
                return Some(format!("{whose}{what}: {value:?}"));
            }
        }
    }
    if !outcome.left.is_empty() && !outcome.waiting_proxy() {
        return Some(format!(
            "left after {:?}: {:?}",
            outcome.outlived, outcome.left
        ));
    }
    None
}

/// Whether the agent has told the program that its spawn succeeded.
fn answered(report: &Report) -> bool {
    report
        .log
        .contains("to the application: cmd=spawn_result rc=0")
}

fn told(report: &Report) -> bool {
    Report::lines(&report.log).any(|line| ["ERROR", "WARN"].contains(&line.level))
}

/// What is wrong with an end.
fn wrong(case: &Case, outcome: &Outcome) -> Option<String> {
    let (end, report) = (outcome.end?, &outcome.report);
    match end {
        End::Lived => None,
        End::Error if told(report) => None,
        End::Error => Some("an MPI error without a message".to_owned()),
        // MPI's own rule: who aborts, aborts all.
        End::Signal(libc::SIGKILL) if !case.interactive => None,
        // libmpi and the first child were about to know each other.
        End::Signal(_) | End::Exit(_) | End::Waited if answered(report) => None,
        _ => Some(end.to_string()),
    }
}

/// How many of these ends are libmpi's own: at most a quarter and one, with so many at a time that a moment is long. Under
/// MPICH 4.1.3 it was up to 10 of 40 in a session, under the others up to 2.
fn acquaintance(ends: &Ends) -> usize {
    let own = |end: &End| match end {
        End::Signal(signal) => *signal != libc::SIGKILL,
        End::Exit(_) | End::Waited => true,
        _ => false,
    };
    ends.iter()
        .filter(|(end, _)| own(end))
        .map(|(_, count)| count)
        .sum()
}

/// How many of the runs of a kind ended so.
type Ends = BTreeMap<End, usize>;

/// Runs all of them, several at a time; says how they ended, and what went wrong where the library is.
fn run_all(title: &str, cases: &[Case]) -> (Ends, Vec<String>) {
    let ends = Mutex::new(Ends::new());
    let missed = AtomicUsize::new(0);
    let proxies = AtomicUsize::new(0);
    let wrongs = Mutex::new(Vec::new());
    let longest = Mutex::new(Duration::ZERO);
    let lines = Mutex::new(Vec::new());
    let since = Instant::now();
    several(AT_A_TIME, cases, |case| {
        let outcome = case.run();
        let line = format!("{:?}: {:?}", case.when, outcome.end);
        lines.lock().unwrap().push(line);
        match outcome.end {
            Some(end) => *ends.lock().unwrap().entry(end).or_default() += 1,
            None => _ = missed.fetch_add(1, Ordering::Relaxed),
        }
        if outcome.waiting_proxy() {
            proxies.fetch_add(1, Ordering::Relaxed);
        } else {
            let mut longest = longest.lock().unwrap();
            *longest = outcome.outlived.max(*longest);
        }
        if !case.library {
            return;
        }
        if let Some(why) = harm(&outcome).or_else(|| wrong(case, &outcome)) {
            let text = format!("{} {:?}: {why}", case.mpi.name, case.when);
            eprintln!("WRONG {title}: {text}");
            wrongs
                .lock()
                .unwrap()
                .push(format!("{text}\n{}", outcome.report));
        }
    });
    let (ends, missed) = (ends.into_inner().unwrap(), missed.into_inner());
    let mut text = format!("{title}: {} runs in {:.0?}\n", cases.len(), since.elapsed());
    for (end, count) in &ends {
        let _ = writeln!(text, "    {count:5} {end}");
    }
    let longest = longest.into_inner().unwrap();
    let _ = writeln!(
        text,
        "    {missed:5} nobody to be killed then; the last process went {longest:.1?} after the program"
    );
    let proxies = proxies.into_inner();
    if proxies > 0 {
        let _ = writeln!(text, "    {proxies:5} left a proxy of MPICH 4.1's");
    }
    eprint!("{text}");
    let mut wrongs = wrongs.into_inner().unwrap();
    let file = format!("kills {title}.txt").replace([' ', ',', ':'], "-");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
    let lines = lines.into_inner().unwrap().join("\n");
    fs::write(&file, format!("{text}\n{lines}\n\n{}", wrongs.join("\n\n")))
        .expect("target/tmp can be written");
    if missed * 4 > cases.len() {
        wrongs.push(format!(
            "in {missed} of {} runs nobody was killed",
            cases.len()
        ));
    }
    (ends, wrongs)
}

/// Every so many milliseconds, from the fork of mpiexec on. With so many at a time, a spawn takes that long.
fn every(step: usize) -> impl Iterator<Item = When> {
    let times = (0..400).step_by(step).map(Duration::from_millis);
    times.map(When::After)
}

/// A program, and a session, whose mpiexec is killed at these times; and without the library.
pub fn killed(mpi: Mpi, bare: &[When], cured: &[When]) -> Vec<String> {
    let mut all = Vec::new();
    for (how, library, interactive) in [
        ("without the library", false, false),
        ("in an application", true, false),
        ("in a session", true, true),
    ] {
        let case = |when: &When| Case {
            mpi,
            library,
            interactive,
            when: *when,
        };
        let times = if library { cured } else { bare };
        if times.is_empty() {
            continue;
        }
        let cases: Vec<_> = times.iter().map(case).collect();
        let (ends, wrongs) = run_all(&format!("mpiexec killed, {} {how}", mpi.name), &cases);
        all.extend(wrongs);
        let own = acquaintance(&ends);
        if library && own > 1 + cases.len() / 4 {
            all.push(format!(
                "{own} of {} ended in libmpi: {ends:?}",
                cases.len()
            ));
        }
        // Under Intel MPI it may be an MPI error, too.
        if !library && ends.contains_key(&End::Lived) {
            all.push(format!("without the library: {ends:?}"));
        }
    }
    all
}

/// The MPIs whose own launcher serves a program that was started without it.
pub const MPIS: [Mpi; 4] = [MPICH_4_1_3, MPICH_4_2_3, MPICH_5_0_2, INTEL_MPI];

#[track_caller]
pub fn check(wrongs: &[String]) {
    assert!(
        wrongs.is_empty(),
        "{} went wrong: {}",
        wrongs.len(),
        wrongs[0]
    );
}

pub fn killed_every(step: usize) {
    let times: Vec<_> = every(step).collect();
    let all = that_are_here(&MPIS).flat_map(|mpi| killed(mpi, &times, &times));
    check(&all.collect::<Vec<_>>());
}

/// PMI messages go from the application to its agent, from there to mpiexec, and back: after each, mpiexec is killed.
pub fn killed_after_each_message(mpi: Mpi) -> Vec<String> {
    let whole = Case {
        mpi,
        library: true,
        interactive: false,
        when: When::Never,
    };
    let report = whole.run().report;
    let count = messages(&report.log);
    report.check(count > 5, "the log tells of each message");
    let each: Vec<_> = (1..=count).map(When::Message).collect();
    killed(mpi, &[], &each)
}
