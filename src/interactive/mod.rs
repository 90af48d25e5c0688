//! Who is a shell: a program with a person at it, who wants to go on when what was spawned is gone.
//!
//! A prompt is one if it comes at all, and on a terminal: from a file or a pipe an interpreter reads a script. What a
//! front end talks to, as Jupyter does to its kernels, is one whatever its stdin is. Anything else is a program, to
//! which MPI's own rule applies, and so is what is not known here.
//!
//! Judged by the command line alone, as /proc/PID/cmdline has it: for a script with a `#!` line, the interpreter and
//! its options come first.

pub mod option_syntax;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::interactive::option_syntax::{Grammar, Operand, holds, is_in};
use crate::shared::stdin::Stdin;

/// The word of this command line that says that the program is a shell, if it is one.
pub fn shell(argv: &[OsString], stdin: Stdin) -> Option<&OsStr> {
    let (program, words) = argv.split_first()?;
    // A kernel of whatever language, as most of Jupyter's kernelspecs start one.
    if let Some(word) = connection_file(words) {
        return Some(word);
    }
    let name = file_name(program);
    let is = |program: &str| is_version_of(name, program);
    if is_python(name) {
        python(program, words, stdin)
    } else if is("R") {
        r(program, words, stdin)
    } else if is("julia") || is("julia-debug") {
        julia(program, words, stdin)
    } else if is("octave") || is("octave-cli") || is("octave-gui") {
        octave(program, words, stdin)
    } else {
        // A compiled kernel; or a script whose interpreter does not show, as where its launcher is compiled.
        program_named(name)?.judge(program, words, stdin)
    }
}

// --- the interpreters ---

/// CPython's Python/initconfig.c and Python/getopt.c; PyPy adds --jit.
const PYTHON: Grammar = Grammar {
    values: "W X check-hash-based-pycs jit",
    instead: "c m",
    anyway: "i",
    takes_rest: true,
    operand: Operand::Script,
};

fn python<'a>(program: &'a OsStr, words: &'a [OsString], stdin: Stdin) -> Option<&'a OsStr> {
    let seen = PYTHON.read(words);
    let inner = seen.instead.as_ref().and_then(|run| {
        let kind = match run.option {
            "m" => module_named(run.what),
            "c" => None,
            _ => program_named(file_name(run.what)).or_else(|| script_in_place(run.what)),
        };
        kind?.judge(run.what, run.rest, stdin)
    });
    inner.or_else(|| seen.prompt(program, stdin))
}

/// R's src/main/CommandLineArgs.c and src/unix/system.c. With --interactive it prompts in spite of -f and -e.
const R: Grammar = Grammar {
    values: "g gui encoding",
    instead: "f file e",
    anyway: "interactive",
    takes_rest: false,
    operand: Operand::Ignored,
};

fn r<'a>(program: &'a OsStr, words: &'a [OsString], stdin: Stdin) -> Option<&'a OsStr> {
    let own = words.split(|word| word == "--args").next()?;
    let seen = R.read(own);
    seen.run("e", "IRkernel::main")
        .or_else(|| seen.prompt(program, stdin))
}

/// Julia's src/jloptions.c (those with required_argument) and base/client.jl (exec_options).
const JULIA: Grammar = Grammar {
    values: "H L J C t p O g P home load sysimage cpu-target threads gcthreads procs machine-file color \
        banner history-file startup-file compile compiled-modules pkgimages sysimage-native-code \
        check-bounds depwarn inline math-mode min-optlevel handle-signals warn-overwrite warn-scope \
        heap-size-hint trace-compile bind-to",
    instead: "e E m eval print module",
    anyway: "i",
    takes_rest: false,
    operand: Operand::Script,
};

fn julia<'a>(program: &'a OsStr, words: &'a [OsString], stdin: Stdin) -> Option<&'a OsStr> {
    // A worker of Distributed, which is told what to do over a socket.
    if words
        .iter()
        .any(|word| word.as_bytes().starts_with(b"--worker"))
    {
        return None;
    }
    let seen = JULIA.read(words);
    seen.run("e", "IJulia.run_kernel")
        .or_else(|| {
            // IJulia's src/kernel.jl, in kernelspecs that older versions installed.
            let run = seen.instead.as_ref()?;
            let is_kernel = file_name(run.what) == b"kernel.jl"
                && (holds(run.what, "IJulia")
                    || run
                        .rest
                        .first()
                        .is_some_and(|word| word.as_bytes().ends_with(b".json")));
            is_kernel.then_some(run.what)
        })
        .or_else(|| seen.prompt(program, stdin))
}

/// Octave's libinterp/corefcn/interpreter.cc (cmdline_options::parse). Its -i changes what it prints, not what it runs.
const OCTAVE: Grammar = Grammar {
    values: "p path built-in-docstrings-file doc-cache-file exec-path image-path info-file info-program \
        texi-macros-file",
    instead: "eval",
    anyway: "persist",
    takes_rest: false,
    operand: Operand::Script,
};

fn octave<'a>(program: &'a OsStr, words: &'a [OsString], stdin: Stdin) -> Option<&'a OsStr> {
    let seen = OCTAVE.read(words);
    // A window has a person at it.
    let window = words.iter().find(|word| *word == "--gui");
    window
        .map(OsString::as_os_str)
        .filter(|_| seen.instead.is_none() || seen.anyway.is_some())
        .or_else(|| seen.prompt(program, stdin))
}

// --- what runs under an interpreter, or stands for itself ---

/// What a program that is known by its name is.
#[derive(Clone, Copy)]
enum Kind {
    /// A front end talks to it: its stdin says nothing.
    Served,
    /// A prompt, with these options.
    Prompt(&'static Grammar),
    /// IPython: a prompt, or `ipython kernel`.
    IPython,
}

/// Programs, by the name of their file without a version.
const PROGRAMS: &[(&str, Kind)] = &[
    ("ipython", Kind::IPython),
    ("sage-ipython", Kind::IPython),
    ("bpython", Kind::Prompt(&BPYTHON)),
    ("bpython-curses", Kind::Prompt(&BPYTHON)),
    ("bpython-urwid", Kind::Prompt(&BPYTHON)),
    ("ptpython", Kind::Prompt(&PTPYTHON)),
    ("ptipython", Kind::Prompt(&PTPYTHON)),
    ("xonsh", Kind::Prompt(&XONSH)),
    ("radian", Kind::Prompt(&RADIAN)),
    // PyCharm's console, and PyDev's.
    ("pydevconsole.py", Kind::Served),
    ("ipykernel_launcher.py", Kind::Served),
    ("xpython_launcher.py", Kind::Served),
    // Kernels that are compiled: xeus's, and Positron's for R.
    ("xpython", Kind::Served),
    ("xcpp", Kind::Served),
    ("xr", Kind::Served),
    ("xoctave", Kind::Served),
    ("ark", Kind::Served),
    // RStudio's R.
    ("rsession", Kind::Served),
];

/// Modules, as `python -m` names them.
const MODULES: &[(&str, Kind)] = &[
    ("IPython", Kind::IPython),
    ("bpython", Kind::Prompt(&BPYTHON)),
    ("bpython.curtsies", Kind::Prompt(&BPYTHON)),
    ("ptpython", Kind::Prompt(&PTPYTHON)),
    ("xonsh", Kind::Prompt(&XONSH)),
    ("radian", Kind::Prompt(&RADIAN)),
    // The standard library's own prompts.
    ("asyncio", Kind::Prompt(&PLAIN)),
    ("code", Kind::Prompt(&PLAIN)),
    ("ipykernel", Kind::Served),
    ("ipykernel_launcher", Kind::Served),
    ("xpython_launcher", Kind::Served),
    ("spyder_kernels.console", Kind::Served),
    ("octave_kernel", Kind::Served),
    ("sage.repl.ipython_kernel", Kind::Served),
];

/// A script whose name is anybody's, known by the folder that it is in.
fn script_in_place(script: &OsStr) -> Option<Kind> {
    // VS Code's "Native REPL", of the extension ms-python.python.
    script
        .as_bytes()
        .ends_with(b"/python_files/python_server.py")
        .then_some(Kind::Served)
}

fn program_named(name: &[u8]) -> Option<Kind> {
    let mut all = PROGRAMS.iter();
    let (_, kind) = all.find(|(known, _)| is_version_of(name, known))?;
    Some(*kind)
}

fn module_named(name: &OsStr) -> Option<Kind> {
    let (_, kind) = MODULES.iter().find(|(known, _)| name == *known)?;
    Some(*kind)
}

impl Kind {
    fn judge<'a>(self, name: &'a OsStr, words: &'a [OsString], stdin: Stdin) -> Option<&'a OsStr> {
        match self {
            Kind::Served => Some(name),
            Kind::IPython if words.first().is_some_and(|word| word == "kernel") => {
                words.first().map(OsString::as_os_str)
            }
            Kind::IPython => IPYTHON.read(words).prompt(name, stdin),
            Kind::Prompt(grammar) => grammar.read(words).prompt(name, stdin),
        }
    }
}

/// The aliases of IPython.terminal.ipapp.
const IPYTHON: Grammar = Grammar {
    values: "autocall cache-size colors config ext gui ipython-dir log-level logappend logfile matplotlib \
        profile profile-dir pylab theme",
    instead: "c m",
    anyway: "i",
    takes_rest: false,
    operand: Operand::Script,
};

/// bpython --help.
const BPYTHON: Grammar = Grammar {
    values: "config l log-level L log-output",
    anyway: "i interactive",
    ..PLAIN
};

/// ptpython --help.
const PTPYTHON: Grammar = Grammar {
    values: "config-file history-file",
    anyway: "i interactive",
    ..PLAIN
};

/// xonsh --help.
const XONSH: Grammar = Grammar {
    values: "rc D st shell-type",
    instead: "c",
    anyway: "i interactive",
    ..PLAIN
};

/// radian --help; what else it is given is R's.
const RADIAN: Grammar = Grammar {
    values: "profile r-binary",
    operand: Operand::Ignored,
    ..PLAIN
};

/// No options with a value; an operand is a script.
const PLAIN: Grammar = Grammar {
    values: "",
    instead: "",
    anyway: "",
    takes_rest: false,
    operand: Operand::Script,
};

/// The file that tells a kernel of Jupyter's where to listen, named as jupyter_client does (manager.py, connect.py) and
/// given as an option.
fn connection_file(words: &[OsString]) -> Option<&OsStr> {
    const OPTIONS: [&str; 6] = [
        "-f",
        "--f",
        "--connection_file",
        "--connection-file",
        "--control_file",
        "--IPKernelApp.connection_file",
    ];
    let is_file = |path: &[u8]| {
        let name = file_name(OsStr::from_bytes(path));
        name.starts_with(b"kernel-") && name.ends_with(b".json")
    };
    words.iter().enumerate().find_map(|(at, word)| {
        let bytes = word.as_bytes();
        let attached = bytes.iter().position(|byte| *byte == b'=');
        let value = match attached {
            Some(equals)
                if OPTIONS
                    .iter()
                    .any(|option| option.as_bytes() == &bytes[..equals]) =>
            {
                &bytes[equals + 1..]
            }
            _ if at > 0 && OPTIONS.iter().any(|option| words[at - 1] == *option) => bytes,
            _ => return None,
        };
        is_file(value).then_some(word.as_os_str())
    })
}

fn file_name(path: &OsStr) -> &[u8] {
    let path = path.as_bytes();
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// Whether a file is called so, but for a version: ipython3, octave-cli-7.3.0.
fn is_version_of(name: &[u8], program: &str) -> bool {
    behind_version(name, program).is_some_and(<[u8]>::is_empty)
}

/// Whether this is a Python: python3.13t, pypy3.10-c, python3-dbg. What follows the version says how it was built.
fn is_python(name: &[u8]) -> bool {
    const BUILDS: &str = "t d td m dm w -c -dbg -intel64";
    let is_build = |rest: &[u8]| {
        rest.is_empty() || std::str::from_utf8(rest).is_ok_and(|rest| is_in(BUILDS, rest))
    };
    let mut pythons = ["python", "Python", "pypy", "graalpy"].iter();
    pythons.any(|python| behind_version(name, python).is_some_and(is_build))
}

/// What a file's name has behind that of the program and a version.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Stdin::{Closed, DevNull, File, Pipe, Socket, Terminal};
    use super::*;

    /// Command lines, one a line. The word in brackets is the one that says that this is a shell; without one it is
    /// none. `␣` is a blank within a word.
    #[track_caller]
    fn check(stdin: Stdin, lines: &str) {
        let lines = lines.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let words = line.split(' ').map(|word| word.replace('␣', " "));
            let bare = |word: &str| {
                word.strip_prefix('[')?
                    .strip_suffix(']')
                    .map(OsString::from)
            };
            let said = words.clone().find_map(|word| bare(&word));
            let argv = words.map(|word| bare(&word).unwrap_or(word.into()));
            let argv: Vec<_> = argv.collect();
            assert_eq!(
                shell(&argv, stdin),
                said.as_deref(),
                "{line}, stdin {stdin}"
            );
        }
    }

    #[test]
    fn ipython_is_a_shell_without_a_script() {
        check(
            Terminal,
            r"
                # A virtual environment's, conda's, pyenv's, Debian's, pipx's.
                /home/u/v/bin/python3 [/home/u/v/bin/ipython]
                /opt/conda/envs/mpi/bin/python3.11 [/opt/conda/envs/mpi/bin/ipython] --no-banner
                /home/u/.pyenv/versions/3.12.4/bin/python3.12 [/home/u/.pyenv/versions/3.12.4/bin/ipython3]
                /usr/bin/python3 [/usr/bin/ipython3] --simple-prompt
                /home/u/v/bin/python -m [IPython]
                /home/u/v/bin/python -m IPython -- script.py
                python3 -Ibu -W ignore -X dev -m [IPython] --profile mpi
                [ipython]
                python3 [/v/bin/ipython] --matplotlib qt --TerminalInteractiveShell.editing_mode vi
                /usr/bin/python3 [/opt/sage/local/bin/sage-ipython] -i
                python3 /v/bin/ipython script.py
                python3 /v/bin/ipython --profile=mpi script.py --help
                python3 /v/bin/ipython -c 1+1
                python3 /v/bin/ipython -m mpi4py.bench
                python3 /v/bin/ipython [-i] script.py
                python3 /v/bin/ipython [-i] -c 1+1
            ",
        );
        check(Pipe, "python3 /v/bin/ipython");
        check(File, "python3 /v/bin/ipython -i");
    }

    #[test]
    fn a_python_is_a_shell_without_a_script() {
        check(
            Terminal,
            r"
                [python]
                [/usr/bin/python3.11]
                [python3.13t] -q
                [/opt/pypy/bin/pypy3.10-c]
                [python3-dbg] -X importtime -u
                [/Library/Frameworks/Python.framework/Versions/3.12/Resources/Python.app/Contents/MacOS/Python]
                [python] --check-hash-based-pycs always -Wignore
                python [-i] script.py
                python [-iq] script.py
                python [-iqc] x=1
                python [-i] -m mpi4py.bench
                python -m [asyncio]
                [python] -
                python script.py
                python script.py -i
                /usr/bin/python3 -u -W error::DeprecationWarning /home/u/script.py
                python -X dev script.py
                python -Xdev -Bs script.py
                python --check-hash-based-pycs never script.py
                python -- script.py
                python -c import_mpi4py -i
                python -cpass
                python -Bc pass
                python -m mpi4py script.py
                python -mpytest -i
                python3-config --ldflags
                pythonista
            ",
        );
        for stdin in [File, Pipe, Socket, DevNull, Closed] {
            check(stdin, "python");
        }
        check(
            Pipe,
            r"
                python -
                python -i script.py
            ",
        );
    }

    #[test]
    fn other_prompts_for_python_are_shells() {
        check(
            Terminal,
            r"
                /v/bin/python3 [/v/bin/bpython]
                /usr/bin/python3 [/usr/bin/bpython-curses] --config rc
                /v/bin/python3 [/v/bin/bpython] -l debug
                /v/bin/python3 /v/bin/bpython script.py
                /v/bin/python3 /v/bin/bpython [-i] script.py
                /v/bin/python3 [/v/bin/ptpython] --vi --history-file h
                /v/bin/python3 /v/bin/ptpython [--interactive] script.py
                /v/bin/python3 /v/bin/ptpython script.py
                /v/bin/python3 [/v/bin/ptipython]
                /v/bin/python3 [/v/bin/xonsh]
                /v/bin/python3 -m [xonsh] -st readline -D X=1
                /v/bin/python3 /v/bin/xonsh -c ls
                /v/bin/python3 /v/bin/xonsh script.xsh
            ",
        );
        check(Pipe, "/v/bin/python3 /v/bin/xonsh");
    }

    #[test]
    fn a_kernel_is_a_shell_whatever_its_stdin() {
        check(
            DevNull,
            r"
                # Jupyter's server, jupyter_client's KernelManager, VS Code, an older VS Code, Spyder, `ipython kernel`.
                /v/bin/python -m ipykernel_launcher -f [/home/u/.local/share/jupyter/runtime/kernel-7f6f7d9e.json]
                /v/bin/python -m [ipykernel_launcher] -f /tmp/tmpw9r8xkqz.json
                /opt/spyder/bin/python -Xfrozen_modules=off -m [spyder_kernels.console] -f /home/u/.local/share/jupyter/runtime/c.json
                # xeus, IRkernel, IJulia, Octave, Positron's R, RStudio.
                python3.11 -m [xpython_launcher] -f c.json --raw
                [/opt/conda/bin/xpython] -f c.json
                [/opt/conda/bin/xcpp] -f c.json -std=c++17
                /usr/lib/R/bin/exec/R --slave -e [IRkernel::main()] --args /run/user/1000/jupyter/kernel-1.json
                /opt/conda/lib/R/bin/exec/R --no-echo -e [options(x=1);IRkernel::main()] --args c.json
                /home/u/julia-1.6.2/bin/julia -i --color=yes --project=@. [/home/u/.julia/packages/IJulia/e8kqU/src/kernel.jl] c.json
                /usr/bin/julia -F [/home/juser/.julia/v0.3/IJulia/src/kernel.jl] c.json
                /opt/julia/bin/julia -i --color=yes --project=@. -e [import␣IJulia;␣IJulia.run_kernel()] c.json
                /v/bin/python -m [octave_kernel] -f c.json
                [/usr/lib/rstudio-server/bin/rsession] -u user --launcher-token 1A2B
                # One that is not known by name.
                /home/u/.cargo/bin/evcxr_jupyter --control_file [/run/user/1000/jupyter/kernel-5d.json]
            ",
        );
        check(
            Pipe,
            r"
                /home/u/miniconda3/envs/llm/bin/python -m ipykernel_launcher [--f=/run/user/6006/jupyter/runtime/kernel-v3e2bd6804.json]
                /v/bin/python -Xfrozen_modules=off -m [ipykernel_launcher] --f=/tmp/k.json
                /v/bin/python [/home/u/.vscode/extensions/ms/pythonFiles/ipykernel_launcher.py] -f c.json
                # VS Code's own REPL, and PyCharm's console.
                /v/bin/python [/home/u/.vscode/extensions/ms-python.python-2026.0.0-linux-x64/python_files/python_server.py]
                /home/zc/anaconda3/envs/myenv/bin/python3.8 [/snap/pycharm-community/439/plugins/python-ce/helpers/pydev/pydevconsole.py] --mode=client --host=127.0.0.1 --port=33637
                [/opt/positron/ark] --connection_file c.json --session-mode notebook
                ./solve --load kernel-3.json
                /v/bin/python python_server.py
            ",
        );
        check(Closed, "/v/bin/python -m [ipykernel] -f c.json");
        check(
            Terminal,
            r"
                /v/bin/python /v/bin/ipython [kernel] -f c.json
                /usr/bin/python3.4 -u [/opt/pycharm/helpers/pydev/pydevconsole.py] 52720 52721
                # What only has to do with kernels.
                /v/bin/python /v/bin/jupyter-notebook --no-browser
                /v/bin/python /v/bin/jupyter-execute notebook.ipynb
                # VS Code, running and debugging a script.
                /v/bin/python /home/u/.vscode/extensions/ms-python.debugpy-2024.6.0/bundled/libs/debugpy/launcher 39103 -- /home/u/script.py
                /v/bin/python /opt/pycharm/helpers/pydev/pydevd.py --multiproc --client 127.0.0.1 --port 51159 --file /home/u/script.py
            ",
        );
    }

    #[test]
    fn r_is_a_shell_without_a_script() {
        check(
            Terminal,
            r"
                # /usr/bin/R and Rscript, as Debian's become.
                [/usr/lib/R/bin/exec/R]
                [/usr/lib/R/bin/exec/R] --vanilla --quiet
                [/usr/lib/R/bin/exec/R] --no-save -q --interactive
                [/usr/lib/R/bin/exec/R] -g Tk
                [/usr/lib/R/bin/exec/R] --no-save --args -f x
                [/usr/lib/R/bin/exec/R] ignored.R
                /usr/lib/R/bin/exec/R [--interactive] -f setup.R
                /usr/bin/python3 [/usr/bin/radian] -q
                /usr/lib/R/bin/exec/R -f /tmp/s.R
                /usr/lib/R/bin/exec/R --file=/tmp/s.R
                /usr/lib/R/bin/exec/R -e Sys.sleep(20)
                /usr/lib/R/bin/exec/R --no-echo --no-restore --file=/tmp/s.R
                /usr/lib/R/bin/exec/R --no-echo --no-restore -e Sys.sleep(20)
                /usr/lib/R/bin/exec/R -f /tmp/s.R --restore --save --no-readline
            ",
        );
        check(File, "/usr/lib/R/bin/exec/R --no-save");
        check(Pipe, "/usr/lib/R/bin/exec/R --vanilla");
    }

    #[test]
    fn julia_and_octave_are_shells_without_a_script() {
        check(
            Terminal,
            r"
                [/home/u/.julia/juliaup/julia-1.10.4+0.x64.linux.gnu/bin/julia]
                [julia] --project=. -t 4 -O3 --startup-file no
                [julia] -L setup.jl
                # VS Code's.
                julia [-i] --banner=no --project=/home/lulu/.julia/environments/v1.7 /home/lulu/.vscode-server/extensions/julialang.language-julia-1.7.12/scripts/terminalserver/terminalserver.jl /tmp/vsc-jl-repl-91d3 USE_REVISE=true
                julia script.jl
                julia -t auto --project script.jl
                julia -e 1+1
                julia --eval=1+1
                julia --worker=cookie
                [/usr/bin/octave-cli]
                [octave-cli-7.3.0] -q -p /home/u/m
                /usr/bin/octave-cli -q [--persist] /tmp/s.m
                # What octave_kernel starts, on a terminal of its own.
                [/usr/bin/octave-cli] --interactive --quiet --no-init-file
                /usr/bin/octave-cli /tmp/s.m
                octave-cli --eval pause(20)
            ",
        );
        check(
            Pipe,
            r"
                julia
                /usr/libexec/octave/8.4.0/exec/x86-64/octave-gui [--gui]
            ",
        );
        check(File, "/usr/bin/octave-cli");
    }

    #[test]
    fn any_other_program_is_none() {
        check(
            Terminal,
            r"
                ./solve
                /bin/bash -i
                ruby script.rb
                /usr/bin/mpiexec -n 1 ipython
            ",
        );
        assert_eq!(shell(&[], Terminal), None);
    }

    proptest! {
        #[test]
        fn whatever_the_words_are_the_answer_is_one_of_them(
            program in prop::sample::select(vec!["python", "R", "julia", "octave", "ipython", "x", ""]),
            words in prop::collection::vec(
                prop_oneof![
                    prop::sample::select(vec![
                        "-", "--", "-c", "-m", "-i", "-f", "-e", "-W", "-iqc", "-st", "--args", "--f=", "=", "--=", "-=",
                        "IPython", "ipykernel", "/v/ipython", "kernel", "kernel-1.json", "kernel.jl", "--gui", "--Class.trait",
                    ]).prop_map(|word| word.as_bytes().to_vec()),
                    prop::collection::vec(any::<u8>(), 0..6),
                ],
                0..8,
            ),
            terminal in any::<bool>(),
        ) {
            use std::os::unix::ffi::OsStringExt;
            let mut argv = vec![OsString::from(program)];
            argv.extend(words.into_iter().map(OsString::from_vec));
            let stdin = if terminal { Terminal } else { Pipe };
            if let Some(word) = shell(&argv, stdin) {
                // The value of an option may be attached to it.
                prop_assert!(argv.iter().any(|arg| arg.as_bytes().ends_with(word.as_bytes())));
            }
        }
    }
}
