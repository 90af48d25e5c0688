//! The mpiexec that libmpi launches behind a singleton: how it is recognised, and what is said when it fails.
//!
//! MPICH (PMII_singinit in src/pmi/src/pmi_v1.c) listens on a port, forks, and the child calls
//!
//! ```c
//! execvp("mpiexec", {"mpiexec", ["-v",] "-pmi_args", PORT, "default_interface", "default_key", PID, NULL})
//! ```
//!
//! The program waits in accept() for a connection to PORT, then for one line of PMI-1: a list of `key=value`, of
//! which the first must be `cmd=singinit`. Any other command is an error that MPI reports as its own, in the way
//! that the program has asked for. No connection: it waits for ever. Intel MPI and MVAPICH have that code from
//! MPICH.

use std::ffi::{CStr, OsStr};
use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libc::{c_char, c_int};
use log::Level;

use crate::logging::{self, Escaped};
use crate::mpi::{Family, Mpi};
use crate::{settings, watch};

/// The launch of an mpiexec for a singleton.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Where the program waits for the launcher's answer.
    pub port: u16,
}

/// How far into argv the option can stand. MPICH has it first or second; a program's own argv may be long.
const LAST_PLACE: usize = 4;

/// The answer that frees the program: a PMI-1 command that is none which it waits for, and a result that is no
/// success, for the commands that it sends next.
const LAUNCH_FAILED: &[u8] = b"cmd=launch_failed rc=1\n";

/// How often it is said, at once and in advance: each later command of libmpi's, say for another spawn, reads one.
/// At the end of a connection MPICH 4.2 to 5.0 crash instead of failing, and writing to one that is closed is a
/// SIGPIPE. (Measured: with one line, MPICH 5.0.2 crashes at the first spawn, 4.2.3 at the second.) A program that
/// tries more often than that waits again.
const TIMES: usize = 1000;

/// How many of them are sent at a time.
const PORTION: usize = 40;

impl Launch {
    /// Between fork and exec: the launch that these arguments of execvp make, if it is one.
    ///
    /// # Safety
    /// `argv` must be null or what execvp takes: a null-terminated array of C strings.
    pub unsafe fn recognise(argv: *const *const c_char) -> Option<Launch> {
        if argv.is_null() {
            return None;
        }
        let argument = |at: usize| {
            // SAFETY: the callers below ask for an entry only if the one before it was not the final null.
            let argument = unsafe { *argv.add(at) };
            // SAFETY: an entry before the final null is a C string.
            (!argument.is_null()).then(|| unsafe { CStr::from_ptr(argument) })
        };
        argument(0)?;
        for at in 1..=LAST_PLACE {
            if argument(at)? == c"-pmi_args" {
                let port = argument(at + 1)?.to_str().ok()?.parse().ok()?;
                return Some(Launch { port });
            }
        }
        None
    }

    /// Tells the waiting program that its launch has failed, and gives the connection: while it is open, libmpi
    /// finds an answer to whatever it asks. Async-signal-safe.
    pub fn answer_failure(self) -> Option<OwnedFd> {
        // SAFETY: all zeroes is a sockaddr_in, of integers.
        let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        address.sin_family = libc::AF_INET as libc::sa_family_t;
        address.sin_port = self.port.to_be();
        address.sin_addr.s_addr = libc::INADDR_LOOPBACK.to_be();
        let size = size_of_val(&address) as libc::socklen_t;
        // Should the program have its answer already, nobody accepts this connection, and no harm is done.
        // SAFETY: `address` is a sockaddr_in of `size` bytes; `lines` is readable for its length; the socket was
        // opened here. It takes what its buffers hold, without a wait, and they hold all of it.
        unsafe {
            let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
            if socket < 0 {
                return None;
            }
            let socket = OwnedFd::from_raw_fd(socket);
            let fd = socket.as_raw_fd();
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            let connected = libc::connect(fd, (&raw const address).cast(), size) == 0;
            // In portions: a thread's stack may be small, as static thread-local variables take from it.
            let mut lines = [0; LAUNCH_FAILED.len() * PORTION];
            for line in lines.chunks_exact_mut(LAUNCH_FAILED.len()) {
                line.copy_from_slice(LAUNCH_FAILED);
            }
            let said = (0..TIMES / PORTION).take_while(|_| {
                libc::send(fd, lines.as_ptr().cast(), lines.len(), libc::MSG_DONTWAIT) > 0
            });
            (connected && said.count() > 0).then_some(socket)
        }
    }

    /// In the program, once the call that waited has returned: keeps the connection open in the place of the
    /// descriptor on which libmpi listened. libmpi forgets that one, and listens no second time: the program has
    /// no descriptor more than before, and no listener that nobody answers.
    pub fn keep_answer(self, connection: OwnedFd) {
        let listens = |fd: &c_int| {
            let mut flag: c_int = 0;
            let mut size = size_of_val(&flag) as libc::socklen_t;
            // SAFETY: all zeroes is a sockaddr_in; each call gets the size of what it may write to.
            unsafe {
                let mut address: libc::sockaddr_in = std::mem::zeroed();
                let mut room = size_of_val(&address) as libc::socklen_t;
                let option = (&raw mut flag).cast();
                libc::getsockopt(*fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN, option, &mut size) == 0
                    && flag != 0
                    && libc::getsockname(*fd, (&raw mut address).cast(), &mut room) == 0
                    // The port is at the same place in a sockaddr_in6.
                    && [libc::AF_INET, libc::AF_INET6].contains(&c_int::from(address.sin_family))
                    && address.sin_port == self.port.to_be()
            }
        };
        let open = std::fs::read_dir("/dev/fd").into_iter().flatten().flatten();
        let mut numbers = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        match numbers.find(listens) {
            // SAFETY: `listener` is libmpi's, which has forgotten it; the connection is closed in its own place.
            Some(listener) => unsafe {
                libc::dup2(connection.as_raw_fd(), listener);
                libc::fcntl(listener, libc::F_SETFD, libc::FD_CLOEXEC);
            },
            None => drop(connection.into_raw_fd()),
        }
    }
}

/// The variables by which a process manager tells a program that it started it.
///
/// PMI_*: MPICH's, Intel MPI's and Slurm's; PMIX_*: Open MPI's, Slurm's, Flux's.
const MANAGERS: [&str; 5] = [
    "PMI_RANK",
    "PMI_FD",
    "PMI_PORT",
    "PMIX_RANK",
    "PMIX_NAMESPACE",
];

static MANAGER: OnceLock<&str> = OnceLock::new();

/// Looks for a process manager, for the ctor. Later it would be too late: in a program that nobody started, Open MPI 4's
/// MPI_Init sets PMIX_RANK itself.
pub fn note_process_manager() {
    // SAFETY: the ctor runs before the program's own code, so nothing changes the environment meanwhile.
    let mut variables = unsafe { settings::environment(b"PMI") };
    let manager = variables.find_map(|(_, variable)| {
        let name = variable.split(|&byte| byte == b'=').next()?;
        MANAGERS.into_iter().find(|known| known.as_bytes() == name)
    });
    if let Some(manager) = manager {
        let _ = MANAGER.set(manager);
    }
}

/// The variable by which a process manager told this program that it started it, if one did.
pub fn process_manager() -> Option<&'static str> {
    MANAGER.get().copied()
}

/// How a launch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// execvp returned with this errno.
    NotRun(c_int),
    /// It ended with this status.
    Exited(c_int),
    /// It was ended by this signal.
    Killed(c_int),
    /// It ended, and the program itself has taken its status.
    Gone,
}

/// A failed launch, in the words of the log.
pub struct Failure<'a> {
    pub how: How,
    /// What was looked for: "mpiexec".
    pub name: &'a CStr,
    /// What PATH has under that name.
    pub file: Option<&'a Path>,
    /// Whether that file is known for Open MPI's.
    pub open_mpis: bool,
    /// The program's MPI, if it was asked.
    pub mpi: Option<&'a Mpi>,
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Escaped(self.name.to_bytes());
        match (self.file, self.how) {
            (None, How::NotRun(libc::ENOENT)) => write!(f, "{name} was not found on PATH")?,
            (None, _) => write!(f, "{name}")?,
            (Some(file), _) => write!(f, "{}", Escaped(file.as_os_str().as_bytes()))?,
        }
        match (self.file, self.how) {
            (None, How::NotRun(libc::ENOENT)) => {}
            // The file is there: what is not is the interpreter that its first line names.
            (Some(_), How::NotRun(libc::ENOENT)) => {
                f.write_str(" can't be run: its interpreter is not there")?
            }
            (_, How::NotRun(libc::EACCES)) => f.write_str(" can't be run: it is not executable")?,
            (_, How::NotRun(errno)) => write!(f, " can't be run (errno {errno})")?,
            (_, How::Exited(status)) => {
                write!(f, " ended with exit status {status} before it answered")?
            }
            (_, How::Killed(signal)) => {
                write!(f, " was killed by signal {signal} before it answered")?
            }
            (_, How::Gone) => f.write_str(" ended before it answered")?,
        }
        f.write_str(", so MPI can launch nothing")?;
        if let Some(mpi) = self.mpi {
            write!(f, "; this program has {mpi}")?;
        }
        match self.remedy() {
            Some(remedy) => write!(f, ": {remedy}"),
            None => Ok(()),
        }
    }
}

impl Failure<'_> {
    /// What to do about it, where that is known.
    fn remedy(&self) -> Option<&'static str> {
        if self.open_mpis {
            return Some(
                "that mpiexec is Open MPI's; put the one of the program's own MPI first on PATH",
            );
        }
        if let Some(mpi) = self.mpi.filter(|mpi| mpi.family == Family::Mpich) {
            match mpi.version[..] {
                // Measured with 3.4.3 and 4.0.3: "unrecognized argument pmi_args". Added in 4.1.
                [0..=3, ..] | [4, 0, ..] => {
                    return Some(
                        "before MPICH 4.1, mpiexec can't serve a program that was started without it; start the \
                         program with mpiexec -n 1, or use MPICH 4.3.2 or later",
                    );
                }
                // Measured: "No executable provided"; mended in MPICH's commit ef6de6ad85.
                [4, 3, 1] => {
                    return Some(
                        "MPICH 4.3.1's mpiexec can't serve a program that was started without it; start the \
                         program with mpiexec -n 1, or use MPICH 4.3.2 or later",
                    );
                }
                _ => {}
            }
        }
        match self.how {
            How::NotRun(libc::ENOENT | libc::EACCES) => {
                Some("put the directory with the mpiexec of the program's MPI on PATH")
            }
            _ => None,
        }
    }
}

/// In the child, when the real execvp has returned: frees the program, says what was not run, and ends the child,
/// which would run on as a second copy of the program otherwise. Only async-signal-safe calls.
///
/// # Safety
/// `name` must be what execvp was given: a C string.
#[cold]
pub unsafe fn exec_failed(launch: Launch, name: *const c_char, errno: c_int) -> ! {
    // SAFETY: by this function's contract.
    let name = unsafe { CStr::from_ptr(name) };
    // SAFETY: the child has one thread, and that is here.
    let path = unsafe { settings::environment(b"PATH=") }
        .next()
        .map(|(_, path)| &path[b"PATH=".len()..]);
    let mut buffer = [0; libc::PATH_MAX as usize];
    let file = first_on_path(name.to_bytes(), path.unwrap_or(DEFAULT_PATH), &mut buffer);
    let failure = Failure {
        how: How::NotRun(errno),
        name,
        file,
        open_mpis: false,
        mpi: watch::mpi(),
    };
    logging::from_child(
        Level::Error,
        format_args!("{failure}; PATH is {}", Escaped(path.unwrap_or(b"not set"))),
    );
    if !watch::leave_answer_to_program() {
        if let Some(connection) = launch.answer_failure() {
            hold(connection);
        }
    }
    // SAFETY: _exit ends the process without running what the program has registered for its own end.
    unsafe { libc::_exit(127) }
}

/// In the child, of a program that can't keep the connection itself, as its call did not come through us: holds it
/// until the program closes its end, which is as long as mpiexec would live. Were it closed before, the program's
/// next attempt, or its MPI_Finalize, would end it by SIGPIPE. Only async-signal-safe calls.
fn hold(connection: OwnedFd) {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut unread = [0_u8; 256];
    // SAFETY: sigfillset fills `all`; a Ctrl-C is for the program, whose handlers are still installed here. Nobody
    // in this child uses any other descriptor again: open here, a pipe of the program's would seem never to end.
    // fd 0 is the connection from then on, and `unread` has the length that is told.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut());
        libc::dup2(connection.as_raw_fd(), libc::STDIN_FILENO);
        close_all_from(1);
        while libc::recv(0, unread.as_mut_ptr().cast(), unread.len(), 0) > 0 {}
    }
    // Its number is closed already.
    let _ = connection.into_raw_fd();
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

/// Where execvp looks if PATH is not set: execvp(3).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// The file that execvp would try first: one that is there, executable ones before others. Async-signal-safe.
fn first_on_path<'a>(name: &[u8], path: &[u8], buffer: &'a mut [u8]) -> Option<&'a Path> {
    let mut found = 0;
    for mode in [libc::X_OK, libc::F_OK] {
        for directory in path.split(|&byte| byte == b':') {
            // With a slash in it, the name is a path itself; an empty directory is the working directory.
            let parts: [&[u8]; 4] = match (name.contains(&b'/'), directory.is_empty()) {
                (true, _) => [b"", b"", name, b"\0"],
                (_, true) => [b"./", b"", name, b"\0"],
                _ => [directory, b"/", name, b"\0"],
            };
            let length: usize = parts.iter().map(|part| part.len()).sum();
            if found > 0 || length > buffer.len() {
                continue;
            }
            let mut at = 0;
            for part in parts {
                buffer[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            // SAFETY: the buffer now begins with a C string.
            if unsafe { libc::access(buffer.as_ptr().cast(), mode) } == 0 {
                found = length - 1;
            }
        }
    }
    (found > 0).then(|| Path::new(OsStr::from_bytes(&buffer[..found])))
}

/// In the program: the file that PATH has for mpiexec, and whether it is known for Open MPI's.
pub fn on_path(name: &CStr, path: Option<&OsStr>) -> (Option<PathBuf>, bool) {
    let path = path.map_or(DEFAULT_PATH, |path| path.as_bytes());
    let mut buffer = [0; libc::PATH_MAX as usize];
    let file = first_on_path(name.to_bytes(), path, &mut buffer).map(Path::to_path_buf);
    let open_mpis = file.as_deref().is_some_and(is_open_mpis);
    (file, open_mpis)
}

/// Open MPI installs ompi_info beside its mpiexec, unless that is a link to prterun, orterun or, on Debian,
/// mpiexec.openmpi. MPICH's, which may be in the same directory there, is a link to mpiexec.hydra.
fn is_open_mpis(file: &Path) -> bool {
    let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let name = real.file_name().unwrap_or_default().as_bytes();
    match name {
        b"mpiexec" | b"mpirun" => real.with_file_name("ompi_info").exists(),
        _ => {
            name.ends_with(b"prterun") || name.ends_with(b"orterun") || name.ends_with(b".openmpi")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;

    use proptest::prelude::*;

    use super::*;

    fn recognise(argv: &[&str]) -> Option<Launch> {
        let strings: Vec<_> = argv
            .iter()
            .map(|word| CString::new(*word).unwrap())
            .collect();
        let mut pointers: Vec<_> = strings.iter().map(|word| word.as_ptr()).collect();
        pointers.push(std::ptr::null());
        // SAFETY: null-terminated, of C strings that live until the end of this function.
        unsafe { Launch::recognise(pointers.as_ptr()) }
    }

    #[test]
    fn mpichs_command_line_is_recognised() {
        let rest = ["default_interface", "default_key", "4711"];
        let plain = [&["mpiexec", "-pmi_args", "43210"], &rest[..]].concat();
        assert_eq!(recognise(&plain), Some(Launch { port: 43210 }));
        let verbose = [&["mpiexec", "-v", "-pmi_args", "43210"], &rest[..]].concat();
        assert_eq!(recognise(&verbose), Some(Launch { port: 43210 }));
    }

    #[test]
    fn what_users_run_is_not() {
        assert_eq!(recognise(&[]), None);
        assert_eq!(recognise(&["mpiexec"]), None);
        assert_eq!(recognise(&["mpiexec", "-n", "2", "./app"]), None);
        assert_eq!(recognise(&["mpiexec", "-pmi_args"]), None);
        assert_eq!(recognise(&["grep", "-pmi_args", "notes.txt"]), None);
        assert_eq!(recognise(&["mpiexec", "-pmi_args", "65536"]), None);
        // SAFETY: null is allowed.
        assert_eq!(unsafe { Launch::recognise(std::ptr::null()) }, None);
    }

    fn failure(how: How, file: Option<&str>, open_mpis: bool, library: &str) -> String {
        let mpi = Mpi::named(library.as_bytes());
        Failure {
            how,
            name: c"mpiexec",
            file: file.map(Path::new),
            open_mpis,
            mpi: Some(&mpi),
        }
        .to_string()
    }

    #[test]
    fn a_failure_says_what_was_run_how_it_ended_and_what_to_do() {
        assert_eq!(
            failure(
                How::NotRun(libc::ENOENT),
                None,
                false,
                "MPICH Version: 4.2.3"
            ),
            "mpiexec was not found on PATH, so MPI can launch nothing; this program has MPICH 4.2.3: put the \
             directory with the mpiexec of the program's MPI on PATH"
        );
        assert_eq!(
            failure(
                How::Exited(213),
                Some("/opt/ompi/bin/mpiexec"),
                true,
                "MPICH Version: 4.2.3"
            ),
            "/opt/ompi/bin/mpiexec ended with exit status 213 before it answered, so MPI can launch nothing; this \
             program has MPICH 4.2.3: that mpiexec is Open MPI's; put the one of the program's own MPI first on PATH"
        );
        for (library, known) in [
            ("MPICH Version: 3.4.3", true),
            ("MPICH Version: 4.0.3", true),
            ("MPICH Version: 4.1.3", false),
            ("MPICH Version: 4.3.1", true),
            ("MPICH Version: 4.3.2", false),
            ("MPICH Version: 5.0.2", false),
        ] {
            let text = failure(How::Exited(255), Some("/bin/mpiexec"), false, library);
            assert_eq!(text.contains("use MPICH 4.3.2 or later"), known, "{text}");
        }
    }

    #[test]
    fn path_is_searched_as_execvp_does() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for (directory, mode) in [
            ("empty", None),
            ("plain", Some(0o644)),
            ("good", Some(0o755)),
        ] {
            std::fs::create_dir(at(directory)).unwrap();
            if let Some(mode) = mode {
                use std::os::unix::fs::PermissionsExt;
                let file = at(directory).join("mpiexec");
                std::fs::write(&file, "").unwrap();
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        let search = |directories: &[&str]| {
            let path = std::env::join_paths(directories.iter().map(|name| at(name))).unwrap();
            let mut buffer = [0; 4096];
            first_on_path(b"mpiexec", path.as_bytes(), &mut buffer).map(Path::to_path_buf)
        };
        assert_eq!(search(&["empty"]), None);
        assert_eq!(search(&["empty", "plain"]), Some(at("plain/mpiexec")));
        assert_eq!(
            search(&["empty", "plain", "good"]),
            Some(at("good/mpiexec"))
        );
        assert_eq!(
            search(&["empty", &"long".repeat(2000), "good"]),
            Some(at("good/mpiexec"))
        );
    }

    proptest! {
        #[test]
        fn no_other_argv_is_taken_for_a_launch(argv in proptest::collection::vec("[^\0]{0,12}", 0..12)) {
            let words: Vec<_> = argv.iter().map(String::as_str).collect();
            prop_assert_eq!(recognise(&words), None);
        }
    }
}
