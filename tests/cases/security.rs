//! Another user can do nothing to a spawn, and a user's environment nothing to a program with more rights.
//!
//! These tests need root, who alone can become another user.

use std::ffi::CString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use crate::common::commands::{is_root, script};
use crate::common::*;

/// Whether this is root; otherwise the test is skipped.
fn can_become_another() -> bool {
    let root = is_root();
    if !root {
        skip("only root can become another user");
    }
    root
}

/// tests/apps/second_user.py, at work.
struct SecondUser {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl SecondUser {
    fn starts(python: &Path, words: &[&str]) -> SecondUser {
        let mut command = Command::new(python);
        command.arg(app("second_user.py")).args(words).env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("there is a Python");
        SecondUser {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().expect("it is piped")),
            child,
        }
    }

    fn hears(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it was not told to stop yet");
        writeln!(stdin, "{line}").expect("it listens");
    }

    fn says(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it is piped");
        line.trim().to_owned()
    }

    /// Tells it to stop, and what it has to tell.
    fn stops(mut self) -> String {
        self.stdin = None;
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("it is piped");
        assert!(self.child.wait().expect("it is our child").success());
        rest.trim().to_owned()
    }
}

impl Drop for SecondUser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One of the numbers that the second user tells, as `name=number`.
fn number(told: &str, name: &str) -> u64 {
    let mut words = told.split(' ');
    let number = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let number = number.and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("the second user tells no {name}: {told:?}"))
}

/// A directory for PATH with an mpiexec that becomes the real one when its working directory has a file `gate`.
fn gated_mpiexec() -> PathBuf {
    const SCRIPT: &str =
        "#!/bin/sh\nuntil [ -e gate ]; do /bin/sleep 0.05; done\nexec \"$MPIEXEC\" \"$@\"\n";
    static ONCE: Once = Once::new();
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("security");
    let file = directory.join("mpiexec");
    // Once, and only if it has changed: a script that some process has open for writing can't be run.
    ONCE.call_once(|| {
        if fs::read(&file).ok() != Some(SCRIPT.into()) {
            fs::create_dir_all(&directory).expect("target/tmp can be written");
            fs::write(&file, SCRIPT).expect("target/tmp can be written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("it is ours");
        }
    });
    directory
}

/// tests/apps/spawn.c, whose mpiexec waits.
fn spawning(mpi: Mpi) -> Program {
    Program::new(mpi.compile("spawn.c"))
        .arg("blind")
        .under(mpi)
        .library(true)
        .env("PATH", gated_mpiexec())
        .env("MPIEXEC", mpi.bin("mpiexec"))
}

/// The agent and its mpiexec, as soon as that is launched.
fn agent_and_mpiexec(session: &Session) -> (u32, u32) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let log = fs::read_to_string(session.dir().join("log")).unwrap_or_default();
        let launched = Report::lines(&log).find_map(|line| {
            let (_, pid) = line.text.split_once(" as process ")?;
            Some((line.pid, pid.parse().ok()?))
        });
        if let Some(found) = launched {
            return found;
        }
        assert!(Instant::now() < until, "mpiexec is not launched:\n{log}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The port on which this process listens (proc(5): /proc/net/tcp, where state 0A is LISTEN).
fn port_of(pid: u32) -> u16 {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("it is there");
    let own: Vec<_> = descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect();
    let table = fs::read_to_string("/proc/net/tcp").expect("there is TCP");
    let port = table.lines().skip(1).find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let socket = PathBuf::from(format!("socket:[{}]", words.get(9)?));
        let (_, port) = words[1].split_once(':')?;
        (words[3] == "0A" && own.contains(&socket)).then(|| u16::from_str_radix(port, 16).ok())?
    });
    port.expect("the agent listens while it waits for its bridge")
}

/// Lets mpiexec go on. How long it then takes until the program has its child.
fn open_gate(session: &mut Session) -> Duration {
    fs::write(session.dir().join("gate"), "").expect("the temporary directory can be written");
    let since = Instant::now();
    session.reported("spawned");
    since.elapsed()
}

#[track_caller]
fn check_spawned(report: &Report) {
    report.check_ended_well();
    report.check(report.count("spawned") == 1, "the spawn worked");
    report.check(report.count("child") == 1, "the child was there, once");
    report.check(report.count("wrong") == 0, "it is what was to be spawned");
}

/// What the second user tries is without effect: nobody answers, and the bridge gets through in time.
#[track_caller]
fn check_unanswered(how: &str, at_least: u64) {
    if !can_become_another() {
        return;
    }
    side_by_side(&SICK_AND_HEALTHY, |mpi| {
        let mut session = spawning(mpi).start();
        let (agent, _) = agent_and_mpiexec(&session);
        let port = port_of(agent).to_string();
        let mut second = SecondUser::starts(&mpi.bin("python"), &["knock", &port, how]);
        assert_eq!(second.says(), "knocked");
        let took = open_gate(&mut session).as_millis();
        let report = session.finish();
        let told = second.stops();
        println!("{}, {how}: the spawn took {took} ms; {told}", mpi.name);
        check_spawned(&report);
        report.check(took < 5000, "the bridge gets through within seconds");
        assert!(number(&told, "connected") >= at_least, "{told}");
        assert_eq!(number(&told, "bytes"), 0, "nobody answers: {told}");
    });
}

tests! {
    check_unanswered:
    a_second_user_who_connects_and_stays_silent_is_without_effect("silent", 1);
    a_second_user_without_the_key_is_without_effect("no key", 1000);
    a_second_user_with_a_wrong_key_is_without_effect("wrong key", 1000);
    a_second_user_who_sends_garbage_is_without_effect("garbage", 210);
}

#[test]
fn the_key_is_in_no_command_line_and_no_environment_that_a_second_user_can_read() {
    if !can_become_another() {
        return;
    }
    side_by_side(&SICK_AND_HEALTHY, |mpi| {
        let mut session = spawning(mpi).args(["work", "500"]).start();
        let (_, mpiexec) = agent_and_mpiexec(&session);
        let mut second = SecondUser::starts(&mpi.bin("python"), &["look"]);
        let until = Instant::now() + Duration::from_secs(2);
        // Between its fork and its exec it has the agent's environment.
        let key = loop {
            let environment =
                fs::read(format!("/proc/{mpiexec}/environ")).expect("root may read it");
            let mut variables = environment.split(|&byte| byte == 0);
            if let Some(address) = variables.find_map(|word| word.strip_prefix(b"SPAWNFIX_BRIDGE="))
            {
                let address = String::from_utf8_lossy(address).into_owned();
                break address.split(' ').next().expect("it has words").to_owned();
            }
            assert!(Instant::now() < until, "mpiexec has the bridge's address");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(key.len(), 32, "128 bits");
        second.hears(&key);
        assert_eq!(second.says(), "looking");
        open_gate(&mut session);
        let report = session.finish();
        let told = second.stops();
        println!("{}: {told}", mpi.name);
        check_spawned(&report);
        let (_, seen) = told.split_once("seen=").expect("it tells what it has seen");
        for program in ["mpiexec", "hydra_pmi_proxy", "spawnfix"] {
            assert!(
                seen.split(' ').any(|name| name == program),
                "the second user has seen {program}'s command line: {told}"
            );
        }
        assert_eq!(number(&told, "found"), 0, "{told}");
        assert_eq!(number(&told, "environments"), 0, "{told}");
    });
}

/// A process, which ends with this.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// More than any line of PMI is long: the kernel lets an argument have 128 KiB.
fn endless_line() -> Vec<u8> {
    vec![b'x'; 300 << 10]
}

/// Whether the other side hangs up within ten seconds.
fn is_hung_up_on(mut stream: impl Read + AsRawFd) -> bool {
    let until = Instant::now() + Duration::from_secs(10);
    let mut buffer = [0; 4096];
    while Instant::now() < until {
        let mut poll = libc::pollfd {
            fd: stream.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one pollfd, which lives here.
        if unsafe { libc::poll(&mut poll, 1, 1000) } == 1
            && matches!(stream.read(&mut buffer), Ok(0) | Err(_))
        {
            return true;
        }
    }
    false
}

/// This test in the program's place, and its agent.
fn as_program(log: &Path) -> (Ends, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is a loopback");
    let port = listener
        .local_addr()
        .expect("it is bound")
        .port()
        .to_string();
    let pid = std::process::id().to_string();
    let version = env!("CARGO_PKG_VERSION");
    let log = join("SPAWNFIX_LOG_FILE=", log);
    let mut command = Command::new(agent());
    command
        .args(["--agent", version, &pid, ""])
        .arg(log)
        .args(["--", "mpiexec"]);
    command.args([
        "mpiexec",
        "-pmi_args",
        &port,
        "default_interface",
        "default_key",
        &pid,
    ]);
    command.stdin(Stdio::null());
    let child = Ends(command.spawn().expect("the agent is there"));
    let (mut stream, _) = listener.accept().expect("the agent connects");
    let mut said = [0; 100];
    let count = stream.read(&mut said).expect("the agent greets");
    assert_eq!(&said[..count], b"cmd=singinit authtype=none\n");
    (child, stream)
}

#[test]
fn the_agent_hangs_up_on_a_program_whose_line_never_ends() {
    let place = tempfile::tempdir().expect("there is a place for temporary files");
    let log = place.path().join("log");
    // As its first line.
    let (child, mut stream) = as_program(&log);
    let _ = stream.write_all(&endless_line());
    assert!(is_hung_up_on(stream));
    drop(child);
    // When all went well until then.
    let (child, mut stream) = as_program(&log);
    let greeting = b"cmd=singinit pmi_version=1 pmi_subversion=1 stdio=yes authtype=none\n";
    stream.write_all(greeting).expect("the agent is there");
    stream
        .write_all(b"cmd=init pmi_version=1 pmi_subversion=1\n")
        .expect("the agent is there");
    let mut said = Vec::new();
    while !said.ends_with(b"cmd=response_to_init rc=0 pmi_version=1 pmi_subversion=1\n") {
        let mut buffer = [0; 1000];
        let count = stream.read(&mut buffer).expect("the agent answers");
        assert_ne!(count, 0, "{:?}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&buffer[..count]);
    }
    let _ = stream.write_all(&endless_line());
    assert!(is_hung_up_on(stream));
    let log = fs::read_to_string(log).expect("the agent logs");
    assert!(
        log.contains("ERROR: the application sends what is not PMI"),
        "{log}"
    );
    drop(child);
}

#[test]
fn the_bridge_refuses_a_process_manager_whose_line_never_ends() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is a loopback");
    let port = listener.local_addr().expect("it is bound").port();
    let key = "0123456789abcdef0123456789abcdef";
    let (mut manager, its) = UnixStream::pair().expect("there are sockets");
    let mut command = Command::new(agent());
    command.arg("--bridge");
    command.env("SPAWNFIX_BRIDGE", format!("{key} {port} 127.0.0.1"));
    let fd = its.as_raw_fd();
    command.env("PMI_FD", fd.to_string());
    // SAFETY: fcntl is async-signal-safe; the descriptor is open, and is to stay so.
    unsafe {
        command.pre_exec(move || {
            libc::fcntl(fd, libc::F_SETFD, 0);
            Ok(())
        });
    }
    let mut bridge = Ends(command.spawn().expect("the bridge is there"));
    drop(its);
    let writer = std::thread::spawn(move || {
        let _ = manager.write_all(&endless_line());
        manager
    });
    assert!(!bridge.0.wait().expect("it is our child").success());
    let _ = writer.join();
    listener.set_nonblocking(true).expect("it is ours");
    assert!(
        listener.accept().is_err(),
        "it does not say that it is ready"
    );
}

/// An mpiexec whose bridge knows the key, and then sends a line that never ends.
const ENDLESS_BRIDGE: &str = r#"
import os, socket, sys
key, port, host = os.environ["SPAWNFIX_BRIDGE"].split(" ")
agent = socket.create_connection((host, int(port)))
agent.sendall(f"{key}{os.getpid():08x}".encode())
assert agent.recv(len(key), socket.MSG_WAITALL) == key.encode()
agent.recv(1)
try:
    agent.sendall(b"x" * (300 << 10))
    while agent.recv(65536):
        pass
except OSError:
    pass
sys.exit(1)
"#;

#[test]
fn the_agent_hangs_up_on_a_bridge_whose_line_never_ends() {
    side_by_side(&SICK_AND_HEALTHY, |mpi| {
        let place = tempfile::tempdir().expect("there is a place for temporary files");
        let python = mpi.bin("python");
        script(
            place.path().join("mpiexec"),
            &format!("#!{}{ENDLESS_BRIDGE}", python.display()),
        );
        let lonely = mpi.lonely();
        let program = Program::new(mpi.compile("attempts.c"))
            .under(mpi)
            .library(true);
        let program = program
            .env("PATH", place.path())
            .env("LD_LIBRARY_PATH", mpi.library_path(&lonely));
        let report = program.env("SPAWNFIX_INTERACTIVE", "1").run();
        report.check(report.code() == Some(0), "the program goes on to its end");
        let attempt = report.fact("attempt").unwrap_or_default();
        report.check(attempt.contains(" failed "), "the spawn is an MPI error");
        report.check(report.left.is_empty(), "nothing is left behind");
    });
}

/// A program with a log, into this file, through whatever is there.
fn log_into(file: &Path) -> Output {
    let mut command = Command::new("/bin/true");
    command
        .env("LD_PRELOAD", library())
        .env("SPAWNFIX_LOG", "debug");
    command
        .env("SPAWNFIX_LOG_FILE", file)
        .output()
        .expect("there is a /bin/true")
}

#[test]
fn the_log_is_not_written_through_a_second_users_link() {
    if !can_become_another() {
        return;
    }
    let place = tempfile::tempdir().expect("there is a place for temporary files");
    let own = place.path().join("file of this user's");
    fs::write(&own, "as it was\n").expect("it is ours");
    // The kernel follows no such link in a sticky directory where fs.protected_symlinks is 1; in a plain one it does.
    for (name, mode) in [("sticky", 0o1777), ("plain", 0o777)] {
        let directory = place.path().join(name);
        fs::create_dir(&directory).expect("it is ours");
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).expect("it is ours");
        let made = place.path().join(format!("made in {name}"));
        let link = |link: &str, to: &Path, owner: u32| {
            let link = directory.join(link);
            symlink(to, &link).expect("the directory can be written");
            lchown(&link, Some(owner), Some(owner)).expect("root may");
            link
        };
        for (what, to) in [("there", &own), ("nowhere", &made)] {
            let theirs = link(&format!("their link to {what}"), to, SECOND_USER);
            let protected = fs::read_to_string("/proc/sys/fs/protected_symlinks")
                .is_ok_and(|value| value.trim() != "0");
            if what == "there" && (mode == 0o777 || !protected) {
                // Without our care it would be followed.
                fs::OpenOptions::new()
                    .append(true)
                    .open(&theirs)
                    .expect("the kernel lets root");
            }
            let output = log_into(&theirs);
            assert!(output.status.success());
            assert_eq!(
                fs::read_to_string(&own).expect("it is there"),
                "as it was\n"
            );
            assert!(!made.exists(), "{}", made.display());
        }
        // One's own link is followed.
        let target = place.path().join(format!("log of {name}"));
        fs::write(&target, "").expect("it is ours");
        let ours = link("our link", &target, 0);
        assert!(log_into(&ours).status.success());
        let log = fs::read_to_string(&target).expect("it is there");
        assert!(log.contains("is loaded"), "{log}");
    }
}

/// Linux's overflow uid, nobody's: tests/apps/second_user.py's, too.
const SECOND_USER: u32 = 65534;

/// A library of glibc's that nothing needs, in a directory that ld.so trusts.
fn spare_library() -> Option<PathBuf> {
    let directories = [
        "/lib/x86_64-linux-gnu",
        "/lib/aarch64-linux-gnu",
        "/lib64",
        "/lib",
    ];
    let files = directories.map(|directory| Path::new(directory).join("libBrokenLocale.so.1"));
    files.into_iter().find(|file| file.is_file())
}

/// What cat says of its own mappings, run by the second user with this library in place of the spare one: the log's
/// text and what it printed. In a mount namespace of its own, which ends with it; `None`: root may have none here.
fn second_users_cat(place: &Path, cat: &Path, spare: &Path) -> Option<(String, String)> {
    let log = place.join("log");
    let _ = fs::remove_file(&log);
    let as_path = |path: &Path| CString::new(path.as_os_str().as_bytes()).expect("a path");
    let (from, onto) = (as_path(&place.join("libspawnfix.so")), as_path(spare));
    let mut command = Command::new(cat);
    command.arg("/proc/self/maps").env_clear();
    command.env("LD_PRELOAD", spare.file_name().expect("it is a file"));
    command
        .env("SPAWNFIX_LOG", "debug")
        .env("SPAWNFIX_LOG_FILE", &log);
    command.env("SPAWNFIX_GUARD", "nonsense");
    // SAFETY: system calls only; the strings live in the closure.
    unsafe {
        command.pre_exec(move || {
            let private = libc::MS_REC | libc::MS_PRIVATE;
            let null = std::ptr::null();
            let done = libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(null, c"/".as_ptr(), null, private, null.cast()) == 0
                && libc::mount(
                    from.as_ptr(),
                    onto.as_ptr(),
                    null,
                    libc::MS_BIND,
                    null.cast(),
                ) == 0
                && libc::setgroups(0, null.cast()) == 0
                && libc::setgid(SECOND_USER) == 0
                && libc::setuid(SECOND_USER) == 0;
            if done {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => return None,
        Err(error) => panic!("cat in a mount namespace of its own: {error}"),
    };
    let maps = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Some((maps, said + &fs::read_to_string(log).unwrap_or_default()))
}

#[test]
fn in_a_setuid_program_nothing_of_the_users_environment_counts() {
    if !can_become_another() {
        return;
    }
    let Some(spare) = spare_library() else {
        return skip("glibc's libBrokenLocale.so.1 is in no directory that is known here");
    };
    let place =
        tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("target/tmp can be written");
    // The second user's log is made here.
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
    let copy = |from: &Path, name: &str, mode: u32| {
        let file = place.path().join(name);
        fs::copy(from, &file).expect("there is room");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("it is ours");
        file
    };
    // ld.so preloads into a setuid program only what is setuid itself, from a directory that it trusts (ld.so(8)).
    copy(&library(), "libspawnfix.so", 0o4755);
    let plain = copy(Path::new("/bin/cat"), "cat", 0o755);
    let setuid = copy(Path::new("/bin/cat"), "setuid-cat", 0o4755);
    let loaded = spare
        .file_name()
        .expect("it is a file")
        .to_string_lossy()
        .into_owned();

    let Some((maps, log)) = second_users_cat(place.path(), &plain, &spare) else {
        return skip(
            "root may not make a mount namespace here, as in a container without CAP_SYS_ADMIN",
        );
    };
    assert!(maps.contains(&loaded), "it is loaded:\n{maps}");
    assert!(
        log.contains("is loaded") && log.contains("SPAWNFIX_GUARD=nonsense"),
        "{log}"
    );

    let seen = second_users_cat(place.path(), &setuid, &spare);
    let (maps, log) = seen.expect("it worked a moment ago");
    assert!(maps.contains(&loaded), "it is loaded there, too:\n{maps}");
    assert_eq!(
        log, "",
        "it reads no setting, writes no log, and says nothing"
    );
}
