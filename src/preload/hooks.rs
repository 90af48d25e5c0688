//! The exported functions: gather the facts, ask, act, call the real one; nothing else.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(target_vendor = "apple")]
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Instant;

#[cfg(target_vendor = "apple")]
use libc::c_void;
use libc::{c_char, c_int};

use crate::mpi::launch::Launch;
use crate::mpi::remedies::Target;
use crate::preload::after_fork::{self, Arguments};
use crate::preload::call_guard::{self, CallGuard};
use crate::preload::child_arguments::{self, Arguments as Children, Replaced};
use crate::preload::decision::{self, Facts, Guard};
use crate::preload::env_changes::EnvChanges;
use crate::preload::failed_spawn::{Call, ErrorPath};
use crate::preload::first_spawn::FirstSpawn;
use crate::preload::host_process::{self, Uncancelled};
use crate::preload::init::Init;
use crate::preload::real_fn::RealFn;
use crate::shared::settings::GuardSetting;
use crate::shared::stdio::{self, Stdin};

// int execvp(const char *file, char *const argv[]): exec(3). What MPICH and its kin call in their forked child.
redhook::hook! {
    unsafe fn execvp(file: *const c_char, argv: *const *const c_char) -> c_int => execvp_hook {
        // SAFETY: the caller keeps the function's contract.
        unsafe { execute(redhook::real!(execvp), file, argv) }
    }
}

// int execv(const char *path, char *const argv[]): exec(3). What Open MPI calls in its forked child.
redhook::hook! {
    unsafe fn execv(path: *const c_char, argv: *const *const c_char) -> c_int => execv_hook {
        // SAFETY: the caller keeps the function's contract.
        unsafe { execute(real_execv, path, argv) }
    }
}

/// execv is execve with the environment that is there (POSIX); so called, it needs no look-up at load, which every
/// process would pay for.
#[cfg(not(target_vendor = "apple"))]
unsafe extern "C" fn real_execv(path: *const c_char, argv: *const *const c_char) -> c_int {
    // SAFETY: the caller keeps the function's contract, and environ is what it takes.
    unsafe { libc::execve(path, argv, host_process::environ()) }
}
#[cfg(target_vendor = "apple")]
use execv as real_execv;

/// dyld finds redhook's tuples by their section; without a reference to them, the compiler would leave them out.
#[cfg(target_vendor = "apple")]
#[used]
static EXECVP_TUPLE: AtomicPtr<execvp::execvp> = AtomicPtr::new(&raw mut execvp::execvp);
#[cfg(target_vendor = "apple")]
#[used]
static EXECV_TUPLE: AtomicPtr<execv::execv> = AtomicPtr::new(&raw mut execv::execv);

/// Finds the real execvp, for the ctor: a forked child can't look it up.
pub fn resolve() {
    let _ = redhook::real!(execvp);
}

/// Calls the real function; if this is an MPI's launch, executes the agent instead. A vforked child comes here, too:
/// what is no launch writes nothing.
///
/// # Safety
/// The arguments must be what execv and execvp take.
unsafe fn execute(
    real: unsafe extern "C" fn(*const c_char, *const *const c_char) -> c_int,
    file: *const c_char,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: by this function's contract. A null file or argv is the real function's to refuse.
    unsafe {
        if file.is_null() || host_process::settings().guard == GuardSetting::Off {
            return real(file, argv);
        }
        let name = CStr::from_ptr(file);
        let arguments = Arguments::new(argv);
        let words = arguments.as_ref().map(|arguments| arguments.words());
        let Some(launch) = words.and_then(|words| Launch::recognise(name.to_bytes(), words)) else {
            return real(file, argv);
        };
        if let Some(arguments) = arguments {
            after_fork::exec_agent(launch, name, arguments);
        }
        real(file, argv);
        after_fork::exit(name, stdio::errno())
    }
}

/// The real function that a hook stands in for, if there is one. The hook is reached by its name.
#[cfg(not(target_vendor = "apple"))]
macro_rules! real {
    ($find:ident, $name:ident) => {{ RealFn::$find(stringify!($name)) }};
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
    ($find:ident, $name:ident) => {{
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

/// Defines an exported MPI function that spawns. Handles and pointers are passed through as `Word`. The last
/// arguments name the communicator and the place of the new one, which a failed spawn needs, and what tells the
/// children's words.
macro_rules! spawn_hook {
    (
        $(#[$documentation:meta])* $name:ident($($argument:ident: $type:ty),+),
        $comm:ident, $intercomm:ident, $commands:ident, $argvs:ident, $count:expr
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
            let name = stringify!($name);
            let Some(real) = catch_unwind(|| real!(find, $name)).unwrap_or(None) else {
                log::error!("{name} was called, but no MPI library is loaded");
                return NO_MPI;
            };
            let children = Children { commands: $commands, argvs: $argvs, count: $count };
            // SAFETY: the caller's communicator and words.
            let spawn = match unsafe { Spawn::begin(name, &real, $comm, children) } {
                Ok(spawn) => spawn,
                // SAFETY: the caller's communicator.
                Err(error_path) => return unsafe { error_path.raise($comm) },
            };
            let Children { commands: $commands, argvs: $argvs, .. } = spawn.children(children);
            // SAFETY: the address is that of the real function, whose prototype this is: a Word has the size and
            // the registers of a handle or a pointer. The arguments are the caller's.
            let code = unsafe { std::mem::transmute::<usize, Function>(real.address())($($argument),+) };
            match spawn.end(code) {
                // SAFETY: the caller's communicator, and where libmpi has put another one.
                Some(error_path) => unsafe { error_path.error($comm, $intercomm) },
                None => code,
            }
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
    ), comm, intercomm, command, argv, None
}

spawn_hook! {
    /// `MPI_Comm_spawn_multiple` (MPI 4.1, section 11.8.3): `count`, `array_of_commands`, `array_of_argv`,
    /// `array_of_maxprocs`, `array_of_info`, `root`, `comm`, `intercomm`, `array_of_errcodes`.
    MPI_Comm_spawn_multiple(
        count: c_int, commands: Word, argvs: Word, maxprocs: Word, infos: Word, root: c_int, comm: Word,
        intercomm: Word, errcodes: Word
    ), comm, intercomm, commands, argvs, Some(count)
}

/// One call of a spawning function, from the decision to the outcome.
///
/// No panic leaves `begin` or `end`: a defect here costs the guard or a log line, not the application's call.
struct Spawn {
    name: &'static str,
    started: Instant,
    changes: Option<EnvChanges>,
    guard: Option<CallGuard>,
    call: Option<Call>,
    first: Option<FirstSpawn>,
    /// What carries the children's words, if PMI would change them.
    replaced: Option<Replaced>,
}

impl Spawn {
    /// # Errors
    /// The children's words can't be passed to them: the way to an error.
    ///
    /// # Safety
    /// `comm` must be a communicator's handle, the children what the function of this name takes at its root.
    unsafe fn begin(
        name: &'static str,
        real: &RealFn,
        comm: Word,
        children: Children,
    ) -> Result<Spawn, ErrorPath> {
        let _uncancelled = Uncancelled::new();
        let guarded = catch_unwind(AssertUnwindSafe(|| {
            let facts = Facts {
                setting: host_process::settings().guard,
                manager: host_process::management().manager,
                mpi: real.mpi(),
                stdin: Stdin::of_this_process(),
            };
            let decision = decision::decide(&facts);
            log::info!("{name}: {facts}; {decision}");
            after_fork::note_mpi(&facts.mpi);
            let changes = match decision.guard {
                Guard::Launch => EnvChanges::begin(name, Target::Spawn, &facts.mpi, &real.object()),
                _ => None,
            };
            let (guard, call) = match decision.guard {
                Guard::Call => (guard_call(name), None),
                Guard::Launch if facts.mpi.family.is_mpich_kin() => {
                    // SAFETY: by this function's contract.
                    (None, unsafe { Call::begin(comm) })
                }
                _ => (None, None),
            };
            let first = match decision.guard {
                Guard::Launch => FirstSpawn::begin(&facts.mpi),
                _ => None,
            };
            (changes, guard, call, first)
        }));
        let (changes, guard, call, first) = guarded.unwrap_or_default();
        let mut spawn = Spawn {
            name,
            started: Instant::now(),
            changes,
            guard,
            call,
            first,
            replaced: None,
        };
        // Only at the root of a communicator of one are these words the caller's for sure.
        if spawn.call.is_some() {
            // SAFETY: by this function's contract.
            match catch_unwind(|| unsafe { child_arguments::replace(children) }) {
                Ok(Ok(replaced)) => spawn.replaced = replaced,
                Ok(Err(refusal)) => {
                    log::error!("{name}: {refusal}");
                    if let Ok(Some(error_path)) = catch_unwind(ErrorPath::find) {
                        return Err(error_path);
                    }
                }
                Err(_) => {}
            }
        }
        Ok(spawn)
    }

    /// What the real function gets in place of these.
    fn children(&self, given: Children) -> Children {
        match &self.replaced {
            Some(replaced) => replaced.arguments(given),
            None => given,
        }
    }

    /// The real function has returned. Gives the way to an error if the children ended before they connected, which
    /// libmpi doesn't know.
    fn end(self, code: c_int) -> Option<ErrorPath> {
        let _uncancelled = Uncancelled::new();
        let milliseconds = self.started.elapsed().as_millis();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            drop((self.guard, self.changes));
            if let Some(first) = self.first {
                first.end(code);
            }
            let has_failed = code == 0 && self.call.is_some_and(|call| call.has_failed());
            let (name, success) = (self.name, if code == 0 { " (MPI_SUCCESS)" } else { "" });
            let error = if has_failed {
                "; its children ended before they connected, so the application gets MPI_ERR_SPAWN"
            } else {
                ""
            };
            log::info!("{name}: returned {code}{success} after {milliseconds} ms{error}");
            has_failed.then(ErrorPath::find).flatten()
        }));
        ended.unwrap_or_default()
    }
}

/// Defines an exported MPI function that initialises MPI.
macro_rules! init_hook {
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
            type Function = unsafe extern "C-unwind" fn($($type),+) -> c_int;
            let name = stringify!($name);
            let Some(real) = catch_unwind(|| real!(find_for_caller, $name)).unwrap_or(None) else {
                log::error!("{name} was called, but no MPI library is loaded");
                return NO_MPI;
            };
            let init = catch_unwind(AssertUnwindSafe(|| Init::begin(name, &real))).unwrap_or_default();
            // SAFETY: the address is that of the real function, whose prototype this is. The arguments are the caller's.
            let code = unsafe { std::mem::transmute::<usize, Function>(real.address())($($argument),+) };
            let _ = catch_unwind(AssertUnwindSafe(|| init.end(name)));
            code
        }
        #[cfg(target_vendor = "apple")]
        std::arch::global_asm!(concat!(".weak_reference _", stringify!($name)));
    };
}

init_hook! {
    /// `MPI_Init` (MPI 4.1, section 11.2.1): `argc`, `argv`.
    MPI_Init(argc: Word, argv: Word)
}

init_hook! {
    /// `MPI_Init_thread` (MPI 4.1, section 11.2.1): `argc`, `argv`, `required`, `provided`.
    MPI_Init_thread(argc: Word, argv: Word, required: c_int, provided: Word)
}

init_hook! {
    /// What Open MPI's Fortran `MPI_INIT` calls (ompi/mpi/fortran/mpif-h/init_f.c).
    PMPI_Init(argc: Word, argv: Word)
}

init_hook! {
    /// What Open MPI's Fortran `MPI_INIT_THREAD` calls (ompi/mpi/fortran/mpif-h/init_thread_f.c).
    PMPI_Init_thread(argc: Word, argv: Word, required: c_int, provided: Word)
}

fn guard_call(name: &str) -> Option<CallGuard> {
    if let Some(threads) = call_guard::threads().filter(|&threads| threads > 1) {
        log::warn!(
            "{name}: all {threads} threads of this process are without stdin during the call"
        );
    }
    CallGuard::new()
        .inspect_err(|errno| {
            log::warn!("{name}: stdin can't be replaced (errno {errno}); the call goes on without")
        })
        .ok()
}
