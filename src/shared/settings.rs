//! `SPAWNFIX_*`: names, values and defaults. The library reads them once, at load, and passes them on to the agent
//! ([`internal_args`](crate::shared::internal_args)).

use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::shared::logging::{self, Escaped};

/// A setting that takes one of several words.
pub trait Choice: Copy + 'static {
    /// The words, and what each means. The first is the default.
    const WORDS: &'static [(&'static str, Self)];

    /// What this word means, if it is one of [`Choice::WORDS`].
    fn of(word: &[u8]) -> Option<Self> {
        let mut words = Self::WORDS.iter();
        words.find_map(|(known, choice)| (known.as_bytes() == word).then_some(*choice))
    }
}

/// `SPAWNFIX_GUARD`: how a spawn is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardSetting {
    /// By the MPI that the application has: `decide` in preload/decision.rs.
    Auto,
    /// In the forked child that becomes a launcher.
    Launch,
    /// In the application, around the call.
    Call,
    /// Not at all.
    Off,
}

impl Choice for GuardSetting {
    const WORDS: &[(&str, GuardSetting)] = &[
        ("auto", GuardSetting::Auto),
        ("launch", GuardSetting::Launch),
        ("call", GuardSetting::Call),
        ("off", GuardSetting::Off),
    ];
}

/// `SPAWNFIX_INTERACTIVE`: whether the application is treated as an interactive session, which outlives its jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InteractiveSetting {
    /// If its command line says that it is one.
    Auto,
    /// It is not.
    No,
    /// It is.
    Yes,
}

impl Choice for InteractiveSetting {
    const WORDS: &[(&str, InteractiveSetting)] = &[
        ("auto", InteractiveSetting::Auto),
        ("0", InteractiveSetting::No),
        ("1", InteractiveSetting::Yes),
    ];
}

/// `SPAWNFIX_REMEDIES`: whether an MPI's environment gets what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemediesSetting {
    /// By the table in mpi/remedies.rs.
    Auto,
    /// No.
    Off,
}

impl Choice for RemediesSetting {
    const WORDS: &[(&str, RemediesSetting)] = &[
        ("auto", RemediesSetting::Auto),
        ("off", RemediesSetting::Off),
    ];
}

/// `SPAWNFIX_INHERIT`.
impl Choice for bool {
    const WORDS: &[(&str, bool)] = &[("0", false), ("1", true)];
}

/// All settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `SPAWNFIX_GUARD`.
    pub guard: GuardSetting,
    /// `SPAWNFIX_INTERACTIVE`.
    pub interactive: InteractiveSetting,
    /// `SPAWNFIX_REMEDIES`.
    pub remedies: RemediesSetting,
    /// `SPAWNFIX_INHERIT`: a launcher keeps our entry in LD_PRELOAD.
    pub inherit: bool,
    /// `SPAWNFIX_LOG`: an env_logger filter that [`is_filter`] has accepted.
    pub log: Option<String>,
    /// `SPAWNFIX_LOG_FILE`, made absolute: the application may change its directory.
    pub log_file: Option<CString>,
}

impl Settings {
    /// What holds where nothing is set.
    pub const DEFAULT: Settings = Settings {
        guard: GuardSetting::Auto,
        interactive: InteractiveSetting::Auto,
        remedies: RemediesSetting::Auto,
        inherit: false,
        log: None,
        log_file: None,
    };
}

/// A value that cannot be used, in the words of the warning.
#[derive(Debug, PartialEq, Eq)]
pub struct Complaint {
    name: &'static str,
    value: OsString,
    refusal: Refusal,
}

/// What a variable takes, and what applies instead of the value that it has.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    takes: String,
    instead: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = Escaped(self.value.as_bytes());
        let Refusal { takes, instead } = &self.refusal;
        write!(
            f,
            "{}={value} is ignored: it takes {takes}; {instead}",
            self.name
        )
    }
}

/// The settings that these variables make, and a complaint for each value that cannot be used.
///
/// As with getenv, the first of several definitions counts. An empty value means unset.
pub fn parse<'a>(variables: impl Iterator<Item = &'a [u8]>) -> (Settings, Vec<Complaint>) {
    let mut settings = Settings::DEFAULT;
    let mut complaints = Vec::new();
    let mut seen = [false; NAMES.len()];
    for variable in variables {
        let mut parts = variable.splitn(2, |&byte| byte == b'=');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        let Some(at) = NAMES.iter().position(|known| known.as_bytes() == name) else {
            continue;
        };
        if std::mem::replace(&mut seen[at], true) || value.is_empty() {
            continue;
        }
        if let Err(refusal) = settings.apply(NAMES[at], value) {
            complaints.push(Complaint {
                name: NAMES[at],
                value: OsString::from_vec(value.to_vec()),
                refusal,
            });
        }
    }
    (settings, complaints)
}

const GUARD: &str = "SPAWNFIX_GUARD";
const INTERACTIVE: &str = "SPAWNFIX_INTERACTIVE";
const REMEDIES: &str = "SPAWNFIX_REMEDIES";
const INHERIT: &str = "SPAWNFIX_INHERIT";
const LOG: &str = "SPAWNFIX_LOG";
/// The log file's variable.
pub const LOG_FILE: &str = "SPAWNFIX_LOG_FILE";

/// All variables.
const NAMES: [&str; 6] = [GUARD, INTERACTIVE, REMEDIES, INHERIT, LOG, LOG_FILE];

impl Settings {
    /// Takes one value over, or refuses it.
    fn apply(&mut self, name: &str, value: &[u8]) -> Result<(), Refusal> {
        match name {
            GUARD => self.guard = choose(value)?,
            INTERACTIVE => self.interactive = choose(value)?,
            REMEDIES => self.remedies = choose(value)?,
            INHERIT => self.inherit = choose(value)?,
            LOG => match std::str::from_utf8(value) {
                Ok(text) if is_filter(text) => self.log = Some(text.to_owned()),
                _ => {
                    return Err(Refusal {
                        takes: "off, error, warn, info, debug, trace or an env_logger filter on spawnfix's modules"
                            .into(),
                        instead: "warn applies".into(),
                    });
                }
            },
            _ => {
                let path = std::path::absolute(OsStr::from_bytes(value)).ok();
                // Opened for each line, not kept: a descriptor of ours in the application would be in its way.
                let path = path.filter(|path| logging::can_append(path));
                let path =
                    path.and_then(|path| CString::new(path.into_os_string().into_vec()).ok());
                self.log_file = Some(path.ok_or_else(|| Refusal {
                    takes: "a file that can be appended to".into(),
                    instead: "the log goes to stderr".into(),
                })?);
            }
        }
        Ok(())
    }
}

fn choose<T: Choice>(value: &[u8]) -> Result<T, Refusal> {
    T::of(value).ok_or_else(|| {
        let words: Vec<_> = T::WORDS.iter().map(|(word, _)| *word).collect();
        let (last, others) = words.split_last().unwrap_or((&"", &[]));
        Refusal {
            takes: format!("{} or {last}", others.join(", ")),
            instead: format!("{} applies", words[0]),
        }
    })
}

/// Whether this is a filter that selects lines of ours.
///
/// env_logger takes any word that is not a level for a module's name. `verbose` would then silence all of our
/// modules without a word, so a name has to be one of ours.
pub fn is_filter(text: &str) -> bool {
    let is_level = |word: &str| word.parse::<log::LevelFilter>().is_ok();
    let is_module = |word: &str| {
        let rest = word.strip_prefix("spawnfix");
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    let (directives, text) = text.split_once('/').unwrap_or((text, ""));
    !text.contains('/')
        && directives.split(',').all(|directive| {
            let directive = directive.trim();
            match directive.split_once('=') {
                Some((module, level)) => is_module(module.trim()) && is_level(level.trim()),
                None => is_level(directive) || is_module(directive),
            }
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(variables: &[&str]) -> (Settings, Vec<String>) {
        let (settings, complaints) = parse(variables.iter().map(|variable| variable.as_bytes()));
        (
            settings,
            complaints.iter().map(Complaint::to_string).collect(),
        )
    }

    #[test]
    fn what_is_not_set_has_its_default() {
        assert_eq!(settings(&[]), (Settings::DEFAULT, vec![]));
        assert_eq!(
            settings(&[
                "PATH=/bin",
                "SPAWNFIX_GUARD=",
                "SPAWNFIX_GUARDS=off",
                "SPAWNFIX_LOG"
            ]),
            (Settings::DEFAULT, vec![])
        );
    }

    #[test]
    fn each_setting_is_read() {
        let (read, complaints) = settings(&[
            "SPAWNFIX_GUARD=call",
            "SPAWNFIX_INTERACTIVE=1",
            "SPAWNFIX_REMEDIES=off",
            "SPAWNFIX_INHERIT=1",
            "SPAWNFIX_LOG=info,spawnfix::preload=debug",
            "SPAWNFIX_LOG_FILE=/dev/null",
            "SPAWNFIX_GUARD=off",
        ]);
        let expected = Settings {
            guard: GuardSetting::Call,
            interactive: InteractiveSetting::Yes,
            remedies: RemediesSetting::Off,
            inherit: true,
            log: Some("info,spawnfix::preload=debug".to_owned()),
            log_file: Some(c"/dev/null".to_owned()),
        };
        assert_eq!((read, complaints), (expected, vec![]));
    }

    #[test]
    fn a_complaint_names_the_variable_the_value_and_what_it_takes() {
        let (read, complaints) = settings(&[
            "SPAWNFIX_GUARD=on",
            "SPAWNFIX_INTERACTIVE=yes",
            "SPAWNFIX_LOG=verbose",
            "SPAWNFIX_LOG_FILE=/no/such/\u{1b}directory/log",
        ]);
        assert_eq!(read, Settings::DEFAULT);
        assert_eq!(
            complaints,
            [
                "SPAWNFIX_GUARD=on is ignored: it takes auto, launch, call or off; auto applies",
                "SPAWNFIX_INTERACTIVE=yes is ignored: it takes auto, 0 or 1; auto applies",
                "SPAWNFIX_LOG=verbose is ignored: it takes off, error, warn, info, debug, trace or an env_logger \
                 filter on spawnfix's modules; warn applies",
                "SPAWNFIX_LOG_FILE=/no/such/\\u{1b}directory/log is ignored: it takes a file that can be appended \
                 to; the log goes to stderr",
            ]
        );
    }

    #[test]
    fn a_relative_log_file_is_the_one_in_the_directory_of_the_start() {
        let (read, _) = settings(&["SPAWNFIX_LOG_FILE=target/../Cargo.toml"]);
        assert!(read.log_file.unwrap().to_bytes().starts_with(b"/"));
    }

    proptest! {
        #[test]
        fn no_value_is_both_taken_and_complained_of(value in "[^\0]{1,20}", at in 0..5usize) {
            let variable = format!("{}={value}", NAMES[at]);
            let (read, complaints) = settings(&[&variable]);
            prop_assert!(complaints.len() <= 1);
            prop_assert!(complaints.is_empty() || read == Settings::DEFAULT);
        }
    }
}
