//! On arm64, here a processor that qemu emulates, the library and the program do what they do elsewhere.
//!
//! `make test-aarch64` runs these in a Debian 12 of their own (scripts/fetch/aarch64), with PyPI's MPICH and Debian's
//! Open MPI; all but the processor is this machine's kernel.
//!
//! What qemu-user does to a process shows in two places. Its /proc/PID/cmdline is qemu's own, with the program's behind
//! it, so nobody but the process itself sees what command it is: the agent takes no application for a session there, and a
//! test of a session says SPAWNFIX_INTERACTIVE=1. And everything takes ten times as long.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::common::ipython::{IPython, Kind};
use crate::common::spawning::a_megabyte;
use crate::common::{CTRL_D, Program, Report, Stdin, target};
use object::read::elf::ElfFile64;
use object::{Architecture, Endianness, Object};

/// How long anything here may take, with other tests beside it.
const DEADLINE: u64 = 600;
/// How long one thing may take that someone at a prompt waits for.
const LIMIT: Duration = Duration::from_secs(60);

/// The oldest glibc that the library promises to load with.
const GLIBC: (u32, u32) = (2, 17);

/// The library and the program, built for arm64.
fn built(name: &str) -> PathBuf {
    let file = target()
        .join("aarch64-unknown-linux-gnu/release")
        .join(name);
    assert!(
        file.exists(),
        "{} is not there: `make test-aarch64` builds it",
        file.display()
    );
    file
}

/// A command in the arm64 root, with this MPI's environment first on PATH.
fn inside(mpi: &str, library: bool) -> Program {
    let root = target().join("aarch64/root");
    assert!(
        root.join("complete").exists(),
        "{} is not there: `make test-aarch64` fetches it",
        root.display()
    );
    let directory = built("libspawnfix.so");
    let directory = directory.parent().expect("it is a file in a directory");
    let mut program = Program::new(crate::common::root().join("tests/aarch64/inside"))
        .arg(root)
        .env("INSIDE_SPAWNFIX", directory)
        .env(
            "PATH",
            format!("/mpi/{mpi}/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        )
        .deadline(DEADLINE);
    if mpi.starts_with("openmpi") {
        // As for the others' in tests/common.
        for (name, value) in [
            ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
            ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
            ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
            ("OMPI_MCA_plm_rsh_agent", "sh"),
            ("OMPI_MCA_btl_tcp_if_include", "lo"),
        ] {
            program = program.env(name, value);
        }
    }
    if library {
        // For what runs in there alone: this machine's programs, up to there, could not load it.
        program = program.args([
            "env",
            "LD_PRELOAD=/opt/spawnfix/libspawnfix.so",
            "SPAWNFIX_LOG=info",
            "SPAWNFIX_LOG_FILE=log",
        ]);
    }
    program
}

/// Python with spawn.py, which reads, spawns two children, and reads on.
fn spawn_py(mpi: &str, library: bool) -> Program {
    inside(mpi, library)
        .args(["python3", "spawn.py", "Spawn"])
        .beside("spawn.py")
}

/// Someone types: before the spawn, during it, and when the children are gone.
fn type_along(program: Program) -> Report {
    let mut session = program.start();
    for line in ["one", "two", "", "three"] {
        session.line(line);
    }
    session.reported("spawning");
    session.line("four, while it spawns");
    session.reported_within(LIMIT, "working");
    session.line("five, while it computes");
    session.line("six");
    session.reported_within(LIMIT, "bye");
    // Until its launcher has noticed that the children are gone.
    sleep(Duration::from_secs(2));
    session.line("seven, to a program that waits for it");
    sleep(Duration::from_millis(200));
    session.key(CTRL_D); // what is at the start of a line is the end
    session.has_seconds(60);
    session.finish()
}

#[track_caller]
fn check_cured(report: &Report, product: &str) {
    report.check_ended_well();
    report.check_read_all();
    report.check(report.count("end") == 1, "it comes to its end");
    report.check(
        report.fact("squares") == Some("[25, 36]"),
        "MPI's answers are right",
    );
    report.check(
        report.fact("same_stdin") == Some("yes"),
        "fd 0 is the same open file description as before",
    );
    let says = |what: &str| report.log.contains(what);
    report.check(
        says(&format!("MPI_Comm_spawn: {product}, singleton"))
            && says("guard: launch")
            && says("MPI_Comm_spawn: returned 0"),
        "the library tells what it decided, and what came of it",
    );
    // Emulated children may take the ten seconds after which somebody who waits is told why.
    let slow = |line: &str| line.contains(" after 10 s");
    let warns = |line: &str| line.contains("WARN") || line.contains("ERROR");
    let bad = report.log.lines().any(|line| warns(line) && !slow(line));
    report.check(!bad, "no warning");
}

#[test]
#[ignore = "emulates another processor: make test-aarch64"]
fn mpich_4_2_3_kills_a_program_that_reads_a_terminal_and_does_not_with_the_library() {
    let cured = type_along(spawn_py("mpich-4.2.3", true));
    check_cured(&cured, "MPICH 4.2.3");
    check_agent(&cured, "/mpi/mpich-4.2.3/bin/mpiexec");
    let sick = type_along(spawn_py("mpich-4.2.3", false));
    sick.check_killed();
    sick.check(sick.count("end") == 0, "before its end");
    sick.check(
        sick.read.len() < sick.sent.len(),
        "and some of its input is gone",
    );
}

#[test]
#[ignore = "emulates another processor: make test-aarch64"]
fn mpich_5_0_2_is_well_without_the_library_and_with_it() {
    let cured = type_along(spawn_py("mpich-5.0.2", true));
    check_cured(&cured, "MPICH 5.0.2");
    check_agent(&cured, "/mpi/mpich-5.0.2/bin/mpiexec");
    let bare = type_along(spawn_py("mpich-5.0.2", false));
    bare.check_ended_well();
    bare.check_read_all();
}

/// The agent served the spawn, by a bridge in a job of that mpiexec.
#[track_caller]
fn check_agent(report: &Report, mpiexec: &str) {
    let said = report.said_by_others();
    let says = |what: &str| said.iter().any(|line| line.text.contains(what));
    report.check(
        says("acting as mpiexec for process ") && says("stdin closed, stdout reopened"),
        "the agent says that it is there",
    );
    report.check(
        says(&format!("python3): started {mpiexec}, the first on PATH")),
        "the agent tells of its job",
    );
}

#[test]
#[ignore = "emulates another processor: make test-aarch64"]
fn check_says_what_will_come_of_a_spawn() {
    for (mpi, product) in [
        ("mpich-4.2.3", "MPICH 4.2.3"),
        ("mpich-5.0.2", "MPICH 5.0.2"),
        ("openmpi-4", "Open MPI 4.1.4"),
    ] {
        let report = inside(mpi, false)
            .args(["/opt/spawnfix/spawnfix", "--check", "python3"])
            .piped()
            .run();
        let line = |name: &str| {
            let lines = report.output.lines();
            let mut its = lines.filter_map(|line| line.strip_prefix(name));
            its.next().unwrap_or_default().trim().to_owned()
        };
        report.check(report.code() == Some(0), "exit status 0");
        // Here the command line is what --check was given, and no process is looked at.
        report.check(line("session").starts_with("yes"), "it is a session");
        report.check(line("loads") == "yes", "the library loads");
        let its_mpi = format!("{product}, ");
        report.check(line("mpi").starts_with(&its_mpi), "its MPI");
        report.check(line("outcome").starts_with("works, in "), "the spawn works");
    }
}

/// Someone at Python's prompt, with the words of session.py at hand.
fn prompt(library: bool) -> IPython {
    let program = inside("mpich-4.2.3", library)
        .args(["python3", "-q"])
        .beside("session.py")
        .env("SPAWNFIX_INTERACTIVE", "1");
    let mut prompt = Kind::Python.start(program);
    prompt.type_on(Kind::Python.words());
    prompt
}

#[test]
#[ignore = "emulates another processor: make test-aarch64"]
fn a_child_crashes_and_the_session_spawns_again() {
    let mut prompt = prompt(true);
    let mut spawns = 0;
    for how in ["segv", "abort", "exit", "leave"] {
        spawns += 1;
        prompt.type_on("spawn()");
        prompt.reported_within(LIMIT, "spawned", spawns);
        prompt.type_on("ask()");
        prompt.reported_within(LIMIT, "answered", spawns);
        if how == "leave" {
            prompt.type_on("leave()");
            prompt.reported_within(LIMIT, "leaving", 1);
        } else {
            prompt.type_on(&format!("crash('{how}')"));
            prompt.reported_within(LIMIT, "crashed", spawns);
            prompt.logged_within(LIMIT, "this session goes on", spawns);
        }
    }
    let report = prompt.leave_by(Kind::Python.way_out(true));
    report.check(
        report.count("spawned") == 4 && report.count("answered") == 4,
        "each spawn succeeds, and each child answers",
    );
    report.check(
        report.count("dying") == 3,
        "three children are about to crash",
    );
    report.check(
        report.log.matches("this session goes on").count() == 3,
        "one warning for each crash",
    );
    report.check(report.code() == Some(0), "exit status 0");
    report.check(report.left.is_empty(), "nothing is left behind");
}

#[test]
#[ignore = "emulates another processor: make test-aarch64"]
fn without_the_library_a_crash_kills_the_session() {
    let mut prompt = prompt(false);
    // In one line: once there is a launcher nothing that is typed is safe.
    prompt.type_on("spawn(); ask(); crash('segv'); time.sleep(60); report('lived')");
    prompt.reported_within(LIMIT * 2, "lived", 1);
    let report = prompt.finish();
    report.check(report.count("answered") == 1, "the child answers");
    report.check(
        report.signal() == Some(libc::SIGKILL) && report.count("lived") == 0,
        "the session is killed",
    );
}

#[test]
#[ignore = "emulates another processor: make test-aarch64"]
fn open_mpi_4_eats_a_file_on_stdin_and_does_not_with_the_library() {
    let run = |library| {
        spawn_py("openmpi-4", library)
            .env("CHILD_READS", "1")
            .stdin(Stdin::File(a_megabyte()))
            .run()
    };
    let cured = run(true);
    check_cured(&cured, "Open MPI 4.1.4");
    cured.check(
        cured.fact("child_read") == Some("0"),
        "the children's stdin is empty",
    );
    let sick = run(false);
    sick.check(
        sick.code() == Some(0) && sick.count("end") == 1,
        "without the library it ends as well as with it",
    );
    sick.check(
        sick.read.len() < sick.sent.len(),
        "and some of its input is gone",
    );
}

/// The versions of symbols that this file asks its libraries for, such as GLIBC_2.17.
fn versions(file: &Path) -> BTreeSet<String> {
    let bytes = fs::read(file).expect("it was just built");
    let elf = ElfFile64::<Endianness>::parse(&*bytes)
        .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    assert_eq!(
        elf.architecture(),
        Architecture::Aarch64,
        "{}",
        file.display()
    );
    needed(&elf).expect("its version sections are whole")
}

fn needed(elf: &ElfFile64<Endianness>) -> object::read::Result<BTreeSet<String>> {
    let mut versions = BTreeSet::new();
    let (endian, data) = (elf.endian(), elf.data());
    let sections = elf.elf_section_table();
    let Some((mut entries, link)) = sections.gnu_verneed(endian, data)? else {
        return Ok(versions);
    };
    let strings = sections.strings(endian, data, link)?;
    while let Some((_, mut auxiliaries)) = entries.next()? {
        while let Some(auxiliary) = auxiliaries.next()? {
            let name = auxiliary.name(endian, strings)?;
            versions.insert(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(versions)
}

#[test]
#[ignore = "looks at what is built for another processor: make test-aarch64"]
fn the_library_and_the_program_ask_for_no_newer_glibc_than_2_17() {
    for name in ["libspawnfix.so", "spawnfix"] {
        let versions = versions(&built(name));
        let number = |version: &str| {
            let (major, minor) = version.strip_prefix("GLIBC_")?.split_once('.')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        };
        let newer: Vec<_> = versions
            .iter()
            .filter(|version| number(version).is_some_and(|number: (u32, u32)| number > GLIBC))
            .collect();
        assert!(newer.is_empty(), "{name} asks for {newer:?}");
        // arm64's own first version; nothing at all would mean that they were not found.
        assert!(versions.contains("GLIBC_2.17"), "{name}: {versions:?}");
    }
}
