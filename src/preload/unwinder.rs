//! The unwinder: the process's own, found when it is first needed.
//!
//! std is linked with libgcc_s.so.1. To load that costs a process twice as much as all the rest of this library. So
//! std's calls of it end here, and go on to the unwinder that the process has loaded. Where there is none,
//! libgcc_s.so.1 is loaded then: at a panic of ours, or when an exception or a thread's cancellation passes through a
//! hook. glibc does the same for its pthread_cancel (misc/unwind-link.c). A copy of the unwinder in this library
//! would not do: it would get the contexts of the process's unwinder, whose layout is private.

use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{c_int, c_void};

/// Functions of the unwinder (Itanium C++ ABI: Exception Handling), passed on with their arguments as they came.
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
            // SAFETY: the address is that of the unwinder's function, whose prototype this is.
            unsafe { std::mem::transmute::<*mut c_void, Real>(find(name, &REAL))($($argument),*) }
        }
        std::arch::global_asm!(concat!(".hidden ", stringify!($name)));
    )+};
}

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

/// The unwinder's function of this name. A process without any ends here, as one without libgcc_s.so.1 would not
/// even have begun.
fn find(name: &CStr, real: &AtomicPtr<c_void>) -> *mut c_void {
    let known = real.load(Ordering::Relaxed);
    if !known.is_null() {
        return known;
    }
    // SAFETY: all strings are C strings; the handle is kept, so the function stays.
    let found = unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
        if found.is_null() {
            let unwinder = libc::dlopen(c"libgcc_s.so.1".as_ptr(), libc::RTLD_LAZY);
            if unwinder.is_null() {
                libc::abort();
            }
            libc::dlsym(unwinder, name.as_ptr())
        } else {
            found
        }
    };
    if found.is_null() {
        // SAFETY: abort takes nothing and doesn't return.
        unsafe { libc::abort() }
    }
    real.store(found, Ordering::Relaxed);
    found
}

/// Where this thread's copy of a variable is (ELF Handling For Thread-Local Storage, 3.4.6). It is the dynamic
/// linker's own, and all that the library needs of it. Named as needed, glibc's dynamic linker would keep musl's programs
/// from starting.
#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
unsafe extern "C" fn __tls_get_addr(variable: *mut c_void) -> *mut c_void {
    type Real = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
    static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    // SAFETY: the address is that of the dynamic linker's function, whose prototype this is.
    unsafe { std::mem::transmute::<*mut c_void, Real>(find(c"__tls_get_addr", &REAL))(variable) }
}
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(".hidden __tls_get_addr");

/// What runs at a thread's end, for a thread-local value of ours: glibc has it since 2.18, musl has not. Without it, the
/// value is not dropped, which costs a thread that logs its buffer. Were it not here, std would use pthread keys instead,
/// for which a library that runs with an old glibc needs libpthread.so.0: 30 us of an exec.
#[unsafe(no_mangle)]
unsafe extern "C" fn __cxa_thread_atexit_impl(
    run: *mut c_void,
    value: *mut c_void,
    library: *mut c_void,
) -> c_int {
    type Real = unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void) -> c_int;
    // SAFETY: the name is a C string; the address is that of the C library's function, whose prototype this is.
    unsafe {
        let real = libc::dlsym(libc::RTLD_DEFAULT, c"__cxa_thread_atexit_impl".as_ptr());
        if real.is_null() {
            return 0;
        }
        std::mem::transmute::<*mut c_void, Real>(real)(run, value, library)
    }
}
std::arch::global_asm!(".hidden __cxa_thread_atexit_impl");

// The jumps to the C library's functions, which are bound when they are first called: build.rs.
std::arch::global_asm!(include_str!(concat!(env!("OUT_DIR"), "/stubs.s")));
