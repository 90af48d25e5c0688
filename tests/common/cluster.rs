//! Three hosts on this machine: see tests/cluster/three-hosts.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, Once};

use super::commands::is_root;
use super::{agent, lock, root};

/// What it takes, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 10] = [
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("ssh", "openssh-client"),
    ("sshd", "openssh-server"),
    ("slurmctld", "slurm-wlm"),
    ("slurmd", "slurm-wlm"),
    ("salloc", "slurm-wlm"),
    ("munged", "munge"),
];

/// What the hosts are like: see tests/cluster/three-hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// Each host's name resolves, any port is open, and there is a Slurm.
    Plain,
    /// Hosts let in ssh and ports 50000 to 50100, and nothing else.
    Firewall,
    /// No host's name resolves.
    Nameless,
    /// All hosts have one name.
    Namesakes,
    /// All of these.
    Hard,
}

impl Site {
    fn words(self) -> &'static [&'static str] {
        match self {
            Site::Plain => &[],
            Site::Firewall => &["firewall"],
            Site::Nameless => &["nameless"],
            Site::Namesakes => &["namesakes"],
            Site::Hard => &["firewall", "nameless", "namesakes"],
        }
    }
}

/// The hosts, for as long as this lives.
pub struct Cluster {
    pub script: Child,
    pub directory: PathBuf,
    /// The first process of the login node.
    login: u32,
}

impl Cluster {
    pub fn start(name: &str, site: Site) -> Cluster {
        let mut path = env::var_os("PATH").unwrap_or_default();
        path.push(":/usr/sbin:/sbin");
        for (program, package) in PROGRAMS {
            let there = env::split_paths(&path).any(|place| place.join(program).exists());
            assert!(there, "there is no {program} (Debian: {package})");
        }
        assert!(is_root(), "hosts of one's own are started by root");
        let own = format!("{name}-{}", std::process::id());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(own);
        // Left by a process of the same id that was killed, with the script.
        let _ = fs::remove_dir_all(&directory);
        let mut script = Command::new(root().join("tests/cluster/three-hosts"))
            .arg(&directory)
            .arg(agent().parent().expect("it is a file in a directory"))
            .args(site.words())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A Ctrl-C is for the tests.
            .process_group(0)
            .spawn()
            .expect("sh is there");
        let mut said = String::new();
        let stdout = script.stdout.take().expect("it was asked for");
        let _ = BufReader::new(stdout).read_line(&mut said);
        assert_eq!(said, "ready\n", "tests/cluster/three-hosts: see above");
        fs::write(directory.join("others"), "n1\nn2\n").expect("it was made for us");
        let login = processes_of(&directory).into_iter().find(|pid| {
            let text = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            // proc(5): the last of these numbers is that of the innermost namespace.
            let first = |line: &str| line.starts_with("NSpid:") && line.ends_with("\t1");
            text("cmdline").contains("\0login\0") && text("status").lines().any(first)
        });
        Cluster {
            script,
            directory,
            login: login.expect("the login node is there"),
        }
    }

    /// Whatever becomes of the tests, they close the script's stdin.
    pub fn end(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

/// Those that have this directory in their command line.
pub fn processes_of(directory: &Path) -> Vec<u32> {
    let directory = directory.to_str().expect("cargo's own is text");
    let entries = fs::read_dir("/proc").expect("there is a /proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains(directory)
    })
    .collect()
}

static RUNNING: Mutex<BTreeMap<Site, Cluster>> = Mutex::new(BTreeMap::new());

/// At the test process's exit: statics are not dropped.
extern "C" fn end() {
    lock(&RUNNING).values_mut().for_each(Cluster::end);
}

/// Where the hosts of this site, which the tests share, have their files, and the login node's first process.
pub fn cluster(site: Site) -> (PathBuf, u32) {
    static AT_EXIT: Once = Once::new();
    // SAFETY: a function that lives as long as the program.
    AT_EXIT.call_once(|| unsafe {
        libc::atexit(end);
    });
    let mut running = lock(&RUNNING);
    let cluster = running.entry(site);
    let cluster = cluster.or_insert_with(|| Cluster::start(&format!("{site:?}"), site));
    (cluster.directory.clone(), cluster.login)
}
