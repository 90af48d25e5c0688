//! A Slurm of one node for the tests of one binary: see tests/slurm/one-node.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use super::commands::is_root;
use super::{Program, lock, root, skip};

/// The one that runs: the test process holds its stdin.
static RUNNING: Mutex<Option<Slurm>> = Mutex::new(None);
/// What it takes: Debian's slurm-wlm and munge.
const PROGRAMS: [&str; 5] = ["munged", "slurmctld", "slurmd", "srun", "salloc"];

struct Slurm {
    script: Child,
    conf: PathBuf,
}

/// What a job on this host alone finds set.
pub fn variables_of_a_job() -> [(&'static str, OsString); 9] {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("Linux has it");
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
    .map(|(name, value)| (name, value.into()))
}

/// At the test process's exit: statics are not dropped. If the process is killed, the script sees the end of its stdin
/// by itself.
extern "C" fn end() {
    if let Some(mut slurm) = lock(&RUNNING).take() {
        drop(slurm.script.stdin.take());
        let _ = slurm.script.wait();
    }
}

/// The configuration of the Slurm that runs, started now if it is not. None: it can't be had here, and the test is
/// skipped.
fn conf() -> Option<PathBuf> {
    let mut running = lock(&RUNNING);
    if let Some(slurm) = &*running {
        return Some(slurm.conf.clone());
    }
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    let there = |name: &&str| env::split_paths(&path).any(|place| place.join(name).exists());
    let missing = match PROGRAMS.iter().find(|name| !there(name)) {
        _ if !is_root() => "a Slurm is started by root".to_owned(),
        Some(name) => format!("there is no {name} (Debian: slurm-wlm and munge)"),
        None => String::new(),
    };
    if !missing.is_empty() {
        drop(running);
        skip(&missing);
        return None;
    }
    let directory =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("slurm-{}", std::process::id()));
    // Left by a process of the same id that was killed, with the script.
    let _ = fs::remove_dir_all(&directory);
    // Both are taken at a time, so they differ; Slurm takes them right after.
    let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("loopback has a port"));
    let ports = ports.map(|port| port.local_addr().expect("it is bound").port().to_string());
    let mut script = Command::new(root().join("tests/slurm/one-node"))
        .arg(&directory)
        .args(ports)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh is there");
    let mut said = String::new();
    let stdout = script.stdout.take().expect("it was asked for");
    let _ = BufReader::new(stdout).read_line(&mut said);
    assert_eq!(said, "ready\n", "tests/slurm/one-node: see above");
    let conf = directory.join("slurm.conf");
    *running = Some(Slurm {
        script,
        conf: conf.clone(),
    });
    // SAFETY: a function that lives as long as the program.
    unsafe { libc::atexit(end) };
    Some(conf)
}

/// How a program gets into an allocation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum How {
    /// `srun --pty PROGRAM`: a job step with a terminal, the usual interactive shell.
    Step,
    /// `salloc PROGRAM`: on the node of whoever asked, in no step.
    Allocation,
}

/// Describes this program as the one of a job of its own: as [`Program::new`] does, outside. None: the test is skipped.
///
/// A session that is killed leaves its allocation behind, until Slurm's end: one processor of many.
pub fn program(how: How, program: impl Into<OsString>) -> Option<Program> {
    let front = match how {
        How::Step => Program::new("srun").arg("--pty"),
        How::Allocation => Program::new("salloc").arg("--quiet"),
    };
    let front = front.env("SLURM_CONF", conf()?);
    Some(front.arg("--ntasks=1").arg(program))
}
