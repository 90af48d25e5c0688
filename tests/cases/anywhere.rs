//! A spawn works on the machine that a person has: nothing is set that a user has not set, but for what lets root run it.
//!
//! Each case runs without the library, too, and fails there as it does for users.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::common::commands::{is_root, place, script};
use crate::common::*;

/// tests/apps/anywhere.py under this MPI's Python, called by its path; no MPI is on PATH.
fn application(mpi: Mpi, words: &[&str], library: bool) -> Program {
    let mut program = Program::new(mpi.bin("python"))
        .arg(app("anywhere.py"))
        .args(words.iter().copied())
        .stdin(Stdin::Null)
        .piped()
        .library(library)
        .deadline(if library { 90 } else { 12 });
    for name in ["OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT"] {
        program = program.env(name, "1").env(format!("{name}_CONFIRM"), "1");
    }
    program
}

/// Without the library it does not spawn; with it it does, by this remedy, and what it starts has the environment that it
/// would have.
#[track_caller]
fn mended(mpi: Mpi, words: &[&str], remedy: &str, place: impl Fn(Program) -> Program) {
    let bare = place(application(mpi, words, false)).run();
    bare.check(
        !bare.output.contains("spawned "),
        "without the library it fails",
    );
    let report = works(mpi, words, place);
    report.check(
        report.log.contains(&format!("remedy: {remedy}")),
        &format!("the remedy is said: {remedy}"),
    );
}

#[track_caller]
fn works(mpi: Mpi, words: &[&str], place: impl Fn(Program) -> Program) -> Report {
    let report = place(application(mpi, words, true)).run();
    report.check(report.code() == Some(0), "exit status 0");
    report.check(report.output.contains("spawned "), "it spawns");
    let changed = report
        .output
        .lines()
        .find_map(|line| line.strip_prefix("changed:"));
    let changed: Vec<_> = changed.unwrap_or("?").split_whitespace().collect();
    // MPI_Init itself sets other variables.
    let remedies = [
        "OMPI_MCA_rmaps_base_oversubscribe",
        "OMPI_MCA_btl_tcp_if_include",
        "OMPI_MCA_mpi_ft_enable",
        "OPAL_PREFIX",
        "PATH",
        "HYDRA_LAUNCHER",
        "I_MPI_HYDRA_BOOTSTRAP",
        "I_MPI_SPAWN",
        "SLURM_OVERLAP",
        "SLURM_STEP_ID",
        "PMI_FD",
        "PMI_RANK",
        "PMI_SIZE",
    ];
    report.check(
        !changed.iter().any(|name| remedies.contains(name)),
        &format!("no remedy is left to what it starts: {changed:?}"),
    );
    report
}

#[test]
fn open_mpi_4_spawns_more_children_than_there_are_cores_again_and_again() {
    for mpi in that_are_here(&[OPEN_MPI_4]) {
        // Where it was installed has to be known before there can be too few slots.
        let prefix = mpi.prefix();
        let there = |program: Program| program.env("OPAL_PREFIX", prefix.clone());
        let slots = "OMPI_MCA_rmaps_base_oversubscribe=1 for orted";
        mended(mpi, &["6", "1"], slots, there);
        mended(mpi, &["1", "10"], slots, there);
    }
}

#[test]
fn open_mpi_4_of_a_wheel_is_found_where_it_is() {
    for mpi in that_are_here(&[OPEN_MPI_4]) {
        let prefix = format!("OPAL_PREFIX={}", mpi.prefix().display());
        mended(mpi, &["1", "1"], &prefix, |program| program);
    }
}

#[test]
fn open_mpi_5_finds_prte_beside_its_library() {
    for mpi in that_are_here(&[OPEN_MPI]) {
        mended(mpi, &["1", "10"], "PATH=", |program| program);
        works(mpi, &["6", "1"], |program| program);
    }
}

#[test]
fn open_mpi_spawns_from_four_threads_at_once() {
    for mpi in that_are_here(&[OPEN_MPI_4, OPEN_MPI]) {
        works(mpi, &["1", "1", "threads"], |program| program);
    }
}

/// Slurm's variables as they are in a container on a node, or in a terminal that outlived its job, and a PATH that has no
/// srun.
fn slurm_without_srun(program: Program, mpi: Mpi, sh: &Path) -> Program {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("Linux has it");
    let path = [mpi.prefix().join("bin"), sh.to_owned()];
    let path: OsString = std::env::join_paths(path).expect("no colon");
    [
        ("SLURM_JOB_ID", "7"),
        ("SLURM_JOBID", "7"),
        ("SLURM_NODELIST", host.trim()),
        ("SLURM_JOB_NODELIST", host.trim()),
        ("SLURM_NNODES", "1"),
        ("SLURM_JOB_NUM_NODES", "1"),
        ("SLURM_NTASKS", "2"),
        ("SLURM_TASKS_PER_NODE", "2"),
        ("SLURM_CPUS_ON_NODE", "2"),
    ]
    .into_iter()
    .fold(program.env("PATH", path), |program, (name, value)| {
        program.env(name, value)
    })
}

#[test]
fn slurms_variables_without_srun_are_no_obstacle() {
    let sh = place();
    symlink("/bin/sh", sh.path().join("sh")).expect("it is empty");
    let mpis = [MPICH_4_1_3, MPICH_4_2_3, MPICH_5_0_2, INTEL_MPI];
    side_by_side(&mpis, |mpi| {
        let remedy = if mpi.name == INTEL_MPI.name {
            "I_MPI_HYDRA_BOOTSTRAP=fork"
        } else {
            "HYDRA_LAUNCHER=fork"
        };
        mended(mpi, &["1", "1"], remedy, |program| {
            slurm_without_srun(program, mpi, sh.path())
        });
    });
    for mpi in that_are_here(&[OPEN_MPI_4]) {
        works(mpi, &["2", "2"], |program| {
            slurm_without_srun(program, mpi, sh.path())
        });
        let step = |program| slurm_without_srun(program, mpi, sh.path()).env("SLURM_STEP_ID", "0");
        mended(mpi, &["1", "1"], "SLURM_STEP_ID is not set", step);
    }
}

/// A notebook server under mpiexec passes its PMI_* on to each kernel, and not the descriptor; the number may be free, or
/// anything else: here stdout, a pipe.
#[test]
fn pmi_variables_of_another_process_are_no_obstacle() {
    let numbers = ["77", "1"];
    for (mpi, fd) in pairs(
        &[MPICH_4_1_3, MPICH_4_2_3, MPICH_5_0_2, INTEL_MPI],
        &numbers,
    ) {
        if mpi.is_here() {
            let inherited = |program: Program| {
                [("PMI_FD", fd), ("PMI_RANK", "0"), ("PMI_SIZE", "1")]
                    .into_iter()
                    .fold(program, |program, (name, value)| program.env(name, value))
            };
            mended(
                mpi,
                &["1", "1"],
                "PMI_FD is not set while MPI_Init",
                inherited,
            );
        }
    }
}

#[test]
fn a_machine_with_nothing_but_the_loopback_spawns_with_open_mpi() {
    if !is_root() {
        return skip("a network of its own takes root");
    }
    let network = place();
    let alone = script(
        network.path().join("python"),
        "#!/bin/sh\nexec unshare --net sh -c 'ip link set lo up; exec \"$@\"' sh \"$PYTHON\" \"$@\"\n",
    );
    for mpi in that_are_here(&[OPEN_MPI_4, OPEN_MPI]) {
        let run = |library: bool| {
            let mut program = Program::new(&alone)
                .arg(app("anywhere.py"))
                .args(["1", "2"])
                .env("PYTHON", mpi.bin("python"))
                .env("OPAL_PREFIX", mpi.prefix()) // the other cases' remedies
                .env("PATH", path_behind(&[&mpi.prefix().join("bin")]))
                .stdin(Stdin::Null)
                .piped()
                .library(library)
                .deadline(if library { 90 } else { 12 });
            for name in ["OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT"] {
                program = program.env(name, "1").env(format!("{name}_CONFIRM"), "1");
            }
            program.run()
        };
        let bare = run(false);
        bare.check(
            !bare.output.contains("spawned "),
            "without the library it fails",
        );
        let report = run(true);
        report.check(report.output.contains("spawned "), "it spawns");
        let remedy = "remedy: OMPI_MCA_btl_tcp_if_include=lo while MPI_Init";
        report.check(report.log.contains(remedy), "the remedy is said");
    }
}

#[test]
fn a_signal_that_the_application_ignores_or_handles_stays_its_own() {
    for mpi in that_are_here(&[MPICH_4_2_3, MPICH_5_0_2]) {
        let bare = application(mpi, &["1", "1", "nohup"], false).run();
        bare.check(
            !bare.output.contains("spawned "),
            "without the library SIGHUP ends it",
        );
        works(mpi, &["1", "1", "nohup"], |program| program);
    }
    for mpi in that_are_here(&[MPICH_4_2_3, INTEL_MPI, OPEN_MPI]) {
        let report = works(mpi, &["1", "1", "interrupted"], |program| program);
        report.check(
            report.output.contains("interrupted"),
            "Ctrl-C is a KeyboardInterrupt",
        );
    }
}

#[test]
fn of_two_mpis_in_one_process_the_callers_own_is_called() {
    let other = OPEN_MPI.prefix().join("lib/libmpi.so.40");
    let other = other.to_str().expect("a plain name");
    if OPEN_MPI.is_here() {
        for mpi in that_are_here(&[MPICH_4_2_3, MPICH_5_0_2]) {
            works(mpi, &["1", "2", "beside", other], |program| program);
        }
    }
}

#[test]
fn open_mpis_launchers_hold_no_port_of_the_application() {
    for mpi in that_are_here(&[OPEN_MPI_4, OPEN_MPI]) {
        let there = |program: Program| {
            program
                .env("PATH", path_behind(&[&mpi.prefix().join("bin")]))
                .env("OPAL_PREFIX", mpi.prefix())
        };
        let words = ["1", "1", "server"];
        let bare = there(application(mpi, &words, false)).run();
        bare.check(
            !bare.output.contains("the port is free"),
            "without the library it is held",
        );
        let report = works(mpi, &words, there);
        report.check(report.output.contains("the port is free"), "it is free");
    }
}

#[test]
fn spawnfix_remedies_off_turns_all_of_them_off() {
    for mpi in that_are_here(&[OPEN_MPI_4]) {
        let off = |program: Program| program.env("SPAWNFIX_REMEDIES", "off").deadline(20);
        let report = off(application(mpi, &["1", "1"], true)).run();
        report.check(
            !report.output.contains("spawned "),
            "it fails as it does without the library",
        );
        report.check(!report.log.contains("remedy: "), "no remedy is said");
    }
}
