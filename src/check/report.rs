//! How a check is reported: rows for a person, or one JSON object.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::preload_list;
use crate::shared::logging::escape;

/// What is reported, in this order. In JSON each is there, as null if there is nothing to report.
const FIELDS: &str = "spawnfix library agent command session loads mpi launcher remedies hosts outcome milliseconds said \
    tried advice works";

/// How the variables begin of which a bug report shows the value: ours and MPI's.
const OURS: &str = "SPAWNFIX_ PMI MPI HYDRA_ I_MPI_ FI_ UCX_ OMPI_ PRTE_ OPAL_";

/// What was found.
#[derive(Default)]
pub struct Report {
    /// Each field's rows, and its value in JSON.
    found: HashMap<&'static str, (Vec<String>, String)>,
    /// The trial's log.
    pub log: Vec<String>,
}

impl Report {
    /// A text.
    pub fn add(&mut self, name: &'static str, text: impl Into<String>) {
        let text = text.into();
        let json = quoted(&text);
        self.found.insert(name, (vec![text], json));
    }

    /// A list of texts.
    pub fn add_list(&mut self, name: &'static str, all: Vec<String>) {
        let json: Vec<_> = all.iter().map(|text| quoted(text)).collect();
        self.found
            .insert(name, (all, format!("[{}]", json.join(", "))));
    }

    /// A number or a truth value, only for JSON: a row says the same in words.
    pub fn add_value(&mut self, name: &'static str, value: impl ToString) {
        self.found.insert(name, (Vec::new(), value.to_string()));
    }

    /// One line.
    pub fn to_json(&self) -> String {
        let fields = FIELDS.split(' ').map(|name| {
            let value = self.found.get(name).map_or("null", |(_, json)| json);
            format!("{}: {value}", quoted(name))
        });
        format!("{{{}}}\n", fields.collect::<Vec<_>>().join(", "))
    }

    /// The rows.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for mut name in FIELDS.split(' ') {
            for row in self.found.get(name).iter().flat_map(|(rows, _)| rows) {
                text += &format!("{name:<10} {row}\n");
                name = "";
            }
        }
        text
    }

    /// Writes what a bug report needs: the check, the machine, the environment and the trial's log.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let system = fs::read_to_string("/proc/version").unwrap_or_default();
        let mut text = self.to_text();
        text += &format!("\nsystem     {} {system}\n", std::env::consts::ARCH);
        let mut variables: Vec<_> = std::env::vars_os().collect();
        variables.sort();
        for (name, value) in variables {
            text += &escape(&name).to_string();
            let mut starts = OURS.split(' ').map(str::as_bytes);
            let is_ours = starts.any(|start| name.as_bytes().starts_with(start));
            if is_ours || name == preload_list::VARIABLE {
                text += &format!("={}", escape(&value));
            }
            text += "\n";
        }
        text.extend(self.log.iter().map(|line| format!("\n{}", escape(line))));
        fs::write(file, text + "\n")
    }
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_in_rows_and_as_json() {
        let mut report = Report::default();
        report.add("mpi", "a \"b\" \\ ü\n\u{1}");
        report.add_list("said", vec!["x".into(), "y".into()]);
        report.add_value("milliseconds", 7);
        report.add_value("works", true);
        let json = report.to_json();
        for part in [
            "{\"spawnfix\": null, ",
            "\"mpi\": \"a \\\"b\\\" \\\\ ü\\u000a\\u0001\", ",
            "\"said\": [\"x\", \"y\"], ",
            "\"milliseconds\": 7, ",
            "\"works\": true}\n",
        ] {
            assert!(json.contains(part), "{json}");
        }
        assert!(report.to_text().ends_with("said       x\n           y\n"));
    }
}
