//! A spawn whose words PMI-1 or hydra would change is made a spawn of the command, which puts the words back: see
//! [`child_words`](crate::shared::child_words).

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use libc::{c_char, c_int};

use crate::mpi::environment;
use crate::preload::c_strings::c_strings;
use crate::preload::memory_file;
use crate::preload::own_path;
use crate::shared::child_words::CHILD;
use crate::shared::logging::Escaped;

/// The longest word that is passed as it is. MPICH 4.0 builds a line in 1,024 bytes (PMIU_MAXLINE in
/// src/pmi/simple/simple_pmiutil.h).
const LONGEST_WORD: usize = 800;

/// The longest word that Linux passes to a process: MAX_ARG_STRLEN in include/uapi/linux/binfmts.h, without the NUL.
const LONGEST_ARGUMENT: usize = (128 << 10) - 1;

/// The most bytes of all words: hydra takes a spawn in a buffer of 64 KiB (HYD_TMPBUF_SIZE in
/// src/pm/hydra/include/hydra.h), and kills the application if there is more.
const MOST_BYTES: usize = 48 << 10;

/// The most words: hydra has room for 1,000 (HYD_NUM_TMP_STRINGS in the same file).
const MOST_WORDS: usize = 500;

/// The `command` and `argv` of MPI_Comm_spawn, or the arrays of them of MPI_Comm_spawn_multiple, as machine words.
#[derive(Clone, Copy)]
pub struct Arguments {
    pub commands: usize,
    pub argvs: usize,
    /// How many commands there are; `None` for MPI_Comm_spawn.
    pub count: Option<c_int>,
}

/// What is passed to the real function instead, and must live as long as its call.
pub struct Replaced {
    /// What the arrays point to.
    _words: Vec<Vec<CString>>,
    _arrays: Vec<Vec<*const c_char>>,
    commands: Vec<*const c_char>,
    argvs: Vec<*const *const c_char>,
    /// In which children find words that are too long for hydra.
    _files: Vec<File>,
}

impl Replaced {
    /// The words of each command, its name first.
    fn new(words: Vec<Vec<CString>>, files: Vec<File>) -> Replaced {
        let pointers = |words: &Vec<CString>| -> Vec<*const c_char> {
            let words = words.iter().map(|word| word.as_ptr());
            words.chain([std::ptr::null()]).collect()
        };
        let arrays: Vec<_> = words.iter().map(pointers).collect();
        Replaced {
            commands: arrays.iter().map(|array| array[0]).collect(),
            argvs: arrays.iter().map(|array| array[1..].as_ptr()).collect(),
            _words: words,
            _arrays: arrays,
            _files: files,
        }
    }

    /// In the shape of what it replaces.
    pub fn arguments(&self, given: Arguments) -> Arguments {
        let (commands, argvs) = match given.count {
            None => (
                self.commands[0].expose_provenance(),
                self.argvs[0].expose_provenance(),
            ),
            Some(_) => (
                self.commands.as_ptr().expose_provenance(),
                self.argvs.as_ptr().expose_provenance(),
            ),
        };
        Arguments {
            commands,
            argvs,
            ..given
        }
    }
}

/// The arguments that carry these words unchanged. `None`: those that were given do, or there is no command.
///
/// # Errors
/// The words can't be passed; the text says which.
///
/// # Safety
/// They must be what the MPI function of this name takes at its root.
pub unsafe fn replace(given: Arguments) -> Result<Option<Replaced>, String> {
    // SAFETY: by this function's contract.
    let children = unsafe { children(given) };
    if children.iter().all(|words| pass_unchanged(words)) {
        return Ok(None);
    }
    let Some(own) = own_path::command() else {
        return Ok(None);
    };
    let mut files = Vec::new();
    let replaced = children.iter().map(|words| {
        // A command that passes is left to hydra, which looks it up where its info says.
        if pass_unchanged(words) {
            let words = words
                .iter()
                .map(|word| CString::new(*word).unwrap_or_default());
            return Ok(words.collect());
        }
        let text = encode(words);
        let pieces = if text.len() <= MOST_BYTES {
            cut(&text)
        } else {
            let (file, name) = written(words, &text).ok_or_else(|| too_long(words))?;
            files.push(file);
            vec![name]
        };
        let head = [own.clone(), CHILD.to_owned()];
        Ok(head.into_iter().chain(pieces).collect())
    });
    let replaced: Result<Vec<_>, String> = replaced.collect();
    let replaced = replaced?;
    Ok(Some(Replaced::new(replaced, files)))
}

/// A file that has the text of these words as long as it is open, and the piece that names it. `None`: a word is too long,
/// children may be on other hosts, or there can be no such file.
fn written(words: &[&[u8]], text: &[u8]) -> Option<(File, CString)> {
    let is_short = |word: &&[u8]| word.len() <= LONGEST_ARGUMENT;
    let hosts = environment::hosts(|name| std::env::var_os(name).is_some());
    if hosts.is_some() || !words.iter().all(is_short) {
        return None;
    }
    let file = memory_file::create(c"spawnfix-arguments", text.len() as u64)?;
    file.write_all_at(text, 0).ok()?;
    let (pid, fd) = (std::process::id(), file.as_raw_fd());
    let name = CString::new(format!("</proc/{pid}/fd/{fd}")).ok()?;
    Some((file, name))
}

fn too_long(words: &[&[u8]]) -> String {
    let bytes: usize = words.iter().map(|word| word.len()).sum();
    let numbered = words.iter().copied().enumerate();
    let longest = numbered.max_by_key(|(_, word)| word.len());
    let (number, longest) = longest.unwrap_or_default();
    format!(
        "the arguments of {} take {bytes} bytes; Linux takes 131,071 in one, and mpiexec about 49,000 if there are other \
         hosts; argument {number}, '{}…', has {}: pass it in a file",
        Escaped(words[0]),
        Escaped(&longest[..longest.len().min(40)]),
        longest.len()
    )
}

/// The words of each command: its name, then its arguments.
///
/// # Safety
/// That of [`replace`].
unsafe fn children<'a>(given: Arguments) -> Vec<Vec<&'a [u8]>> {
    let array = std::ptr::with_exposed_provenance::<*const c_char>;
    // SAFETY: a command is a C string, and an argv a null-terminated array of them, or null (MPI_ARGV_NULL in mpi.h).
    let words = |command: *const c_char, argv: *const *const c_char| unsafe {
        let words = std::iter::once(CStr::from_ptr(command)).chain(c_strings(argv));
        words.map(CStr::to_bytes).collect()
    };
    let Some(count) = given.count else {
        return vec![words(array(given.commands).cast(), array(given.argvs))];
    };
    let argvs = array(given.argvs).cast::<*const *const c_char>();
    let each = (0..usize::try_from(count).unwrap_or(0)).map(|at| {
        // SAFETY: both arrays have `count` entries; that of the argvs may be null (MPI_ARGVS_NULL).
        unsafe {
            let argv = if argvs.is_null() {
                std::ptr::null()
            } else {
                *argvs.add(at)
            };
            words(*array(given.commands).add(at), argv)
        }
    });
    each.collect()
}

/// Whether libmpi and hydra pass these words, the command's name among them, as they are.
///
/// Seen with MPICH 4.0.3 to 5.0.2 and Intel MPI: a backslash is dropped, a newline ends the word, an empty word ends
/// hydra, and so does `endcmd` at the end of one (pmodels/mpich issue 7073, mpi4py issues 514 and 541).
fn pass_unchanged(words: &[&[u8]]) -> bool {
    let passes = |word: &&[u8]| {
        !word.is_empty()
            && word.len() <= LONGEST_WORD
            && !word.iter().any(|byte| b"\\\n".contains(byte))
            && !word.ends_with(b"endcmd")
    };
    words.len() <= MOST_WORDS
        && words.iter().map(|word| word.len()).sum::<usize>() <= MOST_BYTES
        && words.iter().all(passes)
}

/// The text that carries these words.
fn encode(words: &[&[u8]]) -> Vec<u8> {
    let mut text = Vec::new();
    for &byte in words.iter().flat_map(|word| word.iter().chain(&[0])) {
        if is_plain(byte) {
            text.push(byte);
        } else {
            text.extend(format!("%{byte:02X}").into_bytes());
        }
    }
    text
}

/// The pieces of this text.
fn cut(text: &[u8]) -> Vec<CString> {
    let pieces = text.chunks(LONGEST_WORD);
    pieces
        .map(|piece| CString::new(piece).unwrap_or_default())
        .collect()
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-=:,+@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};

    use proptest::prelude::*;

    use super::*;
    use crate::shared::child_words::decode;

    fn decoded(pieces: &[CString]) -> Option<Vec<Vec<u8>>> {
        let pieces = pieces
            .iter()
            .map(|piece| OsString::from_vec(piece.as_bytes().to_vec()));
        let words = decode(pieces)?;
        Some(words.iter().map(|word| word.as_bytes().to_vec()).collect())
    }

    #[test]
    fn words_that_pmi_changes_are_known() {
        for word in ["a\\b", "a\nb", "", "endcmd", "xendcmd", &"x".repeat(801)] {
            assert!(!pass_unchanged(&[b"app", word.as_bytes()]), "{word:?}");
        }
        for word in [
            "a b",
            " x ",
            "it's \"so\"",
            "arg1=x",
            "endcmd ",
            "mcmd=spawn",
            "ü\t;$",
        ] {
            assert!(pass_unchanged(&[b"app", word.as_bytes()]), "{word:?}");
        }
        assert!(pass_unchanged(&[&[b'x'; LONGEST_WORD]]));
        assert!(
            pass_unchanged(&[&b"x"[..]; MOST_WORDS])
                && !pass_unchanged(&[&b"x"[..]; MOST_WORDS + 1])
        );
        assert!(!pass_unchanged(&[&[b'x'; LONGEST_WORD][..]; 62]));
    }

    #[test]
    fn words_that_are_too_long_for_hydra_are_in_a_file() {
        let word = [b'x'; 100_000];
        let words: [&[u8]; 2] = [b"app", &word];
        let (file, name) = written(&words, &encode(&words)).unwrap();
        assert_eq!(
            decoded(std::slice::from_ref(&name)),
            Some(vec![b"app".to_vec(), word.to_vec()])
        );
        drop(file);
        assert_eq!(decoded(&[name]), None);
    }

    #[test]
    fn what_is_no_encoding_is_refused() {
        for text in ["", "a", "a%0", "a%GG", "a%00b"] {
            assert_eq!(decode([OsString::from(text)].into_iter()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_word_comes_out_as_it_went_in(
            words in prop::collection::vec(prop::collection::vec(1_u8.., 0..300), 1..9)
        ) {
            let given: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let pieces = cut(&encode(&given));
            let passed: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
            prop_assert!(pass_unchanged(&passed));
            prop_assert_eq!(decoded(&pieces), Some(words));
        }
    }
}
