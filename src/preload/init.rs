//! MPI_Init in a singleton: it gets the remedies, and does not keep the application's signals.

use libc::c_int;

use crate::mpi::remedies::Target;
use crate::preload::after_fork;
use crate::preload::env_changes;
use crate::preload::host_process::contained;
use crate::preload::real_fn::RealFn;
use crate::shared::dispositions::disposition;

/// Calls the real function, `call`. No panic leaves this: a defect here costs the remedies.
pub fn around(name: &str, real: &RealFn, call: impl FnOnce() -> c_int) -> c_int {
    let begun = contained(|| {
        let mpi = real.mpi();
        after_fork::note_mpi(&mpi);
        let changes = env_changes::begin(name, Target::Init, &mpi, &real.file());
        changes.map(|changes| (changes, dispositions()))
    });
    let code = call();
    if let Some((changes, dispositions)) = begun.flatten() {
        contained(|| {
            drop(changes);
            restore(dispositions, name);
        });
    }
    code
}

/// The signal dispositions that are not the default. MPI_Init lets libfabric's shm provider take SIGINT, SIGHUP and
/// others (ofi_shm_p2p: prov/util/src/util_shm.c in libfabric), though the application handles or ignores them: `nohup`
/// is lost, and Ctrl-C at a prompt removes the segments by which children connect.
fn dispositions() -> Vec<(c_int, libc::sigaction)> {
    // Linux has 64, macOS 31.
    let set = (1..=64).filter_map(|signal| Some((signal, disposition(signal)?)));
    set.filter(|(_, now)| now.sa_sigaction != libc::SIG_DFL)
        .collect()
}

/// Puts back those that have changed.
fn restore(dispositions: Vec<(c_int, libc::sigaction)>, name: &str) {
    for (signal, before) in dispositions {
        if disposition(signal).is_some_and(|now| now.sa_sigaction != before.sa_sigaction) {
            // SAFETY: the disposition is what the application had set for this signal; nothing is written.
            unsafe { libc::sigaction(signal, &before, std::ptr::null_mut()) };
            log::info!("{name}: the application's disposition of signal {signal} is back");
        }
    }
}
