//! Lost children under Open MPI. Its MPI_Comm_spawn waits in PMIx_Lookup until the children have published that they are
//! there (opal_pmix_base_exchange in opal/mca/pmix/base/pmix_base_fns.c): for 5 minutes under 4.1, without end under 5.0.
//! Here it asks again and again instead, and looks for the children in /proc meanwhile.

use std::ffi::{CStr, c_char, c_int};
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::preload::host_process::{self, contained};
use crate::shared::settings::GuardSetting;

/// PMIX_ERR_TIMEOUT and PMIX_ERR_NOT_FOUND in pmix_common.h.
const TIMEOUT: c_int = -24;
const NOT_FOUND: c_int = -46;
/// Where a pmix_pdata_t has its key: behind a pmix_proc_t (pmix_common.h).
const KEY_AT: usize = 260;

/// When children are looked for first, and how often.
const LOOK_AT: Duration = Duration::from_millis(5);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long children that were seen on this host must be gone until they are lost.
const LOST_AFTER: Duration = Duration::from_secs(2);
/// How long they are looked for. Then libmpi waits as it would.
const LOOK_FOR: Duration = Duration::from_secs(300);

/// Calls PMIx_Lookup for `data`: `wait` as it was called, or `look`, which does not wait, again and again.
///
/// # Safety
/// `data` must be the address of a pmix_pdata_t, or 0.
pub unsafe fn around(data: usize, wait: impl FnOnce() -> c_int, look: impl Fn() -> c_int) -> c_int {
    // SAFETY: by this function's contract.
    let Some(mark) = contained(|| unsafe { mark_of_children(data) }).flatten() else {
        return wait();
    };
    let began = Instant::now();
    let mut look_at = began + LOOK_AT;
    let mut seen = None;
    loop {
        let code = look();
        if code != NOT_FOUND {
            return code;
        }
        let now = Instant::now();
        if now - began > LOOK_FOR {
            return wait();
        }
        if now >= look_at {
            look_at = now + LOOK_EVERY;
            // A defect of ours counts as a child that lives.
            if contained(|| is_inherited(&mark)) != Some(false) {
                seen = Some(now);
            } else if seen.is_some_and(|seen| now - seen >= LOST_AFTER) {
                contained(|| {
                    log::error!("the children ended before they connected; the spawn fails")
                });
                return TIMEOUT;
            }
        }
        // Not long beside what the spawn takes anyway.
        sleep(((now - began) / 128).clamp(LOOK_AT / 10, LOOK_EVERY / 10));
    }
}

/// The variable that only the awaited children have: ompi_dpm_spawn in ompi/dpm/dpm.c. `None`: this library has no part in
/// this look-up, or the user has set a time limit.
///
/// # Safety
/// That of [`around`].
unsafe fn mark_of_children(data: usize) -> Option<Vec<u8>> {
    let is_ours = data != 0
        && host_process::management().manager.is_none()
        && host_process::settings().guard != GuardSetting::Off
        && std::env::var_os("OMPI_MCA_pmix_base_exchange_timeout").is_none();
    let key = std::ptr::with_exposed_provenance::<c_char>(data + KEY_AT);
    // SAFETY: by the contract, it has a key, a C string.
    let key = is_ours.then(|| unsafe { CStr::from_ptr(key) })?;
    let port = key.to_bytes().strip_suffix(b":connect")?;
    Some([b"OMPI_PARENT_PORT=", port, b"\0"].concat())
}

/// Whether a process on this host has this variable.
fn is_inherited(mark: &[u8]) -> bool {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut all = all.filter_map(|entry| fs::read(entry.path().join("environ")).ok());
    all.any(|variables| {
        variables
            .split_inclusive(|byte| *byte == 0)
            .any(|it| it == mark)
    })
}
