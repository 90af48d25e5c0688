//! An MPI library loaded into this process: for the command's own MPI processes, which are not linked with one.

use std::ffi::{CStr, CString, OsStr, c_void};
use std::os::unix::ffi::OsStrExt;

/// A libmpi.
pub struct Library(*mut c_void);

impl Library {
    /// Loads it, visible to all that is loaded, as it is in an application that is linked with it.
    ///
    /// # Errors
    /// What the dynamic linker says.
    pub fn load(file: &OsStr) -> Result<Library, String> {
        let path = CString::new(file.as_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: a C string; what a libmpi runs as it is loaded is what it runs in every application. dlerror's text is
        // copied before the next call that could change it.
        unsafe {
            let library = libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_GLOBAL);
            if library.is_null() {
                let why = libc::dlerror();
                let why = (!why.is_null()).then(|| CStr::from_ptr(why).to_string_lossy());
                return Err(why.unwrap_or_default().into_owned());
            }
            Ok(Library(library))
        }
    }

    /// The address of its function.
    ///
    /// # Errors
    /// It has none of this name.
    pub fn find(&self, name: &CStr) -> Result<*mut c_void, String> {
        find_in(self.0, name)
    }

    /// The address that an application finds: an interposed function, or its own.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn find_as_application(&self, name: &CStr) -> Result<*mut c_void, String> {
        find_in(libc::RTLD_DEFAULT, name)
    }
}

fn find_in(handle: *mut c_void, name: &CStr) -> Result<*mut c_void, String> {
    // SAFETY: a handle of dlopen's, and a C string.
    let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
    match address.is_null() {
        true => Err(format!("it has no {}", name.to_string_lossy())),
        false => Ok(address),
    }
}
