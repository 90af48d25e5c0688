//! What is known of MPI implementations: how each names itself, launches, and what a spawn needs.

pub mod environment;
pub mod launch;
pub mod library;
pub mod mpiexec;
pub mod remedies;

use std::fmt;
use std::io::Read;

use memchr::memmem;

use crate::shared::logging::Escaped;

/// MPI libraries as far as their way of launching differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// MPICH, and those that keep its name in theirs, as Cray's.
    Mpich,
    /// Intel MPI.
    Intel,
    /// MVAPICH.
    Mvapich,
    /// Open MPI.
    OpenMpi,
    /// None of these.
    Unknown,
}

/// How a family is recognised: what `MPI_Get_library_version` says, with the version behind it; what stands in its
/// mpiexec's file; what a person calls it. The first that is found counts, as the texts of Intel MPI and MVAPICH mention
/// MPICH, too.
const MARKS: [(Family, Option<&str>, Option<&str>, &str); 6] = {
    use Family::{Intel, Mpich, Mvapich, OpenMpi};
    [
        (OpenMpi, Some("Open MPI"), Some("prte_init"), "Open MPI"),
        (OpenMpi, None, Some("orte_init"), "Open MPI"),
        (
            Intel,
            Some("Intel(R) MPI"),
            Some("Intel(R) MPI Library"),
            "Intel MPI",
        ),
        (Mvapich, Some("MVAPICH"), Some("MVAPICH"), "MVAPICH"),
        (Mpich, Some("CRAY MPICH"), None, "Cray MPICH"),
        (Mpich, Some("MPICH"), Some("HYDRA build details"), "MPICH"),
    ]
};

impl Family {
    /// Whether it launches as MPICH does: an mpiexec, which speaks PMI-1.
    pub fn is_mpich_kin(self) -> bool {
        matches!(self, Family::Mpich | Family::Intel | Family::Mvapich)
    }

    /// Whether it uses the process manager that has set this variable. MPICH may not use a PMIx server, and then launches
    /// an mpiexec all the same.
    pub fn uses_manager(self, variable: &str) -> bool {
        !self.is_mpich_kin() || !variable.starts_with("PMIX")
    }

    /// The family of the mpiexec whose file has this text, if it tells. `None` also if it can't be read.
    pub fn of_mpiexec(mut file: impl Read) -> Option<Family> {
        let mut piece = vec![0; 64 << 10];
        let mut kept = 0;
        let mut best = MARKS.len();
        loop {
            let end = kept + file.read(&mut piece[kept..]).ok()?;
            if end == kept {
                return MARKS.get(best).map(|(family, ..)| *family);
            }
            let has = |text: &str| memmem::find(&piece[..end], text.as_bytes()).is_some();
            let mut better = MARKS[..best].iter();
            best = better
                .position(|mark| mark.2.is_some_and(has))
                .unwrap_or(best);
            // A mark may lie across two pieces.
            kept = end.min(LONGEST_MARK);
            piece.copy_within(end - kept..end, 0);
        }
    }
}

/// No mark of an mpiexec is longer.
const LONGEST_MARK: usize = 32;

/// Whether a file of this name is an MPI library: libmpi.so.12, libmpich.so.12, libmpi.12.dylib, libmpi_abi.so.0, Cray's
/// libmpi_gnu.so.12, a wheel's libmpi-d26c8c51.so.12.
pub fn is_libmpi(name: &[u8]) -> bool {
    let rest = name.strip_prefix(b"libmpi").unwrap_or_default();
    let rest = rest.strip_prefix(b"ch").unwrap_or(rest);
    let kin = [
        &b".so"[..],
        b"_abi",
        b"-",
        b"_gnu",
        b"_intel",
        b"_cray",
        b"_nvidia",
    ];
    kin.iter().any(|kin| rest.starts_with(kin))
        || rest.starts_with(b".") && rest.ends_with(b".dylib")
}

/// An MPI library, by its own account.
#[derive(Debug)]
pub struct Mpi {
    /// How it launches.
    pub family: Family,
    /// Its version, as far as it is numbers: 4.3.2, 2021.13.
    pub version: Vec<u32>,
    /// Why this build can't spawn at all, not even under mpiexec, and what to get instead.
    pub cannot_spawn: Option<&'static str>,
    /// Its name and version, as a person would say them.
    name: String,
}

impl Mpi {
    /// The library of which `MPI_Get_library_version` says this.
    pub fn from_version_text(text: &[u8]) -> Mpi {
        let text = String::from_utf8_lossy(text);
        let text = text.trim_end_matches('\0').trim();
        // Or the name that this function made of it, which the library passes to the agent.
        let matching = MARKS.iter().find_map(|(family, mark, _, name)| {
            let rest = text
                .split_once((*mark)?)
                .or_else(|| text.split_once(name))?;
            Some((*family, rest.1, name))
        });
        let Some((family, rest, name)) = matching else {
            let line = text.lines().next().unwrap_or_default();
            let short: String = line.chars().take(80).collect();
            let name = match short.is_empty() {
                true => "an MPI that does not say its name".to_owned(),
                false => format!("an MPI unknown to spawnfix ({})", Escaped(short.as_bytes())),
            };
            return Mpi {
                family: Family::Unknown,
                version: Vec::new(),
                cannot_spawn: None,
                name,
            };
        };
        let mut words = rest
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '.')
            .map(|word| word.trim_start_matches('v'));
        let version =
            words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
        let numbers = version.unwrap_or_default().split('.');
        let numbers: Vec<u32> = numbers.map_while(|part| part.parse().ok()).collect();
        Mpi {
            family,
            cannot_spawn: cannot_spawn(text, &numbers),
            version: numbers,
            name: format!("{name} {}", version.unwrap_or("of an unknown version")),
        }
    }
}

/// Why an MPICH that was built like this can't spawn: `MPICH Device:` and `MPICH configure:` in its version text.
fn cannot_spawn(text: &str, version: &[u32]) -> Option<&'static str> {
    let line = |start: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(start));
        found.unwrap_or_default().trim()
    };
    let mut options = line("MPICH configure:").split_whitespace();
    let is_pmix = |option: &str| {
        option == "--with-pmix" || option.starts_with("--with-pmix=") && option != "--with-pmix=no"
    };
    if options.any(|option| is_pmix(option.trim_matches('\''))) {
        return Some(
            "an MPICH that was built with PMIx can't spawn with its own mpiexec, which speaks PMI-1; get one \
             configured without --with-pmix, as PyPI's are",
        );
    }
    // A spawn ends in "Error in spawn call" (Debian 12's 4.0.2, 13's 4.2.1, Ubuntu's); the network module's addresses
    // were too long for PMI-1 before 4.3.
    let is_ucx = line("MPICH Device:") == "ch4:ucx" || text.contains("--with-device=ch4:ucx");
    (is_ucx && version < &[4, 3][..]).then_some(
        "an MPICH before 4.3 that was built for UCX (ch4:ucx), as Debian's and Ubuntu's are, can't spawn, not even \
         under mpiexec; get MPICH 4.3.2 or later, or one built for OFI (ch4:ofi), as PyPI's are",
    )
}

impl fmt::Display for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, family: Family, name: &str) {
        let mpi = Mpi::from_version_text(text.as_bytes());
        assert_eq!((mpi.family, mpi.to_string().as_str()), (family, name));
    }

    #[test]
    fn an_mpiexec_is_recognised_by_its_text() {
        let family = |text: &[u8]| Family::of_mpiexec(text);
        assert_eq!(family(b"HYDRA build details:"), Some(Family::Mpich));
        assert_eq!(family(b"#!/bin/sh\nexec srun \"$@\"\n"), None);
        // Intel's and MVAPICH's mention MPICH, before or after their own names.
        let far = [b' '; 100_000].as_slice();
        let own = &b"Intel(R) MPI Library"[..];
        let mpich = &b"HYDRA build details"[..];
        for text in [[mpich, far, own].concat(), [own, far, mpich].concat()] {
            assert_eq!(family(&text), Some(Family::Intel));
        }
        for at in 0..=own.len() {
            let in_two_pieces = far.chain(&own[..at]).chain(&own[at..]);
            assert_eq!(Family::of_mpiexec(in_two_pieces), Some(Family::Intel));
        }
        for start in 65_500..65_560 {
            let text = [&vec![b' '; start], own].concat();
            assert_eq!(family(&text), Some(Family::Intel));
        }
        let long = |(_, _, text, _): &(_, _, Option<&str>, _)| {
            text.is_some_and(|text| text.len() > LONGEST_MARK)
        };
        assert!(!MARKS.iter().any(long));
    }

    #[test]
    fn a_library_is_recognised_by_its_version_text() {
        check(
            "MPICH Version:      4.2.3\nMPICH Release date: Thu",
            Family::Mpich,
            "MPICH 4.2.3",
        );
        check("MPICH Version:\t5.0.0b1\n", Family::Mpich, "MPICH 5.0.0b1");
        check(
            "Intel(R) MPI Library 2021.13 for Linux* OS\n\0",
            Family::Intel,
            "Intel MPI 2021.13",
        );
        check(
            "MVAPICH2 Version      :\t2.3.7\nMVAPICH2 Release date",
            Family::Mvapich,
            "MVAPICH 2.3.7",
        );
        check(
            "MPI VERSION    : CRAY MPICH version 8.1.28.29 (ANL base 3.4a2)\n",
            Family::Mpich,
            "Cray MPICH 8.1.28.29",
        );
        check(
            "Open MPI v5.0.11, package: Open MPI root@host Distribution, ident: 5.0.11",
            Family::OpenMpi,
            "Open MPI 5.0.11",
        );
    }

    #[test]
    fn builds_that_cannot_spawn_are_recognised() {
        let cannot = |version: &str, device: &str, options: &str| {
            let text = format!(
                "MPICH Version:      {version}\nMPICH Device:       {device}\nMPICH configure:    {options}\nMPICH CC: gcc\n"
            );
            Mpi::from_version_text(text.as_bytes())
                .cannot_spawn
                .is_some()
        };
        assert!(cannot(
            "4.0.2",
            "ch4:ucx",
            "--with-libfabric --with-ucx=/usr"
        ));
        assert!(cannot("4.2.9", "ch4:other", "--with-device=ch4:ucx"));
        assert!(!cannot("4.3", "ch4:ucx", ""));
        assert!(!cannot("4.3.2", "ch4:ucx", ""));
        assert!(!cannot("4.3.2", "ch4:ofi", "--with-pmixes"));
        assert!(!cannot(
            "4.2.3",
            "ch4:ofi",
            "--with-device=ch4:ofi --with-pmix=no --without-pmix"
        ));
        assert!(cannot("4.3.2", "ch4:ofi", "'--with-pmix=/usr/lib/pmix'"));
        assert!(cannot("4.2.1", "ch4:ofi", "--prefix=/usr --with-pmix"));
    }

    #[test]
    fn kin_of_mpich_use_a_pmi_manager_and_others_any() {
        use Family::*;
        for (family, kin) in [
            (Mpich, true),
            (Intel, true),
            (Mvapich, true),
            (OpenMpi, false),
            (Unknown, false),
        ] {
            assert_eq!(family.is_mpich_kin(), kin, "{family:?}");
            assert!(family.uses_manager("PMI_RANK"), "{family:?}");
            assert_eq!(family.uses_manager("PMIX_RANK"), !kin, "{family:?}");
        }
    }

    #[test]
    fn an_mpi_library_is_known_by_its_files_name() {
        for name in [
            "libmpi.so",
            "libmpi.so.12",
            "libmpich.so.12",
            "libmpi.12.dylib",
            "libmpi_abi.so.0",
            "libmpi_gnu.so.12",
            "libmpi-d26c8c51.so.12",
        ] {
            assert!(is_libmpi(name.as_bytes()), "{name}");
        }
        for name in [
            "",
            "libmpicxx.so.12",
            "libmpifort.so.12",
            "libmpi.12.txt",
            "libmpi",
            "libmpidylib",
            "libopen-rte.so",
            "mpi.so",
        ] {
            assert!(!is_libmpi(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_version_is_its_numbers() {
        let version = |text: &str| Mpi::from_version_text(text.as_bytes()).version;
        assert_eq!(version("MPICH Version: 4.3.2"), [4, 3, 2]);
        assert_eq!(version("MPICH Version: 5.0.0b1"), [5, 0]);
        assert_eq!(version("MPICH Version:"), []);
        check("MPICH 4", Family::Mpich, "MPICH of an unknown version");
    }

    #[test]
    fn an_unknown_library_is_quoted_safely() {
        check("", Family::Unknown, "an MPI that does not say its name");
        check(
            "Toy\u{1b}[2J MPI\nsecond line",
            Family::Unknown,
            "an MPI unknown to spawnfix (Toy\\u{1b}[2J MPI)",
        );
        let long = Mpi::from_version_text("x".repeat(5000).as_bytes());
        assert!(long.to_string().len() < 200);
    }
}
