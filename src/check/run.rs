//! Runs another program for the check: in a process session of its own, without stdin, for a limited time. Nothing of it
//! is left afterwards.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};

use crate::procs::{self, Process};

/// How long processes may go on after the program that started them: then they get SIGTERM, and later SIGKILL.
const SIGTERM_AFTER: Duration = Duration::from_secs(3);
const SIGKILL_AFTER: Duration = Duration::from_secs(6);

/// The signal that has asked this process to end, or 0.
static INTERRUPTED: AtomicI32 = AtomicI32::new(0);

/// The children that this process had at its start: a shell that executed this command may have left it some.
static EARLIER: OnceLock<Vec<Process>> = OnceLock::new();

/// How a program ended, and what it printed.
#[derive(Default)]
pub struct Ran {
    /// `None`: it could not be run, or did not end in time.
    pub status: Option<ExitStatus>,
    pub stdout: String,
    pub stderr: String,
}

/// The signal that has asked this process to end.
pub fn interrupted() -> Option<i32> {
    Some(INTERRUPTED.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
}

/// From here on SIGINT and the like end what runs, and processes that lose their parent become children of this one.
pub fn prepare() {
    let _ = EARLIER.set(procs::descendants(&procs::all(), rustix::process::getpid()));
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        let note = move || INTERRUPTED.store(signal, Ordering::Relaxed);
        // SAFETY: storing an integer is async-signal-safe.
        let _ = unsafe { signal_hook::low_level::register(signal, note) };
    }
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Runs a program, for at most this time.
pub fn run(command: &mut Command, limit: Duration) -> Ran {
    command.stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let own = rustix::process::getpid();
    // SAFETY: setsid, prctl and getppid are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            // If the check is killed, the program is killed as well.
            #[cfg(target_os = "linux")]
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            let alone = rustix::process::getppid() != Some(own);
            if alone {
                Err(io::ErrorKind::BrokenPipe.into())
            } else {
                Ok(())
            }
        });
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let stderr = error.to_string();
            return Ran {
                stderr,
                ..Ran::default()
            };
        }
    };
    let stdout = child.stdout.take().map(Reader::start);
    let stderr = child.stderr.take().map(Reader::start);
    let began = Instant::now();
    let mut status = None;
    while status.is_none() && began.elapsed() < limit && interrupted().is_none() {
        thread::sleep(Duration::from_millis(2));
        status = child.try_wait().ok().flatten();
    }
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    end_what_is_left(Pid::from_child(&child), status.is_none());
    let said = |reader: Option<Reader>| reader.map(Reader::finish).unwrap_or_default();
    Ran {
        status,
        stdout: said(stdout),
        stderr: said(stderr),
    }
}

/// Waits until all descendants of this process have ended; those that do not end by themselves are ended. After an
/// application that ended in order, agents and launchers end by themselves.
fn end_what_is_left(group: Pid, at_once: bool) {
    let own = rustix::process::getpid();
    let began = Instant::now();
    loop {
        while matches!(rustix::process::wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        let mut left = procs::descendants(&procs::all(), own);
        left.retain(|process| {
            !EARLIER
                .get()
                .is_some_and(|earlier| earlier.contains(process))
        });
        if left.is_empty() {
            break;
        }
        let waited = began.elapsed()
            + if at_once {
                SIGTERM_AFTER
            } else {
                Duration::ZERO
            };
        if waited >= SIGTERM_AFTER {
            let kill = waited >= SIGKILL_AFTER;
            let signal = if kill { Signal::KILL } else { Signal::TERM };
            for process in left {
                let _ = process.signal(signal);
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    // Where there is no /proc, nothing was seen.
    let _ = rustix::process::kill_process_group(group, Signal::KILL);
}

/// Collects what a process prints.
struct Reader {
    said: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Reader {
    fn start(mut from: impl Read + Send + 'static) -> Reader {
        let said = Arc::new(Mutex::new(Vec::new()));
        let into = said.clone();
        let thread = thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut chunk) {
                let mut into = into.lock().unwrap_or_else(PoisonError::into_inner);
                into.extend(&chunk[..count]);
            }
        });
        Reader { said, thread }
    }

    fn finish(self) -> String {
        // Longer only if a process that could not be ended holds it open.
        for _ in 0..100 {
            if self.thread.is_finished() {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).into_owned()
    }
}
