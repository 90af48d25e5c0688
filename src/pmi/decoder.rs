//! A stream of bytes, cut into PMI-1 messages.

use crate::pmi::message::Message;

/// Collects bytes until a message is complete.
#[derive(Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// No message ends before this offset.
    scanned: usize,
    blocks: SpawnBlocks,
}

/// How many blocks a spawn has, and which one is being read.
#[derive(Default)]
struct SpawnBlocks {
    total: usize,
    current: usize,
}

/// A message is longer than any that MPI sends: the peer does not speak PMI.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

/// The longest line. libmpi writes 1,024 bytes (PMIU_MAXLINE) or, since 4.1, 50 KB at most (MAX_STATIC_PMI_BUF_SIZE);
/// but an argument of a spawn is written whole, and the kernel allows 128 KiB for one (MAX_ARG_STRLEN).
const LONGEST_LINE: usize = 256 << 10;
/// The longest spawn: what the kernel allows for one command (ARG_MAX), and room for several of them.
const LONGEST_SPAWN: usize = 16 << 20;

impl Decoder {
    /// Appends bytes that were received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, if it is complete.
    ///
    /// # Errors
    /// A line, or a spawn, is longer than any that MPI sends.
    pub fn next(&mut self) -> Result<Option<Message>, TooLong> {
        loop {
            let rest = &self.bytes[self.scanned..];
            let end = rest.iter().position(|&byte| byte == b'\n');
            if end.unwrap_or(rest.len()) > LONGEST_LINE || self.scanned > LONGEST_SPAWN {
                return Err(TooLong);
            }
            let Some(length) = end else {
                return Ok(None);
            };
            let line = &rest[..length];
            self.scanned += length + 1;
            if self.bytes.starts_with(b"mcmd=") && !self.blocks.end_with(line) {
                continue;
            }
            self.blocks = SpawnBlocks::default();
            let behind = self.bytes.split_off(std::mem::take(&mut self.scanned));
            let message = std::mem::replace(&mut self.bytes, behind);
            return Ok(Some(Message::new(message)));
        }
    }
}

impl SpawnBlocks {
    /// Whether this line is the last one of the spawn.
    fn end_with(&mut self, line: &[u8]) -> bool {
        let number = |prefix: &[u8]| {
            let number = std::str::from_utf8(line.strip_prefix(prefix)?).ok()?;
            number.trim().parse().ok()
        };
        self.total = number(b"totspawns=").unwrap_or(self.total);
        self.current = number(b"spawnssofar=").unwrap_or(self.current);
        line == b"endcmd" && self.current >= self.total
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pmi::message::Request;

    fn messages(stream: &[u8]) -> Vec<Message> {
        let mut decoder = Decoder::default();
        let mut messages = Vec::new();
        // Bytes may arrive in pieces of any size.
        for piece in stream.chunks(7) {
            decoder.push(piece);
            while let Some(message) = decoder.next().unwrap() {
                messages.push(message);
            }
        }
        messages
    }

    #[test]
    fn lines_are_messages() {
        let stream = b"cmd=init pmi_version=1 pmi_subversion=1\ncmd=get_maxes\ncmd=put kvsname=kvs_1 key=P0-businesscard value=a\\ b#c$\n";
        let messages = messages(stream);
        assert_eq!(messages.len(), 3);
        assert_eq!(Request::of(&messages[0]), Request::Init);
        assert_eq!(messages[0].number("pmi_subversion"), Some(1));
        assert_eq!(Request::of(&messages[1]), Request::GetMaxes);
        let put = Request::Put {
            key: b"P0-businesscard",
            value: b"a\\ b#c$",
        };
        assert_eq!(Request::of(&messages[2]), put);
    }

    #[test]
    fn a_spawn_of_two_commands_is_one_message() {
        let spawn = b"mcmd=spawn\nnprocs=2\nexecname=./a b\ntotspawns=2\nspawnssofar=1\narg1=endcmd\nendcmd\nmcmd=spawn\n\
                      nprocs=1\nexecname=./c\ntotspawns=2\nspawnssofar=2\nendcmd\n";
        let stream = [&spawn[..], b"cmd=finalize\n"].concat();
        let messages = messages(&stream);
        assert_eq!(messages.len(), 2);
        assert_eq!(messages[0].bytes(), spawn);
        assert_eq!(Request::of(&messages[0]), Request::Spawn);
        assert_eq!(messages[0].value("execname"), Some(&b"./a b"[..]));
        assert_eq!(Request::of(&messages[1]), Request::Finalize);
    }

    #[test]
    fn the_longest_line_is_still_one() {
        let mut decoder = Decoder::default();
        decoder.push(&[b'x'; LONGEST_LINE]);
        assert!(matches!(decoder.next(), Ok(None)));
        decoder.push(b"\n");
        assert!(matches!(decoder.next(), Ok(Some(_))));
    }

    #[test]
    fn a_message_that_never_ends_is_refused() {
        let mut decoder = Decoder::default();
        decoder.push(&vec![b'x'; LONGEST_LINE]);
        assert_eq!(decoder.next(), Ok(None));
        decoder.push(b"x");
        assert_eq!(decoder.next(), Err(TooLong));
        let mut decoder = Decoder::default();
        decoder.push(&vec![b'x'; LONGEST_LINE]);
        decoder.push(b"\n");
        assert!(decoder.next().is_ok_and(|message| message.is_some()));
        let mut decoder = Decoder::default();
        decoder.push(&vec![b'x'; LONGEST_LINE + 1]);
        decoder.push(b"\n");
        assert_eq!(decoder.next(), Err(TooLong));
        let mut decoder = Decoder::default();
        decoder.push(b"mcmd=spawn\n");
        for _ in 0..LONGEST_SPAWN / 1024 + 2 {
            decoder.push(&[b'x'; 1023]);
            decoder.push(b"\n");
        }
        assert_eq!(decoder.next(), Err(TooLong));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_made_up(stream in "(cmd=|mcmd=|[a-z]{1,4}=| |\\\\|\n|endcmd\n|totspawns=[0-9]|\\PC){0,60}", size in 1usize..9) {
            let mut decoder = Decoder::default();
            let mut out = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                decoder.push(piece);
                while let Some(message) = decoder.next().unwrap() {
                    let _ = (Request::of(&message), message.value("key"), message.is_failure());
                    prop_assert_eq!(message.bytes().last(), Some(&b'\n'));
                    out.extend_from_slice(message.bytes());
                }
            }
            out.extend_from_slice(&decoder.bytes);
            prop_assert_eq!(out, stream.as_bytes());
        }
    }
}
