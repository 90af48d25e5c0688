//! Signals, as something that a loop can wait for.

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

/// What the agent minds: the terminal's, those that whoever manages processes sends to a process group, and the
/// children's.
const MINDED: [Signal; 9] = [
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
    /// Minds them from now on. What was ignored is ignored, as under nohup(1), but for SIGCHLD.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn new() -> io::Result<Signals> {
        let (wakes, wake) = UnixStream::pair()?;
        wakes.set_nonblocking(true)?;
        let mut raised = Vec::new();
        for signal in MINDED {
            let number = signal.as_raw();
            if is_ignored(number) && signal != Signal::CHILD {
                continue;
            }
            let flag = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(number, Arc::clone(&flag))?;
            signal_hook::low_level::pipe::register(number, wake.try_clone()?)?;
            raised.push((signal, flag));
        }
        // Whoever forked this process may have had them blocked.
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset fills the set.
        unsafe {
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
        }
        Ok(Signals { wakes, raised })
    }

    /// Readable when one came.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.wakes.as_fd()
    }

    /// What came since the last time.
    pub fn heard(&mut self) -> Vec<Signal> {
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
