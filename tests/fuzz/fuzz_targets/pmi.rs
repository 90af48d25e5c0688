//! Lines of PMI, from a program or from its process manager: the first byte says in what pieces they come.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spawnfix_fuzz::pmi::decoder::Decoder;
use spawnfix_fuzz::pmi::message::{Message, Request};

/// The messages of a stream that comes in pieces of this size.
fn messages(stream: &[u8], size: usize) -> Vec<Message> {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    for piece in stream.chunks(size.max(1)) {
        decoder.push(piece);
        while let Some(message) = decoder.next().expect("it is shorter than the limits") {
            messages.push(message);
        }
    }
    messages
}

fuzz_target!(|input: &[u8]| {
    let Some((size, stream)) = input.split_first() else {
        return;
    };
    let found = messages(stream, usize::from(*size));
    assert_eq!(found, messages(stream, stream.len()), "whatever the pieces");
    let all: Vec<u8> = found.iter().flat_map(Message::bytes).copied().collect();
    assert!(stream.starts_with(&all), "nothing is lost or made up");
    for message in &found {
        assert_eq!(message.bytes().last(), Some(&b'\n'));
        // What was read is read the same when it is written again.
        assert_eq!(messages(message.bytes(), 1), [message.clone()]);
        let request = Request::of(message);
        // A number that was read prints as one that is read.
        for key in ["rc", "totspawns", "nprocs", "pmi_subversion"] {
            if let Some(number) = message.number::<i64>(key) {
                let line = Message::line(format_args!("cmd=x {key}={number}"));
                assert_eq!(line.number(key), Some(number));
            }
        }
        if let (Request::Put { key, value }, Ok(_)) =
            (request, std::str::from_utf8(message.bytes()))
        {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let line = format!("cmd=put key={} value={}", text(key), text(value));
            if !message.bytes().starts_with(b"mcmd=") {
                let again = Message::line(&line);
                assert_eq!(Request::of(&again), request);
            }
        }
        // An answer is one line, is what it says it is, and has the question's thread.
        for (answer, fails) in [
            (request.success(" a=b"), false),
            (request.failure("why"), true),
        ] {
            let answer = answer.in_reply_to(message);
            assert_eq!(messages(answer.bytes(), 3), [answer.clone()]);
            assert_eq!(answer.is_failure(), fails);
            if !message.bytes().starts_with(b"mcmd=") {
                assert_eq!(answer.value("thrid"), message.value("thrid"));
            }
        }
    }
});
