//! The program's watch over its launcher, while a spawn waits for it.
//!
//! libmpi waits for mpiexec to connect, and nothing else: should mpiexec end first, it waits for ever. So the
//! forked child leaves its process id and its port on a page of memory that it shares with the program, and a
//! thread of the program looks at that process until the call returns.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use libc::{c_int, pid_t};

use crate::launcher::{self, Failure, How, Launch};
use crate::logging::Escaped;
use crate::mpi::Mpi;

/// How often the launcher is looked at.
const TICK: Duration = Duration::from_millis(50);

/// How long a launcher that has ended in an unknown way may have gone to the background. Its status is unknown
/// where the program ignores SIGCHLD, or waits for all of its children.
const GRACE: Duration = Duration::from_secs(2);

/// Shared by the program and the children that it forks.
struct Page {
    /// The process whose children may write here: a copy of the program that it forked has a page of its own.
    owner: pid_t,
    /// How many watches there are.
    watches: AtomicUsize,
    /// What [`announce`] leaves: a [`Word`].
    launch: AtomicU64,
}

/// A launcher's process id and port. 0: no launcher, or one that has been seen to.
#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    /// The child could not become the launcher; it has said so in the log.
    const NOT_RUN: u64 = 1 << 16;

    fn new(pid: pid_t, launch: Launch) -> Word {
        Word(((pid as u64) << 17) | u64::from(launch.port))
    }

    fn pid(self) -> pid_t {
        (self.0 >> 17) as pid_t
    }

    fn launch(self) -> Launch {
        Launch {
            port: self.0 as u16,
        }
    }
}

impl Page {
    /// Takes a launcher to see to it: of several calls that watch it, one gets `true` here.
    fn take(&self, word: Word) -> bool {
        self.launch
            .compare_exchange(word.0, 0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

static PAGE: AtomicPtr<Page> = AtomicPtr::new(ptr::null_mut());

/// The program's MPI, for the child's error message.
static MPI: OnceLock<Mpi> = OnceLock::new();

fn page() -> Option<&'static Page> {
    // SAFETY: PAGE is null or a page that `map` has made, which is never unmapped.
    unsafe { PAGE.load(Ordering::Acquire).as_ref() }
}

/// This process's page, mapped if need be.
fn map() -> Option<&'static Page> {
    static MAPPING: Mutex<()> = Mutex::new(());
    let _one = MAPPING.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: getpid has no arguments and cannot fail.
    let owner = unsafe { libc::getpid() };
    if let Some(page) = page().filter(|page| page.owner == owner) {
        return Some(page);
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: an anonymous mapping anywhere; it is large and aligned enough for a Page, which is written before
    // anyone can see it.
    unsafe {
        let address = libc::mmap(ptr::null_mut(), size_of::<Page>(), protection, flags, -1, 0);
        if address == libc::MAP_FAILED {
            return None;
        }
        address.cast::<Page>().write(Page {
            owner,
            watches: AtomicUsize::new(0),
            launch: AtomicU64::new(0),
        });
        PAGE.store(address.cast(), Ordering::Release);
    }
    page()
}

/// In a forked child: the page of the program that it is to be the launcher of.
fn parents_page() -> Option<&'static Page> {
    // SAFETY: getppid has no arguments and cannot fail.
    let parent = unsafe { libc::getppid() };
    page().filter(|page| page.owner == parent)
}

/// Between fork and exec: leaves word for the program that this child is to be its launcher.
pub fn announce(launch: Launch) {
    if let Some(page) = parents_page() {
        // SAFETY: getpid has no arguments and cannot fail.
        let word = Word::new(unsafe { libc::getpid() }, launch);
        page.launch.store(word.0, Ordering::Release);
    }
}

/// In the child that could not become the launcher: whether the program watches, and will answer itself. Its
/// answer is the better one, as it lasts.
pub fn leave_answer_to_program() -> bool {
    let page = parents_page().filter(|page| page.watches.load(Ordering::Acquire) > 0);
    page.inspect(|page| _ = page.launch.fetch_or(Word::NOT_RUN, Ordering::AcqRel))
        .is_some()
}

/// Between fork and exec: the program's MPI, if it was asked.
pub fn mpi() -> Option<&'static Mpi> {
    MPI.get()
}

/// The watch of one call. Dropping it ends its thread.
pub struct Watch {
    page: &'static Page,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<Answered>>>,
}

/// A launcher that has failed, and the connection over which the program was told.
struct Answered {
    word: Word,
    connection: Option<OwnedFd>,
}

impl Watch {
    /// Begins to watch for a launcher. `None`, and a warning, if that is not to be had.
    pub fn begin(name: &'static str, mpi: Mpi) -> Option<Watch> {
        let _ = MPI.set(mpi);
        let Some(page) = map() else {
            log::warn!(
                "{name}: no memory to watch mpiexec with: should it fail, the call will wait for ever"
            );
            return None;
        };
        // What an earlier launch left is nobody's to answer: its launcher did, and may have ended since.
        if page.watches.fetch_add(1, Ordering::AcqRel) == 0 {
            page.launch.store(0, Ordering::Release);
        }
        let mut watch = Watch {
            page,
            done: Arc::new(AtomicBool::new(false)),
            thread: None,
        };
        let done = Arc::clone(&watch.done);
        // Read here, while the program waits: the thread must not read an environment that others change.
        let path = std::env::var_os("PATH");
        let thread = with_signals_blocked(|| {
            thread::Builder::new()
                .name("spawnfix".to_owned())
                .stack_size(256 * 1024)
                .spawn(move || look(name, path.as_deref(), page, &done))
        });
        watch.thread = thread
            .inspect_err(|error| {
                log::warn!(
                    "{name}: no thread to watch mpiexec with ({error}): should it fail, the call will wait for ever"
                );
            })
            .ok();
        watch.thread.is_some().then_some(watch)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        let answered = self.thread.take().and_then(|thread| {
            thread.thread().unpark();
            thread.join().unwrap_or(None)
        });
        self.page.watches.fetch_sub(1, Ordering::AcqRel);
        let Some(Answered { word, connection }) = answered else {
            return;
        };
        if let Some(connection) = connection {
            word.launch().keep_answer(connection);
        }
        // MPI would leave it for a zombie. A child that could not become the launcher may be on its last step.
        for _ in 0..100 {
            // SAFETY: waitpid may be given a null status; another may have waited for the child already.
            if unsafe { libc::waitpid(word.pid(), ptr::null_mut(), libc::WNOHANG) } != 0 {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Runs `start` with all signals blocked, so that the thread that it starts never runs a handler of the program's.
fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset fills `all`; pthread_sigmask fills `before`, which is put back as it was.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let result = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        result
    }
}

/// The thread: looks at the launcher until the call returns, or until the launcher has failed and the program has
/// been told.
fn look(name: &str, path: Option<&OsStr>, page: &Page, done: &AtomicBool) -> Option<Answered> {
    let mut gone_since = None;
    while !done.load(Ordering::Acquire) {
        thread::park_timeout(TICK);
        let word = Word(page.launch.load(Ordering::Acquire));
        if word.0 == 0 {
            continue;
        }
        if word.0 & Word::NOT_RUN == 0 {
            let Some(end) = end_of(word.pid()) else {
                continue;
            };
            if end == How::Gone && gone_since.get_or_insert_with(Instant::now).elapsed() < GRACE {
                continue;
            }
            if !page.take(word) {
                continue;
            }
            let (file, open_mpis) = launcher::on_path(c"mpiexec", path);
            if end == How::Exited(0) {
                let file = file.unwrap_or_else(|| "mpiexec".into());
                log::warn!(
                    "{name}: {} ended with exit status 0 while MPI waits for it; should it not go on in the \
                     background, the call will wait for ever",
                    Escaped(file.as_os_str().as_bytes())
                );
                continue;
            }
            let failure = Failure {
                how: end,
                name: c"mpiexec",
                file: file.as_deref(),
                open_mpis,
                mpi: MPI.get(),
            };
            log::error!("{name}: {failure}");
        } else if !page.take(word) {
            continue;
        }
        let connection = word.launch().answer_failure();
        return Some(Answered { word, connection });
    }
    None
}

/// How a child of this process has ended, if it has. Its status stays for whoever waits for it (WNOWAIT).
fn end_of(pid: pid_t) -> Option<How> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is zeroed, which is a siginfo_t; waitid fills it for a child that has ended, and leaves si_pid
    // 0 for one that has not. kill with signal 0 only asks.
    unsafe {
        if libc::waitid(libc::P_PID, pid as libc::id_t, info.as_mut_ptr(), flags) != 0 {
            let no_child = std::io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD);
            return (no_child && libc::kill(pid, 0) != 0).then_some(How::Gone);
        }
        let info = info.assume_init();
        match (info.si_pid(), info.si_code) {
            (0, _) => None,
            // macOS gives more of exit's argument than the low byte, which is all that a shell would show.
            (_, libc::CLD_EXITED) => Some(How::Exited(info.si_status() & 0xff)),
            _ => Some(How::Killed(info.si_status() as c_int)),
        }
    }
}
