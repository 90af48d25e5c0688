//! What the agent knows of its program.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use crate::stdio::Stdin;

/// The program, which forked this process.
pub struct Program {
    pub pid: Pid,
    /// Readable when it has ended, where the kernel has such a thing.
    end: Option<OwnedFd>,
    leads_session: bool,
}

impl Program {
    /// Holds on to the process. `None` if it has ended.
    pub fn new(pid: Pid) -> Option<Program> {
        #[cfg(target_os = "linux")]
        let end = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok();
        #[cfg(not(target_os = "linux"))]
        let end = None;
        let leads_session = rustix::process::getsid(Some(pid)) == Ok(pid);
        let program = Program {
            pid,
            end,
            leads_session,
        };
        (!program.is_gone()).then_some(program)
    }

    /// Whether it has ended, however that came: this process then has another parent.
    pub fn is_gone(&self) -> bool {
        rustix::process::getppid() != Some(self.pid)
    }

    /// Whether it has ended, and led a session: its terminal then hangs up.
    pub fn led_a_session(&self) -> bool {
        self.leads_session && self.is_gone()
    }

    /// What is readable when it ends. `None`: it has to be looked after.
    pub fn end(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().map(AsFd::as_fd)
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc")
            .join(self.pid.as_raw_nonzero().to_string())
            .join(name)
    }

    /// Its command line.
    pub fn arguments(&self) -> Vec<OsString> {
        let line = fs::read(self.proc("cmdline")).unwrap_or_default();
        let line = line.strip_suffix(b"\0").unwrap_or(&line);
        let words = line.split(|&byte| byte == 0);
        words
            .map(|word| OsString::from_vec(word.to_vec()))
            .collect()
    }

    /// What it has on fd 0. Since 4.3.2, MPICH's forked child has that closed.
    pub fn stdin(&self) -> Stdin {
        stdin_at(&self.proc("fd/0"))
    }

    /// Its working directory.
    pub fn directory(&self) -> Option<PathBuf> {
        fs::read_link(self.proc("cwd")).ok()
    }

    /// The file of its MPI library.
    pub fn libmpi(&self) -> Option<PathBuf> {
        let maps = fs::read(self.proc("maps")).ok()?;
        let files = maps.split(|&byte| byte == b'\n').filter_map(|line| {
            let start = line.iter().position(|&byte| byte == b'/')?;
            Some(Path::new(OsStr::from_bytes(&line[start..])))
        });
        let mut libraries = files.filter(|file| {
            let name = file.file_name().unwrap_or_default().as_bytes();
            // libmpi.so.12, libmpich.so.12, libmpi_abi.so.0, Cray's libmpi_gnu.so.12, a wheel's libmpi-d26c8c51.so.12.
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
        });
        libraries.next().map(Path::to_owned)
    }
}

/// What another process has on fd 0, which /proc shows as this file.
fn stdin_at(file: &Path) -> Stdin {
    let Ok(metadata) = file.metadata() else {
        return Stdin::Closed;
    };
    if metadata.mode() & libc::S_IFMT == libc::S_IFCHR {
        // To ask a device whether it is a terminal, it has to be opened.
        let device = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
            .open(file);
        if device.is_ok_and(|device| device.is_terminal()) {
            return Stdin::Terminal;
        }
    }
    match metadata.mode() & libc::S_IFMT {
        libc::S_IFIFO => Stdin::Pipe,
        libc::S_IFSOCK => Stdin::Socket,
        libc::S_IFREG => Stdin::File,
        _ if Path::new("/dev/null")
            .metadata()
            .is_ok_and(|null| null.rdev() == metadata.rdev()) =>
        {
            Stdin::DevNull
        }
        _ => Stdin::Device,
    }
}
