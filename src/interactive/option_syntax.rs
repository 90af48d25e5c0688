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
    /// Whether a word that is no option is ignored; else the first one is a script, and what follows is the script's.
    pub ignores_operands: bool,
}

/// IPython's `--Class.trait value`. No other interpreter has an option with a dot.
const TRAIT: &str = "Class.trait";

/// No options with a value; an operand is a script.
pub const PLAIN: OptionSyntax = OptionSyntax {
    with_value: "",
    runs_instead: "",
    stays_interactive: "",
    ends_options: false,
    ignores_operands: false,
};

/// What a command line says.
#[derive(Default)]
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
        let mut seen = Seen::default();
        let mut rest = words.iter();
        let mut options = true;
        while let Some(word) = rest.next() {
            let bytes = word.as_bytes();
            if options && bytes == b"--" {
                options = false;
            } else if bytes == b"-" {
                // The interpreter reads its stdin, as it does without a word.
                break;
            } else if options && bytes.starts_with(b"-") {
                for (option, attached) in self.options(bytes) {
                    if is_in(self.stays_interactive, option.as_bytes()) {
                        seen.stays_interactive.get_or_insert(word);
                        continue;
                    }
                    let next_word = || rest.next().map(OsString::as_os_str);
                    let Some(what) = attached.map(OsStr::from_bytes).or_else(next_word) else {
                        break;
                    };
                    if is_in(self.runs_instead, option.as_bytes()) {
                        let rest = rest.as_slice();
                        seen.runs_instead.get_or_insert(Run { option, what, rest });
                        if self.ends_options {
                            return seen;
                        }
                    }
                }
            } else if !self.ignores_operands {
                let (option, what, rest) = ("", word.as_os_str(), rest.as_slice());
                seen.runs_instead.get_or_insert(Run { option, what, rest });
                break;
            }
        }
        seen
    }

    /// The options of one word that mean something here, each with the value that is attached to it.
    fn options<'a>(&self, word: &'a [u8]) -> Vec<(&'static str, Option<&'a [u8]>)> {
        let takes_value =
            |name: &[u8]| find(self.with_value, name).or_else(|| find(self.runs_instead, name));
        let stays = |name: &[u8]| find(self.stays_interactive, name);
        let mut parts = word.splitn(2, |byte| *byte == b'=');
        let (name, value) = (parts.next().unwrap_or(word), parts.next());
        if let Some(name) = name.strip_prefix(b"--") {
            let is_trait = || name.contains(&b'.').then_some(TRAIT);
            let known = takes_value(name).or_else(|| stays(name)).or_else(is_trait);
            return known.map(|known| (known, value)).into_iter().collect();
        }
        // xonsh's -st.
        if let Some(known) = find(self.with_value, &name[1..]) {
            return vec![(known, value)];
        }
        // Several in one word: -iq, -Ibu, -Wignore, -cCODE.
        let letters = &word[1..];
        let mut all = Vec::new();
        for at in 0..letters.len() {
            let letter = &letters[at..=at];
            if let Some(known) = takes_value(letter) {
                let value = &letters[at + 1..];
                all.push((known, Some(value).filter(|value| !value.is_empty())));
                break;
            }
            all.extend(stays(letter).map(|known| (known, None)));
        }
        all
    }
}

impl<'a> Seen<'a> {
    /// What runs in place of the prompt, if this is true of it.
    pub fn runs(&self, is_it: impl FnOnce(&Run) -> bool) -> Option<&'a OsStr> {
        let run = self.runs_instead.as_ref()?;
        is_it(run).then_some(run.what)
    }

    /// The word that says that a prompt comes, on a terminal: `program`, if no other does.
    pub fn prompt(&self, program: &'a OsStr, stdin: Stdin) -> Option<&'a OsStr> {
        match self.runs_instead {
            _ if stdin != Stdin::Terminal => None,
            Some(_) => self.stays_interactive,
            None => Some(program),
        }
    }
}

/// This word of a list.
fn find<'a>(list: &'a str, word: &[u8]) -> Option<&'a str> {
    let mut words = list.split(' ').filter(|known| !known.is_empty());
    words.find(|known| known.as_bytes() == word)
}

pub fn is_in(list: &str, word: &[u8]) -> bool {
    find(list, word).is_some()
}

pub fn holds(text: &OsStr, part: &str) -> bool {
    let mut windows = text.as_bytes().windows(part.len());
    windows.any(|window| window == part.as_bytes())
}
