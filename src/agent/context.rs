//! Where an application spawns: its environment and its directory, which its children get.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::application::Application;
use crate::mpi::environment;
use crate::procs;
use crate::shared::spawn_page::SpawnPage;

/// Variables and their values.
type Environment = BTreeMap<OsString, OsString>;

/// An environment and a directory.
#[derive(Clone, PartialEq, Eq)]
pub struct Context {
    pub environment: Rc<Environment>,
    /// Its path. `None`: it can't be known.
    pub directory: Option<PathBuf>,
    /// By which it can be entered, on Linux also after it was removed.
    pub entrance: PathBuf,
}

impl Context {
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        let value = self.environment.get(OsStr::new(name));
        value.map(OsString::as_os_str)
    }

    /// The variable by which hydra finds hosts, if there is one.
    pub fn hosts(&self) -> Option<&'static str> {
        environment::hosts(|name| self.variable(name).is_some())
    }
}

/// What is known of the application's contexts.
pub struct Contexts {
    /// Its library's page, with the file of it, once the library has one.
    page: Option<(File, &'static SpawnPage)>,
    /// Which of the page's records this environment is. 0: none, it is the one with which this process was started.
    generation: u32,
    environment: Rc<Environment>,
}

impl Contexts {
    pub fn new() -> Contexts {
        Contexts {
            page: None,
            generation: 0,
            environment: Rc::new(std::env::vars_os().collect()),
        }
    }

    /// The page on which the library says which spawns the application is in.
    pub fn page(&mut self, application: &Application) -> Option<&'static SpawnPage> {
        self.page = self.page.take().or_else(|| application.spawn_page());
        self.page.as_ref().map(|(_, page)| *page)
    }

    /// Whether the application is in a spawn, as far as its library has said so.
    pub fn is_spawning(&self) -> bool {
        (self.page.as_ref()).is_some_and(|(_, page)| page.is_in_call())
    }

    /// Where the application is now, with its environment as it was at its last spawn.
    pub fn now(&mut self, application: &Application) -> Context {
        let page = self.page(application);
        let is_new = |page: &SpawnPage| page.environment.load(Ordering::SeqCst) != self.generation;
        let record = page.filter(|page| is_new(page)).and_then(|page| {
            let (file, _) = self.page.as_ref()?;
            page.environment(file)
        });
        if let Some((generation, record)) = record {
            self.generation = generation;
            self.environment = Rc::new(variables(&record));
        }
        let directory = procs::directory(application.pid);
        let link = PathBuf::from(format!("/proc/{}/cwd", application.pid));
        Context {
            environment: Rc::clone(&self.environment),
            entrance: match link.exists() {
                true => link,
                false => directory.clone().unwrap_or_default(),
            },
            directory,
        }
    }
}

/// The variables of a record: entries, each with a NUL at its end. The first of several with one name counts, as for
/// getenv(3).
fn variables(record: &[u8]) -> Environment {
    let entries = record.rsplit(|&byte| byte == 0);
    let variable = |entry: &[u8]| {
        let at = entry.iter().position(|&byte| byte == b'=')?;
        let text = |bytes| OsStr::from_bytes(bytes).to_owned();
        Some((text(&entry[..at]), text(&entry[at + 1..])))
    };
    entries.filter_map(variable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_the_environment_that_getenv_shows() {
        let all = variables(b"A=1\0B=two\nlines\0no equals sign\0A=2\0C=x=y\0D=\0");
        let all: Vec<_> = all
            .iter()
            .map(|(name, value)| (name.to_str().unwrap(), value.to_str().unwrap()))
            .collect();
        let expected = [("A", "1"), ("B", "two\nlines"), ("C", "x=y"), ("D", "")];
        assert_eq!(all, expected);
        assert!(variables(b"").is_empty());
    }
}
