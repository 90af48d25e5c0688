//! However often one spawns, every line that is typed is read, and what the program and its agent hold does not grow.
//!
//! Many spawns in one program, many programs, many at a time, many children: `make test` does it briefly, `make soak`
//! for half an hour.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::ipython::Kind;
use super::stories::{close_the_window, left_again_and_again};
use super::*;

/// What is not flat grows with each spawn: a descriptor, a zombie, a thread, or memory. An allocator takes some pages
/// more or less.
const SLACK_KB: u64 = 512;
/// From line to line.
const LINE: Duration = Duration::from_millis(10);
/// What a terminal keeps for a reader is 4 KB (N_TTY_BUF_SIZE in Linux's tty.h): someone who is not read stops typing.
const AHEAD: usize = 2000;
/// How long what a spawn had needed may take to end. mpiexec takes its time on a busy machine.
const SETTLING: Duration = Duration::from_secs(15);

/// How often, for each MPI, in an interactive session and not.
pub struct Counts {
    pub spawns: usize,
    /// One after the other.
    pub programs: usize,
    /// Of eight programs each.
    pub groups: usize,
    /// At once.
    pub children: usize,
    /// Spawns that Ctrl-C leaves, in one session.
    pub left: usize,
    /// Terminals that are closed.
    pub windows: usize,
    /// Whether nobody else uses /dev/shm meanwhile.
    pub alone: bool,
    /// How long each may take.
    pub seconds: u64,
}

/// A figure for tests/README.md, past the test runner's capture.
pub fn figure(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "soak: {text}");
}

// --- what processes hold ---

/// What a process holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Held {
    pub processes: usize,
    pub descriptors: usize,
    pub threads: u64,
    pub zombies: usize,
    /// RssAnon of /proc/PID/status.
    pub memory_kb: u64,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, fds, threads) = (self.processes, self.descriptors, self.threads);
        let (zombies, kb) = (self.zombies, self.memory_kb);
        write!(
            f,
            "{all} processes, {fds} descriptors, {threads} threads, {zombies} zombies, {kb} KB"
        )
    }
}

/// proc(5): the state, the parent.
fn state_and_parent(pid: &str) -> Option<(String, String)> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
}

fn pids() -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("there is a /proc").flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .collect()
}

/// What these processes hold, all together.
pub fn held(these: &[u32]) -> Held {
    let mut all = Held::default();
    let zombies: Vec<_> = pids()
        .iter()
        .filter_map(|pid| state_and_parent(pid))
        .filter(|(state, _)| state == "Z")
        .map(|(_, parent)| parent)
        .collect();
    for pid in these {
        let place = PathBuf::from(format!("/proc/{pid}"));
        let status = fs::read_to_string(place.join("status")).unwrap_or_default();
        let number = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let word = line.and_then(|line| line.split_whitespace().next());
            word.and_then(|word| word.parse().ok())
                .unwrap_or_else(|| panic!("{pid} has no {name}"))
        };
        all.processes += 1;
        all.threads += number("Threads:");
        all.memory_kb += number("RssAnon:");
        all.descriptors += fs::read_dir(place.join("fd")).map_or(0, Iterator::count);
        let pid = pid.to_string();
        all.zombies += zombies.iter().filter(|parent| **parent == pid).count();
    }
    all
}

/// The agent of this session, and its bridge where jobs are shared.
fn spawnfixes(session: &Session) -> Vec<u32> {
    let agent = agent();
    let others = session.others().into_iter().map(|other| other.pid as u32);
    others
        .filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == agent))
        .collect()
}

/// What the application holds, and what its agent and bridge hold: once there are no more than these processes.
fn held_by(session: &Session, processes: usize) -> (Held, Held) {
    let limit = Instant::now() + SETTLING;
    loop {
        thread::sleep(Duration::from_millis(300));
        let serving = spawnfixes(session);
        if serving.len() <= processes || Instant::now() > limit {
            return (held(&[session.pid()]), held(&serving));
        }
    }
}

/// Not more of anything.
#[track_caller]
pub fn check_flat(report: &Report, whose: &str, first: Held, last: Held, grows_anyway_kb: u64) {
    let seen = format!("{whose}: {first} after a quarter, {last} at the end");
    for (what, first, last) in [
        ("processes", first.processes, last.processes),
        // libmpi's connections to children that are going may be there or not: what is lost is lost with each spawn.
        ("descriptors", first.descriptors + 4, last.descriptors),
        ("threads", first.threads as usize, last.threads as usize),
        ("zombies", 0, last.zombies),
    ] {
        report.check(last <= first, &format!("no more {what}; {seen}"));
    }
    report.check(
        last.memory_kb <= first.memory_kb + grows_anyway_kb + SLACK_KB,
        &format!("no more memory, but {grows_anyway_kb} KB that libmpi takes by itself; {seen}"),
    );
}

// --- someone types ---

/// What was seen of a program that spawned, and of what it held after a quarter and at the end.
struct Seen {
    report: Report,
    held: Vec<(Held, Held)>,
    took: Duration,
}

impl Seen {
    fn lines(&self) -> usize {
        self.report.sent.iter().filter(|&&b| b == b'\n').count()
    }

    /// How much more memory the program had at the end than after a quarter.
    fn growth_kb(&self) -> u64 {
        match self.held[..] {
            [(first, _), (last, _)] => last.memory_kb.saturating_sub(first.memory_kb),
            _ => panic!("it did not come that far\n{}", self.report),
        }
    }
}

fn soak(counts: &Counts, mpi: Mpi, spawns: usize, library: bool) -> Program {
    Program::new(mpi.compile("soak.c"))
        .arg(spawns.to_string())
        .under(mpi)
        .library(library)
        .deadline(counts.seconds)
}

/// What is done while a program spawns.
#[derive(Clone, Copy, PartialEq)]
enum Watch {
    /// Someone types.
    Typing,
    /// Someone looks what it holds.
    Looking,
    /// Both, and so many processes serve it between its spawns.
    Both(usize),
}

/// Types until the program has done with spawning, and as long as it is read.
fn type_along(counts: &Counts, program: Program, watch: Watch) -> Seen {
    let types = watch != Watch::Looking;
    let started = Instant::now();
    let mut session = program.start();
    let mut seen = Vec::new();
    let mut took = Duration::ZERO;
    let size = |session: &Session, name| {
        fs::metadata(session.dir().join(name)).map_or(0, |metadata| metadata.len() as usize)
    };
    let mut line = 0;
    while !session.ended() && seen.len() < 2 && started.elapsed().as_secs() < counts.seconds {
        if types && session.sent().len() < size(&session, "read") + AHEAD {
            line += 1;
            session.line(&format!("line {line}"));
        }
        thread::sleep(LINE);
        let mark = format!("held={}", seen.len() + 1);
        let reported = fs::read_to_string(session.dir().join("report")).unwrap_or_default();
        if reported.lines().any(|line| line == mark) {
            seen.push(match watch {
                Watch::Typing => Default::default(),
                Watch::Looking => held_by(&session, 0),
                Watch::Both(processes) => held_by(&session, processes),
            });
            took = started.elapsed();
            let go = session.dir().join(format!("go{}", seen.len()));
            File::create(go).expect("the directory is ours");
        }
    }
    if types {
        session.end_of_input();
    }
    Seen {
        report: session.finish(),
        held: seen,
        took,
    }
}

/// It read each line, and so on.
#[track_caller]
fn check_cured(seen: &Seen, spawns: usize, children: usize) {
    let report = &seen.report;
    report.check_ended_well();
    report.check(report.fact("end").is_some(), "it comes to its end");
    report.check(report.fact("wrong").is_none(), "MPI's answers are right");
    let children = children.to_string();
    let spawned = report.values("spawned");
    report.check(
        spawned.filter(|size| *size == children).count() == spawns,
        "every spawn had its children",
    );
    report.check_read_all();
    report.check_no_warning();
}

/// Without the library it dies of being typed at.
#[track_caller]
fn check_disease(counts: &Counts, mpi: Mpi) {
    if mpi.disease == Disease::Killed {
        let bare = soak(counts, mpi, 32, false).deadline(20);
        type_along(counts, bare, Watch::Typing)
            .report
            .check_killed();
    }
}

/// How much the program's memory grows without the library, in KB, and how many seconds it takes. Without a stdin there
/// is nothing that could be taken from it: it lives, and shows what libmpi itself is in need of. Found out once for
/// each MPI, and kept in target/tmp.
fn without(counts: &Counts, mpi: Mpi) -> (u64, u64) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = lock(&ONE_AT_A_TIME);
    let spawns = counts.spawns;
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let kept = kept.join(format!("soak-without-{}-{spawns}", mpi.name));
    let known = fs::read_to_string(&kept).ok().and_then(|text| {
        let (growth, seconds) = text.trim().split_once(' ')?;
        Some((growth.parse().ok()?, seconds.parse().ok()?))
    });
    known.unwrap_or_else(|| {
        let bare = soak(counts, mpi, spawns, false).stdin(Stdin::Null);
        let bare = type_along(counts, bare, Watch::Looking);
        bare.report.check(
            bare.report.code() == Some(0) && bare.report.count("spawned") == spawns,
            "without the library and without a stdin it spawns as often",
        );
        let found = (bare.growth_kb(), bare.took.as_secs());
        fs::write(&kept, format!("{} {}\n", found.0, found.1)).expect("target/tmp can be written");
        found
    })
}

#[track_caller]
pub fn many_spawns(counts: &Counts, mpi: Mpi, interactive: &str) {
    if !mpi.is_here() {
        return;
    }
    let spawns = counts.spawns;
    let (libmpis, took) = without(counts, mpi);
    let program = soak(counts, mpi, spawns, true).env("SPAWNFIX_INTERACTIVE", interactive);
    // The bridge is that of the job that all spawns share, or, in a session, of the last spawn's: its job ends at the
    // next one.
    let processes = 2;
    let seen = type_along(counts, program, Watch::Both(processes));
    check_cured(&seen, spawns, 1);
    let lines = seen.lines();
    seen.report
        .check(lines >= spawns, "it was typed at as often as it spawned");
    let [(first, served), (last, serves)] = seen.held[..] else {
        panic!("it was not seen twice\n{}", seen.report)
    };
    figure(&format!(
        "{}, SPAWNFIX_INTERACTIVE={interactive}: {spawns} spawns in {:.0} s ({took} s without), {lines} lines typed and read\n  \
         the program, after a quarter and at the end: {first}; {last}; without, it grew by {libmpis} KB\n  \
         its agent: {served}; {serves}",
        mpi.name,
        seen.took.as_secs_f64(),
    ));
    seen.report.check(
        served.processes == processes,
        "the agent is there, and a bridge",
    );
    // What libmpi takes by itself varies from run to run.
    let libmpis = libmpis + libmpis / 10;
    check_flat(&seen.report, "the program", first, last, libmpis);
    check_flat(&seen.report, "its agent", served, serves, 0);
}

/// Without the library it is killed where someone types, and where nothing can be typed it lives.
#[track_caller]
pub fn without_the_library(counts: &Counts) {
    side_by_side(&SICK_AND_HEALTHY, |mpi| {
        check_disease(counts, mpi);
        without(counts, mpi);
    });
}

/// Runs programs that spawn once and are typed at, so many at a time.
#[track_caller]
pub fn programs(counts: &Counts, count: usize, at_a_time: usize) {
    for (mpi, interactive) in pairs(&SICK_AND_HEALTHY, &["0", "1"]) {
        if !mpi.is_here() {
            continue;
        }
        let all = several(at_a_time, &vec![(); count], |()| {
            let program = soak(counts, mpi, 1, true).env("SPAWNFIX_INTERACTIVE", interactive);
            let seen = type_along(counts, program, Watch::Typing);
            check_cured(&seen, 1, 1);
            seen.lines()
        });
        figure(&format!(
            "{}, SPAWNFIX_INTERACTIVE={interactive}: {count} programs, {at_a_time} at a time, {} lines typed and read",
            mpi.name,
            all.iter().sum::<usize>()
        ));
    }
}

/// One program that spawns many children at once.
#[track_caller]
pub fn many_children(counts: &Counts) {
    let children = counts.children;
    for (mpi, interactive) in pairs(&SICK_AND_HEALTHY, &["0", "1"]) {
        if !mpi.is_here() {
            continue;
        }
        let program = soak(counts, mpi, 1, true)
            .args(["children".to_owned(), children.to_string()])
            .env("SPAWNFIX_INTERACTIVE", interactive);
        let seen = type_along(counts, program, Watch::Typing);
        check_cured(&seen, 1, children);
        figure(&format!(
            "{}, SPAWNFIX_INTERACTIVE={interactive}: {children} children at once, {} lines typed and read",
            mpi.name,
            seen.lines()
        ));
    }
}

/// The tests of these counts, and why they wait to be asked for.
macro_rules! soaks {
    ($counts:expr $(, #[ignore = $why:literal])?) => {
        tests! {
            $(#[ignore = $why])?
            without_the_library:
            without_the_library_many_spawns_need_an_empty_stdin($counts);
        }
        tests! {
            $(#[ignore = $why])?
            many_spawns:
            an_application_spawns_on_and_on_and_loses_no_line_under_mpich_4_2_3($counts, MPICH_4_2_3, "0");
            a_session_spawns_on_and_on_and_loses_no_line_under_mpich_4_2_3($counts, MPICH_4_2_3, "1");
            an_application_spawns_on_and_on_and_loses_no_line_under_mpich_5_0_2($counts, MPICH_5_0_2, "0");
            a_session_spawns_on_and_on_and_loses_no_line_under_mpich_5_0_2($counts, MPICH_5_0_2, "1");
        }
        tests! {
            $(#[ignore = $why])?
            programs:
            many_applications_one_after_the_other_lose_no_line($counts, $counts.programs, 1);
            eight_applications_at_a_time_lose_no_line($counts, 8 * $counts.groups, 8);
        }
        tests! {
            $(#[ignore = $why])?
            many_children:
            an_application_with_many_children_at_once_loses_no_line($counts);
        }
        tests! {
            $(#[ignore = $why])?
            spawns_left_again_and_again:
            spawns_that_are_left_leave_nothing($counts);
        }
        tests! {
            $(#[ignore = $why])?
            a_closed_terminal_leaves_nothing:
            a_closed_terminal_leaves_nothing_of_ipython($counts, Kind::IPython, true);
            a_closed_terminal_leaves_nothing_of_python($counts, Kind::Python, true);
            a_closed_terminal_leaves_nothing_of_r($counts, Kind::R, true);
            a_closed_terminal_leaves_nothing_of_ipython_under_a_shell($counts, Kind::IPython, false);
        }
    };
}
pub(crate) use soaks;

/// Ctrl-C leaves a spawn that hangs, again and again in one session.
#[track_caller]
pub fn spawns_left_again_and_again(counts: &Counts) {
    let mpis: Vec<_> = that_are_here(&HYDRAS).collect();
    // Where the segments of /dev/shm are counted, one after the other.
    let at_a_time = if counts.alone { 1 } else { mpis.len() };
    several(at_a_time, &mpis, |&mpi| {
        left_again_and_again(mpi, counts.left, counts.alone)
    });
}

/// The session leads its process session, or a shell does.
#[track_caller]
pub fn a_closed_terminal_leaves_nothing(counts: &Counts, kind: Kind, leads: bool) {
    if !kind.is_here() {
        return;
    }
    side_by_side(&SERVING, |mpi| {
        for time in 1..=counts.windows {
            let left = close_the_window(kind, mpi, leads);
            assert!(left.is_empty(), "{}, time {time}: {left:?}", mpi.name);
        }
    });
}
