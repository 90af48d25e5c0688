//! `SPAWNFIX_*`: read once, when the library is loaded, which hands them on to the agent.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::OnceLock;

use crate::shared::logging::Escaped;

/// `SPAWNFIX_GUARD`: how a spawn is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardSetting {
    /// By the MPI that the program has; see `decision::decide`.
    Auto,
    /// In the forked child that becomes mpiexec.
    Launch,
    /// In the program, around the call.
    Call,
    /// Not at all.
    Off,
}

/// `SPAWNFIX_INTERACTIVE`: whether the program is treated as a shell, which outlives what it spawned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InteractiveSetting {
    /// If it is one.
    Auto,
    Yes,
    No,
}

/// All settings, with their defaults in [`Settings::DEFAULT`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `SPAWNFIX_GUARD`.
    pub guard: GuardSetting,
    /// `SPAWNFIX_INTERACTIVE`.
    pub interactive: InteractiveSetting,
    /// `SPAWNFIX_INHERIT`: what is launched keeps our entry in LD_PRELOAD.
    pub inherit: bool,
    /// `SPAWNFIX_LOG`: an env_logger filter that [`is_filter`] has accepted.
    pub log: Option<String>,
    /// `SPAWNFIX_LOG_FILE`, made absolute: the program may change its directory.
    pub log_file: Option<CString>,
}

impl Settings {
    /// What holds where nothing is set.
    pub const DEFAULT: Settings = Settings {
        guard: GuardSetting::Auto,
        interactive: InteractiveSetting::Auto,
        inherit: false,
        log: None,
        log_file: None,
    };
}

/// A setting that cannot be used, in the words of the warning.
#[derive(Debug, PartialEq, Eq)]
pub struct Complaint {
    name: &'static str,
    value: OsString,
    takes: &'static str,
    instead: &'static str,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = Escaped(self.value.as_bytes());
        write!(
            f,
            "{}={value} is ignored: it takes {}; {}",
            self.name, self.takes, self.instead
        )
    }
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// What the agent is told: see [`words`].
static WORDS: OnceLock<Vec<CString>> = OnceLock::new();

/// The settings. A lock-free read: also usable between fork and exec.
pub fn get() -> &'static Settings {
    static DEFAULT: Settings = Settings::DEFAULT;
    SETTINGS.get().unwrap_or(&DEFAULT)
}

/// Keeps the settings that these variables make, for the ctor, and returns what to complain of.
pub fn load<'a>(variables: impl Iterator<Item = &'a [u8]>) -> Vec<Complaint> {
    let (settings, complaints) = parse(variables);
    let _ = WORDS.set(settings.to_words());
    let _ = SETTINGS.set(settings);
    complaints
}

/// The settings as `NAME=value`, for the agent: the environment may have been changed since. A lock-free read: also
/// usable between fork and exec.
pub fn words() -> &'static [CString] {
    WORDS.get().map_or(&[], Vec::as_slice)
}

/// The settings that these variables make, and a complaint for each value that cannot be used.
///
/// As with getenv, the first of several definitions counts. An empty value means unset.
pub fn parse<'a>(variables: impl Iterator<Item = &'a [u8]>) -> (Settings, Vec<Complaint>) {
    let mut settings = Settings::DEFAULT;
    let mut complaints = Vec::new();
    let mut seen = [false; Name::ALL.len()];
    for variable in variables {
        let Some((name, value)) = Name::split(variable) else {
            continue;
        };
        if std::mem::replace(&mut seen[name as usize], true) || value.is_empty() {
            continue;
        }
        if let Err((takes, instead)) = settings.apply(name, value) {
            complaints.push(Complaint {
                name: Name::ALL[name as usize],
                value: OsString::from_vec(value.to_vec()),
                takes,
                instead,
            });
        }
    }
    (settings, complaints)
}

/// The variables, in the order of [`Name::ALL`].
#[derive(Clone, Copy)]
enum Name {
    Guard,
    Interactive,
    Inherit,
    Log,
    LogFile,
}

impl Name {
    const ALL: [&'static str; 5] = [
        "SPAWNFIX_GUARD",
        "SPAWNFIX_INTERACTIVE",
        "SPAWNFIX_INHERIT",
        "SPAWNFIX_LOG",
        "SPAWNFIX_LOG_FILE",
    ];

    /// `NAME=value` taken apart, if it is one of ours.
    fn split(variable: &[u8]) -> Option<(Name, &[u8])> {
        let at = variable.iter().position(|&byte| byte == b'=')?;
        let name = match &variable[..at] {
            b"SPAWNFIX_GUARD" => Name::Guard,
            b"SPAWNFIX_INTERACTIVE" => Name::Interactive,
            b"SPAWNFIX_INHERIT" => Name::Inherit,
            b"SPAWNFIX_LOG" => Name::Log,
            b"SPAWNFIX_LOG_FILE" => Name::LogFile,
            _ => return None,
        };
        Some((name, &variable[at + 1..]))
    }
}

impl Settings {
    /// What [`parse`] makes these settings of.
    pub fn to_words(&self) -> Vec<CString> {
        let guard = match self.guard {
            GuardSetting::Auto => "auto",
            GuardSetting::Launch => "launch",
            GuardSetting::Call => "call",
            GuardSetting::Off => "off",
        };
        let interactive = match self.interactive {
            InteractiveSetting::Auto => "auto",
            InteractiveSetting::Yes => "1",
            InteractiveSetting::No => "0",
        };
        let values = [
            Some(guard.as_bytes()),
            Some(interactive.as_bytes()),
            Some(if self.inherit { b"1" } else { b"0" }),
            self.log.as_deref().map(str::as_bytes),
            self.log_file.as_deref().map(CStr::to_bytes),
        ];
        let words = Name::ALL.iter().zip(values).filter_map(|(name, value)| {
            CString::new([name.as_bytes(), b"=", value?].concat()).ok()
        });
        words.collect()
    }

    /// Takes one value over, or says what the variable takes and what happens instead.
    fn apply(&mut self, name: Name, value: &[u8]) -> Result<(), (&'static str, &'static str)> {
        match name {
            Name::Guard => {
                self.guard = match value {
                    b"auto" => GuardSetting::Auto,
                    b"launch" => GuardSetting::Launch,
                    b"call" => GuardSetting::Call,
                    b"off" => GuardSetting::Off,
                    _ => return Err(("auto, launch, call or off", "auto applies")),
                }
            }
            Name::Interactive => {
                self.interactive = match value {
                    b"auto" => InteractiveSetting::Auto,
                    b"0" => InteractiveSetting::No,
                    b"1" => InteractiveSetting::Yes,
                    _ => return Err(("auto, 0 or 1", "auto applies")),
                }
            }
            Name::Inherit => {
                self.inherit = match value {
                    b"0" => false,
                    b"1" => true,
                    _ => return Err(("0 or 1", "0 applies")),
                }
            }
            Name::Log => match std::str::from_utf8(value) {
                Ok(text) if is_filter(text) => self.log = Some(text.to_owned()),
                _ => {
                    return Err((
                        "off, error, warn, info, debug, trace or an env_logger filter on spawnfix's modules",
                        "warn applies",
                    ));
                }
            },
            Name::LogFile => {
                let path = std::path::absolute(OsStr::from_bytes(value)).ok();
                // Opened for each line, not kept: a descriptor of ours in the program would be in its way.
                let path = path.filter(|path| crate::shared::logging::can_append(path));
                let path =
                    path.and_then(|path| CString::new(path.into_os_string().into_vec()).ok());
                match path {
                    Some(path) => self.log_file = Some(path),
                    None => {
                        return Err(("a file that can be appended to", "the log goes to stderr"));
                    }
                }
            }
        }
        Ok(())
    }
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
            "SPAWNFIX_INHERIT=1",
            "SPAWNFIX_LOG=info,spawnfix::guard=debug",
            "SPAWNFIX_LOG_FILE=/dev/null",
            "SPAWNFIX_GUARD=off",
        ]);
        let expected = Settings {
            guard: GuardSetting::Call,
            interactive: InteractiveSetting::Yes,
            inherit: true,
            log: Some("info,spawnfix::guard=debug".to_owned()),
            log_file: Some(c"/dev/null".to_owned()),
        };
        assert_eq!((&read, complaints), (&expected, vec![]));
        let words = read.to_words();
        assert_eq!(
            parse(words.iter().map(|word| word.to_bytes())),
            (expected, vec![])
        );
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
        fn no_value_is_both_taken_and_complained_of(value in "[^\0]{1,20}", at in 0..4usize) {
            let variable = format!("{}={value}", Name::ALL[at]);
            let (read, complaints) = settings(&[&variable]);
            prop_assert!(complaints.len() <= 1);
            prop_assert!(complaints.is_empty() || read == Settings::DEFAULT);
        }
    }
}
