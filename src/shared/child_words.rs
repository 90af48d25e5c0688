//! `spawnfix --child PIECE…`: the command becomes a child whose words PMI-1 or hydra would have changed. The library spawns
//! it in the child's place (preload/child_arguments.rs), with the child's words encoded: each is ended by a NUL, and
//! bytes that may not pass are written `%XX`. The pieces are that text, cut; or, if it is too long for hydra, one piece is `<`
//! and a file that has it, the application's own in memory.

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The option by which the command is a child.
pub const CHILD: &CStr = c"--child";

/// The words in these pieces. `None`: the library did not make them, or not on this host.
pub fn decode(pieces: impl Iterator<Item = OsString>) -> Option<Vec<OsString>> {
    let mut text: Vec<u8> = pieces.flat_map(OsString::into_vec).collect();
    if let Some(file) = text.strip_prefix(b"<") {
        text = std::fs::read(OsStr::from_bytes(file)).ok()?;
    }
    let mut words = Vec::new();
    let mut word = Vec::new();
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        let byte = match byte {
            b'%' => {
                let digits = [*bytes.next()?, *bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            plain => plain,
        };
        match byte {
            0 => words.push(OsString::from_vec(std::mem::take(&mut word))),
            byte => word.push(byte),
        }
    }
    (word.is_empty() && !words.is_empty()).then_some(words)
}
