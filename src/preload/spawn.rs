//! One call of a spawning function, from the decision to the outcome.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Instant;

use libc::c_int;

use crate::mpi::remedies::Target;
use crate::preload::after_fork;
use crate::preload::call::{Call, is_alone};
use crate::preload::call_guard::{self, CallGuard};
use crate::preload::child_arguments::{Arguments, Replaced, replace};
use crate::preload::decision::{self, Facts, Guard};
use crate::preload::env_changes::{self, EnvChanges};
use crate::preload::failed_spawn::ErrorPath;
use crate::preload::first_spawn::FirstSpawn;
use crate::preload::host_process::{self, contained};
use crate::preload::real_fn::RealFn;
use crate::shared::stdio::Stdin;

/// What is done for as long as the call lasts.
enum Guarded {
    Not,
    Call {
        _guard: CallGuard,
    },
    Launch {
        call: Option<Call>,
        first: Option<FirstSpawn>,
        _changes: Option<EnvChanges>,
        /// What carries the children's words, if PMI would change them.
        _replaced: Option<Replaced>,
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
    mut children: Arguments,
    call: impl FnOnce(Arguments) -> c_int,
) -> c_int {
    // SAFETY: by this function's contract.
    let begun = contained(|| unsafe { begin(name, real, comm, &mut children) });
    let guarded = match begun.unwrap_or(Ok(Guarded::Not)) {
        Ok(guarded) => guarded,
        // SAFETY: by this function's contract.
        Err(error_path) => return unsafe { error_path.raise(comm) },
    };

    let started = Instant::now();
    let code = call(children);

    match contained(|| end(name, guarded, code, started)).flatten() {
        // SAFETY: by this function's contract.
        Some((call, error_path)) => unsafe {
            error_path.disconnect(intercomm);
            // From here on the agent may end the placeholder. The error handler may not return.
            drop(call);
            error_path.raise(comm)
        },
        None => code,
    }
}

/// Gives the real function other `children` where PMI would change their words.
///
/// # Errors
/// The real function would wait without end, or the words can't be passed: the way to an error.
///
/// # Safety
/// That of [`around`].
unsafe fn begin(
    name: &str,
    real: &RealFn,
    comm: usize,
    children: &mut Arguments,
) -> Result<Guarded, ErrorPath> {
    let facts = Facts {
        setting: host_process::settings().guard,
        manager: host_process::management().manager,
        mpi: real.mpi(),
        stdin: Stdin::of_this_process(),
    };
    let (guard, reason) = decision::decide(&facts);
    log::info!("{name}: {facts}; guard: {guard} ({reason})");
    let mpi = &facts.mpi;
    after_fork::note_mpi(mpi);
    Ok(match guard {
        Guard::None => Guarded::Not,
        Guard::Call => {
            call_guard::begin(name).map_or(Guarded::Not, |guard| Guarded::Call { _guard: guard })
        }
        Guard::Launch => {
            let is_kin = mpi.family.is_mpich_kin();
            // SAFETY: by this function's contract.
            let is_alone = is_kin && unsafe { is_alone(comm) };
            let call = is_alone.then(Call::begin).flatten();
            let changes = env_changes::begin(name, Target::Spawn, mpi, &real.file());
            let first = FirstSpawn::begin(mpi);
            // Only at the root of a communicator of one are these words the caller's for sure.
            let replaced = match is_alone {
                true if !has_loopback() => Err(LOOPBACK_IS_DOWN.to_owned()),
                // SAFETY: by this function's contract.
                true => unsafe { replace(*children) },
                false => Ok(None),
            };
            let replaced = replaced.or_else(|refusal| {
                log::error!("{name}: {refusal}");
                ErrorPath::find().map_or(Ok(None), Err)
            })?;
            if let Some(replaced) = &replaced {
                *children = replaced.arguments(*children);
            }
            Guarded::Launch {
                call,
                first,
                _changes: changes,
                _replaced: replaced,
            }
        }
    })
}

const LOOPBACK_IS_DOWN: &str = "the loopback interface is down, through which MPI and mpiexec reach each other: bring it up \
     (ip link set lo up)";

/// Whether libmpi, which waits for its launcher without end (PMII_singinit in MPICH's src/pmi/src/pmi_v1.c), can be reached.
fn has_loopback() -> bool {
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect((Ipv4Addr::LOCALHOST, 9)));
    !probe.is_err_and(|error| error.kind() == ErrorKind::NetworkUnreachable)
}

/// The real function has returned. Gives the call and the way to an error if the children ended before they connected,
/// which libmpi doesn't know.
fn end(name: &str, guarded: Guarded, code: c_int, started: Instant) -> Option<(Call, ErrorPath)> {
    let milliseconds = started.elapsed().as_millis();
    let failed = match guarded {
        Guarded::Launch { call, first, .. } => {
            if let Some(first) = first {
                first.end(code);
            }
            call.filter(|call| code == 0 && call.has_failed())
        }
        _ => None,
    };
    let success = if code == 0 { " (MPI_SUCCESS)" } else { "" };
    let error = match failed {
        Some(_) => {
            "; its children ended before they connected, so the application gets MPI_ERR_SPAWN"
        }
        None => "",
    };
    log::info!("{name}: returned {code}{success} after {milliseconds} ms{error}");
    failed.and_then(|call| Some((call, ErrorPath::find()?)))
}
