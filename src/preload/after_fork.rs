//! The forked child that is to become a launcher: it becomes the agent instead, or, where there is none, guards itself.
//!
//! All of this runs between fork and exec, in the child of a program that may have threads: nothing allocates, takes a
//! lock or asks the dynamic linker for a symbol.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use libc::{c_char, c_int};
use log::Level;

use crate::mpi::Mpi;
use crate::mpi::launch::Launch;
use crate::preload::cancellation::Uncancelled;
use crate::preload::host_process;
use crate::preload::own_path::{PathBuffer, own_directory};
use crate::shared::logging::{self, Escaped};
use crate::shared::settings;
use crate::shared::stdio;

/// The agent's file name, and where it is looked for from the library's directory.
/// A LIBDIR of the installer's choice has a link to it.
const PLACES: [&[u8]; 4] = [
    b"spawnfix",
    b"../bin/spawnfix",
    b"../../bin/spawnfix",
    b"spawnfix/spawnfix",
];

/// How the agent is called: `spawnfix --agent VERSION PROGRAM [NAME=VALUE…] -- FILE ARGV…`: the program's process id,
/// the settings and its MPI, and all of the launch behind the `--`.
const AGENT: &CStr = c"--agent";

/// `MPI=` and what the program's MPI calls itself, if it was asked: for the agent's messages.
static MPI: OnceLock<CString> = OnceLock::new();

/// In the program: takes note of the MPI that it has.
pub fn note_mpi(mpi: &Mpi) {
    if let Ok(word) = CString::new(format!("MPI={mpi}")) {
        let _ = MPI.set(word);
    }
}

/// As many words as a launch may have to be handed over. Open MPI's have twenty.
const MOST_WORDS: usize = 128;

/// What execv and execvp take as `argv`, without its final null.
#[derive(Clone, Copy)]
pub struct Arguments(*const *const c_char);

impl Arguments {
    /// Between fork and exec: none if `argv` is null.
    ///
    /// # Safety
    /// `argv` must be null or a null-terminated array of C strings that stays as it is.
    pub unsafe fn new(argv: *const *const c_char) -> Option<Arguments> {
        (!argv.is_null()).then_some(Arguments(argv))
    }

    fn pointers(self) -> impl Iterator<Item = *const c_char> + Clone {
        (0..)
            // SAFETY: the array ends with a null, at which the iterator ends for good (`fuse`): `at` is not past it.
            .map_while(move |at| Some(unsafe { *self.0.add(at) }).filter(|word| !word.is_null()))
            .fuse()
    }

    /// The words.
    pub fn words<'a>(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        // SAFETY: an entry before the final null is a C string, by the contract of `new`.
        self.pointers()
            .map(|word| unsafe { CStr::from_ptr(word) }.to_bytes())
    }
}

/// Between fork and exec: executes the agent in the launcher's place. If it returns, there is no agent, and this child
/// is guarded, to become the launcher itself.
#[cold]
pub fn take_over(launch: Launch, file: &CStr, arguments: Arguments) {
    std::mem::forget(Uncancelled::new()); // the exec ends it
    // Since 4.3.2 MPICH's child has no fd 0. Rust's runtime would open /dev/null there for the agent, and ends it where
    // there is none.
    if !stdio::has_stdin() {
        let _ = stdio::take_stdin();
    }
    become_agent(file, arguments);
    let isolation = stdio::isolate();
    // A program that ignores SIGCHLD would have the launcher inherit that, and Intel MPI's then takes its processes for
    // killed, and kills the program. (Measured with 2021.13: five spawns of six, and the program dies.)
    // SAFETY: signal is async-signal-safe, and takes no pointers here.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    let name = launch.name();
    logging::from_child(
        isolation.level(),
        format_args!("this child becomes {name}: {isolation}"),
    );
    logging::from_child(
        Level::Warn,
        format_args!(
            "the program spawnfix {} is not where the library looks for it (beside it, ../bin, ../../bin): {name} gets a \
             stdin of its own, and no more; Ctrl-C, crashes and failures reach this program as without spawnfix",
            env!("CARGO_PKG_VERSION")
        ),
    );
}

/// Between fork and exec: returns if there is no agent.
fn become_agent(file: &CStr, arguments: Arguments) {
    let mut argv = [std::ptr::null(); MOST_WORDS];
    // SAFETY: getppid has no arguments and cannot fail.
    let program = Decimal::of(unsafe { libc::getppid() });
    let own = [c"spawnfix", AGENT, VERSION, program.text()].into_iter();
    let known = settings::words().iter().chain(MPI.get());
    let words = own
        .chain(known.map(|word| word.as_c_str()))
        .chain([c"--", file])
        .map(CStr::as_ptr);
    let mut words = words.chain(arguments.pointers());
    // The last place stays null.
    for (place, word) in argv[..MOST_WORDS - 1].iter_mut().zip(&mut words) {
        *place = word;
    }
    let mut path = PathBuffer::default();
    if words.next().is_some() || own_directory(&mut path).is_none() {
        return;
    }
    let directory = path.used;
    for place in PLACES {
        path.used = directory;
        if let Some(path) = path.append(place) {
            // SAFETY: the path is a C string, argv a null-terminated array of C strings, environ what it takes.
            unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), host_process::pointer().cast()) };
        }
    }
}

/// A number on the stack, as text.
struct Decimal([u8; 12]);

impl Decimal {
    fn of(number: libc::pid_t) -> Decimal {
        use std::io::Write;
        let mut text = [0; 12];
        let _ = write!(&mut text[..11], "{number}");
        Decimal(text)
    }

    fn text(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!(),
    };

/// A PMI-1 line that frees the program, which waits for `cmd=singinit`: a command that is none which it waits for, and
/// a result that is no success, for the commands that it sends later.
const LAUNCH_FAILED: &[u8] = b"cmd=launch_failed rc=1\n";

/// In the child that could be neither the agent nor the launcher: it would run on as a second copy of the program. It
/// tells the program that its launch has failed, at once and whenever the program asks again, as long as the program
/// lives, and ends. At the end of a connection MPICH 4.2 to 5.0 crash instead of failing, and writing to one that is
/// closed is a SIGPIPE.
#[cold]
pub fn launch_failed(launch: Launch, file: &CStr, errno: c_int) -> ! {
    logging::from_child(
        Level::Error,
        format_args!(
            "{} can't be run (errno {errno}), so MPI can launch nothing",
            Escaped(file.to_bytes())
        ),
    );
    if let Launch::Mpiexec { port } = launch {
        answer_failure(port);
    }
    // SAFETY: _exit ends the process without running what the program has registered for its own end.
    unsafe { libc::_exit(127) }
}

fn answer_failure(port: u16) {
    // SAFETY: all zeroes is a sockaddr_in, of integers.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as libc::sa_family_t;
    address.sin_port = port.to_be();
    address.sin_addr.s_addr = libc::INADDR_LOOPBACK.to_be();
    let size = size_of_val(&address) as libc::socklen_t;
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut heard = [0_u8; 256];
    // SAFETY: sigfillset fills `all`: a Ctrl-C is for the program, whose handlers are still installed here. Nobody in
    // this child uses any other descriptor again: open here, a pipe of the program's would seem never to end. fd 0 is
    // the connection from then on; `address` is a sockaddr_in of `size` bytes; the buffers have the lengths that are
    // told.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut());
        close_all_from(0);
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        if libc::connect(socket, (&raw const address).cast(), size) != 0 {
            return;
        }
        let mut lines = 1;
        loop {
            for _ in 0..lines {
                libc::send(
                    socket,
                    LAUNCH_FAILED.as_ptr().cast(),
                    LAUNCH_FAILED.len(),
                    0,
                );
            }
            let count = libc::recv(socket, heard.as_mut_ptr().cast(), heard.len(), 0);
            let Some(heard) = usize::try_from(count)
                .ok()
                .and_then(|count| heard.get(..count))
            else {
                return;
            };
            if heard.is_empty() {
                return;
            }
            lines = heard.iter().filter(|&&byte| byte == b'\n').count();
        }
    }
}

/// Closes every descriptor from this one on. Async-signal-safe.
///
/// # Safety
/// Nothing in this process may use any of them again.
unsafe fn close_all_from(first: c_int) {
    // SAFETY: close_range(2) takes three integers; close takes any number; by this function's contract.
    unsafe {
        // Linux 5.9; the C library's function may be missing.
        #[cfg(target_os = "linux")]
        if libc::syscall(libc::SYS_close_range, first, c_int::MAX, 0) == 0 {
            return;
        }
        // A limit may be a billion; nobody has opened as many.
        let limit = libc::sysconf(libc::_SC_OPEN_MAX).clamp(256, 65_536);
        for fd in first..limit as c_int {
            libc::close(fd);
        }
    }
}
