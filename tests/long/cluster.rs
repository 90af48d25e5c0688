//! From a login node, and in a Slurm job of two nodes, a program spawns onto other hosts, and reads on.
//!
//! See tests/cluster/three-hosts: the tests take root and some programs that few machines have, and `make test-cluster`
//! runs them. The login node is in no list of hosts. Beside each cure stands what happens without the library, and what
//! MPI's own way out, `mpiexec -n 1 PROGRAM`, makes of it: what that can't do, the library can't either.

use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::cluster::{Cluster, Site, cluster, processes_of};
use crate::common::*;

/// Those whose hydra starts children on other hosts in a way of its own.
const ACROSS_HOSTS: [Mpi; 5] = [
    MPICH_4_0_3,
    MPICH_4_1_3,
    MPICH_4_2_3,
    MPICH_4_3_2,
    MPICH_5_0_2,
];

/// How a program is started on the login node.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    /// It alone, with the other two hosts in hydra's list.
    Listed,
    /// It alone, with no list.
    Unlisted,
    /// `mpiexec -n 1 PROGRAM`, with the list: on the first host of it, then.
    Mpiexec,
    /// `salloc PROGRAM`, of both nodes.
    Allocation,
    /// `salloc srun --pty PROGRAM`: in a step, which holds a processor of the first of both nodes.
    Step,
    /// What plain `salloc` starts where LaunchParameters has use_interactive_step: in a step that holds nothing.
    Interactive,
    /// `salloc mpiexec -n 1 PROGRAM`.
    AllocationMpiexec,
}

/// Which of the installations is preloaded: see tests/cluster/three-hosts.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Preloaded {
    Everywhere,
    /// On the children's hosts there is no library.
    Half,
    /// On the children's hosts there is nothing.
    LoginOnly,
    No,
}

/// Runs a command where it belongs, as who comes into another namespace of mounts is in no directory of it. Whoever
/// sits there stays a moment: the terminal is not hung up on launchers that are about to end.
const SITTING: &str = r#"cd "$HOME" && "$@"; code=$?; sleep 1; exit $code"#;

/// tests/apps/hosts.c on the login node.
fn hosts(mpi: Mpi, how: How, preloaded: Preloaded) -> Program {
    hosts_of(Site::Plain, "n1\nn2\n", mpi, how, preloaded)
}

/// The same at this site, with this list of hosts.
fn hosts_of(site: Site, list: &str, mpi: Mpi, how: How, preloaded: Preloaded) -> Program {
    static LISTS: AtomicUsize = AtomicUsize::new(0);
    let (directory, login) = cluster(site);
    let number = LISTS.fetch_add(1, Ordering::Relaxed);
    let file = directory.join(format!("list-{number}"));
    fs::write(&file, list).expect("it was made for us");
    let mut program = Program::new("nsenter")
        .args(["--target", &login.to_string(), "--all", "--"])
        .args(["sh", "-c", SITTING, "sh"]);
    if matches!(how, How::Listed | How::Mpiexec) {
        program = match mpi.launcher() {
            "mpiexec" => program.env("HYDRA_HOST_FILE", file),
            "orted" => program.env("OMPI_MCA_orte_default_hostfile", file),
            _ => program.env("PRTE_MCA_prte_default_hostfile", file),
        };
    } else if how != How::Unlisted {
        program = program
            .args(["salloc", "--quiet", "--nodes=2", "--ntasks=2"])
            .env("SLURM_CONF", directory.join("slurm.conf"));
    }
    program = match how {
        // Without `--preserve-env`, Slurm 22.05 gives the step both nodes' names with the counts of one, of which any
        // mpiexec dies.
        How::Step => program.args("srun --pty --preserve-env --nodes=1 --ntasks=1".split(' ')),
        How::Interactive => program.args("srun --pty --preserve-env --interactive".split(' ')),
        How::Mpiexec => program.args(["mpiexec", "-n", "1"]),
        // What those set who know of it: see tests/cases/slurm.rs.
        How::AllocationMpiexec => program
            .env("SLURM_OVERLAP", "1")
            .args(["mpiexec", "-n", "1"]),
        How::Listed | How::Unlisted | How::Allocation => program,
    };
    // Intel's newest wheels have no headers, and the same ABI.
    let application = if mpi.mpicc.is_some() { mpi } else { INTEL_MPI }.compile("hosts.c");
    let place = match preloaded {
        Preloaded::Everywhere => "everywhere",
        Preloaded::Half => "half",
        Preloaded::LoginOnly => "login-only",
        Preloaded::No => return program.arg(application).under(mpi),
    };
    let library = directory.join(place).join("lib/libspawnfix.so");
    program
        .library(true)
        .env("LD_PRELOAD", library)
        .arg(application)
        .under(mpi)
}

/// As an interactive session, at which someone sits.
fn interactive(program: Program) -> Program {
    program.env("SPAWNFIX_INTERACTIVE", "1")
}

/// Someone types at it, while it spawns and when its children are there.
fn type_along(program: Program) -> Report {
    type_along_with(program, "")
}

/// The same, where this program launches hydra's proxies.
#[track_caller]
fn type_along_with(program: Program, launcher: &str) -> Report {
    let mut session = program.start();
    session.reported("spawning");
    session.line("one, while it spawns");
    session.reported("working");
    let others = session.others();
    let launches = |process: &Process| {
        let mut words = process.command.split(' ');
        words.next().is_some_and(|word| word.ends_with(launcher))
            && words.any(|word| word.contains("hydra_pmi_proxy"))
    };
    session.line("two, when that is over");
    session.line("three");
    session.key(CTRL_D);
    let report = session.finish();
    let found = launcher.is_empty() || others.iter().any(launches);
    report.check(found, &format!("{launcher} launches: {others:?}"));
    report
}

/// Nobody types, and there is nothing to read.
fn leave_alone(program: Program, seconds: u64) -> Report {
    program.stdin(Stdin::Null).deadline(seconds).run()
}

/// The hosts of all children that the program heard of, each once.
fn heard_of(report: &Report) -> Vec<&str> {
    let heard = report.values("heard");
    let mut hosts: Vec<_> = heard
        .filter_map(|child| Some(child.rsplit_once(" on ")?.1))
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// The mpiexec of MPICH 4.2 and 4.3.1 takes a proxy that has ended on another host for one that never came, and fails:
/// ui_cmd_cb in src/pm/hydra/mpiexec/pmiserv_pmci.c.
fn loses_track(mpi: Mpi) -> bool {
    [MPICH_4_2_3.name, MPICH_4_3_1.name].contains(&mpi.name)
}

/// The program, on this host, heard of its children on those.
#[track_caller]
fn check_spawned(report: &Report, on: &str, children: &[&str]) {
    let parent = report.fact("parent");
    report.check(parent == Some(&format!("on {on}")), "the program's host");
    report.check(report.fact("failed").is_none(), "no spawn fails");
    report.check(report.fact("spawned").is_some(), "it spawned");
    report.check(heard_of(report) == children, "the children's hosts");
}

/// It read all, and came to its end; nothing of the library reached a child.
#[track_caller]
fn check_ended(report: &Report, mpi: Mpi) {
    report.check(report.code() == Some(0), "exit status 0");
    report.check(report.fact("end").is_some(), "the program's end");
    report.check_read_all();
    let mut preloads = report.values("child_preload");
    let none = preloads.all(|preload| preload == "not set") && report.fact("child_maps").is_none();
    report.check(none, "the children have no library of ours");
    report.check(
        !report.output.contains("preload"),
        "nor does anything say so",
    );
    report.check(report.left.is_empty(), "nothing is left on any host");
    let lost = loses_track(mpi) && report.output.contains("Launch proxy failed.");
    for complaint in ["[mpiexec@", "[proxy:", "BAD TERMINATION"] {
        let mut lines = report.output.lines();
        // Hydra waits by itself before a ninth connection to a host within 15 s, and a typed line may be echoed in the middle
        // of what it says.
        let harmless = ["too many ssh connections", "while it spawns"];
        let said = lines.any(|line| {
            line.contains(complaint) && !harmless.iter().any(|words| line.contains(words))
        });
        report.check(!said || lost, "no message of mpiexec's");
    }
}

/// It did not spawn, whether it said so, died or waits.
#[track_caller]
fn check_did_not_spawn(report: &Report) {
    report.check(report.fact("spawning").is_some(), "it tries");
    report.check(report.fact("spawned").is_none(), "it does not spawn");
}

/// A program on the login node: by itself it can't spawn; with mpiexec it is itself on another host; with the library
/// it spawns, reads what is typed, and lets its children go. The other hosts may have the library or not.
#[track_caller]
fn on_a_login_node(mpi: Mpi) {
    if !mpi.is_here() {
        return;
    }
    let two = |how, preloaded| hosts(mpi, how, preloaded).args(["children", "2"]);
    thread::scope(|scope| {
        for preloaded in [Preloaded::Everywhere, Preloaded::Half] {
            scope.spawn(move || {
                let report = type_along(two(How::Listed, preloaded));
                check_spawned(&report, "login", &["n1", "n2"]);
                check_ended(&report, mpi);
            });
        }
        scope.spawn(|| check_did_not_spawn(&leave_alone(two(How::Listed, Preloaded::No), 8)));
        scope.spawn(|| {
            let report = leave_alone(two(How::Mpiexec, Preloaded::No), 20);
            check_spawned(&report, "n1", &["n1", "n2"]);
        });
    });
}

tests! {
    #[ignore = "make test-cluster runs it"]
    on_a_login_node:
    a_program_on_a_login_node_spawns_onto_other_hosts_under_mpich_4_0_3(MPICH_4_0_3);
    a_program_on_a_login_node_spawns_onto_other_hosts_under_mpich_4_1_3(MPICH_4_1_3);
    a_program_on_a_login_node_spawns_onto_other_hosts_under_mpich_4_2_3(MPICH_4_2_3);
    a_program_on_a_login_node_spawns_onto_other_hosts_under_mpich_4_3_2(MPICH_4_3_2);
    a_program_on_a_login_node_spawns_onto_other_hosts_under_mpich_5_0_2(MPICH_5_0_2);
}

/// Each host of the list has one slot, so that the third child begins the list again.
#[test]
#[ignore = "make test-cluster runs it"]
fn more_children_than_slots_are_started_where_mpiexec_itself_can_start_them() {
    for (mpi, works) in [
        (MPICH_4_0_3, true),
        (MPICH_4_1_3, false),
        (MPICH_4_2_3, false),
        (MPICH_4_3_2, false),
        (MPICH_5_0_2, true),
    ] {
        if !mpi.is_here() {
            continue;
        }
        let three = |how, preloaded| {
            let program = hosts(mpi, how, preloaded).args(["children", "3"]);
            leave_alone(program, if works { 30 } else { 8 })
        };
        thread::scope(|scope| {
            for (how, preloaded, on) in [
                (How::Listed, Preloaded::Half, "login"),
                (How::Mpiexec, Preloaded::No, "n1"),
            ] {
                scope.spawn(move || {
                    let report = three(how, preloaded);
                    if works {
                        check_spawned(&report, on, &["n1", "n2"]);
                    } else {
                        check_did_not_spawn(&report);
                    }
                });
            }
        });
    }
}

/// Children that have gone end nobody, unless mpiexec fails of it; then what is not interactive ends, as with `mpiexec -n 1`.
#[test]
#[ignore = "make test-cluster runs it"]
fn a_program_reads_on_when_its_children_on_other_hosts_have_gone() {
    side_by_side(&ACROSS_HOSTS, |mpi| {
        let early = |how, preloaded| hosts(mpi, how, preloaded).args(["children", "2", "early"]);
        let wait = |program: Program| {
            let mut session = program.start();
            session.reported("working");
            // Long enough for mpiexec to see them go.
            thread::sleep(Duration::from_secs(2));
            session.line("a line, when they are gone");
            session.key(CTRL_D);
            session.finish()
        };
        let session = wait(interactive(early(How::Listed, Preloaded::Half)));
        check_spawned(&session, "login", &["n1", "n2"]);
        check_ended(&session, mpi);
        let program = wait(early(How::Listed, Preloaded::Half));
        check_spawned(&program, "login", &["n1", "n2"]);
        if loses_track(mpi) {
            for report in [program, wait(early(How::Mpiexec, Preloaded::No))] {
                report.check(report.fact("disconnected").is_some(), "they go");
                report.check(report.fact("end").is_none(), "and the program with them");
                report.check(report.output.contains("Launch proxy failed."), "mpiexec's");
            }
        } else {
            check_ended(&program, mpi);
        }
    });
}

/// The bridge is on the first host of the list, so the program `spawnfix` must be there.
#[test]
#[ignore = "make test-cluster runs it"]
fn without_the_program_on_the_first_host_a_spawn_is_an_error_that_names_it() {
    side_by_side(
        &[MPICH_4_0_3, MPICH_4_1_3, MPICH_4_2_3, MPICH_5_0_2],
        |mpi| {
            let report = type_along(hosts(mpi, How::Listed, Preloaded::LoginOnly));
            check_did_not_spawn(&report);
            report.check(report.fact("failed").is_some(), "MPI's own error");
            report.check(report.fact("end").is_some(), "the program goes on");
            report.check_read_all();
            let program = cluster(Site::Plain).0.join("login-only/bin/spawnfix");
            let program = program.display();
            let says =
                format!("HYDRA_HOST_FILE says, and the first of those hosts must have {program}");
            report.check(report.log.contains(&says), "the log says what is missing");
            let says = format!("execvp error on file {program}");
            report.check(report.output.contains(&says), "mpiexec says so, too");
            report.check(report.left.is_empty(), "nothing is left on any host");
            // Without a list the bridge is at home, and what the program itself asks for is on the other host.
            let program = hosts(mpi, How::Unlisted, Preloaded::LoginOnly).args(["host", "n2"]);
            let report = type_along(program);
            check_spawned(&report, "login", &["n2"]);
            check_ended(&report, mpi);
        },
    );
}

#[test]
#[ignore = "make test-cluster runs it"]
fn a_session_lives_on_and_spawns_again_when_its_children_crash_on_other_hosts() {
    side_by_side(&MPICHS, |mpi| {
        let session = interactive(hosts(mpi, How::Listed, Preloaded::Half));
        let report = type_along(session.args(["children", "2", "times", "3", "crash"]));
        check_spawned(&report, "login", &["n1", "n2"]);
        report.check(report.fact("crashed").is_some(), "they crash");
        report.check(report.count("spawned") == 3, "it spawns again");
        report.check(report.fact("end").is_some(), "the program's end");
        report.check_read_all();
        report.check(report.left.is_empty(), "nothing is left on any host");
    });
}

#[test]
#[ignore = "make test-cluster runs it"]
fn a_program_that_is_killed_leaves_nothing_on_other_hosts() {
    side_by_side(&MPICHS, |mpi| {
        let program = hosts(mpi, How::Listed, Preloaded::Half).args(["children", "2"]);
        let mut session = program.start();
        assert!(session.reported("working"), "{}: it spawns", mpi.name);
        let others = session.others();
        let children = others
            .iter()
            .filter(|p| p.command.contains("/hosts child /"));
        assert_eq!(children.count(), 2, "{}: {others:?}", mpi.name);
        let program = others
            .iter()
            .find(|p| p.command.ends_with("/hosts children 2"));
        let pid = program.expect("it runs").pid;
        // SAFETY: a plain system call; the process carries this session's mark.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        let report = session.finish();
        report.check(report.fact("end").is_none(), "it was killed");
        report.check(report.left.is_empty(), "nothing is left on any host");
    });
}

/// How often a program spawns in a row, each time two children on two hosts.
const ROUNDS: usize = 25;

/// Spawns again and again, with someone who types a line each time. A session has a job for each spawn, any other application
/// one for all.
#[test]
#[ignore = "make test-cluster runs it"]
fn spawn_after_spawn_onto_other_hosts_loses_neither_a_child_nor_a_byte() {
    let each = |mpi: Mpi, program: Program| {
        let times = ROUNDS.to_string();
        let program = program.args(["children", "2", "times", &times]);
        let mut session = program.deadline(240).start();
        session.reported("spawning");
        for round in 1..=ROUNDS {
            session.line(&format!("line {round}, while it spawns"));
            // The last children stay until it has read all.
            if round < ROUNDS {
                session.printed("says goodbye", 2 * round);
            }
        }
        session.reported("working");
        session.key(CTRL_D);
        let report = session.finish();
        check_spawned(&report, "login", &["n1", "n2"]);
        report.check(report.count("spawned") == ROUNDS, "it spawns each time");
        report.check(
            report.count("heard") == 2 * ROUNDS,
            "it hears of each child",
        );
        // An mpiexec that loses track ends the slower child of the two, after its goodbye.
        let all = loses_track(mpi) || report.count("bye") == 2 * ROUNDS;
        report.check(all, "each child comes to its end");
        check_ended(&report, mpi);
    };
    let started = Instant::now();
    let programs = [MPICH_4_1_3, MPICH_5_0_2];
    side_by_side(&MPICHS, |mpi| {
        each(mpi, interactive(hosts(mpi, How::Listed, Preloaded::Half)));
    });
    side_by_side(&programs, |mpi| {
        each(mpi, hosts(mpi, How::Listed, Preloaded::Half))
    });
    let spawns = (MPICHS.len() + programs.len()) * ROUNDS;
    let took = started.elapsed().as_secs();
    // Past the test runner's capture: the figure is README's.
    let _ = writeln!(
        std::io::stderr(),
        "{spawns} spawns of two children on two hosts, a line typed at each: nothing lost, in {took} s"
    );
}

/// A program that `salloc` started on the login node. With children on both nodes mpiexec itself fails from 4.2 on,
/// when a second proxy comes from one node: HYD_pmcd_pmiserv_proxy_init_cb in src/pm/hydra/mpiexec/pmiserv_cb.c.
#[track_caller]
fn in_an_allocation(mpi: Mpi, two_work: bool) {
    if !mpi.is_here() {
        return;
    }
    let children = |how, preloaded, count| hosts(mpi, how, preloaded).args(["children", count]);
    let one = || {
        let program = children(How::Allocation, Preloaded::Half, "1");
        let report = type_along_with(program, "srun");
        check_spawned(&report, "login", &["n2"]);
        check_ended(&report, mpi);
    };
    let two = || {
        let two = children(How::Allocation, Preloaded::Half, "2");
        if two_work {
            let report = type_along(two);
            check_spawned(&report, "login", &["n1", "n2"]);
            check_ended(&report, mpi);
        } else {
            check_did_not_spawn(&leave_alone(two, 10));
        }
        let plain = leave_alone(children(How::AllocationMpiexec, Preloaded::No, "2"), 20);
        match two_work {
            true => check_spawned(&plain, "n1", &["n1", "n2"]),
            false => check_did_not_spawn(&plain),
        }
    };
    // Two children, by ssh: the way out that 4.2 and later leave.
    let by_ssh = || {
        let program = children(How::Allocation, Preloaded::Half, "2");
        let report = type_along_with(program.env("HYDRA_LAUNCHER", "ssh"), "ssh");
        check_spawned(&report, "login", &["n1", "n2"]);
        check_ended(&report, mpi);
    };
    let sick = || {
        let program = children(How::Allocation, Preloaded::No, "1");
        check_did_not_spawn(&leave_alone(program, 10));
    };
    thread::scope(|scope| {
        scope.spawn(one);
        scope.spawn(two);
        scope.spawn(by_ssh);
        scope.spawn(sick);
    });
}

tests! {
    #[ignore = "make test-cluster runs it"]
    in_an_allocation:
    a_program_in_an_allocation_of_two_nodes_spawns_onto_them_under_mpich_4_1_3(MPICH_4_1_3, true);
    a_program_in_an_allocation_of_two_nodes_spawns_onto_them_under_mpich_4_2_3(MPICH_4_2_3, false);
    a_program_in_an_allocation_of_two_nodes_spawns_onto_them_under_mpich_5_0_2(MPICH_5_0_2, false);
}

/// Hydra's launcher is srun. Without the library it waits for what the program's step holds.
#[test]
#[ignore = "make test-cluster runs it"]
fn a_program_in_a_step_on_one_node_spawns_onto_the_other() {
    side_by_side(&MPICHS, |mpi| {
        let program = hosts(mpi, How::Step, Preloaded::Everywhere);
        let report = type_along_with(program, "srun");
        check_spawned(&report, "n1", &["n2"]);
        check_ended(&report, mpi);
        check_did_not_spawn(&leave_alone(hosts(mpi, How::Step, Preloaded::No), 8));
    });
}

#[test]
#[ignore = "make test-cluster runs it"]
fn a_program_in_an_interactive_step_spawns_onto_the_other_node_and_reads_what_is_typed() {
    side_by_side(&MPICHS, |mpi| {
        let program = hosts(mpi, How::Interactive, Preloaded::Everywhere);
        let report = type_along_with(program, "srun");
        check_spawned(&report, "n1", &["n2"]);
        check_ended(&report, mpi);
        let bare = type_along(hosts(mpi, How::Interactive, Preloaded::No).deadline(10));
        if mpi.disease == Disease::Healthy {
            check_spawned(&bare, "n1", &["n2"]);
        } else {
            bare.check(
                bare.fact("end").is_none(),
                "without the library it is killed",
            );
        }
    });
}

/// Addresses of n1 and n2 at each site: tests/cluster/three-hosts.
const ADDRESSES: &str = "198.51.100.2\n198.51.100.3\n";

/// What a user has set behind a firewall: the ports, for mpiexec and for what the children send each other. The default
/// providers of MPICH's libfabric have no range of ports: its tcp has one, and so has UCX, which 4.3 and later use.
fn with_ports(program: Program) -> Program {
    program
        .env("MPIEXEC_PORT_RANGE", "50000:50100")
        .env("I_MPI_PORT_RANGE", "50000:50100")
        .env("FI_PROVIDER", "tcp")
        .env("FI_TCP_PORT_LOW_RANGE", "50000")
        .env("FI_TCP_PORT_HIGH_RANGE", "50100")
        .env("UCX_TCP_PORT_RANGE", "50000-50100")
}

/// A program on a login node spawns onto two hosts of a hard site, as `mpiexec -n 1` does, which can't be without those
/// variables either. Without the library no MPICH can. Intel's can; its 2021.18 can't spawn at all.
#[track_caller]
fn at_a_hard_site(site: Site) {
    let guarded = matches!(site, Site::Firewall | Site::Hard);
    let list = match site {
        Site::Firewall => "n1\nn2\n",
        _ => ADDRESSES,
    };
    let mpis = [&ACROSS_HOSTS[..], &[INTEL_MPI, INTEL_MPI_2021_18]].concat();
    let two = |mpi: Mpi, how, preloaded| {
        let program = hosts_of(site, list, mpi, how, preloaded).args(["children", "2"]);
        // By itself mpiexec tells its proxies the host's name.
        program
            .env("HYDRA_IFACE", "eth0")
            .env("I_MPI_HYDRA_IFACE", "eth0")
    };
    several(3, &that_are_here(&mpis).collect::<Vec<_>>(), |&mpi| {
        let ports = |program| {
            if guarded {
                with_ports(program)
            } else {
                program
            }
        };
        let report = type_along(ports(two(mpi, How::Listed, Preloaded::Half)));
        check_spawned(&report, "login", &["n1", "n2"]);
        // The end of an mpiexec that loses track may overtake the program's.
        if !(loses_track(mpi) && report.output.contains("Launch proxy failed.")) {
            check_ended(&report, mpi);
        }

        let bare = leave_alone(ports(two(mpi, How::Listed, Preloaded::No)), 8);
        if mpi.name == INTEL_MPI.name {
            bare.check(bare.fact("spawned").is_some(), "Intel MPI 2021.13 spawns");
        } else {
            check_did_not_spawn(&bare);
        }
        if mpi.name == MPICH_4_2_3.name {
            let plain = leave_alone(ports(two(mpi, How::Mpiexec, Preloaded::No)), 20);
            check_spawned(&plain, "n1", &["n1", "n2"]);
            if guarded {
                // With no range of ports nobody comes through the firewall.
                check_did_not_spawn(&leave_alone(two(mpi, How::Listed, Preloaded::Half), 8));
            }
        }
    });
}

tests! {
    #[ignore = "make test-cluster runs it"]
    at_a_hard_site:
    a_program_spawns_onto_other_hosts_through_a_firewall(Site::Firewall);
    a_program_spawns_onto_other_hosts_that_have_addresses_and_no_names(Site::Nameless);
    a_program_spawns_onto_other_hosts_that_all_have_one_name(Site::Namesakes);
    a_program_spawns_onto_other_hosts_with_one_name_behind_a_firewall(Site::Hard);
}

/// The children of four spawns stay, and fill the places of two hosts; the bridge has the first place, as the application
/// has it under `mpiexec -n 1`.
#[test]
#[ignore = "make test-cluster runs it"]
fn four_spawns_of_a_session_land_on_four_places() {
    side_by_side(&MPICHS, |mpi| {
        let four = |how, preloaded| {
            let list = "login\nn1:2\nn2:2\n";
            let program = hosts_of(Site::Plain, list, mpi, how, preloaded);
            program.args(["children", "1", "times", "4", "keep"])
        };
        for program in [
            interactive(four(How::Listed, Preloaded::Half)),
            four(How::Listed, Preloaded::Half),
            four(How::Mpiexec, Preloaded::No),
        ] {
            let report = leave_alone(program, 60);
            let heard = report.values("heard");
            let hosts: Vec<_> = heard
                .filter_map(|child| child.split(' ').next_back())
                .collect();
            report.check(hosts == ["n1", "n1", "n2", "n2"], "the next place for each");
            if !loses_track(mpi) {
                check_ended(&report, mpi);
            }
        }
    });
}

/// Open MPI's launcher is no PMI-1 process manager, and places the children itself. 4.1 does so with the library and without.
/// 5.0's children fail in MPI_Init on a host where no process of the application's was started, with the library and without
/// (open-mpi/ompi issue 13427); under mpiexec its spawn works.
#[test]
#[ignore = "make test-cluster runs it"]
fn open_mpi_with_a_host_file_does_what_it_does_without_the_library() {
    side_by_side(&[OPEN_MPI_4, OPEN_MPI], |mpi| {
        let prefix = mpi.prefix();
        // What a shell's startup file sets on each host, where an Open MPI is not where it was built for.
        let moved = format!(
            "env OPAL_PREFIX={0} PMIX_PREFIX={0} PRTE_PREFIX={0}",
            prefix.display()
        );
        let daemon = |name| format!("{moved} {}", mpi.bin(name).display());
        let two = |how, preloaded| {
            let list = "n1 slots=1\nn2 slots=1\n";
            hosts_of(Site::Plain, list, mpi, how, preloaded)
                .args(["children", "2"])
                .env("OMPI_MCA_orte_launch_agent", daemon("orted"))
                .env("OMPI_MCA_rmaps_base_mapping_policy", "node")
                .env("PRTE_MCA_prte_launch_agent", daemon("prted"))
                .env("PRTE_MCA_rmaps_default_mapping_policy", "node")
        };
        let runs = [
            type_along(two(How::Listed, Preloaded::Half).deadline(20)),
            leave_alone(two(How::Listed, Preloaded::No), 20),
        ];
        for report in runs {
            if mpi.name == OPEN_MPI_4.name {
                check_spawned(&report, "login", &["n1", "n2"]);
                report.check(report.fact("end").is_some(), "the program's end");
            } else {
                check_did_not_spawn(&report);
            }
        }
    });
}

/// The machine's own network, by the names of its interfaces.
fn interfaces() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net")
        .expect("there is a /sys")
        .flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
#[ignore = "make test-cluster runs it"]
fn nothing_of_the_hosts_is_left_however_they_end() {
    let before = interfaces();
    for killed in [false, true] {
        let mut cluster = Cluster::start(if killed { "killed" } else { "ended" }, Site::Plain);
        let all = processes_of(&cluster.directory);
        assert!(all.len() > 9, "three hosts, each with its daemons: {all:?}");
        assert_eq!(interfaces(), before, "the machine's network is not touched");
        if killed {
            // As by the kernel, for want of memory.
            cluster.script.kill().expect("it is our child");
            let _ = cluster.script.wait();
        } else {
            cluster.end();
        }
        let limit = Instant::now() + Duration::from_secs(10);
        let lives = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok();
        while all.iter().any(lives) && Instant::now() < limit {
            thread::sleep(Duration::from_millis(10));
        }
        let left: Vec<_> = all.iter().filter(|pid| lives(pid)).collect();
        assert!(left.is_empty(), "killed: {killed}; left: {left:?}");
        let mounts = fs::read_to_string("/proc/self/mounts").expect("there is a /proc");
        let directory = cluster.directory.to_str().expect("cargo's own is text");
        assert!(!mounts.contains(directory), "no mount is left:\n{mounts}");
        assert_eq!(interfaces(), before);
        // Who is killed can't remove its files.
        assert_eq!(cluster.directory.exists(), killed);
        let _ = fs::remove_dir_all(&cluster.directory);
    }
}
