//! What is launched does not inherit this library: a remote host that has none would say so for each process.

use std::ptr;

use log::Level;

use crate::{logging, settings};

#[cfg(not(target_vendor = "apple"))]
const VARIABLE: &[u8] = b"LD_PRELOAD=";
#[cfg(target_vendor = "apple")]
const VARIABLE: &[u8] = b"DYLD_INSERT_LIBRARIES=";

/// What stands between two entries: ld.so(8), dyld(1).
#[cfg(not(target_vendor = "apple"))]
const SEPARATORS: &[u8] = b": ";
#[cfg(target_vendor = "apple")]
const SEPARATORS: &[u8] = b":";

/// This library's file name. To ask the dynamic linker (dladdr) would cost each process a tenth of the preload.
const OWN_FILE: &[u8] = if cfg!(target_vendor = "apple") {
    b"libspawnfix.dylib"
} else {
    b"libspawnfix.so"
};

/// Between fork and exec: takes our entry out of LD_PRELOAD, in the child's own copy of the environment. The other
/// entries stay, in their order; a list that had no other is taken out whole.
pub fn disinherit() {
    // SAFETY: the child has one thread: nobody else changes its environment. `variable` points into environ, before
    // its final null. The mapping is new, as large as the slice, and stays until the exec.
    unsafe {
        let Some((at, entry)) = settings::environment(VARIABLE).next() else {
            return;
        };
        let variable = settings::environ().add(at);
        // The shortened list goes to memory of its own: the string in the environment may be one that can't be
        // written, and a static that is large enough for any would cost each process under the preload a page.
        let size = entry.len() + 1;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let memory = libc::mmap(ptr::null_mut(), size, protection, flags, -1, 0);
        if memory == libc::MAP_FAILED {
            logging::from_child(
                Level::Warn,
                format_args!("no memory for LD_PRELOAD: what is launched inherits it"),
            );
            return;
        }
        let buffer = std::slice::from_raw_parts_mut(memory.cast::<u8>(), size);
        let (name, list) = buffer.split_at_mut(VARIABLE.len());
        name.copy_from_slice(VARIABLE);
        match without(&entry[VARIABLE.len()..], list) {
            None => {} // not here: there is room for all of it
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

/// Writes the list without the entries that name our file, and a final 0, into `to`. Gives the length, or `None`
/// if there is too little room. An entry is ours by its last part: `libspawnfix.so` may stand for a file that the
/// dynamic linker has looked for, `$LIB` for a part of its path.
fn without(list: &[u8], to: &mut [u8]) -> Option<usize> {
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
        if entry.is_empty() || entry.rsplit(|&byte| byte == b'/').next() == Some(OWN_FILE) {
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

// With Linux's names and separators.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn left(list: &str) -> String {
        let mut buffer = [1; 256];
        let length = without(list.as_bytes(), &mut buffer).unwrap();
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
        assert_eq!(without(b"a.so:b.so", &mut [0; 9]), None);
        assert_eq!(without(b"a.so:b.so", &mut [0; 10]), Some(9));
    }

    proptest! {
        #[test]
        fn what_stays_is_what_was_there_less_ours(list in "([ab/]{0,3}|(/x/)?libspawnfix.so|[: ]){0,12}") {
            let split = |list: &str| -> Vec<String> {
                list.split([':', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
            };
            let mut buffer = [0; 256];
            let length = without(list.as_bytes(), &mut buffer).unwrap();
            let left = String::from_utf8(buffer[..length].to_vec()).unwrap();
            let mut expected = split(&list);
            expected.retain(|word| word.rsplit('/').next() != Some("libspawnfix.so"));
            prop_assert_eq!(split(&left), expected);
        }
    }
}
