//! One trial of a spawn: how it is started, and what came of it; and what may help where it fails.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::application::{DONE, FAILED, INITIALIZED, LOADED, NEWLINE, OPTION, SPAWNED};
use super::command::of_mpichs_kin;
use super::run::{Ran, run};
use crate::agent::placeholder;
use crate::exec::Changes;
use crate::mpi::{Family, Mpi};
use crate::shared::paths;

/// What a trial needs.
pub struct Trial {
    pub libmpi: PathBuf,
    pub children: u32,
    /// How its environment differs from this process's.
    pub environment: Changes,
}

/// How a trial ended.
#[derive(Default)]
pub struct Outcome {
    pub mpi: Option<Mpi>,
    /// How long the spawn took. `None`: something failed.
    pub milliseconds: Option<u64>,
    /// What failed.
    pub failure: String,
    /// The log of library and agent.
    pub log: Vec<String>,
    /// What MPI, the launcher and the children printed, and the log's warnings and errors.
    pub said: Vec<String>,
    /// Where the children ran.
    pub hosts: Vec<String>,
}

impl Trial {
    /// Tries, with this remedy.
    pub fn run(&self, remedy: Option<&Remedy>, limit: Duration) -> Outcome {
        let libmpi = remedy.and_then(|remedy| remedy.libmpi.as_ref());
        let changes = remedy.iter().flat_map(|remedy| &remedy.changes);
        let mut command = Command::new(paths::own().unwrap_or_default());
        command
            .arg(OsStr::from_bytes(OPTION))
            .arg(libmpi.unwrap_or(&self.libmpi));
        command.arg(self.children.to_string());
        for (name, value) in self.environment.iter().chain(changes) {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Outcome::of(&run(&mut command, limit), limit)
    }
}

impl Outcome {
    fn of(ran: &Ran, limit: Duration) -> Outcome {
        let mut outcome = Outcome::default();
        for line in ran.stderr.lines().map(str::trim_end) {
            if let Some(host) = line.strip_prefix(placeholder::HOST) {
                outcome.hosts.push(host.to_owned());
                continue;
            }
            // `spawnfix[PID]: LEVEL: text`
            let logged = line
                .strip_prefix("spawnfix[")
                .and_then(|rest| rest.split_once("]: "));
            match logged {
                Some((_, line)) => {
                    outcome.log.push(line.to_owned());
                    if line.starts_with("WARN: ") || line.starts_with("ERROR: ") {
                        outcome.said.push(line.to_owned());
                    }
                }
                None if line.is_empty() => {}
                None => outcome.said.push(line.to_owned()),
            }
        }
        let mut at = "loading the MPI library";
        let mut milliseconds = None;
        for line in ran.stdout.lines() {
            if let Some(version) = line.strip_prefix(LOADED) {
                let version = version.replace(NEWLINE, "\n");
                outcome.mpi = Some(Mpi::from_version_text(version.as_bytes()));
                at = "MPI_Init";
            } else if line == INITIALIZED {
                at = "MPI_Comm_spawn";
            } else if let Some(time) = line.strip_prefix(SPAWNED) {
                milliseconds = time.parse().ok();
                at = "exchanging a barrier with the children";
            } else if line == DONE {
                at = "MPI_Finalize";
            } else if let Some(why) = line.strip_prefix(FAILED) {
                outcome.said.push(why.to_owned());
            }
        }
        outcome.failure = match ran.status {
            Some(status) if status.success() => {
                outcome.milliseconds = milliseconds;
                String::new()
            }
            Some(status) => match (status.signal(), status.code()) {
                (Some(signal), _) => format!("{at} was ended by signal {signal}"),
                (None, code) => format!("{at} ended with exit status {}", code.unwrap_or(1)),
            },
            None => format!("{at} did not return in {} s", limit.as_secs()),
        };
        outcome
    }

    pub fn works(&self) -> bool {
        self.milliseconds.is_some()
    }

    /// The rest of each log line that has this word.
    pub fn logged<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a str> {
        self.log
            .iter()
            .filter_map(move |line| Some(line.split_once(word)?.1))
    }
}

/// Settings that may help where a spawn fails, as one types them in a shell; `@` is the MPI library's prefix. The first
/// puts the library's own launcher first.
fn settings(family: Family) -> &'static [&'static str] {
    match family {
        Family::OpenMpi => &[
            "PATH=@/bin:$PATH",
            "OPAL_PREFIX=@",
            "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
             PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1",
            "OMPI_MCA_btl_tcp_if_include=lo",
            "OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe",
            "OMPI_MCA_plm_rsh_agent=sh",
        ],
        Family::Intel => &[
            "PATH=@/bin:$PATH",
            "I_MPI_HYDRA_BOOTSTRAP=fork",
            "I_MPI_HYDRA_IFACE=lo",
            "FI_PROVIDER=tcp",
            "I_MPI_SPAWN=on",
        ],
        _ => &[
            "PATH=@/bin:$PATH",
            "HYDRA_LAUNCHER=fork",
            "HYDRA_IFACE=lo",
            "FI_PROVIDER=tcp",
        ],
    }
}

/// Something to try.
pub struct Remedy {
    /// What to type in front of `spawnfix COMMAND`.
    pub text: String,
    pub changes: Changes,
    /// Another MPI library.
    pub libmpi: Option<PathBuf>,
}

impl Remedy {
    /// Settings as a shell takes them.
    fn of(text: &str) -> Remedy {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let changes = text.split(' ').filter_map(|setting| {
            let (name, value) = setting.split_once('=')?;
            let value = value.replace(&format!("${name}"), &variable(name));
            Some((name.into(), Some(value.into())))
        });
        Remedy {
            changes: changes.collect(),
            text: text.to_owned(),
            libmpi: None,
        }
    }
}

/// What to try, one after the other: single settings, then all of them together, then other MPI libraries.
pub fn remedies(family: Family, libmpi: &Path) -> Vec<Remedy> {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let mut all: Vec<&str> = Vec::new();
    for (name, remedy) in [
        ("SPAWNFIX_GUARD", "SPAWNFIX_GUARD=auto"),
        ("SPAWNFIX_REMEDIES", "SPAWNFIX_REMEDIES=auto"),
        ("SLURM_JOB_ID", "SLURM_OVERLAP=1"),
    ] {
        all.extend(Some(remedy).filter(|_| is_set(name)));
    }
    all.extend(settings(family));
    let together = all.join(" ");
    all.push(&together);
    let prefix = libmpi.parent().and_then(Path::parent).unwrap_or(libmpi);
    let prefix = prefix.to_string_lossy();
    let all = all
        .iter()
        .map(|text| Remedy::of(&text.replace('@', &prefix)));
    let kin = of_mpichs_kin().filter(|other| other != libmpi && family != Family::OpenMpi);
    all.chain(kin.filter_map(|other| instead_of(libmpi, other)))
        .collect()
}

/// Another library of the same ABI in this one's place.
fn instead_of(libmpi: &Path, other: PathBuf) -> Option<Remedy> {
    let lib = other.parent()?;
    let prefix = lib.parent()?.to_string_lossy();
    let place = lib.display();
    let mut remedy = Remedy::of(&format!("PATH={prefix}/bin:$PATH LD_LIBRARY_PATH={place}"));
    // Debian's and Ubuntu's MPICH has a name of its own: libmpich.so.12.
    let name = libmpi.file_name()?;
    if name.as_bytes().starts_with(b"libmpich") && !lib.join(name).exists() {
        let (own, name) = (other.file_name()?.to_string_lossy(), name.to_string_lossy());
        remedy.text = format!("ln -s {own} {place}/{name}; {}", remedy.text);
    }
    remedy.libmpi = Some(other);
    Some(remedy)
}
