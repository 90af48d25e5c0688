//! What the agent has to know of a call that spawns: that it is there, and the application's environment.
//!
//! The library counts the calls in a [`SpawnPage`]. The agent sees by the page that the application waits for children
//! that are gone, has a placeholder connect in their place, so that libmpi returns, and marks the call as failed: then
//! [`failed_spawn`](crate::preload::failed_spawn).

use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::atomic::{Ordering, fence};
use std::sync::{Mutex, OnceLock, PoisonError};

use libc::c_int;

use crate::preload::c_strings::c_strings;
use crate::preload::host_process;
use crate::preload::memory_file;
use crate::preload::real_fn::RealFn;
use crate::shared::spawn_page::SpawnPage;

/// A call that spawns, from its begin to its end.
pub struct Call {
    page: &'static SpawnPage,
    number: u32,
}

impl Call {
    /// A call begins, of a process that is alone in its communicator. `None`: there is no page by which the agent could see
    /// it.
    pub fn begin() -> Option<Call> {
        static PAGE: OnceLock<Option<&SpawnPage>> = OnceLock::new();
        let page = (*PAGE.get_or_init(create_page))?;
        record_environment(page);
        let number = page.begun.fetch_add(1, Ordering::SeqCst) + 1;
        Some(Call { page, number })
    }

    /// Whether its children ended before they connected, which libmpi doesn't know.
    pub fn has_failed(&self) -> bool {
        self.page.failed.load(Ordering::SeqCst) >= self.number
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.page.returned.fetch_add(1, Ordering::SeqCst);
    }
}

/// Writes the application's environment down, if it is not the one of the last call.
fn record_environment(page: &SpawnPage) {
    static LAST: Mutex<Option<Vec<u8>>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: an application that changes its environment in another thread during a call of MPI has that race without us:
    // libmpi reads the environment in a spawn, too.
    let variables = unsafe { c_strings(host_process::environ()) };
    let mut record = Vec::new();
    variables.for_each(|variable| record.extend_from_slice(variable.to_bytes_with_nul()));
    if last.as_ref() != Some(&record) {
        // SAFETY: `create_page` has mapped it; the lock is held.
        unsafe { write_environment(page, &record) };
        *last = Some(record);
    }
}

/// Writes this record of the environment behind the page.
///
/// # Safety
/// The page must be a mapped one, and no other thread may write its record.
unsafe fn write_environment(page: &SpawnPage, record: &[u8]) {
    let writing = page.environment.load(Ordering::SeqCst) | 1;
    page.environment.store(writing, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    if record.len() > SpawnPage::LONGEST_RECORD {
        return;
    }
    let start = std::ptr::from_ref(page).addr() + SpawnPage::RECORD_AT;
    let start = std::ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: the mapping has room for the longest record behind the page, and by this function's contract nobody else
    // writes there. The agent reads the file.
    unsafe { start.copy_from_nonoverlapping(record.as_ptr(), record.len()) };
    page.environment_length
        .store(record.len() as u64, Ordering::SeqCst);
    page.environment
        .store(writing.wrapping_add(1), Ordering::SeqCst);
}

/// A page that the agent finds by its descriptor, which stays open. `None`: there can be no such file.
fn create_page() -> Option<&'static SpawnPage> {
    // SpawnPage::LINK has this name.
    let file = memory_file::create(c"spawnfix", SpawnPage::SIZE as u64)?;
    // SAFETY: it has this size, and nobody else has the descriptor.
    let page = unsafe { SpawnPage::map(file.as_raw_fd()) }?;
    let _ = file.into_raw_fd();
    Some(page)
}

/// Whether this process is alone in this communicator. Others in it would have to disconnect from the placeholder as
/// well, and their library does not see it.
///
/// # Safety
/// It must be a communicator's handle.
pub unsafe fn is_alone(comm: usize) -> bool {
    type Size = unsafe extern "C-unwind" fn(usize, *mut c_int) -> c_int;
    let mut count = 0;
    // SAFETY: this is the prototype of PMPI_Comm_size; by this function's contract.
    RealFn::find("PMPI_Comm_size")
        .is_some_and(|real| unsafe { real.cast::<Size>()(comm, &mut count) == 0 && count == 1 })
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use super::*;

    fn page() -> (File, &'static SpawnPage) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(SpawnPage::SIZE as u64).unwrap();
        // SAFETY: the file has this size, and keeps it.
        let page = unsafe { SpawnPage::map(file.as_raw_fd()) }.unwrap();
        (file, page)
    }

    #[test]
    fn the_agent_reads_the_last_environment_that_was_written() {
        let (file, page) = page();
        assert_eq!(page.environment(&file), None);
        for (generation, record) in [
            (2, &b"A=1\0B=two\nlines\0"[..]),
            (4, b""),
            (6, &[b'x'; 100_000]),
            (8, b"A=\xff\0"),
        ] {
            // SAFETY: the page is mapped, and no other thread has it.
            unsafe { write_environment(page, record) };
            assert_eq!(page.environment(&file), Some((generation, record.to_vec())));
        }
    }

    #[test]
    fn an_environment_that_no_process_could_have_is_no_record_and_the_next_one_is() {
        let (file, page) = page();
        for (record, is_read) in [
            (vec![b'x'; SpawnPage::LONGEST_RECORD], true),
            (vec![b'x'; SpawnPage::LONGEST_RECORD + 1], false),
            (b"A=1\0".to_vec(), true),
        ] {
            // SAFETY: the page is mapped, and no other thread has it.
            unsafe { write_environment(page, &record) };
            assert_eq!(page.environment(&file).is_some(), is_read);
        }
    }
}
