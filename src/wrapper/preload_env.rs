//! The library: where it is, and what makes the dynamic linker load it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::shared::logging::escape;
use crate::shared::paths;

/// Whose dynamic linker it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// The ones with ld.so.
    Elf,
    /// The one with dyld.
    MacOs,
}

/// A variable to set.
pub type Variable = (&'static str, OsString);

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

/// Where the library is looked for, from this program's directory. The link in ../lib/spawnfix leads to a LIBDIR of the
/// installer's choice; beside the program it is where it was built.
const PLACES: [&str; 4] = ["../lib", "../lib64", "../lib/spawnfix", "."];

/// The library that belongs to this program, or what to say.
pub fn library() -> Result<PathBuf, String> {
    let own = paths::own().ok_or("can't tell where this program is")?;
    let directory = own.parent().unwrap_or(Path::new("/"));
    let mut looked = Vec::new();
    for place in PLACES {
        let directory = match place.strip_prefix("../") {
            Some(place) => directory.parent().unwrap_or(Path::new("/")).join(place),
            None => directory.to_owned(),
        };
        let library = directory.join(System::HERE.library());
        if library.is_file() {
            let linked = place == "../lib/spawnfix";
            let real = linked.then(|| library.canonicalize().ok()).flatten();
            return Ok(real.unwrap_or(library));
        }
        looked.push(escape(&library).to_string());
    }
    let looked = looked.join(", ");
    Err(format!("the library is not there; looked for {looked}"))
}

/// The variables that make the dynamic linker load this library, made of those that are there.
pub fn variables(
    system: System,
    library: &Path,
    present: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<Variable>, String> {
    let path = library.as_os_str();
    let present = |name| present(name).unwrap_or_default();
    let has = |bytes: &[u8]| path.as_bytes().iter().any(|byte| bytes.contains(byte));
    if has(b":") {
        return Err(format!(
            "a path with a colon can't be preloaded: {}",
            escape(path)
        ));
    }
    if system == System::MacOs {
        let name = "DYLD_INSERT_LIBRARIES";
        return Ok(vec![(name, in_front(system, path, &present(name)))]);
    }
    if !has(b" \t\n\r\x0b\x0c") {
        let list = in_front(system, path, &present("LD_PRELOAD"));
        return Ok(vec![("LD_PRELOAD", list)]);
    }
    // ld.so splits LD_PRELOAD at colons and blanks and knows no quoting; LD_LIBRARY_PATH at colons and semicolons. So a
    // path with blanks goes there, and the bare name is preloaded.
    if has(b";") {
        let path = escape(path);
        return Err(format!(
            "a path with blanks and a semicolon can't be preloaded: {path}"
        ));
    }
    let name = OsStr::new(system.library());
    let list = in_front(system, name, &present("LD_PRELOAD"));
    // The directory that has nothing but the library: no other program's library comes from elsewhere for it.
    let mut place = library.parent().unwrap_or(Path::new("/")).to_owned();
    if place.join("spawnfix").join(name).exists() {
        place.push("spawnfix");
    }
    let mut directories = present("LD_LIBRARY_PATH");
    let mut each = directories.as_bytes().split(|&byte| byte == b':');
    if !each.any(|directory| directory == place.as_os_str().as_bytes()) {
        let mut longer = place.into_os_string();
        if !directories.is_empty() {
            longer.push(":");
            longer.push(&directories);
        }
        directories = longer;
    }
    Ok(vec![("LD_PRELOAD", list), ("LD_LIBRARY_PATH", directories)])
}

/// The list with this entry in front, once: as it is if it has the entry; without other copies of the library. Only a
/// sanitizer's runtime stays ahead of it: "ASan runtime does not come first in initial library list" is the end of a
/// program (compiler-rt's lib/asan/asan_linux.cpp: AsanCheckDynamicRTPrereqs).
fn in_front(system: System, entry: &OsStr, list: &OsStr) -> OsString {
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

/// The list without the entries that name our file; `None` if it had no other: what is launched does not inherit the
/// library, as a remote host that has none would say so for each process. An entry is ours by its last part:
/// `libspawnfix.so` may stand for a file that the dynamic linker has looked for, `$LIB` for a part of its path.
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

fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    use proptest::prelude::*;

    use super::*;

    fn made(system: System, library: &str, present: &[(&str, &str)]) -> Result<String, String> {
        let made = variables(system, Path::new(library), |name| {
            let found = present.iter().find(|(present, _)| *present == name);
            found.map(|(_, value)| value.into())
        })?;
        let shown = made
            .iter()
            .map(|(name, value)| format!("{name}={}", Path::new(value).display()));
        Ok(shown.collect::<Vec<_>>().join(" | "))
    }

    #[test]
    fn the_library_comes_first_but_for_a_sanitizers_runtime() {
        let list =
            |before| made(System::Elf, "/o/libspawnfix.so", &[("LD_PRELOAD", before)]).unwrap();
        for (before, after) in [
            ("", "/o/libspawnfix.so"),
            (
                "libm.so.6 libdl.so.2",
                "/o/libspawnfix.so:libm.so.6 libdl.so.2",
            ),
            ("/x/libspawnfix.so:libm.so.6", "/o/libspawnfix.so:libm.so.6"),
            ("libm.so.6:/o/libspawnfix.so", "libm.so.6:/o/libspawnfix.so"),
            ("libasan.so.8", "libasan.so.8:/o/libspawnfix.so"),
            (
                "/usr/lib/libasan.so.8 libm.so.6",
                "/usr/lib/libasan.so.8:/o/libspawnfix.so:libm.so.6",
            ),
            (":libasan.so", "libasan.so:/o/libspawnfix.so"),
            (
                "libclang_rt.asan-x86_64.so:a:b",
                "libclang_rt.asan-x86_64.so:/o/libspawnfix.so:a:b",
            ),
            (
                "libspawnfix.so:libasan.so.8",
                "libasan.so.8:/o/libspawnfix.so",
            ),
            (
                "libm.so.6:libasan.so.8",
                "/o/libspawnfix.so:libm.so.6:libasan.so.8",
            ),
        ] {
            assert_eq!(list(before), format!("LD_PRELOAD={after}"), "{before}");
        }
    }

    #[test]
    fn macos_has_a_list_of_its_own_in_which_blanks_are_no_separators() {
        let list = |before| {
            let present = [
                ("DYLD_INSERT_LIBRARIES", before),
                ("LD_PRELOAD", "libm.so.6"),
            ];
            made(System::MacOs, "/o p/libspawnfix.dylib", &present).unwrap()
        };
        for (before, after) in [
            ("", "/o p/libspawnfix.dylib"),
            (
                "/a b.dylib:/c.dylib",
                "/o p/libspawnfix.dylib:/a b.dylib:/c.dylib",
            ),
            (
                "/x y/libspawnfix.dylib:/c.dylib",
                "/o p/libspawnfix.dylib:/c.dylib",
            ),
        ] {
            assert_eq!(list(before), format!("DYLD_INSERT_LIBRARIES={after}"));
        }
    }

    #[test]
    fn a_path_that_the_dynamic_linker_cannot_read_is_refused_or_gone_around() {
        for library in ["/a:b/libspawnfix.so", "/a b;c/libspawnfix.so"] {
            assert!(made(System::Elf, library, &[]).is_err());
        }
        let around = |present: &[_]| made(System::Elf, "/a b/libspawnfix.so", present).unwrap();
        assert_eq!(
            around(&[]),
            "LD_PRELOAD=libspawnfix.so | LD_LIBRARY_PATH=/a b"
        );
        for (before, after) in [
            ("/c:/d", "/a b:/c:/d"),
            ("/c:/a b", "/c:/a b"),
            ("", "/a b"),
        ] {
            let made = around(&[("LD_LIBRARY_PATH", before)]);
            assert_eq!(
                made,
                format!("LD_PRELOAD=libspawnfix.so | LD_LIBRARY_PATH={after}")
            );
        }
    }

    #[cfg(target_os = "linux")]
    fn left(list: &str) -> String {
        let left = without_us(OsStr::new(list)).unwrap_or_default();
        left.into_string().unwrap()
    }

    #[cfg(target_os = "linux")] // with its names and separators
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

    #[cfg(target_os = "linux")]
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
