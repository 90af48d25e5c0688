//! Programs that publish names and look them up, started without mpiexec: with the library as under mpiexec.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::commands::{place, script};
use crate::common::*;
use tempfile::TempDir;

/// Those whose programs find each other under plain mpiexec. From 4.3 to 5.0.2, MPICH's MPI_Open_port fails there too:
/// "no space for port_name tag".
const ABLE: [Mpi; 4] = [MPICH_4_0_3, MPICH_4_1_3, MPICH_4_2_3, INTEL_MPI];

/// Hydra's server of names, and an mpiexec that asks it. MPICH's mpiexec takes the server's place as an option, and
/// from no variable: a user whose programs launch it themselves has such a script on PATH.
struct Names {
    mpi: Mpi,
    _server: Session,
    place: TempDir,
}

impl Names {
    fn start(mpi: Mpi) -> Names {
        // It takes no port 0. This one is free.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.expect("there is a loopback").port();
        let server = Program::new(mpi.bin("hydra_nameserver"))
            .args(["-port".to_owned(), port.to_string()])
            .under(mpi)
            .start();
        // Not by a connection, after which it would wait for words: as a line of /proc/net/tcp, state LISTEN.
        let listens = || {
            let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
            let local = format!(":{port:04X} ");
            let mut lines = table.lines();
            lines.any(|line| line.contains(&local) && line.contains(" 0A "))
        };
        let limit = Instant::now() + Duration::from_secs(10);
        while !listens() {
            assert!(Instant::now() < limit, "{}: it listens", mpi.name);
            thread::sleep(Duration::from_millis(5));
        }
        let place = place();
        script(
            place.path().join("mpiexec"),
            &format!(
                "#!/bin/sh\nexec '{}' -nameserver 127.0.0.1:{port} \"$@\"\n",
                mpi.bin("mpiexec").display()
            ),
        );
        Names {
            mpi,
            _server: server,
            place,
        }
    }

    fn program(&self, run: Run, words: &[&str]) -> Session {
        let path = path_behind(&[self.place.path(), &self.mpi.prefix().join("bin")]);
        started(self.mpi, run, words).env("PATH", path).start()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Run {
    /// `mpiexec -n 1`.
    Mpiexec,
    /// Without mpiexec, and the library in it.
    Library,
    /// Without either.
    Bare,
}

/// tests/apps/published_names.c, with these words.
fn started(mpi: Mpi, run: Run, words: &[&str]) -> Program {
    let names = mpi.compile("published_names.c");
    let program = if run == Run::Mpiexec {
        Program::new("mpiexec").args(["-n", "1"]).arg(names)
    } else {
        Program::new(names).arg("alone")
    };
    program
        .args(words.iter().copied())
        .under(mpi)
        .library(run == Run::Library)
}

/// What a program of the two reported, in order.
fn facts(report: &Report) -> Vec<String> {
    let facts = report.facts.iter();
    facts
        .map(|(name, value)| format!("{name} {value}"))
        .collect()
}

#[test]
fn two_programs_find_each_other_by_a_published_name() {
    side_by_side(&ABLE, |mpi| {
        let names = Names::start(mpi);
        for run in [Run::Mpiexec, Run::Library] {
            let mut publisher = names.program(run, &["publish", "a-name"]);
            assert!(publisher.reported("published"), "{}", publisher.screen());
            let other = names.program(run, &["look-up", "a-name"]).finish();
            other.check_ended_well();
            other.check(facts(&other) == ["answered 42"], "it is answered");
            let publisher = publisher.finish();
            publisher.check_ended_well();
            let all = ["published yes", "asked 41", "unpublished yes"];
            publisher.check(facts(&publisher) == all, "it is asked");
            // The name is gone with it.
            let late = names.program(run, &["look-up", "a-name"]).finish();
            late.check(late.fact("failed").is_some(), "nobody has that name");
            late.check(late.fact("answered").is_none(), "nobody answers");
        }
        // By itself it finds them, too, if it can spawn at all.
        let mut alone = names.program(Run::Bare, &["publish", "another"]);
        let published = alone.reported_within(Duration::from_secs(5), "published");
        assert_eq!(published, mpi.disease != Disease::Hangs, "{}", mpi.name);
    });
}

#[test]
fn a_child_finds_its_parent_by_a_published_name() {
    let others = [MPICH_4_3_1, MPICH_4_3_2, MPICH_5_0_2];
    side_by_side(&[&ABLE[..], &others].concat(), |mpi| {
        let story = |run| {
            let report = started(mpi, run, &["family", "a-name"]).run();
            report.check_ended_well();
            let mut facts = facts(&report);
            facts.sort(); // two programs
            facts
        };
        let [under_mpiexec, with_library] = [Run::Mpiexec, Run::Library].map(story);
        assert_eq!(with_library, under_mpiexec, "{}", mpi.name);
        let able = ABLE.iter().any(|able| able.name == mpi.name);
        let found = with_library.contains(&"answered 42".to_owned());
        assert_eq!(found, able, "{}: {with_library:?}", mpi.name);
    });
}
