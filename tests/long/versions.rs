//! Each MPI wheel that PyPI has: what becomes of an application's input and of a session, without the library and with it.
//!
//! The table is written to target/versions.md. README's table is made of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use crate::common::ipython::Kind;
use crate::common::spawning::{a_megabyte, type_along};
use crate::common::stories::{
    OUT_OF_EVERYTHING, WAITS_FOR_THE_DEAD, close_the_window, tell as someone_does,
};
use crate::common::*;

/// How many stories are told at a time: they mostly wait.
const AT_A_TIME: usize = 6;
/// How long a story may take. One that hangs takes as long.
const SECONDS: u64 = 40;

/// What is tried: a column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Story {
    /// Someone types while an application spawns.
    Terminal,
    /// An application reads a file of 1 MB.
    File,
    /// Ctrl-C three times at a prompt, and the child is asked after each.
    CtrlC,
    /// At a prompt a child dies of SIGSEGV, and another is spawned.
    Crash,
}

use Story::*;

const STORIES: [Story; 4] = [Terminal, File, CtrlC, Crash];
/// What each comes to where all is well.
const WELL: &str = "well";

/// The MPIs of target/mpi/versions.txt that could be fetched.
fn mpis() -> Vec<Mpi> {
    let list = target().join("mpi/versions.txt");
    let list = fs::read_to_string(&list)
        .expect("`scripts/fetch/mpi --versions` writes target/mpi/versions.txt");
    let named = list.lines().map(|name| Mpi {
        name: String::leak(name.to_owned()),
        mpicc: None,
        ..MPICH_5_0_2
    });
    let here = named.filter(|mpi| mpi.prefix().join("complete").exists());
    here.collect()
}

/// In one line, as without the library nothing may be typed after a spawn.
const STORY_OF_A_CRASH: &str = "import os, time; from session import *; spawn(); ask(); crash('segv'); \
     time.sleep(5); report('lived'); spawn(); ask(); os._exit(0)";

/// What comes of this story, in a word or two.
fn tell(mpi: Mpi, story: Story, library: bool) -> String {
    let python = |argument: &str| {
        let python = Program::new(mpi.bin("python")).arg(argument).under(mpi);
        python.library(library).deadline(SECONDS)
    };
    let spawning = || python(&app("spawn.py").to_string_lossy()).arg("Spawn");
    match story {
        Terminal => input(&type_along(spawning(), 2)),
        File => input(&spawning().stdin(Stdin::File(a_megabyte())).run()),
        CtrlC => {
            let mut prompt = Kind::Python.start(python("-q").beside("session.py"));
            prompt.type_on("import os; from session import *; story(); os._exit(0)");
            for time in 1..=3 {
                // After a question that has no answer in 5 s it may not come to more work.
                prompt.reported_within(Duration::from_secs(15), "working", time);
                std::thread::sleep(Duration::from_millis(300));
                prompt.session().key(CTRL_C);
            }
            let report = prompt.finish();
            session(&report, report.count("answered") == 5)
        }
        Crash => {
            let mut prompt = Kind::Python.start(python("-q").beside("session.py"));
            prompt.type_on(STORY_OF_A_CRASH);
            prompt.reported_within(Duration::from_secs(SECONDS), "answered", 2);
            let report = prompt.finish();
            let lived = report.count("lived") == 1;
            match (lived, report.count("answered")) {
                (true, 1) => "lives, no second spawn".to_owned(),
                (_, answered) => session(&report, answered == 2),
            }
        }
    }
}

/// What came of an application's input.
fn input(report: &Report) -> String {
    let spawned = report.fact("squares") == Some("[25, 36]");
    match report.status {
        None if !spawned => "hangs".to_owned(),
        _ if report.signal() == Some(libc::SIGKILL) => "killed".to_owned(),
        _ if !spawned => format!("no spawn: {}", end(report)),
        _ if report.read != report.sent => {
            let lost = 100 - 100 * report.read.len() / report.sent.len();
            format!("{lost} % lost")
        }
        _ if report.code() == Some(0) => WELL.to_owned(),
        _ => end(report),
    }
}

/// What came of a session.
fn session(report: &Report, well: bool) -> String {
    match report.status {
        _ if report.signal() == Some(libc::SIGKILL) => "killed".to_owned(),
        Some(status) if well && status.success() => WELL.to_owned(),
        _ if report.count("spawned") == 0 => format!("no spawn: {}", end(report)),
        _ => format!("{} answers, {}", report.count("answered"), end(report)),
    }
}

fn end(report: &Report) -> String {
    match report.status {
        None => "hangs".to_owned(),
        Some(status) => status.to_string(),
    }
}

#[test]
#[ignore = "make test-versions runs it"]
fn each_version_that_can_be_had_is_cured() {
    let mpis = mpis();
    assert!(!mpis.is_empty(), "no MPI was fetched");
    let cases: Vec<_> = pairs(&pairs(&mpis, &[false, true]), &STORIES);
    let came = several(AT_A_TIME, &cases, |&((mpi, library), story)| {
        let came = tell(mpi, story, library);
        eprintln!("{} {story:?}, library {library}: {came}", mpi.name);
        came
    });
    let mut rows: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (((mpi, library), story), came) in cases.iter().zip(&came) {
        let row = mpis.iter().position(|other| other.name == mpi.name);
        rows.entry(row.expect("it is one of them"))
            .or_default()
            .push(came.clone());
        if *library && came != WELL {
            wrong.push(format!("{} {story:?}: {came}", mpi.name));
        }
    }
    let mut table = "| MPI | without: terminal | file | Ctrl-C | crash | with: terminal | file | Ctrl-C | crash |\n\
                     | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for (row, came) in &rows {
        let _ = writeln!(table, "| {} | {} |", mpis[*row].name, came.join(" | "));
    }
    fs::write(target().join("versions.md"), &table).expect("target can be written");
    assert!(wrong.is_empty(), "{}\n{table}", wrong.join("\n"));
}

/// The newest Intel MPI that there is: what cases/out.rs has for an older one. There are no headers for R.
#[test]
#[ignore = "make test-versions runs it"]
fn someone_gets_out_of_everything_under_the_newest_intel_mpi() {
    let mpis = mpis();
    let mut intels = mpis.into_iter().filter(|mpi| mpi.name.starts_with("impi-"));
    let newest = Mpi {
        product: INTEL_MPI.product,
        ..intels.next_back().expect("PyPI has one")
    };
    for kind in [Kind::IPython, Kind::Python, Kind::Kernel] {
        someone_does(&OUT_OF_EVERYTHING, kind, &[newest]);
        someone_does(&WAITS_FOR_THE_DEAD, kind, &[newest]);
    }
    for _ in 0..20 {
        let left = close_the_window(Kind::IPython, newest, true);
        assert!(left.is_empty(), "{}: {left:?}", newest.name);
    }
}
