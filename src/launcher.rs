//! The mpiexec that libmpi launches behind a singleton: how it is recognised.
//!
//! MPICH (PMII_singinit in src/pmi/src/pmi_v1.c) listens on a port, forks, and the child calls
//!
//! ```c
//! execvp("mpiexec", {"mpiexec", ["-v",] "-pmi_args", PORT, "default_interface", "default_key", PID, NULL})
//! ```
//!
//! while the program waits for a connection to PORT. Intel MPI and MVAPICH have that code from MPICH.

use std::ffi::CStr;

use libc::c_char;

/// The launch of an mpiexec for a singleton.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Where the program waits for the launcher's answer.
    pub port: u16,
}

/// How far into argv the option can stand. MPICH has it first or second; a program's own argv may be long.
const LAST_PLACE: usize = 4;

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
}

/// The variable by which a process manager tells a program that it started it, if one is set.
///
/// PMI_*: MPICH's, Intel MPI's and Slurm's; PMIX_*: Open MPI's, Slurm's, Flux's.
pub fn process_manager() -> Option<&'static str> {
    [
        "PMI_RANK",
        "PMI_FD",
        "PMI_PORT",
        "PMIX_RANK",
        "PMIX_NAMESPACE",
    ]
    .into_iter()
    .find(|name| std::env::var_os(name).is_some())
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

    proptest! {
        #[test]
        fn no_other_argv_is_taken_for_a_launch(argv in proptest::collection::vec("[^\0]{0,12}", 0..12)) {
            let words: Vec<_> = argv.iter().map(String::as_str).collect();
            prop_assert_eq!(recognise(&words), None);
        }
    }
}
