//! System calls fail, or what they need is missing: a sample, and whole environments. tests/long/syscall_faults.rs lets
//! every call fail.

use std::process::Command;
use std::time::Duration;

use crate::common::syscall_faults::*;
use crate::common::*;

/// Neither the agent nor mpiexec can be executed: the spawn hangs, as it does without the library, but the forked child
/// does not run on as a second copy of the application.
#[test]
fn a_forked_child_that_can_execute_nothing_says_so_and_ends() {
    if !strace_is_here() {
        return;
    }
    side_by_side(&[MPICH_4_2_3, MPICH_5_0_2, INTEL_MPI], |mpi| {
        let case = Case::new(mpi, Whom::Child).fault("execve:error=ENOMEM:when=1+");
        let report = case.within(Duration::from_secs(3)).run().report;
        report.check(report.status.is_none(), "the spawn does not return");
        let mut errors = Report::lines(&report.log).filter(|line| line.level == "ERROR");
        let told = errors.any(|line| line.text.contains("mpiexec can't be executed"));
        report.check(told, "the log says why");
        report.check(
            report.count("spawning") == 1 && report.count("spawned") == 0,
            "there is no second copy",
        );
        report.check(report.left.is_empty(), "the forked child has ended");
    });
}

#[test]
fn an_agent_that_can_not_begin_leaves_its_place_to_mpiexec() {
    if !strace_is_here() {
        return;
    }
    side_by_side(&[MPICH_4_2_3, MPICH_5_0_2, INTEL_MPI], |mpi| {
        let outcome = Case::new(mpi, Whom::Agent)
            .fault("socketpair:error=ENOMEM:when=1")
            .run();
        let report = &outcome.report;
        let judged = judge(report, outcome.outlived);
        report.check(judged == Ok(WORKS), &format!("it works: {judged:?}"));
        report.check(
            report.log.contains("the application can't be served: "),
            "the log says why",
        );
    });
}

/// What `make test` has of these.
#[test]
fn a_sample_of_all_calls_fails_in_turn() {
    failing_calls(MPICH_5_0_2, Whom::Agent, 40);
    failing_calls(MPICH_5_0_2, Whom::Bridge, 10);
    failing_calls(MPICH_5_0_2, Whom::Child, 25);
    failing_calls(MPICH_4_2_3, Whom::LoneChild, 30);
}

/// tests/apps/faulted.c, started by a script, with the library.
fn scripted(mpi: Mpi, command: &[&str], script: &str) -> Program {
    let program = Program::new(command[0]).args(&command[1..]);
    program
        .args(["sh", "-euc", script, "sh"])
        .arg(mpi.compile("faulted.c"))
        .under(mpi)
        .library(true)
        .env("SPAWNFIX_INTERACTIVE", "0")
}

/// It spawns, or is told of an error; what else is right may be said.
#[track_caller]
fn check(program: Program, right: &[&str]) {
    let (report, outlived, _) = play(program, SPAWN);
    let judged = judge(&report, outlived);
    let holds = judged.as_ref().is_ok_and(|how| right.contains(how));
    report.check(holds, &format!("{judged:?} is one of {right:?}"));
}

const WORKS: &str = "the spawn worked";

/// A command that gives a program mounts of its own, or the test says that it skips.
fn mounts() -> Option<[&'static str; 2]> {
    let command = ["unshare", "-rm"];
    let made = Command::new(command[0]).args([command[1], "true"]).output();
    if made.is_ok_and(|output| output.status.success()) {
        return Some(command);
    }
    skip("namespaces can't be made");
    None
}

#[test]
fn a_spawn_works_where_proc_is_not_mounted() {
    let Some(mounts) = mounts() else {
        return;
    };
    // In a user namespace it can't be unmounted.
    let script = r#"mount -t tmpfs none /proc; test ! -e /proc/self; exec "$@""#;
    // MPICH 5.0.2 does not get through MPI_Init there.
    side_by_side(&[MPICH_4_2_3, INTEL_MPI], |mpi| {
        check(scripted(mpi, &mounts, script), &[WORKS]);
    });
}

/// Where fewer are left, libmpi's own connections can't be had: the spawn fails or hangs, with the library and without.
#[test]
fn a_program_with_four_descriptors_left_spawns_and_without_the_library_hangs() {
    let program = |mpi: Mpi| {
        let program = Program::new(mpi.compile("faulted.c")).under(mpi);
        program
            .env("FAULT_ROOM", "4")
            .env("SPAWNFIX_INTERACTIVE", "0")
    };
    side_by_side(&[MPICH_4_2_3, MPICH_5_0_2, INTEL_MPI], |mpi| {
        check(program(mpi).library(true), &[WORKS]);
        let mut session = program(mpi).start();
        session.line("before");
        session.reported("spawning");
        let spawned = session.reported_within(Duration::from_secs(3), "spawned");
        session.has_seconds(0);
        session
            .finish()
            .check(!spawned, "without the library the spawn does not return");
    });
}

#[test]
fn a_log_into_a_closed_pipe_is_nobodys_loss() {
    // Whoever opens a named pipe for writing waits for a reader. This one goes at once.
    let script = r#"mkfifo pipe; (exec 3<pipe) & exec 2>pipe; wait; exec "$@""#;
    side_by_side(&[MPICH_4_2_3, MPICH_5_0_2], |mpi| {
        let program = scripted(mpi, &["env"], script);
        check(program.unlogged().env("SPAWNFIX_LOG", "trace"), &[WORKS]);
        let program = scripted(mpi, &["env"], &script.replace("exec 2>", "exec 4>"));
        check(program.env("SPAWNFIX_LOG_FILE", "pipe"), &[WORKS]);
    });
}

#[test]
fn a_log_on_a_full_disk_is_nobodys_loss() {
    side_by_side(&[MPICH_4_2_3, MPICH_5_0_2], |mpi| {
        let program = Program::new(mpi.compile("faulted.c"))
            .under(mpi)
            .library(true)
            .env("SPAWNFIX_LOG_FILE", "/dev/full");
        check(program, &[WORKS]);
    });
}
