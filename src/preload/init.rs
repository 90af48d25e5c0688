//! MPI_Init in a singleton: it gets the remedies, and does not keep the application's signals.

use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};

use libc::c_int;

use crate::mpi::remedies::Target;
use crate::preload::after_fork;
use crate::preload::env_changes;
use crate::preload::real_fn::RealFn;

/// Calls the real function, `call`. No panic leaves this: a defect here costs the remedies.
pub fn around(name: &str, real: &RealFn, call: impl FnOnce() -> c_int) -> c_int {
    let begun = catch_unwind(AssertUnwindSafe(|| {
        let mpi = real.mpi();
        after_fork::note_mpi(&mpi);
        let changes = env_changes::begin(name, Target::Init, &mpi, &real.object());
        changes.map(|changes| (changes, Dispositions::save()))
    }));
    let code = call();
    if let Ok(Some((changes, dispositions))) = begun {
        let _ = catch_unwind(AssertUnwindSafe(|| {
            drop(changes);
            dispositions.restore(name);
        }));
    }
    code
}

/// The signal dispositions that are not the default. MPI_Init lets libfabric's shm provider take SIGINT, SIGHUP and
/// others (ofi_shm_p2p: prov/util/src/util_shm.c in libfabric), though the application handles or ignores them: `nohup`
/// is lost, and Ctrl-C at a prompt removes the segments by which children connect.
struct Dispositions(Vec<(c_int, libc::sigaction)>);

impl Dispositions {
    fn save() -> Dispositions {
        // Linux has 64, macOS 31.
        let all = 1..=64;
        let set = all.filter_map(|signal| {
            let disposition = of(signal)?;
            (disposition.sa_sigaction != libc::SIG_DFL).then_some((signal, disposition))
        });
        Dispositions(set.collect())
    }

    /// Puts back those that have changed.
    fn restore(mut self, name: &str) {
        self.0.retain(|(signal, before)| {
            of(*signal).is_some_and(|now| now.sa_sigaction != before.sa_sigaction)
        });
        for (signal, before) in self.0 {
            // SAFETY: the disposition is what the application had set for this signal; nothing is written.
            unsafe { libc::sigaction(signal, &before, std::ptr::null_mut()) };
            log::info!("{name}: the application's disposition of signal {signal} is back");
        }
    }
}

/// A signal's disposition. `None`: there is no such signal.
fn of(signal: c_int) -> Option<libc::sigaction> {
    let mut now = MaybeUninit::uninit();
    // SAFETY: without a new disposition, sigaction only fills `now`, which is read only if it did.
    unsafe {
        (libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr()) == 0)
            .then(|| now.assume_init())
    }
}
