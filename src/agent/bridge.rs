//! The bridge: rank 0 of a job that the agent started with `mpiexec -n 1`. The process manager takes it for the
//! application. The bridge passes the agent's requests to the process manager, and replies back, byte by byte.

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::listener::{Endpoint, Hello};
use super::read;
use crate::agent::listener::host_name;
use crate::output::eprint_prefixed;
use crate::pmi::decoder::Decoder;
use crate::pmi::message::Message;

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
    let endpoint =
        endpoint.ok_or_else(|| io::Error::other(format!("{} is not set", Endpoint::VARIABLE)))?;
    let host = match endpoint.host == host_name() {
        true => Ipv4Addr::LOCALHOST.to_string(),
        false => endpoint.host.clone(),
    };
    let mut agent = TcpStream::connect((host, endpoint.port))?;
    let _ = agent.set_nodelay(true);
    // At once: a connection without the key does not last.
    agent.write_all(endpoint.key().as_bytes())?;
    let Some(mut manager) = process_manager() else {
        return agent.write_all(Hello::NoManager.to_string().as_bytes());
    };
    // Hydra serves nobody who has not sent it, whatever the application sent to the agent.
    manager.write_all(b"cmd=init pmi_version=1 pmi_subversion=1\n")?;
    let hello = match reply(&mut manager)? {
        message if message.is_failure() => Hello::NoManager,
        _ => Hello::Ready(std::process::id()),
    };
    agent.write_all(hello.to_string().as_bytes())?;
    relay(&mut agent, manager)
}

/// The connection to the process manager, if there is one.
fn process_manager() -> Option<File> {
    let fd: i32 = env::var("PMI_FD").ok()?.parse().ok()?;
    // SAFETY: F_GETFD only asks. Whoever sets PMI_FD gives this process that descriptor, and nothing else here uses it.
    unsafe {
        (fd > 2 && libc::fcntl(fd, libc::F_GETFD) >= 0).then(|| OwnedFd::from_raw_fd(fd).into())
    }
}

fn reply(manager: &mut File) -> io::Result<Message> {
    let mut decoder = Decoder::default();
    let mut buffer = [0; 4096];
    loop {
        if let Some(message) = decoder.next().map_err(|_| io::ErrorKind::InvalidData)? {
            return Ok(message);
        }
        match read(manager, &mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => decoder.push(&buffer[..count]),
        }
    }
}

/// Both ways, until the agent hangs up. The process manager hangs up when it has received `finalize`; this process then
/// stays until the agent hangs up, as the job lasts as long as the application.
fn relay(agent: &mut TcpStream, manager: File) -> io::Result<()> {
    let mut manager = Some(manager);
    let mut buffer = vec![0; 65536];
    loop {
        let mut fds = vec![PollFd::new(agent, PollFlags::IN)];
        if let Some(manager) = &manager {
            fds.push(PollFd::from_borrowed_fd(manager.as_fd(), PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        let from_agent = is_ready(&fds[0]);
        let from_manager = fds.get(1).is_some_and(is_ready);
        drop(fds);
        if from_agent {
            match read(agent, &mut buffer) {
                Ok(0) | Err(_) => return Ok(()),
                Ok(count) => match &mut manager {
                    Some(manager) => manager.write_all(&buffer[..count])?,
                    None => return Ok(()),
                },
            }
        }
        if let Some(open) = manager.as_mut().filter(|_| from_manager) {
            match read(open, &mut buffer)? {
                0 => manager = None,
                count => agent.write_all(&buffer[..count])?,
            }
        }
    }
}
