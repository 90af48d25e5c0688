//! How a program reads its command line, of which one thing is asked: does its prompt come?

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::shared::stdin::Stdin;

/// What is to be known of a program for that.
pub struct Grammar {
    /// Options with a value, which may be the next word.
    pub values: &'static str,
    /// Those whose value runs in place of the prompt.
    pub instead: &'static str,
    /// Options with which the prompt comes all the same.
    pub anyway: &'static str,
    /// Whether what comes behind one of `instead` is no longer the program's.
    pub takes_rest: bool,
    /// What the first word is that is no option.
    pub operand: Operand,
}

/// IPython's `--Class.trait value`. No other program has an option with a dot.
const TRAIT: &str = "Class.trait";

pub enum Operand {
    /// A script, and what follows is the script's.
    Script,
    /// Nothing to the program.
    Ignored,
}

/// What a command line says.
pub struct Seen<'a> {
    pub instead: Option<Run<'a>>,
    pub anyway: Option<&'a OsStr>,
}

/// What runs in place of the prompt.
pub struct Run<'a> {
    /// The option, or nothing: a script.
    pub option: &'static str,
    pub what: &'a OsStr,
    pub rest: &'a [OsString],
}

impl Grammar {
    pub fn read<'a>(&self, words: &'a [OsString]) -> Seen<'a> {
        let mut seen = Seen {
            instead: None,
            anyway: None,
        };
        let mut rest = words;
        let mut options = true;
        while let Some((word, behind)) = rest.split_first() {
            rest = behind;
            let bytes = word.as_bytes();
            if options && bytes == b"--" {
                options = false;
            } else if bytes == b"-" {
                // The program is to read its stdin, as it would without a word.
                break;
            } else if options && bytes.starts_with(b"-") {
                for (name, attached) in self.options(bytes) {
                    let Some(name) = name else { continue };
                    if is_in(self.anyway, name) {
                        seen.anyway.get_or_insert(word);
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
                    if is_in(self.instead, name) {
                        seen.instead.get_or_insert(Run {
                            option: name,
                            what,
                            rest,
                        });
                        if self.takes_rest {
                            return seen;
                        }
                    }
                }
            } else if let Operand::Script = self.operand {
                seen.instead.get_or_insert(Run {
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
            |name: &[u8]| find(self.values, name).or_else(|| find(self.instead, name));
        let long = word.strip_prefix(b"--");
        let (name, value) = match word.iter().position(|byte| *byte == b'=') {
            Some(at) => (&word[..at], Some(&word[at + 1..])),
            None => (word, None),
        };
        let name = &name[if long.is_some() { 2 } else { 1 }.min(name.len())..];
        if long.is_some() {
            let known = takes_value(name)
                .or_else(|| find(self.anyway, name))
                .or_else(|| name.contains(&b'.').then_some(TRAIT));
            return vec![(known, value)];
        }
        // xonsh's -st.
        let known = find(self.values, name).filter(|known| known.len() > 1);
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
            all.push((find(self.anyway, letter), None));
        }
        all
    }
}

impl<'a> Seen<'a> {
    /// The word that says that a prompt comes, with a person at it: `program`, if nothing else does.
    pub fn prompt(&self, program: &'a OsStr, stdin: Stdin) -> Option<&'a OsStr> {
        match self.instead {
            _ if stdin != Stdin::Terminal => None,
            Some(_) => self.anyway,
            None => Some(program),
        }
    }

    /// What this option runs, if it calls that function.
    pub fn run(&self, option: &str, function: &str) -> Option<&'a OsStr> {
        let run = self.instead.as_ref()?;
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
