//! What the agent knows of its program.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

use crate::mpi::mpiexec::is_libmpi;
use crate::procs;
use crate::shared::spawn_page::Calls;
use crate::shared::stdin::Stdin;

/// The program, which forked this process.
pub struct Program {
    pub pid: Pid,
    /// Readable when it has ended, where the kernel has such a thing.
    end: Option<OwnedFd>,
    /// Whether it led a session when it was looked at.
    pub leads_session: bool,
}

impl Program {
    /// Holds on to the process. `None` if it has ended.
    pub fn new(pid: Pid) -> Option<Program> {
        #[cfg(target_os = "linux")]
        let end = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok();
        #[cfg(not(target_os = "linux"))]
        let end = None;
        // Not rustix's getsid: the session may be led from outside of this container, and then the answer is 0.
        // SAFETY: getsid looks a number up, and touches no memory.
        let leads_session = unsafe { libc::getsid(pid.as_raw_pid()) } == pid.as_raw_pid();
        let program = Program {
            pid,
            end,
            leads_session,
        };
        // Its number may be another's by now, but this process's parent is it or nobody.
        (rustix::process::getppid() == Some(pid)).then_some(program)
    }

    /// Its process group. `None`: it has ended, or a process outside of this container leads the group.
    pub fn group(&self) -> Option<Pid> {
        // Not rustix's getpgid, which takes such a group's 0 for the number of a process.
        // SAFETY: getpgid looks a number up, and touches no memory.
        let group = unsafe { libc::getpgid(self.pid.as_raw_pid()) };
        (group > 0).then(|| Pid::from_raw(group)).flatten()
    }

    /// Whether it has ended, however that came. Where the kernel does not tell, this process, which it forked, then has
    /// another parent.
    pub fn is_gone(&self) -> bool {
        let Some(end) = &self.end else {
            return rustix::process::getppid() != Some(self.pid);
        };
        let mut ended = [PollFd::new(end, PollFlags::IN)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut ended, Some(&at_once)).is_ok_and(|count| count > 0)
    }

    /// What is readable when it ends. `None`: it has to be looked after.
    pub fn end(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().map(AsFd::as_fd)
    }

    /// Its command line.
    pub fn arguments(&self) -> Vec<OsString> {
        procs::arguments(self.pid)
    }

    /// The command line of the process that started it.
    pub fn parents_arguments(&self) -> Vec<OsString> {
        let parent = procs::look(self.pid).and_then(|process| process.parent);
        parent.map(procs::arguments).unwrap_or_default()
    }

    /// What it has on fd 0. Since 4.3.2, MPICH's forked child has that closed.
    pub fn stdin(&self) -> Stdin {
        procs::stdin(self.pid)
    }

    /// Its working directory.
    pub fn directory(&self) -> Option<PathBuf> {
        procs::directory(self.pid)
    }

    /// Which calls it is in. `None`: its library doesn't tell, or there is no /proc.
    pub fn calls(&self) -> Option<&'static Calls> {
        let file = procs::open_file(self.pid, Calls::LINK)?;
        if file.metadata().ok()?.len() < size_of::<Calls>() as u64 {
            return None;
        }
        // SAFETY: the library in the program has given it this name; it is long enough, and the program's own.
        let calls = unsafe { Calls::of(file.as_raw_fd()) }?;
        calls.share();
        Some(calls)
    }

    /// Whether it is stopped, by Ctrl-Z or a debugger.
    pub fn is_stopped(&self) -> bool {
        procs::is_stopped(self.pid)
    }

    /// The file of its MPI library.
    pub fn libmpi(&self) -> Option<PathBuf> {
        let file = procs::files(self.pid)
            .into_iter()
            .find(|file| is_libmpi(file.file_name().unwrap_or_default().as_bytes()))?;
        // Behind the path of one that an update has replaced.
        let bytes = file.as_os_str().as_bytes();
        let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
        Some(PathBuf::from(OsStr::from_bytes(bytes)))
    }
}
