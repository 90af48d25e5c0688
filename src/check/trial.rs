//! One trial of a spawn: how it is started, and what came of it; and what may help where it fails.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::application::{NEXT, OPTION};
use super::libmpi::{is_open_mpis, of_mpichs_kin};
use super::run::{self, Ran};
use crate::agent::placeholder;
use crate::exec::Changes;
use crate::mpi::{Family, Mpi};
use crate::shared::paths;
use crate::shared::settings::{GUARD, REMEDIES};

/// What a trial needs.
#[derive(Clone)]
pub struct Trial {
    pub libmpi: PathBuf,
    pub children: u32,
    /// How its environment differs from this process's.
    pub environment: Changes,
}

/// How a trial ended.
pub struct Outcome {
    pub mpi: Option<Mpi>,
    /// How many milliseconds the spawn took, or what failed.
    pub result: Result<u64, String>,
    /// The log of library and agent.
    pub log: Vec<String>,
    /// What MPI, the launcher and the children printed, and the log's warnings and errors.
    pub said: Vec<String>,
    /// Where the children ran.
    pub hosts: Vec<String>,
}

impl Trial {
    /// Tries.
    pub fn run(&self, limit: Duration) -> Outcome {
        let mut command = Command::new(paths::own().unwrap_or_default());
        command.arg(OsStr::from_bytes(OPTION)).arg(&self.libmpi);
        command.arg(self.children.to_string());
        // Open MPI 5 leaves its files if it fails: ompi_rte_init's session directory, and btl/sm's segments.
        if is_open_mpis(&self.libmpi) {
            let directory = run::directory().into_os_string();
            let segments = "OMPI_MCA_btl_sm_backing_directory";
            command.env("TMPDIR", &directory);
            command.env(segments, std::env::var_os(segments).unwrap_or(directory));
        }
        for (name, value) in &self.environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Outcome::of(&run::run(&mut command, limit), limit)
    }

    /// What to try, one after the other, each with what to type in front of `spawnfix COMMAND`: single settings, then all of
    /// them together, then other MPI libraries.
    pub fn remedies(&self, family: Family) -> Vec<(String, Trial)> {
        let prefix = self.libmpi.parent().and_then(Path::parent);
        let prefix = prefix.unwrap_or(&self.libmpi).to_string_lossy();
        let mut ours = vec![GUARD, REMEDIES];
        ours.retain(|name| std::env::var_os(name).is_some());
        let mut all: Vec<_> = ours.iter().map(|name| format!("{name}=auto")).collect();
        let settings = settings(family).replace('@', &prefix);
        all.extend(settings.split('|').map(str::to_owned));
        all.push(all.join(" "));
        let all = all.into_iter().map(|text| (text.clone(), self.with(&text)));
        let kin =
            of_mpichs_kin().filter(|other| family != Family::OpenMpi && *other != self.libmpi);
        all.chain(kin.filter_map(|other| self.with_library(other)))
            .collect()
    }

    /// The same with settings, as a shell takes them.
    fn with(&self, settings: &str) -> Trial {
        let mut trial = self.clone();
        for (name, value) in settings.split(' ').filter_map(|text| text.split_once('=')) {
            let present = std::env::var(name).unwrap_or_default();
            let value = value.replace(&format!("${name}"), &present);
            trial.environment.push((name.into(), Some(value.into())));
        }
        trial
    }

    /// The same with another library of this ABI.
    fn with_library(&self, other: PathBuf) -> Option<(String, Trial)> {
        let lib = other.parent()?;
        let (prefix, place) = (lib.parent()?.display(), lib.display());
        let mut text = format!("PATH={prefix}/bin:$PATH LD_LIBRARY_PATH={place}");
        let mut trial = self.with(&text);
        // Debian's and Ubuntu's MPICH has a name of its own: libmpich.so.12.
        let name = self.libmpi.file_name()?.to_string_lossy();
        if name.starts_with("libmpich") && !lib.join(&*name).exists() {
            let file = other.file_name()?.to_string_lossy();
            text = format!("ln -s {file} {place}/{name}; {text}");
        }
        trial.libmpi = other;
        Some((text, trial))
    }
}

impl Outcome {
    fn of(ran: &Ran, limit: Duration) -> Outcome {
        let (mut log, mut said, mut hosts) = (Vec::new(), Vec::new(), Vec::new());
        for line in ran.stderr.lines().map(str::trim_end) {
            // `spawnfix[PID]: LEVEL: text`
            let logged = line.strip_prefix("spawnfix[");
            if let Some(host) = line.strip_prefix(placeholder::HOST) {
                hosts.push(host.to_owned());
            } else if let Some((_, text)) = logged.and_then(|rest| rest.split_once("]: ")) {
                if text.starts_with("WARN: ") || text.starts_with("ERROR: ") {
                    said.push(text.to_owned());
                }
                log.push(text.to_owned());
            } else if !line.is_empty() {
                said.push(line.to_owned());
            }
        }
        let version = ran.stdout.split_once(NEXT).map(|(version, _)| version);
        let last = ran.stdout.rsplit_once(NEXT).map(|(_, last)| last);
        let at = last.unwrap_or("loading the MPI library");
        let result = match ran.status {
            Some(status) if status.success() => Ok(at.parse().unwrap_or(0)),
            Some(status) => Err(match (status.signal(), status.code()) {
                (Some(signal), _) => format!("{at} was ended by signal {signal}"),
                (None, code) => format!("{at} ended with exit status {}", code.unwrap_or(1)),
            }),
            None => Err(format!("{at} did not return in {} s", limit.as_secs())),
        };
        Outcome {
            mpi: version.map(|version| Mpi::from_version_text(version.as_bytes())),
            result,
            log,
            said,
            hosts,
        }
    }

    /// The rest of each log line that has this word.
    pub fn logged<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.log.iter();
        lines.filter_map(move |line| Some(line.split_once(word)?.1))
    }
}

/// Settings that may help where a spawn fails, as one types them in a shell, divided by `|`; `@` is the MPI library's prefix.
/// The first puts the library's own launcher first. Those that are in mpi/remedies.rs, too, are for a machine on which their
/// condition there does not hold.
fn settings(family: Family) -> &'static str {
    match family {
        Family::OpenMpi => {
            "PATH=@/bin:$PATH|OPAL_PREFIX=@|OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
             PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1|OMPI_MCA_btl_tcp_if_include=lo"
        }
        Family::Intel => {
            "PATH=@/bin:$PATH|I_MPI_HYDRA_BOOTSTRAP=fork|I_MPI_HYDRA_IFACE=lo|FI_PROVIDER=tcp"
        }
        _ => "PATH=@/bin:$PATH|HYDRA_LAUNCHER=fork|HYDRA_IFACE=lo|FI_PROVIDER=tcp",
    }
}
