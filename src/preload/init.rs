//! MPI_Init in a singleton: it gets the remedies, and does not keep the application's signals.

use std::mem::MaybeUninit;

use libc::c_int;

use crate::mpi::remedies::Target;
use crate::preload::after_fork;
use crate::preload::env_changes::{self, EnvChanges};
use crate::preload::real_fn::RealFn;

/// One call of MPI_Init, from before the real function to behind it.
#[derive(Default)]
pub struct Init {
    changes: Option<EnvChanges>,
    dispositions: Dispositions,
}

impl Init {
    /// The application is about to call this real function.
    pub fn begin(name: &str, real: &RealFn) -> Init {
        let mpi = real.mpi();
        after_fork::note_mpi(&mpi);
        if !env_changes::is_wanted(&mpi) {
            return Init::default();
        }
        Init {
            changes: EnvChanges::begin(name, Target::Init, &mpi, &real.object()),
            dispositions: Dispositions::save(),
        }
    }

    /// The real function has returned.
    pub fn end(self, name: &str) {
        drop(self.changes);
        let restored = self.dispositions.restore();
        if !restored.is_empty() {
            log::info!("{name}: the application's signal dispositions are back: {restored:?}");
        }
    }
}

/// The signal dispositions that are not the default. MPI_Init lets libfabric's shm provider take SIGINT, SIGHUP and
/// others (ofi_shm_p2p: prov/util/src/util_shm.c in libfabric), though the application handles or ignores them: `nohup`
/// is lost, and Ctrl-C at a prompt removes the segments by which children connect.
#[derive(Default)]
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

    /// Puts back those that have changed, and gives their numbers.
    fn restore(self) -> Vec<c_int> {
        let changed = self.0.into_iter().filter(|(signal, before)| {
            of(*signal).is_some_and(|now| now.sa_sigaction != before.sa_sigaction)
        });
        let restored = changed.map(|(signal, before)| {
            // SAFETY: the disposition is what the application had set for this signal; nothing is written.
            unsafe { libc::sigaction(signal, &before, std::ptr::null_mut()) };
            signal
        });
        restored.collect()
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
