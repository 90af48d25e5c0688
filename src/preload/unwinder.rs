//! The unwinder and the thread's storage: the process's own functions, found when they are first needed.
//!
//! std is linked with libgcc_s.so.1. To load that costs a process twice as much as all the rest of this library. So
//! std's calls of it end here, and go on to the unwinder that the process has loaded. Where there is none,
//! libgcc_s.so.1 is loaded then: at a panic of ours, or when an exception or a thread's cancellation passes through a
//! hook. glibc does the same for its pthread_cancel (misc/unwind-link.c). A copy of the unwinder in this library
//! would not do: it would get the contexts of the process's unwinder, whose layout is private.

use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{c_int, c_void};

/// Functions, passed on with their arguments as they came.
macro_rules! pass_on {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)+) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C-unwind" fn $name($($argument: $type),*) -> $result {
            type Real = unsafe extern "C-unwind" fn($($type),*) -> $result;
            static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
            let name = const {
                match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => panic!(),
                }
            };
            // SAFETY: the address is that of the process's own function, whose prototype this is.
            unsafe { std::mem::transmute::<*mut c_void, Real>(find(name, &REAL))($($argument),*) }
        }
        std::arch::global_asm!(concat!(".hidden ", stringify!($name)));
    )+};
}

// The unwinder's (Itanium C++ ABI: Exception Handling).
pass_on! {
    fn _Unwind_RaiseException(exception: *mut c_void) -> c_int;
    fn _Unwind_Resume(exception: *mut c_void) -> !;
    fn _Unwind_DeleteException(exception: *mut c_void) -> ();
    fn _Unwind_GetLanguageSpecificData(context: *mut c_void) -> *mut c_void;
    fn _Unwind_GetRegionStart(context: *mut c_void) -> usize;
    fn _Unwind_GetTextRelBase(context: *mut c_void) -> usize;
    fn _Unwind_GetDataRelBase(context: *mut c_void) -> usize;
    fn _Unwind_GetIP(context: *mut c_void) -> usize;
    fn _Unwind_GetIPInfo(context: *mut c_void, before: *mut c_int) -> usize;
    fn _Unwind_SetGR(context: *mut c_void, register: c_int, value: usize) -> ();
    fn _Unwind_SetIP(context: *mut c_void, address: usize) -> ();
}

/// Ends every backtrace at once. A panic of ours still tells where it was; what would print the frames above it is
/// two thirds of std, and is left out of the library, as nothing calls it.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_trace: *mut c_void, _argument: *mut c_void) -> c_int {
    const END_OF_STACK: c_int = 5;
    END_OF_STACK
}
std::arch::global_asm!(".hidden _Unwind_Backtrace");

/// The process's own function of this name. A process without any ends here, as one without libgcc_s.so.1 would not
/// even have begun.
fn find(name: &CStr, real: &AtomicPtr<c_void>) -> *mut c_void {
    let known = real.load(Ordering::Relaxed);
    if !known.is_null() {
        return known;
    }
    // SAFETY: all strings are C strings; the handle is kept, so the function stays; abort doesn't return.
    unsafe {
        let mut found = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        if found.is_null() {
            let unwinder = libc::dlopen(c"libgcc_s.so.1".as_ptr(), libc::RTLD_LAZY);
            if !unwinder.is_null() {
                found = libc::dlsym(unwinder, name.as_ptr());
            }
        }
        if found.is_null() {
            libc::abort();
        }
        real.store(found, Ordering::Relaxed);
        found
    }
}

// Where this thread's copy of a variable is (ELF Handling For Thread-Local Storage, 3.4.6). It is the dynamic linker's own,
// and all that the library needs of it. Named as needed, glibc's dynamic linker would keep musl's programs from starting.
#[cfg(target_arch = "x86_64")]
pass_on! {
    fn __tls_get_addr(variable: *mut c_void) -> *mut c_void;
}

// The jumps to the C library's functions, which are bound when they are first called: build.rs.
std::arch::global_asm!(include_str!(concat!(env!("OUT_DIR"), "/stubs.s")));
