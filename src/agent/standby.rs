//! The standby: a process beside the agent that takes its place if that is killed, or breaks.
//!
//! libmpi does not outlast the end of its process manager: it crashes, or waits for ever. The standby has the
//! connection to it, too, and does nothing for as long as the agent lives. What it has to know then, the agent keeps
//! noted for it: the program's last question, and whether that was answered.

use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::agent::patient;

/// The most that is noted of a question. Only a spawn with a megabyte of arguments has more.
const ROOM: usize = 1 << 20;

/// In memory that agent and standby share.
pub struct Notes {
    /// How many bytes there are of the last question; more than [`ROOM`]: it is not there.
    length: AtomicUsize,
    /// It is answered as soon as so many bytes as in `sent` have gone to the program.
    answered: AtomicBool,
    sent: AtomicU64,
    /// PMI's, and 1: not 0 since the program was greeted.
    subversion: AtomicU32,
    /// Children were launched.
    launched: AtomicBool,
    /// The program has called MPI_Finalize.
    finalized: AtomicBool,
    bytes: UnsafeCell<[u8; ROOM]>,
}

impl Notes {
    /// Empty ones. `None`: there is no memory for them.
    pub fn new() -> Option<&'static Notes> {
        // SAFETY: a new mapping, of zeroes, which a Notes may be made of; it stays for good. It takes up memory as it
        // is filled.
        unsafe {
            let address = libc::mmap(
                std::ptr::null_mut(),
                size_of::<Notes>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANON,
                -1,
                0,
            );
            (address != libc::MAP_FAILED).then(|| &*address.cast::<Notes>())
        }
    }

    /// These bytes are the next of what the program asks. It asks nothing before it has its answer.
    pub fn question(&self, bytes: &[u8]) {
        if self.answered.swap(false, Ordering::SeqCst) {
            self.length.store(0, Ordering::SeqCst);
        }
        let start = self.length.load(Ordering::SeqCst);
        let end = start.saturating_add(bytes.len());
        if end <= ROOM {
            // SAFETY: within the array; only the agent writes, and the standby reads when there is no agent any more.
            unsafe {
                let to = self.bytes.get().cast::<u8>().add(start);
                to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            }
        }
        self.length.store(end, Ordering::SeqCst);
    }

    /// So many bytes are about to go to the program; whether they answer its question.
    pub fn send(&self, count: usize, answer: bool) {
        self.sent.fetch_add(count as u64, Ordering::SeqCst);
        self.answered.fetch_or(answer, Ordering::SeqCst);
    }

    /// The program is greeted, and speaks this subversion of PMI.
    pub fn greet(&self, subversion: u32) {
        self.subversion
            .store(subversion.saturating_add(1), Ordering::SeqCst);
    }

    /// The subversion, if the program is greeted.
    pub fn subversion(&self) -> Option<u32> {
        self.subversion.load(Ordering::SeqCst).checked_sub(1)
    }

    /// Children are there.
    pub fn launch(&self) {
        self.launched.store(true, Ordering::SeqCst);
    }

    /// The program has called MPI_Finalize.
    pub fn finalize(&self) {
        self.finalized.store(true, Ordering::SeqCst);
    }

    /// Whether it has.
    pub fn has_finalized(&self) -> bool {
        self.finalized.load(Ordering::SeqCst)
    }

    /// Whether there were children.
    pub fn has_launched(&self) -> bool {
        self.launched.load(Ordering::SeqCst)
    }

    /// The last question, as far as it was noted, and whether it was answered, if so many bytes have gone to the
    /// program.
    pub fn last(&self, sent: Option<u64>) -> (&[u8], bool) {
        let length = self.length.load(Ordering::SeqCst);
        let length = if length > ROOM { 0 } else { length };
        // SAFETY: within the array, and filled so far; nobody writes there now.
        let bytes = unsafe { std::slice::from_raw_parts(self.bytes.get().cast(), length) };
        let went = sent.is_none_or(|sent| sent >= self.sent.load(Ordering::SeqCst));
        (bytes, went && self.answered.load(Ordering::SeqCst))
    }
}

/// How many bytes were ever sent on this connection, by all that have it; a SYN may count. `None`: the kernel does not
/// tell.
#[cfg(target_os = "linux")]
pub fn sent(connection: &TcpStream) -> Option<u64> {
    /// tcpi_bytes_acked's place in struct tcp_info of linux/tcp.h: since Linux 4.1.
    const ACKED: std::ops::Range<usize> = 120..128;
    let fd = connection.as_raw_fd();
    let acked = || {
        let mut info = [0_u8; 256];
        let mut size = info.len() as libc::socklen_t;
        let to = info.as_mut_ptr().cast();
        // SAFETY: `info` has the size that is told.
        let code =
            unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, to, &mut size) };
        let acked = u64::from_ne_bytes(info[ACKED].try_into().ok()?);
        (code == 0 && size as usize >= ACKED.end).then_some(acked)
    };
    loop {
        let mut waiting: libc::c_int = 0;
        let before = acked()?;
        // SAFETY: SIOCOUTQ fills an int.
        if unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut waiting) } != 0 {
            return None;
        }
        // Unless something went from one to the other meanwhile.
        if acked()? == before {
            return Some(before + u64::from(waiting.unsigned_abs()));
        }
    }
}
#[cfg(not(target_os = "linux"))]
pub fn sent(_: &TcpStream) -> Option<u64> {
    None
}

/// The agent's end of the line to its standby.
pub struct Standby(UnixStream);

/// Which of the two processes this is.
pub enum Role {
    Agent(Standby),
    /// The agent is dead.
    Successor,
}

/// Forks the standby. In it, this returns when the agent is dead, if that did not dismiss it.
///
/// # Errors
/// There are no resources for it.
pub fn fork() -> io::Result<Role> {
    let (mut line, agents_end) = UnixStream::pair()?;
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(agents_end);
            wait(&mut line);
            Ok(Role::Successor)
        }
        _ => Ok(Role::Agent(Standby(agents_end))),
    }
}

/// What the system calls it, which otherwise is as the agent is. `spawnfix --sweep` looks for that.
pub const NAME: &CStr = c"spawnfix-stndby";

/// Until the agent is dead. Signals are for the agent, and wait.
fn wait(line: &mut UnixStream) {
    #[cfg(target_os = "linux")]
    // SAFETY: prctl copies the C string.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr());
    }
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset and sigprocmask fill the sets, before they are used.
    unsafe {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(all.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    if patient::read(line, &mut [0]).is_ok_and(|count| count > 0) {
        // SAFETY: ends the process without running what is registered for the agent's end.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: the mask that was there before.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
}

impl Role {
    /// The agent ends, in good order: so does its standby.
    pub fn dismiss(self) {
        if let Role::Agent(Standby(mut line)) = self {
            let _ = line.write_all(b"!");
        }
    }
}
