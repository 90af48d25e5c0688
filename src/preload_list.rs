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
pub const VARIABLE: &str = System::HERE.variable();

impl System {
    /// This one.
    pub const HERE: System = if cfg!(target_os = "macos") {
        System::MacOs
    } else {
        System::Elf
    };

    /// The variable that preloads.
    pub const fn variable(self) -> &'static str {
        match self {
            System::Elf => "LD_PRELOAD",
            System::MacOs => "DYLD_INSERT_LIBRARIES",
        }
    }

    /// The library's file name, by which its entry in a list is known.
    pub fn library(self) -> &'static str {
        match self {
            System::Elf => "libspawnfix.so",
            System::MacOs => "libspawnfix.dylib",
        }
    }

    /// The entries of such a list: ld.so(8), dyld(1).
    fn entries(self, list: &OsStr) -> impl Iterator<Item = &[u8]> {
        let separates = move |byte: &u8| *byte == b':' || (*byte == b' ' && self == System::Elf);
        let entries = list.as_bytes().split(separates);
        entries.filter(|entry| !entry.is_empty())
    }

    /// Whether this entry is the library: the entry may be a bare `libspawnfix.so`, and a path may have `$LIB` in it.
    fn is_ours(self, entry: &[u8]) -> bool {
        file_name(entry) == self.library().as_bytes()
    }
}

/// The list with this entry in front, and without other copies of the library; a list that has the entry stays as it is.
/// Only a sanitizer's runtime stays ahead of the entry: it ends the process if it "does not come first in initial library
/// list" (compiler-rt's lib/asan/asan_linux.cpp: AsanCheckDynamicRTPrereqs).
pub fn in_front(system: System, entry: &OsStr, list: &OsStr) -> OsString {
    let entry = entry.as_bytes();
    if system.entries(list).any(|there| there == entry) {
        return list.to_owned();
    }
    let others = system.entries(list).filter(|other| !system.is_ours(other));
    let mut entries: Vec<_> = others.collect();
    let has_sanitizer = entries.first().is_some_and(|first| is_sanitizer(first));
    entries.insert(usize::from(has_sanitizer), entry);
    OsString::from_vec(entries.join(&b':'))
}

/// The list without the library's entries; `None` if it had no others. This is for the launcher and the children: a host
/// without the library would print an error for each process.
pub fn without_us(list: &OsStr) -> Option<OsString> {
    let here = System::HERE;
    let others: Vec<_> = here
        .entries(list)
        .filter(|entry| !here.is_ours(entry))
        .collect();
    (!others.is_empty()).then(|| OsString::from_vec(others.join(&b':')))
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
            assert_eq!(left(&format!("a.so {ours} b.so")), "a.so:b.so");
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
