//! Which spawning calls the application is in: a page of memory that application and agent share.
//!
//! Once the process manager has answered that children were launched, libmpi waits for them to connect. If the children
//! end before that, it waits without end. The agent cannot see that wait: no message passes through it. But only the
//! agent sees that the children have ended. This page tells the agent whether the application is still inside the call,
//! and tells the library that the call has failed.
//!
//! The application writes `begun` and `returned` (preload/failed_spawn.rs), the agent `failed`.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};

/// The page. It begins as zeroes.
#[repr(C)]
pub struct SpawnPage {
    /// How many calls have begun.
    pub begun: AtomicU32,
    /// How many of them have returned.
    pub returned: AtomicU32,
    /// The call whose children ended before they connected, counted from 1. A placeholder connects in their place, so
    /// that the call returns.
    pub failed: AtomicU32,
}

impl SpawnPage {
    /// The link of the application's descriptor of it, in /proc/PID/fd.
    pub const LINK: &[u8] = b"/memfd:spawnfix (deleted)";

    /// The page behind this descriptor. The mapping stays as long as the process.
    ///
    /// # Safety
    /// The descriptor must be that of a memfd that is at least this long, and stays so.
    pub unsafe fn map(fd: RawFd) -> Option<&'static SpawnPage> {
        // SAFETY: a mapping of its own, which is never unmapped; by this function's contract nobody makes the file
        // shorter. Any bytes are good integers.
        unsafe {
            let address = libc::mmap(
                std::ptr::null_mut(),
                size_of::<SpawnPage>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd,
                0,
            );
            (address != libc::MAP_FAILED).then(|| &*address.cast::<SpawnPage>())
        }
    }

    /// The call that the application is in. `None`: it is in none, or in several.
    pub fn only_call(&self) -> Option<u32> {
        let begun = self.begun.load(Ordering::SeqCst);
        (begun.wrapping_sub(self.returned.load(Ordering::SeqCst)) == 1).then_some(begun)
    }

    /// The children of this call ended before they connected.
    pub fn fail(&self, call: u32) {
        self.failed.store(call, Ordering::SeqCst);
    }
}
