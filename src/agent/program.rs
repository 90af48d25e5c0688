//! What the agent knows of its program.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

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
        system::arguments(self.pid)
    }

    /// What it has on fd 0. Since 4.3.2, MPICH's forked child has that closed.
    pub fn stdin(&self) -> Stdin {
        system::stdin(self.pid)
    }

    /// Its working directory.
    pub fn directory(&self) -> Option<PathBuf> {
        system::directory(self.pid)
    }

    /// Which calls it is in. `None`: its library doesn't tell, or there is no /proc.
    pub fn calls(&self) -> Option<&'static Calls> {
        let file = system::open_file(self.pid, Calls::LINK)?;
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
        system::is_stopped(self.pid)
    }

    /// The file of its MPI library.
    pub fn libmpi(&self) -> Option<PathBuf> {
        let file = system::files(self.pid)
            .into_iter()
            .find(|file| is_libmpi(file.file_name().unwrap_or_default().as_bytes()))?;
        // Behind the path of one that an update has replaced.
        let bytes = file.as_os_str().as_bytes();
        let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
        Some(PathBuf::from(OsStr::from_bytes(bytes)))
    }
}

/// libmpi.so.12, libmpich.so.12, libmpi.12.dylib, libmpi_abi.so.0, Cray's libmpi_gnu.so.12, a wheel's
/// libmpi-d26c8c51.so.12.
pub fn is_libmpi(name: &[u8]) -> bool {
    let rest = name.strip_prefix(b"libmpi").unwrap_or_default();
    let rest = rest.strip_prefix(b"ch").unwrap_or(rest);
    let kin = [
        &b".so"[..],
        b"_abi",
        b"-",
        b"_gnu",
        b"_intel",
        b"_cray",
        b"_nvidia",
    ];
    kin.iter().any(|kin| rest.starts_with(kin))
        || rest.starts_with(b".") && rest.ends_with(b".dylib")
}

#[cfg(target_os = "linux")]
pub mod system {
    use std::ffi::{OsStr, OsString};
    use std::fs;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};

    use rustix::process::Pid;

    use super::stdin_of;
    use crate::shared::stdin::Stdin;

    fn proc(pid: Pid, name: &str) -> PathBuf {
        Path::new("/proc")
            .join(pid.as_raw_nonzero().to_string())
            .join(name)
    }

    pub fn arguments(pid: Pid) -> Vec<OsString> {
        words_of(&fs::read(proc(pid, "cmdline")).unwrap_or_default())
    }

    /// The words of a `cmdline`.
    pub fn words_of(line: &[u8]) -> Vec<OsString> {
        let line = line.strip_suffix(b"\0").unwrap_or(line);
        let words = line.split(|&byte| byte == 0);
        words
            .map(|word| OsString::from_vec(word.to_vec()))
            .collect()
    }

    pub fn stdin(pid: Pid) -> Stdin {
        let file = proc(pid, "fd/0");
        match file.metadata() {
            Ok(metadata) => stdin_of(metadata.mode(), metadata.rdev(), &file),
            Err(_) => Stdin::Closed,
        }
    }

    pub fn directory(pid: Pid) -> Option<PathBuf> {
        fs::read_link(proc(pid, "cwd")).ok()
    }

    /// The file that it has open and whose link in /proc is this, as that has no other name.
    pub fn open_file(pid: Pid, link: &[u8]) -> Option<fs::File> {
        let all = fs::read_dir(proc(pid, "fd")).ok()?.flatten();
        let mut paths = all.map(|entry| entry.path());
        let is_it =
            |path: &PathBuf| fs::read_link(path).is_ok_and(|to| to.as_os_str().as_bytes() == link);
        let path = paths.find(is_it)?;
        fs::File::options().read(true).write(true).open(path).ok()
    }

    pub fn is_stopped(pid: Pid) -> bool {
        let stat = procfs::process::Process::new(pid.as_raw_pid()).and_then(|it| it.stat());
        stat.is_ok_and(|stat| ['T', 't'].contains(&stat.state))
    }

    /// The files that it has mapped.
    pub fn files(pid: Pid) -> Vec<PathBuf> {
        files_of(&fs::read(proc(pid, "maps")).unwrap_or_default())
    }

    /// The files of a `maps`.
    pub fn files_of(maps: &[u8]) -> Vec<PathBuf> {
        let files = maps.split(|&byte| byte == b'\n').filter_map(|line| {
            let start = line.iter().position(|&byte| byte == b'/')?;
            Some(Path::new(OsStr::from_bytes(&line[start..])).to_owned())
        });
        files.collect()
    }
}

#[cfg(target_os = "macos")]
mod system {
    use std::ffi::OsString;
    use std::path::PathBuf;

    use rustix::process::Pid;

    use super::stdin_of;
    use crate::procs::macos;
    use crate::shared::stdin::Stdin;

    pub fn arguments(pid: Pid) -> Vec<OsString> {
        macos::arguments(pid.as_raw_nonzero().get())
    }

    pub fn stdin(pid: Pid) -> Stdin {
        match macos::stdin(pid.as_raw_nonzero().get()) {
            None => Stdin::Closed,
            Some((_, Some((mode, device, path)))) => stdin_of(mode, device, &path),
            Some((libc::PROX_FDTYPE_PIPE, None)) => Stdin::Pipe,
            Some((libc::PROX_FDTYPE_SOCKET, None)) => Stdin::Socket,
            Some(_) => Stdin::Device,
        }
    }

    pub fn directory(pid: Pid) -> Option<PathBuf> {
        macos::directory(pid.as_raw_nonzero().get())
    }

    pub fn files(pid: Pid) -> impl Iterator<Item = PathBuf> {
        macos::files(pid.as_raw_nonzero().get())
    }

    /// No file without a name can be had from another process here.
    pub fn open_file(_: Pid, _: &[u8]) -> Option<std::fs::File> {
        None
    }

    /// Asked where a file was found.
    pub fn is_stopped(_: Pid) -> bool {
        false
    }
}

/// What a file of this mode and device is, on another process's fd 0. It can be opened by this path.
fn stdin_of(mode: u32, device: u64, path: &Path) -> Stdin {
    let kind = mode as libc::mode_t & libc::S_IFMT;
    if kind == libc::S_IFCHR {
        // To ask a device whether it is a terminal, it has to be opened.
        let device = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
            .open(path);
        if device.is_ok_and(|device| device.is_terminal()) {
            return Stdin::Terminal;
        }
    }
    match kind {
        libc::S_IFIFO => Stdin::Pipe,
        libc::S_IFSOCK => Stdin::Socket,
        libc::S_IFREG => Stdin::File,
        _ if Path::new("/dev/null")
            .metadata()
            .is_ok_and(|null| null.rdev() == device) =>
        {
            Stdin::DevNull
        }
        _ => Stdin::Device,
    }
}
