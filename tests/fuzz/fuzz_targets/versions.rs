//! What MPI_Get_library_version says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spawnfix_fuzz::is_plain;
use spawnfix_fuzz::mpi::{Family, Mpi};

fuzz_target!(|input: &[u8]| {
    let mpi = Mpi::from_version_text(input);
    let name = mpi.to_string();
    assert!(is_plain(&name), "{name:?}");
    if mpi.family == Family::Unknown {
        assert!(mpi.cannot_spawn.is_none() && mpi.version.is_empty());
        assert!(name.len() < 1000);
    }
    // The name that we give it names it.
    if [Family::OpenMpi, Family::Mpich, Family::Mvapich].contains(&mpi.family)
        && !name.starts_with("Cray")
    {
        let again = Mpi::from_version_text(name.as_bytes());
        assert_eq!(
            (again.family, &again.version, again.to_string()),
            (mpi.family, &mpi.version, name)
        );
    }
});
