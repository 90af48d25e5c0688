//! Runs another program for the check: in a process session of its own, without stdin, for a limited time. Nothing of it
//! is left afterwards.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};

use crate::procs::{self, Process};

/// The time limit for a program that is asked about itself.
pub const LIMIT: Duration = Duration::from_secs(10);

/// How long processes may go on after the program that started them, before they get SIGTERM; and then, before SIGKILL.
const GRACE: Duration = Duration::from_secs(3);

/// The signal that has asked this process to end, or 0.
static INTERRUPTED: AtomicI32 = AtomicI32::new(0);

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
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        let note = move || INTERRUPTED.store(signal, Ordering::Relaxed);
        // SAFETY: storing an integer is async-signal-safe.
        let _ = unsafe { signal_hook::low_level::register(signal, note) };
    }
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// A directory that is there while a program runs, and is removed then with all that is in it.
pub fn directory() -> PathBuf {
    std::env::temp_dir().join(format!("spawnfix-check-{}", std::process::id()))
}

/// Runs a program, for at most this time.
pub fn run(command: &mut Command, limit: Duration) -> Ran {
    let directory = directory();
    let created = DirBuilder::new().mode(0o700).create(&directory);
    let ran = created.and_then(|()| {
        let ran = run_in(&directory, command, limit);
        let _ = fs::remove_dir_all(&directory);
        ran
    });
    ran.unwrap_or_else(|error| Ran {
        stderr: error.to_string(),
        ..Ran::default()
    })
}

fn run_in(directory: &Path, command: &mut Command, limit: Duration) -> io::Result<Ran> {
    // Files: a pipe's end would come only with the last process that holds it.
    let [stdout, stderr] = ["stdout", "stderr"].map(|name| directory.join(name));
    let create = |file| File::options().append(true).create_new(true).open(file);
    command.stdin(Stdio::null());
    command.stdout(create(&stdout)?).stderr(create(&stderr)?);
    // SAFETY: setsid and prctl are async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            // If the check is killed, the program is killed as well.
            #[cfg(target_os = "linux")]
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            Ok(())
        });
    }
    // A shell that executed this command may have left it some.
    let earlier = descendants();
    let mut child = command.spawn()?;
    let began = Instant::now();
    let mut status = None;
    while status.is_none() && began.elapsed() < limit && interrupted().is_none() {
        thread::sleep(Duration::from_millis(2));
        status = child.try_wait()?;
    }
    let _ = child.kill();
    let _ = child.wait();
    // After a program that has ended, the agent and the launcher end by themselves.
    end_descendants(&earlier, GRACE * u32::from(status.is_some()));
    // Where there is no /proc, nothing was seen.
    let _ = rustix::process::kill_process_group(Pid::from_child(&child), Signal::KILL);
    // MPICH 5 leaves a singleton's shared memory if that fails: MPIDI_POSIX_global in its src/mpid/ch4/shm/posix.
    for kind in ["shm", "vci"] {
        let _ = fs::remove_file(format!("/dev/shm/mpich_{kind}_{:x}_0", child.id()));
    }
    let read = |file| fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Ran {
        status,
        stdout: read(&stdout)?,
        stderr: read(&stderr)?,
    })
}

fn descendants() -> Vec<Process> {
    procs::descendants(&procs::all(), rustix::process::getpid())
}

/// Waits until all descendants of this process have ended, but these. After this time they are ended.
fn end_descendants(earlier: &[Process], wait: Duration) {
    let began = Instant::now();
    loop {
        while matches!(rustix::process::wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        let mut left = descendants();
        left.retain(|process| earlier.iter().all(|earlier| earlier.pid != process.pid));
        if left.is_empty() {
            return;
        }
        if let Some(late) = began.elapsed().checked_sub(wait) {
            // In the kernel, or another user's: it can't be ended.
            if late > 2 * GRACE {
                return;
            }
            let signal = if late < GRACE {
                Signal::TERM
            } else {
                Signal::KILL
            };
            for process in left {
                let _ = process.signal(signal);
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}
