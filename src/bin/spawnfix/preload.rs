//! What is launched does not inherit the library: a remote host that has none would say so for each process.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The variable that preloads.
pub const VARIABLE: &str = if cfg!(target_vendor = "apple") {
    "DYLD_INSERT_LIBRARIES"
} else {
    "LD_PRELOAD"
};

/// What stands between two entries: ld.so(8), dyld(1).
const SEPARATORS: &[u8] = if cfg!(target_vendor = "apple") {
    b":"
} else {
    b": "
};

/// The library's file name.
const LIBRARY: &[u8] = if cfg!(target_vendor = "apple") {
    b"libspawnfix.dylib"
} else {
    b"libspawnfix.so"
};

/// The list without the entries that name our file; `None` if it had no other. An entry is ours by its last part:
/// `libspawnfix.so` may stand for a file that the dynamic linker has looked for, `$LIB` for a part of its path.
pub fn without_us(list: &OsStr) -> Option<OsString> {
    let mut left = Vec::new();
    let mut start = 0;
    let list = list.as_bytes();
    for end in 0..=list.len() {
        if end < list.len() && !SEPARATORS.contains(&list[end]) {
            continue;
        }
        let entry = &list[start..end];
        if !entry.is_empty() && entry.rsplit(|&byte| byte == b'/').next() != Some(LIBRARY) {
            // The separator before the entry comes with it, unless it is the first that stays.
            let from = if left.is_empty() { start } else { start - 1 };
            left.extend_from_slice(&list[from..end]);
        }
        start = end + 1;
    }
    (!left.is_empty()).then(|| OsString::from_vec(left))
}

// With Linux's names and separators.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn left(list: &str) -> String {
        let left = without_us(OsStr::new(list)).unwrap_or_default();
        left.into_string().unwrap()
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

    proptest! {
        #[test]
        fn what_stays_is_what_was_there_less_ours(list in "([ab/]{0,3}|(/x/)?libspawnfix.so|[: ]){0,12}") {
            let split = |list: &str| -> Vec<String> {
                list.split([':', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
            };
            let mut expected = split(&list);
            expected.retain(|word| word.rsplit('/').next() != Some("libspawnfix.so"));
            prop_assert_eq!(split(&left(&list)), expected);
        }
    }
}
