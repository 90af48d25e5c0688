//! `SPAWNFIX_*`: names, values and defaults. The library reads them once, at load, and passes them on to the agent
//! ([`internal_args`](crate::shared::internal_args)).

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::shared::logging::{self, Escaped};

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

/// All settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `SPAWNFIX_GUARD`.
    pub guard: GuardSetting,
    /// `SPAWNFIX_INTERACTIVE`.
    pub interactive: InteractiveSetting,
    /// `SPAWNFIX_REMEDIES`: whether an MPI's environment gets what it needs, by the table in mpi/remedies.rs.
    pub remedies: bool,
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
        remedies: true,
        inherit: false,
        log: None,
        log_file: None,
    };
}

/// The settings that these variables make, and a complaint for each value that cannot be used.
///
/// As with getenv, the first of several definitions counts. An empty value means unset.
pub fn parse<'a>(variables: impl Iterator<Item = &'a [u8]>) -> (Settings, Vec<String>) {
    let mut settings = Settings::DEFAULT;
    let mut complaints = Vec::new();
    let mut unseen = NAMES.to_vec();
    for variable in variables {
        let mut parts = variable.splitn(2, |&byte| byte == b'=');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        let Some(at) = unseen.iter().position(|known| known.as_bytes() == name) else {
            continue;
        };
        let name = unseen.remove(at);
        if value.is_empty() {
            continue;
        }
        if let Err(refusal) = settings.apply(name, value) {
            let value = Escaped(value);
            complaints.push(format!("{name}={value} is ignored: it takes {refusal}"));
        }
    }
    (settings, complaints)
}

/// The variable of [`GuardSetting`].
pub const GUARD: &str = "SPAWNFIX_GUARD";
/// The variable of [`InteractiveSetting`].
pub const INTERACTIVE: &str = "SPAWNFIX_INTERACTIVE";
/// The variable of [`Settings::remedies`].
pub const REMEDIES: &str = "SPAWNFIX_REMEDIES";
/// The variable of [`Settings::inherit`].
pub const INHERIT: &str = "SPAWNFIX_INHERIT";
/// The variable of [`Settings::log`].
pub const LOG: &str = "SPAWNFIX_LOG";
/// The variable of [`Settings::log_file`].
pub const LOG_FILE: &str = "SPAWNFIX_LOG_FILE";

/// All variables.
const NAMES: [&str; 6] = [GUARD, INTERACTIVE, REMEDIES, INHERIT, LOG, LOG_FILE];

impl Settings {
    /// Takes one value over. An error says what the variable takes, and what applies instead.
    fn apply(&mut self, name: &str, value: &[u8]) -> Result<(), String> {
        use {GuardSetting as Guard, InteractiveSetting as Interactive};
        match name {
            GUARD => {
                let (launch, call) = (("launch", Guard::Launch), ("call", Guard::Call));
                let words = [("auto", Guard::Auto), launch, call, ("off", Guard::Off)];
                self.guard = choose(value, &words)?;
            }
            INTERACTIVE => {
                let auto = ("auto", Interactive::Auto);
                let words = [auto, ("0", Interactive::No), ("1", Interactive::Yes)];
                self.interactive = choose(value, &words)?;
            }
            REMEDIES => self.remedies = choose(value, &[("auto", true), ("off", false)])?,
            INHERIT => self.inherit = choose(value, &[("0", false), ("1", true)])?,
            LOG => {
                let filter = std::str::from_utf8(value).ok();
                let filter = filter.filter(|text| is_filter(text));
                let filter = filter.ok_or(
                    "off, error, warn, info, debug, trace or an env_logger filter on spawnfix's modules; warn applies",
                )?;
                self.log = Some(filter.to_owned());
            }
            _ => {
                let path = std::path::absolute(OsStr::from_bytes(value)).ok();
                // Opened for each line, not kept: a descriptor of ours in the application would be in its way.
                let path = path.filter(|path| logging::can_append(path));
                let path =
                    path.and_then(|path| CString::new(path.into_os_string().into_vec()).ok());
                let path = path.ok_or("a file that can be appended to; the log goes to stderr")?;
                self.log_file = Some(path);
            }
        }
        Ok(())
    }
}

/// What this word means. The first is the default.
fn choose<T: Copy>(value: &[u8], words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| word.as_bytes() == value);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let (last, others) = words.split_last().unwrap_or((&"", &[]));
        format!("{} or {last}; {} applies", others.join(", "), words[0])
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
        parse(variables.iter().map(|variable| variable.as_bytes()))
    }

    #[test]
    fn a_filter_names_levels_and_modules_of_ours() {
        for (text, taken) in [
            ("info", true),
            ("WARN, spawnfix::agent = trace", true),
            ("spawnfix", true),
            ("off/words", true),
            ("off/words/more", false),
            ("spawnfix=loud", false),
            ("verbose=info", false),
            ("verbose", false),
            ("spawnfixed=info", false),
            ("info,", false),
            ("", false),
        ] {
            assert_eq!(is_filter(text), taken, "{text}");
        }
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
            remedies: false,
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
