//! Where an agent waits for a job's bridge, and how the bridge proves that it is the job's own.
//!
//! The agent listens at a port of its own, and gives the launcher an [`Endpoint`] in the environment: host, port, and a
//! key that only the processes of this job know. A bridge sends the key as soon as it is connected, and then one [`Hello`]
//! and a line feed. Whoever sends anything else gets no answer: any user of the host could connect.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::mpi::environment;

/// How long a connection may last without the key.
const KEY_TIME_LIMIT: Duration = Duration::from_secs(10);
/// A key, in hexadecimal digits.
const KEY_LENGTH: usize = 32;
/// The longest key and hello.
const LONGEST_HELLO: usize = 100;

/// Where a bridge finds its agent, and the key that it has to send.
#[derive(Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    key: String,
}

/// What a bridge says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hello {
    /// Its process manager serves it. Its process id, which is of use to an agent on the same host.
    Ready(u32),
    /// It has no process manager that speaks PMI-1.
    NoManager,
}

impl Endpoint {
    /// The variable in the environment of the launcher, and so of the bridge. Other users can't read it there.
    pub const VARIABLE: &str = "SPAWNFIX_BRIDGE";

    /// The endpoint of this text: `HOST PORT KEY`.
    pub fn parse(text: &str) -> Option<Endpoint> {
        let mut words = text.split(' ');
        let mut word = || words.next();
        Some(Endpoint {
            host: word()?.to_owned(),
            port: word()?.parse().ok()?,
            key: word()?.to_owned(),
        })
    }

    /// What a bridge sends first.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether this begins with the key. The time that this takes does not tell how much of the key is right.
    fn matches_key(&self, sent: &[u8]) -> bool {
        let pairs = sent.iter().zip(self.key.as_bytes());
        sent.len() >= self.key.len() && pairs.fold(0, |wrong, (a, b)| wrong | (a ^ b)) == 0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.host, self.port, self.key)
    }
}

impl Hello {
    /// What stands behind the key.
    fn parse(text: &[u8]) -> Option<Hello> {
        let text = std::str::from_utf8(text).ok()?;
        match text.split_whitespace().collect::<Vec<_>>()[..] {
            ["ready", pid] => Some(Hello::Ready(pid.parse().ok()?)),
            ["no-manager"] => Some(Hello::NoManager),
            _ => None,
        }
    }
}

impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hello::Ready(pid) => writeln!(f, " ready {pid}"),
            Hello::NoManager => writeln!(f, " no-manager"),
        }
    }
}

/// 128 bits that nobody else knows.
fn random_key() -> io::Result<String> {
    let mut bytes = [0; KEY_LENGTH / 2];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The port of one job, and the connections that have not said a hello yet.
pub struct Listener {
    listener: TcpListener,
    endpoint: Endpoint,
    peers: Vec<Peer>,
}

/// This host's name, as other hosts may know it.
pub fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

impl Listener {
    /// Listens on the loopback, or everywhere if the bridge may be on another host.
    ///
    /// # Errors
    /// The system has no descriptor, port or memory left.
    pub fn open() -> io::Result<Listener> {
        let here = match environment::hosts(|name| std::env::var_os(name).is_some()) {
            Some(_) => Ipv4Addr::UNSPECIFIED,
            None => Ipv4Addr::LOCALHOST,
        };
        let listener = TcpListener::bind((here, 0))?;
        listener.set_nonblocking(true)?;
        let endpoint = Endpoint {
            host: host_name(),
            port: listener.local_addr()?.port(),
            key: random_key()?,
        };
        Ok(Listener {
            listener,
            endpoint,
            peers: Vec::new(),
        })
    }

    /// What the bridge has to know.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The sockets to wait for.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let peers = self.peers.iter().map(|peer| peer.stream.as_fd());
        std::iter::once(self.listener.as_fd()).chain(peers)
    }

    /// Accepts and reads whatever is there, until the bridge has said its hello.
    pub fn accept_bridge(&mut self) -> Option<(Hello, TcpStream)> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if stream.set_nonblocking(true).is_ok() {
                        self.peers.push(Peer::new(stream));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // No descriptor is left, perhaps: the oldest connection without the key gives up its own.
                Err(_) => {
                    if let Some(at) = self.peers.iter().position(|peer| !peer.has_key()) {
                        self.peers.remove(at);
                    }
                    break;
                }
            }
        }
        let mut hello = None;
        let mut at = 0;
        while at < self.peers.len() && hello.is_none() {
            match self.peers[at].read(&self.endpoint) {
                Auth::Pending => at += 1,
                Auth::Rejected => drop(self.peers.remove(at)),
                Auth::Accepted(accepted) => hello = Some((accepted, self.peers.remove(at).stream)),
            }
        }
        hello
    }
}

/// A connection over which the hello has not come yet.
struct Peer {
    stream: TcpStream,
    sent: Vec<u8>,
    since: Instant,
}

/// What is known of a peer.
#[derive(Debug, PartialEq, Eq)]
enum Auth {
    Pending,
    Rejected,
    Accepted(Hello),
}

impl Peer {
    fn new(stream: TcpStream) -> Peer {
        Peer {
            stream,
            sent: Vec::new(),
            since: Instant::now(),
        }
    }

    /// Whether it has sent the key. A wrong one is rejected at once.
    fn has_key(&self) -> bool {
        self.sent.len() >= KEY_LENGTH
    }

    /// Reads what was sent so far, and not a byte behind the hello: that is for the next reader.
    fn read(&mut self, endpoint: &Endpoint) -> Auth {
        let key = endpoint.key.len();
        let mut buffer = [0; KEY_LENGTH];
        loop {
            let more = key.saturating_sub(self.sent.len()).clamp(1, buffer.len());
            match self.stream.read(&mut buffer[..more]) {
                Ok(count @ 1..) => self.sent.extend_from_slice(&buffer[..count]),
                // The bridge has sent the key at once. Its process manager may take longer.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return match self.has_key() || self.since.elapsed() < KEY_TIME_LIMIT {
                        true => Auth::Pending,
                        false => Auth::Rejected,
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                _ => return Auth::Rejected,
            }
            // Not before the whole key is there: otherwise it could be guessed digit by digit.
            if self.sent.len() < key {
                continue;
            }
            if !endpoint.matches_key(&self.sent) || self.sent.len() > LONGEST_HELLO {
                return Auth::Rejected;
            }
            if self.sent.last() == Some(&b'\n') {
                let hello = Hello::parse(&self.sent[key..]);
                return hello.map_or(Auth::Rejected, Auth::Accepted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    /// What becomes of a peer who sends this.
    fn auth(pieces: &[&str]) -> Vec<Auth> {
        let endpoint = Endpoint::parse(&format!("here 4711 {KEY}")).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut peer = Peer::new(stream);
        let mut auth = Vec::new();
        for piece in pieces {
            other.write_all(piece.as_bytes()).unwrap();
            // Until it has arrived.
            peer.stream.set_nonblocking(false).unwrap();
            let _ = peer.stream.peek(&mut [0]);
            peer.stream.set_nonblocking(true).unwrap();
            auth.push(peer.read(&endpoint));
        }
        auth
    }

    #[test]
    fn the_key_and_a_hello_are_accepted_and_nothing_else() {
        use Auth::{Accepted, Pending, Rejected};
        let ready = Accepted(Hello::Ready(7));
        assert_eq!(auth(&[KEY, " ready 7\n"]), [Pending, ready]);
        let no_manager = Accepted(Hello::NoManager);
        assert_eq!(auth(&[&format!("{KEY} no-manager\n")]), [no_manager]);
        let wrong = KEY.replace('f', "e");
        assert_eq!(auth(&[&format!("{wrong} ready 7\n")]), [Rejected]);
        assert_eq!(auth(&[&KEY[1..], " ready 7\n"]), [Pending, Rejected]);
        assert_eq!(auth(&[KEY, " ready x\n"]), [Pending, Rejected]);
        assert_eq!(auth(&[KEY, &" ".repeat(100)]), [Pending, Rejected]);
    }

    #[test]
    fn a_wrong_digit_is_not_noticed_before_the_last_one() {
        let half = &KEY[..16];
        let pieces = |half| auth(&[half, &"0".repeat(15), "0"]);
        assert_eq!(pieces(half), [Auth::Pending, Auth::Pending, Auth::Rejected]);
        assert_eq!(pieces(&half.replace('0', "1")), pieces(half));
    }

    #[test]
    fn what_is_behind_the_hello_is_for_the_next_reader() {
        let ready = Auth::Accepted(Hello::Ready(7));
        assert_eq!(auth(&[&format!("{KEY} ready 7\ncmd=x\n")]), [ready]);
    }

    #[test]
    fn whoever_is_silent_is_hung_up_on() {
        let mut listener = Listener::open().unwrap();
        let address = (Ipv4Addr::LOCALHOST, listener.endpoint.port);
        let mut silent = TcpStream::connect(address).unwrap();
        assert!(listener.accept_bridge().is_none());
        assert_eq!(listener.peers.len(), 1);
        listener.peers[0].since = Instant::now().checked_sub(KEY_TIME_LIMIT).unwrap();
        let mut bridge = TcpStream::connect(address).unwrap();
        let hello = format!("{}{}", listener.endpoint.key, Hello::Ready(7));
        bridge.write_all(hello.as_bytes()).unwrap();
        let accepted = loop {
            if let Some((hello, _)) = listener.accept_bridge() {
                break hello;
            }
        };
        assert_eq!(accepted, Hello::Ready(7));
        let mut received = Vec::new();
        silent.read_to_end(&mut received).unwrap();
        assert!(received.is_empty(), "it gets no answer");
    }
}
