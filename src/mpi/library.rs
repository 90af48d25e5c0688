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

    /// Its function.
    ///
    /// # Errors
    /// It has none of this name.
    ///
    /// # Safety
    /// `F` must be the function pointer of this function's prototype.
    pub unsafe fn function<F: Copy>(&self, name: &CStr) -> Result<F, String> {
        // SAFETY: by this function's contract.
        unsafe { function_in(self.0, name) }
    }

    /// The function that an application calls: an interposed one, or the library's own.
    ///
    /// # Errors
    /// There is none of this name.
    ///
    /// # Safety
    /// As for [`Library::function`].
    pub unsafe fn as_application<F: Copy>(&self, name: &CStr) -> Result<F, String> {
        // SAFETY: by this function's contract.
        unsafe { function_in(libc::RTLD_DEFAULT, name) }
    }

    /// The address of an object.
    pub fn object(&self, name: &CStr) -> Option<usize> {
        // SAFETY: a handle of dlopen's, and a C string.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        (!address.is_null()).then_some(address as usize)
    }
}

/// # Safety
/// `F` must be the function pointer of this function's prototype.
unsafe fn function_in<F: Copy>(handle: *mut c_void, name: &CStr) -> Result<F, String> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: a handle of dlopen's, and a C string. A function pointer has the size of an address, and by this function's
    // contract it is of this type.
    unsafe {
        let address = libc::dlsym(handle, name.as_ptr());
        match address.is_null() {
            true => Err(format!("it has no {}", name.to_string_lossy())),
            false => Ok(std::mem::transmute_copy(&address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_loaded_and_what_it_lacks_is_named() {
        let name = if cfg!(target_os = "macos") {
            "libSystem.dylib"
        } else {
            "libc.so.6"
        };
        let libc = Library::load(name.as_ref()).unwrap();
        let own: unsafe extern "C" fn() -> libc::pid_t = libc::getpid;
        assert_eq!(libc.object(c"getpid"), Some(own as usize));
        assert_eq!(libc.object(c"no_such_object"), None);
        type Getpid = unsafe extern "C" fn() -> libc::pid_t;
        // SAFETY: getpid's prototype; it has no preconditions.
        let said = unsafe {
            let pids = [
                libc.function::<Getpid>(c"getpid"),
                libc.as_application(c"getpid"),
            ];
            assert_eq!(
                pids.map(|getpid| getpid.unwrap()() as u32),
                [std::process::id(); 2]
            );
            libc.function::<Getpid>(c"no_such_function").unwrap_err()
        };
        assert_eq!(said, "it has no no_such_function");
        let missing = Library::load("/no/such/libmpi.so".as_ref()).err().unwrap();
        assert!(missing.contains("/no/such/libmpi.so"), "{missing}");
    }
}
