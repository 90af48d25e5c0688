//! What someone does in a session, and what must come of it: in each kind of session, under each MPI, with the library, and
//! without it, where something of it must fail.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::ipython::{IPython, Kind};
use super::soak::{Held, check_flat, figure, held};
use super::*;

/// How long what works may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How long the same is waited for without the library.
const LIMIT_WITHOUT: Duration = Duration::from_secs(5);
/// A message says what is awaited after 10 s and after 60 s, or a little later: the first digit of that, and how long it may take
/// from the last message on.
const NOTICE: [(u32, Duration); 2] = [(1, Duration::from_secs(15)), (6, Duration::from_secs(65))];
/// What never calls MPI_Init, or never answers.
const SLEEPER: &str = "sleep 300";
/// What session.py and session.R report of a spawn that was left.
const GOT_OUT: [&str; 2] = ["KeyboardInterrupt, an MPI error", "interrupt, an MPI error"];

/// A story.
pub struct Story {
    /// None: there was a case that it makes no sense in.
    pub told: fn(&mut Desk) -> Option<()>,
    /// What is reported once it has begun, without the library, too.
    pub begins: &'static str,
    /// What must have been reported, and how often.
    pub facts: &'static [(&'static str, usize)],
    /// What the library must have warned of, and of nothing else.
    pub warnings: &'static [&'static str],
    /// Whether it ends by `kill`, after a child's crash.
    pub killed: bool,
}

/// Someone at a prompt: session.py.
pub struct Desk {
    kind: Kind,
    library: bool,
    prompt: IPython,
    place: TempDir,
}

impl Desk {
    fn open(kind: Kind, mpi: Mpi, library: bool, more: impl FnOnce(Program) -> Program) -> Self {
        let place = commands::place();
        // An mpiexec that says nothing as long as there is a file `silent`, as one that waits for another host.
        let script = format!(
            "#!/bin/sh\nif [ -e {0}/silent ]; then {SLEEPER}; exit 1; fi\nexec {1} \"$@\"\n",
            place.path().display(),
            mpi.bin("mpiexec").display()
        );
        commands::script(place.path().join("mpiexec"), &script);
        let path = path_behind(&[place.path(), &mpi.prefix().join("bin")]);
        let program = kind.program(mpi).library(library).env("PATH", path);
        let mut prompt = kind.start(more(program));
        prompt.paste_line(kind.words());
        Self {
            kind,
            library,
            prompt,
            place,
        }
    }

    fn silent(&self) -> PathBuf {
        self.place.path().join("silent")
    }

    /// Types these words, in one line.
    fn say(&mut self, words: &[&str]) {
        let words: Vec<_> = words.iter().map(|word| self.kind.say(word)).collect();
        self.prompt.type_on(&words.join("; "));
    }

    fn limit(&self) -> Duration {
        match self.library {
            true => LIMIT,
            false => LIMIT_WITHOUT,
        }
    }

    /// Waits for what is reported.
    fn reported(&mut self, fact: &str, times: usize) -> Option<()> {
        let limit = self.limit();
        let came = self.prompt.reported_within(limit, fact, times);
        came.then_some(())
    }

    /// Waits for what is logged; without the library there is nothing to wait for.
    fn logged(&mut self, limit: Duration, text: &str, times: usize) -> Option<()> {
        let came = self.library && self.prompt.logged_within(limit, text, times);
        came.then_some(())
    }

    /// Waits until so many processes run this.
    fn runs(&mut self, command: &str, times: usize) -> Option<()> {
        let limit = Instant::now() + self.limit();
        let is_it = |other: &Process| other.command.starts_with(command);
        while self
            .prompt
            .session()
            .others()
            .iter()
            .filter(|p| is_it(p))
            .count()
            != times
        {
            if Instant::now() > limit || self.prompt.session().ended() {
                return None;
            }
            thread::sleep(LOOK);
        }
        Some(())
    }

    /// A spawn that hangs, until its children run.
    fn hang(&mut self) -> Option<()> {
        self.say(&["hang"]);
        self.runs(SLEEPER, 2)
    }

    /// Ctrl-C, until the call returns.
    fn leave_the_call(&mut self, time: usize) -> Option<()> {
        self.prompt.session().key(CTRL_C);
        self.reported("got_out", time)
    }

    /// A spawn, whose child answers and ends.
    fn spawn_again(&mut self) -> Option<()> {
        let time = 1 + self.prompt.reports("leaving");
        self.say(&["spawn", "ask", "leave"]);
        self.reported("leaving", time)
    }

    fn application(&self) -> i32 {
        let pid = self.prompt.fact("spawned").and_then(|pid| pid.parse().ok());
        pid.expect("it has spawned")
    }
}

/// Children that never call MPI_Init.
fn children_hang(desk: &mut Desk, time: usize) -> Option<()> {
    desk.hang()?;
    desk.leave_the_call(time)
}

/// A launcher that says nothing.
fn launcher_hangs(desk: &mut Desk, time: usize) -> Option<()> {
    fs::write(desk.silent(), "").expect("the directory is ours");
    desk.say(&["hang"]);
    desk.runs(SLEEPER, 1)?;
    desk.leave_the_call(time)?;
    fs::remove_file(desk.silent()).expect("it is ours");
    Some(())
}

/// Ctrl-C at once after a spawn.
fn spawn_has_returned(desk: &mut Desk, time: usize) -> Option<()> {
    desk.say(&["spawn", "work"]);
    desk.reported("working", time)?;
    desk.prompt.session().key(CTRL_C);
    desk.reported("interrupted", time)?;
    desk.say(&["ask", "leave"]);
    desk.reported("leaving", time)
}

/// The children end, then the session, which has said nothing to MPI: of the last job only our own bridge is left.
fn nobody_is_left(desk: &mut Desk) -> Option<()> {
    desk.spawn_again()?;
    let limit = Instant::now() + LIMIT;
    let is_child = |other: &Process| other.command.ends_with(" child");
    while desk.prompt.session().others().iter().any(is_child) && Instant::now() < limit {
        thread::sleep(LOOK);
    }
    desk.prompt.type_on(desk.kind.way_out(false));
    Some(())
}

/// Someone leaves what hangs, spawns again, presses Ctrl-C too late for a spawn, and goes.
pub const OUT_OF_EVERYTHING: Story = Story {
    told: |desk| {
        children_hang(desk, 1)?;
        children_hang(desk, 2)?;
        launcher_hangs(desk, 3)?;
        for time in 1..=2 {
            spawn_has_returned(desk, time)?;
        }
        nobody_is_left(desk)
    },
    begins: "hanging",
    facts: &[("got_out", 3), ("interrupted", 2), ("answered", 3)],
    warnings: &[
        // Someone who is fast comes before the launcher's answer.
        "given up after Ctrl-C, as its ",
        "given up after Ctrl-C, as its ",
        "given up after Ctrl-C, as its launcher has not answered",
    ],
    killed: false,
};

/// The first of it, for without the library.
pub const CHILDREN_HANG: Story = leaves_a_hang(|desk| {
    children_hang(desk, 1)?;
    desk.spawn_again()
});

/// The same.
pub const LAUNCHER_HANGS: Story = leaves_a_hang(|desk| {
    launcher_hangs(desk, 1)?;
    desk.spawn_again()
});

const fn leaves_a_hang(told: fn(&mut Desk) -> Option<()>) -> Story {
    Story {
        told,
        begins: "hanging",
        facts: &[("got_out", 1), ("answered", 1)],
        warnings: &[],
        killed: false,
    }
}

/// A child dies while the session waits for a word of it; crashes has what becomes of this without the library.
pub const WAITS_FOR_THE_DEAD: Story = Story {
    told: |desk| {
        desk.say(&["spawn", "ask"]);
        desk.reported("answered", 1)?;
        desk.prompt.type_on("receive('segv')");
        let pid = desk.application();
        let way_out = format!("may wait without end: 'kill {pid}' ends this session");
        desk.logged(LIMIT, &way_out, 1)?;
        // SAFETY: a plain system call; the process reported its id itself, and waits.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        Some(())
    },
    begins: "answered",
    facts: &[("receiving", 1), ("lost", 0)],
    warnings: &["is gone"],
    killed: true,
};

/// Under Open MPI 5, whose libmpi ends an application with its children: a child dies in each way, and is heard no more.
pub const CHILDREN_DIE: Story = Story {
    told: |desk| {
        for (time, how) in (1..).zip(["segv", "abort", "exit"]) {
            desk.say(&["spawn", "ask"]);
            desk.reported("answered", time)?;
            desk.prompt.type_on(&format!("receive('{how}')"));
            desk.reported("lost", time)?;
        }
        desk.spawn_again()
    },
    begins: "answered",
    facts: &[("lost", 3), ("answered", 4), ("leaving", 1)],
    warnings: &[],
    killed: false,
};

/// Someone waits for children, then for a launcher, and a message says so.
pub const NOTICES: Story = Story {
    told: |desk| {
        waits_for_children(desk, 1)?;
        waits_for_a_launcher(desk, 2, 1)
    },
    begins: "hanging",
    facts: &[("got_out", 2)],
    warnings: &[
        " s; Ctrl-C gives the spawn up",
        "given up after Ctrl-C, as its children have not connected",
        "has not answered after 1",
        "given up after Ctrl-C, as its launcher has not answered",
    ],
    killed: false,
};

/// Each for longer, so that a message says so again after a minute.
pub const CHILDREN_HANG_FOR_A_MINUTE: Story = Story {
    told: |desk| waits_for_children(desk, 2),
    facts: &[("got_out", 1)],
    warnings: &[
        " s; Ctrl-C gives the spawn up",
        " after 6",
        "given up after Ctrl-C, as its children have not connected",
    ],
    ..NOTICES
};

/// The same.
pub const LAUNCHER_HANGS_FOR_A_MINUTE: Story = Story {
    told: |desk| waits_for_a_launcher(desk, 1, 2),
    facts: &[("got_out", 1)],
    warnings: &[
        "has not answered after 1",
        "has not answered after 6",
        "given up after Ctrl-C, as its launcher has not answered",
    ],
    ..NOTICES
};

fn waits_for_children(desk: &mut Desk, notices: usize) -> Option<()> {
    desk.hang()?;
    let children = "2 of 2 children have not called MPI_Init, for example 'sleep 300' (process ";
    for (nth, (_, limit)) in (1..=notices).zip(NOTICE) {
        desk.logged(limit, children, nth)?;
    }
    desk.leave_the_call(1)
}

fn waits_for_a_launcher(desk: &mut Desk, time: usize, notices: usize) -> Option<()> {
    fs::write(desk.silent(), "").expect("the directory is ours");
    desk.say(&["hang"]);
    desk.runs(SLEEPER, 1)?;
    for (digit, limit) in NOTICE.into_iter().take(notices) {
        let launcher = format!("has not answered after {digit}");
        desk.logged(limit, &launcher, 1)?;
    }
    desk.leave_the_call(time)
}

/// Tells it in this kind of session, under each of these MPIs.
#[track_caller]
pub fn tell(story: &Story, kind: Kind, mpis: &[Mpi]) {
    if !kind.is_here() {
        return;
    }
    side_by_side(mpis, |mpi| {
        check(&told(story, kind, mpi, true), story);
    });
}

/// Tells it without the library: it begins, and not all of it comes about.
#[track_caller]
pub fn fails_without_the_library(story: &Story, kind: Kind, mpis: &[Mpi]) {
    if !kind.is_here() {
        return;
    }
    side_by_side(mpis, |mpi| {
        let bare = told(story, kind, mpi, false);
        bare.check(bare.count(story.begins) > 0, "it begins");
        bare.check(!came_about(&bare, story), "it does not come about");
    });
}

fn told(story: &Story, kind: Kind, mpi: Mpi, library: bool) -> Report {
    let mut desk = Desk::open(kind, mpi, library, |program| {
        program.under_a_shell().deadline(200)
    });
    if (story.told)(&mut desk).is_none() && !library {
        desk.prompt.session().has_seconds(1);
        return desk.prompt.finish();
    }
    desk.prompt.leave_by(kind.way_out(true))
}

/// Whether it was reported as the story has it.
fn came_about(report: &Report, story: &Story) -> bool {
    let mut facts = story.facts.iter();
    facts.all(|&(fact, times)| report.count(fact) == times)
        && report.values("got_out").all(|how| GOT_OUT.contains(&how))
}

#[track_caller]
fn check(report: &Report, story: &Story) {
    report.check(came_about(report, story), "it comes about");
    let warnings: Vec<_> = Report::lines(&report.log)
        .filter(|line| line.level != "INFO")
        .collect();
    report.check(
        warnings.len() == story.warnings.len()
            && (warnings.iter().zip(story.warnings))
                .all(|(line, words)| line.level == "WARN" && line.text.contains(words)),
        &format!("these warnings: {:?}", story.warnings),
    );
    report.check(
        report.output.matches("BAD TERMINATION").count() <= usize::from(story.killed)
            && (story.killed || !report.output.contains("YOUR APPLICATION")),
        "no message of mpiexec's, but one for a crash",
    );
    report.check(
        report.code() == Some(0) || story.killed && report.signal() == Some(libc::SIGTERM),
        "exit status 0",
    );
    report.check(report.left.is_empty(), "nothing is left 2 s after its end");
    let modes = report.modes.as_ref();
    report.check(
        modes.is_some_and(|(before, after)| before == after),
        "the terminal is as it was",
    );
}

/// Closes the terminal's window, and gives what is left soon after the session's end. The session leads its process session,
/// as under `xterm -e`, or a shell does.
///
/// It guards against a defect of our own: without the library nothing is left, either.
pub fn close_the_window(kind: Kind, mpi: Mpi, leads: bool) -> Vec<Process> {
    let mut desk = Desk::open(kind, mpi, true, |program| match leads {
        true => program,
        false => program.under_a_shell(),
    });
    desk.say(&["spawn", "ask"]);
    desk.reported("answered", 1).expect("the child answers");
    desk.logged(LIMIT, "guard: launch", 1)
        .expect("the library has acted");
    let pid = desk.application();
    // Open MPI 4's orted gives its children a second after each signal, without the library, too.
    let soon = Duration::from_secs(if mpi.name == OPEN_MPI_4.name { 5 } else { 2 });
    desk.prompt.session().hang_up();
    let mut limit = Instant::now() + LIMIT;
    let mut lives = true;
    loop {
        let session = desk.prompt.session();
        let ended = session.ended();
        let left = session.others();
        if lives && ended && left.iter().all(|other| other.pid != pid) {
            lives = false;
            limit = Instant::now() + soon;
        }
        if left.is_empty() && !lives || Instant::now() > limit {
            return left;
        }
        thread::sleep(LOOK);
    }
}

/// On a terminal a message says what is awaited; in a pipe there is what Python prints and nothing else. Without a log.
pub fn only_a_terminal_is_told(mpi: Mpi) {
    let awaited = "2 of 2 children have not called MPI_Init";
    let mut piped = Desk::open(Kind::Python, mpi, true, |program| {
        program.unlogged().piped()
    });
    piped.hang().expect("the children run");
    let mut shown = Desk::open(Kind::Python, mpi, true, Program::unlogged);
    shown.hang().expect("the children run");
    // The other one has waited longer than this one.
    let told = shown.prompt.session().printed(awaited, 1);
    for (desk, notices) in [(shown, 1), (piped, 0)] {
        let mut desk = desk;
        desk.leave_the_call(1).expect("the call returns");
        let report = desk.prompt.leave_by("exit()");
        report.check(told, "the terminal is told");
        report.check(
            report.output.matches(awaited).count() == notices,
            "where it is told",
        );
        report.check(report.code() == Some(0), "exit status 0");
    }
}

/// What a session and its agent hold, and how many processes serve it, once nobody is on the way out.
fn holds(desk: &mut Desk) -> (Held, Held, usize) {
    let limit = Instant::now() + Duration::from_secs(10);
    while desk.prompt.session().others().len() > 1 && Instant::now() < limit {
        thread::sleep(Duration::from_millis(50));
    }
    let session = desk.prompt.session();
    let others = session.others();
    let agent = others
        .iter()
        .find(|other| other.command.starts_with("spawnfix --agent"));
    let agent = agent.expect("it serves the session").pid as u32;
    (held(&[session.pid()]), held(&[agent]), others.len())
}

/// How many files are in /dev/shm.
fn segments() -> usize {
    fs::read_dir("/dev/shm").map_or(0, Iterator::count)
}

/// Ctrl-C leaves a spawn whose children hang, so often: nothing grows. `alone`: no other test uses /dev/shm meanwhile.
pub fn left_again_and_again(mpi: Mpi, times: usize, alone: bool) {
    let before = segments();
    let mut desk = Desk::open(Kind::Python, mpi, true, |program| program.deadline(1200));
    let mut first = None;
    for time in 1..=times {
        desk.hang().expect("the children run");
        desk.leave_the_call(time).expect("the call returns");
        if time == times.div_ceil(4) {
            first = Some((holds(&mut desk), segments()));
        }
    }
    let (first, first_segments) = first.expect("a quarter was done");
    let (last, last_segments) = (holds(&mut desk), segments());
    let report = desk.prompt.leave_by("exit()");
    figure(&format!(
        "{}: {times} spawns left by Ctrl-C\n  the session: {}; {}\n  its agent: {}; {}\n  served by {} processes, {}; in /dev/shm: {before}, \
         {first_segments}, {last_segments}, {}",
        mpi.name,
        first.0,
        last.0,
        first.1,
        last.1,
        first.2,
        last.2,
        segments()
    ));
    // MPICH 5's libmpi maps a segment with each spawn: 33 KB, without the library, too.
    let libmpis = 40 * times as u64 * u64::from(mpi.name == MPICH_5_0_2.name);
    check_flat(&report, "the session", first.0, last.0, libmpis);
    check_flat(&report, "its agent", first.1, last.1, 0);
    report.check(last.2 == 1, &format!("the agent alone is left: {}", last.2));
    if alone {
        report.check(last_segments <= first_segments, "no more segments are left");
        report.check(segments() <= before, "none is left in the end");
    }
    report.check(report.code() == Some(0), "exit status 0");
    report.check(report.left.is_empty(), "nothing is left behind");
}
