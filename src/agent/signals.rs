//! Signals, as events for which a poll loop can wait.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;

use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use crate::shared::dispositions::is_ignored;

/// The signals that the agent handles: the terminal's, those that a resource manager sends to a process group, and SIGCHLD.
const HANDLED: [i32; 9] = [
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTSTP,
    libc::SIGCONT,
    libc::SIGHUP,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCHLD,
];

/// Its `get_read` is readable when a signal has arrived, and its `pending` are the signals since the last call.
pub type Signals = SignalDelivery<UnixStream, SignalOnly>;

/// Handles them from now on. A signal that was ignored stays ignored, as under nohup(1); not so SIGCHLD.
///
/// # Errors
/// The system has no descriptor left.
pub fn handle() -> io::Result<Signals> {
    let (read, write) = UnixStream::pair()?;
    let handled = HANDLED
        .iter()
        .filter(|&&signal| signal == libc::SIGCHLD || !is_ignored(signal));
    let signals = Signals::with_pipe(read, write, SignalOnly, handled)?;
    // The thread that forked this process may have blocked them.
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset fills the set.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
    Ok(signals)
}
