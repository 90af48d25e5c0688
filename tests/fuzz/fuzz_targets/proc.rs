//! What /proc says, except `stat`, which the crate procfs reads and takes as the kernel writes it; and the first line
//! of a script: the first byte says which.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use spawnfix_fuzz::interactive::evidence;
use spawnfix_fuzz::mpi::is_libmpi;
use spawnfix_fuzz::own_path::file_at;
use spawnfix_fuzz::procs::linux;
use spawnfix_fuzz::shared::paths::interpreter_in;
use spawnfix_fuzz::shared::stdio::Stdin;

fuzz_target!(|input: &[u8]| {
    let Some((which, text)) = input.split_first() else {
        return;
    };
    match which {
        b'c' => {
            // cmdline: its words are what is between the zeroes; and whether it is an interactive session.
            let words = linux::words_of(text);
            let joined = words.join(OsStr::from_bytes(b"\0"));
            assert_eq!(joined.as_bytes(), text.strip_suffix(b"\0").unwrap_or(text));
            for stdin in [Stdin::Terminal, Stdin::File] {
                if let Some(word) = evidence(&words, &words, stdin) {
                    assert!(words.iter().any(|known| {
                        let known = known.as_bytes();
                        memchr::memmem::find(known, word.as_bytes()).is_some()
                    }));
                }
            }
        }
        b'm' => {
            // maps: every file is the end of a line; the library's own is without what an update leaves behind it.
            for file in linux::files_of(text) {
                let bytes = file.as_os_str().as_bytes();
                assert!(bytes.starts_with(b"/") && !bytes.contains(&b'\n'));
                is_libmpi(file.file_name().unwrap_or_default().as_bytes());
            }
            for line in text.split(|&byte| byte == b'\n') {
                for address in [0, 0x7f12_3456_7890, usize::MAX] {
                    if let Some(range) = file_at(line, address) {
                        let path = &line[range.clone()];
                        assert!(path.starts_with(b"/"));
                        assert!([&b""[..], b" (deleted)"].contains(&&line[range.end..]));
                    }
                }
            }
        }
        _ => {
            // A script: its interpreter is the first of its words, or what env would run.
            let found = interpreter_in(text, |name| Some(PathBuf::from("/found").join(name)));
            if let Some(words) = found {
                assert!(text.starts_with(b"#!") && !words.is_empty());
                assert!(!words.iter().any(|word| word.as_bytes().contains(&b'\n')));
            }
        }
    }
});
