//! Which calls that spawn the program is in: a page of memory that it shares with the agent.
//!
//! Once the process manager has told libmpi that children were launched, libmpi waits for them to connect, for ever if
//! they ended before that. Nothing of that wait passes the agent, who alone can tell that they have ended, and who has
//! to know that the program still waits.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many descriptors are left to the program: libmpi needs four for a spawn.
#[cfg(target_os = "linux")]
const ROOM: libc::rlim_t = 16;

/// The page. It begins as zeroes.
#[repr(C)]
#[derive(Default)]
pub struct Calls {
    /// How many calls have begun.
    begun: AtomicU32,
    /// How many of them have returned.
    returned: AtomicU32,
    /// The agent's: the call whose children never came, counted from 1; libmpi is told that they did, so that it
    /// returns.
    failed: AtomicU32,
}

impl Calls {
    /// What the program's descriptor of it leads to, in /proc.
    pub const LINK: &[u8] = b"/memfd:spawnfix (deleted)";

    /// A page of this process's. Its descriptor, by which the agent finds it, stays open. `None`: there is no such thing
    /// here, or the process may soon have no descriptor left for libmpi.
    pub fn create() -> Option<&'static Calls> {
        #[cfg(target_os = "linux")]
        // SAFETY: a C string and an integer; the C library's memfd_create is newer than what may be asked of it. Nobody
        // else knows of the descriptor. All zeroes is a rlimit.
        unsafe {
            let name = c"spawnfix".as_ptr();
            let fd = libc::syscall(libc::SYS_memfd_create, name, libc::MFD_CLOEXEC);
            let mut fd = RawFd::try_from(fd).ok().filter(|&fd| fd >= 0)?;
            if fd <= libc::STDERR_FILENO {
                // What is closed stays so.
                let low = fd;
                fd = libc::fcntl(low, libc::F_DUPFD_CLOEXEC, 3);
                libc::close(low);
            }
            let mut limit = std::mem::zeroed::<libc::rlimit>();
            let usable = fd >= 0
                && libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0
                && fd as libc::rlim_t + ROOM < limit.rlim_cur
                && libc::ftruncate(fd, size_of::<Calls>() as libc::off_t) == 0;
            let calls = if usable { Calls::of(fd) } else { None };
            if calls.is_none() {
                libc::close(fd);
            }
            calls
        }
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// The page behind this descriptor, for good.
    ///
    /// # Safety
    /// It must be one of [`Calls::create`]'s.
    pub unsafe fn of(fd: RawFd) -> Option<&'static Calls> {
        // SAFETY: a mapping of its own, which stays; nobody makes the file shorter. Its content is integers.
        unsafe {
            let address = libc::mmap(
                std::ptr::null_mut(),
                size_of::<Calls>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd,
                0,
            );
            (address != libc::MAP_FAILED).then(|| &*address.cast::<Calls>())
        }
    }

    /// A call begins; it is the one of this number.
    pub fn begin(&self) -> u32 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// A call has returned.
    pub fn end(&self) {
        self.returned.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether this is the call whose children never came.
    pub fn has_failed(&self, call: u32) -> bool {
        self.failed.load(Ordering::SeqCst) == call
    }

    /// The call that the program is in. `None`: it is in none, or in several.
    pub fn only_one(&self) -> Option<u32> {
        let begun = self.begun.load(Ordering::SeqCst);
        (begun.wrapping_sub(self.returned.load(Ordering::SeqCst)) == 1).then_some(begun)
    }

    /// The children of this call never came.
    pub fn fail(&self, call: u32) {
        self.failed.store(call, Ordering::SeqCst);
    }
}
