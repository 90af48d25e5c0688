//! The exported functions: gather the facts, ask, act, call the real one; nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(target_vendor = "apple")]
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Instant;

#[cfg(target_vendor = "apple")]
use libc::c_void;
use libc::{c_char, c_int};

use crate::decision::{self, Facts, Guard};
use crate::guard::{self, CallGuard, Stdin};
use crate::launcher::{self, Launch};
use crate::mpi::Mpi;
use crate::prte;
use crate::settings::{self, GuardSetting};
use crate::watch::{self, Watch};

// int execvp(const char *file, char *const argv[]): exec(3). What libmpi calls in its forked child.
redhook::hook! {
    unsafe fn execvp(file: *const c_char, argv: *const *const c_char) -> c_int => execvp_hook {
        let real = redhook::real!(execvp);
        // SAFETY: the caller keeps execvp's contract: both are what execvp takes.
        unsafe {
            if settings::get().guard != GuardSetting::Off {
                if let Some(launch) = Launch::recognise(argv) {
                    prepare(launch);
                    real(file, argv);
                    launcher::exec_failed(launch, file, guard::errno());
                }
            }
            real(file, argv)
        }
    }
}

/// dyld finds redhook's tuple by its section; without a reference to it, the compiler would leave it out.
#[cfg(target_vendor = "apple")]
#[used]
static EXECVP_TUPLE: AtomicPtr<execvp::execvp> = AtomicPtr::new(&raw mut execvp::execvp);

/// Finds the real execvp, for the ctor: a forked child can't look it up.
pub fn resolve() {
    let _ = redhook::real!(execvp);
}

/// Between fork and exec: what is done in the child that is to become mpiexec, whoever launches it: also a caller
/// that never met our `MPI_Comm_spawn`. Which MPI it has need not be asked: only one that needs it launches so.
#[cold]
fn prepare(launch: Launch) {
    std::mem::forget(guard::Uncancelled::new()); // the exec ends it
    if settings::get().guard != GuardSetting::Call {
        guard::isolate();
    }
    guard::see_children_end();
    guard::set_apart("mpiexec");
    watch::announce(launch);
}

/// The address of the real function that a hook stands in for, if there is one. The hook is reached by its name.
#[cfg(not(target_vendor = "apple"))]
macro_rules! real {
    ($name:ident) => {{
        static REAL: once_cell::race::OnceNonZeroUsize = once_cell::race::OnceNonZeroUsize::new();
        crate::mpi::real(stringify!($name), &REAL)
    }};
}

/// The address of the real function that a hook stands in for, if there is one. The hook is reached through a tuple of
/// two addresses, its own and the real one's, which dyld reads at launch (dyld-1378: appendInterposingTuples in
/// DyldRuntimeState.cpp; resolveSymbol and interpose in Loader.cpp):
///
/// - The real one's is bound to whichever loaded library has it; build.rs tells the linker so.
/// - It is a weak import: in a program without MPI it is null, and dyld ignores the tuple. A strong one would keep
///   that program from starting.
/// - In the tuple itself it stays the real one's, as no library is interposed by its own tuples. dlsym gives the hook's.
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
        std::num::NonZeroUsize::new(TUPLE[1].load(Ordering::Relaxed) as usize)
    }};
}

/// An MPI function that spawns: exported under its name, with `Word` for whatever is a handle or a pointer.
macro_rules! spawn_hook {
    ($(#[$documentation:meta])* $name:ident($($argument:ident: $type:ty),+)) => {
        $(#[$documentation])*
        ///
        /// # Errors
        /// The real function's error code; [`NO_MPI`] if there is no real function.
        ///
        /// # Safety
        /// That of the real function, which gets every argument as it came.
        #[cfg_attr(not(target_vendor = "apple"), unsafe(no_mangle))]
        #[allow(non_snake_case)]
        pub unsafe extern "C-unwind" fn $name($($argument: $type),+) -> c_int {
            type Real = unsafe extern "C-unwind" fn($($type),+) -> c_int;
            let name = stringify!($name);
            let Some(real) = catch_unwind(|| real!($name)).unwrap_or(None) else {
                log::error!("{name} was called, but no MPI library is loaded in this program");
                return NO_MPI;
            };
            let spawn = Spawn::begin(name);
            // SAFETY: the address is that of the real function, whose prototype this is: a Word has the size and
            // the registers of a handle or a pointer. The arguments are the caller's.
            let code = unsafe { std::mem::transmute::<usize, Real>(real.get())($($argument),+) };
            spawn.end(code);
            code
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

spawn_hook! {
    /// `MPI_Comm_spawn` (MPI 4.1, section 11.8.2): `command`, `argv`, `maxprocs`, `info`, `root`, `comm`,
    /// `intercomm`, `array_of_errcodes`.
    MPI_Comm_spawn(
        command: Word, argv: Word, maxprocs: c_int, info: Word, root: c_int, comm: Word, intercomm: Word,
        errcodes: Word
    )
}

spawn_hook! {
    /// `MPI_Comm_spawn_multiple` (MPI 4.1, section 11.8.3): `count`, `array_of_commands`, `array_of_argv`,
    /// `array_of_maxprocs`, `array_of_info`, `root`, `comm`, `intercomm`, `array_of_errcodes`.
    MPI_Comm_spawn_multiple(
        count: c_int, commands: Word, argvs: Word, maxprocs: Word, infos: Word, root: c_int, comm: Word,
        intercomm: Word, errcodes: Word
    )
}

/// One call of a spawning function, from the decision to the outcome.
///
/// No panic leaves `begin` or `end`: a defect here costs the guard or a log line, not the program's call.
struct Spawn {
    name: &'static str,
    started: Instant,
    // In the order in which they end, should the real function be left by an exception.
    prte: Option<prte::Expected>,
    watch: Option<Watch>,
    guard: Option<CallGuard>,
}

impl Spawn {
    fn begin(name: &'static str) -> Spawn {
        let _uncancelled = guard::Uncancelled::new();
        let acts = catch_unwind(|| {
            let facts = Facts {
                setting: settings::get().guard,
                manager: launcher::process_manager(),
                mpi: Mpi::of_this_program(),
                stdin: Stdin::of_this_program(),
            };
            let decision = decision::decide(&facts);
            log::info!("{name}: {facts}; {decision}");
            let prte = decision
                .by_fork
                .then(|| prte::Expected::begin(name))
                .flatten();
            let (watch, guard) = match decision.guard {
                Guard::None => (None, None),
                Guard::Launch => (Watch::begin(name, facts.mpi), None),
                Guard::Call => {
                    let guard = guard_call(name);
                    (Watch::begin(name, facts.mpi), guard)
                }
            };
            (prte, watch, guard)
        });
        let (prte, watch, guard) = acts.unwrap_or_default();
        Spawn {
            name,
            started: Instant::now(),
            prte,
            watch,
            guard,
        }
    }

    fn end(self, code: c_int) {
        let _uncancelled = guard::Uncancelled::new();
        let milliseconds = self.started.elapsed().as_millis();
        let _ = catch_unwind(AssertUnwindSafe(|| {
            drop(self.prte);
            drop(self.watch);
            drop(self.guard);
            let (name, success) = (self.name, if code == 0 { " (MPI_SUCCESS)" } else { "" });
            log::info!("{name}: returned {code}{success} after {milliseconds} ms");
        }));
    }
}

fn guard_call(name: &str) -> Option<CallGuard> {
    if let Some(threads) = guard::threads().filter(|&threads| threads > 1) {
        log::warn!(
            "{name}: all {threads} threads of this program are without stdin during the call"
        );
    }
    CallGuard::new()
        .inspect_err(|errno| {
            log::warn!("{name}: stdin can't be replaced (errno {errno}); the call goes on without")
        })
        .ok()
}
