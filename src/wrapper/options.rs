//! The command line of `spawnfix`. The help and the completions are made from it, and a test compares the manual page
//! with it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PathBufValueParser, PossibleValuesParser, TypedValueParser};
use clap::error::{Error, ErrorKind};
use clap::{ArgAction, ArgGroup, CommandFactory, Parser, ValueHint, value_parser};
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

// The comments are the help.
#[derive(Debug, Parser)]
#[command(
    name = "spawnfix",
    version,
    disable_version_flag = true,
    args_override_self = true
)]
#[command(override_usage = USAGE, after_help = AFTER)]
#[command(help_template = "Usage: {usage}\n\n{options}{after-help}\n")]
#[command(group = ArgGroup::new("action").args(["print_env", "check", "report", "sweep", "completions"]))]
pub struct Cli {
    /// auto (the default), launch, call or off: how a spawn is guarded
    #[arg(long, value_name = "GUARD", hide_possible_values = true)]
    #[arg(value_parser = PossibleValuesParser::new(["auto", "launch", "call", "off"]).map(OsString::from))]
    guard: Option<OsString>,
    /// COMMAND is an interactive session: Ctrl-C and crashes of its children do not end it
    #[arg(long, short)]
    interactive: bool,
    /// The launcher and the children keep the library in LD_PRELOAD
    #[arg(long)]
    inherit: bool,
    /// off, error, warn (the default), info, debug or trace; info logs each decision
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    log: Option<OsString>,
    /// Append the log to FILE instead of stderr
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(value_parser = PathBufValueParser::new().try_map(appendable))]
    log_file: Option<OsString>,
    /// Print the settings as shell commands
    #[arg(long, conflicts_with = "words")]
    pub print_env: bool,
    /// Try a spawn as COMMAND would make it; COMMAND itself is not run
    #[arg(long)]
    pub check: bool,
    /// With --check: print one JSON object
    #[arg(long, requires = "check")]
    pub json: bool,
    /// With --check: spawn N children, and say where they ran
    #[arg(long, value_name = "N", requires = "check", value_parser = value_parser!(u32).range(1..=1000))]
    pub hosts: Option<u32>,
    /// Check, and write what a bug report needs to FILE
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub report: Option<PathBuf>,
    /// End agents whose application is gone
    #[arg(long)]
    pub sweep: bool,
    /// With --sweep: list them, and end none
    #[arg(long, requires = "sweep")]
    pub dry_run: bool,
    /// Print the completions for a shell
    #[arg(long, value_name = "SHELL", conflicts_with = "words")]
    pub completions: Option<Shell>,
    /// Print the version
    #[arg(long, action = ArgAction::Version)]
    version: Option<bool>,
    // The command and its arguments.
    #[arg(value_name = "COMMAND", num_args = 0.., trailing_var_arg = true)]
    #[arg(value_hint = ValueHint::CommandWithArguments)]
    pub words: Vec<OsString>,
    /// What `--sweep` is about; none: all agents.
    #[arg(skip)]
    pub pids: Vec<i32>,
}

fn filter(text: &str) -> Result<OsString, &'static str> {
    let complaint = "it takes off, error, warn, info, debug, trace or an env_logger filter";
    let filter = settings::is_filter(text).then(|| text.into());
    filter.ok_or(complaint)
}

/// An absolute path, because COMMAND may change its directory.
fn appendable(file: PathBuf) -> Result<OsString, &'static str> {
    let file = std::path::absolute(&file).ok();
    file.filter(|file| logging::can_append(file))
        .map(PathBuf::into_os_string)
        .ok_or("it takes a file that can be written")
}

/// The completions for this shell.
pub fn completions(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "spawnfix", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

impl Cli {
    /// Parses the words behind the executable's name. The error may also be the help or the version.
    pub fn of(words: &[OsString]) -> Result<Cli, Error> {
        let name = OsString::from("spawnfix");
        let mut cli = Cli::try_parse_from(std::iter::once(&name).chain(words))?;
        let acts = cli.print_env || cli.checks() || cli.sweep || cli.completions.is_some();
        if cli.words.is_empty() && !acts {
            let message = "a command to run is missing";
            return Err(Cli::command().error(ErrorKind::MissingRequiredArgument, message));
        }
        for word in cli.words.iter().filter(|_| cli.sweep) {
            let Some(pid) = word.to_str().and_then(|word| word.parse().ok()) else {
                let message = format!("--sweep takes process ids, not '{}'", escape(word));
                return Err(Cli::command().error(ErrorKind::ValueValidation, message));
            };
            cli.pids.push(pid);
        }
        Ok(cli)
    }

    /// Whether a spawn is tried.
    pub fn checks(&self) -> bool {
        self.check || self.report.is_some()
    }

    /// The settings that options make.
    pub fn settings(&self) -> Vec<Variable> {
        let yes = |flag: bool| flag.then(|| "1".into());
        let all = [
            (settings::GUARD, self.guard.clone()),
            (settings::INTERACTIVE, yes(self.interactive)),
            (settings::INHERIT, yes(self.inherit)),
            (settings::LOG, self.log.clone()),
            (settings::LOG_FILE, self.log_file.clone()),
        ];
        all.into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Cli {
        Cli::of(&words.iter().map(OsString::from).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_parser_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_end_where_the_command_begins() {
        for (words, command, settings) in [
            (
                &["-i", "sh", "-c", "x", "--guard=off"][..],
                "sh|-c|x|--guard=off",
                1,
            ),
            (
                &["--guard", "off", "sh", "--", "-i", "--help"],
                "sh|--|-i|--help",
                1,
            ),
            (&["--", "-c", "--"], "-c|--", 0),
            (&["", "x"], "|x", 0),
            (&["--json", "--check", "R", "-f", "x"], "R|-f|x", 0),
        ] {
            let cli = parsed(words);
            let shown = cli.words.join("|".as_ref());
            assert_eq!(
                (shown.to_str().unwrap(), cli.settings().len()),
                (command, settings)
            );
            assert_eq!(
                (cli.check, cli.json, cli.checks()),
                (
                    command.starts_with('R'),
                    command.starts_with('R'),
                    command.starts_with('R')
                )
            );
        }
        let sweep = parsed(&["--sweep", "--dry-run", "1", "2"]);
        assert!(sweep.sweep && sweep.dry_run && sweep.pids == [1, 2]);
    }

    #[test]
    fn the_last_of_several_counts() {
        let cli = parsed(&["--guard=call", "-i", "-i", "--guard=off", "true"]);
        let guard = ("SPAWNFIX_GUARD", "off".into());
        assert_eq!(
            cli.settings(),
            [guard, ("SPAWNFIX_INTERACTIVE", "1".into())]
        );
    }
}
