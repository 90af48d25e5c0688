//! What C calls `char **`.

use std::ffi::CStr;

use libc::c_char;

/// The strings of a null-terminated array; a null array has none. Async-signal-safe.
///
/// # Safety
/// The array and its strings must be C's, and stay as they are while the iterator or what it yielded is in use.
pub unsafe fn c_strings<'a>(array: *const *const c_char) -> impl Iterator<Item = &'a CStr> + Clone {
    (0..)
        .take_while(move |_| !array.is_null())
        // SAFETY: the array ends with a null, at which the iterator ends for good: `at` is not past it.
        .map(move |at| unsafe { *array.add(at) })
        .take_while(|string| !string.is_null())
        // SAFETY: by this function's contract.
        .map(|string| unsafe { CStr::from_ptr(string) })
}
