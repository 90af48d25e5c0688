//! Under an MPI that the library has not heard of, stdin is away during the call that spawns, and nothing else differs.

use std::process::Command;

use crate::common::*;

/// A program of an MPI that the library has not heard of, with `args` for unknown.c.
fn unknown(args: &[&str], stdin: Stdin, library: bool) -> Report {
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC"])
        .arg(app("unknown_mpi.c"));
    let mpi = build(compiler, "unknown_mpi.c", "unknown");
    let mut compiler = Command::new("cc");
    compiler.arg(app("unknown.c")).arg(mpi);
    let program = build(compiler, "unknown.c", "unknown");
    Program::new(program)
        .args(args)
        .stdin(stdin)
        .library(library)
        .run()
}

fn alphabet() -> Stdin {
    Stdin::File(b"abcdefghijklmnopqrstuvwxyz".to_vec())
}

#[test]
fn under_an_unknown_mpi_stdin_is_away_during_the_call_and_back_after_it() {
    for function in ["MPI_Comm_spawn", "MPI_Comm_spawn_multiple"] {
        for args in [&[][..], &["cloexec"], &["flags"], &["cloexec", "flags"]] {
            let multiple = function == "MPI_Comm_spawn_multiple";
            let args: Vec<_> = args
                .iter()
                .copied()
                .chain(multiple.then_some("multiple"))
                .collect();
            let cured = unknown(&args, alphabet(), true);
            cured.check(cured.code() == Some(0), "it ends");
            cured.check(
                cured.fact("during_read") == Some("Bad file descriptor"),
                "stdin reads as closed during the call",
            );
            cured.check(
                cured.fact("during_open") == Some("another"),
                "the number 0 is taken during the call",
            );
            for fact in ["fd_flags", "status_flags", "descriptors"] {
                cured.check(
                    cured.fact(fact) == Some("as before"),
                    &format!("{fact} as before"),
                );
            }
            cured.check(
                cured.fact("cloexec") == Some(if args.contains(&"cloexec") { "1" } else { "0" }),
                "FD_CLOEXEC as it was set",
            );
            cured.check(
                cured.fact("same_stdin") == Some("yes"),
                "fd 0 is the same open file description as before",
            );
            cured.check(
                cured.fact("rest") == Some("def"),
                "reading goes on where it was",
            );
            let said = cured.said();
            cured.check(
                said.len() == 2
                    && said
                        .iter()
                        .all(|line| line.level == "INFO" && line.text.contains(function)),
                "a decision and an outcome",
            );
            for word in ["Frobnicate MPI 7.3", "singleton", "a file", "guard: call"] {
                cured.check(
                    said[0].text.contains(word),
                    &format!("the decision tells '{word}'"),
                );
            }

            let sick = unknown(&args, alphabet(), false);
            sick.check(
                sick.fact("during_read") == Some("a byte"),
                "without the library stdin is there to be read",
            );
            sick.check(
                sick.fact("rest") == Some("efg"),
                "and what was read is gone",
            );
        }
    }
}

#[test]
fn under_an_unknown_mpi_a_closed_stdin_stays_closed() {
    for args in [&[][..], &["multiple"]] {
        let cured = unknown(args, Stdin::Closed, true);
        cured.check(cured.code() == Some(0), "it ends");
        cured.check(
            cured.fact("during_open") == Some("another"),
            "the number 0 is taken during the call",
        );
        cured.check(
            cured.fact("during_read") == Some("Bad file descriptor"),
            "stdin reads as closed during the call",
        );
        cured.check(
            cured.fact("closed") == Some("yes"),
            "fd 0 is closed after it",
        );
        cured.check(
            cured.fact("descriptors") == Some("as before"),
            "no descriptor is left open",
        );
        let sick = unknown(args, Stdin::Closed, false);
        sick.check(
            sick.fact("during_open") == Some("fd 0"),
            "without the library whatever is opened becomes fd 0",
        );
    }
}

#[test]
fn under_an_unknown_mpi_arguments_handles_results_and_errors_pass_untouched() {
    for (args, arguments, returned) in [
        (
            &[][..],
            "left one 0 0xfedcba9876543210 5 0x123456789abcdef0",
            "0 0xfeedfacecafebeef -1 -1 -1 -1",
        ),
        (
            &["fail"],
            "left one 3 0xfedcba9876543210 5 0x123456789abcdef0",
            "3 0xfeedfacecafebeef 70 71 72 -1",
        ),
        (
            &["multiple"],
            "2 left right two 0 2 0xfedcba9876543210 0x8000000000000001 5 0x123456789abcdef0",
            "0 0xfeedfacecafebeef 70 71 -1 -1",
        ),
        (
            &["multiple", "fail"],
            "2 left right two 1 2 0xfedcba9876543210 0x8000000000000001 5 0x123456789abcdef0",
            "1 0xfeedfacecafebeef 70 71 72 -1",
        ),
    ] {
        for library in [true, false] {
            let report = unknown(args, alphabet(), library);
            report.check(
                report.fact("arguments") == Some(arguments),
                "the arguments arrive",
            );
            report.check(
                report.fact("returned") == Some(returned),
                "the results come back",
            );
            let code = returned.split(' ').next().unwrap_or("");
            let told = report
                .said()
                .iter()
                .any(|line| line.text.contains(&format!("returned {code}")));
            report.check(told == library, "the log tells the return code");
        }
    }
}
