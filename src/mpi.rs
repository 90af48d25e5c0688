//! What an MPI is, and what is known of each.

use std::fmt;

use crate::logging::Escaped;

/// MPI libraries as far as their way of launching differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// MPICH, and those that keep its name in theirs, as Cray's.
    Mpich,
    Intel,
    Mvapich,
    OpenMpi,
    Unknown,
}

impl Family {
    /// Whether it launches as MPICH does: an mpiexec, which speaks PMI-1.
    pub fn is_mpich_kin(self) -> bool {
        matches!(self, Family::Mpich | Family::Intel | Family::Mvapich)
    }
}

/// An MPI library, by its own account.
#[derive(Debug)]
pub struct Mpi {
    pub family: Family,
    /// Its version, as far as it is numbers: 4.3.2, 2021.13.
    pub version: Vec<u32>,
    /// Its name and version, as a person would say them.
    name: String,
}

impl Mpi {
    /// The library that names itself so.
    pub fn named(text: &[u8]) -> Mpi {
        let text = String::from_utf8_lossy(text);
        let text = text.trim_end_matches('\0').trim();
        // In this order: Intel's and MVAPICH's texts may mention MPICH too.
        let known = [
            (Family::OpenMpi, "Open MPI", "Open MPI"),
            (Family::Intel, "Intel(R) MPI", "Intel MPI"),
            (Family::Mvapich, "MVAPICH", "MVAPICH"),
            (Family::Mpich, "CRAY MPICH", "Cray MPICH"),
            (Family::Mpich, "MPICH", "MPICH"),
        ];
        let mut matching = known
            .into_iter()
            .filter_map(|(family, mark, name)| Some((family, text.split_once(mark)?.1, name)));
        let Some((family, rest, name)) = matching.next() else {
            let name = match text.lines().next() {
                None => "an MPI that does not tell its name".to_owned(),
                Some(line) => {
                    let short: String = line.chars().take(80).collect();
                    format!("an MPI unknown to spawnfix ({})", Escaped(short.as_bytes()))
                }
            };
            return Mpi {
                family: Family::Unknown,
                version: Vec::new(),
                name,
            };
        };
        let version = rest
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '.')
            .map(|word| word.trim_start_matches('v'))
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
        Mpi {
            family,
            version: version
                .unwrap_or_default()
                .split('.')
                .map_while(|part| part.parse().ok())
                .collect(),
            name: format!("{name} {}", version.unwrap_or("of an unknown version")),
        }
    }
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
        let mpi = Mpi::named(text.as_bytes());
        assert_eq!((mpi.family, mpi.to_string().as_str()), (family, name));
    }

    #[test]
    fn libraries_are_known_by_what_they_say_of_themselves() {
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
    fn an_unknown_library_is_quoted_safely() {
        check("", Family::Unknown, "an MPI that does not tell its name");
        check(
            "Toy\u{1b}[2J MPI\nsecond line",
            Family::Unknown,
            "an MPI unknown to spawnfix (Toy\\u{1b}[2J MPI)",
        );
        let long = Mpi::named("x".repeat(5000).as_bytes());
        assert!(long.to_string().len() < 200);
    }
}
