//! Is this the command line of an interactive session: an application with a person at it, who goes on working when the
//! children are gone?
//!
//! An interpreter is one if it shows a prompt on a terminal; from a file or a pipe it reads a script. A kernel is one
//! with any stdin, because a front end such as Jupyter talks to it. No other application is one: MPI's own rule applies
//! to it.
//!
//! Only the command line decides, as /proc/PID/cmdline has it: for a script with a `#!` line, the interpreter and its
//! options come first.

mod names;
pub mod option_syntax;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use self::names::*;
use self::option_syntax::{OptionSyntax, PLAIN, holds, is_in};
use crate::shared::logging::escape;
use crate::shared::settings::InteractiveSetting;
use crate::shared::stdio::Stdin;

/// The word by which an application is taken for an interactive session, if it is one: by this setting, or as [`evidence`]
/// says.
pub fn session_word(
    setting: InteractiveSetting,
    argv: &[OsString],
    parent: &[OsString],
    stdin: Stdin,
) -> Option<String> {
    match setting {
        InteractiveSetting::Yes => Some("SPAWNFIX_INTERACTIVE=1".to_owned()),
        InteractiveSetting::No => None,
        InteractiveSetting::Auto => Some(escape(evidence(argv, parent, stdin)?).to_string()),
    }
}

/// The word by which this command line is an interactive session's; `None` if it is not one.
///
/// `parent` is the command line of the process that started it, as far as it is known.
pub fn evidence<'a>(
    argv: &'a [OsString],
    parent: &'a [OsString],
    stdin: Stdin,
) -> Option<&'a OsStr> {
    let (program, words) = argv.split_first()?;
    // A kernel of any language, as most of Jupyter's kernelspecs start one.
    if let Some(word) = connection_file(words) {
        return Some(word);
    }
    let name = file_name(program);
    let is = |program: &str| is_version_of(name, program);
    if is_python(name) {
        python(program, words, stdin).or_else(|| marimo(words, parent))
    } else if is("R") {
        r(program, words, stdin)
    } else if is("julia") || is("julia-debug") {
        julia(program, words, stdin)
    } else if is("octave") || is("octave-cli") || is("octave-gui") {
        octave(program, words, stdin)
    } else if is("MATLAB") {
        matlab(program, words, stdin)
    } else {
        // A compiled kernel; or a script whose interpreter does not show, as where its launcher is compiled.
        program_named(name)?.judge(program, words, stdin)
    }
}

// --- the interpreters ---

/// CPython's Python/initconfig.c and Python/getopt.c; PyPy adds --jit.
const PYTHON: OptionSyntax = OptionSyntax {
    with_value: "W X check-hash-based-pycs jit",
    runs_instead: "c m",
    stays_interactive: "i",
    ends_options: true,
    ..PLAIN
};

fn python<'a>(program: &'a OsStr, words: &'a [OsString], stdin: Stdin) -> Option<&'a OsStr> {
    let seen = PYTHON.read(words);
    let inner = seen.runs_instead.as_ref().and_then(|run| {
        let kind = match run.option {
            "m" => module_named(run.what),
            // IDLE: build_subprocess_arglist in CPython's Lib/idlelib/pyshell.py.
            "c" => holds(run.what, "idlelib.run").then_some(Kind::Kernel),
            _ => program_named(file_name(run.what)).or_else(|| script_in_place(run.what)),
        };
        kind?.judge(run.what, run.rest, stdin)
    });
    inner.or_else(|| seen.prompt(program, stdin))
}

/// `marimo edit` starts each notebook's kernel by multiprocessing (marimo/_session/managers/kernel.py), whose processes
/// all have the same command line (CPython's Lib/multiprocessing/spawn.py, get_command_line): the parent's says it.
fn marimo<'a>(words: &[OsString], parent: &'a [OsString]) -> Option<&'a OsStr> {
    let child = PYTHON.read(words).runs_instead?;
    if child.option != "c" || !holds(child.what, "multiprocessing.spawn") {
        return None;
    }
    let server = PYTHON.read(parent.get(1..)?).runs_instead?;
    let mut words = server.rest.iter();
    let subcommand = words.find(|word| is_in("edit new tutorial", word.as_bytes()))?;
    (file_name(server.what) == b"marimo").then_some(subcommand)
}

/// R's src/main/CommandLineArgs.c and src/unix/system.c. With --interactive it prompts in spite of -f and -e.
const R: OptionSyntax = OptionSyntax {
    runs_instead: "f file e",
    stays_interactive: "interactive",
    ignores_operands: true,
    ..PLAIN
};

fn r<'a>(program: &'a OsStr, words: &'a [OsString], stdin: Stdin) -> Option<&'a OsStr> {
    let own = words.split(|word| word == "--args").next()?;
    let seen = R.read(own);
    seen.runs(|run| run.option == "e" && holds(run.what, "IRkernel::main"))
        .or_else(|| seen.prompt(program, stdin))
}

/// MATLAB's documentation of `matlab` (Linux): -r prompts afterwards, -batch does not. -dmlworker is a worker of its
/// Parallel Server. The desktop has a person at it.
fn matlab<'a>(program: &'a OsStr, words: &'a [OsString], stdin: Stdin) -> Option<&'a OsStr> {
    let word = |wanted: &str| words.iter().find(|word| *word == wanted);
    if word("-batch").is_some() || word("-dmlworker").is_some() {
        return None;
    }
    let prompt = (stdin == Stdin::Terminal).then_some(program);
    word("-desktop").map(OsString::as_os_str).or(prompt)
}

/// Julia's src/jloptions.c (those with required_argument) and base/client.jl (exec_options).
const JULIA: OptionSyntax = OptionSyntax {
    with_value: "H L J C t p O g P home load sysimage cpu-target threads gcthreads procs machine-file color \
        banner history-file startup-file compile compiled-modules pkgimages sysimage-native-code \
        check-bounds depwarn inline math-mode min-optlevel handle-signals warn-overwrite warn-scope \
        heap-size-hint trace-compile bind-to",
    runs_instead: "e E m eval print module",
    stays_interactive: "i",
    ..PLAIN
};

fn julia<'a>(program: &'a OsStr, words: &'a [OsString], stdin: Stdin) -> Option<&'a OsStr> {
    // A worker of Distributed gets its work over a socket.
    let is_worker = |word: &OsString| word.as_bytes().starts_with(b"--worker");
    if words.iter().any(is_worker) {
        return None;
    }
    let seen = JULIA.read(words);
    let is_json = |word: &OsString| word.as_bytes().ends_with(b".json");
    let kernel = seen.runs(|run| match file_name(run.what) {
        // IJulia's src/kernel.jl, in kernelspecs that older versions installed.
        b"kernel.jl" => holds(run.what, "IJulia") || run.rest.first().is_some_and(is_json),
        // A notebook of Pluto.jl: Malt.jl's src/Malt.jl, _get_worker_cmd.
        b"worker.jl" => holds(run.what, "/Malt/"),
        _ => run.option == "e" && holds(run.what, "IJulia.run_kernel"),
    });
    kernel.or_else(|| seen.prompt(program, stdin))
}

/// Octave's libinterp/corefcn/interpreter.cc (cmdline_options::parse). Its -i changes what it prints, not what it runs.
const OCTAVE: OptionSyntax = OptionSyntax {
    with_value: "p path built-in-docstrings-file doc-cache-file exec-path image-path info-file info-program \
        texi-macros-file",
    runs_instead: "eval",
    stays_interactive: "persist",
    ..PLAIN
};

fn octave<'a>(program: &'a OsStr, words: &'a [OsString], stdin: Stdin) -> Option<&'a OsStr> {
    let seen = OCTAVE.read(words);
    // A window has a person at it.
    let window = words.iter().find(|word| *word == "--gui");
    let window = window.filter(|_| seen.runs_instead.is_none() || seen.stays_interactive.is_some());
    window
        .map(OsString::as_os_str)
        .or_else(|| seen.prompt(program, stdin))
}

// --- what runs under an interpreter, or by itself ---

/// The connection file of a Jupyter kernel, named as jupyter_client does (manager.py, connect.py) and given as an option.
fn connection_file(words: &[OsString]) -> Option<&OsStr> {
    const OPTIONS: &str = "-f --f --connection_file --connection-file --control_file \
        --IPKernelApp.connection_file";
    let is_file = |path: &[u8]| {
        let name = file_name(OsStr::from_bytes(path));
        name.starts_with(b"kernel-") && name.ends_with(b".json")
    };
    let before = std::iter::once(None).chain(words.iter().map(Some));
    let mut each = words.iter().zip(before);
    let (word, _) = each.find(|(word, before)| {
        let bytes = word.as_bytes();
        let equals = bytes.iter().position(|byte| *byte == b'=').unwrap_or(0);
        is_in(OPTIONS, &bytes[..equals]) && is_file(&bytes[equals + 1..])
            || is_file(bytes) && before.is_some_and(|before| is_in(OPTIONS, before.as_bytes()))
    })?;
    Some(word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Stdin::{Closed, DevNull, File, Pipe, Socket, Terminal};
    use super::*;

    /// Command lines, one a line. The word in brackets is the evidence for an interactive session; without one it is
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
                evidence(&argv, &[], stdin),
                said.as_deref(),
                "{line}, stdin {stdin}"
            );
        }
    }

    #[test]
    fn the_setting_comes_before_the_command_line() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let said = |setting, line| session_word(setting, &words(line), &[], Terminal);
        use InteractiveSetting::{Auto, No, Yes};
        let (session, script) = ("python3 -m IPython", "python3 script.py");
        assert_eq!(said(Auto, session).as_deref(), Some("IPython"));
        assert_eq!(said(Auto, script), None);
        assert_eq!(said(No, session), None);
        assert_eq!(said(Yes, script).as_deref(), Some("SPAWNFIX_INTERACTIVE=1"));
    }

    #[test]
    fn ipython_is_a_session_without_a_script() {
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
                python3 /v/bin/ipython -c1+1
                python3 /v/bin/ipython -m mpi4py.bench
                python3 /v/bin/ipython [-i] script.py
                python3 /v/bin/ipython [-i] -c 1+1
            ",
        );
        check(Pipe, "python3 /v/bin/ipython");
        check(File, "python3 /v/bin/ipython -i");
    }

    #[test]
    fn python_is_a_session_without_a_script() {
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
    fn other_prompts_for_python_are_sessions() {
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
                /v/bin/python3 /v/bin/xonsh -cls
                /v/bin/python3 /v/bin/xonsh [-i] script.xsh
                /v/bin/python3 /v/bin/xonsh script.xsh
            ",
        );
        check(Pipe, "/v/bin/python3 /v/bin/xonsh");
    }

    #[test]
    fn a_kernel_is_a_session_whatever_its_stdin() {
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
                /usr/bin/julia [/home/juser/IJulia/kernel.jl]
                /usr/bin/julia [/srv/kernel.jl] c.json
                /usr/bin/julia /srv/kernel.jl
                /opt/julia/bin/julia -i --color=yes --project=@. -e [import␣IJulia;␣IJulia.run_kernel()] c.json
                /v/bin/python -m [octave_kernel] -f c.json
                [/usr/lib/rstudio-server/bin/rsession] -u user --launcher-token 1A2B
                # One that is not known by name.
                /home/u/.cargo/bin/evcxr_jupyter --control_file [/run/user/1000/jupyter/kernel-5d.json]
                /home/u/.cargo/bin/evcxr_jupyter [--control_file=kernel-5d.json]
                ./solve --data=kernel-5d.json
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
                /v/bin/python [/opt/positron/resources/app/extensions/positron-python/python_files/posit/positron_language_server.py] -f c.json --logfile k.log --loglevel=debug --session-mode=console
                # IDLE, Thonny, marimo in VS Code, Pluto.jl, MATLAB's desktop.
                /usr/bin/python3 -c [__import__('idlelib.run').run.main(False)] 41225
                /usr/bin/python3 -W ignore -c [__import__('idlelib.run').run.main(True)] 41225
                /usr/bin/python3 [/usr/bin/idle3.11] -n
                /usr/bin/python3 -m [idlelib] -n
                /usr/bin/python3 -u -B -m [thonny.plugins.cpython_backend.cp_launcher] /home/u
                /usr/bin/python3 -u -B [/usr/lib/python3/dist-packages/thonny/plugins/cpython_backend/cp_launcher.py] /home/u
                /v/bin/python -m [marimo._ipc.launch_kernel]
                /opt/julia/bin/julia -Cnative -J/opt/julia/lib/julia/sys.so -g1 --startup-file=no [/home/u/.julia/packages/Malt/YJ2Ml/src/worker.jl]
                /usr/local/MATLAB/R2024b/bin/glnxa64/MATLAB [-desktop]
                julia /home/u/worker.jl
                python -c import␣multiprocessing
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
    fn r_is_a_session_without_a_script() {
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
                /usr/bin/python3 [/usr/bin/radian] ignored.R
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
    fn julia_and_octave_are_sessions_without_a_script() {
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
                octave-cli --eval=pause(20)
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
    fn root_and_matlab_are_sessions_without_the_option_to_quit() {
        check(
            Terminal,
            r"
                [/opt/root/bin/root.exe] -splash
                [/opt/root/bin/root.exe] -l -b macro.C
                /opt/root/bin/root.exe -l -b -q macro.C
                [/usr/local/MATLAB/R2020b/bin/glnxa64/MATLAB] -nodesktop -nosplash
                [/usr/local/MATLAB/R2020b/bin/glnxa64/MATLAB] -nodesktop -r setup
                /usr/local/MATLAB/R2020b/bin/glnxa64/MATLAB -batch run
                /usr/local/MATLAB/R2020b/bin/glnxa64/MATLAB -dmlworker -nodisplay
            ",
        );
        check(
            Pipe,
            r"
                /opt/root/bin/root.exe -b
                /usr/local/MATLAB/R2020b/bin/glnxa64/MATLAB -nodesktop
            ",
        );
    }

    #[test]
    fn a_marimo_notebook_is_known_by_the_parent() {
        let words = |line: &str| -> Vec<OsString> {
            let words = line.split(' ').map(|word| word.replace('␣', " "));
            words.map(OsString::from).collect()
        };
        let kernel = words(
            "/v/bin/python -c from␣multiprocessing.spawn␣import␣spawn_main;␣spawn_main(tracker_fd=7,␣pipe_handle=15) \
             --multiprocessing-fork",
        );
        for (parent, said) in [
            ("/v/bin/python /v/bin/marimo edit notebook.py", Some("edit")),
            ("/v/bin/python -m marimo -y --quiet new", Some("new")),
            ("/v/bin/python /v/bin/marimo run notebook.py", None),
            ("/v/bin/python edit.py edit", None),
            ("/bin/bash", None),
        ] {
            let parent = words(parent);
            assert_eq!(evidence(&kernel, &parent, Pipe), said.map(OsStr::new));
        }
        let server = words("/v/bin/python /v/bin/marimo edit notebook.py");
        for other in ["script.py", "-c pass", "-m multiprocessing.spawn"] {
            let other = words(&format!("/v/bin/python {other}"));
            assert_eq!(evidence(&other, &server, Pipe), None);
        }
    }

    #[test]
    fn any_other_command_line_is_none() {
        check(
            Terminal,
            r"
                ./solve
                /bin/bash -i
                ruby script.rb
                /usr/bin/mpiexec -n 1 ipython
            ",
        );
        assert_eq!(evidence(&[], &[], Terminal), None);
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
            if let Some(word) = evidence(&argv, &argv, stdin) {
                // The value of an option may be attached to it.
                prop_assert!(argv.iter().any(|arg| arg.as_bytes().ends_with(word.as_bytes())));
            }
        }
    }
}
