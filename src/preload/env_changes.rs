//! Changes to the application's environment that last as long as one MPI call: remedies.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use crate::interactive;
use crate::mpi::Mpi;
use crate::mpi::environment;
use crate::mpi::remedies::{Facts, Remedy, Target, remedies};
use crate::preload::host_process;
use crate::preload::nested::{Nested, User};
use crate::shared::logging::escape;
use crate::shared::settings::GuardSetting;
use crate::shared::stdio::Stdin;

/// While one lives, the environment has the remedies. Dropping the last one takes back exactly what was changed.
pub type EnvChanges = User<Vec<Change>>;

static CHANGES: Nested<Vec<Change>> = Nested::new();

/// A variable that was changed.
pub struct Change {
    name: &'static str,
    before: Option<OsString>,
    after: Option<OsString>,
}

/// Makes the changes that this MPI, of this library file, needs during this call. `None`: a process manager started the
/// application.
pub fn begin(call: &str, target: Target, mpi: &Mpi, libmpi: &str) -> Option<EnvChanges> {
    let make = || {
        let facts = Facts {
            target,
            mpi: Some(mpi),
            libmpi: Some(Path::new(libmpi)),
            variable: &|name| std::env::var_os(name),
            foreign_pmi: host_process::management().foreign_pmi,
            only_loopback: environment::only_loopback(),
            interactive: is_interactive(),
        };
        let changes = remedies(&facts).into_iter();
        Ok::<_, Infallible>(changes.map(|remedy| Change::make(call, remedy)).collect())
    };
    is_wanted(mpi).then(|| CHANGES.enter(make).ok()).flatten()
}

/// Whether the application is a singleton to which this MPI's remedies apply.
fn is_wanted(mpi: &Mpi) -> bool {
    let settings = host_process::settings();
    let manager = host_process::management().manager;
    let managed = manager.is_some_and(|by| mpi.family.uses_manager(by));
    settings.remedies && settings.guard != GuardSetting::Off && !managed
}

impl Change {
    fn make(call: &str, remedy: Remedy) -> Change {
        let (name, why) = (remedy.variable, remedy.why);
        match &remedy.value {
            Some(value) => log::info!("remedy: {name}={} while {call} runs: {why}", escape(value)),
            None => log::info!("remedy: {name} is not set while {call} runs: {why}"),
        }
        let before = std::env::var_os(name);
        set(name, remedy.value.as_ref());
        Change {
            name,
            before,
            after: remedy.value,
        }
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        // What MPI itself has changed meanwhile stays.
        if std::env::var_os(self.name) == self.after {
            set(self.name, self.before.as_ref());
        }
    }
}

/// Sets or removes a variable, in the C library's environment, which libmpi reads.
fn set(name: &str, value: Option<&OsString>) {
    // SAFETY: another thread that reads the environment at this moment may see an array that setenv makes longer: only
    // MPI_Init adds or removes a variable, in which libmpi itself calls setenv (Open MPI sets PMIX_* there), and which an
    // application calls before it uses MPI in any thread. Around a spawn only the value of PATH changes: one pointer of the
    // array, and glibc does not free what it pointed to.
    unsafe {
        match value {
            Some(value) => std::env::set_var(name, value),
            None => std::env::remove_var(name),
        }
    };
}

/// Whether this process is an interactive session, as the agent will see it.
fn is_interactive() -> bool {
    let parent = format!("/proc/{}/cmdline", std::os::unix::process::parent_id());
    let parent = std::fs::read(parent).unwrap_or_default();
    let parent = parent.strip_suffix(b"\0").unwrap_or(&parent);
    let parent = parent.split(|&byte| byte == 0);
    let parent: Vec<_> = parent
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect();
    let own: Vec<_> = std::env::args_os().collect();
    let setting = host_process::settings().interactive;
    interactive::session_word(setting, &own, &parent, Stdin::of_this_process()).is_some()
}
