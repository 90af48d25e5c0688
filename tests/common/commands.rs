//! Commands that run to their end without a terminal, and the files that they are about.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::{join, skip};

/// What Debian's packages install, nothing twice: Lmod drops doubles.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
/// The user and group `nobody`.
pub const NOBODY_ID: u32 = 65534;

/// A place for a test's files, which any user may read.
pub fn place() -> TempDir {
    let dir = TempDir::with_prefix("spawnfix-test-").expect("there is a place for temporary files");
    mode(dir.path(), 0o755);
    dir
}

pub fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

/// An executable file with these contents.
pub fn script(path: impl Into<PathBuf>, contents: &str) -> PathBuf {
    let path = path.into();
    fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("it is ours");
    // Written by another process: a descriptor open for writing, copied into another test's fork, would make it "busy".
    let mut writer = Command::new("sh")
        .args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let mut stdin = writer.stdin.take().expect("piped");
    stdin.write_all(contents.as_bytes()).expect("it reads");
    drop(stdin);
    assert!(writer.wait().expect("it is our child").success());
    path
}

/// A C program of this text, compiled with these options.
pub fn compiled(path: impl Into<PathBuf>, text: &str, compiler: &str, options: &[&str]) -> PathBuf {
    let path = path.into();
    let source = path.with_extension("c");
    fs::write(&source, text).expect("it is ours");
    says(
        command(compiler)
            .args(options)
            .arg("-o")
            .arg(&path)
            .arg(&source),
    );
    path
}

/// A program that does nothing.
pub const EMPTY: &str = "int main(void) { return 0; }\n";

/// Whether this tool is here. If not, the test is skipped.
pub fn has(tool: &str) -> bool {
    let here = PATH
        .split(':')
        .any(|dir| Path::new(dir).join(tool).exists());
    if !here {
        skip(&format!("there is no {tool} here"));
    }
    here
}

/// A command with no environment but a PATH, a HOME and the suite's SPAWNFIX_GUARD.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/") // Open MPI's mpiexec does not even tell its version without one
        .env("LC_ALL", "C.UTF-8");
    if let Some(guard) = std::env::var_os("SPAWNFIX_GUARD") {
        command.env("SPAWNFIX_GUARD", guard);
    }
    command
}

/// A script for /bin/sh.
pub fn sh(script: &str) -> Command {
    let mut command = command("/bin/sh");
    command.arg("-c").arg(script).arg("sh");
    command
}

/// A PATH with these directories in front.
pub fn path_with(dirs: &[&Path]) -> OsString {
    let dirs: Vec<_> = dirs.iter().map(|dir| dir.as_os_str()).collect();
    join(join(dirs.join(OsStr::new(":")), ":"), PATH)
}

/// Runs it, for a minute at most.
pub fn run(command: &mut Command) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let group = -libc::pid_t::try_from(child.id()).expect("a pid");
    let (ended, watched) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        if watched.recv_timeout(Duration::from_secs(60)).is_err() {
            // SAFETY: no memory is involved, and the group is our child's: nobody has waited for it yet.
            unsafe { libc::kill(group, libc::SIGKILL) };
        }
    });
    fn read(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.read_to_end(&mut bytes);
            bytes
        })
    }
    let stdout = read(child.stdout.take().expect("piped"));
    let stderr = read(child.stderr.take().expect("piped"));
    let [stdout, stderr] = [stdout, stderr].map(|reader| reader.join().expect("it reads"));
    let _ = ended.send(());
    watch.join().expect("it waits");
    let status = child.wait().expect("it is our child");
    Output {
        status,
        stdout,
        stderr,
    }
}

/// Runs it. It must succeed without a word on stderr. What it printed.
pub fn says(command: &mut Command) -> String {
    let output = run(command);
    let well = output.status.success() && output.stderr.is_empty();
    assert!(well, "{command:?}: {output:?}");
    text(&output.stdout)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn is_root() -> bool {
    // SAFETY: geteuid has no arguments and always succeeds.
    unsafe { libc::geteuid() == 0 }
}
