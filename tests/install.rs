//! What a user or a sysadmin does with the library: `spawnfix COMMAND`, `spawnfix --check`, `make install`, `module load`,
//! `man spawnfix`.

#![cfg(target_os = "linux")] // the program's unit tests have its macOS side

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::commands::*;
use common::installed::*;
use common::*;

// --- spawnfix COMMAND ---

#[test]
fn a_command_gets_its_arguments_as_they_are() {
    let odd = [
        "",
        " ",
        "two words",
        "it's",
        "\"",
        "*",
        "/*",
        "$HOME",
        "`id`",
        "\\",
        "\\n",
        "-n",
        "--",
        "-i",
        "--guard=off",
        "a\nb\n",
        "\n",
        "ü",
        "a=b",
        "~",
        "&",
        ";",
        "#",
    ]
    .map(OsStr::new);
    let bytes = [OsStr::from_bytes(b"\xff\xfe")];
    for arguments in [&odd[..], &bytes, &[]] {
        for options in [&[][..], &["--"], &["-i", "--guard=launch"]] {
            let output = run(command(wrapper())
                .args(options)
                .args(["sh", "-c", r#"[ $# = 0 ] || printf '%s\0' "$@""#, "sh"])
                .args(arguments));
            let expected: Vec<u8> = arguments
                .iter()
                .flat_map(|argument| [argument.as_bytes(), b"\0"].concat())
                .collect();
            assert_eq!(output.stdout, expected, "{options:?}: {output:?}");
            assert!(output.stderr.is_empty(), "{options:?}: {output:?}");
        }
    }
}

#[test]
fn a_command_gets_its_name_its_process_and_its_environment() {
    // Names that the wrapper might have used for itself; a value of lines; names that no shell can have: bash exports
    // functions so, `module` among them.
    let function = "() {  echo \"it's $1\"\n}";
    let environment = [
        ("PATH", PATH),
        ("PWD", root().to_str().expect("the checkout's path is text")),
        ("HOME", "/"),
        ("dir", "d"),
        ("lib", "l"),
        ("file", "f"),
        ("status", "s"),
        ("list", "i"),
        ("name", "two\nlines=2\n"),
        ("CDPATH", "/usr"),
        ("EMPTY", ""),
        ("BASH_FUNC_module%%", function),
        ("BASH_FUNC_ml%%", function),
        ("a.b", "it's"),
        ("a-b", "\n\n"),
    ];
    let show = r"import os, sys
print(*[f'{k}={v}' for k, v in os.environ.items()], f'argv0 {sys.orig_argv[0]}', f'pid {os.getpid()}', sep='\0')";
    let shown = |command: &mut Command| {
        let child = command
            .args(["python3", "-c", show])
            .env_clear()
            .envs(environment)
            .current_dir(root())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let pid = child.id();
        let output = child.wait_with_output().expect("it is our child");
        let mut shown: Vec<_> = text(&output.stdout)
            .trim_end()
            .split('\0')
            .map(|item| item.replace(&format!("pid {pid}"), "the pid of our child"))
            .collect();
        shown.sort();
        shown
    };
    let mut expected = shown(&mut Command::new("env"));
    assert!(
        expected.contains(&"the pid of our child".to_owned()),
        "{expected:?}"
    );
    expected.push(format!("LD_PRELOAD={}", library().display()));
    expected.sort();
    assert_eq!(shown(&mut Command::new(wrapper())), expected);
}

#[test]
fn a_command_ends_as_it_would_without_the_wrapper() {
    for status in [0, 1, 2, 3, 126, 127, 128, 255] {
        let output = run(command(wrapper()).args(["sh", "-c", &format!("exit {status}")]));
        assert_eq!(output.status.code(), Some(status));
        assert!(output.stderr.is_empty(), "{output:?}");
    }
    let output = run(command(wrapper()).args(["sh", "-c", "kill -TERM $$"]));
    assert_eq!(output.status.signal(), Some(libc::SIGTERM));

    // What the caller ignores is ignored, and nothing else; what the caller closed is closed.
    let look = "grep -e SigIgn -e SigBlk /proc/self/status; for n in 0 1 2 3; do [ -e /proc/$$/fd/$n ] && echo $n; done";
    for circumstance in [
        "\"$@\"",
        "trap '' INT QUIT; \"$@\"",
        "trap '' PIPE; \"$@\"",
        "python3 -c 'import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
os.execv(sys.argv[1], sys.argv[2:])' \"$(command -v \"$1\")\" \"$@\"",
        "\"$@\" <&-",
        "\"$@\" 2>&-",
        "\"$@\" 3</dev/null <&-",
    ] {
        let plain = run(sh(circumstance).args(["sh", "-c", look]));
        let wrapped = run(sh(circumstance).arg(wrapper()).args(["sh", "-c", look]));
        assert!(text(&plain.stdout).contains("SigIgn"), "{plain:?}");
        assert_eq!(text(&wrapped.stdout), text(&plain.stdout), "{circumstance}");
    }
}

#[test]
fn the_library_comes_in_front_of_other_preloads_and_never_twice() {
    let ours = library().display().to_string();
    for (before, after) in [
        ("", ours.clone()),
        ("libm.so.6", format!("{ours}:libm.so.6")),
        (
            "libm.so.6:libdl.so.2",
            format!("{ours}:libm.so.6:libdl.so.2"),
        ),
        (
            "libm.so.6 libdl.so.2",
            format!("{ours}:libm.so.6 libdl.so.2"),
        ),
        (&ours, ours.clone()),
        (&format!("libm.so.6:{ours}"), format!("libm.so.6:{ours}")),
        (
            &format!("libm.so.6 {ours} libdl.so.2"),
            format!("libm.so.6 {ours} libdl.so.2"),
        ),
        // The bare name, or a copy elsewhere: ours takes its place.
        (LIB, ours.clone()),
        (
            &format!("libm.so.6:/else/where/{LIB} libdl.so.2"),
            format!("{ours}:libm.so.6:libdl.so.2"),
        ),
        // The runtime of an address sanitizer stays first.
        ("libasan.so.8", format!("libasan.so.8:{ours}")),
        (
            "/usr/lib/libasan.so.8 libm.so.6",
            format!("/usr/lib/libasan.so.8:{ours}:libm.so.6"),
        ),
        // Another library, with a name much like ours.
        (
            "/x/notlibspawnfix.so",
            format!("{ours}:/x/notlibspawnfix.so"),
        ),
    ] {
        for wrapped in [vec![], vec![wrapper()]] {
            let output = run(command(wrapper())
                .args(wrapped)
                .args(["sh", "-c", "printf %s \"$LD_PRELOAD\""])
                .env("LD_PRELOAD", before));
            assert_eq!(text(&output.stdout), after, "before: {before}");
        }
    }
    // By what the dynamic linker did.
    assert_eq!(mapped(command(wrapper()).arg(wrapper())), [library()]);
    assert!(mapped(&mut command("env")).is_empty());
}

#[test]
fn an_option_becomes_a_setting_of_the_librarys() {
    let dir = place();
    let log = dir.path().join("it's a log");
    let show = ["sh", "-c", "env | grep ^SPAWNFIX_ | sort"];
    let printed = says(
        command(wrapper())
            .args(["--guard=call", "-i", "--inherit", "--log=debug"])
            .arg(join("--log-file=", &log))
            .args(show),
    );
    let expected = format!(
        "SPAWNFIX_GUARD=call\nSPAWNFIX_INHERIT=1\nSPAWNFIX_INTERACTIVE=1\nSPAWNFIX_LOG=debug\nSPAWNFIX_LOG_FILE={}\n",
        log.display()
    );
    assert_eq!(printed, expected);
    let logged = fs::read_to_string(&log).expect("the library writes there");
    assert!(
        logged.contains(&format!("spawnfix {VERSION} is loaded")),
        "{logged}"
    );

    // What the command launches may run elsewhere, so the file's name becomes a whole one.
    let printed = says(
        command(wrapper())
            .args(["--log-file=log", "--interactive"])
            .args(show)
            .env_remove("SPAWNFIX_GUARD")
            .current_dir(&dir),
    );
    let whole = fs::canonicalize(&dir).expect("it is there").join("log");
    assert_eq!(
        printed,
        format!(
            "SPAWNFIX_INTERACTIVE=1\nSPAWNFIX_LOG_FILE={}\n",
            whole.display()
        )
    );

    let printed = says(command(wrapper()).args(show).env_remove("SPAWNFIX_GUARD"));
    assert_eq!(printed, "", "no option, no setting");
}

#[test]
fn print_env_gives_a_shell_the_same_settings() {
    let dir = place();
    let show = "env | grep -e ^SPAWNFIX_ -e ^LD_ | sort";
    let options = [
        "--guard=launch".into(),
        "-i".into(),
        "--inherit".into(),
        join("--log-file=", dir.path().join("it's $HOME `a` \"log\"")),
    ];
    let mut wrapped = command(wrapper());
    wrapped.args(&options).args(["sh", "-c", show]);
    let mut evaluated = sh(&format!("eval \"$(\"$@\" --print-env)\" && {show}"));
    evaluated.arg(wrapper()).args(&options);
    let wrapped = says(wrapped.env("LD_PRELOAD", "libm.so.6"));
    assert_eq!(says(evaluated.env("LD_PRELOAD", "libm.so.6")), wrapped);
    assert!(wrapped.contains("it's $HOME"), "{wrapped}");
    assert!(wrapped.contains(&format!("{LIB}:libm.so.6")), "{wrapped}");
}

#[test]
fn a_usage_error_names_the_option_the_value_and_what_it_takes() {
    let guards = "auto, launch, call or off";
    let levels = "off, error, warn, info, debug, trace";
    for (arguments, words) in [
        (
            &["--guard=lunch", "true"][..],
            &["--guard", "lunch", guards][..],
        ),
        (&["--guard=", "true"], &["--guard", "''", guards]),
        (&["--guard", "call", "true"], &["--guard takes a value"]),
        (&["--log=verbose", "true"], &["--log", "verbose", levels]),
        (&["--log=", "true"], &["--log", "''", levels]),
        (
            &["--log=info,loud", "true"],
            &["--log", "info,loud", levels],
        ),
        (
            &["--log-file=/no/such/place", "true"],
            &["--log-file", "/no/such/place", "a file that can be written"],
        ),
        (&["--log-file=", "true"], &["--log-file", "''", "a file"]),
        (&["--gard=call", "true"], &["unknown option", "--gard=call"]),
        (&["-x", "true"], &["unknown option", "-x"]),
        (&["--print-env", "true"], &["--print-env", "true"]),
        (
            &["--sweep", "ipython"],
            &["--sweep", "process ids", "ipython"],
        ),
        (&["--dry-run", "true"], &["--dry-run", "--sweep"]),
        (&[], &["no command"]),
        (&["-i", "--"], &["no command"]),
    ] {
        let output = run(command(wrapper()).args(arguments));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(
            said.lines().all(|line| line.starts_with("spawnfix: ")),
            "{said}"
        );
        for word in words {
            assert!(said.contains(word), "{arguments:?}: no {word} in {said}");
        }
    }
    // What the library takes, the option takes.
    for filter in [
        "off",
        "INFO",
        "spawnfix=debug",
        "warn,spawnfix::guard=trace",
        "spawnfix",
    ] {
        let output = run(command(wrapper())
            .arg(format!("--log={filter}"))
            .arg("true"));
        assert_eq!(output.status.code(), Some(0), "{filter}: {output:?}");
        assert!(
            !text(&output.stderr).contains("is ignored"),
            "{filter}: {output:?}"
        );
    }
}

#[test]
fn a_command_that_is_not_there_is_named() {
    let dir = place();
    fs::write(dir.path().join("data"), "x").expect("it is ours");
    let data = dir.path().join("data").display().to_string();
    for (name, status, words) in [
        (
            "no-such-command",
            127,
            "spawnfix: no-such-command: not found on PATH",
        ),
        (
            "/no/such/command",
            127,
            "spawnfix: /no/such/command: no such file",
        ),
        ("", 127, "spawnfix: : not found on PATH"),
        ("data", 126, "spawnfix: data: can't be executed"),
        (&data, 126, "can't be executed"),
        ("/", 126, "spawnfix: /: can't be executed"),
    ] {
        let path = join(format!("{PATH}:"), dir.path());
        let output = run(command(wrapper()).arg(name).env("PATH", path));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{name}: {said}");
        assert!(said.contains(words) && said.lines().count() == 1, "{said}");
    }
    // Names that a shell or env might take for something else.
    for name in ["-c", "a=b"] {
        script(dir.path().join(name), "#!/bin/sh\necho \"$# $1\"\n");
        let mut odd = command(wrapper());
        odd.args(["--", name, "x y"])
            .env("PATH", join(format!("{PATH}:"), dir.path()))
            .env("b.c", "d");
        assert_eq!(says(&mut odd), "1 x y\n", "{name}");
    }
    // An empty element of PATH is the working directory, as it is for a shell.
    script(dir.path().join("here"), "#!/bin/sh\necho here\n");
    for path in [
        format!(":{PATH}"),
        format!("{PATH}:"),
        format!("/usr/bin::{PATH}"),
    ] {
        let mut here = command(wrapper());
        here.arg("here").env("PATH", path).current_dir(&dir);
        assert_eq!(says(&mut here), "here\n");
    }
}

#[test]
fn a_missing_librarys_places_are_named() {
    let dir = place();
    let lonely = copy(dir.path().join("bin/spawnfix"));
    let places = ["lib", "lib64", "lib/spawnfix", "bin"].map(|name| dir.path().join(name));
    for arguments in [&["true"][..], &["--print-env"], &["--check"]] {
        let output = run(command(&lonely).args(arguments));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for place in &places {
            assert!(
                said.contains(&place.join(LIB).display().to_string()),
                "{said}"
            );
        }
    }
    // In each of them it is found, the last one least.
    for place in places.iter().rev() {
        fs::create_dir_all(place).expect("it is ours");
        fs::copy(library(), place.join(LIB)).expect("it is ours");
        assert_eq!(mapped(&mut command(&lonely)), [place.join(LIB)]);
    }
}

#[test]
fn the_wrapper_finds_its_library_however_it_is_called() {
    let dir = place();
    for prefix in ["plain", "with spaces in it", "all (*)"] {
        let prefix = dir.path().join(prefix);
        install(&prefix);
        let bin = prefix.join("bin");
        let links = place();
        symlink(bin.join("spawnfix"), links.path().join("absolute")).expect("it is ours");
        symlink("absolute", links.path().join("spawnfix")).expect("it is ours");
        symlink(&prefix, links.path().join("prefix")).expect("it is ours");
        let mut ways = [
            command(bin.join("spawnfix")),
            command(links.path().join("spawnfix")),
            command(links.path().join("prefix/bin/spawnfix")),
            sh("./spawnfix \"$@\""),
            sh("../bin/spawnfix \"$@\""),
            sh("spawnfix \"$@\""),
            sh("exec spawnfix \"$@\""),
            sh("spawnfix \"$@\""),
        ];
        ways[5].env("PATH", path_with(&[&bin]));
        ways[6].env("PATH", path_with(&[links.path()]));
        ways[7].env("PATH", format!(":{PATH}"));
        for way in &mut ways {
            let mapped = mapped(way.current_dir(&bin));
            assert_eq!(mapped, [prefix.join("lib").join(LIB)], "{way:?}");
        }
    }
}

#[test]
fn a_prefix_with_blanks_works_and_leaves_other_libraries_where_they_are() {
    let dir = place();
    let prefix = dir.path().join("with spaces in it");
    install(&prefix);
    let place_of_ours = prefix.join("lib/spawnfix");
    let ours = place_of_ours.display();
    let show = [
        "sh",
        "-c",
        "printf '%s|%s' \"$LD_PRELOAD\" \"$LD_LIBRARY_PATH\"",
    ];
    for (before, after) in [
        (None, format!("{LIB}|{ours}")),
        (Some(""), format!("{LIB}|{ours}")),
        (Some("/a:/b"), format!("{LIB}|{ours}:/a:/b")),
    ] {
        let mut wrapped = command(prefix.join("bin/spawnfix"));
        wrapped.arg(prefix.join("bin/spawnfix")).args(show);
        if let Some(before) = before {
            wrapped.env("LD_LIBRARY_PATH", before);
        }
        assert_eq!(says(&mut wrapped), after);
    }
    assert_eq!(
        tree(&place_of_ours),
        [LIB],
        "no other library comes from there"
    );

    // Nothing helps against a colon, and that is said.
    let prefix = dir.path().join("a:b");
    fs::create_dir_all(prefix.join("lib")).expect("it is ours");
    fs::copy(library(), prefix.join("lib").join(LIB)).expect("it is ours");
    let output = run(command(copy(prefix.join("bin/spawnfix"))).arg("true"));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("colon"), "{output:?}");
}

fn chmod(change: &str, path: &Path) {
    let done = Command::new("chmod")
        .args(["-R", change])
        .arg(path)
        .status();
    assert!(done.is_ok_and(|status| status.success()));
}

#[test]
fn another_user_uses_a_prefix_that_nobody_can_write_to() {
    let dir = place();
    let prefix = dir.path().join("read only");
    install(&prefix);
    let before = tree(&prefix);
    chmod("a-w", &prefix);
    let as_user = || {
        let mut command = command(prefix.join("bin/spawnfix"));
        if is_root() {
            command.uid(NOBODY_ID).gid(NOBODY_ID); // root may write anywhere
        }
        command
    };
    assert_eq!(mapped(&mut as_user()), [prefix.join("lib").join(LIB)]);
    let checked = text(&run(as_user().args(["--check", "cat"])).stdout);
    assert_eq!(line(&checked, "loads"), "yes");
    assert_eq!(tree(&prefix), before);
    chmod("u+w", &prefix);
}

#[test]
fn a_link_of_another_name_runs_that_command_and_never_itself() {
    let dir = place();
    let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
    install(&one);
    install(&two);
    let greet = "#!/bin/sh\nprintf 'hello %s\\n' \"$@\"; grep -q libspawnfix /proc/$$/maps && echo loaded\n";
    script(dir.path().join("real/greet"), greet);
    let [a, b, c, real] = ["a", "b", "c", "real"].map(|name| dir.path().join(name));
    for dir in [&a, &b, &c] {
        fs::create_dir(dir).expect("it is ours");
    }
    symlink(one.join("bin/spawnfix"), a.join("link")).expect("it is ours");
    symlink("link", a.join("greet")).expect("it is ours");
    symlink(two.join("bin/spawnfix"), b.join("greet")).expect("it is ours");
    // A copy, no link, with the library where it looks.
    copy(c.join("greet"));
    symlink(one.join("lib"), dir.path().join("lib")).expect("it is ours");

    let call = |path: &[&Path]| {
        // Its options are the command's.
        run(sh("exec greet --guard=x '*' '' -i").env("PATH", path_with(path)))
    };
    let expected = "hello --guard=x\nhello *\nhello \nhello -i\nloaded\n";
    for path in [
        &[&*a, &*real][..],
        &[&a, &b, &real],
        &[&b, &a, &b, &a, &real],
        &[&a, &real, &a],
        &[&c, &real],
        &[&c, &a, &c, &real],
        &[&a, &c, &b, &c, &real],
    ] {
        let output = call(path);
        assert_eq!(text(&output.stdout), expected, "{path:?}: {output:?}");
    }
    assert!(
        !text(&call(&[&real, &a]).stdout).contains("loaded"),
        "behind it the links do nothing"
    );
    for path in [&[&*a][..], &[&a, &b], &[&c, &a, &b]] {
        let output = call(path);
        assert_eq!(output.status.code(), Some(127), "{path:?}: {output:?}");
        assert!(
            text(&output.stderr).starts_with("spawnfix: greet: not found"),
            "{output:?}"
        );
    }
}

// --- make install ---

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
    // As bash calls it: the word, and the one before; it splits at an equals sign.
    let complete = "source \"$1\"; shift; compopt() { :; }
        COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); word=${COMP_WORDS[COMP_CWORD]}; word=${word#=}
        _spawnfix_words spawnfix \"$word\" \"${COMP_WORDS[COMP_CWORD - 1]}\"; printf '%s\n' \"${COMPREPLY[@]}\" | sort -u";
    let bash = share.join("bash-completion/completions/spawnfix");
    let bash = |words: &[&str]| {
        says(
            command("bash")
                .args(["-c", complete, "bash"])
                .arg(&bash)
                .args(words),
        )
    };
    assert_eq!(bash(&["spawnfix", "--gu"]), "--guard=\n");
    assert_eq!(
        bash(&["spawnfix", "-i", "--guard", "="]),
        "auto\ncall\nlaunch\noff\n"
    );
    assert_eq!(bash(&["spawnfix", "--guard", "=", "la"]), "launch\n");
    assert_eq!(
        bash(&["spawnfix", "--log", "=", "info", "mkfif"]),
        "mkfifo\n"
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
        assert!(fish("spawnfix -i mkfif").starts_with("mkfifo"));
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
    let mut install = command(root().join("scripts/install"));
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

// --- module files ---

/// The two systems that scripts/fetch-modules unpacked, and the start-up file of each.
fn module_systems() -> Vec<(&'static str, PathBuf)> {
    let modules = library().with_file_name("../modules");
    if !modules.join("done").exists() {
        skip(
            "no Environment Modules and Lmod in target/modules: scripts/fetch-modules fetches them where apt-get is",
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
        for name in ["plain", "with spaces"] {
            let prefix = dir.path().join(name);
            install(&prefix);
            let library = prefix.join("lib").join(LIB);
            for module in ["spawnfix".to_owned(), format!("spawnfix/{VERSION}")] {
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

/// The environment that `env -0` printed, but for the module systems' own notes.
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
        for (manpath, library_path, preload) in [
            (None, None, None),
            (Some("/a/man"), Some("/a/lib"), Some("libm.so.6")),
            (
                Some(":/a/man"),
                Some("/a/lib:/b/lib"),
                Some("libm.so.6:libdl.so.2"),
            ),
            (
                Some("/a/man::/b/man"),
                Some("/a/lib"),
                Some("libm.so.6 libdl.so.2"),
            ),
        ] {
            for (name, for_all) in [("plain", false), ("plain", true), ("with spaces", false)] {
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
}

#[test]
fn a_site_can_have_the_module_preload_the_library_for_all() {
    let dir = place();
    for (system, start) in module_systems() {
        for name in ["plain", "with spaces"] {
            let prefix = dir.path().join(name);
            install(&prefix);
            for (setting, loaded) in [("1", true), ("0", false), ("", false)] {
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
            // the module's part alone, and the runtime is told to bear with it.
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

// --- the manual page, README and the picture ---

#[test]
fn the_manual_page_has_every_option_and_setting_and_no_fault() {
    let page = fs::read_to_string(root().join("scripts/spawnfix.1")).expect("it is there");
    // The help is the parser's; each line of an option's begins with its names.
    let help = says(command(wrapper()).arg("--help"));
    let names = help
        .lines()
        .filter(|line| line.trim_start().starts_with('-'));
    let mut options: Vec<_> = names
        .flat_map(|line| line.split("  ").find(|part| !part.is_empty()).into_iter())
        .flat_map(|names| names.split(", "))
        .map(|name| name.trim().split('=').next().expect("a part").to_owned())
        .collect();
    let items = page
        .split_once(".It Fl -guard")
        .map(|(_, rest)| format!(".It Fl -guard{rest}"));
    let items = items.expect("the options begin so");
    let (items, _) = items.split_once("\n.El\n").expect("the list ends");
    let mut documented: Vec<_> = items
        .lines()
        .filter_map(|line| line.strip_prefix(".It "))
        .flat_map(|line| line.split(" , "))
        .filter_map(|name| name.strip_prefix("Fl ")?.split(' ').next())
        .map(|name| format!("-{name}"))
        .collect();
    options.sort();
    documented.sort();
    assert!(options.len() > 10, "{help}");
    assert_eq!(
        documented, options,
        "the manual page's options, and the parser's"
    );
    for source in [
        "src/settings.rs",
        "scripts/modulefiles/spawnfix.tcl",
        "src/bin/spawnfix/options.rs",
    ] {
        let source = fs::read_to_string(root().join(source)).expect("it is there");
        let (source, _) = source.split_once("#[cfg(test)]").unwrap_or((&source, ""));
        for word in source.split(|c: char| !(c.is_ascii_uppercase() || c == '_')) {
            let setting = word
                .strip_prefix("SPAWNFIX_")
                .is_some_and(|name| !name.is_empty());
            assert!(
                !setting || page.contains(&format!(".It Ev {word}")),
                "{word} is not in the manual page"
            );
        }
    }
    let lint = root().join("scripts/lint-manual");
    let output = run(command(lint).arg(root().join("scripts/spawnfix.1")));
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    if !said.is_empty() {
        skip(said.trim()); // mandoc or man is not here
    }
}

#[test]
fn the_picture_shows_what_the_terminal_showed() {
    let dir = place();
    let picture = dir.path().join("picture.svg");
    let draw = |program: &str| {
        let mut draw = command("python3");
        draw.arg(root().join("scripts/picture.py"))
            .arg("--output")
            .arg(&picture);
        run(draw.args(["sh", "-c", program]))
    };
    let output = draw(
        r"[ -t 1 ] && printf 'fetching 1%%\rfetched <all>\033[K\n\033[1;31mdead\033[0m & gone\n'",
    );
    assert!(output.status.success(), "{output:?}");
    let read = "import sys, xml.dom.minidom as dom
texts = dom.parse(sys.argv[1]).getElementsByTagName('text')[1:]
print([(text.firstChild.data, text.getAttribute('font-weight')) for text in texts])";
    let printed = says(command("python3").args(["-c", read]).arg(&picture));
    assert_eq!(
        printed.trim(),
        "[('fetched <all>', ''), ('dead', 'bold'), ('& gone', '')]"
    );
    // A run that failed is not drawn.
    let before = fs::read(&picture).expect("it is there");
    assert_eq!(draw("echo no; exit 3").status.code(), Some(3));
    assert!(fs::read(&picture).expect("it is there") == before);
}
