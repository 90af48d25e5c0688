//! `make install` and `make uninstall`: what a packager, a sysadmin and a user without rights get.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;

use crate::common::commands::*;
use crate::common::installed::*;
use crate::common::*;

/// What `make install` puts under the prefix.
fn installed() -> Vec<String> {
    let mut files: Vec<String> = [
        "bin/spawnfix",
        "lib/libspawnfix.so",
        "lib/spawnfix/libspawnfix.so", // a link to the other
        "share/bash-completion/completions/spawnfix",
        "share/doc/spawnfix/LICENSE-APACHE",
        "share/doc/spawnfix/LICENSE-MIT",
        "share/fish/vendor_completions.d/spawnfix.fish",
        "share/man/man1/spawnfix.1",
    ]
    .map(str::to_owned)
    .into();
    files.push(format!("share/modulefiles/spawnfix/{VERSION}"));
    files.push(format!("share/modulefiles/spawnfix/{VERSION}.lua"));
    files.push("share/zsh/site-functions/_spawnfix".to_owned());
    files
}

#[test]
fn a_packager_gets_the_tree_and_can_take_it_away() {
    let dir = place();
    let dest = dir.path().join("pack age");
    let variables = [
        ("DESTDIR", dest.as_os_str()),
        ("PREFIX", OsStr::new("/usr")),
    ];
    let mut umasked = sh("umask 077; \"$@\"");
    let make_install = make("install", &variables);
    says(
        umasked
            .arg(make_install.get_program())
            .args(make_install.get_args()),
    );
    let usr = dest.join("usr");
    assert_eq!(files(&usr), installed());
    assert!(
        tree(&dest).iter().all(|name| name.starts_with("usr/")),
        "nothing is beside it"
    );
    for name in tree(&dest).iter().filter(|name| name.ends_with('/')) {
        let mode = fs::metadata(dest.join(name))
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o755, "{name}");
    }
    for name in installed() {
        let path = usr.join(&name);
        let mode = fs::metadata(&path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o7777;
        let runs = name.starts_with("bin/") || name.ends_with(".so");
        assert_eq!(mode, if runs { 0o755 } else { 0o644 }, "{name}");
        if !runs {
            let contents = fs::read_to_string(&path).expect("it is text");
            for word in [
                "VERSION",
                "PREFIX",
                "LIBDIR",
                "LIB",
                "PRELOAD",
                "LIBRARY_PATH",
            ] {
                assert!(
                    !contents.contains(&format!("@{word}@")),
                    "{name}: @{word}@ is left"
                );
            }
            assert!(!contents.contains("pack age"), "{name} names DESTDIR");
        }
    }
    let [there, built] =
        [usr.join("lib").join(LIB), library()].map(|path| fs::read(path).expect("it is there"));
    assert!(there == built);
    let version = says(command(usr.join("bin/spawnfix")).arg("--version"));
    assert_eq!(version, format!("spawnfix {VERSION}\n"));
    // Again, over itself.
    says(&mut make("install", &variables));
    assert_eq!(files(&usr), installed());

    // Other people's files stay, and so does a directory of ours that has one.
    let others = ["bin/other", "share/modulefiles/spawnfix/.modulerc"];
    for other in others {
        fs::write(usr.join(other), "").expect("it is ours");
    }
    let output = run(&mut make("uninstall", &variables));
    assert!(output.status.success(), "{output:?}");
    assert!(
        text(&output.stderr).contains("modulefiles/spawnfix is not empty"),
        "{output:?}"
    );
    assert_eq!(files(&usr), others);
    for other in others {
        fs::remove_file(usr.join(other)).expect("it is ours");
    }
    says(&mut make("uninstall", &variables));
    let left = tree(&dest);
    let ours = |name: &String| !name.ends_with('/') || name.contains("spawnfix");
    assert!(!left.iter().any(ours), "{left:?}");
}

#[test]
fn a_file_is_whole_while_another_version_is_installed_over_it() {
    let dir = place();
    let prefix = dir.path().join("prefix");
    install(&prefix);
    let seen = |name: &String| {
        let path = prefix.join(name);
        let inode = fs::symlink_metadata(&path).expect("it is there").ino();
        (inode, fs::read(&path).expect("it is there"))
    };
    let before: Vec<_> = installed().iter().map(seen).collect();
    let open: Vec<_> = installed()
        .iter()
        .map(|name| fs::File::open(prefix.join(name)).expect("it is there"))
        .collect();
    install(&prefix);
    for ((name, (inode, contents)), mut open) in installed().iter().zip(before).zip(open) {
        assert_ne!(seen(name).0, inode, "{name} was written into");
        let mut old = Vec::new();
        open.read_to_end(&mut old).expect("it can be read");
        assert!(old == contents, "{name}");
    }
    assert_eq!(files(&prefix), installed());
}

#[test]
fn the_shells_complete_options_values_and_commands() {
    let dir = place();
    let prefix = dir.path().join("prefix");
    install(&prefix);
    let share = prefix.join("share");
    // As bash calls it: the words, and which of them is to be completed.
    let complete = "source \"$1\"; shift; compopt() { :; }
        COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1))
        _spawnfix spawnfix \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
        printf '%s\n' \"${COMPREPLY[@]}\" | sort -u";
    let bash = share.join("bash-completion/completions/spawnfix");
    let bash = |words: &[&str]| {
        says(
            command("bash")
                .args(["-c", complete, "bash"])
                .arg(&bash)
                .args(words),
        )
    };
    assert_eq!(bash(&["spawnfix", "--gu"]), "--guard\n");
    assert_eq!(
        bash(&["spawnfix", "-i", "--guard", ""]),
        "auto\ncall\nlaunch\noff\n"
    );
    assert_eq!(bash(&["spawnfix", "--ch"]), "--check\n");
    if has("fish") {
        let file = share.join("fish/vendor_completions.d/spawnfix.fish");
        let fish = |line: &str| {
            let mut fish = command("fish");
            fish.env("HOME", dir.path())
                .args(["-c", "source $argv[1]; complete -C $argv[2]"]);
            text(&run(fish.arg(&file).arg(line)).stdout)
        };
        assert!(fish("spawnfix --gua").starts_with("--guard"));
        assert!(fish("spawnfix --guard=la").starts_with("--guard=launch"));
    }
    if has("zsh") {
        let zsh = share.join("zsh/site-functions");
        let listed = says(command("zsh").env("DIR", &zsh).args([
            "-fc",
            "fpath=($DIR $fpath); autoload -U compinit; compinit -u -D; print $_comps[spawnfix]; zsh -n $DIR/_spawnfix",
        ]));
        assert_eq!(listed, "_spawnfix\n");
    }
}

#[test]
fn a_library_directory_of_the_sysadmins_choice_is_found() {
    let dir = place();
    let prefix = dir.path().join("prefix");
    let libdir = dir.path().join("elsewhere/x86 64");
    let variables = [
        ("PREFIX", prefix.as_os_str()),
        ("LIBDIR", libdir.as_os_str()),
    ];
    says(&mut make("install", &variables));
    assert_eq!(
        mapped(&mut command(prefix.join("bin/spawnfix"))),
        [libdir.join(LIB)]
    );
    // Wherever the two are, each finds the other.
    let checked = text(&run(command(prefix.join("bin/spawnfix")).arg("--check")).stdout);
    let program = fs::canonicalize(prefix.join("bin/spawnfix")).expect("it is there");
    assert_eq!(
        line(&checked, "agent"),
        format!("{VERSION}, {}", program.display())
    );
    for name in [VERSION.to_owned(), format!("{VERSION}.lua")] {
        let module = prefix.join("share/modulefiles/spawnfix").join(name);
        let module = fs::read_to_string(module).expect("it is there");
        assert!(
            module.contains(&libdir.join("spawnfix").display().to_string()),
            "{module}"
        );
    }
    says(&mut make("uninstall", &variables));
    assert!(files(dir.path()).is_empty());
}

#[test]
fn make_install_refuses_what_cannot_work() {
    for (prefix, words) in [
        ("relative/prefix", "not an absolute path"),
        ("/a:b", "has one of the characters"),
        ("/a{b", "has one of the characters"),
        ("/a'b", "has one of the characters"),
    ] {
        let dir = place();
        let variables = [
            ("PREFIX", OsStr::new(prefix)),
            ("DESTDIR", dir.path().as_os_str()),
        ];
        let output = run(&mut make("install", &variables));
        assert!(!output.status.success(), "{prefix}");
        assert!(text(&output.stderr).contains(words), "{output:?}");
        assert!(tree(dir.path()).is_empty());
    }
    // Nothing was built: what to do is said, and not done, as root may have no cargo.
    let dir = place();
    let mut install = command(root().join("scripts/package/install"));
    let output = run(install
        .arg("target/nowhere/libspawnfix.so")
        .env("PREFIX", dir.path()));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("make build"), "{output:?}");
    assert!(tree(dir.path()).is_empty());
}

#[test]
fn installing_takes_neither_root_nor_cargo_nor_a_download() {
    let dir = place();
    let prefix = dir.path().join("home");
    fs::create_dir(&prefix).expect("it is ours");
    let tools = dir.path().join("tools");
    for tool in ["cargo", "rustc", "curl", "wget"] {
        script(
            tools.join(tool),
            "#!/bin/sh\necho \"$0 was called\" >&2\nexit 1\n",
        );
    }
    let mut install = make("install", &[("PREFIX", prefix.as_os_str())]);
    install.env("PATH", path_with(&[&tools]));
    if is_root() {
        let mut reads = command("test");
        reads.arg("-r").arg(library()).uid(NOBODY_ID).gid(NOBODY_ID);
        if reads.status().is_ok_and(|status| status.success()) {
            std::os::unix::fs::chown(&prefix, Some(NOBODY_ID), Some(NOBODY_ID)).expect("root may");
            install.uid(NOBODY_ID).gid(NOBODY_ID);
        } else {
            let _ = writeln!(
                std::io::stderr(),
                "installing as root: only root can read {}",
                root().display()
            );
        }
    }
    says(&mut install);
    assert_eq!(files(&prefix), installed());
    assert_eq!(
        mapped(&mut command(prefix.join("bin/spawnfix"))),
        [prefix.join("lib").join(LIB)]
    );
}
