//! The application's process, as far as the agent watches it.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::connection::Connection;
use crate::mpi::is_libmpi;
use crate::procs;
use crate::shared::paths;
use crate::shared::spawn_page::SpawnPage;

/// The application, as the agent serves it.
pub struct App {
    pub process: Application,
    pub connection: Connection,
    /// It has called MPI_Finalize.
    pub finalized: bool,
    /// Its process has ended.
    pub gone: bool,
}

/// The application's process, which forked this one.
pub struct Application {
    pub pid: Pid,
    /// Whether it is an interactive session.
    pub interactive: bool,
    /// Readable when the process has ended; a pidfd, where the kernel has one.
    end: Option<OwnedFd>,
    /// Whether it led its process session when the agent started.
    pub leads_session: bool,
    /// Its controlling terminal.
    terminal: Option<PathBuf>,
}

impl Application {
    /// Holds on to the process. `None` if it has ended.
    pub fn new(pid: Pid) -> Option<Application> {
        #[cfg(target_os = "linux")]
        let end = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok();
        #[cfg(not(target_os = "linux"))]
        let end = None;
        // Not rustix's getsid: a session's leader may be outside of this container, and then the answer is 0.
        // SAFETY: getsid looks a number up, and touches no memory.
        let leads_session = unsafe { libc::getsid(pid.as_raw_pid()) } == pid.as_raw_pid();
        let application = Application {
            pid,
            interactive: false,
            end,
            leads_session,
            terminal: procs::terminal(pid),
        };
        // Another process may have got this pid by now. But this process's parent is the application or nobody.
        (rustix::process::getppid() == Some(pid)).then_some(application)
    }

    /// Whether it has ended. Without a pidfd: whether this process has another parent now.
    pub fn is_gone(&self) -> bool {
        let Some(end) = &self.end else {
            return rustix::process::getppid() != Some(self.pid);
        };
        let mut ended = [PollFd::new(end, PollFlags::IN)];
        poll(&mut ended, Some(&Timespec::default())).is_ok_and(|count| count > 0)
    }

    /// Readable when it has ended. `None`: ask [`Application::is_gone`] from time to time.
    pub fn end(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().map(AsFd::as_fd)
    }

    /// Whether its terminal was closed: then the terminal's device is gone, and its open files are hung up. After the end of
    /// the process that leads the terminal's session, both are there.
    pub fn terminal_is_gone(&self) -> bool {
        // SAFETY: fd 1 and 2 stay open as long as this process runs; Rust's runtime has opened them if they were closed.
        let fds = [1, 2].map(|fd| unsafe { BorrowedFd::borrow_raw(fd) });
        let mut polled = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty()));
        let is_hung_up = poll(&mut polled, Some(&Timespec::default())).is_ok()
            && polled
                .iter()
                .any(|fd| fd.revents().contains(PollFlags::HUP));
        let terminal = self.terminal.as_ref();
        is_hung_up || terminal.is_some_and(|terminal| !terminal.exists())
    }

    /// The page on which its library says which spawns are running, and the file of it. `None`: the library has none, or there
    /// is no /proc.
    pub fn spawn_page(&self) -> Option<(File, &'static SpawnPage)> {
        let path = procs::open_file(self.pid, SpawnPage::LINK)?;
        let file = File::options().read(true).write(true).open(path).ok()?;
        if file.metadata().ok()?.len() < SpawnPage::SIZE as u64 {
            return None;
        }
        // SAFETY: the library in the application gave the file this name; it is long enough, and nobody shortens it.
        let page = unsafe { SpawnPage::map(file.as_raw_fd()) }?;
        Some((file, page))
    }

    /// The file of its MPI library.
    pub fn libmpi(&self) -> Option<PathBuf> {
        self.library(is_libmpi)
    }

    /// The file of its libfabric, if it has one of its own: Intel's libmpi needs one that nothing but the application may
    /// know (dlopen_impi_libfabric in mpi4py's _mpiabi.py).
    pub fn libfabric(&self) -> Option<PathBuf> {
        self.library(|name| name.starts_with(b"libfabric.so"))
    }

    /// The library that it has mapped, by its file's name.
    fn library(&self, is_it: impl Fn(&[u8]) -> bool) -> Option<PathBuf> {
        let file = procs::files(self.pid)
            .into_iter()
            .find(|file| is_it(file.file_name().unwrap_or_default().as_bytes()))?;
        let path = paths::without_deleted(file.as_os_str().as_bytes());
        Some(PathBuf::from(OsStr::from_bytes(path)))
    }

    /// Kills it by MPI's own rule: an abort anywhere ends everything. Hydra kills the process group of a process that
    /// called MPI_Abort or crashed (HYD_pmcd_pmip_send_signal and its callers in src/pm/hydra/proxy/pmip_cb.c), and this
    /// process is in that group.
    pub fn kill_group(&self) {
        if self.is_gone() {
            return;
        }
        // Not rustix's getpgid, which takes 0, the answer for a group whose leader is outside of this container, for the
        // number of a process.
        // SAFETY: getpgid looks a number up, and touches no memory.
        let group = unsafe { libc::getpgid(self.pid.as_raw_pid()) };
        let _ = match Pid::from_raw(group).filter(|_| group > 0) {
            Some(group) => kill_process_group(group, Signal::KILL),
            None => kill_process(self.pid, Signal::KILL),
        };
    }
}
