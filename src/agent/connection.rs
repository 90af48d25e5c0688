//! A connection over which PMI messages pass: to the application's libmpi, or to the bridge of a job.

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, recv};

use crate::pmi::decoder::Decoder;
use crate::pmi::message::Message;
use crate::shared::logging::Escaped;

/// The connection. It is closed when the peer closes it, or sends what is not PMI.
pub struct Connection {
    /// In the words of the log.
    peer: String,
    stream: Option<TcpStream>,
    decoder: Decoder,
}

impl Connection {
    pub fn new(peer: String, stream: TcpStream) -> Connection {
        let _ = stream.set_nodelay(true);
        Connection {
            peer,
            stream: Some(stream),
            decoder: Decoder::default(),
        }
    }

    /// Readable when the peer has sent something or has hung up. `None`: the connection is closed.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.stream.as_ref().map(AsFd::as_fd)
    }

    /// Reads what there is, and does not wait.
    pub fn read_available(&mut self) {
        let Some(stream) = &self.stream else {
            return;
        };
        let mut buffer = [0; 65536];
        match retry_on_intr(|| recv(stream, &mut buffer[..], RecvFlags::DONTWAIT)) {
            Ok((count @ 1.., _)) => self.decoder.push(&buffer[..count]),
            Err(Errno::WOULDBLOCK) => {}
            // The end of the connection is not the application's: libmpi may close it early.
            _ => self.close(),
        }
    }

    /// The next message, if it has been read whole.
    pub fn next_message(&mut self) -> Option<Message> {
        let Ok(message) = self.decoder.next() else {
            let peer = &self.peer;
            log::error!("{peer} sends what is not PMI; closing the connection");
            self.close();
            self.decoder = Decoder::default();
            return None;
        };
        let message = message?;
        log::trace!("from {}: {}", self.peer, Escaped(message.bytes()));
        Some(message)
    }

    /// Sends a message, if the peer still listens.
    pub fn send(&mut self, message: &Message) {
        log::trace!("to {}: {}", self.peer, Escaped(message.bytes()));
        let stream = self.stream.as_mut();
        if stream.is_some_and(|stream| stream.write_all(message.bytes()).is_err()) {
            self.close();
        }
    }

    /// Closes the connection.
    pub fn close(&mut self) {
        self.stream = None;
    }
}
