//! The connection to the application's libmpi, over which it sends PMI requests.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use super::read;
use crate::pmi::decoder::Decoder;
use crate::pmi::message::Message;
use crate::shared::logging::Escaped;

/// The connection. It is closed when libmpi closes it, or sends what is not PMI.
pub struct AppConnection {
    stream: Option<TcpStream>,
    decoder: Decoder,
}

impl AppConnection {
    /// Connects to the port at which libmpi waits, and sends a first message.
    ///
    /// # Errors
    /// Nobody listens at this port, or the system has no descriptor or memory left.
    pub fn open(port: u16, hello: &Message) -> io::Result<AppConnection> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        let _ = stream.set_nodelay(true);
        stream.write_all(hello.bytes())?;
        Ok(AppConnection {
            stream: Some(stream),
            decoder: Decoder::default(),
        })
    }

    /// Readable when libmpi has sent something or has hung up. `None`: the connection is closed.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.stream.as_ref().map(AsFd::as_fd)
    }

    /// Reads what libmpi has sent.
    pub fn read_available(&mut self) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let mut buffer = [0; 65536];
        match read(stream, &mut buffer) {
            // The end of the connection is not the application's: children may hold the connection open, and libmpi may
            // close it early.
            Ok(0) | Err(_) => self.close(),
            Ok(count) => self.decoder.push(&buffer[..count]),
        }
    }

    /// The next request, if it has been read whole.
    pub fn next_request(&mut self) -> Option<Message> {
        match self.decoder.next() {
            Ok(message) => {
                if let Some(message) = &message {
                    log::trace!("from the application: {}", Escaped(message.bytes()));
                }
                message
            }
            Err(_) => {
                log::error!("the application sends what is not PMI; closing the connection");
                self.close();
                self.decoder = Decoder::default();
                None
            }
        }
    }

    /// Sends a reply, if libmpi still listens.
    pub fn send(&mut self, message: &Message) {
        log::trace!("to the application: {}", Escaped(message.bytes()));
        let sent = match &mut self.stream {
            Some(stream) => stream.write_all(message.bytes()),
            None => Ok(()),
        };
        if sent.is_err() {
            self.close();
        }
    }

    /// Closes the connection.
    pub fn close(&mut self) {
        if let Some(stream) = self.stream.take() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
