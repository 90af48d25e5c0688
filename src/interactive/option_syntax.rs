//! How an interpreter reads its command line: does its prompt come, or does something run in its place?

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::shared::stdio::Stdin;

/// The options of an interpreter, as far as they decide that. Lists are separated by blanks.
pub struct OptionSyntax {
    /// Options with a value, which may be the next word.
    pub with_value: &'static str,
    /// Those whose value runs in place of the prompt.
    pub runs_instead: &'static str,
    /// Options with which the prompt comes all the same.
    pub stays_interactive: &'static str,
    /// Whether the words after one of `runs_instead` are no longer the interpreter's.
    pub ends_options: bool,
    /// What the first word that is no option is.
    pub operand: Operand,
}

/// IPython's `--Class.trait value`. No other interpreter has an option with a dot.
const TRAIT: &str = "Class.trait";

pub enum Operand {
    /// A script, and what follows is the script's.
    Script,
    /// Ignored by the interpreter.
    Ignored,
}

/// What a command line says.
pub struct Seen<'a> {
    pub runs_instead: Option<Run<'a>>,
    pub stays_interactive: Option<&'a OsStr>,
}

/// What runs in place of the prompt.
pub struct Run<'a> {
    /// The option, or nothing: a script.
    pub option: &'static str,
    pub what: &'a OsStr,
    pub rest: &'a [OsString],
}

impl OptionSyntax {
    pub fn read<'a>(&self, words: &'a [OsString]) -> Seen<'a> {
        let mut seen = Seen {
            runs_instead: None,
            stays_interactive: None,
        };
        let mut rest = words;
        let mut options = true;
        while let Some((word, behind)) = rest.split_first() {
            rest = behind;
            let bytes = word.as_bytes();
            if options && bytes == b"--" {
                options = false;
            } else if bytes == b"-" {
                // The interpreter reads its stdin, as it does without a word.
                break;
            } else if options && bytes.starts_with(b"-") {
                for (name, attached) in self.options(bytes) {
                    let Some(name) = name else { continue };
                    if is_in(self.stays_interactive, name) {
                        seen.stays_interactive.get_or_insert(word);
                        continue;
                    }
                    let what = match attached {
                        Some(value) => OsStr::from_bytes(value),
                        None => {
                            let Some((value, behind)) = rest.split_first() else {
                                break;
                            };
                            rest = behind;
                            value
                        }
                    };
                    if is_in(self.runs_instead, name) {
                        seen.runs_instead.get_or_insert(Run {
                            option: name,
                            what,
                            rest,
                        });
                        if self.ends_options {
                            return seen;
                        }
                    }
                }
            } else if let Operand::Script = self.operand {
                seen.runs_instead.get_or_insert(Run {
                    option: "",
                    what: word,
                    rest,
                });
                break;
            }
        }
        seen
    }

    /// The options of one word, each with the value that is attached to it; those that mean nothing here are None.
    fn options<'a>(&self, word: &'a [u8]) -> Vec<(Option<&'static str>, Option<&'a [u8]>)> {
        let find = |list: &'static str, name: &[u8]| {
            list.split(' ')
                .find(|known| !known.is_empty() && known.as_bytes() == name)
        };
        let takes_value =
            |name: &[u8]| find(self.with_value, name).or_else(|| find(self.runs_instead, name));
        let long = word.strip_prefix(b"--");
        let (name, value) = match word.iter().position(|byte| *byte == b'=') {
            Some(at) => (&word[..at], Some(&word[at + 1..])),
            None => (word, None),
        };
        let name = &name[if long.is_some() { 2 } else { 1 }.min(name.len())..];
        if long.is_some() {
            let known = takes_value(name)
                .or_else(|| find(self.stays_interactive, name))
                .or_else(|| name.contains(&b'.').then_some(TRAIT));
            return vec![(known, value)];
        }
        // xonsh's -st.
        let known = find(self.with_value, name).filter(|known| known.len() > 1);
        if known.is_some() {
            return vec![(known, value)];
        }
        // Several in one word: -iq, -Ibu, -Wignore, -cCODE.
        let letters = &word[1..];
        let mut all = Vec::new();
        for at in 0..letters.len() {
            let letter = &letters[at..=at];
            if let Some(known) = takes_value(letter) {
                let value = Some(&letters[at + 1..]).filter(|value| !value.is_empty());
                all.push((Some(known), value));
                break;
            }
            all.push((find(self.stays_interactive, letter), None));
        }
        all
    }
}

impl<'a> Seen<'a> {
    /// The word that says that a prompt comes, on a terminal: `program`, if no other does.
    pub fn prompt(&self, program: &'a OsStr, stdin: Stdin) -> Option<&'a OsStr> {
        match self.runs_instead {
            _ if stdin != Stdin::Terminal => None,
            Some(_) => self.stays_interactive,
            None => Some(program),
        }
    }

    /// The code that this option runs, if it calls that function.
    pub fn run(&self, option: &str, function: &str) -> Option<&'a OsStr> {
        let run = self.runs_instead.as_ref()?;
        (run.option == option && holds(run.what, function)).then_some(run.what)
    }
}

pub fn is_in(list: &str, name: &str) -> bool {
    list.split(' ').any(|known| known == name)
}

pub fn holds(text: &OsStr, part: &str) -> bool {
    let mut windows = text.as_bytes().windows(part.len());
    windows.any(|window| window == part.as_bytes())
}
