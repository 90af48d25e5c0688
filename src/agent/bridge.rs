//! The bridge: rank 0 of a job that the agent started with `mpiexec -n 1`. The process manager takes it for the
//! application. The bridge passes the agent's requests to the process manager, and replies back, byte by byte.

use std::env;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::listener::{Endpoint, KEY_LENGTH, addresses};
use crate::output::eprint_prefixed;
use crate::pmi::message::Message;

/// How long it may take until the agent's host accepts a connection, and until the agent answers.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Runs until the agent hangs up. A bridge that ends before it said `finalize` is, for the process manager, a process
/// that crashed: the process manager ends the job.
pub fn main() -> ExitCode {
    // The process manager forwards the terminal's signals to all its processes; they are meant for the children.
    for signal in [
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTSTP,
        libc::SIGHUP,
        libc::SIGUSR1,
        libc::SIGUSR2,
    ] {
        // SAFETY: signal takes no pointers here.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint_prefixed(format_args!(
                "the bridge to the process manager failed: {error}"
            ));
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let endpoint = env::var(Endpoint::VARIABLE).ok();
    let endpoint = endpoint.and_then(|text| Endpoint::parse(&text));
    let mut endpoint =
        endpoint.ok_or_else(|| io::Error::other(format!("{} is not set", Endpoint::VARIABLE)))?;
    // On another host, an address that both hosts have (the loopback, a container's bridge) leads to that host itself, where
    // somebody else may listen for the key.
    let own = addresses();
    if endpoint
        .hosts
        .iter()
        .skip(1)
        .any(|host| !own.contains(host))
    {
        endpoint.hosts.retain(|host| !own.contains(host));
    }
    let manager = match process_manager() {
        Some(manager) => is_served_by(&manager)?.then_some(&*Box::leak(Box::new(manager))),
        None => None,
    };
    let mut agent = connect(&endpoint, manager)?;
    if let Some(mut manager) = manager {
        // The process manager hangs up when it has received `finalize`. This process stays until the agent hangs up, as
        // the job lasts as long as the application.
        let _ = io::copy(&mut agent, &mut manager);
    }
    Ok(())
}

/// The connection to the process manager, if there is one.
fn process_manager() -> Option<File> {
    let fd: i32 = env::var("PMI_FD").ok()?.parse().ok()?;
    // SAFETY: F_GETFD only asks. Whoever sets PMI_FD gives this process that descriptor, and nothing else here uses it.
    unsafe {
        (fd > 2 && libc::fcntl(fd, libc::F_GETFD) >= 0).then(|| OwnedFd::from_raw_fd(fd).into())
    }
}

/// Whether this process manager accepts PMI-1's first request. Hydra serves nobody who has not sent it, whatever the
/// application sent to the agent.
fn is_served_by(mut manager: &File) -> io::Result<bool> {
    manager.write_all(b"cmd=init pmi_version=1 pmi_subversion=1\n")?;
    let mut reply = Vec::new();
    BufReader::new(manager.take(4096)).read_until(b'\n', &mut reply)?;
    match reply.last() {
        Some(b'\n') => Ok(!Message::new(reply).is_failure()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Connects to the address of the agent that answers, and passes the process manager's replies to it, in a thread: the
/// agent counts on a bridge that has greeted it.
fn connect(endpoint: &Endpoint, manager: Option<&'static File>) -> io::Result<&'static TcpStream> {
    let pid = manager.map_or(0, |_| std::process::id());
    let (sender, connections) = mpsc::channel();
    for host in endpoint.hosts.clone() {
        let (sender, port, hello) = (sender.clone(), endpoint.port, endpoint.hello(pid));
        thread::Builder::new().spawn(move || {
            let stream: &TcpStream = Box::leak(Box::new(greet(&host, port, &hello)?));
            let _ = sender.send(stream);
            manager.map_or(Ok(0), |mut manager| io::copy(&mut manager, &mut &*stream))
        })?;
    }
    drop(sender);
    connections.recv().map_err(|_| {
        let (port, hosts) = (endpoint.port, endpoint.hosts.join(", "));
        io::Error::other(format!("no agent answers at port {port} of {hosts}"))
    })
}

fn greet(host: &str, port: u16, hello: &str) -> io::Result<TcpStream> {
    let address = (host, port).to_socket_addrs()?.find(|to| to.is_ipv4());
    let address = address.ok_or(io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    let _ = stream.set_nodelay(true);
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(hello.as_bytes())?;
    let mut answer = [0; KEY_LENGTH];
    stream.read_exact(&mut answer)?;
    match hello.as_bytes().starts_with(&answer) {
        true => stream.set_read_timeout(None).map(|()| stream),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}
