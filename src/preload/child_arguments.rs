//! A spawn whose words PMI-1 or hydra would change is made a spawn of the command, which puts the words back: see
//! [`child_words`](crate::shared::child_words).

use std::ffi::{CStr, CString};

use libc::{c_char, c_int};

use crate::preload::own_path;
use crate::shared::child_words::CHILD;
use crate::shared::logging::Escaped;

/// The longest word that is passed as it is. MPICH 4.0 builds a line in 1,024 bytes (PMIU_MAXLINE in
/// src/pmi/simple/simple_pmiutil.h).
const LONGEST_WORD: usize = 800;

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
    _strings: Vec<CString>,
    _argvs: Vec<Vec<*const c_char>>,
    commands: Vec<*const c_char>,
    argvs: Vec<*const *const c_char>,
}

impl Replaced {
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
    let mut replaced = Replaced {
        _strings: Vec::new(),
        _argvs: Vec::new(),
        commands: Vec::new(),
        argvs: Vec::new(),
    };
    for words in children {
        // A command that passes is left to hydra, which looks it up where its info says.
        let (command, mut argv) = if pass_unchanged(&words) {
            (
                words[0].to_vec(),
                words[1..]
                    .iter()
                    .filter_map(|word| CString::new(*word).ok())
                    .collect(),
            )
        } else {
            let pieces = encode(&words).map_err(|bytes| too_long(&words, bytes))?;
            let argv: Vec<_> = std::iter::once(CHILD.to_owned()).chain(pieces).collect();
            (own.to_bytes().to_vec(), argv)
        };
        argv.insert(0, CString::new(command).unwrap_or_default());
        let mut pointers: Vec<_> = argv.iter().map(|word| word.as_ptr()).collect();
        pointers.push(std::ptr::null());
        replaced.commands.push(pointers[0]);
        replaced.argvs.push(pointers[1..].as_ptr());
        // The strings' and the vector's buffers stay where they are.
        replaced._argvs.push(pointers);
        replaced._strings.append(&mut argv);
    }
    Ok(Some(replaced))
}

fn too_long(words: &[&[u8]], bytes: usize) -> String {
    let mut numbered: Vec<_> = words.iter().enumerate().collect();
    numbered.sort_by_key(|(_, word)| word.len());
    let (number, longest) = numbered
        .pop()
        .map_or((0, &b""[..]), |(at, word)| (at, *word));
    let begin = Escaped(&longest[..longest.len().min(40)]);
    format!(
        "the arguments of {} take {bytes} bytes, and mpiexec takes about 49,000; argument {number}, '{begin}…', has {}: \
         pass it in a file",
        Escaped(words[0]),
        longest.len()
    )
}

/// The words of each command: its name, then its arguments.
///
/// # Safety
/// That of [`replace`].
unsafe fn children<'a>(given: Arguments) -> Vec<Vec<&'a [u8]>> {
    let pointer = std::ptr::with_exposed_provenance::<*const c_char>;
    let words = |command: *const c_char, argv: *const *const c_char| {
        // SAFETY: a command is a C string, and so is each entry of its argv.
        let word = |at: *const c_char| unsafe { CStr::from_ptr(at) }.to_bytes();
        let argv = (0..)
            .take_while(move |_| !argv.is_null()) // MPI_ARGV_NULL (mpi.h)
            // SAFETY: the array ends with a null, at which the iterator ends.
            .map(move |at| unsafe { *argv.add(at) })
            .take_while(|argument| !argument.is_null());
        std::iter::once(command).chain(argv).map(word).collect()
    };
    let Some(count) = given.count else {
        let command = std::ptr::with_exposed_provenance(given.commands);
        return vec![words(command, pointer(given.argvs))];
    };
    let argvs = std::ptr::with_exposed_provenance::<*const *const c_char>(given.argvs);
    let each = (0..usize::try_from(count).unwrap_or(0)).map(|at| {
        // SAFETY: both arrays have `count` entries; that of the argvs may be null (MPI_ARGVS_NULL).
        unsafe {
            let argv = if argvs.is_null() {
                std::ptr::null()
            } else {
                *argvs.add(at)
            };
            words(*pointer(given.commands).add(at), argv)
        }
    });
    each.collect()
}

/// Whether libmpi and hydra pass these words, the command's name among them, as they are.
///
/// Seen with MPICH 4.0.3 to 5.0.2 and Intel MPI: a backslash is dropped, a newline ends the word, an empty word ends
/// hydra, and so does `endcmd` at the end of one (pmodels/mpich issue 7073, mpi4py issues 514 and 541).
pub fn pass_unchanged(words: &[&[u8]]) -> bool {
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

/// The pieces that carry these words.
///
/// # Errors
/// They are too long: as many bytes would be needed.
pub fn encode(words: &[&[u8]]) -> Result<Vec<CString>, usize> {
    let mut text = Vec::new();
    for &byte in words.iter().flat_map(|word| word.iter().chain(&[0])) {
        if is_plain(byte) {
            text.push(byte);
        } else {
            text.extend(format!("%{byte:02X}").into_bytes());
        }
    }
    if text.len() > MOST_BYTES {
        return Err(text.len());
    }
    let pieces = text.chunks(LONGEST_WORD);
    Ok(pieces
        .filter_map(|piece| CString::new(piece).ok())
        .collect())
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
    fn what_is_too_long_or_no_encoding_is_refused() {
        assert!(encode(&[&[b'x'; MOST_BYTES - 3]]).is_ok());
        assert_eq!(encode(&[&[b'x'; MOST_BYTES]]), Err(MOST_BYTES + 3));
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
            let pieces = encode(&given).unwrap();
            let passed: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
            prop_assert!(pass_unchanged(&passed));
            prop_assert_eq!(decoded(&pieces), Some(words));
        }
    }
}
