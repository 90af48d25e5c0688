//! The environment, as a library that is loaded into every process may read it.

use std::ffi::CStr;

use libc::c_char;

/// What the names of the variables begin with that the library may mind: its own, and the process managers'.
const PREFIXES: [&[u8]; 2] = [b"SPAWNFIX_", b"PMI"];

/// Each `NAME=value` of the environment that begins with one of [`PREFIXES`], without copying it.
///
/// # Safety
/// Nothing may change the environment while the iterator or what it yielded is in use.
pub unsafe fn variables<'a>() -> impl Iterator<Item = &'a [u8]> {
    // SAFETY: the caller sees to it that the array stays as it is.
    let environ = unsafe { pointer() };
    let variables = (0..).map_while(move |at| {
        if environ.is_null() {
            return None;
        }
        // SAFETY: environ ends with a null, at which this iterator ends for good (`fuse`): `at` is not past it.
        let variable = unsafe { *environ.add(at) };
        (!variable.is_null()).then_some(variable)
    });
    // Every process pays for this loop over its environment: most variables end here, at their first byte.
    let variables = variables.fuse().filter(|&variable| {
        let begins = |prefix: &[u8]| {
            let mut prefix = prefix.iter().enumerate();
            // SAFETY: `variable` is a C string, and the comparison ends with the first byte that differs, at the latest
            // its final zero.
            prefix.all(|(at, &byte)| unsafe { *variable.add(at) } == byte as c_char)
        };
        PREFIXES.iter().any(|prefix| begins(prefix))
    });
    // SAFETY: `variable` is a C string that stays as it is.
    variables.map(|variable| unsafe { CStr::from_ptr(variable) }.to_bytes())
}

/// The C library's `environ`: a null-terminated array of C strings, or null.
///
/// # Safety
/// The pointer is good as long as nothing changes the environment.
pub unsafe fn pointer() -> *mut *const c_char {
    #[cfg(target_vendor = "apple")]
    // SAFETY: _NSGetEnviron always returns the address of environ; a dylib cannot name environ itself.
    return unsafe { (*libc::_NSGetEnviron()).cast() };
    #[cfg(not(target_vendor = "apple"))]
    {
        unsafe extern "C" {
            static environ: *mut *const c_char;
        }
        // SAFETY: the C library defines environ and has set it before any ctor runs.
        unsafe { environ }
    }
}

/// Whether the process has more rights than its user: setuid, setgid, file capabilities. In this secure-execution mode
/// (ld.so(8)) the environment is another user's word.
pub fn is_anothers() -> bool {
    #[cfg(target_os = "linux")]
    {
        // getauxval(3) would be one more version of glibc's symbols to compare, in every process.
        std::fs::read("/proc/self/auxv").map_or(true, |vector| is_secure(&vector))
    }
    #[cfg(not(target_os = "linux"))]
    // SAFETY: issetugid has no arguments and only asks the kernel.
    return unsafe { issetugid() } != 0;
}

/// What an auxiliary vector (proc(5): /proc/PID/auxv) says of it.
#[cfg(target_os = "linux")]
pub fn is_secure(vector: &[u8]) -> bool {
    const WORD: usize = size_of::<usize>();
    let words = vector.chunks_exact(WORD).map(|word| {
        let mut bytes = [0; WORD];
        bytes.copy_from_slice(word);
        usize::from_ne_bytes(bytes)
    });
    let words: Vec<usize> = words.collect();
    words
        .chunks_exact(2)
        .any(|entry| entry[0] == libc::AT_SECURE as usize && entry[1] != 0)
}

#[cfg(not(target_os = "linux"))]
unsafe extern "C" {
    fn issetugid() -> libc::c_int;
}
