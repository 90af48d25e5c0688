//! What macOS shows of other processes of this user: libproc.h, sys/proc_info.h and sysctl(3).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

#[cfg(target_os = "macos")]
pub mod system {
    use std::ffi::{OsStr, OsString};
    use std::mem::MaybeUninit;
    use std::os::unix::ffi::OsStrExt;
    use std::path::{Path, PathBuf};

    use libc::{c_int, c_void, proc_bsdinfo, proc_fdinfo, proc_vnodepathinfo, vnode_info_path};
    use rustix::io::Errno;
    use rustix::process::{Pid, Signal};

    use super::super::{Process, stdin_of};
    use super::words;
    use crate::shared::stdio::Stdin;

    // sys/proc_info.h, where the libc crate lacks it.
    const PROC_ALL_PIDS: u32 = 1;
    const PROC_PIDREGIONPATHINFO: c_int = 8;
    const PROC_PIDFDVNODEPATHINFO: c_int = 2;

    /// struct proc_regionwithpathinfo, with what is of no use here left without names.
    #[repr(C)]
    struct Region {
        _protection_and_flags: [u32; 4],
        _offset: u64,
        _pages: [u32; 14],
        address: u64,
        size: u64,
        file: vnode_info_path,
    }
    const _: () = assert!(size_of::<Region>() == 1272);

    /// struct vnode_fdinfowithpath.
    #[repr(C)]
    struct Vnode {
        _flags: [u32; 2],
        _offset: i64,
        _kind: [u32; 2],
        file: vnode_info_path,
    }
    const _: () = assert!(size_of::<Vnode>() == 1200);

    /// proc_pidinfo's answer, if it came whole.
    ///
    /// # Safety
    /// `Info` must be what sys/proc_info.h has for this flavor.
    unsafe fn info<Info>(pid: Pid, flavor: c_int, argument: u64) -> Option<Info> {
        let size = size_of::<Info>() as c_int;
        let mut info = MaybeUninit::<Info>::uninit();
        // SAFETY: the buffer has the size that is given. It is read only if it was filled whole, by the kernel, with
        // what it is for, by this function's contract.
        unsafe {
            let got = libc::proc_pidinfo(
                pid.as_raw_pid(),
                flavor,
                argument,
                info.as_mut_ptr().cast(),
                size,
            );
            (got == size).then(|| info.assume_init())
        }
    }

    fn path(file: &vnode_info_path) -> &Path {
        let bytes: &[u8; size_of::<[[libc::c_char; 32]; 32]>()] =
            // SAFETY: an array of arrays has no gaps, and a c_char is a byte.
            unsafe { &*(&raw const file.vip_path).cast() };
        let length = bytes.iter().position(|&byte| byte == 0);
        Path::new(OsStr::from_bytes(&bytes[..length.unwrap_or(bytes.len())]))
    }

    /// All process ids.
    pub fn pids() -> Vec<Pid> {
        // More than there are: kern.maxproc is some thousands.
        let mut pids = vec![0_i32; 1 << 16];
        let size = size_of_val(&pids[..]) as c_int;
        // SAFETY: the buffer has the size that is given.
        let got = unsafe {
            libc::proc_listpids(PROC_ALL_PIDS, 0, pids.as_mut_ptr().cast::<c_void>(), size)
        };
        pids.truncate(usize::try_from(got).unwrap_or(0) / size_of::<i32>());
        pids.into_iter().filter_map(Pid::from_raw).collect()
    }

    /// The process of this number. `None`: there is none, it has ended, or it is another user's.
    pub fn look(pid: Pid) -> Option<Process> {
        // SAFETY: the flavor's struct.
        let info: proc_bsdinfo = unsafe { info(pid, libc::PROC_PIDTBSDINFO, 0) }?;
        (info.pbi_status != libc::SZOMB).then_some(Process {
            pid,
            parent: i32::try_from(info.pbi_ppid).ok().and_then(Pid::from_raw),
            user: info.pbi_uid,
            started: info.pbi_start_tvsec * 1_000_000 + info.pbi_start_tvusec,
        })
    }

    /// Signals this process if it is `same`.
    pub fn signal_if(pid: Pid, signal: Signal, same: impl FnOnce() -> bool) -> Result<(), Errno> {
        match same() {
            true => rustix::process::kill_process(pid, signal),
            false => Err(Errno::SRCH),
        }
    }

    /// macOS has no containers with process ids of their own.
    pub fn sees_the_same_pids(_: Pid) -> bool {
        true
    }

    /// Its executable file.
    pub fn executable(pid: Pid) -> Option<PathBuf> {
        let mut buffer = vec![0_u8; libc::PROC_PIDPATHINFO_MAXSIZE as usize];
        let size = buffer.len() as u32;
        // SAFETY: the buffer has the size that is given.
        let got = unsafe { libc::proc_pidpath(pid.as_raw_pid(), buffer.as_mut_ptr().cast(), size) };
        buffer.truncate(usize::try_from(got).unwrap_or(0));
        (!buffer.is_empty()).then(|| Path::new(OsStr::from_bytes(&buffer)).to_owned())
    }

    /// Its working directory.
    pub fn directory(pid: Pid) -> Option<PathBuf> {
        // SAFETY: the flavor's struct.
        let info: proc_vnodepathinfo = unsafe { info(pid, libc::PROC_PIDVNODEPATHINFO, 0) }?;
        let directory = path(&info.pvi_cdir);
        (!directory.as_os_str().is_empty()).then(|| directory.to_owned())
    }

    /// The files that it has mapped, by their addresses.
    pub fn files(pid: Pid) -> impl Iterator<Item = PathBuf> {
        // The kernel gives the region at this address, or the next one.
        // SAFETY: the flavor's struct.
        let region = move |at: u64| unsafe { info::<Region>(pid, PROC_PIDREGIONPATHINFO, at) };
        let regions = std::iter::successors(region(0), move |last| {
            let next = last.address.checked_add(last.size)?;
            region(next).filter(|region| region.address >= next && region.size > 0)
        });
        regions.map(|region| path(&region.file).to_owned())
    }

    /// What it has on fd 0.
    pub fn stdin(pid: Pid) -> Stdin {
        // One entry is enough: the list is in order.
        // SAFETY: the flavor gives an array of this struct, as long as there is room.
        let first: Option<proc_fdinfo> = unsafe { info(pid, libc::PROC_PIDLISTFDS, 0) };
        let Some(first) = first.filter(|first| first.proc_fd == libc::STDIN_FILENO) else {
            return Stdin::Closed;
        };
        let size = size_of::<Vnode>() as c_int;
        let mut vnode = MaybeUninit::<Vnode>::uninit();
        // SAFETY: the buffer has the size that is given, and is read only if it was filled whole with the flavor's
        // struct.
        let file = unsafe {
            let buffer = vnode.as_mut_ptr().cast();
            let pid = pid.as_raw_pid();
            let got = libc::proc_pidfdinfo(pid, 0, PROC_PIDFDVNODEPATHINFO, buffer, size);
            (got == size).then(|| vnode.assume_init().file)
        };
        match (first.proc_fdtype as c_int, file) {
            (_, Some(file)) => {
                let stat = &file.vip_vi.vi_stat;
                stdin_of(stat.vst_mode.into(), stat.vst_rdev.into(), path(&file))
            }
            (libc::PROX_FDTYPE_PIPE, None) => Stdin::Pipe,
            (libc::PROX_FDTYPE_SOCKET, None) => Stdin::Socket,
            _ => Stdin::Device,
        }
    }

    /// No file without a name can be had from another process here.
    pub fn open_file(_: Pid, _: &[u8]) -> Option<PathBuf> {
        None
    }

    /// Not known here.
    pub fn state(_: Pid) -> Option<char> {
        None
    }

    /// Not known here.
    pub fn terminal(_: Pid) -> Option<PathBuf> {
        None
    }

    /// Not known here.
    pub fn has_variable(_: Pid, _: &[u8]) -> bool {
        false
    }

    /// Its command line.
    pub fn arguments(pid: Pid) -> Vec<OsString> {
        /// sys/syslimits.h.
        const ARG_MAX: usize = 1 << 20;
        let mut area = vec![0_u8; ARG_MAX];
        let mut size = area.len();
        let mut name = [libc::CTL_KERN, libc::KERN_PROCARGS2, pid.as_raw_pid()];
        // SAFETY: a name of three words, a buffer and its size, which becomes that of what was written; nothing is set.
        let result = unsafe {
            let (buffer, nothing) = (area.as_mut_ptr().cast(), std::ptr::null_mut());
            libc::sysctl(name.as_mut_ptr(), 3, buffer, &mut size, nothing, 0)
        };
        area.truncate(if result == 0 { size } else { 0 });
        words(&area).unwrap_or_default()
    }
}

/// The words in what KERN_PROCARGS2 gives: their number, the program's file, zeros, the words, the environment
/// (sysctl_procargsx in xnu's bsd/kern/kern_sysctl.c).
fn words(area: &[u8]) -> Option<Vec<OsString>> {
    let (number, rest) = area.split_first_chunk()?;
    let number = usize::try_from(i32::from_ne_bytes(*number)).ok()?;
    let file = rest.iter().position(|&byte| byte == 0)?;
    let zeros = rest[file..].iter().position(|&byte| byte != 0)?;
    let words = rest[file + zeros..].split(|&byte| byte == 0).take(number);
    Some(
        words
            .map(|word| OsString::from_vec(word.to_vec()))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_found_between_the_programs_file_and_the_environment() {
        let area = |number: i32, rest: &[u8]| [&number.to_ne_bytes()[..], rest].concat();
        let found = words(&area(3, b"/bin/python3\0\0\0\0python3\0\0-i\0PATH=/bin\0"));
        assert_eq!(found.unwrap(), ["python3", "", "-i"].map(OsString::from));
        let cut_off = words(&area(3, b"/bin/cat\0cat"));
        assert_eq!(cut_off.unwrap(), [OsString::from("cat")]);
        for nonsense in [
            &b""[..],
            b"\x01",
            &area(1, b"/bin/cat"),
            &area(-1, b"a\0b\0"),
        ] {
            assert_eq!(words(nonsense), None);
        }
    }
}
