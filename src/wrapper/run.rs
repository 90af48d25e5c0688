//! Running a command with the library loaded into it. The command takes over this process: pid, descriptors, signals, and
//! the caller's environment with the settings added.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use crate::exec::execve;
use crate::output::{eprint_prefixed, print_flushed, shell_word};
use crate::preload_list::System;
use crate::shared::child_words;
use crate::shared::logging::escape;
use crate::shared::paths;
use crate::shared::paths::NotFound;
use crate::wrapper::preload_env::{self, Variable};
use crate::wrapper::startup_state;

/// Runs a command, with these settings.
pub fn command(words: Vec<OsString>, settings: Vec<Variable>) -> ExitCode {
    let files = match paths::find(&words[0]) {
        Ok(files) => files,
        Err(why) => return say_not_found(&words[0], why),
    };
    with_library(|mut variables| {
        variables.extend(settings);
        execute(&files[0], words, variables)
    })
}

/// Becomes the child whose words these pieces carry, without the library.
pub fn child(pieces: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(words) = child_words::decode(pieces) else {
        eprint_prefixed("--child: arguments of the library's own, made on this host, are expected");
        return ExitCode::from(2);
    };
    match paths::find(&words[0]) {
        Ok(files) => execute(&files[0], words, Vec::new()),
        Err(why) => say_not_found(&words[0], why),
    }
}

/// Says why there is no such command. The exit status is a shell's.
pub fn say_not_found(name: &OsStr, why: NotFound) -> ExitCode {
    let shown = escape(name);
    eprint_prefixed(match why {
        NotFound::NotExecutable => format!("{shown}: can't be executed"),
        NotFound::Missing if name.as_bytes().contains(&b'/') => format!("{shown}: no such file"),
        NotFound::Missing => format!("{shown}: not found on PATH"),
    });
    ExitCode::from(why as u8)
}

/// Prints shell commands that set the variables, for `eval`.
pub fn print_env(settings: Vec<Variable>) -> ExitCode {
    with_library(|mut variables| {
        variables.extend(settings);
        for (name, value) in variables {
            print_flushed(&format!("{name}={}; export {name};\n", shell_word(&value)));
        }
        ExitCode::SUCCESS
    })
}

/// Called by another name: runs the next executable of that name on PATH that is not a link to this one.
pub fn by_another_name(name: &OsStr, arguments: Vec<OsString>) -> ExitCode {
    let name = Path::new(name).file_name().unwrap_or_default();
    let mut files = paths::find(name).unwrap_or_default().into_iter();
    let Some(file) = files.find(|file| !paths::is_wrapper(file)) else {
        let shown = escape(name);
        eprint_prefixed(format!("{shown}: found on PATH only as a link to spawnfix"));
        return ExitCode::from(NotFound::Missing as u8);
    };
    let words = std::iter::once(name.to_owned()).chain(arguments).collect();
    with_library(|variables| execute(&file, words, variables))
}

fn with_library(then: impl FnOnce(Vec<Variable>) -> ExitCode) -> ExitCode {
    match preload_env::here() {
        Ok((_, variables)) => then(variables),
        Err(complaint) => {
            eprint_prefixed(complaint);
            ExitCode::FAILURE
        }
    }
}

/// Executes this file with these words.
fn execute(file: &Path, words: Vec<OsString>, variables: Vec<Variable>) -> ExitCode {
    let (file, words) = started_as(System::HERE, file, words);
    let error = become_program(&file, words, variables);
    let (why, status) = match error.raw_os_error() {
        // The file exists; the interpreter that it names does not.
        Some(libc::ENOENT) => ("its interpreter is not there".to_owned(), NotFound::Missing),
        _ => (
            format!("can't be executed: {error}"),
            NotFound::NotExecutable,
        ),
    };
    eprint_prefixed(format_args!("{}: {why}", escape(&file)));
    ExitCode::from(status as u8)
}

/// The file to execute, and its words. On macOS, System Integrity Protection removes DYLD_* from what /usr/bin/env starts,
/// so for a script that names env its interpreter is started.
fn started_as(system: System, file: &Path, words: Vec<OsString>) -> (OsString, Vec<OsString>) {
    let named = file.as_os_str().to_owned();
    let by_env = system == System::MacOs && paths::starts_with_env(file);
    match by_env.then(|| paths::interpreter_of(file)).flatten() {
        Some(mut interpreter) => {
            let program = interpreter[0].clone();
            interpreter.push(named);
            interpreter.extend(words.into_iter().skip(1));
            (program, interpreter)
        }
        None => (named, words),
    }
}

/// Returns only if it fails. As execvp(3) does, a file without `#!` is given to /bin/sh.
fn become_program(file: &OsStr, mut words: Vec<OsString>, variables: Vec<Variable>) -> io::Error {
    let set = |(name, value): Variable| (name.into(), Some(value));
    let changes = variables.into_iter().map(set).collect();
    let Ok(c_file) = CString::new(file.as_bytes()) else {
        return io::ErrorKind::InvalidInput.into();
    };
    startup_state::restore();
    let mut error = execve(&c_file, &words, &changes);
    if error.raw_os_error() == Some(libc::ENOEXEC) {
        words.splice(..1, ["sh".into(), file.to_owned()]);
        error = execve(c"/bin/sh", &words, &changes);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_macos_a_script_of_usr_bin_env_is_started_without_it() {
        let dir = tempfile::tempdir().unwrap();
        let started = |system, first_line: &str| {
            let file = dir.path().join("script");
            std::fs::write(&file, first_line).unwrap();
            let words = ["script", "x y", "*"].map(OsString::from).into();
            let (program, words) = started_as(system, &file, words);
            let words: Vec<_> = words
                .iter()
                .map(|word| word.to_str().unwrap().to_owned())
                .collect();
            let shown = format!("{}: {}", program.to_str().unwrap(), words.join("|"));
            shown.replace(file.to_str().unwrap(), "FILE")
        };
        let sh = paths::first("sh").unwrap().to_str().unwrap().to_owned();
        let env = "#!/usr/bin/env sh\n";
        assert_eq!(
            started(System::MacOs, env),
            format!("{sh}: {sh}|FILE|x y|*")
        );
        let options = "#!/usr/bin/env -S sh -e -u\n";
        assert_eq!(
            started(System::MacOs, options),
            format!("{sh}: {sh}|-e|-u|FILE|x y|*")
        );
        for (system, line) in [
            (System::Elf, env),
            (System::MacOs, "#!/bin/sh\n"),
            (System::MacOs, "#!/usr/bin/env no-such-program\n"),
            (System::MacOs, "no script"),
        ] {
            assert_eq!(started(system, line), "FILE: script|x y|*", "{line}");
        }
    }
}
