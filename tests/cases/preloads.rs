//! Others' preloaded libraries and MPI's profiling tools do their thing beside ours, and the spawn is cured.
//!
//! What is launched inherits them, and not ours. And the ways of linking that decide whether a preloaded library is
//! reached.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::common::commands::{place, script};
use crate::common::ipython::Kind;
use crate::common::*;

/// Under which the spawn is to be cured: typed at, the program is killed without the library.
const MPI: Mpi = MPICH_4_2_3;

/// A library that scripts/fetch/preloads fetched, or `None`, and the reason said.
fn other(name: &str) -> Option<PathBuf> {
    let library = target().join("preloads/lib").join(format!("{name}.so"));
    if !library.exists() {
        skip(&format!(
            "there is no {name}: scripts/fetch/preloads fetches Debian's"
        ));
        return None;
    }
    Some(library)
}

/// tests/apps/preloads.c, or pmpi_tool.c, with these flags.
fn compile(source: &str, kind: &str, flags: &[&str]) -> PathBuf {
    let mut mpicc = Command::new(MPI.bin("mpicc"));
    mpicc.arg(app(source)).args(flags);
    build(mpicc, source, &format!("preloads/{}-{kind}", MPI.name))
}

/// A tool of MPI's profiling interface, as a library.
fn tool(kind: &str, flags: &[&str]) -> PathBuf {
    compile(
        "pmpi_tool.c",
        kind,
        &[&["-shared", "-fPIC"], flags].concat(),
    )
}

/// A program that is linked with that library, which comes before libmpi.
fn linked_with(tool: &Path, kind: &str, flags: &[&str]) -> PathBuf {
    let tool = tool.display().to_string();
    compile("preloads.c", kind, &[&[tool.as_str()], flags].concat())
}

/// Someone types: before the spawn, during it, and after it.
fn type_along(program: Program) -> Report {
    let mut session = program.under(MPI).start();
    for line in ["one", "two", "three"] {
        session.line(line);
    }
    session.reported("spawning");
    session.line("four, while it spawns");
    session.reported("working");
    for line in ["five", "", "six"] {
        session.line(line);
        thread::sleep(Duration::from_millis(20));
    }
    session.reported_soon("bye");
    thread::sleep(Duration::from_millis(300));
    session.line("seven");
    thread::sleep(Duration::from_millis(50));
    session.end_of_input();
    // Python asks twice.
    thread::sleep(Duration::from_millis(50));
    session.key(CTRL_D);
    session.finish()
}

fn preloading(program: &Path, list: &[&Path]) -> Program {
    let list: Vec<_> = list.iter().map(|path| path.display().to_string()).collect();
    Program::new(program)
        .library(true)
        .env("LD_PRELOAD", list.join(":"))
}

/// Each line is read, and nobody has anything to say.
#[track_caller]
fn check_cured(report: &Report) {
    report.check_ended_well();
    report.check(report.fact("end").is_some(), "it comes to its end");
    report.check(report.fact("spawned") == Some("0 0"), "it spawns");
    report.check_read_all();
    report.check_no_warning();
    report.check(
        !report.output.contains("ERROR: ld.so"),
        "the dynamic linker has nothing to say",
    );
    report.check(agents(report) == 1, "the agent serves it");
}

/// How many agents tell what they did.
fn agents(report: &Report) -> usize {
    let said = report.said_by_others();
    said.iter()
        .filter(|line| line.text.contains("stdin closed"))
        .count()
}

/// Before ours, after ours, and without ours.
#[track_caller]
fn beside(name: &str, settings: &[(&str, &str)], shows: impl Fn(&Report, bool)) {
    let Some(other) = other(name).filter(|_| MPI.is_here()) else {
        return;
    };
    let ours = library();
    let program = compile("preloads.c", "plain", &[]);
    let with = |list: &[&Path]| {
        let program = preloading(&program, list).beside("snoopy.ini");
        let program = settings
            .iter()
            .fold(program, |program, (name, value)| program.env(name, value));
        type_along(program)
    };
    for list in [[&*other, &*ours], [&*ours, &*other]] {
        let cured = with(&list);
        check_cured(&cured);
        shows(&cured, true);
    }
    let sick = with(&[&other]);
    sick.check_killed();
    shows(&sick, false);
}

/// These facts are so in the program before the spawn, in the child, and in the program at its end if it comes to that.
#[track_caller]
fn check_facts(report: &Report, fact: &str, value: &str, ends: bool) {
    for whose in ["before", "child", "after"] {
        if whose == "before" || ends {
            report.check(
                report.fact(&format!("{whose}_{fact}")) == Some(value),
                &format!("{whose}_{fact} is {value}"),
            );
        }
    }
}

#[test]
fn libeatmydata_works_before_and_after_the_library() {
    beside("libeatmydata", &[], |report, ends| {
        check_facts(report, "fsync", "is eaten", ends);
        check_facts(report, "malloc", "libc", ends);
    });
}

#[test]
fn libfaketime_works_before_and_after_the_library() {
    let settings = [("FAKETIME", "-7305d")];
    let output = Command::new("date").arg("+%Y").output();
    let year = String::from_utf8(output.expect("there is a date").stdout).expect("a number");
    let year: i32 = year.trim().parse().expect("a number");
    beside("libfaketime", &settings, |report, ends| {
        // Its shared memory outlives a program that is killed.
        for name in ["faketime_shm_", "sem.faketime_sem_"] {
            let _ = std::fs::remove_file(format!("/dev/shm/{name}{}", report.pid));
        }
        check_facts(report, "year", &(year - 20).to_string(), ends);
        check_facts(report, "fsync", "works", ends);
    });
}

#[test]
fn jemalloc_works_before_and_after_the_library() {
    beside("libjemalloc", &[], |report, ends| {
        check_facts(report, "malloc", "jemalloc", ends);
    });
}

/// It hooks execv and execve, and writes down what is executed: here, into a file beside the program's report.
#[test]
fn snoopy_works_before_and_after_the_library() {
    beside("libsnoopy", &[], |report, ends| {
        let executed = |command: &str| {
            let mut seen = report.values("executed");
            seen.any(|executed| executed.starts_with(command))
        };
        for whose in ["before", "child", "after"] {
            report.check(
                executed(&format!("/bin/true true {whose}")) || whose != "before" && !ends,
                "it sees what program and child execute",
            );
        }
        report.check(
            executed(&agent().display().to_string()) == ends,
            "it sees the agent executed, where there is one",
        );
    });
}

/// It has an execvp of its own, which ends in execve. Ahead of the library it hides libmpi's launch, so the library is
/// to come first, as `spawnfix` has it.
#[test]
fn fakechroot_works_after_the_library_and_hides_the_launch_before_it() {
    let Some(fakechroot) = other("libfakechroot").filter(|_| MPI.is_here()) else {
        return;
    };
    let ours = library();
    let program = compile("preloads.c", "plain", &[]);
    let with = |program: Program| type_along(program.env("FAKECHROOT", "true"));
    check_cured(&with(preloading(&program, &[&ours, &fakechroot])));
    with(preloading(&program, &[&fakechroot])).check_killed();

    let hidden = with(preloading(&program, &[&fakechroot, &ours]));
    hidden.check_killed();
    hidden.check(agents(&hidden) == 0, "no agent serves it");
    let wrapped = Program::new(agent())
        .arg(&program)
        .library(true)
        .env("LD_PRELOAD", &fakechroot);
    check_cured(&with(wrapped));
}

#[test]
fn two_others_work_around_the_library() {
    let (Some(eatmydata), Some(jemalloc)) = (other("libeatmydata"), other("libjemalloc")) else {
        return;
    };
    let program = compile("preloads.c", "plain", &[]);
    let list = [&*jemalloc, &*library(), &*eatmydata];
    let cured = type_along(preloading(&program, &list));
    check_cured(&cured);
    check_facts(&cured, "fsync", "is eaten", true);
    check_facts(&cured, "malloc", "jemalloc", true);
    type_along(preloading(&program, &[&jemalloc, &eatmydata])).check_killed();
}

// --- tools of MPI's profiling interface ---

/// Whether our MPI_Comm_spawn was called.
fn hook_was_met(report: &Report) -> bool {
    report
        .said()
        .iter()
        .any(|line| line.text.contains("guard: launch"))
}

#[test]
fn a_profiling_tool_preloaded_before_or_after_the_library_sees_the_spawn_once() {
    if !MPI.is_here() {
        return;
    }
    let (ours, tool) = (library(), tool("plain", &[]));
    let program = compile("preloads.c", "plain", &[]);
    for (list, met) in [([&*tool, &*ours], false), ([&*ours, &*tool], true)] {
        let cured = type_along(preloading(&program, &list));
        check_cured(&cured);
        cured.check(cured.count("wrapped") == 1, "the tool sees the spawn, once");
        cured.check(
            hook_was_met(&cured) == met,
            "it goes past our MPI_Comm_spawn if it is first",
        );
    }
    let sick = type_along(preloading(&program, &[&tool]));
    sick.check_killed();
}

#[test]
fn a_profiling_tool_that_the_program_is_linked_with_sees_the_spawn_once() {
    if !MPI.is_here() {
        return;
    }
    let tool = tool("plain", &[]);
    let program = linked_with(&tool, "linked", &[]);
    let cured = type_along(preloading(&program, &[&library()]));
    check_cured(&cured);
    cured.check(cured.count("wrapped") == 1, "the tool sees the spawn, once");
    cured.check(hook_was_met(&cured), "and so do we");
    type_along(Program::new(&program)).check_killed();
}

// --- how it is linked ---

#[test]
fn a_program_that_binds_everything_at_the_start_is_cured() {
    if !MPI.is_here() {
        return;
    }
    let lazily = compile("preloads.c", "plain", &[]);
    let at_once = compile("preloads.c", "now", &["-Wl,-z,now", "-Wl,-z,relro"]);
    for (program, variable) in [(&lazily, "1"), (&at_once, "")] {
        let run = |program: Program| type_along(program.env("LD_BIND_NOW", variable));
        let cured = run(preloading(program, &[&library()]));
        check_cured(&cured);
        cured.check(hook_was_met(&cured), "our MPI_Comm_spawn is met");
        run(Program::new(program)).check_killed();
    }
}

/// What such a library defines itself, it binds to itself: our MPI_Comm_spawn is not met. libmpi's launch is.
#[test]
fn a_spawn_from_a_library_that_is_linked_to_bind_to_itself_is_cured() {
    if !MPI.is_here() {
        return;
    }
    for (flags, met) in [(&[][..], true), (&["-Wl,-Bsymbolic"], false)] {
        let kind = if met { "plain" } else { "symbolic" };
        let tool = tool(kind, flags);
        let kind = format!("by-tool-{kind}");
        let program = linked_with(&tool, &kind, &["-DSPAWN=tool_spawn"]);
        let cured = type_along(preloading(&program, &[&library()]));
        check_cured(&cured);
        cured.check(cured.count("wrapped") == 1, "the tool sees the spawn, once");
        cured.check(hook_was_met(&cured) == met, "it is met as it is linked");
        type_along(Program::new(&program)).check_killed();
    }
}

#[test]
fn a_program_that_is_linked_to_bind_to_itself_is_cured() {
    if !MPI.is_here() {
        return;
    }
    let flags = ["-Wl,-Bsymbolic", "-Wl,--export-dynamic"];
    let program = compile("preloads.c", "symbolic", &flags);
    let cured = type_along(preloading(&program, &[&library()]));
    check_cured(&cured);
    cured.check(hook_was_met(&cured), "our MPI_Comm_spawn is met");
    type_along(Program::new(&program)).check_killed();
}

/// README says so: a libmpi that was loaded with RTLD_DEEPBIND finds the C library's execvp before ours. The same
/// program without that flag is cured.
#[test]
fn a_libmpi_that_is_loaded_with_deepbind_is_out_of_reach() {
    if !MPI.is_here() {
        return;
    }
    let run = |deepbind: bool, preloaded: bool| {
        let python = Program::new(MPI.bin("python"))
            .arg(app("ctypes_spawn.py"))
            .arg(MPI.prefix().join("lib/libmpi.so.12"))
            .args(deepbind.then_some("deepbind"))
            .library(preloaded);
        type_along(python)
    };
    check_cured(&run(false, true));
    let deep = run(true, true);
    deep.check_killed();
    deep.check(
        deep.log.is_empty(),
        "neither MPI_Comm_spawn nor the launch reaches the library",
    );
    run(true, false).check_killed();
}

// --- what is launched does not inherit the library ---

/// The MPIs whose launch spawnfix meets.
const LAUNCHED: [Mpi; 5] = [MPICH_4_1_3, MPICH_4_2_3, MPICH_5_0_2, INTEL_MPI, OPEN_MPI];

/// Two more libraries that someone preloads.
fn others() -> [String; 2] {
    ["other/one", "other/two"].map(|place| {
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC"]).arg(app("other.c"));
        build(cc, "other.c", place).display().to_string()
    })
}

/// A program with this LD_PRELOAD spawns a child, and leaves.
fn spawn_under(mpi: Mpi, preload: &str, settings: impl FnOnce(Program) -> Program) -> Report {
    let program = Kind::C
        .program(mpi)
        .library(true)
        .env("LD_PRELOAD", preload);
    let mut shell = settings(program).start();
    shell.reported("child");
    shell.line("leave");
    shell.finish()
}

/// The files that are preloaded in the child, in the order of the list.
fn preloaded_in_child(report: &Report) -> Vec<&str> {
    let mut maps: Vec<_> = report.values("child_maps").collect();
    maps.sort();
    maps.dedup();
    maps
}

#[test]
fn children_inherit_the_other_preloads_and_not_the_library() {
    let ours = library().display().to_string();
    let [one, two] = others();
    let kept = vec![one.as_str(), two.as_str()];
    let cases = [
        (ours.clone(), "not set".to_owned(), vec![]),
        (
            format!("{ours}:{one}:{two}"),
            format!("{one}:{two}"),
            kept.clone(),
        ),
        (
            format!("{one} {ours} {two}"),
            format!("{one}:{two}"),
            kept.clone(),
        ),
        (format!("{one}:{two}:{ours}"), format!("{one}:{two}"), kept),
    ];
    side_by_side(&LAUNCHED, |mpi| {
        for (preload, left, mapped) in &cases {
            let report = spawn_under(mpi, preload, |program| program);
            report.check_ended_well();
            report.check(
                report.fact("child_preload") == Some(left),
                "LD_PRELOAD is the same without us",
            );
            report.check(
                preloaded_in_child(&report) == *mapped,
                "the others are loaded, and no spawnfix",
            );
        }
    });
}

#[test]
fn children_inherit_the_library_if_asked_to() {
    let ours = library().display().to_string();
    let [one, two] = others();
    let preload = format!("{one}:{ours} {two}");
    side_by_side(&LAUNCHED, |mpi| {
        let report = spawn_under(mpi, &preload, |program| {
            program.env("SPAWNFIX_INHERIT", "1")
        });
        report.check_ended_well();
        report.check(
            report.fact("child_preload") == Some(&preload),
            "LD_PRELOAD is the same",
        );
        let mut all = vec![ours.as_str(), &one, &two];
        all.sort();
        report.check(preloaded_in_child(&report) == all, "all three are loaded");
    });
}

/// A launcher whose host has no such library: it is gone when the real one starts.
#[test]
fn a_host_without_the_library_does_not_say_so() {
    const COMPLAINT: &str = "cannot be preloaded";
    side_by_side(&LAUNCHED, |mpi| {
        for inherit in [false, true] {
            let place = place();
            let here = place.path().join("libspawnfix.so");
            fs::copy(library(), &here).expect("it is there");
            fs::copy(agent(), place.path().join("spawnfix")).expect("it is there");
            let here = here.display().to_string();
            let name = mpi.launcher();
            let real = mpi.bin(name).display().to_string();
            script(
                place.path().join(name),
                &format!("#!/bin/sh\nrm -f '{here}'\nexec '{real}' \"$@\"\n"),
            );
            let path = path_behind(&[place.path()]);
            let report = spawn_under(mpi, &here, |program| {
                program
                    .env("PATH", path)
                    .env("SPAWNFIX_INHERIT", if inherit { "1" } else { "0" })
            });
            report.check(report.code() == Some(0), "exit status 0");
            report.check(
                report.output.contains(COMPLAINT) == inherit,
                "ld.so complains where the library is inherited",
            );
        }
    });
}
