//! A spawn works on the machine that a person has: nothing is set that a user has not set, except what lets root run it.
//!
//! Each row of the table below is told as an application, and at Python's prompt; each also without the library, where it
//! fails as it does for users.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::common::commands::{is_root, place, script};
use crate::common::installed::wrapper;
use crate::common::ipython::{IPython, Kind};
use crate::common::slurm::{self, How};
use crate::common::*;

/// Only a defect takes so long.
const LIMIT: Duration = Duration::from_secs(60);
/// What does not return in this time never does.
const HANG: Duration = Duration::from_secs(3);
/// How many stories of a row are told at a time.
const AT_A_TIME: usize = 2;

const OPEN_MPIS: [Mpi; 3] = [OPEN_MPI_4, OPEN_MPI_5_0_8, OPEN_MPI];

/// How an application comes to run, and what it finds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// MPI's bin is on PATH, and OPAL_PREFIX says where a moved Open MPI 4 is.
    Prepared,
    /// No MPI is on PATH: Python is called by its path.
    Unset,
    /// Nothing but `sh`, `env` and the MPI's bin is on PATH.
    WithoutSsh,
    /// A container on a node of Slurm's, or a terminal that outlived its job: Slurm's variables, and no srun.
    SlurmsVariables,
    /// The same, of a job step.
    SlurmsStep,
    /// `srun --pty`.
    Srun,
    /// PMI_* of another process: a notebook server under mpiexec has passed them on, and not the descriptor.
    PmiClosed,
    /// The same, and the descriptor's number is a file here.
    PmiFile,
    /// The same, and the descriptor's number is a pipe here.
    PmiPipe,
    /// No interface but the loopback.
    Loopback,
    /// Not even the loopback.
    NoNetwork,
    /// `nohup`.
    Nohup,
}
use Place::*;

/// What becomes of it without the library.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bare {
    /// The spawn never returns.
    Hangs,
    /// An MPI error.
    Raises,
    /// MPI_Init ends the application, by exit or a signal.
    Ends,
    /// It dies of this signal.
    Dies(i32),
    /// It exits with this status, and says nothing.
    Exits(i32),
    Works,
}
use Bare::*;

impl Place {
    /// What a shell does before the application.
    fn before(self) -> Option<&'static str> {
        match self {
            PmiFile => Some("exec 9</etc/hostname; "),
            PmiPipe => Some("exec 9<<.\nThis is a pipe.\n.\n"), // dash's own way
            Loopback => Some("ip link set lo up; "),
            NoNetwork => Some(""),
            Nohup => Some("trap '' HUP; "),
            _ => None,
        }
    }

    /// Whether it can be had here. If not, the test is skipped.
    fn is_here(self) -> bool {
        let here = is_root() || !matches!(self, Loopback | NoNetwork);
        if !here {
            skip("a network of its own takes root");
        }
        here
    }

    /// This MPI's Python, here. None: the test is skipped.
    fn program(self, mpi: Mpi) -> Option<Program> {
        self.command(mpi, "", &mpi.bin("python"))
    }

    /// A command under this MPI, here, with these words typed in front of it. None: the test is skipped.
    fn command(self, mpi: Mpi, typed: &str, file: &Path) -> Option<Program> {
        let bin = mpi.prefix().join("bin");
        let before = match (self.before(), typed) {
            (None, "") => None,
            (before, _) => Some(format!("{}exec {typed} \"$@\"", before.unwrap_or_default())),
        };
        let program = match (self, &before) {
            (Srun, _) => slurm::program(How::Step, file)?,
            (Loopback | NoNetwork, Some(before)) => Program::new("unshare")
                .args(["--net", "sh", "-c", before, "sh"])
                .arg(file),
            (_, Some(before)) => Program::new("sh").args(["-c", before, "sh"]).arg(file),
            (_, None) => Program::new(file),
        };
        let mut program = program.with_nothing_set(mpi).child("spawn_once.c");
        if self != Unset {
            program = program.env("PATH", path_behind(&[&bin]));
            if mpi.name == OPEN_MPI_4.name {
                program = program.env("OPAL_PREFIX", mpi.prefix());
            }
        }
        let path = |directory: PathBuf| std::env::join_paths([bin, directory]).expect("no colon");
        let variables: Vec<(&str, OsString)> = match self {
            WithoutSsh => vec![("PATH", path(commands(&[])))],
            SlurmsVariables | SlurmsStep => {
                let mut all = vec![("PATH", path(commands(&["ssh"])))];
                all.extend(slurm::variables_of_a_job());
                if self == SlurmsStep {
                    all.push(("SLURM_STEP_ID", "0".into()));
                }
                all
            }
            PmiClosed | PmiFile | PmiPipe => {
                [("PMI_FD", "9"), ("PMI_RANK", "0"), ("PMI_SIZE", "1")]
                    .map(|(name, value)| (name, value.into()))
                    .to_vec()
            }
            _ => vec![],
        };
        let set = |program: Program, (name, value)| program.env(name, value);
        Some(variables.into_iter().fold(program, set))
    }
}

/// A directory for PATH that has `sh`, `env` and these, which nobody runs on one host.
fn commands(names: &[&str]) -> PathBuf {
    static MADE: OnceLock<()> = OnceLock::new();
    let place = target().join("tmp/few-commands");
    MADE.get_or_init(|| {
        for directory in ["", "ssh"] {
            let directory = place.join(directory).join("bin");
            fs::create_dir_all(&directory).expect("target/tmp can be written");
            for name in ["sh", "env"] {
                let _ = symlink(Path::new("/usr/bin").join(name), directory.join(name));
            }
        }
        script(place.join("ssh/bin/ssh"), "#!/bin/sh\nexit 1\n");
    });
    place.join(names.concat()).join("bin")
}

/// What is told of one MPI in one place.
#[derive(Clone, Copy)]
struct Row {
    place: Place,
    /// What the application does, or someone types: statements of tests/apps/anywhere.py.
    says: &'static [&'static str],
    bare: Bare,
    /// The remedy that the log names, if it takes one.
    remedy: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Application,
    Session,
}
use Form::*;

impl Row {
    /// Tells it. None: the test is skipped.
    fn tell(&self, mpi: Mpi, form: Form, library: bool) -> Option<Report> {
        self.tell_typed(mpi, form, library, "")
    }

    /// The same, with these words typed in front of the command.
    fn tell_typed(&self, mpi: Mpi, form: Form, library: bool, typed: &str) -> Option<Report> {
        let program = self.place.command(mpi, typed, &mpi.bin("python"))?;
        let mut program = program.library(library);
        if self.is_by_dlsym() {
            program = without_mpi4py(program, mpi);
        }
        let prompt = match form {
            Application => self.application(program),
            Session => {
                let mut prompt = Kind::Python.start(program.arg("-q").beside("anywhere.py"));
                // In one line, as without the library nothing may be typed after a spawn.
                prompt.type_on(&format!(
                    "from anywhere import *; {}; report('end')",
                    self.says.join("; ")
                ));
                prompt
            }
        };
        Some(self.watch(prompt, form, library).finish())
    }

    /// Whether no preloaded function of MPI's is called.
    fn is_by_dlsym(&self) -> bool {
        self.says[0] == BY_DLSYM
    }

    /// This Python runs a script.
    fn application(&self, python: Program) -> IPython {
        let script = python
            .arg(app("anywhere.py"))
            .args(self.says.iter().copied());
        IPython::at(script.stdin(Stdin::Null).piped().start())
    }

    /// Waits for its end, or until it is known to hang.
    fn watch(&self, mut prompt: IPython, form: Form, library: bool) -> IPython {
        if self.says.contains(&"interrupted()") {
            prompt.reported_within(LIMIT, "working", 1);
            prompt.session().key(CTRL_C);
        }
        if !library && self.bare == Hangs {
            prompt.reported_within(LIMIT, "spawning", 1);
            prompt.reported_any_within(HANG, &["spawned", "error"]);
            prompt.session().has_seconds(0);
        } else {
            prompt.reported_any_within(LIMIT, &["end", "error"]);
            if form == Session && library {
                for line in ["spawn(1, 1)", "report('again')", "exit()"] {
                    prompt.type_on(line);
                }
            } else if form == Session {
                // It may have lost its input: no one leaves it.
                prompt.session().has_seconds(0);
            }
        }
        prompt
    }

    #[track_caller]
    fn check_bare(&self, report: &Report) {
        let [began, spawned, raised] =
            ["began", "spawned", "error"].map(|name| report.count(name) > 0);
        let alive = report.status.is_none();
        let as_known = match self.bare {
            Hangs => began && !spawned && !raised && alive,
            Raises => began && raised,
            Ends => !began && report.status.is_some_and(|status| !status.success()),
            Dies(signal) => began && report.signal() == Some(signal),
            Exits(status) => began && report.code() == Some(status),
            Works => report.fact("end").is_some(),
        };
        report.check(as_known, &format!("without the library: {:?}", self.bare));
    }

    #[track_caller]
    fn check_works(&self, report: &Report, form: Form) {
        report.check(report.code() == Some(0), "exit status 0");
        report.check(
            report.fact("end").is_some(),
            "it spawns, and comes to its end",
        );
        report.check(report.count("error") == 0, "no MPI error");
        if form == Session {
            report.check(
                report.fact("again").is_some(),
                "the prompt reads on, and spawns again",
            );
        }
        report.check(report.left.is_empty(), "nothing is left behind");
        let guarded = report.log.contains("guard: launch");
        match self.is_by_dlsym() {
            true => report.check(
                !guarded && report.log.contains("acting as"),
                "the launch is met, and no hook of MPI's",
            ),
            false => report.check(guarded, "the library guards the spawn"),
        }
        let said = format!("remedy: {}", self.remedy);
        let said = self.remedy.is_empty() || report.log.contains(&said);
        report.check(said, &format!("the remedy is said: {}", self.remedy));
    }
}

/// A row of the table, under each of these.
#[track_caller]
fn works_there(mpis: &[Mpi], row: Row) {
    works_as(&[Application, Session], mpis, row);
}

#[track_caller]
fn works_as(forms: &[Form], mpis: &[Mpi], row: Row) {
    each(forms, mpis, row, |report, form| {
        row.check_works(report, form)
    });
}

/// Tells a row without the library, where it fails as known, and with it.
#[track_caller]
fn each(forms: &[Form], mpis: &[Mpi], row: Row, check: impl Fn(&Report, Form) + Sync) {
    if !row.place.is_here() {
        return;
    }
    let mpis: Vec<_> = that_are_here(mpis).collect();
    let stories = pairs(&pairs(&mpis, forms), &[false, true]);
    several(AT_A_TIME, &stories, |&((mpi, form), library)| {
        match row.tell(mpi, form, library) {
            Some(report) if library => check(&report, form),
            Some(report) => row.check_bare(&report),
            None => (),
        }
    });
}

const fn row(place: Place, says: &'static [&'static str], bare: Bare, remedy: &'static str) -> Row {
    Row {
        place,
        says,
        bare,
        remedy,
    }
}

const ONE: &[&str] = &["begin()", "spawn(1, 1)"];
const TWO_BY_TWO: &[&str] = &["begin()", "spawn(2, 2)"];
const MANY: &str = "spawn(2 * os.cpu_count() + 2, 1)";
const TEN: &str = "spawn(1, 10)";
const INTERRUPTED: &[&str] = &["begin()", "interrupted()", "spawn(1, 1)"];
const HANG_UP: &[&str] = &["begin()", "spawn(1, 1)", "hung_up()"];
const SERVER: &[&str] = &["listen()", "begin()", "spawn(1, 1)", "listen_again()"];
const BESIDE: &[&str] = &[
    "beside('openmpi-5.0.11/lib/libmpi.so.40')",
    "begin()",
    "spawn(1, 2)",
];

const SLOTS: &str = "OMPI_MCA_rmaps_base_oversubscribe=1 for orted";
const LO: &str = "OMPI_MCA_btl_tcp_if_include=lo while MPI_Init";
const NO_PMI: &str = "PMI_FD is not set while MPI_Init";
const NO_STEP: &str = "SLURM_STEP_ID is not set while MPI_Init";

tests! {
    works_there:
    open_mpi_4_spawns_more_children_than_there_are_cores(&[OPEN_MPI_4],
        row(Prepared, &["begin()", MANY], Raises, SLOTS));
    open_mpi_4_spawns_ten_times_in_a_row(&[OPEN_MPI_4],
        row(Prepared, &["begin()", TEN], Raises, SLOTS));
    open_mpi_4_of_a_wheel_is_found_where_it_is(&[OPEN_MPI_4],
        row(Unset, ONE, Ends, "OPAL_PREFIX="));
    open_mpi_4_needs_no_ssh(&[OPEN_MPI_4],
        row(WithoutSsh, ONE, Ends, "OMPI_MCA_plm_rsh_agent=sh for orted"));
    open_mpi_5_finds_prte_beside_its_library(&[OPEN_MPI_5_0_8, OPEN_MPI],
        row(Unset, ONE, Raises, "PATH="));
    slurms_variables_without_srun_are_no_obstacle_to_mpich(&MPICHS,
        row(SlurmsVariables, ONE, Hangs, "HYDRA_LAUNCHER=fork for mpiexec"));
    slurms_variables_without_srun_are_no_obstacle_to_intel_mpi(&[INTEL_MPI],
        row(SlurmsVariables, ONE, Hangs, "I_MPI_HYDRA_BOOTSTRAP=fork for mpiexec"));
    slurms_variables_without_srun_are_no_obstacle_to_open_mpi_4(&[OPEN_MPI_4],
        row(SlurmsVariables, TWO_BY_TWO, Raises, SLOTS));
    the_variables_of_a_job_step_are_no_obstacle_to_open_mpi_4(&[OPEN_MPI_4],
        row(SlurmsStep, ONE, Ends, NO_STEP));
    open_mpi_4_spawns_in_a_job_step(&[OPEN_MPI_4],
        row(Srun, ONE, Ends, NO_STEP));
    pmi_variables_of_another_process_are_no_obstacle(&HYDRAS,
        row(PmiClosed, ONE, Ends, NO_PMI));
    pmi_variables_of_another_process_are_no_obstacle_where_the_number_is_a_files(&HYDRAS,
        row(PmiFile, ONE, Ends, NO_PMI));
    pmi_variables_of_another_process_are_no_obstacle_where_the_number_is_a_pipes(&HYDRAS,
        row(PmiPipe, ONE, Ends, NO_PMI));
    open_mpi_4_spawns_where_there_is_only_the_loopback(&[OPEN_MPI_4],
        row(Loopback, ONE, Raises, LO));
    open_mpi_5_spawns_where_there_is_only_the_loopback(&[OPEN_MPI_5_0_8, OPEN_MPI],
        row(Loopback, ONE, Raises, LO));
    mpich_and_intel_mpi_spawn_where_there_is_only_the_loopback(&HYDRAS,
        row(Loopback, ONE, Works, ""));
    intel_mpi_2021_18_spawns(&[INTEL_MPI_2021_18],
        row(Prepared, ONE, Dies(libc::SIGSEGV), "I_MPI_SPAWN=on while MPI_Init"));
    intel_mpi_2021_14_spawns_after_ctrl_c(&[INTEL_MPI_2021_14],
        row(Prepared, INTERRUPTED, Hangs, ""));
    nohup_holds(&MPICHS,
        row(Nohup, HANG_UP, Dies(libc::SIGKILL), ""));
    nohup_holds_under_intel_mpi(&[INTEL_MPI, INTEL_MPI_2021_14],
        row(Nohup, HANG_UP, Works, ""));
    of_two_mpis_in_one_process_the_callers_own_is_called(&[MPICH_4_2_3, MPICH_5_0_2],
        row(Prepared, BESIDE, Works, ""));
    open_mpis_launchers_hold_no_port_of_the_application(&[OPEN_MPI_4, OPEN_MPI],
        row(Prepared, SERVER, Raises, ""));
}

/// All that people asked for, on a machine of which nothing is set.
const ALL: &[&str] = &["begin()", TEN, MANY, "threads()"];

tests! {
    works_as:
    open_mpi_4_spawns_with_nothing_set(&[Application, Session], &[OPEN_MPI_4], row(Unset, ALL, Ends, SLOTS));
    open_mpi_5_spawns_with_nothing_set(&[Application, Session], &[OPEN_MPI_5_0_8, OPEN_MPI], row(Unset, ALL, Raises, "PATH="));
    a_session_under_open_mpi_5_survives_a_child(&[Session], &[OPEN_MPI_5_0_8, OPEN_MPI],
        row(Prepared, &["begin()", "crash()", "spawn(1, 1)"], Exits(14), "OMPI_MCA_mpi_ft_enable=true while MPI_Init"));
}

// --- callers that bind MPI's functions by dlsym, as Julia's MPI.jl and ctypes do. There is no package of Julia for Debian 12:
// --- Python's ctypes does the same.

const BY_DLSYM: &str = "begin_by_dlsym()";
const ONE_BY_DLSYM: &[&str] = &[BY_DLSYM, "spawn(1, 1)"];
const MANY_BY_DLSYM: &[&str] = &[BY_DLSYM, MANY, TEN];

tests! {
    works_there:
    a_caller_by_dlsym_spawns_in_a_prepared_place(&HYDRAS,
        row(Prepared, ONE_BY_DLSYM, Works, ""));
    a_caller_by_dlsym_gets_the_slots_of_open_mpi_4(&[OPEN_MPI_4],
        row(Prepared, MANY_BY_DLSYM, Raises, SLOTS));
    a_caller_by_dlsym_needs_no_srun(&[MPICH_4_2_3, MPICH_5_0_2],
        row(SlurmsVariables, ONE_BY_DLSYM, Hangs, "HYDRA_LAUNCHER=fork for mpiexec"));
    a_caller_by_dlsym_needs_no_srun_under_intel_mpi(&[INTEL_MPI],
        row(SlurmsVariables, ONE_BY_DLSYM, Hangs, "I_MPI_HYDRA_BOOTSTRAP=fork for mpiexec"));
    a_caller_by_dlsym_needs_no_network(&HYDRAS,
        row(Loopback, ONE_BY_DLSYM, Works, ""));
}

/// There is no mpi4py that looks for what Intel's libmpi needs.
fn without_mpi4py(program: Program, mpi: Mpi) -> Program {
    let set = |program: Program, (name, value)| program.env(name, value);
    match mpi.product == INTEL_MPI.product {
        true => mpi.vars_sh().into_iter().fold(program, set),
        false => program,
    }
}

/// What `spawnfix --check` has someone type in front of a command of which it knows no MPI library, which may so call MPI.
fn advised(place: Place, mpi: Mpi) -> Option<String> {
    let check = place.command(mpi, "", &wrapper())?;
    let check = without_mpi4py(check, mpi).args(["--check", "--json", "sh"]);
    // It goes by the mpiexec on PATH.
    let check = match place {
        Unset => check.env("PATH", path_behind(&[&mpi.prefix().join("bin")])),
        _ => check,
    };
    let report = check.stdin(Stdin::Null).piped().run();
    let typed = report.output.split_once("ctypes do, type: ");
    let typed = typed.and_then(|(_, rest)| rest.split_once(" spawnfix sh\""));
    report.check(typed.is_some(), "it says what to type");
    typed.map(|(typed, _)| typed.to_owned())
}

/// Without the library and with it, such a caller fails where MPI_Init or the call of MPI_Comm_spawn needs a remedy. What
/// `--check` has one type makes it work.
#[track_caller]
fn needs_what_check_says(mpis: &[Mpi], row: Row) {
    if !row.place.is_here() {
        return;
    }
    let mpis: Vec<_> = that_are_here(mpis).collect();
    several(AT_A_TIME, &mpis, |&mpi| {
        let typed = advised(row.place, mpi).expect("it is here");
        for form in [Application, Session] {
            for library in [false, true] {
                let report = row.tell(mpi, form, library);
                row.check_bare(&report.expect("it is here"));
            }
            let report = row.tell_typed(mpi, form, true, &typed);
            row.check_works(&report.expect("it is here"), form);
        }
    });
}

tests! {
    needs_what_check_says:
    a_caller_by_dlsym_is_told_where_open_mpi_4_is(&[OPEN_MPI_4],
        row(Unset, ONE_BY_DLSYM, Ends, ""));
    a_caller_by_dlsym_is_told_that_the_step_is_not_its_own(&[OPEN_MPI_4],
        row(SlurmsStep, ONE_BY_DLSYM, Ends, ""));
    a_caller_by_dlsym_is_told_that_pmi_is_anothers(&HYDRAS,
        row(PmiClosed, ONE_BY_DLSYM, Ends, ""));
    a_caller_by_dlsym_is_told_of_the_loopback_under_open_mpi_4(&[OPEN_MPI_4],
        row(Loopback, ONE_BY_DLSYM, Raises, ""));
    a_caller_by_dlsym_is_told_of_the_loopback_under_open_mpi_5(&[OPEN_MPI_5_0_8, OPEN_MPI],
        row(Loopback, ONE_BY_DLSYM, Exits(5), ""));
    a_caller_by_dlsym_is_told_what_intel_mpi_2021_18_needs(&[INTEL_MPI_2021_18],
        row(Prepared, ONE_BY_DLSYM, Dies(libc::SIGSEGV), ""));
}

/// A compiled application depends on UCX, which takes SIGHUP before the library is loaded: nohup is seen no more. The command
/// `spawnfix` sees it, and has UCX leave the signal alone; with the library alone, its user says that to UCX.
#[test]
fn nohup_holds_for_a_compiled_application_that_spawnfix_starts() {
    let mpis: Vec<_> = that_are_here(&MPICHS).collect();
    let command = wrapper();
    let ways = [
        ("", false, false),
        ("", true, false),
        ("env UCX_DEBUG_SIGNO=0", true, true),
        (command.to_str().expect("a text"), false, true),
    ];
    several(
        AT_A_TIME,
        &pairs(&mpis, &ways),
        |&(mpi, (typed, library, lives))| {
            let program = Nohup.command(mpi, typed, &mpi.compile("nohup.c"));
            let program = program.expect("it is here").library(library);
            let report = program.stdin(Stdin::Null).piped().run();
            let as_known = match lives {
                true => report.code() == Some(0) && report.fact("end").is_some(),
                false => report.signal() == Some(libc::SIGKILL) && report.fact("spawned").is_some(),
            };
            report.check(as_known, &format!("{typed}: it lives on: {lives}"));
            report.check(!lives || report.left.is_empty(), "nothing is left behind");
        },
    );
}

/// Where a row fails without the library, it is the row's place that makes it fail.
#[test]
fn in_a_prepared_place_each_spawns_without_the_library() {
    let mpis = [&HYDRAS[..], &OPEN_MPIS, &[INTEL_MPI_2021_14]].concat();
    let mpis: Vec<_> = that_are_here(&mpis).collect();
    several(AT_A_TIME, &mpis, |&mpi| {
        let row = row(Prepared, ONE, Works, "");
        let report = row.tell(mpi, Application, false);
        row.check_bare(&report.expect("it is here"));
    });
}

/// Without the library it waits without end. With it there is an MPI error, and a prompt goes on.
#[test]
fn where_even_the_loopback_is_down_a_spawn_is_an_mpi_error() {
    let row = row(NoNetwork, ONE, Hangs, "");
    each(&[Application, Session], &HYDRAS, row, |report, form| {
        report.check(report.count("error") > 0, "an MPI error");
        report.check(report.status.is_some(), "it ends");
        let again = form == Application || report.fact("again").is_some();
        report.check(again, "the prompt goes on");
        report.check(
            report.log.contains("ip link set lo up"),
            "the log says what to do",
        );
    });
}

/// `mpiexec -n 1`, and a script in it.
fn under_mpiexec(mpi: Mpi, script: &str) -> Program {
    Program::new(mpi.bin("mpiexec"))
        .args(["-n", "1", "sh", "-c", script, "sh"])
        .arg(mpi.bin("python"))
        .arg(app("anywhere.py"))
        .with_nothing_set(mpi)
        .child("spawn_once.c")
        .env("PATH", path_behind(&[&mpi.prefix().join("bin")]))
        .stdin(Stdin::Null)
        .piped()
}

/// PMI_* is the first application's, and of the second one's mpiexec nothing is connected.
#[test]
fn of_a_script_under_mpiexec_the_second_application_spawns_too() {
    let scripts = [
        r#""$@" 'begin()'; exec "$@" 'begin()' 'spawn(1, 1)'"#,
        r#"exec "$@" 'begin()' "script('begin()', 'spawn(1, 1)')""#,
    ];
    let mpis: Vec<_> = that_are_here(&HYDRAS).collect();
    let stories = pairs(&pairs(&mpis, &scripts), &[false, true]);
    several(AT_A_TIME, &stories, |&((mpi, script), library)| {
        let report = under_mpiexec(mpi, script).library(library).run();
        report.check(
            report.count("began") == 1 + usize::from(library),
            "MPI_Init",
        );
        report.check(report.count("spawned") == usize::from(library), "a spawn");
        let said = report.log.contains(&format!("remedy: {NO_PMI}"));
        report.check(said == library, "the remedy is said");
    });
}

/// An mpiexec that has failed, and lives on: hydra whose srun is not there. The next one is tried, and if there is none,
/// the spawn is an MPI error.
#[test]
fn an_mpiexec_that_failed_but_lives_on_is_given_up() {
    let place = place();
    let mpis: Vec<_> = that_are_here(&MPICHS).collect();
    for mpi in &mpis {
        let mpiexec = mpi.bin("mpiexec");
        let text = format!(
            "#!/bin/sh\nHYDRA_LAUNCHER=slurm exec {} \"$@\"\n",
            mpiexec.display()
        );
        script(place.path().join(mpi.name).join("mpiexec"), &text);
    }
    let stories = pairs(&pairs(&mpis, &[true, false]), &[false, true]);
    several(stories.len(), &stories, |&((mpi, has_another), library)| {
        let row = row(WithoutSsh, ONE, Hangs, "");
        let program = row.place.program(mpi).expect("it is here").library(library);
        let first = place.path().join(mpi.name);
        let path = [first, mpi.prefix().join("bin"), commands(&[])];
        let path = std::env::join_paths(path).expect("no colon");
        let program = match has_another {
            true => program.env("PATH", path),
            false => program.env("HYDRA_LAUNCHER", "slurm"), // the user's own
        };
        let report = row
            .watch(row.application(program), Application, library)
            .finish();
        match (library, has_another) {
            (false, _) => row.check_bare(&report),
            (true, true) => row.check_works(&report, Application),
            (true, false) => {
                report.check(report.count("error") == 1, "an MPI error");
                report.check(report.code() == Some(1), "it ends");
            }
        }
    });
}

#[test]
fn spawnfix_remedies_off_turns_all_of_them_off() {
    for mpi in that_are_here(&[OPEN_MPI_4]) {
        let row = row(Unset, ONE, Ends, "");
        let program = Unset.program(mpi).expect("it is here").library(true);
        let program = program.env("SPAWNFIX_REMEDIES", "off");
        let report = row
            .watch(row.application(program), Application, true)
            .finish();
        row.check_bare(&report);
        report.check(!report.log.contains("remedy: "), "no remedy is said");
    }
}

/// What something that the application starts has in its environment, without what differs from run to run, and these.
fn environment(report: &Report, what: &str, without: &[&str]) -> Vec<String> {
    let variable = |name: &str| {
        let prefix = format!("{name}=");
        report
            .values("environment")
            .find_map(|all| all.strip_prefix(&prefix))
    };
    report.check(variable("HOME").is_some(), "it starts a program");
    let directory = variable("HOME").unwrap_or_default();
    let own = [
        "LD_PRELOAD",
        "SPAWNFIX_LOG",
        "SPAWNFIX_LOG_FILE",
        "SPAWNED_BY_TEST",
    ];
    let left_out = |all: &&str| {
        let name = all.split('=').next().unwrap_or_default();
        own.contains(&name) || without.contains(&name)
    };
    let all = report.values(what).filter(|all| !left_out(all));
    let pid = report.pid.to_string();
    let mut all: Vec<_> = all
        .map(|all| all.replace(directory, "DIR").replace(&pid, "PID"))
        // Those of a job: addresses and names that differ from run to run.
        .map(|all| {
            match [
                "OMPI_",
                "PMIX_",
                "PRTE_",
                "I_MPI_HYDRA_UUID",
                "FI_PSM3_UUID",
                "SLURM_",
                "PMI_JOBID",
            ]
            .iter()
            .any(|own| all.starts_with(own))
            {
                true => all.split('=').next().unwrap_or_default().to_owned(),
                false => all,
            }
        })
        .collect();
    all.sort();
    all
}

const STARTS: &[&str] = &[
    "begin()",
    "spawn(1, 1)",
    "environment()",
    "environment('mpiexec', '-n', '1')",
];

/// Two runs of the application, each of which starts a program and mpiexec after its spawn: those have the same in their
/// environment, except for these variables.
#[track_caller]
fn same_environment(first: &Report, second: &Report, without: &[&str]) {
    let whats = ["environment", "environment mpiexec"];
    for what in whats
        .into_iter()
        .filter(|what| first.values(what).next().is_some())
    {
        let [first_has, second_has] =
            [first, second].map(|report| environment(report, what, without));
        second.check(first_has.len() > 5, "it is known");
        let differ = |all: &[String], others: &[String]| -> Vec<String> {
            all.iter()
                .filter(|it| !others.contains(it))
                .cloned()
                .collect()
        };
        let [only_first, only_second] = [
            differ(&first_has, &second_has),
            differ(&second_has, &first_has),
        ];
        let same = only_first.is_empty() && only_second.is_empty();
        second.check(same, &format!("{what}: {only_first:?} and {only_second:?}"));
    }
}

/// What a user has set by hand.
type Known<'a> = &'a [(&'a str, OsString)];

/// Where a user has set by hand what a remedy sets, the rest of the environment is the same.
#[test]
fn what_the_application_starts_has_the_environment_that_it_would_have() {
    let open_mpi_4s = OPEN_MPI_4.prefix();
    let prtes = path_behind(&[&OPEN_MPI.prefix().join("bin")]);
    let cases: [(Mpi, Place, Place, Known); 9] = [
        (
            OPEN_MPI_4,
            Unset,
            Unset,
            &[
                ("OPAL_PREFIX", open_mpi_4s.into()),
                ("PATH", path_behind(&[&OPEN_MPI_4.prefix().join("bin")])),
            ],
        ),
        (
            OPEN_MPI_4,
            SlurmsStep,
            SlurmsVariables,
            &[("SLURM_STEP_ID", "".into())],
        ),
        (OPEN_MPI, Unset, Unset, &[("PATH", prtes)]),
        (
            MPICH_4_2_3,
            SlurmsVariables,
            SlurmsVariables,
            &[("HYDRA_LAUNCHER", "fork".into())],
        ),
        (
            MPICH_5_0_2,
            SlurmsVariables,
            SlurmsVariables,
            &[("HYDRA_LAUNCHER", "fork".into())],
        ),
        (
            INTEL_MPI,
            SlurmsVariables,
            SlurmsVariables,
            &[("I_MPI_HYDRA_BOOTSTRAP", "fork".into())],
        ),
        (MPICH_4_2_3, PmiClosed, Prepared, &[]),
        (INTEL_MPI, PmiClosed, Prepared, &[]),
        (
            INTEL_MPI_2021_18,
            Prepared,
            Prepared,
            &[("I_MPI_SPAWN", "on".into())],
        ),
    ];
    several(AT_A_TIME, &cases, |(mpi, sick, healthy, known)| {
        if !mpi.is_here() {
            return;
        }
        // Where Slurm's variables are, mpiexec hangs by itself; Open MPI's does not start inside an application.
        let has_mpiexec = matches!(sick, PmiClosed | Prepared);
        let says = if has_mpiexec { STARTS } else { &STARTS[..3] };
        let row = row(*sick, says, Works, "");
        let run = |place: Place, known: Known, library| {
            let program = place
                .program(*mpi)
                .expect("it needs nothing")
                .library(library);
            let program = known
                .iter()
                .fold(program, |program, (name, value)| program.env(*name, value));
            row.watch(row.application(program), Application, library)
                .finish()
        };
        let cured = run(*sick, &[], true);
        let healthy = run(*healthy, known, false);
        let mut without: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        without.extend(["PMI_FD", "PMI_RANK", "PMI_SIZE"]);
        same_environment(&healthy, &cured, &without);
        // The variables themselves are as they were.
        for name in without {
            let value = |report: &Report| {
                let prefix = format!("{name}=");
                let mut values = report
                    .values("environment")
                    .filter_map(|all| all.strip_prefix(&prefix).map(str::to_owned));
                values.next()
            };
            let before = run_environment(*sick, *mpi);
            cured.check(
                value(&cured) == value(&before),
                &format!("{name} is as it was"),
            );
        }
    });
}

/// The environment of an application that calls no MPI.
fn run_environment(place: Place, mpi: Mpi) -> Report {
    let row = row(place, &["environment()"], Works, "");
    let program = place.program(mpi).expect("it needs nothing");
    row.watch(row.application(program), Application, false)
        .finish()
}

/// What a process manager has started is served by it: with the library all is as without, and no remedy is taken.
#[test]
fn what_a_process_manager_started_is_left_alone() {
    let flux: &[(&str, &str)] = &[
        ("FLUX_JOB_ID", "f7"),
        ("FLUX_URI", "local:///run/flux/local"),
        ("FLUX_TASK_RANK", "0"),
    ];
    let mpis: Vec<_> = that_are_here(&SERVING).collect();
    let stories = pairs(&mpis, &[("mpiexec", &[][..]), ("flux", flux)]);
    several(AT_A_TIME, &stories, |&(mpi, (_, variables))| {
        if mpi.product == OPEN_MPI.product && !variables.is_empty() {
            return; // it has no PMI_FD
        }
        let script = r#"exec "$@" 'begin()' 'spawn(1, 1)' 'environment()'"#;
        let run = |library| {
            let mut program = under_mpiexec(mpi, script).library(library);
            // Nor for one that a wheel has moved.
            if mpi.name == OPEN_MPI_4.name {
                program = program.env("OPAL_PREFIX", mpi.prefix());
            }
            // Under mpiexec no remedy is taken, and one slot would not do for a child.
            let oversubscribe = [
                "OMPI_MCA_rmaps_base_oversubscribe",
                "PRTE_MCA_rmaps_default_mapping_policy",
            ];
            program = program
                .env(oversubscribe[0], "1")
                .env(oversubscribe[1], ":oversubscribe");
            variables
                .iter()
                .fold(program, |program, (name, value)| program.env(*name, *value))
                .run()
        };
        untouched(&run(false), &run(true));
    });
    // palsrun, which can't be had here: its variables alone; and srun.
    for mpi in that_are_here(&[MPICH_4_2_3, MPICH_5_0_2]) {
        let pals = [
            ("PALS_RANKID", "0"),
            ("PALS_APID", "7"),
            ("PMI_RANK", "0"),
            ("PMI_SIZE", "1"),
            ("PMI_LOCAL_RANK", "0"),
        ];
        let run = |library| {
            let program = Prepared
                .program(mpi)
                .expect("it needs nothing")
                .library(library);
            let program = pals
                .iter()
                .fold(program, |program, (name, value)| program.env(*name, *value));
            let row = row(Prepared, &["begin()", "environment()"], Works, "");
            row.watch(row.application(program), Application, library)
                .finish()
        };
        untouched(&run(false), &run(true));
        let run = |library| {
            let program = slurm::program(How::Step, mpi.bin("python"))?
                .with_nothing_set(mpi)
                .library(library);
            let program = program
                .env("PATH", path_behind(&[&mpi.prefix().join("bin")]))
                .env("SLURM_MPI_TYPE", "pmi2");
            let row = row(Srun, &["begin()", "environment()"], Works, "");
            Some(
                row.watch(row.application(program), Application, library)
                    .finish(),
            )
        };
        if let (Some(bare), Some(with)) = (run(false), run(true)) {
            with.check(
                with.log.lines().all(|line| !line.contains("remedy: ")),
                "no remedy",
            );
            untouched(&bare, &with);
        }
    }
}

#[track_caller]
fn untouched(bare: &Report, with: &Report) {
    bare.check(bare.count("end") == 1, "it works without the library");
    with.check(with.count("end") == 1, "it works with the library");
    with.check(!with.log.contains("remedy: "), "no remedy is taken");
    with.check(!with.log.contains("acting as"), "no agent");
    let [bare_has, with_has] = [bare, with].map(|report| environment(report, "environment", &[]));
    let managers = ["PMI_", "PMIX_", "PALS_", "FLUX_", "SLURM_"];
    let is_managers = |all: &str| managers.iter().any(|prefix| all.starts_with(prefix));
    let known = bare_has.iter().any(|all| is_managers(all));
    bare.check(known, "the process manager's variables are there");
    let differ = bare_has.iter().chain(&with_has);
    let differ: Vec<_> = differ
        .filter(|all| !bare_has.contains(all) || !with_has.contains(all))
        .collect();
    let same = format!("the environment is the same, except for {differ:?}");
    with.check(differ.is_empty(), &same);
}
