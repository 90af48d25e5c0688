//! What is linked in place of what std asks for, so that a process that never spawns hardly pays for it.
//!
//! # The unwinder: the program's own, found when it is first needed
//!
//! std asks for libgcc_s.so.1, and to load that would cost every process more than all the rest of this library. So
//! std's calls of it end here, and go on to the unwinder that the program has loaded. Where there is none,
//! libgcc_s.so.1 is loaded then: at a panic of ours, or when an exception or a thread's cancellation passes through a
//! hook. glibc does the same for its pthread_cancel (misc/unwind-link.c). A copy of the unwinder in this library
//! would not do: it would be handed the contexts of the program's unwinder, whose layout is private.
//!
//! # The C library
//!
//! Its functions are bound when they are first called (build.rs). Those that std uses only where they are there would
//! be looked up at load all the same, so they are here.

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

// The jumps to the C library's functions.
std::arch::global_asm!(include_str!(concat!(env!("OUT_DIR"), "/stubs.s")));

/// gettid(2). glibc has it since 2.30.
#[unsafe(no_mangle)]
extern "C" fn gettid() -> libc::pid_t {
    // SAFETY: the call has no arguments and cannot fail.
    unsafe { libc::syscall(libc::SYS_gettid) as libc::pid_t }
}
std::arch::global_asm!(".hidden gettid");

/// statx(2). glibc has it since 2.28.
#[unsafe(no_mangle)]
unsafe extern "C" fn statx(
    directory: c_int,
    path: *const libc::c_char,
    flags: c_int,
    mask: libc::c_uint,
    result: *mut c_void,
) -> c_int {
    // SAFETY: the caller keeps statx's contract; the arguments are passed on.
    unsafe { libc::syscall(libc::SYS_statx, directory, path, flags, mask, result) as c_int }
}
std::arch::global_asm!(".hidden statx");

/// How the C library tells this library from others: by this address, or by the pointer that is there, which glibc's
/// pthread_atfork hands on. Null: what is registered stays as long as the program. From crtbeginS.o, which is not linked.
#[cfg(no_start_files)]
#[unsafe(no_mangle)]
static __dso_handle: usize = 0;
#[cfg(no_start_files)]
std::arch::global_asm!(".hidden __dso_handle");
