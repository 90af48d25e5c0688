//! What this program says on stdout and stderr, and how it shows words from outside.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;

use crate::logging::Escaped;

/// Says this on stderr, as all that this program says there.
pub fn say(text: impl std::fmt::Display) {
    // Nobody may be listening.
    let _ = writeln!(std::io::stderr(), "spawnfix: {text}");
}

/// Prints this on stdout.
pub fn print(text: &str) {
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}

/// A word from outside, as it is shown.
pub fn shown(word: &(impl AsRef<OsStr> + ?Sized)) -> Escaped<'_> {
    Escaped(word.as_ref().as_bytes())
}
