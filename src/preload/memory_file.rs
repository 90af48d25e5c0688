//! Files in memory, which the user's other processes on this host open through /proc.

use std::ffi::CStr;
use std::fs::File;

/// A file of this size, all zeroes. `None`: the system has no memfd, the process may soon have no descriptor left for libmpi,
/// or may write no file of this size.
pub fn create(name: &CStr, size: u64) -> Option<File> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, getrlimit};
        use std::os::fd::AsRawFd;
        let allows = |resource, amount| {
            getrlimit(resource)
                .current
                .is_none_or(|most| amount <= most)
        };
        let created = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).ok()?;
        // Above fd 2: what the application has closed there stays closed.
        let file = File::from(rustix::io::fcntl_dupfd_cloexec(created, 3).ok()?);
        // libmpi needs four descriptors for a spawn; ftruncate beyond the limit would send SIGXFSZ.
        let usable =
            allows(Resource::Nofile, file.as_raw_fd() as u64 + 16) && allows(Resource::Fsize, size);
        (usable && file.set_len(size).is_ok()).then_some(file)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (name, size);
        None
    }
}
