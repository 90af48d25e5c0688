//! What C calls `char **`.

use std::ffi::CStr;

use libc::c_char;

/// The strings of a null-terminated array; a null array has none. Async-signal-safe.
///
/// # Safety
/// The array and its strings must be C's, and stay as they are while the iterator or what it yielded is in use.
pub unsafe fn c_strings<'a>(array: *const *const c_char) -> impl Iterator<Item = &'a CStr> + Clone {
    // SAFETY: by this function's contract.
    unsafe { pointers(array).map(|string| CStr::from_ptr(string)) }
}

/// The strings that begin with one of these prefixes. What differs ends at its first byte that does: the ctor is spared
/// a look-up of strlen.
///
/// # Safety
/// That of [`c_strings`].
pub unsafe fn c_strings_with<'a>(
    prefixes: &[&[u8]],
    array: *const *const c_char,
) -> impl Iterator<Item = &'a CStr> {
    let begins = |string: *const c_char, prefix: &[u8]| {
        let mut prefix = prefix.iter().enumerate();
        // SAFETY: a string is compared up to the first byte that differs, at the latest its final zero.
        prefix.all(|(at, &byte)| unsafe { *string.add(at) } == byte as c_char)
    };
    // SAFETY: by this function's contract.
    let strings = unsafe { pointers(array) };
    let found = strings.filter(move |&string| prefixes.iter().any(|prefix| begins(string, prefix)));
    // SAFETY: by this function's contract.
    found.map(|string| unsafe { CStr::from_ptr(string) })
}

/// # Safety
/// That of [`c_strings`].
unsafe fn pointers(array: *const *const c_char) -> impl Iterator<Item = *const c_char> + Clone {
    (0..)
        .take_while(move |_| !array.is_null())
        // SAFETY: the array ends with a null, at which the iterator ends for good: `at` is not past it.
        .map(move |at| unsafe { *array.add(at) })
        .take_while(|string| !string.is_null())
}
