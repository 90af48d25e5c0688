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
/// pthread_atfork hands on. Null: what is registered stays as long as the program. From crtbeginS.o, which is not
/// linked.
#[cfg(no_start_files)]
#[unsafe(no_mangle)]
static __dso_handle: usize = 0;
#[cfg(no_start_files)]
std::arch::global_asm!(".hidden __dso_handle");

// --- for a C library that is older, and fewer versions to compare ---
//
// Each version of glibc's symbols that the library needs is compared by its name in every process. These functions have
// one of their own; here they are made of what was there from the beginning.

/// stat(2) and its kin: glibc has them as functions since 2.33. The kernel's struct is the C library's.
#[cfg(target_arch = "x86_64")]
macro_rules! stat_calls {
    ($($name:ident: $call:ident($what:ty);)+) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(what: $what, result: *mut c_void) -> c_int {
            // SAFETY: the caller keeps the function's contract; the arguments are passed on.
            unsafe { libc::syscall(libc::$call, what, result) as c_int }
        }
        std::arch::global_asm!(concat!(".hidden ", stringify!($name)));
    )+};
}

#[cfg(target_arch = "x86_64")]
stat_calls! {
    stat: SYS_stat(*const libc::c_char);
    stat64: SYS_stat(*const libc::c_char);
    lstat: SYS_lstat(*const libc::c_char);
    lstat64: SYS_lstat(*const libc::c_char);
    fstat: SYS_fstat(c_int);
    fstat64: SYS_fstat(c_int);
}

// memcpy(3), whose second version is of 2.14.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".globl memcpy",
    ".hidden memcpy",
    ".type memcpy, @function",
    "memcpy: jmp memmove@PLT",
);

/// strerror_r(3) as POSIX has it, made of the GNU one.
#[unsafe(no_mangle)]
unsafe extern "C" fn __xpg_strerror_r(
    errno: c_int,
    buffer: *mut libc::c_char,
    size: libc::size_t,
) -> c_int {
    unsafe extern "C" {
        #[link_name = "strerror_r"]
        fn gnu_strerror_r(
            errno: c_int,
            buffer: *mut libc::c_char,
            size: libc::size_t,
        ) -> *const libc::c_char;
    }
    // SAFETY: the caller's buffer has this size; what is returned is a C string, in the buffer or elsewhere.
    unsafe {
        let text = CStr::from_ptr(gnu_strerror_r(errno, buffer, size)).to_bytes();
        let length = text.len().min(size.saturating_sub(1));
        std::ptr::copy(text.as_ptr(), buffer.cast(), length);
        if size > 0 {
            *buffer.add(length) = 0;
        }
    }
    0
}
std::arch::global_asm!(".hidden __xpg_strerror_r");

/// clock_gettime(2): glibc has it in its libc since 2.17.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    // SAFETY: the caller keeps the function's contract; the arguments are passed on.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int }
}
std::arch::global_asm!(".hidden clock_gettime");

/// What runs at a thread's end, for a thread-local value of ours: glibc has it since 2.18, musl has not. Without it,
/// the value is not dropped, which costs a thread that logs its buffer.
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

/// Where this thread's copy of a variable is (ELF Handling For Thread-Local Storage, 3.4.6). It is the dynamic
/// linker's, and the only thing for which the library would need it by its name. Found at load, as the ctor has such a
/// variable.
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
