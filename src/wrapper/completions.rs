//! The shells' completions: made from the parser, and for the command, which completes as it would by itself.

use clap_complete::Shell;

use crate::wrapper::options;

/// What clap's bash lacks: bash splits words at `=`, and the parser wants an option's value behind one.
const BASH: &str = r#"
_spawnfix_words() {
    local at=1 word
    while ((at < COMP_CWORD)); do
        case ${COMP_WORDS[at]} in
        --) ((at += 1)) && break ;;
        -* | =) ;;
        *) [[ ${COMP_WORDS[at - 1]} == = ]] || break ;;
        esac
        ((at += 1))
    done
    if [[ $3 == = || ${COMP_WORDS[COMP_CWORD]} == = ]]; then
        word=$3
        [[ $3 == = ]] && word=${COMP_WORDS[COMP_CWORD - 2]}
        _spawnfix "$1" "${2#=}" "$word"
    elif ((at < COMP_CWORD)) || [[ $2 != -* ]]; then
        if declare -F _command_offset >/dev/null; then
            _command_offset "$at"
        elif ((at == COMP_CWORD)); then
            mapfile -t COMPREPLY < <(compgen -c -- "$2")
        fi
    else
        _spawnfix "$1" "$2" "$3"
        for at in "${!COMPREPLY[@]}"; do
            case ${COMPREPLY[at]} in
            @VALUED@) COMPREPLY[at]+== && compopt -o nospace ;;
            esac
        done
    fi
}
complete -F _spawnfix_words -o bashdefault -o default spawnfix
"#;

const FISH: &str = "complete -c spawnfix -x -a '(__fish_complete_subcommand)'\n";

/// The completions for this shell.
pub fn of(shell: Shell) -> String {
    let mut text = Vec::new();
    let mut parser = options::parser();
    clap_complete::generate(shell, &mut parser, "spawnfix", &mut text);
    let mut text = String::from_utf8_lossy(&text).into_owned();
    match shell {
        Shell::Bash => {
            let valued = parser
                .get_opts()
                .filter(|option| option.get_action().takes_values());
            let valued: Vec<_> = valued
                .filter_map(|option| Some(format!("--{}", option.get_long()?)))
                .collect();
            text += &BASH.replace("@VALUED@", &valued.join(" | "));
        }
        Shell::Fish => text += FISH,
        _ => {}
    }
    text
}
