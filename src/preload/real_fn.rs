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
    /// The library, or an object that depends on it. `None`: it is in the global scope.
    object: Option<Object>,
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
        if found.len() > 1 {
            let own = callers_own(&name);
            let at = found.iter().position(|real| Some(real.address) == own);
            let at = at.or_else(|| found.iter().position(RealFn::is_initialized));
            found.swap(0, at.unwrap_or(0));
        }
        found.into_iter().next()
    }

    /// One that needs no reference to its library.
    pub fn at(address: NonZeroUsize) -> RealFn {
        RealFn {
            address,
            object: None,
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
    pub fn file(&self) -> String {
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
        let scope = self
            .object
            .as_ref()
            .map_or(libc::RTLD_NEXT, |object| object.0);
        look_up(scope, name)
    }
}

/// # Safety
/// `F` must be the type of a pointer to the function at this address.
unsafe fn function_at<F: Copy>(address: NonZeroUsize) -> F {
    const { assert!(size_of::<F>() == size_of::<NonZeroUsize>()) };
    // SAFETY: a function pointer has the size of an address; by this function's contract it is of this type.
    unsafe { std::mem::transmute_copy(&address) }
}

/// A reference to a loaded object, by a handle of dlopen's.
struct Object(*mut c_void);

impl Object {
    /// RTLD_NOLOAD: no constructor runs.
    fn of_file(file: &CStr) -> Option<Object> {
        // SAFETY: a C string.
        let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        (!handle.is_null()).then_some(Object(handle))
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: the handle is a dlopen's that was not closed yet.
        unsafe { libc::dlclose(self.0) };
    }
}

/// The function of this name in the scope of an [`Object`], or in one of dlsym's own.
fn look_up(scope: *mut c_void, name: &CStr) -> Option<NonZeroUsize> {
    // SAFETY: a C string; dlsym takes any scope that is open.
    NonZeroUsize::new(unsafe { libc::dlsym(scope, name.as_ptr()) }.expose_provenance())
}

/// What the object that called the hook would have called without us: the function of this name that it and its
/// dependencies have.
fn callers_own(name: &CStr) -> Option<NonZeroUsize> {
    type Backtrace = unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int;
    let backtrace = look_up(libc::RTLD_DEFAULT, c"backtrace")?;
    let mut frames = [std::ptr::null_mut(); 32];
    let length = frames.len() as c_int;
    // SAFETY: backtrace(3), of glibc and macOS, fills at most as many places as it is given.
    let count = unsafe { function_at::<Backtrace>(backtrace)(frames.as_mut_ptr(), length) };
    let frames = frames.iter().take(usize::try_from(count).ok()?);
    let mut addresses = frames.filter_map(|frame| NonZeroUsize::new(frame.addr()));
    let caller = addresses.find(|address| !is_ours(*address))?;
    let object = Object::of_file(&file_of(caller.get())?)?;
    look_up(object.0, name)
}

/// MPI_MAX_LIBRARY_VERSION_STRING, the largest there is: MPICH's and the standard ABI's.
const VERSION_SIZE: usize = 8192;

/// The distinct definitions of an MPI function in this process, ours left out, in the linker's order: what
/// RTLD_NEXT gives, then what each loaded object and its dependencies see, in load order.
///
/// RTLD_NEXT alone is not enough: a libmpi that came with a dlopen(RTLD_LOCAL), as Python's does, is not in it.
fn definitions(name: &CStr) -> Vec<RealFn> {
    if let Some(next) = look_up(libc::RTLD_NEXT, name).filter(|next| !is_ours(*next)) {
        // The global scope decides; another library could only be reached through a handle of its own.
        return vec![RealFn::at(next)];
    }
    let mut found: Vec<RealFn> = Vec::new();
    for object in loaded_objects()
        .iter()
        .filter_map(|file| Object::of_file(file))
    {
        let Some(address) = look_up(object.0, name) else {
            continue;
        };
        if !is_ours(address) && found.iter().all(|real| real.address != address) {
            found.push(RealFn {
                address,
                object: Some(object),
            });
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
        let found = libc::dladdr(
            std::ptr::with_exposed_provenance(address),
            info.as_mut_ptr(),
        );
        (found != 0).then(|| info.assume_init())
    }
}

/// The file names of all loaded objects, in load order. The main program, which has none, is left out: were the
/// function its own, this library would not have been called.
#[cfg(target_os = "linux")]
fn loaded_objects() -> Vec<CString> {
    let mut names = Vec::new();
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
    names
}
