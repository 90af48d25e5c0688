//! The test ground: real programs under real MPI libraries, on a terminal with someone typing, or with stdin
//! redirected.
//!
//! A [`Program`] is described, then started: it gets a session of its own on a pseudo-terminal, as the disease kills a
//! whole process group. The [`Session`] types, waits for what the program says, and ends in a [`Report`]. When a
//! session is dropped, whatever it started is dead: every process of its session, and every process that carries its
//! mark in the environment, each by its process id.
//!
//! The program leads its session: at its end the terminal hangs up, and what a launcher prints later is lost. Where
//! that matters, its output is a pipe ([`Program::piped`]).

#![allow(dead_code, unused_imports, unused_macros)] // main.rs and long.rs are a crate each, and use a part of this

pub mod bash_session;
mod build;
pub mod cluster;
pub mod commands;
pub mod installed;
pub mod ipython;
pub mod kill_injection;
mod mpis;
mod program;
mod report;
mod session;
pub mod slurm;
pub mod soak;
pub mod spawning;
pub mod stories;
pub mod syscall_faults;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

pub use build::build;
pub use mpis::*;
pub use program::{Program, Stdin};
pub use report::Report;
pub use session::{CTRL_C, CTRL_D, Process, Session};

/// From look to look at what a session does. Many wait at the same time: looking would be most of what the machine does.
pub const LOOK: Duration = Duration::from_millis(20);

/// The PATH of whoever runs the tests, with these directories in front.
pub fn path_behind(dirs: &[&Path]) -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = dirs.iter().map(|dir| dir.to_path_buf());
    env::join_paths(dirs.chain(env::split_paths(&path))).expect("no directory's name has a colon")
}

/// Tests that tell one story, a line each: its name, and the story's arguments. Before them, why they wait to be asked
/// for.
macro_rules! tests {
    ($story:ident: $($name:ident($($argument:expr),*);)+) => {$(
        #[test]
        fn $name() {
            $story($($argument),*);
        }
    )+};
    (#[ignore = $why:literal] $story:ident: $($name:ident($($argument:expr),*);)+) => {$(
        #[test]
        #[ignore = $why]
        fn $name() {
            $story($($argument),*);
        }
    )+};
}
pub(crate) use tests;

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of tests/apps.
pub fn app(name: &str) -> PathBuf {
    root().join("tests/apps").join(name)
}

/// Cargo's target directory.
pub fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("target/tmp has a parent")
}

/// The library as it is installed: the release build.
pub fn library() -> PathBuf {
    let extension = if cfg!(target_os = "macos") {
        "dylib"
    } else {
        "so"
    };
    let library = target()
        .join("release/libspawnfix")
        .with_extension(extension);
    assert!(
        library.exists(),
        "{} is not there: `make build` builds it, `make test` does both",
        library.display()
    );
    library
}

/// The program, which is the agent, as it is installed: the release build, beside the library.
pub fn agent() -> PathBuf {
    library().with_file_name("spawnfix")
}

/// Says past the test runner's capture that a test did nothing. Under CI=true that is a failure.
pub fn skip(reason: &str) {
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(io::stderr(), "SKIPPED {name}: {reason}");
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "skipped, which CI=true forbids: {reason}"
    );
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a thread has found; if it panicked, so do we.
pub fn outcome<R>(thread: ScopedJoinHandle<R>) -> R {
    thread
        .join()
        .unwrap_or_else(|panic| panic::resume_unwind(panic))
}

/// Does this for each of them, so many at a time, and gives what came of it, in their order.
pub fn several<T: Sync, R: Send>(
    at_a_time: usize,
    cases: &[T],
    act: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(number) else {
                return done;
            };
            done.push((number, act(case)));
        }
    };
    let mut done: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..at_a_time).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(outcome).collect()
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Each of one with each of the other.
pub fn pairs<A: Copy, B: Copy>(some: &[A], others: &[B]) -> Vec<(A, B)> {
    some.iter()
        .flat_map(|a| others.iter().map(|b| (*a, *b)))
        .collect()
}

/// One word of two parts.
pub fn join(a: impl AsRef<OsStr>, b: impl AsRef<OsStr>) -> OsString {
    let mut word = a.as_ref().to_owned();
    word.push(b);
    word
}
