//! What is launched does not inherit this library: a remote host that has none would say so for each process.

use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::c_char;
use log::Level;

use crate::{logging, settings};

#[cfg(not(target_vendor = "apple"))]
const VARIABLE: &str = "LD_PRELOAD=";
#[cfg(target_vendor = "apple")]
const VARIABLE: &str = "DYLD_INSERT_LIBRARIES=";

/// What stands between two entries: ld.so(8), dyld(1).
#[cfg(not(target_vendor = "apple"))]
const SEPARATORS: &[u8] = b": ";
#[cfg(target_vendor = "apple")]
const SEPARATORS: &[u8] = b":";

/// The file that this library was loaded from, as the dynamic linker names it.
static OWN_FILE: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// For the ctor: a forked child can't ask the dynamic linker.
pub fn resolve() {
    // SAFETY: all zeroes is a Dl_info, of integers and pointers; dladdr takes any address. The name stays as long
    // as this library is loaded.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(resolve as *const _, &mut info) != 0 {
            OWN_FILE.store(info.dli_fname.cast_mut(), Ordering::Relaxed);
        }
    }
}

/// Between fork and exec: takes our entry out of LD_PRELOAD, in the child's own copy of the environment. The other
/// entries stay, in their order; a list that had no other is taken out whole.
pub fn disinherit() {
    /// Where the shortened list goes: the string in the environment may be one that can't be written. It may be
    /// longer than most; a still longer one stays as it is.
    static LIST: List = List(std::cell::UnsafeCell::new([0; 8192]));

    let own = OWN_FILE.load(Ordering::Relaxed);
    if own.is_null() {
        return;
    }
    // SAFETY: `own` is the name that `resolve` was given. The child has one thread: nobody else changes its
    // environment, or uses LIST. `variable` points into environ, before its final null.
    unsafe {
        let own = CStr::from_ptr(own).to_bytes();
        let Some(at) =
            settings::environment().position(|entry| entry.starts_with(VARIABLE.as_bytes()))
        else {
            return;
        };
        let variable = settings::environ().add(at);
        let list = &CStr::from_ptr(*variable).to_bytes()[VARIABLE.len()..];
        let buffer = &mut *LIST.0.get();
        let (name, rest) = buffer.split_at_mut(VARIABLE.len());
        name.copy_from_slice(VARIABLE.as_bytes());
        match without(list, own, rest) {
            None => logging::from_child(
                Level::Warn,
                format_args!(
                    "{} is longer than {} bytes: what is launched inherits it",
                    VARIABLE.trim_end_matches('='),
                    rest.len()
                ),
            ),
            // The entries that follow move up, with the final null.
            Some(0) => {
                let mut next = variable;
                while !(*next).is_null() {
                    *next = *next.add(1);
                    next = next.add(1);
                }
            }
            Some(_) => *variable = buffer.as_ptr().cast(),
        }
    }
}

struct List(std::cell::UnsafeCell<[u8; 8192]>);

// SAFETY: used by `disinherit` alone, in a process with one thread.
unsafe impl Sync for List {}

/// Writes the list without the entries that name our file, and a final 0, into `to`. Gives the length, or `None`
/// if there is too little room. An entry is ours by its path or by its last part: `libspawnfix.so` may stand for a
/// file that the dynamic linker has looked for, `$LIB` for a part of its path.
fn without(list: &[u8], own: &[u8], to: &mut [u8]) -> Option<usize> {
    let last_part = |path: &[u8]| {
        path.rsplit(|&byte| byte == b'/')
            .next()
            .unwrap_or_default()
            .len()
    };
    let own_name = &own[own.len() - last_part(own)..];
    let mut length = 0;
    let mut start = 0;
    for end in 0..=list.len() {
        if end < list.len() && !SEPARATORS.contains(&list[end]) {
            continue;
        }
        let entry = &list[start..end];
        // The separator before the entry goes with it, unless it is the first that stays.
        let from = if length == 0 {
            start
        } else {
            start.saturating_sub(1)
        };
        start = end + 1;
        if entry.is_empty() || &entry[entry.len() - last_part(entry)..] == own_name {
            continue;
        }
        let kept = &list[from..end];
        to.get_mut(length..length + kept.len())?
            .copy_from_slice(kept);
        length += kept.len();
    }
    *to.get_mut(length)? = 0;
    Some(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn left(list: &str) -> String {
        let mut buffer = [1; 256];
        let length = without(list.as_bytes(), b"/opt/lib/libspawnfix.so", &mut buffer).unwrap();
        assert_eq!(buffer[length], 0);
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_others_stay_in_their_order() {
        for ours in [
            "/opt/lib/libspawnfix.so",
            "libspawnfix.so",
            "/opt/$LIB/libspawnfix.so",
        ] {
            assert_eq!(left(ours), "");
            assert_eq!(left(&format!("{ours}:a.so:b.so")), "a.so:b.so");
            assert_eq!(left(&format!("a.so:{ours}:b.so")), "a.so:b.so");
            assert_eq!(left(&format!("a.so {ours} b.so")), "a.so b.so");
            assert_eq!(left(&format!("a.so:b.so:{ours}")), "a.so:b.so");
            assert_eq!(left(&format!("{ours}:a.so {ours}")), "a.so");
        }
        assert_eq!(
            left("/opt/lib/libspawnfix.so.1:mylibspawnfix.so"),
            "/opt/lib/libspawnfix.so.1:mylibspawnfix.so"
        );
    }

    #[test]
    fn a_list_that_is_too_long_is_left_alone() {
        assert_eq!(without(b"a.so:b.so", b"libspawnfix.so", &mut [0; 9]), None);
        assert_eq!(
            without(b"a.so:b.so", b"libspawnfix.so", &mut [0; 10]),
            Some(9)
        );
    }

    proptest! {
        #[test]
        fn what_stays_is_what_was_there_less_ours(list in "[ab/:s ]{0,20}") {
            let words = |list: &str| -> Vec<String> {
                list.split([':', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
            };
            let mut buffer = [0; 64];
            let length = without(list.as_bytes(), b"/x/s", &mut buffer).unwrap();
            let left = String::from_utf8(buffer[..length].to_vec()).unwrap();
            let mut expected = words(&list);
            expected.retain(|word| word.rsplit('/').next() != Some("s"));
            prop_assert_eq!(words(&left), expected);
        }
    }
}
