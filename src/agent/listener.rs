//! Where an agent waits for a job's bridge, and how the bridge proves that it is the job's own.
//!
//! The agent listens at a port of its own, and gives the launcher an [`Endpoint`] in the environment: a key that only the
//! processes of this job know, the port, and the addresses by which this host may be reached. The bridge sends the key and
//! its process id to each address at once ([`Endpoint::hello`]). The agent answers with the key. Whoever sends anything
//! else gets no answer: any user of the host could connect.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::context::Context;

/// How long a connection may last without the key.
const KEY_TIME_LIMIT: Duration = Duration::from_secs(10);
/// A key, in hexadecimal digits.
pub const KEY_LENGTH: usize = 32;
/// A key and a process id.
const HELLO_LENGTH: usize = KEY_LENGTH + 8;

/// Where a bridge finds its agent, and the key that it has to send.
#[derive(Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub key: String,
    pub port: u16,
    pub hosts: Vec<String>,
}

impl Endpoint {
    /// The variable in the environment of the launcher, and so of the bridge. Other users can't read it there.
    pub const VARIABLE: &str = "SPAWNFIX_BRIDGE";

    /// The endpoint of this text: `KEY PORT HOST…`.
    pub fn parse(text: &str) -> Option<Endpoint> {
        let mut words = text.split(' ').map(str::to_owned);
        Some(Endpoint {
            key: words.next()?,
            port: words.next()?.parse().ok()?,
            hosts: words.collect(),
        })
    }

    /// What a bridge sends: the key, and its process id, which is of use to an agent on the same host. 0: it has no process
    /// manager that speaks PMI-1.
    pub fn hello(&self, pid: u32) -> String {
        format!("{}{pid:08x}", self.key)
    }

    /// The process id in this hello, if the key is right. The time that this takes does not tell how much of the key is.
    fn accept(&self, hello: &[u8]) -> Option<u32> {
        let (key, pid) = hello.split_at_checked(KEY_LENGTH)?;
        let pairs = key.iter().zip(self.key.as_bytes());
        let wrong = pairs.fold(0, |wrong, (a, b)| wrong | (a ^ b));
        let pid = u32::from_str_radix(std::str::from_utf8(pid).ok()?, 16).ok()?;
        (wrong == 0).then_some(pid)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.key, self.port, self.hosts.join(" "))
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
    pub endpoint: Endpoint,
    peers: Vec<Peer>,
}

/// This host's name, as other hosts may know it.
pub fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// By which names and IPv4 addresses this host may be reached: in the table, an address is above each `/32 host LOCAL`.
pub fn addresses() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let lines = table.lines().zip(table.lines().skip(1));
    let local = lines.filter(|(_, next)| next.trim() == "/32 host LOCAL");
    let addresses: BTreeSet<_> = local
        .filter_map(|(line, _)| line.rsplit(' ').next())
        .collect();
    let addresses = addresses.into_iter().map(str::to_owned);
    std::iter::once(host_name()).chain(addresses).collect()
}

/// The ports at which the user lets hydra listen, as `LOW:HIGH` (HYDU_sock_listen in MPICH's
/// src/pm/hydra/lib/utils/sock.c), or any.
fn ports(context: &Context) -> RangeInclusive<u16> {
    const VARIABLES: [&str; 4] = [
        "MPIEXEC_PORT_RANGE",
        "HYDRA_PORT_RANGE",
        "I_MPI_PORT_RANGE",
        "MPICH_PORT_RANGE",
    ];
    let text = VARIABLES.iter().find_map(|name| context.variable(name));
    let range = text.and_then(|text| {
        let (low, high) = text.to_str()?.split_once(':')?;
        Some(low.trim().parse().ok()?..=high.trim().parse().ok()?)
    });
    range.unwrap_or(0..=0)
}

impl Listener {
    /// Listens on the loopback, or everywhere if the bridge may be on another host.
    ///
    /// # Errors
    /// The system has no descriptor, port or memory left.
    pub fn open(context: &Context) -> io::Result<Listener> {
        let local = Ipv4Addr::LOCALHOST;
        let (here, hosts) = match context.hosts() {
            Some(_) => (Ipv4Addr::UNSPECIFIED, addresses()),
            None => (local, vec![local.to_string()]),
        };
        let ports = ports(context).map(|port| SocketAddr::from((here, port)));
        let listener = TcpListener::bind(&*ports.collect::<Vec<_>>())?;
        listener.set_nonblocking(true)?;
        let endpoint = Endpoint {
            key: random_key()?,
            port: listener.local_addr()?.port(),
            hosts,
        };
        Ok(Listener {
            listener,
            endpoint,
            peers: Vec::new(),
        })
    }

    /// The sockets to wait for.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let peers = self.peers.iter().map(|peer| peer.stream.as_fd());
        std::iter::once(self.listener.as_fd()).chain(peers)
    }

    /// Accepts and reads whatever is there, until the bridge has said its hello: its process id, or 0, and the connection.
    pub fn accept_bridge(&mut self) -> Option<(u32, TcpStream)> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.peers.extend(Peer::new(stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // No descriptor is left, perhaps: the oldest connection gives up its own.
                Err(_) => {
                    self.peers.drain(..1.min(self.peers.len()));
                    break;
                }
            }
        }
        let mut at = 0;
        while let Some(peer) = self.peers.get_mut(at) {
            match peer.read(&self.endpoint) {
                Poll::Pending => at += 1,
                Poll::Ready(None) => drop(self.peers.remove(at)),
                Poll::Ready(Some(pid)) => {
                    let mut stream = self.peers.remove(at).stream;
                    let _ = stream.set_nonblocking(false);
                    // If the bridge is gone, the next read shows it.
                    let _ = stream.write_all(self.endpoint.key.as_bytes());
                    return Some((pid, stream));
                }
            }
        }
        None
    }
}

/// A connection over which the hello has not come yet.
struct Peer {
    stream: TcpStream,
    sent: Vec<u8>,
    since: Instant,
}

impl Peer {
    fn new(stream: TcpStream) -> Option<Peer> {
        stream.set_nonblocking(true).ok()?;
        Some(Peer {
            stream,
            sent: Vec::new(),
            since: Instant::now(),
        })
    }

    /// Reads what was sent so far, and not a byte behind the hello. Ready: the bridge's process id, or `None` if this is not
    /// the bridge. A key is not looked at before the whole hello is there: it could be guessed digit by digit.
    fn read(&mut self, endpoint: &Endpoint) -> Poll<Option<u32>> {
        let missing = HELLO_LENGTH - self.sent.len();
        // What was read before an error is kept.
        let mut rest = (&self.stream).take(missing as u64);
        match rest.read_to_end(&mut self.sent) {
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock
                    && self.since.elapsed() < KEY_TIME_LIMIT =>
            {
                Poll::Pending
            }
            _ => Poll::Ready(endpoint.accept(&self.sent)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::rc::Rc;

    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    /// What becomes of a peer who sends this.
    fn auth(pieces: &[&str]) -> Vec<Poll<Option<u32>>> {
        let endpoint = Endpoint::parse(&format!("{KEY} 4711 here there")).unwrap();
        assert_eq!(endpoint.hosts, ["here", "there"]);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut peer = Peer::new(stream).unwrap();
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

    /// A context with these variables.
    fn context(variables: &[(&str, &str)]) -> Context {
        let variables = variables.iter();
        let environment = variables.map(|(name, value)| (name.into(), value.into()));
        Context {
            environment: Rc::new(environment.collect()),
            directory: None,
            entrance: PathBuf::new(),
        }
    }

    #[test]
    fn the_port_is_one_of_the_users_range() {
        for (name, range, expected) in [
            ("MPIEXEC_PORT_RANGE", "50000:50100", 50000..=50100),
            ("MPICH_PORT_RANGE", "7:7", 7..=7),
            ("MPICH_PORT_RANGE", "50000-50100", 0..=0),
            ("PORT_RANGE", "7:7", 0..=0),
        ] {
            assert_eq!(ports(&context(&[(name, range)])), expected);
        }
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let range = |high| context(&[("I_MPI_PORT_RANGE", &format!("{port}:{high}"))]);
        assert!(Listener::open(&range(port)).is_err());
        let listener = Listener::open(&range(port.saturating_add(50))).unwrap();
        assert!((port + 1..=port + 50).contains(&listener.endpoint.port));
    }

    #[test]
    fn a_host_is_reached_by_its_name_and_each_of_its_addresses() {
        let all = addresses();
        assert_eq!(all[0], host_name());
        assert!(all.contains(&"127.0.0.1".to_owned()), "{all:?}");
        let here = Listener::open(&context(&[])).unwrap();
        assert_eq!(here.endpoint.hosts, ["127.0.0.1"]);
        let everywhere = Listener::open(&context(&[("SLURM_JOB_ID", "1")])).unwrap();
        assert_eq!(everywhere.endpoint.hosts, all);
    }

    const REJECTED: Poll<Option<u32>> = Poll::Ready(None);

    #[test]
    fn the_key_and_a_process_id_are_accepted_and_nothing_else() {
        let ready = Poll::Ready(Some(0x1267));
        assert_eq!(auth(&[KEY, "00001267"]), [Poll::Pending, ready]);
        assert_eq!(auth(&[KEY, "00001267", "cmd=x"])[1], ready);
        let wrong = KEY.replace('f', "e");
        assert_eq!(auth(&[&format!("{wrong}00001267")]), [REJECTED]);
        assert_eq!(auth(&[&KEY[1..], "000012670"]), [Poll::Pending, REJECTED]);
        assert_eq!(auth(&[KEY, "0000126x"]), [Poll::Pending, REJECTED]);
    }

    #[test]
    fn a_wrong_digit_is_not_noticed_before_the_last_one() {
        let half = &KEY[..16];
        let pieces = |half| auth(&[half, &"0".repeat(23), "0"]);
        assert_eq!(pieces(half), [Poll::Pending, Poll::Pending, REJECTED]);
        assert_eq!(pieces(&half.replace('0', "1")), pieces(half));
    }

    #[test]
    fn whoever_is_silent_is_hung_up_on() {
        let mut listener = Listener::open(&context(&[])).unwrap();
        let address = (Ipv4Addr::LOCALHOST, listener.endpoint.port);
        let mut silent = TcpStream::connect(address).unwrap();
        assert!(listener.accept_bridge().is_none());
        assert_eq!(listener.peers.len(), 1);
        listener.peers[0].since = Instant::now().checked_sub(KEY_TIME_LIMIT).unwrap();
        let mut bridge = TcpStream::connect(address).unwrap();
        bridge
            .write_all(listener.endpoint.hello(7).as_bytes())
            .unwrap();
        let pid = loop {
            if let Some((pid, _)) = listener.accept_bridge() {
                break pid;
            }
        };
        assert_eq!(pid, 7);
        let mut answer = String::new();
        bridge.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, listener.endpoint.key);
        let mut received = Vec::new();
        silent.read_to_end(&mut received).unwrap();
        assert!(received.is_empty(), "it gets no answer");
    }
}
