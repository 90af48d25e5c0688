//! Signals, as events for which a poll loop can wait.

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

/// The signals that the agent handles: the terminal's, those that a resource manager sends to a process group, and SIGCHLD.
const HANDLED: [Signal; 9] = [
    Signal::INT,
    Signal::QUIT,
    Signal::TSTP,
    Signal::CONT,
    Signal::HUP,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
    Signal::CHILD,
];

pub struct Signals {
    wakes: UnixStream,
    raised: Vec<(Signal, Arc<AtomicBool>)>,
}

impl Signals {
    /// Handles them from now on. A signal that was ignored stays ignored, as under nohup(1); not so SIGCHLD.
    ///
    /// # Errors
    /// The system has no descriptor left.
    pub fn new() -> io::Result<Signals> {
        let (wakes, wake) = UnixStream::pair()?;
        wakes.set_nonblocking(true)?;
        let mut raised = Vec::new();
        for signal in HANDLED {
            let number = signal.as_raw();
            if is_ignored(number) && signal != Signal::CHILD {
                continue;
            }
            let flag = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(number, Arc::clone(&flag))?;
            signal_hook::low_level::pipe::register(number, wake.try_clone()?)?;
            raised.push((signal, flag));
        }
        // The thread that forked this process may have blocked them.
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset fills the set.
        unsafe {
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
        }
        Ok(Signals { wakes, raised })
    }

    /// Readable when one has arrived.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.wakes.as_fd()
    }

    /// The signals since the last call, without SIGCHLD.
    pub fn take(&mut self) -> Vec<Signal> {
        let mut buffer = [0; 256];
        while self.wakes.read(&mut buffer).is_ok_and(|count| count > 0) {}
        let raised = self
            .raised
            .iter()
            .filter(|(_, flag)| flag.swap(false, Ordering::AcqRel));
        raised
            .map(|(signal, _)| *signal)
            .filter(|signal| *signal != Signal::CHILD)
            .collect()
    }
}

fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: sigaction fills `action` when it returns 0, and only then is it read.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}
