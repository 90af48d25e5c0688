//! The exported MPI functions: each finds the real one, and calls it through [`spawn`] or [`init`].

#[cfg(target_vendor = "apple")]
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::c_int;
#[cfg(target_vendor = "apple")]
use libc::c_void;

use crate::preload::child_arguments::Arguments as Children;
use crate::preload::host_process::contained;
use crate::preload::init;
#[cfg(target_os = "linux")]
use crate::preload::pmix_lookup;
use crate::preload::real_fn::RealFn;
use crate::preload::spawn;

/// The real function that a hook stands in for, if there is one. The hook is reached by its name.
#[cfg(not(target_vendor = "apple"))]
macro_rules! real {
    ($name:ident) => {{ RealFn::find(stringify!($name)) }};
}

/// The real function that a hook stands in for, if there is one. The hook is reached through a tuple of
/// two addresses, its own and the real one's, which dyld reads at launch (dyld-1378: appendInterposingTuples in
/// DyldRuntimeState.cpp; resolveSymbol and interpose in Loader.cpp):
///
/// - The real one's is bound to whichever loaded library has it; build.rs tells the linker so.
/// - It is a weak import: in a program without MPI it is null, and dyld ignores the tuple. A strong one would keep
///   that program from starting.
/// - In the tuple itself it stays the real one's, as no library is interposed by its own tuples. dlsym gives the
///   hook's.
#[cfg(target_vendor = "apple")]
macro_rules! real {
    ($name:ident) => {{
        unsafe extern "C" {
            fn $name();
        }
        #[used]
        #[unsafe(link_section = "__DATA,__interpose")]
        static TUPLE: [AtomicPtr<c_void>; 2] = [
            AtomicPtr::new(self::$name as *mut c_void),
            AtomicPtr::new($name as *mut c_void),
        ];
        std::num::NonZeroUsize::new(TUPLE[1].load(Ordering::Relaxed) as usize).map(RealFn::at)
    }};
}

/// Defines an exported MPI function. The last argument calls the real one, with what surrounds it.
macro_rules! mpi_hook {
    (
        $(#[$documentation:meta])* $name:ident($($argument:ident: $type:ty),+),
        |$real:ident, $call:ident| $body:expr
    ) => {
        $(#[$documentation])*
        ///
        /// # Errors
        /// The real function's error code; [`NO_MPI`] if there is no real function.
        ///
        /// # Safety
        /// That of the real function, which gets every argument as it came, except for words that PMI would change.
        #[cfg_attr(not(target_vendor = "apple"), unsafe(no_mangle))]
        #[allow(non_snake_case)]
        pub unsafe extern "C-unwind" fn $name($($argument: $type),+) -> c_int {
            type Function = unsafe extern "C-unwind" fn($($type),+) -> c_int;
            let Some($real) = contained(|| real!($name)).flatten() else {
                contained(|| log::error!("{} was called, but no MPI library is loaded", stringify!($name)));
                return NO_MPI;
            };
            // SAFETY: this is the real function's prototype: a Word has the size and the registers of a handle or a
            // pointer.
            let $call = unsafe { $real.cast::<Function>() };
            $body
        }
        #[cfg(target_vendor = "apple")]
        std::arch::global_asm!(concat!(".weak_reference _", stringify!($name)));
    };
}

/// An MPI handle or a pointer, passed on untouched. MPI_Info and MPI_Comm are an int in MPICH and a pointer in
/// Open MPI and in MPI 5's standard ABI; an int leaves the upper half of its register to chance.
type Word = usize;

/// What a spawn returns when there is no MPI: MPI_ERR_INTERN in MPICH's mpi.h, MPI_ERR_OTHER in Open MPI's.
const NO_MPI: c_int = 16;

mpi_hook! {
    /// `MPI_Comm_spawn` (MPI 4.1, section 11.8.2): `command`, `argv`, `maxprocs`, `info`, `root`, `comm`,
    /// `intercomm`, `array_of_errcodes`.
    MPI_Comm_spawn(
        command: Word, argv: Word, maxprocs: c_int, info: Word, root: c_int, comm: Word, intercomm: Word,
        errcodes: Word
    ),
    |real, call| {
        let children = Children { commands: command, argvs: argv, count: None };
        // SAFETY: the arguments are the caller's.
        unsafe {
            spawn::around("MPI_Comm_spawn", &real, comm, intercomm, children, |new| {
                call(new.commands, new.argvs, maxprocs, info, root, comm, intercomm, errcodes)
            })
        }
    }
}

mpi_hook! {
    /// `MPI_Comm_spawn_multiple` (MPI 4.1, section 11.8.3): `count`, `array_of_commands`, `array_of_argv`,
    /// `array_of_maxprocs`, `array_of_info`, `root`, `comm`, `intercomm`, `array_of_errcodes`.
    MPI_Comm_spawn_multiple(
        count: c_int, commands: Word, argvs: Word, maxprocs: Word, infos: Word, root: c_int, comm: Word,
        intercomm: Word, errcodes: Word
    ),
    |real, call| {
        let children = Children { commands, argvs, count: Some(count) };
        // SAFETY: the arguments are the caller's.
        unsafe {
            spawn::around("MPI_Comm_spawn_multiple", &real, comm, intercomm, children, |new| {
                call(count, new.commands, new.argvs, maxprocs, infos, root, comm, intercomm, errcodes)
            })
        }
    }
}

mpi_hook! {
    /// `MPI_Init` (MPI 4.1, section 11.2.1): `argc`, `argv`.
    MPI_Init(argc: Word, argv: Word),
    // SAFETY: the arguments are the caller's.
    |real, call| init::around("MPI_Init", &real, || unsafe { call(argc, argv) })
}

mpi_hook! {
    /// `MPI_Init_thread` (MPI 4.1, section 11.2.1): `argc`, `argv`, `required`, `provided`.
    MPI_Init_thread(argc: Word, argv: Word, required: c_int, provided: Word),
    // SAFETY: the arguments are the caller's.
    |real, call| init::around("MPI_Init_thread", &real, || unsafe { call(argc, argv, required, provided) })
}

mpi_hook! {
    /// What Open MPI's Fortran `MPI_INIT` calls (ompi/mpi/fortran/mpif-h/init_f.c).
    PMPI_Init(argc: Word, argv: Word),
    // SAFETY: the arguments are the caller's.
    |real, call| init::around("PMPI_Init", &real, || unsafe { call(argc, argv) })
}

mpi_hook! {
    /// What Open MPI's Fortran `MPI_INIT_THREAD` calls (ompi/mpi/fortran/mpif-h/init_thread_f.c).
    PMPI_Init_thread(argc: Word, argv: Word, required: c_int, provided: Word),
    // SAFETY: the arguments are the caller's.
    |real, call| init::around("PMPI_Init_thread", &real, || unsafe { call(argc, argv, required, provided) })
}

#[cfg(target_os = "linux")]
mpi_hook! {
    /// `PMIx_Lookup` (PMIx 4.1, section 8.4), by which Open MPI waits for children: `data`, `ndata`, `info`, `ninfo`.
    PMIx_Lookup(data: Word, count: usize, info: Word, directives: usize),
    // SAFETY: the arguments are the caller's, or the same without directives.
    |real, call| unsafe {
        pmix_lookup::around(data, || call(data, count, info, directives), || call(data, count, 0, 0))
    }
}
