//! PMI-1's messages as types.
//!
//! A message is a line of `key=value` words, the first of which is `cmd=…`. Only a spawn has several lines, in one or more
//! blocks from `mcmd=spawn` to `endcmd`; `totspawns` is the number of blocks. The requests and their replies are
//! described in src/pmi/maint/pmi-1.1.txt and pmi-1.2.txt in MPICH; they are written by src/pmi/src/pmi_wire.c (parse_v1,
//! PMIU_check_full_cmd) and, before MPICH 4.1, by src/pmi/simple/simple_pmiutil.c.

use std::fmt;

/// A message as it was received, with its final line feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    /// The message of these bytes, which end with a line feed.
    pub fn new(bytes: Vec<u8>) -> Message {
        Message(bytes)
    }

    /// The message of this text, which has no line feed.
    pub fn line(text: impl fmt::Display) -> Message {
        Message(format!("{text}\n").into_bytes())
    }

    /// All bytes of it.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The word behind `cmd=` or `mcmd=`.
    pub fn command(&self) -> &[u8] {
        let equals = self.0.iter().position(|&byte| byte == b'=');
        let (_, rest) = self.0.split_at(equals.map_or(0, |at| at + 1));
        let end = rest.iter().position(|byte| b" \n".contains(byte));
        &rest[..end.unwrap_or(rest.len())]
    }

    /// The value of this key, as it was sent: a backslash in it escapes the next byte.
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
            let value = word.strip_prefix(key.as_bytes());
            if let Some(value) = value.and_then(|word| word.strip_prefix(b"=")) {
                return Some(value);
            }
            rest = &behind[1..];
        }
    }

    /// The value of this key, if it is a number.
    pub fn number<N: std::str::FromStr>(&self, key: &str) -> Option<N> {
        std::str::from_utf8(self.value(key)?).ok()?.parse().ok()
    }

    /// This message as the reply to that request. It repeats the request's `thrid`, by which a client with threads
    /// recognises its replies (PMIU_msg_set_response).
    pub fn in_reply_to(mut self, request: &Message) -> Message {
        if let Some(thread) = request.value("thrid") {
            let _ = self.0.pop();
            self.0.extend([b" thrid=", thread, b"\n"].concat());
        }
        self
    }

    /// A spawn of one process of another command, with the keys (`preput`) that this spawn's first block has.
    pub fn with_command(&self, file: &[u8], arguments: &[&[u8]]) -> Message {
        let start = [b"mcmd=spawn\nnprocs=1\nexecname=", file, b"\n"];
        let mut text = start.concat();
        text.extend_from_slice(b"totspawns=1\nspawnssofar=1\n");
        for (number, argument) in (1..).zip(arguments) {
            let key = format!("arg{number}=");
            text.extend([key.as_bytes(), argument, b"\n"].concat());
        }
        text.extend(format!("argcnt={}\n", arguments.len()).bytes());
        let lines = self.0.split_inclusive(|&byte| byte == b'\n');
        let first = lines.take_while(|line| *line != b"endcmd\n");
        for line in first.filter(|line| line.starts_with(b"preput_")) {
            text.extend_from_slice(line);
        }
        text.extend_from_slice(b"info_num=0\nendcmd\n");
        Message(text)
    }

    /// This spawn without the info keys `host` of these values: the process manager passes over a key that is not known.
    pub fn without_hosts(&self, hosts: &[String]) -> Message {
        let is_one = |value: &[u8]| hosts.iter().any(|host| host.as_bytes() == value);
        let mut text = Vec::new();
        let mut lines = self.0.split_inclusive(|&byte| byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            let key = line.strip_suffix(b"=host\n");
            let key = key.filter(|key| key.starts_with(b"info_key_"));
            let value = lines
                .peek()
                .and_then(|next| next.split(|&byte| byte == b'=').nth(1));
            match key.filter(|_| value.is_some_and(|value| is_one(value.trim_ascii_end()))) {
                Some(key) => text.extend([key, b"=left_out\n"].concat()),
                None => text.extend_from_slice(line),
            }
        }
        Message(text)
    }

    /// How many processes this spawn asks for, in all of its blocks.
    pub fn total_processes(&self) -> usize {
        let lines = self.0.split(|&byte| byte == b'\n');
        let numbers = lines.filter_map(|line| line.strip_prefix(b"nprocs="));
        let numbers = numbers.filter_map(|number| std::str::from_utf8(number).ok()?.parse().ok());
        numbers.fold(0, usize::saturating_add)
    }

    /// Whether it reports a failure: an `rc` other than 0 (PMIU_cmd_get_response).
    pub fn is_failure(&self) -> bool {
        self.number::<i64>("rc").is_some_and(|rc| rc != 0)
    }
}

/// What an MPI process asks its process manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// The start of a singleton's connection.
    SingInit,
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
    /// PMI 1.2: `group` is `NAME:TAG`, and the reply repeats the tag.
    Barrier {
        tag: Option<&'a [u8]>,
    },
    Publish,
    Unpublish,
    Lookup,
    Spawn,
    /// A request that is not implemented here.
    Other,
}

impl<'a> Request<'a> {
    /// The request of this message. A `put` without a key or a value, and a `get` without a key, are [`Request::Other`].
    pub fn of(message: &'a Message) -> Request<'a> {
        match message.command() {
            b"singinit" => Request::SingInit,
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

    /// The command of its reply. For a request that is not implemented, this is a command for which libmpi never waits:
    /// libmpi takes that for an error.
    fn reply(self) -> &'static str {
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
            Request::SingInit | Request::Abort | Request::Other => "not_known",
        }
    }

    /// Its reply on success, with these words.
    pub fn success(self, words: impl fmt::Display) -> Message {
        Message::line(format_args!("cmd={} rc=0{words}", self.reply()))
    }

    /// Its reply on failure. `reason` has no blanks.
    pub fn failure(self, reason: &str) -> Message {
        Message::line(format_args!("cmd={} rc=1 msg={reason}", self.reply()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_at_a_blank_that_is_not_escaped() {
        let put = Message::line(r"cmd=put kvsname=k key=a\ b value=c\\ d");
        let request = Request::Put {
            key: br"a\ b",
            value: br"c\\",
        };
        assert_eq!(Request::of(&put), request);
        assert_eq!(put.value("none"), None);
        assert_eq!(Request::of(&Message::line("cmd=put key=a")), Request::Other);
        assert_eq!(Request::of(&Message::line("cmd=get")), Request::Other);
    }

    #[test]
    fn a_request_is_known_by_its_command() {
        for (command, request) in [
            ("get_universe_size", Request::UniverseSize),
            ("publish_name", Request::Publish),
            ("unpublish_name", Request::Unpublish),
            ("lookup_name", Request::Lookup),
            ("no_such", Request::Other),
        ] {
            let message = Message::line(format!("cmd={command}"));
            assert_eq!(Request::of(&message), request);
        }
    }

    #[test]
    fn a_spawn_asks_for_the_processes_of_all_its_blocks() {
        let block = |number| format!("mcmd=spawn\nnprocs={number}\nexecname=nprocs=9\nendcmd\n");
        let message = Message::new((block("3") + &block("2")).into_bytes());
        assert_eq!(message.total_processes(), 5);
        let most = Message::new((block("3") + &block(&usize::MAX.to_string())).into_bytes());
        assert_eq!(most.total_processes(), usize::MAX);
        assert_eq!(Message::line("cmd=get").total_processes(), 0);
    }

    #[test]
    fn a_reply_names_its_request() {
        let barrier = Message::line("cmd=barrier_in group=WORLD:17");
        let request = Request::of(&barrier);
        assert_eq!(request, Request::Barrier { tag: Some(b"17") });
        assert_eq!(
            Request::Spawn.failure("no_launcher"),
            Message::line("cmd=spawn_result rc=1 msg=no_launcher")
        );
        assert!(Request::Spawn.failure("x").is_failure());
        assert!(!Request::Finalize.success("").is_failure());
        assert!(!Message::line("cmd=maxes kvsname_max=256").is_failure());
    }

    #[test]
    fn a_reply_repeats_the_requests_thread() {
        let request = Message::line("cmd=get_maxes thrid=0x7f");
        let reply = Request::of(&request)
            .success(" keylen_max=64")
            .in_reply_to(&request);
        assert_eq!(
            reply,
            Message::line("cmd=maxes rc=0 keylen_max=64 thrid=0x7f")
        );
        let plain = Message::line("cmd=get_maxes");
        let reply = Request::GetMaxes.failure("x");
        assert_eq!(reply.clone().in_reply_to(&plain), reply);
    }

    #[test]
    fn another_command_gets_the_first_blocks_keys() {
        let spawn = Message::new(
            b"mcmd=spawn\nnprocs=2\nexecname=./a\narg1=x\npreput_num=1\npreput_key_0=P\npreput_val_0=v\nendcmd\n\
              mcmd=spawn\npreput_num=7\nendcmd\n"
                .to_vec(),
        );
        let other = spawn.with_command(b"/bin/b", &[b"--placeholder", b"/lib/libmpi.so"]);
        let text = "mcmd=spawn\nnprocs=1\nexecname=/bin/b\ntotspawns=1\nspawnssofar=1\narg1=--placeholder\n\
                    arg2=/lib/libmpi.so\nargcnt=2\npreput_num=1\npreput_key_0=P\npreput_val_0=v\ninfo_num=0\nendcmd\n";
        assert_eq!(String::from_utf8_lossy(other.bytes()), text);
    }

    #[test]
    fn a_host_is_left_out_where_it_is_this_one() {
        let spawn = |first, third| {
            let info = "info_key_0=host\ninfo_val_0=here\ninfo_key_1=path\ninfo_val_1=host\n";
            let info = info.replace("host\ninfo_val_0", first);
            Message::line(format!(
                "mcmd=spawn\narg1=host\n{info}endcmd\nmcmd=spawn\ninfo_key_0={third}\nendcmd"
            ))
        };
        let host = "host\ninfo_val_0";
        let given = spawn(host, "host\ninfo_val_0=there");
        let left = given.without_hosts(&["here".to_owned()]);
        assert_eq!(
            left,
            spawn("left_out\ninfo_val_0", "host\ninfo_val_0=there")
        );
        assert_eq!(given.without_hosts(&[]), given);
    }
}
