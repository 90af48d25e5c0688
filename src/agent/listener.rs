//! The port at which a job's bridge is awaited, and those who come there.

use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use crate::agent::greeting::{Address, Greeting, KEY_LENGTH, LONGEST_GREETING};
use crate::mpi::hosts;

/// How long a stranger may be silent, and how many there may be at a time: the oldest makes room.
const PATIENCE: Duration = Duration::from_secs(10);
const MOST_STRANGERS: usize = 256;
/// How many may come before anything else is attended to.
const MOST_AT_A_TIME: usize = 512;
/// How long to rest when there is nothing to accept one with.
const REST: Duration = Duration::from_millis(10);
/// How many may wait to be accepted: as many as Linux allows (net.core.somaxconn). std asks for 128.
const BACKLOG: libc::c_int = 4096;

/// A port, and who has come to it.
pub struct Reception {
    listener: TcpListener,
    address: Address,
    strangers: Vec<Stranger>,
}

impl Reception {
    /// Opens one: on the loopback, unless the bridge may be on another host.
    ///
    /// # Errors
    /// There are no resources for that.
    pub fn open() -> io::Result<Reception> {
        let here = if hosts::told_of_hosts().is_some() {
            Ipv4Addr::UNSPECIFIED
        } else {
            Ipv4Addr::LOCALHOST
        };
        let listener = TcpListener::bind((here, 0))?;
        listener.set_nonblocking(true)?;
        // SAFETY: listen takes no pointers; the socket listens already, and goes on with a longer queue.
        unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) };
        let address = Address::new(listener.local_addr()?.port())?;
        Ok(Reception {
            listener,
            address,
            strangers: Vec::new(),
        })
    }

    /// What the bridge is told.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The sockets on which something may happen.
    pub fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        let mut all = vec![self.listener.as_fd()];
        all.extend(
            self.strangers
                .iter()
                .map(|stranger| stranger.stream.as_fd()),
        );
        all
    }

    /// Sees to who comes, until the one comes who knows the key. `ready` tells, in the order of [`Reception::sockets`],
    /// on which something happened.
    pub fn receive(&mut self, ready: &[bool]) -> Option<(Greeting, TcpStream)> {
        let Reception {
            listener,
            address,
            strangers,
        } = self;
        let mut known = None;
        for (at, mut stranger) in std::mem::take(strangers).into_iter().enumerate() {
            let heard = match ready.get(at + 1) {
                Some(true) => stranger.hear(address),
                _ => stranger.waits(),
            };
            match heard {
                Heard::Waits => strangers.push(stranger),
                Heard::Dismissed => {}
                Heard::Greeted(greeting) => known = Some((greeting, stranger.stream)),
            }
        }
        let mut most = MOST_AT_A_TIME;
        while known.is_none() && ready.first() == Some(&true) && most > 0 {
            most -= 1;
            let mut stranger = match listener.accept() {
                Ok((stream, _)) => match stream.set_nonblocking(true) {
                    Ok(()) => Stranger::new(stream),
                    Err(_) => continue,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // No more descriptors or memory, and nobody to make room: there may be some later.
                Err(error) if strangers.is_empty() && lacks(&error) => {
                    thread::sleep(REST);
                    break;
                }
                // The same, or it has gone already.
                Err(_) => {
                    known = make_room(strangers, address);
                    continue;
                }
            };
            match stranger.hear(address) {
                Heard::Dismissed => {}
                Heard::Greeted(greeting) => known = Some((greeting, stranger.stream)),
                Heard::Waits => {
                    if strangers.len() >= MOST_STRANGERS {
                        known = make_room(strangers, address);
                    }
                    strangers.push(stranger);
                }
            }
        }
        known
    }
}

/// Whether it is this host that has no more to give.
fn lacks(error: &io::Error) -> bool {
    let lacking = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error
        .raw_os_error()
        .is_some_and(|errno| lacking.contains(&errno))
}

/// Hangs up on the stranger that has been there longest without the key. It is heard a last time: it may be the bridge.
fn make_room(strangers: &mut Vec<Stranger>, address: &Address) -> Option<(Greeting, TcpStream)> {
    let unknown = |stranger: &Stranger| stranger.said.len() < KEY_LENGTH;
    let at = strangers.iter().position(unknown)?;
    match strangers[at].hear(address) {
        Heard::Greeted(greeting) => return Some((greeting, strangers.remove(at).stream)),
        Heard::Waits if !unknown(&strangers[at]) => {}
        _ => drop(strangers.remove(at)),
    }
    None
}

/// A connection over which nobody has made itself known yet. Any user of this host, or of others, may have opened it,
/// and thousands more, to keep the bridge from being heard.
struct Stranger {
    stream: TcpStream,
    said: Vec<u8>,
    since: Instant,
}

/// What came of a stranger.
enum Heard {
    /// It may say more.
    Waits,
    /// It has hung up, or is to be hung up on.
    Dismissed,
    Greeted(Greeting),
}

impl Stranger {
    fn new(stream: TcpStream) -> Stranger {
        Stranger {
            stream,
            said: Vec::new(),
            since: Instant::now(),
        }
    }

    /// Hears what it has to say by now, and not a byte behind its greeting: that is for the next reader.
    fn hear(&mut self, address: &Address) -> Heard {
        let key = address.key().len();
        let mut buffer = [0; 64];
        loop {
            let more = key.saturating_sub(self.said.len()).clamp(1, buffer.len());
            match self.stream.read(&mut buffer[..more]) {
                Ok(count @ 1..) => self.said.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock || lacks(&error) => {
                    return self.waits();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                _ => return Heard::Dismissed,
            }
            // Not before it has said as much as a key is: it would find the key out digit by digit.
            if self.said.len() < key {
                continue;
            }
            if !address.is_known_to(&self.said) {
                return Heard::Dismissed;
            }
            if self.said.last() == Some(&b'\n') || self.said.len() > LONGEST_GREETING {
                let greeting = address.greeted(&self.said);
                return greeting.map_or(Heard::Dismissed, Heard::Greeted);
            }
        }
    }

    /// One that knows the key is the bridge, and has all the time that its process manager takes.
    fn waits(&self) -> Heard {
        if self.said.len() >= KEY_LENGTH || self.since.elapsed() < PATIENCE {
            Heard::Waits
        } else {
            Heard::Dismissed
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn address() -> Address {
        Address::parse(&format!("here 4711 {KEY}")).unwrap()
    }

    /// What the agent makes of one who says this.
    fn heard(pieces: &[&str]) -> Vec<&'static str> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut stranger = Stranger::new(stream);
        let mut heard = Vec::new();
        for piece in pieces {
            other.write_all(piece.as_bytes()).unwrap();
            // Until it is there.
            stranger.stream.set_nonblocking(false).unwrap();
            let _ = stranger.stream.peek(&mut [0]);
            stranger.stream.set_nonblocking(true).unwrap();
            heard.push(match stranger.hear(&address()) {
                Heard::Waits => "waits",
                Heard::Dismissed => "dismissed",
                Heard::Greeted(Greeting::Ready(7)) => "ready",
                Heard::Greeted(_) => "no manager",
            });
        }
        heard
    }

    #[test]
    fn who_knows_the_key_is_greeted_and_nobody_else() {
        assert_eq!(heard(&[KEY, " ready 7\n"]), ["waits", "ready"]);
        assert_eq!(heard(&[&format!("{KEY} no-manager\n")]), ["no manager"]);
        let wrong = KEY.replace('f', "e");
        assert_eq!(heard(&[&format!("{wrong} ready 7\n")]), ["dismissed"]);
        assert_eq!(heard(&[&KEY[1..], " ready 7\n"]), ["waits", "dismissed"]);
        assert_eq!(heard(&[KEY, &" ".repeat(100)]), ["waits", "dismissed"]);
    }

    #[test]
    fn a_wrong_digit_is_no_news_before_the_last_one() {
        let half = &KEY[..16];
        let pieces = |half| heard(&[half, &"0".repeat(15), "0"]);
        assert_eq!(pieces(half), ["waits", "waits", "dismissed"]);
        assert_eq!(pieces(&half.replace('0', "1")), pieces(half));
    }

    #[test]
    fn what_is_behind_the_greeting_is_for_the_next_reader() {
        assert_eq!(heard(&[&format!("{KEY} ready 7\ncmd=x\n")]), ["ready"]);
    }
}
