//! How the library is linked. It is loaded into every process under the preload, so what costs at load is left out.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Functions of the C library that this library, or std in it, may call.
///
/// To look one up costs more than to use it, and most processes use three. So calls of these go through a procedure
/// linkage table and are bound when they are first made, as gcc's own default is; rustc binds all at load. A
/// function that is missing here is bound at load. Binding to a library that was not loaded with dlopen takes no lock
/// (glibc's _dl_fixup in elf/dl-runtime.c, _dl_lookup_symbol_x in elf/dl-lookup.c), so a forked child may do it.
const BOUND_ON_CALL: &str = "
    __errno_location __register_atfork _exit abort accept access bcmp bind
    calloc clock_nanosleep close closedir connect dirfd dl_iterate_phdr dladdr dlclose dlopen dlsym
    dup dup2 eventfd execve fchdir fcntl fork free ftruncate getcwd getenv geteuid getpgid getpgrp
    getpid getppid getrandom getrlimit getsockname getsockopt getuid ioctl isatty kill listen lseek64 malloc
    memchr memcmp memmove memrchr memset mmap mmap64 mprotect munmap nanosleep open open64 opendir pause
    pipe pipe2 poll posix_memalign ppoll prctl pthread_attr_destroy pthread_attr_getguardsize pthread_attr_getstack
    pthread_attr_init pthread_attr_setstacksize pthread_create pthread_detach pthread_getattr_np pthread_join
    pthread_key_create pthread_key_delete pthread_kill pthread_self pthread_setcancelstate pthread_setname_np
    pthread_setspecific pthread_sigmask raise read readdir64 readlink readv realloc realpath recv sched_yield send
    setpgid setsockopt shutdown sigaction sigaddset sigaltstack sigdelset sigemptyset sigfillset sigismember signal
    sigprocmask socket strcmp strerror_r strlen strncmp syscall sysconf tcgetpgrp usleep waitid waitpid
    write writev
";

/// The linker's part, if the compiler has that linker: GNU ld without a page boundary between code and constants
/// needs two mappings and a few page faults less than any other.
const GNU_LD: &[&str] = &["-fuse-ld=bfd", "-Wl,-z,noseparate-code"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(no_start_files)");
    let target = |key: &str| env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    if target("VENDOR") == "apple" {
        // libmpi is the program's to bring: `real!` in hooks.rs. For the unit tests' program, too. Apple's linker takes
        // the names; zig's only takes all or nothing, so tests/long/macos.rs looks at what else came to be looked up like
        // that.
        if links(&["-Wl,-U,_MPI_Comm_spawn"]) {
            for name in ["_MPI_Comm_spawn", "_MPI_Comm_spawn_multiple"] {
                println!("cargo:rustc-link-arg=-Wl,-U,{name}");
            }
        } else {
            println!("cargo:rustc-link-arg=-Wl,-undefined,dynamic_lookup");
        }
        // The libc crate asks for libiconv, which nothing here calls. And the library is loaded by its file's name: by
        // default it would give the name that it had in the builder's directory.
        println!("cargo:rustc-link-arg=-Wl,-dead_strip_dylibs");
        link(&["-Wl,-install_name,@rpath/libspawnfix.dylib"]);
    }
    if target("OS") != "linux" {
        return;
    }
    println!("cargo:rerun-if-env-changed=SPAWNFIX_PORTABLE");
    if env::var_os("SPAWNFIX_PORTABLE").is_some() {
        look_up_in_libdl(&target("ARCH"));
    }
    // -z defs: a symbol that nobody defines is an error now, not at a user's.
    link(&["-Wl,-z,defs", "-Wl,-z,lazy"]);
    let mut bound_on_call = "";
    // Only what is installed: before 1.87, cargo gives these arguments to unit tests, too (rust-lang/cargo issue
    // 12663), which don't link with them.
    if env::var("PROFILE").as_deref() == Ok("release") {
        // crtbeginS.o has four symbols looked up that serve C++ and profilers.
        link(&["-nostartfiles"]);
        println!("cargo:rustc-cfg=no_start_files");
        if target("ARCH") == "x86_64" {
            bound_on_call = BOUND_ON_CALL; // elsewhere rustc's calls go through a procedure linkage table
        }
    }
    for name in bound_on_call.split_whitespace() {
        link(&[&format!("-Wl,--wrap={name}")]);
    }
    fs::write(out("stubs.s"), stubs(bound_on_call)).expect("OUT_DIR can be written to");
    if links(GNU_LD) {
        link(GNU_LD);
    } else {
        println!(
            "cargo:warning=no GNU ld (ld.bfd): the library will work, and cost each process a little more"
        );
    }
}

/// For a library that other machines get: glibc before 2.34 has dlsym and its like in libdl.so.2, later ones there as
/// well. What libc.so.6 has them for since then would not load on the former; in all else the library needs nothing
/// newer than 2.17. Who builds for this machine alone does without, as one library more costs each process a little.
fn look_up_in_libdl(arch: &str) {
    let first = match arch {
        "x86_64" => "GLIBC_2.2.5",
        _ => "GLIBC_2.17",
    };
    let (source, versions, directory) = (out("libdl.c"), out("libdl.map"), out("libdl"));
    let functions =
        ["dlsym", "dlopen", "dlclose", "dladdr"].map(|name| format!("void {name}(void) {{}}\n"));
    fs::write(&source, functions.concat()).expect("OUT_DIR can be written to");
    fs::write(&versions, format!("{first} {{ *; }};\n")).expect("OUT_DIR can be written to");
    fs::create_dir_all(&directory).expect("OUT_DIR can be written to");
    let status = compiler()
        .args(["-shared", "-nostdlib", "-Wl,-soname,libdl.so.2", "-o"])
        .arg(directory.join("libdl.so"))
        .arg(&source)
        .arg(format!("-Wl,--version-script={}", versions.display()))
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "no stand-in for libdl.so.2 can be built"
    );
    // Before the system's: rustc names it before the C library.
    println!("cargo:rustc-link-search=native={}", directory.display());
}

fn link(arguments: &[&str]) {
    for argument in arguments {
        println!("cargo:rustc-cdylib-link-arg={argument}");
    }
}

fn out(name: &str) -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join(name)
}

/// What the linker's --wrap puts in each function's place: a jump through the procedure linkage table. Those that
/// nothing calls are left out by --gc-sections.
fn stubs(names: &str) -> String {
    let mut text = String::new();
    for name in names.split_whitespace() {
        let _ = write!(
            text,
            ".section .text.__wrap_{name}, \"ax\", @progbits\n\
             .globl __wrap_{name}\n\
             .hidden __wrap_{name}\n\
             .type __wrap_{name}, @function\n\
             __wrap_{name}: jmp __real_{name}@PLT\n"
        );
    }
    text
}

/// What rustc links with.
fn compiler() -> Command {
    Command::new(env::var("RUSTC_LINKER").unwrap_or("cc".to_owned()))
}

/// Whether the compiler that rustc links with takes these arguments.
fn links(arguments: &[&str]) -> bool {
    let status = compiler()
        .args(["-shared", "-x", "c", "/dev/null", "-o"])
        .arg(out("probe.so"))
        .args(arguments)
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
