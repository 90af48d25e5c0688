//! The application's MPI: the real functions behind our hooks, and its version.

use std::ffi::{CStr, CString};
use std::num::NonZeroUsize;

use libc::{c_char, c_int, c_void};

use crate::mpi::Mpi;
#[cfg(target_vendor = "apple")]
use crate::preload::macos::loaded_objects;
use crate::shared::logging::Escaped;

/// A function of the application's MPI. While one lives, the library that has it stays loaded.
pub struct RealFn {
    address: NonZeroUsize,
    /// A reference that was taken to the library, or null.
    handle: *mut c_void,
}

impl RealFn {
    /// The function that the dynamic linker would have bound without us, or `None` if no MPI is loaded. It is looked
    /// up each time, as an MPI may be unloaded and another one loaded, and one look-up is nothing beside a spawn.
    ///
    /// Where several loaded libraries define it, the first is taken and a warning names them.
    pub fn find(name: &str) -> Option<RealFn> {
        let mut found = definitions(&CString::new(name).ok()?);
        if found.len() > 1 {
            let objects: Vec<_> = found.iter().map(RealFn::object).collect();
            log::warn!(
                "{name} is defined by several loaded libraries; the first is called: {}",
                objects.join(", ")
            );
        }
        (!found.is_empty()).then(|| found.swap_remove(0))
    }

    /// One that needs no reference to its library.
    pub fn at(address: NonZeroUsize) -> RealFn {
        RealFn {
            address,
            handle: std::ptr::null_mut(),
        }
    }

    /// The function's address.
    pub fn address(&self) -> usize {
        self.address.get()
    }

    /// The file that it was loaded from.
    pub fn object(&self) -> String {
        object(self.pointer())
    }

    fn pointer(&self) -> *const c_void {
        std::ptr::with_exposed_provenance(self.address())
    }
}

impl Drop for RealFn {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            // SAFETY: the handle is a dlopen's that was not closed yet.
            unsafe { libc::dlclose(self.handle) };
        }
    }
}

/// Asks the application's MPI library for its version, which may be done at any time, also before MPI_Init.
pub fn mpi_of_this_process() -> Mpi {
    type GetLibraryVersion = unsafe extern "C-unwind" fn(*mut c_char, *mut c_int) -> c_int;
    let Some(real) = RealFn::find("MPI_Get_library_version") else {
        return Mpi::from_version_text(b"");
    };
    // SAFETY: the address is that of MPI_Get_library_version, whose C prototype this is.
    let get = unsafe { std::mem::transmute::<usize, GetLibraryVersion>(real.address()) };
    let mut text = [0u8; VERSION_SIZE];
    let mut length: c_int = 0;
    // SAFETY: the buffer has the size that the MPI standard asks for; both pointers are good for the call.
    let code = unsafe { get(text.as_mut_ptr().cast(), &mut length) };
    let length = usize::try_from(length).unwrap_or(0).min(VERSION_SIZE);
    Mpi::from_version_text(if code == 0 { &text[..length] } else { b"" })
}

/// MPI_MAX_LIBRARY_VERSION_STRING, the largest there is: MPICH's and the standard ABI's.
const VERSION_SIZE: usize = 8192;

/// The distinct definitions of an MPI function in this process, ours left out, in the linker's order: what
/// RTLD_NEXT gives, then what each loaded object and its dependencies see, in load order.
///
/// RTLD_NEXT alone is not enough: a libmpi that came with a dlopen(RTLD_LOCAL), as Python's does, is not in it.
fn definitions(name: &CStr) -> Vec<RealFn> {
    let mut found: Vec<RealFn> = Vec::new();
    let new = |found: &[RealFn], address: *mut c_void| {
        let address = NonZeroUsize::new(address.expose_provenance())?;
        let is_known = found.iter().any(|real| real.address == address);
        (!is_known && !is_ours(address)).then_some(RealFn::at(address))
    };
    // SAFETY: `name` is a C string.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if let Some(real) = new(&found, next) {
        // The global scope decides; another library could only be reached through a handle of its own.
        return vec![real];
    }
    for object in loaded_objects() {
        // SAFETY: `object` is a C string. RTLD_NOLOAD: no constructor runs, at most a reference is added, which is
        // given back here or with the RealFn.
        unsafe {
            let handle = libc::dlopen(object.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            if handle.is_null() {
                continue;
            }
            match new(&found, libc::dlsym(handle, name.as_ptr())) {
                Some(real) => found.push(RealFn {
                    handle,
                    address: real.address,
                }),
                None => _ = libc::dlclose(handle),
            }
        }
    }
    found
}

/// Whether this address lies in this library.
fn is_ours(address: NonZeroUsize) -> bool {
    let base = |address: *const c_void| {
        // SAFETY: all zeroes is a Dl_info, of integers and pointers; dladdr takes any address.
        let info = unsafe {
            let mut info: libc::Dl_info = std::mem::zeroed();
            libc::dladdr(address, &mut info);
            info
        };
        info.dli_fbase
    };
    base(std::ptr::with_exposed_provenance(address.get())) == base(is_ours as *const c_void)
}

/// The file that an address was loaded from.
fn object(address: *const c_void) -> String {
    // SAFETY: all zeroes is a Dl_info; dladdr takes any address; the name it gives is a C string that stays as
    // long as the object is loaded, which the reference sees to.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(address, &mut info) == 0 || info.dli_fname.is_null() {
            return format!("{address:?}");
        }
        Escaped(CStr::from_ptr(info.dli_fname).to_bytes()).to_string()
    }
}

/// The file names of all loaded objects, in load order. The main program, which has none, is left out: were the
/// function its own, this library would not have been called.
#[cfg(target_os = "linux")]
fn loaded_objects() -> Vec<CString> {
    let mut names = Vec::new();
    {
        unsafe extern "C" fn note(
            info: *mut libc::dl_phdr_info,
            _: usize,
            names: *mut c_void,
        ) -> c_int {
            // SAFETY: dl_iterate_phdr hands over a good info, and the `names` that it was given below.
            unsafe {
                let (name, names) = ((*info).dlpi_name, &mut *names.cast::<Vec<CString>>());
                if !name.is_null() && *name != 0 {
                    names.push(CStr::from_ptr(name).to_owned());
                }
            }
            0
        }
        // SAFETY: `note` has the callback's prototype, and `names` outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(note), std::ptr::from_mut(&mut names).cast()) };
    }
    names
}
