//! What becomes of an interactive session, and of its children, at Ctrl-C, Ctrl-Z, `fg`, a crash, a kill, an `exit`.

use std::fmt::Write as _;
use std::fs;
use std::thread;
use std::time::Duration;

use crate::common::bash_session::{
    ALL, BashSession, CTRL_BACKSLASH, CTRL_Z, LEFT, NOBODY, STOPPED,
};
use crate::common::ipython::Kind;
use crate::common::*;

/// How often someone presses Ctrl-C: Open MPI's launcher ends at the third.
const TIMES: usize = 3;

/// Someone spawns, presses Ctrl-C while a cell runs, uses the children; the same twice more; and leaves.
fn interrupt_and_ask(kind: Kind, program: Program) -> Report {
    let mut prompt = kind.start(program);
    if !matches!(kind, Kind::C) {
        prompt.paste_line(kind.words());
        prompt.type_on(&kind.say("spawn"));
    }
    prompt.reported("spawned", 1);
    for time in 1..=TIMES {
        prompt.type_on(&kind.say("work"));
        prompt.reported("working", time);
        prompt.session().key(CTRL_C);
        prompt.reported("interrupted", time);
        prompt.type_on(&kind.say("ask"));
        prompt.reported("answered", time);
    }
    if matches!(kind, Kind::C) {
        return prompt.leave_by("leave");
    }
    prompt.type_on(&kind.say("leave"));
    prompt.reported("leaving", 1);
    prompt.leave_by(kind.way_out(true))
}

/// How many answers a story has: before Ctrl-C, after each, and after a rest, as a launcher may be slower than one
/// answer.
const ANSWERS: usize = 2 + TIMES;

/// The same with nothing typed once there is a launcher that may take it: `story` says it all beforehand.
fn interrupt_a_story(kind: Kind, program: Program) -> Report {
    let program = match kind {
        Kind::C => program.arg("story"),
        _ => program,
    };
    let mut prompt = kind.start(program);
    if !matches!(kind, Kind::C) {
        prompt.paste(&format!(
            "{}; story(); {}",
            kind.words(),
            kind.way_out(true)
        ));
    }
    prompt.reported("working", 1);
    prompt.session().key(CTRL_C);
    for time in 2..=TIMES {
        // After a question that has no answer in 5 s it may not come to more work.
        prompt.reported_within(Duration::from_secs(7), "working", time);
        // A launcher that is slow to run would take two for one.
        thread::sleep(Duration::from_millis(300));
        prompt.session().key(CTRL_C);
    }
    prompt.finish()
}

/// The session heard Ctrl-C each time, the children answered so often; then all ended in good order.
#[track_caller]
fn check_interrupted(report: &Report, answers: usize) {
    report.check(
        report.count("interrupted") == TIMES,
        "the session is interrupted each time",
    );
    report.check(
        report.count("answered") == answers && report.count("unanswered") == 0,
        "the children answer each time",
    );
    report.check(report.code() == Some(0), "exit status 0");
    report.check(report.left.is_empty(), "nothing is left behind");
    report.check(
        !report.output.contains("[mpiexec@") && !report.output.contains("Abort is in progress"),
        "no message of the launcher's",
    );
}

fn ctrl_c_spares_what_was_spawned(kind: Kind) {
    if !kind.is_here() {
        return;
    }
    side_by_side(&SERVING, |mpi| {
        let program = kind.program(mpi).library(true);
        let report = interrupt_and_ask(kind, program.env("SPAWNFIX_INTERACTIVE", "1"));
        check_interrupted(&report, TIMES);
        report.check(report.log.contains("(interactive: "), "the log tells it");
    });
}

/// What Ctrl-C does without the library: MPICH kills the session. Intel MPI passes it on, to children that don't expect
/// it and to the session for a second time; soon the session is killed, too, unless it does nothing more. Open MPI's
/// launcher says so at the second, and kills the children at the third; version 4's has a session of its own.
fn ctrl_c_without(kind: Kind) {
    if !kind.is_here() {
        return;
    }
    side_by_side(&SERVING, |mpi| {
        let report = interrupt_a_story(kind, kind.program(mpi));
        if mpi.name == OPEN_MPI_4.name {
            return check_interrupted(&report, ANSWERS);
        }
        if mpi.name == OPEN_MPI.name {
            report.check(
                report.output.contains("Abort is in progress"),
                "the launcher begins to abort",
            );
        } else {
            report.check(
                report.signal() == Some(libc::SIGKILL)
                    || mpi.name == INTEL_MPI.name && report.status.is_none(),
                "the session is killed, or sits there with no children",
            );
        }
        report.check(
            report.count("answered") < ANSWERS,
            "the children don't answer to the end",
        );
    });
}

tests! {
    ctrl_c_spares_what_was_spawned:
    ctrl_c_in_ipython_spares_what_was_spawned(Kind::IPython);
    ctrl_c_at_the_simple_prompt_spares_what_was_spawned(Kind::SimplePrompt);
    ctrl_c_in_python_spares_what_was_spawned(Kind::Python);
    ctrl_c_in_r_spares_what_was_spawned(Kind::R);
    ctrl_c_in_a_c_program_spares_what_was_spawned(Kind::C);
}

tests! {
    ctrl_c_without:
    without_the_library_ctrl_c_in_ipython_kills_it_or_its_children(Kind::IPython);
    without_the_library_ctrl_c_at_the_simple_prompt_kills_it_or_its_children(Kind::SimplePrompt);
    without_the_library_ctrl_c_in_python_kills_it_or_its_children(Kind::Python);
    without_the_library_ctrl_c_in_r_kills_it_or_its_children(Kind::R);
    without_the_library_ctrl_c_in_a_c_program_kills_it_or_its_children(Kind::C);
}

// --- who lives and who goes ---

/// What happens to an application whose child works on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    CtrlC,
    SecondCtrlC,
    ThirdCtrlC,
    CtrlBackslash,
    CtrlZ,
    Fg,
    ChildCrashes,
    ChildAborts,
    TerminalClosed,
    Term,
    Kill,
    Exit,
}

use Event::*;

/// What happens to one application, one after the other, and how README calls it.
const STORIES: [&[(Event, &str)]; 9] = [
    &[
        (CtrlC, "Ctrl-C"),
        (SecondCtrlC, "a second Ctrl-C"),
        (ThirdCtrlC, "a third"),
    ],
    &[(CtrlBackslash, r"Ctrl-\")],
    &[(CtrlZ, "Ctrl-Z"), (Fg, "`fg` after it")],
    &[(ChildCrashes, "the child crashes")],
    &[(ChildAborts, "the child calls MPI_Abort")],
    &[(TerminalClosed, "the terminal is closed")],
    &[(Term, "`kill -TERM` of the application")],
    &[(Kill, "`kill -KILL` of the application")],
    &[(Exit, "the application's `exit`")],
];

/// How the program is run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Run {
    Bare,
    /// With the library, which sees that it is not interactive.
    Application,
    /// With the library, and SPAWNFIX_INTERACTIVE=1.
    Session,
}

const RUNS: [Run; 3] = [Run::Bare, Run::Application, Run::Session];

/// Who lives after an event.
fn who_should(mpi: Mpi, event: Event, run: Run) -> &'static str {
    let intel = mpi.name == INTEL_MPI.name;
    let session = run == Run::Session;
    if mpi.product == OPEN_MPI.product {
        // Version 4's launcher has a session of its own.
        let apart = session || mpi.name == OPEN_MPI_4.name;
        return match event {
            CtrlC | SecondCtrlC | Fg => ALL,
            ThirdCtrlC if apart => ALL,
            ThirdCtrlC => "application",
            CtrlZ if apart => "application (stopped), launcher, child",
            CtrlZ => "application (stopped), launcher, child (stopped)",
            // Version 5 in a session has its fault tolerance.
            ChildCrashes | ChildAborts if session || mpi.name == OPEN_MPI_4.name => {
                "application, launcher"
            }
            _ => NOBODY,
        };
    }
    match event {
        CtrlC | SecondCtrlC | ThirdCtrlC if session => ALL,
        CtrlC | SecondCtrlC | ThirdCtrlC => NOBODY,
        CtrlZ if session => "application (stopped), launcher, child",
        CtrlZ if intel => "application (stopped), launcher, child (stopped)",
        CtrlZ => "application (stopped), launcher (stopped), child",
        Fg => ALL,
        // Its mpiexec does not notice.
        ChildAborts if mpi.name == MPICH_4_1_3.name => "application, launcher",
        ChildCrashes | ChildAborts if session => "application",
        Term | Kill if intel && run == Run::Bare => LEFT,
        CtrlBackslash | ChildCrashes | ChildAborts | TerminalClosed | Term | Kill => NOBODY,
        // There the application waits for its child in MPI_Finalize.
        Exit if intel => ALL,
        Exit => LEFT,
    }
}

/// Lets these happen, and tells who lives after each. Nothing is typed while there is a launcher that may take it.
fn happen(mpi: Mpi, run: Run, events: &[(Event, &str)]) -> Vec<String> {
    let mut bash = BashSession::start(mpi, "", |bash| {
        let interactive = if run == Run::Session { "1" } else { "auto" };
        bash.library(run != Run::Bare)
            .env("SPAWNFIX_INTERACTIVE", interactive)
    });
    let mut seen = Vec::new();
    let mut asked = 0;
    let mut worked = 0;
    for &(event, _) in events {
        match event {
            CtrlC | SecondCtrlC | ThirdCtrlC => {
                if bash.program().is_some() {
                    worked += 1;
                    bash.work(worked);
                    bash.session.key(CTRL_C);
                }
            }
            CtrlBackslash => bash.session.key(CTRL_BACKSLASH),
            CtrlZ => {
                bash.bash_prompts(|bash| bash.session.key(CTRL_Z));
            }
            Fg => bash.command("fg"),
            ChildCrashes => bash.tell("crash"),
            ChildAborts => bash.tell("abort"),
            TerminalClosed => bash.session.hang_up(),
            Term => bash.kill(libc::SIGTERM),
            Kill => bash.kill(libc::SIGKILL),
            Exit => bash.tell("exit"),
        }
        let expected = who_should(mpi, event, run);
        let mut who = bash.become_of(expected);
        if who != expected {
            bash.print_all(&format!("{}, {run:?}, {event:?}: {who}", mpi.name));
        }
        if who == ALL && event != Exit {
            asked += 1;
            if !bash.ask(asked) {
                who += "; no answer";
            }
        }
        seen.push(who);
    }
    seen
}

/// How README says who lives.
fn in_words(event: Event, who: &str) -> String {
    match who {
        ALL if event == Exit => "the application waits for the child".to_owned(),
        ALL => "all live".to_owned(),
        NOBODY => "all end".to_owned(),
        LEFT => "mpiexec and child are left".to_owned(),
        "application" if event == ThirdCtrlC => "the child is killed".to_owned(),
        "application" | "application, launcher" => "the application lives".to_owned(),
        _ if who.contains(STOPPED) => {
            let stopped = who.split(", ").filter_map(|one| one.strip_suffix(STOPPED));
            let stopped: Vec<_> = stopped.collect();
            let stop = if stopped.len() == 1 { "stops" } else { "stop" };
            let stopped = stopped.join(" and ").replace("launcher", "mpiexec");
            format!("{stopped} {stop}")
        }
        _ => format!("{who} lives"),
    }
}

/// README's table, MPIs of which the same was seen side by side in a column.
fn table(seen: &[(Mpi, Vec<Vec<String>>)]) -> String {
    let mut columns: Vec<(String, &[Vec<String>])> = Vec::new();
    for (mpi, all) in seen {
        let name = match mpi.name {
            name if name == INTEL_MPI.name => "Intel MPI",
            name if name == OPEN_MPI_4.name => "Open MPI 4.1",
            name if name == OPEN_MPI.name => "Open MPI 5.0",
            _ => mpi.product,
        };
        match columns.iter_mut().find(|(_, other)| other == all) {
            Some((names, _)) => {
                write!(names, ", {}", name.replace("MPICH ", "")).expect("a String takes all")
            }
            None => columns.push((name.to_owned(), all)),
        }
    }
    // Each run that differs from the one before it.
    let shown = |runs: &[Vec<String>]| -> Vec<usize> {
        let differs = |at: &usize| *at == 0 || runs[*at] != runs[*at - 1];
        (0..runs.len()).filter(differs).collect()
    };
    let mut table = "| what happens |".to_owned();
    for (name, runs) in &columns {
        for run in shown(runs) {
            table += &match (RUNS[run], shown(runs).len()) {
                (Run::Bare, 1) => format!(" {name}, however it is run |"),
                (Run::Bare, _) => format!(" {name} |"),
                (Run::Application, _) => " with spawnfix |".to_owned(),
                (Run::Session, _) => " in a session |".to_owned(),
            };
        }
    }
    let count = table.matches('|').count() - 1;
    table += "\n|";
    table += &" --- |".repeat(count);
    for (row, (event, name)) in STORIES.iter().copied().flatten().enumerate() {
        table += &format!("\n| {name} |");
        for (_, runs) in &columns {
            for run in shown(runs) {
                table += &format!(" {} |", in_words(*event, &runs[run][row]));
            }
        }
    }
    table + "\n"
}

#[test]
fn each_event_spares_whom_it_should_and_ends_the_rest() {
    let mpis: Vec<_> = that_are_here(&SERVING).collect();
    let runs = pairs(&mpis, &RUNS);
    // Most of it is waiting to see who stays.
    let seen = several(16, &pairs(&runs, &STORIES), |((mpi, run), events)| {
        happen(*mpi, *run, events)
    });
    let seen = seen.chunks(STORIES.len()).map(|stories| stories.concat());
    let seen: Vec<_> = seen.collect();
    let seen = mpis
        .into_iter()
        .zip(seen.chunks(RUNS.len()).map(|runs| runs.to_vec()));
    let seen: Vec<_> = seen.collect();
    let table = table(&seen);
    println!("{table}");
    fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/who-lives.md"), table).expect("it is cargo's");

    for (mpi, runs) in &seen {
        for (run, all) in RUNS.into_iter().zip(runs) {
            let events = STORIES.iter().copied().flatten();
            for ((event, name), who) in events.zip(all) {
                // Its mpiexec at times misses it, with the library and without.
                let unnoticed = *event == ChildAborts && !mpi.notices("abort");
                if unnoticed && who == "application, launcher" {
                    continue;
                }
                assert_eq!(
                    who,
                    who_should(*mpi, *event, run),
                    "{}, {run:?}: {name}",
                    mpi.name
                );
            }
        }
    }
}

#[test]
fn after_fg_someone_goes_on_and_leaves() {
    side_by_side(&SERVING, |mpi| {
        let mut bash = BashSession::start(mpi, "", |bash| {
            bash.library(true).env("SPAWNFIX_INTERACTIVE", "1")
        });
        for time in 1..=2 {
            bash.bash_prompts(|bash| bash.session.key(CTRL_Z));
            bash.command("fg");
            // Typed, as nothing takes it.
            bash.session.line("ask");
            assert!(
                bash.reported("answered", time),
                "{}: the child answers\n{}",
                mpi.name,
                bash.session.screen()
            );
        }
        bash.bash_prompts(|bash| bash.session.line("leave"));
        bash.command("exit $?");
        let report = bash.session.finish();
        report.check(report.code() == Some(0), "exit status 0");
        report.check(report.left.is_empty(), "nothing is left behind");
    });
}

#[test]
fn what_children_print_arrives_on_a_terminal_that_stops_whoever_prints_in_the_background() {
    side_by_side(&SERVING, |mpi| {
        let mut bash = BashSession::start(mpi, "stty tostop; ", |bash| {
            bash.library(true).env("SPAWNFIX_INTERACTIVE", "1")
        });
        assert!(bash.ask(1), "{}: the child answers", mpi.name);
        assert!(
            bash.session.printed("the child was asked 1", 1),
            "{}: the output arrives",
            mpi.name
        );
        bash.bash_prompts(|bash| bash.tell("leave"));
        // It is such a terminal.
        bash.command("sh -c 'echo in the background; exit' &");
        bash.command("until jobs | grep -i stopped; do sleep 0.1; done");
        assert!(
            bash.session.printed("Stopped", 1),
            "{}",
            bash.session.screen()
        );
    });
}
