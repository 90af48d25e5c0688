//! `module load spawnfix` brings the wrapper, the bare name and the manual page; `module unload` takes away just these.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::commands::*;
use crate::common::installed::*;
use crate::common::*;

/// The two systems that scripts/fetch/modules unpacked, and the start-up file of each.
fn module_systems() -> Vec<(&'static str, PathBuf)> {
    let modules = library().with_file_name("../modules");
    if !modules.join("done").exists() {
        skip(
            "no Environment Modules and Lmod in target/modules: scripts/fetch/modules fetches them where apt-get is",
        );
        return Vec::new();
    }
    let system = |name| (name, modules.join(name).with_extension("sh"));
    ["environment-modules", "lmod"].map(system).into()
}

/// A script for a shell that has the module system. Before it uses the prefix's module files, `first` is run.
fn module_session(start: &Path, first: &str, prefix: &Path, script: &str) -> Command {
    let (start, prefix) = (start.display(), prefix.display());
    let mut session = sh(&format!(
        ". '{start}' >/dev/null\n{first}\nmodule use '{prefix}/share/modulefiles'\n{script}"
    ));
    session.env_remove("SPAWNFIX_GUARD");
    session
}

#[test]
fn after_module_load_the_wrapper_the_bare_name_and_man_work() {
    let dir = place();
    if !says(&mut sh("command -v man || :")).ends_with("/man\n") {
        return skip("there is no man here");
    }
    for (system, start) in module_systems() {
        for (name, module) in [
            ("plain", format!("spawnfix/{VERSION}")),
            ("with spaces", "spawnfix".to_owned()),
        ] {
            let prefix = dir.path().join(name);
            install(&prefix);
            let library = prefix.join("lib").join(LIB);
            let script = format!(
                "module load {module}
                    command -v spawnfix
                    spawnfix cat /proc/self/maps | grep -o '/.*/{LIB}' | sort -u
                    LD_PRELOAD={LIB} cat /proc/self/maps | grep -o '/.*/{LIB}' | sort -u
                    man -w spawnfix
                    man -w ls | grep -c ^/usr/share/man/
                    echo \"preload $LD_PRELOAD\""
            );
            let output = run(&mut module_session(&start, "", &prefix, &script));
            let expected = [
                prefix.join("bin/spawnfix").display().to_string(),
                library.display().to_string(),
                library.display().to_string(),
                prefix
                    .join("share/man/man1/spawnfix.1")
                    .display()
                    .to_string(),
                "1".to_owned(),
                "preload ".to_owned(),
            ];
            let printed = text(&output.stdout);
            assert_eq!(
                printed.lines().collect::<Vec<_>>(),
                expected,
                "{system}: {output:?}"
            );
        }
    }
}

#[test]
fn module_help_and_whatis_tell_what_it_is() {
    let dir = place();
    let prefix = dir.path().join("prefix");
    install(&prefix);
    let version = format!("spawnfix/{VERSION}");
    for (system, start) in module_systems() {
        for (ask, words) in [
            (
                "help spawnfix",
                &[
                    "spawnfix ipython",
                    "LD_PRELOAD=libspawnfix.so ipython",
                    "SPAWNFIX_MODULE_PRELOAD=1",
                ][..],
            ),
            (
                "whatis spawnfix",
                &["MPI_Comm_spawn without mpiexec keep their stdin", VERSION],
            ),
            ("show spawnfix", &["lib/spawnfix", "share/man"]),
            ("avail", &[&version]),
        ] {
            let output = run(&mut module_session(
                &start,
                "",
                &prefix,
                &format!("module {ask} 2>&1"),
            ));
            let printed = text(&output.stdout);
            for word in words {
                assert!(
                    printed.contains(word),
                    "{system}, module {ask}: no {word} in\n{printed}"
                );
            }
            assert!(
                !printed.to_lowercase().contains("error"),
                "{system}, module {ask}:\n{printed}"
            );
            assert!(!printed.contains('@'), "{system}, module {ask}:\n{printed}");
            if ask == "avail" {
                assert_eq!(
                    printed.matches(&version).count(),
                    1,
                    "{system} shows both files:\n{printed}"
                );
            }
        }
    }
}

/// The environment that `env -0` printed, without the module systems' own notes.
fn environment(printed: &str) -> Vec<(String, String)> {
    let notes = [
        "LOADEDMODULES",
        "_LMFILES_",
        "__LMOD_",
        "_ModuleTable",
        "__MODULES_",
        "LMOD_",
        "_=",
        "OLDPWD",
    ];
    let mut variables: Vec<_> = printed
        .split('\0')
        .filter(|variable| !notes.iter().any(|note| variable.starts_with(note)))
        .filter_map(|variable| variable.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    variables.sort();
    variables
}

fn value<'a>(variables: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let variable = variables.iter().find(|variable| variable.0 == name);
    variable.map(|variable| variable.1.as_str())
}

#[test]
fn module_unload_leaves_the_environment_as_it_was() {
    let dir = place();
    for (system, start) in module_systems() {
        for (name, for_all, manpath, library_path, preload) in [
            ("plain", false, None, None, None),
            ("plain", true, None, None, None),
            (
                "plain",
                false,
                Some("/a/man"),
                Some("/a/lib"),
                Some("libm.so.6"),
            ),
            (
                "plain",
                true,
                Some(":/a/man"),
                Some("/a/lib:/b/lib"),
                Some("libm.so.6:libdl.so.2"),
            ),
            (
                "with spaces",
                false,
                Some("/a/man::/b/man"),
                Some("/a/lib"),
                Some("libm.so.6 libdl.so.2"),
            ),
        ] {
            let prefix = dir.path().join(name);
            install(&prefix);
            // The start-up file has its own idea of MANPATH: set what was there before the load after it.
            let mut first = String::new();
            for (name, value) in [
                ("MANPATH", manpath),
                ("LD_LIBRARY_PATH", library_path),
                ("LD_PRELOAD", preload),
            ] {
                first += &match value {
                    Some(value) => format!("export {name}='{value}'\n"),
                    None => format!("unset {name}\n"),
                };
            }
            let ask = if for_all {
                "export SPAWNFIX_MODULE_PRELOAD=1"
            } else {
                ":"
            };
            // A site's setting for the load may be gone when the module is unloaded.
            let script = format!(
                "env -0; printf -- --; {ask}; module load spawnfix; unset SPAWNFIX_MODULE_PRELOAD
                    env -0; printf -- --; module unload spawnfix; env -0"
            );
            let output = run(&mut module_session(&start, &first, &prefix, &script));
            let context = format!(
                "{system}, {name}, MANPATH {manpath:?}, for all: {for_all}: {}",
                text(&output.stderr)
            );
            let printed = text(&output.stdout);
            let parts: Vec<_> = printed.split("\0--").map(environment).collect();
            let [before, loaded, after] = &parts[..] else {
                panic!("{context}\n{printed}")
            };
            assert_eq!(after, before, "{context}");

            let man = value(loaded, "MANPATH").expect("the module sets it");
            let system_wide = |path: &str| path.split(':').any(str::is_empty);
            assert!(
                man.starts_with(&*prefix.join("share/man").to_string_lossy()),
                "{context}"
            );
            assert_eq!(
                system_wide(man),
                manpath.is_none_or(system_wide),
                "{context}"
            );
            let libraries = value(loaded, "LD_LIBRARY_PATH").expect("the module sets it");
            assert!(
                libraries.starts_with(&*prefix.join("lib/spawnfix").to_string_lossy()),
                "{context}"
            );
            let ours = prefix.join("lib").join(LIB).display().to_string();
            let expected = match (for_all, preload) {
                (false, _) => preload.map(str::to_owned),
                (true, None) => Some(ours),
                (true, Some(before)) => Some(format!("{ours}:{before}")),
            };
            assert_eq!(
                value(loaded, "LD_PRELOAD").map(str::to_owned),
                expected,
                "{context}"
            );
        }
    }
}

#[test]
fn a_site_can_have_the_module_preload_the_library_for_all() {
    let dir = place();
    for (system, start) in module_systems() {
        for name in ["plain", "with spaces"] {
            let prefix = dir.path().join(name);
            install(&prefix);
            let settings = [("1", true), ("0", false), ("", false)];
            // The name makes a difference only where it is loaded.
            let settings = if name == "plain" {
                &settings[..]
            } else {
                &settings[..1]
            };
            for (setting, loaded) in settings.iter().copied() {
                let mut session =
                    module_session(&start, "", &prefix, "module load spawnfix\n\"$@\"");
                let mapped = mapped(session.env("SPAWNFIX_MODULE_PRELOAD", setting));
                assert_eq!(
                    mapped.contains(&prefix.join("lib").join(LIB)),
                    loaded,
                    "{system}, {name}, {setting:?}"
                );
            }
        }
    }
}

#[test]
fn a_module_keeps_a_sanitizers_runtime_first() {
    let dir = place();
    let prefix = dir.path().join("prefix");
    install(&prefix);
    let ours = prefix.join("lib").join(LIB).display().to_string();
    for (system, start) in module_systems() {
        for (before, after) in [
            ("libasan.so.8", format!("libasan.so.8:{ours}")),
            (
                "/x/libasan.so.8:libm.so.6",
                format!("/x/libasan.so.8:libm.so.6:{ours}"),
            ),
        ] {
            // Neither the shell nor the module system is one that such a runtime goes with: the variable is there for
            // the module's part alone, and ASAN_OPTIONS has the runtime accept it.
            let script = format!(
                "export SPAWNFIX_MODULE_PRELOAD=1 ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0
                LD_PRELOAD='{before}'; export LD_PRELOAD
                module load spawnfix 2>/dev/null; loaded=$LD_PRELOAD; module unload spawnfix 2>/dev/null
                after=$LD_PRELOAD; unset LD_PRELOAD; echo \"$loaded|$after\""
            );
            let output = run(&mut module_session(&start, "", &prefix, &script));
            assert_eq!(
                text(&output.stdout),
                format!("{after}|{before}\n"),
                "{system}: {output:?}"
            );
        }
    }
}
