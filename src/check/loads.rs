//! Whether the dynamic linker loads the library into a program.

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Loads {
    #[default]
    Yes,
    /// The program runs without it, for this reason.
    No(String),
    /// The program does not start with it, for this reason.
    Breaks(String),
    /// It does not, for this reason, and the program's MPI library is not known.
    Unknown(String),
}
