//! Which MPI library a program has, or an mpiexec.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::run::{LIMIT, run};
use crate::exec::Changes;
use crate::mpi::mpiexec::family_of;
use crate::mpi::{Family, is_libmpi};
use crate::shared::paths;

/// Prints which files an interpreter's mpi4py has loaded, and which variables it has set, as it does for Intel MPI.
const ASK_PYTHON: &str = "import os
before = dict(os.environ)
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
for name, value in os.environ.items():
    if before.get(name) != value: print(name + '=' + value)
for line in open('/proc/self/maps'):
    print(line.rstrip()[line.find('/'):])";

/// The last component of a file's path.
pub fn name_of(file: &Path) -> &[u8] {
    paths::file_name(file.as_os_str().as_bytes())
}

/// Whether a libmpi is Open MPI's, by its name: libmpi.so.40. MPICH's and its kin's is libmpi.so.12.
pub fn is_open_mpis(libmpi: &Path) -> bool {
    name_of(libmpi).windows(6).any(|part| part == b".so.40")
}

/// The MPI library among the files that a program loads; and where the libraries of the same prefix are, as mpi4py loads
/// Intel MPI's libfabric before libmpi looks for it (dlopen_impi_libfabric in its _mpiabi.py).
pub fn among(files: &[&Path], changes: &mut Changes) -> Option<PathBuf> {
    let libmpi = files.iter().find(|file| is_libmpi(name_of(file)))?;
    let prefix = libmpi.parent()?.parent()?;
    let beside = files.iter().filter(|file| file.starts_with(prefix));
    let mut places: Vec<_> = beside.filter_map(|file| file.parent()).collect();
    places.dedup();
    let present = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let places = places.into_iter().map(Path::to_owned);
    let all = std::env::join_paths(places.chain(std::env::split_paths(&present)));
    changes.push(("LD_LIBRARY_PATH".into(), all.ok()));
    Some(libmpi.to_path_buf())
}

/// What a Python's mpi4py loads, and sets in its environment.
pub fn of_mpi4py(python: &Path, changes: &mut Changes) -> Option<PathBuf> {
    let ran = run(Command::new(python).args(["-B", "-c", ASK_PYTHON]), LIMIT);
    let (files, set): (Vec<_>, Vec<_>) = ran.stdout.lines().partition(|line| line.starts_with('/'));
    let set = set.iter().filter_map(|line| line.split_once('='));
    changes.extend(set.map(|(name, value)| (name.into(), Some(value.into()))));
    among(&files.iter().map(Path::new).collect::<Vec<_>>(), changes)
}

/// The MPI library that belongs to an mpiexec.
pub fn beside(mpiexec: &Path) -> Option<PathBuf> {
    let open_mpis = family_of(mpiexec) == Some(Family::OpenMpi);
    let mpiexec = mpiexec.canonicalize().ok()?;
    let prefix = mpiexec.parent()?.parent()?;
    let debian = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
    let places =
        ["lib", "lib64", "lib/release", &debian].map(|place| fs::read_dir(prefix.join(place)));
    let entries = places.into_iter().flatten().flatten().flatten();
    let files = entries.filter_map(|entry| entry.path().canonicalize().ok());
    let is_it = |file: &PathBuf| {
        // In a wheel, libmpi.so is a short text.
        let is_library = file.metadata().is_ok_and(|metadata| metadata.len() > 4096);
        is_libmpi(name_of(file)) && is_open_mpis(file) == open_mpis && is_library
    };
    files.filter(is_it).min()
}

/// The MPI libraries of MPICH's kin that belong to an mpiexec on PATH: they have the same ABI.
pub fn of_mpichs_kin() -> impl Iterator<Item = PathBuf> {
    let mut kin = paths::find(OsStr::new("mpiexec")).unwrap_or_default();
    kin.retain(|mpiexec| family_of(mpiexec) != Some(Family::OpenMpi));
    kin.into_iter().filter_map(|mpiexec| beside(&mpiexec))
}
