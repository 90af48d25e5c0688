//! Interactive sessions by the name of their executable, script or module.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::option_syntax::{OptionSyntax, PLAIN, is_in};
use crate::shared::paths;
use crate::shared::stdio::Stdin;

/// What is known of an executable, a script or a module by its name.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A front end talks to it: its stdin does not matter.
    Kernel,
    /// A prompt comes, unless these options say otherwise.
    Repl(&'static OptionSyntax),
    /// ROOT: a prompt comes after its macros, unless `-q` ends it (TApplication::GetOptions).
    Root,
    /// IPython: a prompt or `ipython kernel`.
    IPython,
}

/// Executables and scripts, by the names of their files without a version.
const PROGRAMS: &[(&str, Kind)] = &[
    ("ipython sage-ipython", Kind::IPython),
    ("bpython bpython-curses bpython-urwid", Kind::Repl(&BPYTHON)),
    ("ptpython ptipython", Kind::Repl(&PTPYTHON)),
    ("xonsh", Kind::Repl(&XONSH)),
    ("radian", Kind::Repl(&RADIAN)),
    ("root.exe", Kind::Root),
    // IDLE in one process (idle -n); PyCharm's console, and PyDev's.
    ("idle pydevconsole.py", Kind::Kernel),
    // Positron's Python: positron-python's createJupyterKernelSpec.
    ("ipykernel_launcher.py xpython_launcher.py", Kind::Kernel),
    ("positron_language_server.py", Kind::Kernel),
    // Kernels that are compiled: xeus's, Positron's for R; RStudio's R.
    ("xpython xcpp xr xoctave ark rsession", Kind::Kernel),
];

/// Modules, as `python -m` names them.
const MODULES: &[(&str, Kind)] = &[
    ("IPython", Kind::IPython),
    ("bpython bpython.curtsies", Kind::Repl(&BPYTHON)),
    ("ptpython", Kind::Repl(&PTPYTHON)),
    ("xonsh", Kind::Repl(&XONSH)),
    ("radian", Kind::Repl(&RADIAN)),
    // The standard library's own prompts.
    ("asyncio code", Kind::Repl(&PLAIN)),
    ("idlelib idlelib.idle", Kind::Kernel),
    // marimo in a sandbox, or in VS Code: marimo/_ipc/launch_kernel.py.
    ("marimo._ipc.launch_kernel", Kind::Kernel),
    // Thonny: _get_launcher_with_args in thonny/plugins/cpython_frontend/cp_front.py.
    ("thonny.plugins.cpython_backend.cp_launcher", Kind::Kernel),
    ("ipykernel ipykernel_launcher", Kind::Kernel),
    ("xpython_launcher spyder_kernels.console", Kind::Kernel),
    ("octave_kernel sage.repl.ipython_kernel", Kind::Kernel),
];

/// Scripts with a common name, by the folder that they are in: VS Code's "Native REPL", of the extension
/// ms-python.python; Thonny 4.
const PLACES: &str =
    "/python_files/python_server.py /thonny/plugins/cpython_backend/cp_launcher.py";

/// What is known of a script, by its path.
pub fn script_in_place(script: &OsStr) -> Option<Kind> {
    let mut places = PLACES.split(' ');
    let is_there = places.any(|place| script.as_bytes().ends_with(place.as_bytes()));
    is_there.then_some(Kind::Kernel)
}

pub fn program_named(name: &[u8]) -> Option<Kind> {
    find(PROGRAMS, |known| is_version_of(name, known))
}

pub fn module_named(name: &OsStr) -> Option<Kind> {
    find(MODULES, |known| name == known)
}

fn find(table: &[(&str, Kind)], is_it: impl Fn(&str) -> bool) -> Option<Kind> {
    let mut rows = table.iter();
    let row = rows.find(|(names, _)| names.split(' ').any(&is_it))?;
    Some(row.1)
}

impl Kind {
    /// The word by which this command line is an interactive session's.
    pub fn judge<'a>(
        self,
        name: &'a OsStr,
        words: &'a [OsString],
        stdin: Stdin,
    ) -> Option<&'a OsStr> {
        match self {
            Kind::Kernel => Some(name),
            Kind::IPython if words.first().is_some_and(|word| word == "kernel") => Some(&words[0]),
            Kind::Root if words.iter().any(|word| word == "-q") => None,
            Kind::Root => (stdin == Stdin::Terminal).then_some(name),
            Kind::IPython => IPYTHON.read(words).prompt(name, stdin),
            Kind::Repl(grammar) => grammar.read(words).prompt(name, stdin),
        }
    }
}

/// The aliases of IPython.terminal.ipapp.
const IPYTHON: OptionSyntax = OptionSyntax {
    with_value: "autocall cache-size colors config ext gui ipython-dir log-level logappend logfile matplotlib \
        profile profile-dir pylab theme",
    runs_instead: "c m",
    stays_interactive: "i",
    ..PLAIN
};

/// bpython --help.
const BPYTHON: OptionSyntax = OptionSyntax {
    with_value: "config l log-level L log-output",
    stays_interactive: "i interactive",
    ..PLAIN
};

/// ptpython --help.
const PTPYTHON: OptionSyntax = OptionSyntax {
    with_value: "config-file history-file",
    stays_interactive: "i interactive",
    ..PLAIN
};

/// xonsh --help.
const XONSH: OptionSyntax = OptionSyntax {
    with_value: "rc D st shell-type",
    runs_instead: "c",
    stays_interactive: "i interactive",
    ..PLAIN
};

/// radian --help; what else it is given is R's.
const RADIAN: OptionSyntax = OptionSyntax {
    ignores_operands: true,
    ..PLAIN
};

/// Whether a file has this name, without a version: ipython3, octave-cli-7.3.0.
pub fn is_version_of(name: &[u8], program: &str) -> bool {
    behind_version(name, program).is_some_and(<[u8]>::is_empty)
}

/// Whether this is a Python: python3.13t, pypy3.10-c, python3-dbg. What follows the version says how it was built.
pub fn is_python(name: &[u8]) -> bool {
    const BUILDS: &str = "t d td m dm w -c -dbg -intel64";
    let is_build = |rest: &[u8]| rest.is_empty() || is_in(BUILDS, rest);
    let mut pythons = ["python", "Python", "pypy", "graalpy"].iter();
    pythons.any(|python| behind_version(name, python).is_some_and(is_build))
}

/// What follows the name of the executable and a version in a file's name.
fn behind_version<'a>(name: &'a [u8], program: &str) -> Option<&'a [u8]> {
    let rest = name.strip_prefix(program.as_bytes())?;
    let version = match rest {
        [b'-', b'0'..=b'9', ..] => &rest[1..],
        _ => rest,
    };
    let mut bytes = version.iter();
    let end = bytes.position(|byte| !byte.is_ascii_digit() && *byte != b'.');
    Some(&version[end.unwrap_or(version.len())..])
}

/// The last component of a path.
pub fn file_name(path: &OsStr) -> &[u8] {
    paths::file_name(path.as_bytes())
}
