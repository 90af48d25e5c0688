//! How a bridge finds its agent, and makes itself known to it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use crate::mpi::hosts::host_name;

/// A key, in hexadecimal digits.
pub const KEY_LENGTH: usize = 32;
/// Whoever says more before a line's end has not greeted.
pub const LONGEST_GREETING: usize = 100;

/// Where a bridge finds its agent, and the key that only the two know: loopback or not, anyone could connect.
#[derive(Debug, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
    key: String,
}

/// What a bridge says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Its process manager serves it. Its process id, which is of use to an agent on the same host.
    Ready(u32),
    /// There is no process manager that speaks PMI-1 to it.
    NoManager,
}

impl Address {
    /// In the environment of mpiexec, and so of the bridge. Other users can't read it there.
    pub const VARIABLE: &str = "SPAWNFIX_BRIDGE";

    /// That of an agent at this port of this host, with a key of its own.
    ///
    /// # Errors
    /// There are no resources for that.
    pub fn new(port: u16) -> io::Result<Address> {
        Ok(Address {
            host: host_name(),
            port,
            key: key()?,
        })
    }

    pub fn parse(text: &str) -> Option<Address> {
        let mut words = text.split(' ');
        let mut word = || words.next();
        Some(Address {
            host: word()?.to_owned(),
            port: word()?.parse().ok()?,
            key: word()?.to_owned(),
        })
    }

    /// The line by which a bridge makes itself known.
    pub fn greeting(&self, greeting: Greeting) -> String {
        match greeting {
            Greeting::Ready(pid) => format!("{} ready {pid}\n", self.key),
            Greeting::NoManager => format!("{} no-manager\n", self.key),
        }
    }

    /// What a greeting begins with: a bridge says it as soon as it is connected, and the rest when it knows it.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether this begins with the key. Whatever is wrong with it, that takes the same time.
    pub fn is_known_to(&self, said: &[u8]) -> bool {
        let pairs = said.iter().zip(self.key.as_bytes());
        said.len() >= self.key.len() && pairs.fold(0, |wrong, (a, b)| wrong | (a ^ b)) == 0
    }

    /// What this line, of one who knows the key, says behind it.
    pub fn greeted(&self, line: &[u8]) -> Option<Greeting> {
        let words = std::str::from_utf8(line.get(self.key.len()..)?).ok()?;
        match words.split_whitespace().collect::<Vec<_>>()[..] {
            ["ready", pid] => Some(Greeting::Ready(pid.parse().ok()?)),
            ["no-manager"] => Some(Greeting::NoManager),
            _ => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.host, self.port, self.key)
    }
}

/// 128 bits that nobody else knows.
fn key() -> io::Result<String> {
    let mut bytes = [0; KEY_LENGTH / 2];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
