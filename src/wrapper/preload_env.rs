//! Where the library is, and the variables by which the dynamic linker loads it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::preload_list::{System, in_front};
use crate::shared::dispositions::is_ignored;
use crate::shared::internal_args::LIBRARY_PLACES;
use crate::shared::logging::escape;
use crate::shared::paths;

/// A variable to set.
pub type Variable = (&'static str, OsString);

/// The library that belongs to this command, and the variables by which the dynamic linker here loads it into what this
/// process starts; and what keeps nohup(1). The error is for the user.
pub fn here() -> Result<(PathBuf, Vec<Variable>), String> {
    let library = library()?;
    let mut variables = variables(System::HERE, &library, |name| std::env::var_os(name))?;
    // Under nohup(1) it keeps UCX, which MPICH brings along, from taking SIGHUP before the library is loaded, which would
    // then not see nohup (ucs_global_opts_table: src/ucs/config/global_opts.c in UCX).
    let ucx = "UCX_DEBUG_SIGNO";
    if is_ignored(libc::SIGHUP) && std::env::var_os(ucx).is_none() {
        variables.push((ucx, "0".into()));
    }
    Ok((library, variables))
}

fn library() -> Result<PathBuf, String> {
    let own = paths::own().ok_or("the path of this executable is not known")?;
    let directory = own.parent().unwrap_or(Path::new("/"));
    let mut looked = Vec::new();
    for place in LIBRARY_PLACES {
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

/// The variables by which the dynamic linker loads this library, made from the present ones.
pub fn variables(
    system: System,
    library: &Path,
    present: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<Variable>, String> {
    let (path, shown) = (library.as_os_str(), escape(library));
    let present = |name| present(name).unwrap_or_default();
    let has = |bytes: &[u8]| path.as_bytes().iter().any(|byte| bytes.contains(byte));
    if has(b":") {
        return Err(format!("a path with a colon can't be preloaded: {shown}"));
    }
    let variable = system.variable();
    if system == System::MacOs || !has(b" \t\n\r\x0b\x0c") {
        let list = in_front(system, path, &present(variable));
        return Ok(vec![(variable, list)]);
    }
    // ld.so splits LD_PRELOAD at colons and blanks and knows no quoting; LD_LIBRARY_PATH at colons and semicolons. So a
    // path with blanks goes there, and the bare name is preloaded.
    if has(b";") {
        return Err(format!(
            "a path with blanks and a semicolon can't be preloaded: {shown}"
        ));
    }
    let name = OsStr::new(system.library());
    let list = in_front(system, name, &present(variable));
    // A directory that holds only the library, so that no other library is found there.
    let mut place = library.parent().unwrap_or(Path::new("/")).to_owned();
    if place.join("spawnfix").join(name).exists() {
        place.push("spawnfix");
    }
    let mut directories = present("LD_LIBRARY_PATH");
    let mut each = directories.as_bytes().split(|&byte| byte == b':');
    if !each.any(|directory| directory == place.as_os_str().as_bytes()) {
        let others = std::mem::replace(&mut directories, place.into());
        if !others.is_empty() {
            directories.push(":");
            directories.push(others);
        }
    }
    Ok(vec![(variable, list), ("LD_LIBRARY_PATH", directories)])
}

#[cfg(test)]
mod tests {
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
    fn the_library_comes_first_or_behind_a_sanitizers_runtime() {
        let list =
            |before| made(System::Elf, "/o/libspawnfix.so", &[("LD_PRELOAD", before)]).unwrap();
        for (before, after) in [
            ("", "/o/libspawnfix.so"),
            (
                "libm.so.6 libdl.so.2",
                "/o/libspawnfix.so:libm.so.6:libdl.so.2",
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
}
