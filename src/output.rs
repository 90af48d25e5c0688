//! What the command writes on stdout and stderr.

use std::io::Write as _;

/// Writes a line on stderr: `spawnfix: TEXT`.
pub fn eprint_prefixed(text: impl std::fmt::Display) {
    // Nobody may be listening.
    let _ = writeln!(std::io::stderr(), "spawnfix: {text}");
}

/// Writes this on stdout at once.
pub fn print_flushed(text: &str) {
    let mut stdout = std::io::stdout();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}
