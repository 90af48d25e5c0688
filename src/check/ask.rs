//! What programs and MPI libraries say when they are asked.

use std::ffi::{CStr, CString, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::output::print_flushed;

/// How long a program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(10);

/// What this program is called with to load an MPI library and ask for its version, as a process of its own.
pub const WHAT_LIBRARY: &[u8] = b"--library-version";

/// What a command says; it gets no stdin and ten seconds. A status: it has ended in that time.
pub fn answer(command: &mut Command) -> (Option<ExitStatus>, String) {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let Ok(mut child) = command.spawn() else {
        return (None, String::new());
    };
    let said = Arc::new(Mutex::new(Vec::new()));
    let mut readers = Vec::new();
    let mut read = |from: Option<Box<dyn Read + Send>>| {
        let said = said.clone();
        readers.extend(from.map(|mut from| {
            std::thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = from.read(&mut chunk) {
                    said.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend(&chunk[..count]);
                }
            })
        }));
    };
    read(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    read(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let began = Instant::now();
    let mut status = None;
    while status.is_none() && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
        status = child.try_wait().ok().flatten();
    }
    // What a child of it still holds open is not waited for long.
    let ended = Instant::now();
    while status.is_some()
        && readers.iter().any(|reader| !reader.is_finished())
        && ended.elapsed() < Duration::from_secs(1)
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    if let (Ok(group), true) = (i32::try_from(child.id()), status.is_none()) {
        // SAFETY: kill takes two integers; the group is our child's, which nobody has waited for.
        unsafe { libc::kill(-group, libc::SIGKILL) };
        let _ = child.wait();
    }
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    (status, String::from_utf8_lossy(&said).into_owned())
}

/// `spawnfix --library-version FILE`: loads an MPI library and prints what it says of itself.
pub fn answer_what_library(file: Option<&OsString>) -> ExitCode {
    type Ask = unsafe extern "C" fn(*mut libc::c_char, *mut libc::c_int) -> libc::c_int;
    let Some(file) = file.and_then(|file| CString::new(file.as_bytes()).ok()) else {
        return ExitCode::from(2);
    };
    let mut text = [0_u8; 16384]; // MPI_MAX_LIBRARY_VERSION_STRING is 8192 at most
    let mut length = 0;
    // SAFETY: C strings; the function is MPI's, may be called before MPI_Init, and fills less than the buffer, whose
    // last byte stays 0.
    unsafe {
        let library = libc::dlopen(file.as_ptr(), libc::RTLD_LAZY | libc::RTLD_GLOBAL);
        let ask = if library.is_null() {
            library
        } else {
            libc::dlsym(library, c"MPI_Get_library_version".as_ptr())
        };
        if ask.is_null() {
            return ExitCode::FAILURE;
        }
        std::mem::transmute::<*mut libc::c_void, Ask>(ask)(text.as_mut_ptr().cast(), &mut length);
    }
    print_flushed(
        &CStr::from_bytes_until_nul(&text)
            .unwrap_or_default()
            .to_string_lossy(),
    );
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_says_is_had_even_if_it_leaves_a_child_behind() {
        let began = Instant::now();
        let (status, said) =
            answer(Command::new("sh").args(["-c", "echo here; echo there >&2; sleep 5 & exit 3"]));
        assert_eq!(status.and_then(|status| status.code()), Some(3));
        assert!(said.contains("here") && said.contains("there"));
        assert!(began.elapsed() < Duration::from_secs(4));
    }
}
