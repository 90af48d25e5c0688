//! PMI-1, the protocol between an MPI program and its process manager, as types.
//!
//! A message is a line of `key=value` words of which the first is `cmd=…`; only a spawn is several lines, in one or
//! more blocks from `mcmd=spawn` to `endcmd`, as many as its `totspawns` says. What may be asked and what is answered:
//! src/pmi/maint/pmi-1.1.txt and pmi-1.2.txt in MPICH; how it is written: src/pmi/src/pmi_wire.c (parse_v1,
//! PMIU_check_full_cmd) and, before MPICH 4.1, src/pmi/simple/simple_pmiutil.c.

use std::fmt;

/// A message as it came, with its final line feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    /// The message of this text, which has no line feed.
    pub fn line(text: impl fmt::Display) -> Message {
        Message(format!("{text}\n").into_bytes())
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What stands behind `cmd=` or `mcmd=`.
    pub fn command(&self) -> &[u8] {
        let (_, rest) = self.0.split_at(
            self.0
                .iter()
                .position(|&byte| byte == b'=')
                .map_or(0, |at| at + 1),
        );
        let end = rest.iter().position(|byte| b" \n".contains(byte));
        &rest[..end.unwrap_or(rest.len())]
    }

    /// The value of this key, as it is on the wire: a backslash in it escapes the byte behind it.
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        let several_lines = self.0.starts_with(b"mcmd=");
        let mut rest = &self.0[..];
        loop {
            // A value of a spawn may have blanks in it.
            let mut escaped = false;
            let end = rest.iter().position(|&byte| {
                let ends = byte == b'\n' || byte == b' ' && !several_lines && !escaped;
                escaped = byte == b'\\' && !escaped;
                ends
            })?;
            let (word, behind) = rest.split_at(end);
            if let Some(value) = word
                .strip_prefix(key.as_bytes())
                .and_then(|word| word.strip_prefix(b"="))
            {
                return Some(value);
            }
            rest = &behind[1..];
        }
    }

    /// The value of this key, if it is a number.
    pub fn number<N: std::str::FromStr>(&self, key: &str) -> Option<N> {
        std::str::from_utf8(self.value(key)?).ok()?.parse().ok()
    }

    /// This message as the answer to that one: it carries the same `thrid`, by which a client with threads knows its
    /// answers (PMIU_msg_set_response).
    pub fn to(mut self, question: &Message) -> Message {
        if let Some(thread) = question.value("thrid") {
            let _ = self.0.pop();
            self.0.extend_from_slice(b" thrid=");
            self.0.extend_from_slice(thread);
            self.0.push(b'\n');
        }
        self
    }

    /// A spawn of one process of another program, which is told the same (`preput`) as the first of this one.
    pub fn with_program(&self, file: &[u8], arguments: &[&[u8]]) -> Message {
        let mut text = b"mcmd=spawn\nnprocs=1\nexecname=".to_vec();
        text.extend_from_slice(file);
        text.extend_from_slice(b"\ntotspawns=1\nspawnssofar=1\n");
        for (number, argument) in (1..).zip(arguments) {
            text.extend_from_slice(format!("arg{number}=").as_bytes());
            text.extend_from_slice(argument);
            text.push(b'\n');
        }
        text.extend_from_slice(format!("argcnt={}\n", arguments.len()).as_bytes());
        let lines = self.0.split_inclusive(|&byte| byte == b'\n');
        let first = lines.take_while(|line| *line != b"endcmd\n");
        for line in first.filter(|line| line.starts_with(b"preput_")) {
            text.extend_from_slice(line);
        }
        text.extend_from_slice(b"info_num=0\nendcmd\n");
        Message(text)
    }

    /// Whether it says that something failed: a `rc` that is not 0 (PMIU_cmd_get_response).
    pub fn is_failure(&self) -> bool {
        self.number::<i64>("rc").is_some_and(|rc| rc != 0)
    }
}

/// What a program asks its process manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    Init,
    Finalize,
    Abort,
    GetMaxes,
    UniverseSize,
    AppNum,
    KvsName,
    Put {
        key: &'a [u8],
        value: &'a [u8],
    },
    Get {
        key: &'a [u8],
    },
    /// PMI 1.2: `group` is `NAME:TAG`, and the answer tells the tag.
    Barrier {
        tag: Option<&'a [u8]>,
    },
    Publish,
    Unpublish,
    Lookup,
    Spawn,
    /// None that is known here.
    Other,
}

impl<'a> Request<'a> {
    /// What this message asks. A `put` without a key or a value is none that is known.
    pub fn of(message: &'a Message) -> Request<'a> {
        match message.command() {
            b"init" => Request::Init,
            b"finalize" => Request::Finalize,
            b"abort" => Request::Abort,
            b"get_maxes" => Request::GetMaxes,
            b"get_universe_size" => Request::UniverseSize,
            b"get_appnum" => Request::AppNum,
            b"get_my_kvsname" => Request::KvsName,
            b"put" => match (message.value("key"), message.value("value")) {
                (Some(key), Some(value)) => Request::Put { key, value },
                _ => Request::Other,
            },
            b"get" => match message.value("key") {
                Some(key) => Request::Get { key },
                None => Request::Other,
            },
            b"barrier_in" => Request::Barrier {
                tag: message
                    .value("group")
                    .and_then(|group| group.rsplitn(2, |&byte| byte == b':').next()),
            },
            b"publish_name" => Request::Publish,
            b"unpublish_name" => Request::Unpublish,
            b"lookup_name" => Request::Lookup,
            b"spawn" => Request::Spawn,
            _ => Request::Other,
        }
    }

    /// The command that answers it. What is not known may have any answer, and gets one that nobody waits for, which
    /// libmpi takes for an error.
    fn answer(self) -> &'static str {
        match self {
            Request::Init => "response_to_init",
            Request::Finalize => "finalize_ack",
            Request::GetMaxes => "maxes",
            Request::UniverseSize => "universe_size",
            Request::AppNum => "appnum",
            Request::KvsName => "my_kvsname",
            Request::Put { .. } => "put_result",
            Request::Get { .. } => "get_result",
            Request::Barrier { .. } => "barrier_out",
            Request::Publish => "publish_result",
            Request::Unpublish => "unpublish_result",
            Request::Lookup => "lookup_result",
            Request::Spawn => "spawn_result",
            Request::Abort | Request::Other => "not_known",
        }
    }

    /// Its answer, that all is well, with these words.
    pub fn success(self, words: impl fmt::Display) -> Message {
        Message::line(format_args!("cmd={} rc=0{words}", self.answer()))
    }

    /// Its answer, that it failed. `reason` has no blanks.
    pub fn failure(self, reason: &str) -> Message {
        Message::line(format_args!("cmd={} rc=1 msg={reason}", self.answer()))
    }
}

/// A stream, cut into messages.
#[derive(Default)]
pub struct Framer {
    bytes: Vec<u8>,
    /// Up to where there is no end of a message.
    seen: usize,
    spawn: Spawn,
}

/// What was seen of a spawn's lines.
#[derive(Default)]
struct Spawn {
    total: usize,
    so_far: usize,
}

/// A message that is too long: the peer is not speaking PMI.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

/// The longest line. libmpi writes 1,024 bytes (PMIU_MAXLINE) or, since 4.1, 50 KB at most (MAX_STATIC_PMI_BUF_SIZE);
/// but an argument of a spawn is as long as it is, and the kernel lets one have 128 KiB (MAX_ARG_STRLEN).
const LONGEST_LINE: usize = 256 << 10;
/// The longest spawn: what the kernel lets a command have (ARG_MAX), and some more for several of them.
const LONGEST_SPAWN: usize = 16 << 20;

impl Framer {
    /// Takes what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What came, and is no message yet.
    pub fn rest(&self) -> &[u8] {
        &self.bytes
    }

    /// The next message, if all of it is there.
    ///
    /// # Errors
    /// A line, or a spawn, is longer than any that MPI sends.
    pub fn next(&mut self) -> Result<Option<Message>, TooLong> {
        loop {
            let rest = &self.bytes[self.seen..];
            let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
                if rest.len() > LONGEST_LINE {
                    return Err(TooLong);
                }
                return Ok(None);
            };
            if length > LONGEST_LINE || self.seen > LONGEST_SPAWN {
                return Err(TooLong);
            }
            let line = &rest[..length];
            self.seen += length + 1;
            if self.bytes.starts_with(b"mcmd=") && !self.spawn.ends_with(line) {
                continue;
            }
            self.spawn = Spawn::default();
            let behind = self.bytes.split_off(std::mem::take(&mut self.seen));
            return Ok(Some(Message(std::mem::replace(&mut self.bytes, behind))));
        }
    }
}

impl Spawn {
    /// Whether this line is the last of a spawn.
    fn ends_with(&mut self, line: &[u8]) -> bool {
        let number = |prefix: &[u8]| {
            let number = std::str::from_utf8(line.strip_prefix(prefix)?).ok()?;
            number.trim().parse().ok()
        };
        self.total = number(b"totspawns=").unwrap_or(self.total);
        self.so_far = number(b"spawnssofar=").unwrap_or(self.so_far);
        line == b"endcmd" && self.so_far >= self.total
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages(stream: &[u8]) -> Vec<Message> {
        let mut framer = Framer::default();
        let mut messages = Vec::new();
        // As it may come: in pieces of any size.
        for piece in stream.chunks(7) {
            framer.push(piece);
            while let Some(message) = framer.next().unwrap() {
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
    fn a_spawn_of_two_programs_is_one_message() {
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
    fn answers_tell_what_was_asked() {
        let barrier = Message::line("cmd=barrier_in group=WORLD:17");
        let tag = Request::of(&barrier);
        assert_eq!(tag, Request::Barrier { tag: Some(b"17") });
        assert_eq!(
            Request::Spawn.failure("no_launcher"),
            Message::line("cmd=spawn_result rc=1 msg=no_launcher")
        );
        assert!(Request::Spawn.failure("x").is_failure());
        assert!(!Request::Finalize.success("").is_failure());
        assert!(!Message::line("cmd=maxes kvsname_max=256").is_failure());
    }

    #[test]
    fn an_answer_carries_the_questions_thread() {
        let question = Message::line("cmd=get_maxes thrid=0x7f");
        let answer = Request::of(&question)
            .success(" keylen_max=64")
            .to(&question);
        assert_eq!(
            answer,
            Message::line("cmd=maxes rc=0 keylen_max=64 thrid=0x7f")
        );
        let plain = Message::line("cmd=get_maxes");
        let answer = Request::GetMaxes.failure("x");
        assert_eq!(answer.clone().to(&plain), answer);
    }

    #[test]
    fn what_never_ends_is_refused() {
        let mut framer = Framer::default();
        framer.push(&vec![b'x'; LONGEST_LINE + 1]);
        assert_eq!(framer.next(), Err(TooLong));
        let mut framer = Framer::default();
        framer.push(b"mcmd=spawn\n");
        for _ in 0..LONGEST_SPAWN / 1024 + 2 {
            framer.push(&[b'x'; 1023]);
            framer.push(b"\n");
        }
        assert_eq!(framer.next(), Err(TooLong));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_made_up(stream in "(cmd=|mcmd=|[a-z]{1,4}=| |\\\\|\n|endcmd\n|totspawns=[0-9]|\\PC){0,60}", size in 1usize..9) {
            let mut framer = Framer::default();
            let mut out = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                framer.push(piece);
                while let Some(message) = framer.next().unwrap() {
                    let _ = (Request::of(&message), message.value("key"), message.is_failure());
                    prop_assert_eq!(message.bytes().last(), Some(&b'\n'));
                    out.extend_from_slice(message.bytes());
                }
            }
            out.extend_from_slice(&framer.bytes);
            prop_assert_eq!(out, stream.as_bytes());
        }
    }
}
