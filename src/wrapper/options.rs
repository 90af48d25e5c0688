//! What the program can be asked: one parser, from which the help, the shells' completions and a test of the manual
//! page are made, too.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use clap_complete::Shell;

use crate::shared::logging::escape;
use crate::shared::settings;

const GUARDS: [&str; 4] = ["auto", "launch", "call", "off"];
const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

const USAGE: &str = "spawnfix [OPTION…] [--] COMMAND [ARG…]     run COMMAND; its MPI_Comm_spawn leaves it its stdin
       spawnfix [OPTION…] --print-env             print the settings, for: eval \"$(spawnfix --print-env)\"
       spawnfix [OPTION…] --check [--json] [COMMAND [ARG…]]
                                                  tell whether a spawn from COMMAND should work
       spawnfix --sweep [--dry-run] [PID…]        end what programs spawned and left behind, or only tell";

const AFTER: &str = "Through a symbolic link of another name, such as ipython -> spawnfix, it runs the ipython further down PATH.";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
    Run,
    PrintEnv,
    Check {
        json: bool,
    },
    Sweep {
        /// Of these agents, or of all.
        pids: Vec<i32>,
        dry: bool,
    },
    Completions(Shell),
    /// Only this is printed: the help, or the version.
    Say(String),
}

/// What was asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    pub act: Act,
    /// The settings that options make.
    pub settings: Vec<(&'static str, OsString)>,
    /// The command and its arguments.
    pub words: Vec<OsString>,
}

/// The parser.
pub fn parser() -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .action(ArgAction::SetTrue)
            .help(help)
    };
    let setting = |name: &'static str, value: &'static str, help: &'static str| {
        let setting = Arg::new(name).long(name).value_name(value).help(help);
        setting.require_equals(true)
    };
    Command::new("spawnfix")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Run a program whose MPI_Comm_spawn leaves it its stdin")
        .override_usage(USAGE)
        .after_help(AFTER)
        .help_template("Usage: {usage}\n\n{options}{after-help}\n")
        .disable_version_flag(true)
        .disable_help_flag(true)
        .args_override_self(true)
        .args([
            setting(
                "guard",
                "GUARD",
                "auto (the default), launch, call or off: how a spawn is guarded",
            )
            .value_parser(PossibleValuesParser::new(GUARDS))
            .hide_possible_values(true),
            flag(
                "interactive",
                "COMMAND is a shell: Ctrl-C and its children's crashes spare it",
            )
            .short('i'),
            flag(
                "inherit",
                "What COMMAND launches keeps the library in its LD_PRELOAD",
            ),
            setting(
                "log",
                "FILTER",
                "off, error, warn (the default), info, debug or trace; info tells each decision",
            )
            .value_parser(|text: &str| match settings::is_filter(text) {
                true => Ok(text.to_owned()),
                false => Err("no filter"),
            }),
            setting("log-file", "FILE", "Append the log to FILE, not to stderr")
                .value_parser(value_parser!(OsString))
                .value_hint(ValueHint::FilePath),
            flag("print-env", "Print the settings as shell commands"),
            flag("check", "Tell whether a spawn from COMMAND should work"),
            flag("json", "With --check: as one JSON object"),
            flag("sweep", "End what programs spawned and left behind"),
            flag("dry-run", "With --sweep: only tell"),
            setting(
                "completions",
                "SHELL",
                "Print the completions for bash, zsh or fish",
            )
            .value_parser(PossibleValuesParser::new(SHELLS))
            .hide_possible_values(true),
            Arg::new("version")
                .long("version")
                .action(ArgAction::Version)
                .help("Print the version"),
            Arg::new("help")
                .short('h')
                .long("help")
                .action(ArgAction::Help)
                .help("Print this"),
            Arg::new("words")
                .value_name("COMMAND")
                .num_args(0..)
                .trailing_var_arg(true)
                .value_parser(value_parser!(OsString))
                .value_hint(ValueHint::CommandWithArguments),
        ])
}

/// What these words, without the program's name, ask for; or what is wrong with them.
pub fn parse(words: &[OsString]) -> Result<Asked, String> {
    let name = OsString::from("spawnfix");
    let found = match parser().try_get_matches_from(std::iter::once(&name).chain(words)) {
        Ok(found) => found,
        Err(error) => {
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Asked {
                    act: Act::Say(error.render().to_string()),
                    settings: Vec::new(),
                    words: Vec::new(),
                }),
                _ => Err(complaint(&error, words)),
            };
        }
    };
    let mut act = act(&found)?;
    let settings = given_settings(&found)?;
    let words: Vec<OsString> = found
        .get_many("words")
        .unwrap_or_default()
        .cloned()
        .collect();
    if let Act::Sweep { pids, .. } = &mut act {
        *pids = words.iter().map(pid).collect::<Result<_, _>>()?;
    }
    match (&act, words.first()) {
        (Act::Run, None) => Err("no command to run".to_owned()),
        (Act::PrintEnv | Act::Completions(_), Some(word)) => {
            let option = if act == Act::PrintEnv {
                "--print-env"
            } else {
                "--completions"
            };
            Err(format!(
                "{option} takes no command, and got '{}'",
                escape(word)
            ))
        }
        _ => Ok(Asked {
            act,
            settings,
            words,
        }),
    }
}

fn act(found: &ArgMatches) -> Result<Act, String> {
    let flag = |name| found.get_flag(name);
    let shell = found.get_one::<String>("completions");
    let acts = [
        flag("print-env"),
        flag("check"),
        flag("sweep"),
        shell.is_some(),
    ];
    if acts.into_iter().filter(|asked| *asked).count() > 1 {
        return Err("--print-env, --check, --sweep and --completions don't go together".to_owned());
    }
    for (option, with) in [("dry-run", "sweep"), ("json", "check")] {
        if flag(option) && !flag(with) {
            return Err(format!("--{option} goes with --{with}"));
        }
    }
    Ok(match shell.and_then(|shell| shell.parse().ok()) {
        Some(shell) => Act::Completions(shell),
        None if flag("print-env") => Act::PrintEnv,
        None if flag("check") => Act::Check { json: flag("json") },
        None if flag("sweep") => Act::Sweep {
            pids: Vec::new(),
            dry: flag("dry-run"),
        },
        None => Act::Run,
    })
}

fn pid(word: &OsString) -> Result<i32, String> {
    let pid = word.to_str().and_then(|word| word.parse().ok());
    pid.ok_or_else(|| format!("--sweep takes process ids, and got '{}'", escape(word)))
}

fn given_settings(found: &ArgMatches) -> Result<Vec<(&'static str, OsString)>, String> {
    let mut settings = Vec::new();
    let mut set = |name, value: Option<OsString>| settings.extend(value.map(|value| (name, value)));
    let text = |name| found.get_one::<String>(name).map(OsString::from);
    let yes = |name| found.get_flag(name).then(|| "1".into());
    set("SPAWNFIX_GUARD", text("guard"));
    set("SPAWNFIX_INTERACTIVE", yes("interactive"));
    set("SPAWNFIX_INHERIT", yes("inherit"));
    set("SPAWNFIX_LOG", text("log"));
    if let Some(file) = found.get_one::<OsString>("log-file") {
        let takes = |what| {
            format!(
                "--log-file='{}': it takes the name of a file{what}",
                escape(file)
            )
        };
        if file.is_empty() {
            return Err(takes(""));
        }
        // What the command launches may run elsewhere.
        let here = std::env::current_dir().unwrap_or_default();
        let whole: PathBuf = here.join(file);
        if OpenOptions::new()
            .append(true)
            .create(true)
            .open(&whole)
            .is_err()
        {
            return Err(takes(" that can be written"));
        }
        set("SPAWNFIX_LOG_FILE", Some(whole.into_os_string()));
    }
    Ok(settings)
}

/// The parser's word for what is wrong, in ours: the option, the value, and what it takes.
fn complaint(error: &clap::Error, words: &[OsString]) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let option = context(ContextKind::InvalidArg);
    let name = option.split(['=', ' ']).next().unwrap_or_default();
    let value = context(ContextKind::InvalidValue);
    let takes = match name {
        "--guard" => "auto, launch, call or off",
        "--log" => {
            "off, error, warn, info, debug, trace or an env_logger filter on spawnfix's modules"
        }
        "--completions" => "bash, zsh or fish",
        _ => "no such value",
    };
    match error.kind() {
        ErrorKind::NoEquals => format!("{name} takes a value: {name}=…"),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            format!("{name}='{}': it takes {takes}", escape(OsStr::new(&value)))
        }
        ErrorKind::TooManyValues => format!("{name} takes no value"),
        // With what stands behind an equals sign.
        ErrorKind::UnknownArgument => {
            let word = words
                .iter()
                .find(|word| word.to_string_lossy().starts_with(&option));
            let word = word.map_or(option.clone(), |word| escape(word).to_string());
            format!("unknown option '{word}'")
        }
        _ => {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default();
            line.trim_start_matches("error: ").to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Asked, String> {
        parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_parser_is_sound() {
        parser().debug_assert();
    }

    #[test]
    fn options_end_where_the_command_begins() {
        let words = |words: &[&str]| {
            let asked = parsed(words).unwrap();
            let words: Vec<_> = asked
                .words
                .iter()
                .map(|word| word.to_str().unwrap())
                .collect();
            (asked.act, words.join("|"), asked.settings.len())
        };
        assert_eq!(
            words(&["-i", "sh", "-c", "x", "--guard=off"]),
            (Act::Run, "sh|-c|x|--guard=off".into(), 1)
        );
        assert_eq!(
            words(&["sh", "--", "-i", "--help"]),
            (Act::Run, "sh|--|-i|--help".into(), 0)
        );
        assert_eq!(words(&["--", "-c", "--"]), (Act::Run, "-c|--".into(), 0));
        assert_eq!(words(&["", "x"]), (Act::Run, "|x".into(), 0));
        let check = Act::Check { json: true };
        assert_eq!(
            words(&["--json", "--check", "R", "-f", "x"]),
            (check, "R|-f|x".into(), 0)
        );
        assert_eq!(
            words(&["--sweep", "--dry-run", "1", "2"]),
            (
                Act::Sweep {
                    pids: vec![1, 2],
                    dry: true
                },
                "1|2".into(),
                0
            )
        );
    }

    #[test]
    fn the_last_of_several_counts() {
        let asked = parsed(&["--guard=call", "-i", "-i", "--guard=off", "true"]).unwrap();
        let guard = ("SPAWNFIX_GUARD", "off".into());
        assert_eq!(
            asked.settings,
            [guard, ("SPAWNFIX_INTERACTIVE", "1".into())]
        );
    }

    #[test]
    fn what_is_wrong_is_said_in_our_words() {
        for (words, said) in [
            (
                &["--guard=x", "true"][..],
                "--guard='x': it takes auto, launch, call or off",
            ),
            (
                &["--guard=", "true"],
                "--guard='': it takes auto, launch, call or off",
            ),
            (
                &["--guard", "call", "true"],
                "--guard takes a value: --guard=…",
            ),
            (
                &["--completions=tcsh"],
                "--completions='tcsh': it takes bash, zsh or fish",
            ),
            (&["--gard=call", "true"], "unknown option '--gard=call'"),
            (&["-x", "true"], "unknown option '-x'"),
            (
                &["--check", "--sweep"],
                "--print-env, --check, --sweep and --completions don't go together",
            ),
            (&["--json", "true"], "--json goes with --check"),
            (&["--interactive=1", "true"], "--interactive takes no value"),
            (
                &["--sweep", "1", "x"],
                "--sweep takes process ids, and got 'x'",
            ),
            (
                &["--completions=zsh", "x"],
                "--completions takes no command, and got 'x'",
            ),
        ] {
            assert_eq!(parsed(words).unwrap_err(), said);
        }
    }
}
