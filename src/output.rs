//! What the command writes on stdout and stderr.

use std::ffi::OsStr;
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

/// A word as a shell takes it: in quotes, unless it needs none.
pub fn shell_word(word: &(impl AsRef<OsStr> + ?Sized)) -> String {
    let word = word.as_ref().to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.into_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_word_as_it_is() {
        assert_eq!(shell_word("/opt/bin/R-4.1"), "/opt/bin/R-4.1");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("it's $HOME"), "'it'\\''s $HOME'");
    }
}
