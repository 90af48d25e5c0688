//! How a check is told: lines for a person, or one JSON object.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::output::print_flushed;

/// What is found, a line each.
#[derive(Default)]
pub struct Report(Vec<(&'static str, String)>);

impl Report {
    pub fn add(&mut self, name: &'static str, text: impl Into<String>) {
        self.0.push((name, text.into()));
    }

    pub fn print(&self, works: bool, json: bool) -> ExitCode {
        let mut text = String::new();
        if json {
            for (name, said) in &self.0 {
                let _ = write!(
                    text,
                    "{}: {}, ",
                    quoted(&name.to_lowercase().replace(' ', "_")),
                    quoted(said)
                );
            }
            text = format!("{{{text}\"works\": {works}}}\n");
        } else {
            for (name, said) in &self.0 {
                let _ = writeln!(text, "{name:<10} {said}");
            }
        }
        print_flushed(&text);
        if works {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => _ = write!(quoted, "\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_strings_have_no_loose_ends() {
        assert_eq!(
            quoted("a \"b\" \\ ü\n\u{1}"),
            r#""a \"b\" \\ ü\u000a\u0001""#
        );
    }
}
