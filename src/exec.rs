//! execve(2) with a changed environment.
//!
//! std's exec does not serve: it empties the signal mask, and it calls execvp. Where the library is preloaded into this
//! process as well, it would take that call for a launch.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;

/// Changes to the environment: a variable's new value, or none. The last of several counts.
pub type Changes = Vec<(OsString, Option<OsString>)>;

/// Executes this file, called by these words. It returns only if that fails.
pub fn execve(file: &CStr, words: &[OsString], changes: &Changes) -> io::Error {
    let strings = |words: Vec<OsString>| -> Result<Vec<CString>, _> {
        let words = words.into_iter().map(|word| CString::new(word.into_vec()));
        words.collect()
    };
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        let strings = strings.iter().map(|string| string.as_ptr());
        strings.chain([std::ptr::null()]).collect()
    };
    let (Ok(words), Ok(variables)) = (strings(words.to_vec()), strings(environment(changes)))
    else {
        return io::ErrorKind::InvalidInput.into();
    };
    let (argv, envp) = (pointers(&words), pointers(&variables));
    // SAFETY: a C string and two null-terminated arrays of C strings, all of which live until the end of this function.
    unsafe { libc::execve(file.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// This process's environment with these changes, as `NAME=value`.
fn environment(changes: &Changes) -> Vec<OsString> {
    let mut variables: BTreeMap<_, _> = std::env::vars_os().collect();
    for (name, value) in changes {
        match value {
            Some(value) => _ = variables.insert(name.clone(), value.clone()),
            None => _ = variables.remove(name),
        }
    }
    let variables = variables.into_iter().map(|(mut variable, value)| {
        variable.push("=");
        variable.push(value);
        variable
    });
    variables.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_several_changes_counts_and_all_else_stays() {
        let change = |name: &str, value: Option<&str>| (name.into(), value.map(OsString::from));
        let own = std::env::vars_os().count();
        assert!(std::env::var_os("PATH").is_some());
        let changed = environment(&vec![
            change("PATH", Some("/x")),
            change("SPAWNFIX_LOG", Some("a")),
            change("SPAWNFIX_LOG", Some("b")),
            change("NO_SUCH", None),
        ]);
        assert_eq!(changed.len(), own + 1);
        assert!(changed.contains(&"PATH=/x".into()) && changed.contains(&"SPAWNFIX_LOG=b".into()));
        let without = environment(&vec![change("PATH", Some("/x")), change("PATH", None)]);
        assert_eq!(without.len(), own - 1);
    }
}
