//! Children get what the application gave them, each word to the byte, and a place of their own.

use std::fs;

use crate::common::commands::place;
use crate::common::ipython::Kind;
use crate::common::*;

/// The list of tests/apps/words.py that is changed without the library: under MPICH a backslash, under Intel MPI a newline.
fn changed_without(mpi: Mpi) -> &'static str {
    if mpi.name == INTEL_MPI.name { "2" } else { "1" }
}

/// The list that ends MPICH's hydra, and the application: an empty word.
const FATAL: &str = "3";

#[track_caller]
fn words(mpi: Mpi) {
    if !mpi.is_here() {
        return;
    }
    let run = |library: bool, list: Option<&str>| {
        let python = Program::new(mpi.bin("python")).arg(app("words.py"));
        let python = python.arg(mpi.compile("words.c"));
        let python = python.args(list).under(mpi).library(library).deadline(200);
        python.stdin(Stdin::Null).piped().run()
    };
    let cured = run(true, None);
    cured.check(
        cured.fact("end").is_some() && cured.code() == Some(0),
        "it ends",
    );
    let lists: Vec<_> = (0..)
        .map_while(|number| cured.fact(&format!("list_{number}")))
        .collect();
    cured.check(lists.len() >= 30, "all lists are tried");
    let changed: Vec<_> = (0..lists.len()).filter(|&at| lists[at] != "same").collect();
    cured.check(
        changed.is_empty(),
        &format!("no word is changed: {changed:?}"),
    );
    cured.check(cured.fact("two") == Some("same"), "two commands at once");
    cured.check(cured.fact("long") == Some("same"), "a word of 128 KB");
    cured.check(
        cured.fact("too_long") == Some("True"),
        "what is too long is MPI_ERR_SPAWN",
    );
    cured.check(
        cured.log.contains("argument 1, 'xxx"),
        "and the message names the word",
    );
    cured.check(cured.fact("after") == Some("same"), "the next spawn works");

    if mpi.disease == Disease::Hangs {
        return; // without the library it can't spawn
    }
    let bare = run(false, Some(changed_without(mpi)));
    bare.check(
        bare.fact("same") == Some("no"),
        "without the library a word is changed",
    );
    if mpi.name != INTEL_MPI.name {
        let bare = run(false, Some(FATAL));
        bare.check(
            bare.fact("end").is_none(),
            "without the library an empty word ends everything",
        );
    }
}

tests! {
    words:
    mpich_4_0_3(MPICH_4_0_3);
    mpich_4_1_3(MPICH_4_1_3);
    mpich_4_2_3(MPICH_4_2_3);
    mpich_5_0_2(MPICH_5_0_2);
    intel_mpi(INTEL_MPI);
}

/// A session's spawns fill the hosts one after the other, as an application's do under `mpiexec -n 1`: each of its jobs
/// begins where the last one ended. MPICH 5.0 tells its processes no host.
#[test]
fn each_spawn_of_a_session_goes_on_where_the_last_one_ended() {
    let dir = place();
    let hosts = dir.path().join("hosts");
    fs::write(&hosts, "h1\nh2:2\nh3\nh4\n").expect("it can be written");
    side_by_side(&[MPICH_4_1_3, MPICH_4_2_3], |mpi| {
        let run = |program: Program, library: bool, args: &[&str]| {
            // These hosts are names for this one: their proxies are forked, and not started by ssh.
            let program = program.env("HYDRA_HOST_FILE", &hosts);
            let program = program.env("HYDRA_LAUNCHER", "fork").arg(app("places.py"));
            let program = program.args(args).under(mpi).library(library);
            program.stdin(Stdin::Null).piped().run()
        };
        let python = || Program::new(mpi.bin("python"));
        let session = || python().env("SPAWNFIX_INTERACTIVE", "1");
        let mpiexec = Program::new(mpi.bin("mpiexec")).args(["-n", "1"]);
        let bare = run(mpiexec.arg(mpi.bin("python")), false, &[]);
        let cured = [run(python(), true, &[]), run(session(), true, &[])];
        cured.iter().for_each(Report::check_has_agent);
        for report in cured.iter().chain([&bare]) {
            report.check(report.fact("end").is_some(), "it ends");
            let hosts: Vec<_> = report.values("host").collect();
            let next = hosts == ["h2", "h2", "h3", "h4", "h1"];
            report.check(next, "each child has the next place");
        }
        let freed = run(session(), true, &["free"]);
        let sixth = freed.values("host").nth(5);
        freed.check(sixth == Some("h4"), "a job that has ended frees its place");
    });
}

/// The mpiexec of MPICH 4.2 and 4.3.1 starts a proxy of its own for a `host`, and fails when that has ended: ui_cmd_cb in
/// src/pm/hydra/mpiexec/pmiserv_pmci.c (pmodels/mpich pull request 7712). So it does under `mpiexec -n 1`, too.
#[test]
fn children_on_a_host_that_is_this_one_end_well_and_the_application_goes_on() {
    let mpis = [MPICH_4_2_3, MPICH_4_3_1, MPICH_5_0_2];
    side_by_side(&mpis, |mpi| {
        let run = |program: Program, library: bool| {
            let program = program.arg(app("here.py")).under(mpi).library(library);
            let program = program.deadline(if library { 90 } else { 20 });
            program.stdin(Stdin::Null).piped().run()
        };
        let cured = run(Program::new(mpi.bin("python")), true);
        cured.check_has_agent();
        cured.check(
            cured.count("child") == 6 && cured.fact("end").is_some() && cured.code() == Some(0),
            "six children, one after the other",
        );
        cured.check(
            !cured.output.contains("[mpiexec@"),
            "no message of mpiexec's",
        );
        if [MPICH_4_2_3.name, MPICH_4_3_1.name].contains(&mpi.name) {
            let mpiexec = Program::new(mpi.bin("mpiexec")).args(["-n", "1"]);
            let bare = run(mpiexec.arg(mpi.bin("python")), false);
            bare.check(
                bare.fact("end").is_none() && bare.output.contains("Launch proxy failed."),
                "mpiexec fails by itself",
            );
        }
        if mpi.name == MPICH_4_2_3.name {
            let bare = run(Program::new(mpi.bin("python")), false);
            bare.check(
                bare.fact("end").is_none(),
                "without the library it is killed",
            );
        }
    });
}

/// tests/apps/context.py.
fn context(mpi: Mpi, args: &[&str], library: bool, is_session: bool) -> Program {
    let python = Program::new(mpi.bin("python")).arg(app("context.py"));
    let python = python
        .arg(mpi.compile("context.c"))
        .args(args)
        .under(mpi)
        .library(library)
        .deadline(200);
    let interactive = if is_session { "1" } else { "0" };
    let python = python.stdin(Stdin::Null).piped();
    let python = python.env("SPAWNFIX_INTERACTIVE", interactive);
    if mpi.name == INTEL_MPI.name {
        // After matched probes (MPI_Mprobe), by which a pool receives, its MPI_Comm_disconnect at the pool's end never returns:
        // under its own mpiexec, too (2021.13).
        return python.env("MPI4PY_RC_RECV_MPROBE", "0");
    }
    python
}

#[track_caller]
fn environment_and_directory(mpi: Mpi) {
    if !mpi.is_here() {
        return;
    }
    let mut runs = vec![(&[][..], true)];
    // The agent's part is the same under each MPI, and Intel's takes its time.
    if mpi.name != INTEL_MPI.name {
        runs.push((&[], false));
    }
    if mpi.name == MPICH_5_0_2.name {
        runs.push((&["universe"], false));
    }
    for (args, is_session) in runs {
        let cured = context(mpi, args, true, is_session).run();
        cured.check(
            cured.fact("end").is_some() && cured.code() == Some(0),
            "it ends",
        );
        for step in [
            "first",
            "set",
            "changed",
            "again",
            "unset",
            "moved",
            "back",
            "pool",
            "second_pool",
            "big",
        ] {
            cured.check(
                cured.fact(step) == Some("same"),
                &format!("'{step}': the child has what the application has"),
            );
        }
        cured.check(
            cured.values("thread").eq(["same"; 4]),
            "four threads at once",
        );
        cured.check(
            cured.log.contains("the application's directory is gone: "),
            "a directory that is gone is told of",
        );
        cured.check(cured.left.is_empty(), "nothing is left behind");
    }
    if mpi.disease != Disease::Hangs {
        let bare = context(mpi, &[], false, false).run();
        bare.check(
            bare.fact("first") == Some("same") && bare.fact("set") != Some("same"),
            "without the library the second child has what the first one had",
        );
        let pool = bare.fact("second_pool");
        bare.check(
            pool.is_some_and(|has| has != "same"),
            "and so has a pool of workers",
        );
    }
}

/// Of root the power over permissions is taken away, and with it the way into a directory of mode 0.
const IN_A_CLOSED_DIRECTORY: &str = "mkdir closed && cd closed && chmod 0 . &&
    if [ $(id -u) != 0 ]; then exec \"$0\"; fi
    exec setpriv --bounding-set=-dac_override,-dac_read_search \"$0\"";

/// Intel MPI's hydra starts the children all the same.
#[test]
fn in_a_directory_that_its_user_may_not_enter_a_spawn_is_an_error_in_hydras_words() {
    side_by_side(&[MPICH_4_1_3, MPICH_5_0_2], |mpi| {
        let attempts = mpi.compile("attempts.c");
        let run = |library| {
            let sh = Program::new("sh").args(["-c", IN_A_CLOSED_DIRECTORY]);
            let sh = sh.arg(&attempts).under(mpi);
            sh.library(library).stdin(Stdin::Null).piped().run()
        };
        let cured = run(true);
        cured.check_has_agent();
        cured.check(
            cured
                .fact("attempt")
                .is_some_and(|what| what.contains(" failed ")),
            "the spawn is an MPI error",
        );
        cured.check(
            cured.fact("end").is_some() && cured.code() == Some(0),
            "the application goes on",
        );
        cured.check(
            cured.output.contains("/closed (Permission denied)"),
            "hydra says why",
        );
        let bare = run(false);
        bare.check(
            bare.fact("attempting").is_some() && bare.fact("attempt").is_none(),
            "without the library the application is killed",
        );
        bare.check(bare.signal() == Some(libc::SIGKILL), "by hydra");
    });
}

/// As Rmpi's mpi.comm.spawn (R/Rcomm.R in Rmpi), which asks for the universe's size first: `universe` above does so, too.
#[test]
fn children_of_r_have_the_environment_and_directory_of_the_call() {
    const STORY: &str = "source('session.R'); \
        for (name in c('one', 'two')) { Sys.setenv(CONTEXT = name); dir.create(name); setwd(name); spawn(); ask(); leave() }; \
        report('end'); bye()";
    if !Kind::R.is_here() {
        return;
    }
    side_by_side(&[MPICH_4_1_3, MPICH_5_0_2], |mpi| {
        let run = |library| {
            let r = Kind::R.program(mpi).args(["-e", STORY]).library(library);
            r.stdin(Stdin::Null).piped().deadline(30).run()
        };
        // The variable's value, and the directory's own name.
        let contexts = |report: &Report| -> Vec<String> {
            let contexts = report.values("child_context");
            let ends = contexts.map(|all| (all.split(' ').next(), all.rsplit('/').next()));
            ends.map(|ends| format!("{ends:?}")).collect()
        };
        let is = |name: &str| format!("{:?}", (Some(name), Some(name)));
        let cured = run(true);
        cured.check_ended_well();
        cured.check(
            contexts(&cured) == [is("one"), is("two")],
            "each has its own",
        );
        let bare = run(false);
        let same = [is("one"), is("one")];
        bare.check(
            contexts(&bare) == same,
            "without the library both have the first one's",
        );
    });
}

/// MPI's rule holds over both of an application's jobs.
#[track_caller]
fn a_crash(mpi: Mpi) {
    if !mpi.is_here() {
        return;
    }
    let report = context(mpi, &["crash"], true, false).run();
    report.check(
        report.fact("first") == Some("same") && report.fact("second") == Some("same"),
        "two children, each in an environment of its own",
    );
    report.check(
        report.fact("end").is_none() && report.code() != Some(0),
        "the crash of one ends the application",
    );
    report.check(report.left.is_empty(), "and the other one");
}

tests! {
    environment_and_directory:
    of_the_call_under_mpich_4_1_3(MPICH_4_1_3);
    of_the_call_under_mpich_5_0_2(MPICH_5_0_2);
    of_the_call_under_intel_mpi(INTEL_MPI);
}

tests! {
    a_crash:
    in_one_of_two_environments_under_mpich_5_0_2(MPICH_5_0_2);
    in_one_of_two_environments_under_intel_mpi(INTEL_MPI);
}
