//! Changes to the application's environment that last as long as one MPI call: remedies.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::interactive;
use crate::mpi::Family;
use crate::mpi::Mpi;
use crate::mpi::environment;
use crate::mpi::remedies::{Facts, Remedy, Target, remedies};
use crate::preload::host_process;
use crate::shared::logging::Escaped;
use crate::shared::settings::{GuardSetting, InteractiveSetting, RemediesSetting};
use crate::shared::stdio::Stdin;

/// While one lives, the environment has the remedies. Dropping the last one takes back exactly what was changed.
///
/// Calls nest (a profiling library's MPI_Init calls PMPI_Init) and run at the same time (spawns of several threads). So
/// the first one makes the changes, and the last one takes them back.
pub struct EnvChanges(());

static CHANGED: Mutex<Changed> = Mutex::new(Changed {
    users: 0,
    changes: Vec::new(),
});

struct Changed {
    users: usize,
    changes: Vec<Change>,
}

struct Change {
    name: CString,
    before: Option<CString>,
    after: Option<CString>,
}

impl EnvChanges {
    /// Makes the changes that this MPI, of this library file, needs during this call. `None`: it needs none, or a process
    /// manager started the application.
    pub fn begin(call: &str, target: Target, mpi: &Mpi, libmpi: &str) -> Option<EnvChanges> {
        if !is_wanted(mpi) {
            return None;
        }
        let mut changed = lock();
        if changed.users == 0 {
            let loopback = match mpi.family {
                Family::OpenMpi => environment::only_loopback(),
                _ => None,
            };
            let facts = Facts {
                target,
                mpi: Some(mpi),
                libmpi: Some(Path::new(libmpi)),
                variable: &|name| std::env::var_os(name),
                foreign_pmi: host_process::management().foreign_pmi,
                only_loopback: loopback.as_deref(),
                interactive: mpi.family == Family::OpenMpi && is_interactive(),
            };
            let needed = remedies(&facts).into_iter();
            changed.changes = needed.filter_map(|remedy| apply(call, remedy)).collect();
        }
        changed.users += 1;
        Some(EnvChanges(()))
    }
}

impl Drop for EnvChanges {
    fn drop(&mut self) {
        let mut changed = lock();
        changed.users -= 1;
        if changed.users > 0 {
            return;
        }
        for change in std::mem::take(&mut changed.changes) {
            // What MPI itself has changed meanwhile stays.
            if value(&change.name) == change.after {
                set(&change.name, change.before);
            }
        }
    }
}

/// Whether the application is a singleton to which this MPI's remedies apply.
pub fn is_wanted(mpi: &Mpi) -> bool {
    let settings = host_process::settings();
    let managed = host_process::management()
        .manager
        .is_some_and(|by| mpi.family.uses_manager(by));
    settings.remedies == RemediesSetting::Auto && settings.guard != GuardSetting::Off && !managed
}

fn lock() -> MutexGuard<'static, Changed> {
    CHANGED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn apply(call: &str, remedy: Remedy) -> Option<Change> {
    let name = CString::new(remedy.variable).ok()?;
    let after = match remedy.value {
        Some(value) => Some(CString::new(value.into_vec()).ok()?),
        None => None,
    };
    let before = value(&name);
    let (variable, why) = (remedy.variable, remedy.why);
    match &after {
        Some(value) => log::info!(
            "remedy: {variable}={} while {call} runs: {why}",
            Escaped(value.to_bytes())
        ),
        None => log::info!("remedy: {variable} is not set while {call} runs: {why}"),
    }
    set(&name, after.clone());
    Some(Change {
        name,
        before,
        after,
    })
}

fn value(name: &CString) -> Option<CString> {
    let value = std::env::var_os(name.to_str().ok()?)?;
    CString::new(value.into_vec()).ok()
}

/// Sets or removes a variable, by the C library, whose environment libmpi reads.
fn set(name: &CString, value: Option<CString>) {
    // SAFETY: two C strings. Another thread that reads the environment at this moment may see an array that setenv makes
    // longer: only MPI_Init adds or removes a variable, in which libmpi itself calls setenv (Open MPI sets PMIX_* there),
    // and which an application calls before it uses MPI in any thread. Around a spawn only the value of PATH changes: one
    // pointer of the array, and glibc does not free what it pointed to.
    unsafe {
        match value {
            Some(value) => libc::setenv(name.as_ptr(), value.as_ptr(), 1),
            None => libc::unsetenv(name.as_ptr()),
        }
    };
}

/// Whether this process is an interactive session, as the agent will see it.
fn is_interactive() -> bool {
    let words = |process: String| -> Vec<OsString> {
        let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let line = line.strip_suffix(b"\0").unwrap_or(&line);
        let words = line.split(|&byte| byte == 0);
        words
            .map(|word| OsString::from_vec(word.to_vec()))
            .collect()
    };
    match host_process::settings().interactive {
        InteractiveSetting::Yes => true,
        InteractiveSetting::No => false,
        InteractiveSetting::Auto => {
            let parent = words(std::os::unix::process::parent_id().to_string());
            let own = words("self".to_owned());
            interactive::evidence(&own, &parent, Stdin::of_this_process()).is_some()
        }
    }
}
