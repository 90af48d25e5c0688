//! What the library asks macOS in place of Linux.

use libc::c_int;

/// Whether the process has more rights than its user.
pub fn is_secure_execution() -> bool {
    unsafe extern "C" {
        fn issetugid() -> c_int;
    }
    // SAFETY: issetugid has no arguments and only asks the kernel.
    unsafe { issetugid() != 0 }
}

/// Fills in the file from which the code at this address was loaded, and gives the path's length. Between fork and
/// exec: a system call (libproc.h).
pub fn file_of_code(address: usize, path: &mut [u8]) -> Option<usize> {
    let size = path.len() as u32;
    // SAFETY: it fills as much of the buffer as it returns.
    let length = unsafe {
        libc::proc_regionfilename(
            libc::getpid(),
            address as u64,
            path.as_mut_ptr().cast(),
            size,
        )
    };
    usize::try_from(length).ok().filter(|&length| length > 0)
}

/// The file names of all loaded images but the main executable, in load order.
pub fn loaded_objects() -> Vec<std::ffi::CString> {
    unsafe extern "C" {
        fn _dyld_image_count() -> u32;
        fn _dyld_get_image_name(index: u32) -> *const libc::c_char;
    }
    let mut names = Vec::new();
    // SAFETY: an index that has meanwhile gone gives null; a name stays as long as its image does, and one that is
    // unloaded by another thread just now is the application's own race with its MPI call.
    unsafe {
        for index in 1.._dyld_image_count() {
            let name = _dyld_get_image_name(index);
            if !name.is_null() {
                names.push(std::ffi::CStr::from_ptr(name).to_owned());
            }
        }
    }
    names
}
