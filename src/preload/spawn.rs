//! One call of a spawning function, from the decision to the outcome.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use libc::c_int;

use crate::mpi::remedies::Target;
use crate::preload::after_fork;
use crate::preload::call::Call;
use crate::preload::call_guard::{self, CallGuard};
use crate::preload::child_arguments::{self, Arguments, Replaced};
use crate::preload::decision::{self, Facts, Guard};
use crate::preload::env_changes::{self, EnvChanges};
use crate::preload::failed_spawn::ErrorPath;
use crate::preload::first_spawn::FirstSpawn;
use crate::preload::host_process::{self, Uncancelled};
use crate::preload::real_fn::RealFn;
use crate::shared::stdio::Stdin;

/// What is done for as long as the call lasts.
#[derive(Default)]
enum Guarded {
    #[default]
    Not,
    Call(CallGuard),
    Launch {
        call: Option<Call>,
        changes: Option<EnvChanges>,
        first: Option<FirstSpawn>,
    },
}

/// Calls the real function, `call`, as the decision says.
///
/// No panic leaves this: a defect here costs the guard or a log line, not the application's call.
///
/// # Safety
/// `comm` must be a communicator's handle, `intercomm` the place of the new one, the children what the function of this
/// name takes at its root.
pub unsafe fn around(
    name: &'static str,
    real: &RealFn,
    comm: usize,
    intercomm: usize,
    children: Arguments,
    call: impl FnOnce(Arguments) -> c_int,
) -> c_int {
    let uncancelled = Uncancelled::new();
    // SAFETY: by this function's contract.
    let begun = catch_unwind(AssertUnwindSafe(|| unsafe { begin(name, real, comm) }));
    let guarded = begun.unwrap_or_default();
    // Only at the root of a communicator of one are these words the caller's for sure.
    let is_root = matches!(guarded, Guarded::Launch { call: Some(_), .. });
    // SAFETY: by this function's contract.
    let replaced = catch_unwind(|| unsafe { is_root.then(|| replace(name, children)) });
    let replaced = match replaced.ok().flatten() {
        Some(Ok(replaced)) => replaced,
        Some(Err(error_path)) => {
            drop((guarded, uncancelled));
            // SAFETY: by this function's contract.
            return unsafe { error_path.raise(comm) };
        }
        None => None,
    };
    drop(uncancelled);

    let started = Instant::now();
    let code = call(
        replaced
            .as_ref()
            .map_or(children, |new| new.arguments(children)),
    );

    let uncancelled = Uncancelled::new();
    let ended = catch_unwind(AssertUnwindSafe(|| end(name, guarded, code, started)));
    drop(uncancelled);
    match ended.unwrap_or_default() {
        // SAFETY: by this function's contract.
        Some(error_path) => unsafe { error_path.error(comm, intercomm) },
        None => code,
    }
}

/// # Safety
/// That of [`around`].
unsafe fn begin(name: &str, real: &RealFn, comm: usize) -> Guarded {
    let facts = Facts {
        setting: host_process::settings().guard,
        manager: host_process::management().manager,
        mpi: real.mpi(),
        stdin: Stdin::of_this_process(),
    };
    let decision = decision::decide(&facts);
    log::info!("{name}: {facts}; {decision}");
    let mpi = &facts.mpi;
    after_fork::note_mpi(mpi);
    match decision.guard {
        Guard::None => Guarded::Not,
        Guard::Call => call_guard::begin(name).map_or(Guarded::Not, Guarded::Call),
        Guard::Launch => Guarded::Launch {
            // SAFETY: by this function's contract.
            call: unsafe {
                mpi.family
                    .is_mpich_kin()
                    .then(|| Call::begin(comm))
                    .flatten()
            },
            changes: env_changes::begin(name, Target::Spawn, mpi, &real.object()),
            first: FirstSpawn::begin(mpi),
        },
    }
}

/// What carries the children's words, if PMI would change them.
///
/// # Errors
/// The words can't be passed: the way to an error.
///
/// # Safety
/// That of [`around`].
unsafe fn replace(name: &str, children: Arguments) -> Result<Option<Replaced>, ErrorPath> {
    // SAFETY: by this function's contract.
    unsafe { child_arguments::replace(children) }.or_else(|refusal| {
        log::error!("{name}: {refusal}");
        ErrorPath::find().map_or(Ok(None), Err)
    })
}

/// The real function has returned. Gives the way to an error if the children ended before they connected, which libmpi
/// doesn't know.
fn end(name: &str, guarded: Guarded, code: c_int, started: Instant) -> Option<ErrorPath> {
    let milliseconds = started.elapsed().as_millis();
    let has_failed = match guarded {
        Guarded::Launch {
            call,
            changes,
            first,
        } => {
            drop(changes);
            if let Some(first) = first {
                first.end(code);
            }
            code == 0 && call.is_some_and(|call| call.has_failed())
        }
        Guarded::Call(guard) => {
            drop(guard);
            false
        }
        Guarded::Not => false,
    };
    let success = if code == 0 { " (MPI_SUCCESS)" } else { "" };
    let error = match has_failed {
        true => "; its children ended before they connected, so the application gets MPI_ERR_SPAWN",
        false => "",
    };
    log::info!("{name}: returned {code}{success} after {milliseconds} ms{error}");
    has_failed.then(ErrorPath::find).flatten()
}
