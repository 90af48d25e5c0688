//! Which spawning calls the application is in: a page of memory that application and agent share.
//!
//! Once the process manager has answered that children were launched, libmpi waits for them to connect. If the children
//! end before that, it waits without end. The agent cannot see that wait: no message passes through it. But only the
//! agent sees that the children have ended. This page tells the agent whether the application is still inside the call,
//! and tells the library that the call has failed.
//!
//! Behind the page stands a record of the application's environment at its last spawn: children get that one, and not the
//! one that the agent was started with. A command line would show it to other users.
//!
//! The application writes `begun`, `returned` and the environment (preload/call.rs), the agent `failed`.

use std::fs::File;
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// The page. It begins as zeroes.
#[repr(C)]
pub struct SpawnPage {
    /// How many calls have begun.
    pub begun: AtomicU32,
    /// How many of them have returned.
    pub returned: AtomicU32,
    /// The call whose children ended before they connected, or one that began later: of the calls up to this number, counted
    /// from 1, the one that was open. A placeholder connects in their place, so that the call returns.
    pub failed: AtomicU32,
    /// Which record of the environment this is. 0: there is none; odd: it is being written, or was too long.
    pub environment: AtomicU32,
    /// How many bytes the record has.
    pub environment_length: AtomicU64,
}

impl SpawnPage {
    /// The link of the application's descriptor of it, in /proc/PID/fd.
    pub const LINK: &[u8] = b"/memfd:spawnfix (deleted)";

    /// Where the record begins.
    pub const RECORD_AT: usize = 4096;

    /// The longest record: execve takes no larger environment (fs/exec.c in Linux: bprm_stack_limits).
    pub const LONGEST_RECORD: usize = 6 << 20;

    /// The size of the page with its record. What was never written to takes no memory.
    pub const SIZE: usize = SpawnPage::RECORD_AT + SpawnPage::LONGEST_RECORD;

    /// The page behind this descriptor. The mapping stays as long as the process.
    ///
    /// # Safety
    /// The descriptor must be that of a memfd of [`SpawnPage::SIZE`] that stays so.
    pub unsafe fn map(fd: RawFd) -> Option<&'static SpawnPage> {
        // SAFETY: a mapping of its own, which is never unmapped; by this function's contract nobody makes the file
        // shorter. Any bytes are good integers.
        unsafe {
            let address = libc::mmap(
                std::ptr::null_mut(),
                SpawnPage::SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd,
                0,
            );
            address.expose_provenance(); // for preload/call.rs, which writes the record
            (address != libc::MAP_FAILED).then(|| &*address.cast::<SpawnPage>())
        }
    }

    /// Whether the application is in a call.
    pub fn is_in_call(&self) -> bool {
        self.begun.load(Ordering::SeqCst) != self.returned.load(Ordering::SeqCst)
    }

    /// The number of the call that began last, if one call is open: that one, or an earlier one. `None`: none is, or several.
    pub fn only_call(&self) -> Option<u32> {
        let begun = self.begun.load(Ordering::SeqCst);
        (begun.wrapping_sub(self.returned.load(Ordering::SeqCst)) == 1).then_some(begun)
    }

    /// The children of this call ended before they connected.
    pub fn fail(&self, call: u32) {
        self.failed.store(call, Ordering::SeqCst);
    }

    /// The record in this file, the page's, and which one it is: entries, each with a NUL at its end. `None`: there is none,
    /// or it was being written at this moment.
    pub fn environment(&self, file: &File) -> Option<(u32, Vec<u8>)> {
        let generation = self.environment.load(Ordering::SeqCst);
        let length = self.environment_length.load(Ordering::SeqCst) as usize;
        if generation == 0 || generation % 2 == 1 || length > SpawnPage::LONGEST_RECORD {
            return None;
        }
        let mut record = vec![0; length];
        file.read_exact_at(&mut record, SpawnPage::RECORD_AT as u64)
            .ok()?;
        fence(Ordering::SeqCst);
        let is_whole = self.environment.load(Ordering::SeqCst) == generation;
        is_whole.then_some((generation, record))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn only_a_whole_record_is_read() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(SpawnPage::SIZE as u64).unwrap();
        // SAFETY: the file has this size, and keeps it.
        let page = unsafe { SpawnPage::map(file.as_raw_fd()) }.unwrap();
        let record = b"A=1\0B=two\nlines\0";
        file.write_all_at(record, SpawnPage::RECORD_AT as u64)
            .unwrap();
        let length = record.len() as u64;
        for (generation, length, is_read) in [
            (0, length, false),
            (1, length, false),
            (2, length, true),
            (3, length, false),
            (4, SpawnPage::SIZE as u64, false),
        ] {
            page.environment.store(generation, Ordering::SeqCst);
            page.environment_length.store(length, Ordering::SeqCst);
            let expected = is_read.then(|| (generation, record.to_vec()));
            assert_eq!(page.environment(&file), expected, "{generation}");
        }
    }
}
