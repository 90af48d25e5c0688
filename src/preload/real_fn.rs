//! The application's MPI: the real functions behind our hooks, and its version.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;

use libc::{c_char, c_int, c_void};

use crate::mpi::Mpi;
#[cfg(target_vendor = "apple")]
use crate::preload::macos::loaded_objects;
use crate::shared::logging::Escaped;

/// A function of the application's MPI. While one lives, the library that has it stays loaded.
pub struct RealFn {
    address: NonZeroUsize,
    /// A reference that was taken to the library, or to an object that depends on it; null: it is in the global scope.
    handle: *mut c_void,
}

impl RealFn {
    /// The function that the dynamic linker would have bound without us, or `None` if no MPI is loaded. It is looked
    /// up each time, as an MPI may be unloaded and another one loaded, and one look-up is nothing beside a spawn.
    ///
    /// Where several loaded libraries define it, it is the one that the caller is linked with; where it is linked with none,
    /// that of the MPI that is initialised.
    pub fn find(name: &str) -> Option<RealFn> {
        let name = CString::new(name).ok()?;
        let mut found = definitions(&name);
        let at = match found.len() {
            0 | 1 => None,
            _ => {
                let own = callers_own(&name);
                let is_own = |real: &RealFn| Some(real.address) == own;
                let at = found.iter().position(is_own);
                at.or_else(|| found.iter().position(RealFn::is_initialized))
            }
        };
        (!found.is_empty()).then(|| found.swap_remove(at.unwrap_or(0)))
    }

    /// One that needs no reference to its library.
    pub fn at(address: NonZeroUsize) -> RealFn {
        RealFn {
            address,
            handle: std::ptr::null_mut(),
        }
    }

    /// The function itself.
    ///
    /// # Safety
    /// `F` must be a function pointer of its prototype.
    pub unsafe fn cast<F: Copy>(&self) -> F {
        // SAFETY: by this function's contract, the address is an `F`.
        unsafe { function_at(self.address) }
    }

    /// The file that it was loaded from.
    pub fn object(&self) -> String {
        file_of(self.address.get())
            .map_or(String::new(), |file| Escaped(file.to_bytes()).to_string())
    }

    /// Its MPI, by MPI_Get_library_version, which may be called at any time, also before MPI_Init.
    pub fn mpi(&self) -> Mpi {
        type GetLibraryVersion = unsafe extern "C-unwind" fn(*mut c_char, *mut c_int) -> c_int;
        let mut text = [0u8; VERSION_SIZE];
        let mut length: c_int = 0;
        let has_text = self
            .sibling(c"MPI_Get_library_version")
            .is_some_and(|address| {
                // SAFETY: this is the prototype of MPI_Get_library_version; the buffer has the size that the MPI standard asks
                // for; both pointers are good for the call.
                unsafe {
                    let get = function_at::<GetLibraryVersion>(address);
                    get(text.as_mut_ptr().cast(), &mut length) == 0
                }
            });
        let length = usize::try_from(length).unwrap_or(0).min(VERSION_SIZE);
        Mpi::from_version_text(if has_text { &text[..length] } else { b"" })
    }

    fn is_initialized(&self) -> bool {
        type Initialized = unsafe extern "C-unwind" fn(*mut c_int) -> c_int;
        let mut flag: c_int = 0;
        self.sibling(c"MPI_Initialized").is_some_and(|address| {
            // SAFETY: this is the prototype of MPI_Initialized, which may be called at any time; it writes one int.
            unsafe { function_at::<Initialized>(address)(&mut flag) == 0 && flag != 0 }
        })
    }

    /// Another function, where this one was found.
    fn sibling(&self, name: &CStr) -> Option<NonZeroUsize> {
        let scope = match self.handle.is_null() {
            true => libc::RTLD_NEXT,
            false => self.handle,
        };
        // SAFETY: `name` is a C string; the handle is a dlopen's that was not closed yet.
        let address = unsafe { libc::dlsym(scope, name.as_ptr()) };
        NonZeroUsize::new(address.expose_provenance())
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

/// # Safety
/// `F` must be the type of a pointer to the function at this address.
unsafe fn function_at<F: Copy>(address: NonZeroUsize) -> F {
    const { assert!(size_of::<F>() == size_of::<NonZeroUsize>()) };
    // SAFETY: a function pointer has the size of an address; by this function's contract it is of this type.
    unsafe { std::mem::transmute_copy(&address) }
}

/// What the object that called the hook would have called without us: the function of this name that it and its
/// dependencies have.
fn callers_own(name: &CStr) -> Option<NonZeroUsize> {
    type Backtrace = unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int;
    let mut frames = [std::ptr::null_mut(); 32];
    // SAFETY: the strings are C strings. backtrace(3), of glibc and macOS, fills at most as many places as it is given.
    // RTLD_NOLOAD: no constructor runs, and the reference is given back.
    unsafe {
        let backtrace = libc::dlsym(libc::RTLD_DEFAULT, c"backtrace".as_ptr());
        if backtrace.is_null() {
            return None;
        }
        let backtrace = std::mem::transmute::<*mut c_void, Backtrace>(backtrace);
        let count = backtrace(frames.as_mut_ptr(), frames.len() as c_int);
        let addresses = frames.iter().take(usize::try_from(count).ok()?);
        let mut addresses = addresses.filter_map(|frame| NonZeroUsize::new(frame.addr()));
        let caller = addresses.find(|address| !is_ours(*address))?;
        let file = file_of(caller.get())?;
        let handle = libc::dlopen(file.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if handle.is_null() {
            return None;
        }
        let own = libc::dlsym(handle, name.as_ptr());
        libc::dlclose(handle);
        NonZeroUsize::new(own.expose_provenance())
    }
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
    let base = |address| info_of(address).map(|info| info.dli_fbase);
    base(address.get()) == base(is_ours as *const () as usize)
}

/// The file that this address was loaded from, as the dynamic linker calls it.
fn file_of(address: usize) -> Option<CString> {
    let name = info_of(address)?.dli_fname;
    // SAFETY: the name is a C string that stays as long as its object is loaded, which the caller sees to.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_owned())
}

fn info_of(address: usize) -> Option<libc::Dl_info> {
    let mut info = MaybeUninit::uninit();
    // SAFETY: dladdr takes any address, and fills `info` if it does not return 0.
    unsafe {
        (libc::dladdr(
            std::ptr::with_exposed_provenance(address),
            info.as_mut_ptr(),
        ) != 0)
            .then(|| info.assume_init())
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
