//! How the library is linked.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};

/// The C library's functions that this library calls, of its own or in std.
///
/// To look one up costs more than to use it, and most processes use three. So calls of these go through a procedure
/// linkage table and are bound when they are first made, as gcc's default is. rustc binds all at load, which takes
/// 20 us of the 360 us of an exec (an empty library takes 32). A function that is missing here is bound at load. To bind
/// takes no lock if the C library was not loaded with dlopen (glibc's _dl_fixup in elf/dl-runtime.c, _dl_lookup_symbol_x in
/// elf/dl-lookup.c), so a forked child may do it.
const BOUND_ON_CALL: &str = "
    __errno_location __xpg_strerror_r _exit abort access bcmp bind clock_gettime clock_nanosleep close closedir connect dirfd
    dl_iterate_phdr dladdr dlclose dlopen dlsym dup2 execve fcntl free fstat fstat64 ftruncate64 getauxval
    getcwd getenv geteuid getpeername getpid getppid ioctl isatty lstat lstat64 malloc memcpy memmove
    memset mmap open open64 opendir poll posix_memalign pthread_setcancelstate pwrite64 read readdir64 realloc setenv
    sigaction signal socket stat stat64 strlen syscall unsetenv write
";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |key: &str| env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    if target("VENDOR") == "apple" {
        // libmpi is the application's to bring: `real!` in mpi_hooks.rs. For the unit tests' executable, too. Apple's linker
        // takes the names; zig's only takes all or nothing, so tests/long/macos.rs looks at what else came to be looked
        // up like that.
        if links(&["-Wl,-U,_MPI_Comm_spawn"]) {
            for name in [
                "_MPI_Comm_spawn",
                "_MPI_Comm_spawn_multiple",
                "_MPI_Init",
                "_MPI_Init_thread",
                "_PMPI_Init",
                "_PMPI_Init_thread",
            ] {
                println!("cargo:rustc-link-arg=-Wl,-U,{name}");
            }
        } else {
            println!("cargo:rustc-link-arg=-Wl,-undefined,dynamic_lookup");
        }
        // The libc crate asks for libiconv, which nothing here calls. And the library is loaded by its file's name: by
        // default it would give the name that it had in the builder's directory.
        println!("cargo:rustc-link-arg=-Wl,-dead_strip_dylibs");
        link("-Wl,-install_name,@rpath/libspawnfix.dylib");
    }
    if target("OS") != "linux" {
        return;
    }
    // A symbol that nobody defines is an error now, not at a user's.
    link("-Wl,-z,defs");
    // Bound on call. And no second mprotect for constants: 5 us of an exec.
    link("-Wl,-z,lazy,-z,norelro");
    let mut stubs = String::new();
    // Before 1.87, cargo gives these arguments to unit tests, too (rust-lang/cargo issue 12663), which don't link with
    // them. On other processors, rustc's calls go through a procedure linkage table.
    if env::var("PROFILE").as_deref() == Ok("release") && target("ARCH") == "x86_64" {
        for name in BOUND_ON_CALL.split_whitespace() {
            link(&format!("-Wl,--wrap={name}"));
            // What --wrap puts in the function's place. A stub that nothing calls is left out by --gc-sections.
            let _ = write!(
                stubs,
                ".section .text.__wrap_{name}, \"ax\", @progbits\n\
                 .globl __wrap_{name}\n\
                 .hidden __wrap_{name}\n\
                 .type __wrap_{name}, @function\n\
                 __wrap_{name}: jmp __real_{name}@PLT\n"
            );
        }
    }
    fs::write(out("stubs.s"), stubs).expect("OUT_DIR can be written to");
}

fn out(name: &str) -> String {
    format!("{}/{name}", env::var("OUT_DIR").unwrap_or_default())
}

fn link(argument: &str) {
    println!("cargo:rustc-cdylib-link-arg={argument}");
}

/// Whether the compiler that rustc links with takes these arguments.
fn links(arguments: &[&str]) -> bool {
    let status = Command::new(env::var("RUSTC_LINKER").unwrap_or("cc".to_owned()))
        .args(["-shared", "-x", "c", "/dev/null", "-o", &out("probe.so")])
        .args(arguments)
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
