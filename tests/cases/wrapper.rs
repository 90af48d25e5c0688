//! `spawnfix COMMAND`: the command runs as by itself, with the library in it; what options do; what mistakes are told.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::commands::*;
use crate::common::installed::*;
use crate::common::*;

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
        ("UCX_DEBUG_SIGNO", "SIGUSR2"), // the wrapper's under nohup, unless it is set
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
            format!("{ours}:libm.so.6:libdl.so.2"),
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
            .args(["--guard", "call", "-i", "--inherit", "--log=debug"])
            .arg("--log-file")
            .arg(&log)
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
    let guards = "auto, launch, call, off";
    let levels = "off, error, warn, info, debug, trace";
    for (arguments, words) in [
        (
            &["--guard=lunch", "true"][..],
            &["--guard", "lunch", guards][..],
        ),
        (&["--guard=", "true"], &["--guard", guards]),
        (&["--guard"], &["--guard", guards]),
        (&["--log=verbose", "true"], &["--log", "verbose", levels]),
        (&["--log=", "true"], &["--log", levels]),
        (
            &["--log=info,loud", "true"],
            &["--log", "info,loud", levels],
        ),
        (
            &["--log-file=/no/such/place", "true"],
            &["--log-file", "/no/such/place", "a file that can be written"],
        ),
        (&["--log-file=", "true"], &["--log-file"]),
        (&["--gard=call", "true"], &["--gard"]),
        (&["-x", "true"], &["-x"]),
        (&["--interactive=1", "true"], &["--interactive", "1"]),
        (&["--completions=tcsh"], &["--completions", "tcsh", "bash"]),
        (&["--print-env", "true"], &["--print-env", "COMMAND"]),
        (&["--check", "--sweep"], &["--check", "--sweep"]),
        (
            &["--sweep", "ipython"],
            &["--sweep", "process ids", "ipython"],
        ),
        (&["--dry-run", "true"], &["--sweep"]),
        (&["--json", "true"], &["--check"]),
        (&[], &["a command"]),
        (&["-i", "--"], &["a command"]),
    ] {
        let output = run(command(wrapper()).args(arguments));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        for word in words.iter().chain(&["--help"]) {
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
            text(&output.stderr).starts_with("spawnfix: greet: found on PATH only as a link"),
            "{output:?}"
        );
    }
}
