//! The list of libraries in LD_PRELOAD, or on macOS in DYLD_INSERT_LIBRARIES: its entries, and the library's place in it.

use crate::shared::paths::file_name;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The dynamic linker that reads the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// ld.so's systems.
    Elf,
    /// dyld's.
    MacOs,
}

/// The variable that preloads here.
pub const VARIABLE: &str = if cfg!(target_os = "macos") {
    "DYLD_INSERT_LIBRARIES"
} else {
    "LD_PRELOAD"
};

impl System {
    /// This one.
    pub const HERE: System = if cfg!(target_os = "macos") {
        System::MacOs
    } else {
        System::Elf
    };

    /// The library's file name, by which its entry in a list is known.
    pub fn library(self) -> &'static str {
        match self {
            System::Elf => "libspawnfix.so",
            System::MacOs => "libspawnfix.dylib",
        }
    }

    /// Whether this stands between two entries of its list: ld.so(8), dyld(1).
    fn separates(self, byte: u8) -> bool {
        byte == b':' || (byte == b' ' && self == System::Elf)
    }
}

/// The list with this entry in front, and without other copies of the library; a list that has the entry stays as it is.
/// Only a sanitizer's runtime stays ahead of the entry: it ends the process if it "does not come first in initial library
/// list" (compiler-rt's lib/asan/asan_linux.cpp: AsanCheckDynamicRTPrereqs).
pub fn in_front(system: System, entry: &OsStr, list: &OsStr) -> OsString {
    let separates = |byte: &u8| system.separates(*byte);
    let items = || {
        list.as_bytes()
            .split(|byte| separates(byte))
            .filter(|item| !item.is_empty())
    };
    if items().any(|item| item == entry.as_bytes()) {
        return list.to_owned();
    }
    let is_ours = |item: &[u8]| file_name(item) == system.library().as_bytes();
    let rest = if items().any(is_ours) {
        let others: Vec<_> = items().filter(|item| !is_ours(item)).collect();
        others.join(&b':')
    } else {
        list.as_bytes().to_vec()
    };
    let begin = rest.iter().position(|byte| !separates(byte)).unwrap_or(0);
    let end = rest[begin..]
        .iter()
        .position(separates)
        .map_or(rest.len(), |end| begin + end);
    let mut parts = vec![entry.as_bytes(), &rest[..]];
    if is_sanitizer(&rest[begin..end]) {
        parts = vec![
            &rest[begin..end],
            entry.as_bytes(),
            rest.get(end + 1..).unwrap_or(b""),
        ];
    }
    parts.retain(|part| !part.is_empty());
    OsString::from_vec(parts.join(&b':'))
}

/// The list without the library's entries; `None` if it had no others. This is for the launcher and the children: a host
/// without the library would print an error for each process. An entry is the library's if its last component is: the
/// entry may be a bare `libspawnfix.so`, and a path may have `$LIB` in it.
pub fn without_us(list: &OsStr) -> Option<OsString> {
    let mut left = Vec::new();
    let mut start = 0;
    let list = list.as_bytes();
    for end in 0..=list.len() {
        if end < list.len() && !System::HERE.separates(list[end]) {
            continue;
        }
        let entry = &list[start..end];
        if !entry.is_empty() && file_name(entry) != System::HERE.library().as_bytes() {
            // The separator before the entry comes with it, unless it is the first that stays.
            let from = if left.is_empty() { start } else { start - 1 };
            left.extend_from_slice(&list[from..end]);
        }
        start = end + 1;
    }
    (!left.is_empty()).then(|| OsString::from_vec(left))
}

/// Whether an entry of such a list is the runtime of an address sanitizer: gcc's or clang's.
pub fn is_sanitizer(entry: &[u8]) -> bool {
    let name = file_name(entry);
    [
        &b"libasan."[..],
        b"libclang_rt.asan",
        b"libhwasan.",
        b"libclang_rt.hwasan",
    ]
    .iter()
    .any(|start| name.starts_with(start))
}

#[cfg(test)]
#[cfg(target_os = "linux")] // with its names and separators
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
