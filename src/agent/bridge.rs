//! The bridge: rank 0 of a job that the agent started with `mpiexec -n 1`. The process manager takes it for the
//! program: what the agent says goes to the process manager, and what that answers to the agent, byte by byte.

use std::env;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::agent::greeting::{Address, Greeting};
use crate::agent::patient;
use crate::mpi::hosts::host_name;
use crate::output::eprint_prefixed;
use crate::pmi::message::{Framer, Message};

/// How long to go on trying to get through to an agent at whose port there is a crowd.
const PATIENCE: Duration = Duration::from_secs(30);
/// And how long to rest in between.
const REST: Duration = Duration::from_millis(1);

/// Runs until the agent hangs up. A bridge that ends before it said `finalize` is, for the process manager, a process
/// that failed: it ends the job.
pub fn main() -> ExitCode {
    // What the process manager passes on of a terminal's signals is for the children.
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
                "the bridge to the process manager broke: {error}"
            ));
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let address = env::var(Address::VARIABLE)
        .ok()
        .and_then(|text| Address::parse(&text));
    let address =
        address.ok_or_else(|| io::Error::other(format!("{} is not set", Address::VARIABLE)))?;
    let since = Instant::now();
    // The agent hears at once who this is: others may be at its port.
    let agent = connect(&address, since)?;
    let Some(mut manager) = process_manager() else {
        return greet(agent, &address, Greeting::NoManager, since).map(drop);
    };
    // Hydra serves nobody who has not said it, whatever the program said to the agent.
    patient::write_all(&mut manager, b"cmd=init pmi_version=1 pmi_subversion=1\n")?;
    let greeting = match answer(&mut manager)? {
        message if message.is_failure() => Greeting::NoManager,
        _ => Greeting::Ready(std::process::id()),
    };
    let mut agent = greet(agent, &address, greeting, since)?;
    pass_on(&mut agent, manager)
}

/// Connects to the agent, and shows it the key. Where there is a crowd, the agent may have hung up before it was heard.
fn connect(address: &Address, since: Instant) -> io::Result<TcpStream> {
    loop {
        let connected = match host_name() {
            here if here == address.host => TcpStream::connect((Ipv4Addr::LOCALHOST, address.port)),
            _ => TcpStream::connect((address.host.as_str(), address.port)),
        };
        let shown = connected.and_then(|mut agent| {
            let _ = agent.set_nodelay(true);
            patient::write_all(&mut agent, address.key().as_bytes())?;
            Ok(agent)
        });
        match shown {
            Err(error) if may_come(&error) && since.elapsed() < PATIENCE => thread::sleep(REST),
            result => return result,
        }
    }
}

/// Says the rest of the greeting, over this connection or a new one.
fn greet(
    mut agent: TcpStream,
    address: &Address,
    greeting: Greeting,
    since: Instant,
) -> io::Result<TcpStream> {
    let greeting = address.greeting(greeting);
    let rest = &greeting.as_bytes()[address.key().len()..];
    loop {
        match patient::write_all(&mut agent, rest) {
            Err(error) if is_hung_up(&error) && since.elapsed() < PATIENCE => {
                agent = connect(address, since)?;
            }
            result => return result.map(|()| agent),
        }
    }
}

/// Whether another try may get through.
fn may_come(error: &io::Error) -> bool {
    is_hung_up(error)
        || patient::passes(error)
        || matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

fn is_hung_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    [BrokenPipe, ConnectionReset].contains(&error.kind())
}

/// The connection that the process manager left us, if one did.
fn process_manager() -> Option<File> {
    let fd: i32 = env::var("PMI_FD").ok()?.parse().ok()?;
    // SAFETY: F_GETFD only asks; whoever sets PMI_FD leaves the process that descriptor, of which nobody else here
    // knows.
    unsafe {
        (fd > 2 && libc::fcntl(fd, libc::F_GETFD) >= 0).then(|| OwnedFd::from_raw_fd(fd).into())
    }
}

fn answer(manager: &mut File) -> io::Result<Message> {
    let mut framer = Framer::default();
    let mut buffer = [0; 4096];
    loop {
        if let Some(message) = framer.next().map_err(|_| io::ErrorKind::InvalidData)? {
            return Ok(message);
        }
        match patient::read(manager, &mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => framer.push(&buffer[..count]),
        }
    }
}

/// Both ways, until the agent hangs up. The process manager hangs up when it has heard `finalize`: then there is the
/// agent's end to wait for, as the job lasts as long as the program.
fn pass_on(agent: &mut TcpStream, manager: File) -> io::Result<()> {
    let mut manager = Some(manager);
    let mut buffer = vec![0; 65536];
    loop {
        let mut fds = vec![PollFd::new(agent, PollFlags::IN)];
        let polled = manager
            .as_ref()
            .map(|manager| PollFd::from_borrowed_fd(manager.as_fd(), PollFlags::IN));
        fds.extend(polled);
        match poll(&mut fds, None) {
            Err(error) if patient::passes(&error.into()) => {
                thread::sleep(REST);
                continue;
            }
            result => result?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] {
            match patient::read(agent, &mut buffer) {
                Ok(0) | Err(_) => return Ok(()),
                Ok(count) => match &mut manager {
                    Some(manager) => patient::write_all(manager, &buffer[..count])?,
                    None => return Ok(()),
                },
            }
        }
        if let Some(open) = manager.as_mut().filter(|_| ready.get(1) == Some(&true)) {
            match patient::read(open, &mut buffer) {
                Ok(0) => manager = None,
                // The agent is not to wait for an answer: hydra does not notice this end while it spawns.
                Err(error) => return Err(error),
                Ok(count) => patient::write_all(agent, &buffer[..count])?,
            }
        }
    }
}
