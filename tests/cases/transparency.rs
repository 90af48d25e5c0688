//! A program that does not spawn notices nothing of the library; exceptions, cancellations and forks pass through it.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::common::*;

fn output(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("it is text")
}

fn readelf(option: &str) -> String {
    output(
        Command::new("readelf")
            .args(["--wide", option])
            .arg(library()),
    )
}

// --- what it is ---

#[test]
fn it_shows_a_program_its_hooks_and_nothing_else() {
    let symbols = output(
        Command::new("nm")
            .args(["-D", "--defined-only"])
            .arg(library()),
    );
    let mut names: Vec<_> = symbols
        .lines()
        .filter_map(|line| line.split(' ').next_back())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "MPI_Comm_spawn",
            "MPI_Comm_spawn_multiple",
            "MPI_Init",
            "MPI_Init_thread",
            "PMIx_Lookup",
            "PMPI_Init",
            "PMPI_Init_thread",
            "execv",
            "execvp"
        ]
    );
}

#[test]
fn it_needs_the_c_library_and_no_more() {
    let section = readelf("--dynamic");
    let needed = section.lines().filter(|line| line.contains("(NEEDED)"));
    for line in needed {
        let fine = ["[libc.so.", "[ld-linux"]
            .iter()
            .any(|name| line.contains(name));
        assert!(fine, "{line}");
    }
}

#[test]
fn it_is_small() {
    let size = fs::metadata(library()).expect("it is there").len();
    assert!(size <= 300_000, "{size} bytes");
}

/// Each symbol that is looked up at load, and each page that is written, costs every process under the preload.
#[test]
fn little_is_done_to_load_it() {
    let relocations = readelf("--relocs");
    let looked_up: Vec<_> = relocations
        .lines()
        .filter(|line| line.contains("_GLOB_DAT"))
        .collect();
    assert!(
        looked_up.len() <= 7,
        "looked up at load:\n{}",
        looked_up.join("\n")
    );
    assert!(
        !readelf("--dynamic").contains("BIND_NOW"),
        "all functions are bound at load"
    );
    // In a page with the data, if it is small; in pages of its own if not.
    let sections = readelf("--sections");
    let bss = sections
        .lines()
        .find(|line| line.contains(" .bss "))
        .expect("there is one");
    let size = bss
        .split_whitespace()
        .skip_while(|word| *word != "NOBITS")
        .nth(3)
        .expect("a size");
    let size = u64::from_str_radix(size, 16).expect("a hexadecimal number");
    assert!(size <= 1024, "{size} bytes of statics");
}

// --- exceptions ---

/// The MPI libraries that a program's may pass for: the library guards each in its way.
const MPIS: [&str; 3] = [
    "MPICH Version: 4.2.3",
    "Open MPI v5.0.11",
    "Somebody's MPI 1.0",
];

/// tests/apps/failing_mpi.c, built as a shared library.
fn failing_mpi() -> PathBuf {
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-fexceptions", "-shared", "-fPIC"])
        .arg(app("failing_mpi.c"));
    build(cc, "failing_mpi.c", "failing")
}

/// A program of tests/apps with that MPI, or `None`, and the reason said, if there is no such compiler.
fn program(compiler: &str, source: &str) -> Option<PathBuf> {
    if Command::new(compiler).arg("--version").output().is_err() {
        skip(&format!("there is no {compiler}"));
        return None;
    }
    let mpi = failing_mpi();
    let mut command = Command::new(compiler);
    command.args(["-O1", "-pthread"]).arg(app(source)).arg(&mpi);
    command.arg(join(
        "-Wl,-rpath,",
        mpi.parent().expect("it is in a directory"),
    ));
    Some(build(command, source, "failing"))
}

/// What the program says, with a line of input, under an MPI of this name.
fn said(program: &PathBuf, what: &str, mpi: &str, preloaded: bool) -> String {
    let mut input = tempfile::tempfile().expect("there is a place for temporary files");
    input.write_all(b"a line\n").expect("it is ours");
    std::io::Seek::rewind(&mut input).expect("it is a file");
    let input: File = input;
    let mut command = Command::new("timeout");
    command
        .arg("30")
        .arg(program)
        .arg(what)
        .stdin(Stdio::from(input))
        .env("MPI_NAME", mpi);
    if preloaded {
        command.env("LD_PRELOAD", library());
    }
    output(&mut command)
}

/// Under each MPI, the program says with the library what it says without, and that is this.
fn check_the_same(program: &PathBuf, what: &str, expected: &str) {
    for mpi in MPIS {
        assert_eq!(said(program, what, mpi, false), expected, "without, {mpi}");
        assert_eq!(said(program, what, mpi, true), expected, "with, {mpi}");
    }
}

#[test]
fn an_exception_from_the_deep_is_caught() {
    let Some(program) = program("c++", "throws.cpp") else {
        return;
    };
    let mut expected = String::new();
    for time in 1..=3 {
        expected += &format!(
            "caught: from the deep; destroyed: {}\nstdin is as it was\n",
            time * 1000
        );
    }
    check_the_same(&program, "deep", &(expected + "read: a line\n"));
}

#[test]
fn an_exception_leaves_a_spawn_that_failed() {
    let Some(program) = program("c++", "throws.cpp") else {
        return;
    };
    let mut expected = String::new();
    for time in 1..=3 {
        expected += &format!("caught: the spawn failed; destroyed: {time}\nstdin is as it was\n");
    }
    expected += "read: a line\n";
    check_the_same(&program, "spawn", &expected);
    check_the_same(&program, "spawn_multiple", &expected);
}

#[test]
fn a_thread_is_cancelled_in_the_deep() {
    let Some(program) = program("cc", "cancelled.c") else {
        return;
    };
    let expected = "cancelled; cleaned up: 1000\nstdin is as it was\nread: a line\n";
    check_the_same(&program, "deep", expected);
}

#[test]
fn a_thread_is_cancelled_in_a_spawn_that_waits_for_its_launcher() {
    let Some(program) = program("cc", "cancelled.c") else {
        return;
    };
    let expected = "MPI waits for its launcher\nMPI closed its socket\ncancelled; cleaned up: 1\nstdin is as it was\n\
                    read: a line\n";
    check_the_same(&program, "spawn", expected);
}

#[test]
fn a_thread_that_is_cancelled_while_its_spawn_fails_ends_after_it() {
    let Some(program) = program("cc", "cancelled.c") else {
        return;
    };
    let expected = "cancelled; cleaned up: 1\nstdin is as it was\nread: a line\n";
    check_the_same(&program, "pending", expected);
}

// --- what a program does around its spawns ---

/// Whatever a program forks, vforks and executes: in a spawn, after a longjmp out of one, in other threads, and called
/// as a launcher is.
#[test]
fn nothing_that_a_program_executes_itself_is_taken_for_a_launch() {
    let program = program("cc", "forks.c").expect("there is a C compiler");
    let links = tempfile::tempdir().expect("there is a place for temporary files");
    for name in ["tell", "mpiexec", "prte"] {
        std::os::unix::fs::symlink(&program, links.path().join(name)).expect("it is ours");
    }
    for mpi in MPIS {
        for preloaded in [false, true] {
            let mut command = Command::new(&program);
            command.arg(links.path()).env("MPI_NAME", mpi);
            command.stdin(File::open("/dev/null").expect("there is a /dev/null"));
            if preloaded {
                command
                    .env("LD_PRELOAD", library())
                    .env("SPAWNFIX_INTERACTIVE", "1");
            }
            let is = if preloaded {
                "preloaded"
            } else {
                "not preloaded"
            };
            // The call guard, for an MPI that is not known, acts in the program: what it forks meanwhile has no stdin
            // either, and a longjmp out of the call leaves it at that.
            let guarded = preloaded && mpi == "Somebody's MPI 1.0";
            let mut expected = String::new();
            for (whose, in_call) in [
                ("before", false),
                ("another thread", true),
                ("in the spawn", true),
                ("another thread after the jump", true),
                ("after the jump", true),
            ] {
                let stdin = if guarded && in_call {
                    "no stdin"
                } else {
                    "its stdin"
                };
                expected += &format!("{whose}: the program's group, {stdin}, {is}\n").repeat(3);
            }
            assert_eq!(output(&mut command), expected, "{mpi}");
        }
    }
}

/// An extension with an MPI library of its own is unloaded, and another one loaded, as an interpreter may do.
#[test]
fn a_libmpi_that_is_unloaded_is_forgotten() {
    let [first, second] = ["70", "71"].map(|code| {
        let mut mpi = Command::new("cc");
        mpi.args(["-shared", "-fPIC"]).arg(format!("-DCODE={code}"));
        mpi.arg(app("coded_mpi.c"));
        let mpi = build(mpi, "coded_mpi.c", &format!("coded-{code}"));
        let mut extension = Command::new("cc");
        extension.args(["-shared", "-fPIC"]).arg(app("extension.c"));
        let extension = extension.arg(&mpi);
        let extension = std::mem::replace(extension, Command::new("cc"));
        (
            build(extension, "extension.c", &format!("coded-{code}")),
            mpi,
        )
    });
    let mut program = Command::new("cc");
    program.arg(app("extensions.c")).arg("-ldl");
    let program = build(program, "extensions.c", "coded");
    for preloaded in [false, true] {
        let mut command = Command::new(&program);
        for (extension, mpi) in [&first, &second, &first] {
            command.arg(extension).arg(mpi);
        }
        if preloaded {
            command.env("LD_PRELOAD", library());
        }
        assert_eq!(
            output(&mut command),
            "returned 70, gone\nreturned 71, gone\nreturned 70, gone\n"
        );
    }
}

// --- a defect ---

/// With the C library ahead of it, the library finds no further execvp, and its own code panics. The unwinder is
/// loaded then; /bin/true has none.
#[test]
fn a_defect_at_load_does_not_end_the_program() {
    let run = |preload: &str| {
        let mut command = Command::new("/bin/echo");
        let output = command
            .arg("done")
            .env("LD_PRELOAD", preload)
            .output()
            .expect("it can be started");
        assert!(output.status.success(), "{}", output.status);
        assert_eq!(output.stdout, b"done\n");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let library = library();
    let library = library.to_str().expect("a checkout's path is text");
    assert_eq!(run(library), "");
    assert!(run(&format!("libc.so.6:{library}")).contains("panicked"));
}
