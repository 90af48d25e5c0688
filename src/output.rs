//! What this program says on stdout and stderr, and how it shows words from outside.

use std::io::Write as _;

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
