//! The command line of `spawnfix`. The help and the completions are made from this parser, and a test compares the
//! manual page with it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PathBufValueParser, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, Error, ValueHint, value_parser};
use clap_complete::Shell;

use crate::shared::logging::{self, escape};
use crate::shared::settings;
use crate::wrapper::preload_env::Variable;

const USAGE: &str = "spawnfix [OPTION…] [--] COMMAND [ARG…]     run COMMAND with the library loaded into it
       spawnfix [OPTION…] --print-env             print the settings, for: eval \"$(spawnfix --print-env)\"
       spawnfix [OPTION…] --check [--json] [--hosts N] [COMMAND [ARG…]]
                                                  try a spawn as COMMAND would make it, and say what helps
       spawnfix [OPTION…] --report FILE [COMMAND [ARG…]]
                                                  the same, and write what a bug report needs
       spawnfix --sweep [--dry-run] [PID…]        end agents whose application is gone, or list them";

const AFTER: &str = "Called through a symbolic link of another name, such as ipython -> spawnfix, it runs the ipython further down PATH.";

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Run,
    PrintEnv,
    Check {
        json: bool,
        /// How many children are spawned, to see where they run.
        hosts: Option<u32>,
        /// Where a bug report is written.
        report: Option<PathBuf>,
    },
    /// These agents, or all.
    Sweep {
        pids: Vec<i32>,
        dry: bool,
    },
    Completions(Shell),
}

/// The command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Cli {
    pub action: Action,
    /// The settings that options make.
    pub settings: Vec<Variable>,
    /// The command and its arguments.
    pub words: Vec<OsString>,
}

/// The parser.
pub fn parser() -> Command {
    let flag = |name: &'static str, help: &'static str| {
        let flag = Arg::new(name).long(name).help(help);
        flag.action(ArgAction::SetTrue)
    };
    let valued = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let is_filter = |text: &str| match settings::is_filter(text) {
        true => Ok(OsString::from(text)),
        false => Err("it takes off, error, warn, info, debug, trace or an env_logger filter"),
    };
    // An absolute path, because COMMAND may change its directory.
    let can_append = |file: PathBuf| match std::path::absolute(&file) {
        Ok(file) if logging::can_append(&file) => Ok(file.into_os_string()),
        _ => Err("it takes a file that can be written"),
    };
    Command::new("spawnfix")
        .version(env!("CARGO_PKG_VERSION"))
        .override_usage(USAGE)
        .after_help(AFTER)
        .help_template("Usage: {usage}\n\n{options}{after-help}\n")
        .args_override_self(true)
        .disable_version_flag(true)
        .args([
            valued(
                "guard",
                "GUARD",
                "auto (the default), launch, call or off: how a spawn is guarded",
            )
            .value_parser(
                PossibleValuesParser::new(["auto", "launch", "call", "off"]).map(OsString::from),
            )
            .hide_possible_values(true),
            flag(
                "interactive",
                "COMMAND is an interactive session: Ctrl-C and crashes of its children do not end it",
            )
            .short('i'),
            flag(
                "inherit",
                "The launcher and the children keep the library in LD_PRELOAD",
            ),
            valued(
                "log",
                "FILTER",
                "off, error, warn (the default), info, debug or trace; info logs each decision",
            )
            .value_parser(is_filter),
            valued("log-file", "FILE", "Append the log to FILE instead of stderr")
                .value_parser(PathBufValueParser::new().try_map(can_append))
                .value_hint(ValueHint::FilePath),
            flag("print-env", "Print the settings as shell commands").conflicts_with("words"),
            flag(
                "check",
                "Try a spawn as COMMAND would make it; COMMAND itself is not run",
            ),
            flag("json", "With --check: print one JSON object").requires("check"),
            valued(
                "hosts",
                "N",
                "With --check: spawn N children, and say where they ran",
            )
            .value_parser(value_parser!(u32).range(1..=1000))
            .requires("check"),
            valued(
                "report",
                "FILE",
                "Check, and write what a bug report needs to FILE",
            )
            .value_parser(value_parser!(PathBuf))
            .value_hint(ValueHint::FilePath),
            flag("sweep", "End agents whose application is gone"),
            flag("dry-run", "With --sweep: list them, and end none").requires("sweep"),
            valued("completions", "SHELL", "Print the completions for a shell")
                .value_parser(value_parser!(Shell))
                .conflicts_with("words"),
            flag("version", "Print the version").action(ArgAction::Version),
            Arg::new("words")
                .value_name("COMMAND")
                .num_args(0..)
                .trailing_var_arg(true)
                .value_parser(value_parser!(OsString))
                .value_hint(ValueHint::CommandWithArguments),
        ])
        .group(ArgGroup::new("action").args([
            "print-env",
            "check",
            "report",
            "sweep",
            "completions",
        ]))
}

/// The completions for this shell.
pub fn completions(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut parser(), "spawnfix", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Parses the words behind the executable's name. The error may also be the help or the version.
pub fn parse(words: &[OsString]) -> Result<Cli, Error> {
    let name = OsString::from("spawnfix");
    let found = parser().try_get_matches_from(std::iter::once(&name).chain(words))?;
    let words: Vec<OsString> = found
        .get_many("words")
        .unwrap_or_default()
        .cloned()
        .collect();
    let flag = |name| found.get_flag(name);
    let action = if let Some(shell) = found.get_one("completions") {
        Action::Completions(*shell)
    } else if flag("print-env") {
        Action::PrintEnv
    } else if flag("check") || found.contains_id("report") {
        Action::Check {
            json: flag("json"),
            hosts: found.get_one("hosts").copied(),
            report: found.get_one("report").cloned(),
        }
    } else if flag("sweep") {
        let pids = words.iter().map(pid).collect::<Result<_, _>>()?;
        let dry = flag("dry-run");
        Action::Sweep { pids, dry }
    } else if words.is_empty() {
        let message = "a command to run is missing";
        return Err(parser().error(ErrorKind::MissingRequiredArgument, message));
    } else {
        Action::Run
    };
    Ok(Cli {
        action,
        settings: given_settings(&found),
        words,
    })
}

fn pid(word: &OsString) -> Result<i32, Error> {
    let pid = word.to_str().and_then(|word| word.parse().ok());
    pid.ok_or_else(|| {
        let message = format!("--sweep takes process ids, not '{}'", escape(word));
        parser().error(ErrorKind::ValueValidation, message)
    })
}

fn given_settings(found: &ArgMatches) -> Vec<Variable> {
    let value = |name| found.get_one::<OsString>(name).cloned();
    let yes = |name| found.get_flag(name).then(|| "1".into());
    let all = [
        ("SPAWNFIX_GUARD", value("guard")),
        ("SPAWNFIX_INTERACTIVE", yes("interactive")),
        ("SPAWNFIX_INHERIT", yes("inherit")),
        ("SPAWNFIX_LOG", value("log")),
        ("SPAWNFIX_LOG_FILE", value("log-file")),
    ];
    let given = all.into_iter();
    given
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Cli, Error> {
        parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_parser_is_sound() {
        parser().debug_assert();
    }

    #[test]
    fn options_end_where_the_command_begins() {
        let words = |words: &[&str]| {
            let cli = parsed(words).unwrap();
            let words: Vec<_> = cli
                .words
                .iter()
                .map(|word| word.to_str().unwrap())
                .collect();
            (cli.action, words.join("|"), cli.settings.len())
        };
        assert_eq!(
            words(&["-i", "sh", "-c", "x", "--guard=off"]),
            (Action::Run, "sh|-c|x|--guard=off".into(), 1)
        );
        assert_eq!(
            words(&["--guard", "off", "sh", "--", "-i", "--help"]),
            (Action::Run, "sh|--|-i|--help".into(), 1)
        );
        assert_eq!(words(&["--", "-c", "--"]), (Action::Run, "-c|--".into(), 0));
        assert_eq!(words(&["", "x"]), (Action::Run, "|x".into(), 0));
        let check = Action::Check {
            json: true,
            hosts: None,
            report: None,
        };
        assert_eq!(
            words(&["--json", "--check", "R", "-f", "x"]),
            (check, "R|-f|x".into(), 0)
        );
        let pids = vec![1, 2];
        assert_eq!(
            words(&["--sweep", "--dry-run", "1", "2"]),
            (Action::Sweep { pids, dry: true }, "1|2".into(), 0)
        );
    }

    #[test]
    fn the_last_of_several_counts() {
        let cli = parsed(&["--guard=call", "-i", "-i", "--guard=off", "true"]).unwrap();
        let guard = ("SPAWNFIX_GUARD", "off".into());
        assert_eq!(cli.settings, [guard, ("SPAWNFIX_INTERACTIVE", "1".into())]);
    }
}
