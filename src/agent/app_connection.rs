//! The program, as the agent's client: its libmpi asks what a program asks its process manager.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::process::{Signal, kill_process, kill_process_group};

use super::standby::{self, Notes, Role};
use crate::agent::patient;
use crate::agent::program::Program;
use crate::mpi::hosts;
use crate::pmi::message::{Framer, Message};
use crate::shared::logging::Escaped;

pub struct Client {
    pub program: Program,
    /// Whether it is a shell.
    pub shell: bool,
    /// The connection to libmpi. None: it has hung up.
    connection: Option<TcpStream>,
    framer: Framer,
    /// What a standby has to know.
    notes: Option<&'static Notes>,
    /// How many bytes were sent on the connection before the standby was forked, if that can be known.
    sent_before: Option<u64>,
    /// PMI's subversion, as the program's libmpi speaks it.
    pub subversion: u32,
    /// It has called MPI_Finalize.
    pub finalized: bool,
    /// It has ended.
    pub gone: bool,
}

impl Client {
    /// Connects to the program, forks a standby if there is to be one, and greets the program. In the standby, this
    /// returns when it is to take the agent's place.
    ///
    /// # Errors
    /// It does not wait at this port, or is gone.
    pub fn connect(
        program: Program,
        port: u16,
        shell: bool,
        with_standby: bool,
    ) -> io::Result<(Client, Option<Role>)> {
        // Whatever is missing: the program waits for just this, and nobody else can tell it that there is nothing.
        let connection = patient::open(
            || TcpStream::connect((Ipv4Addr::LOCALHOST, port)),
            || !program.is_gone(),
        )?;
        let _ = connection.set_nodelay(true);
        // A standby has to see the program's end though it is no child of it.
        let sees_end = program.end().filter(|_| with_standby);
        let notes = sees_end.and_then(|_| Notes::new());
        let sent_before = standby::sent(&connection);
        let role = notes.and_then(|_| standby::fork().ok());
        let mut client = Client {
            program,
            shell,
            connection: Some(connection),
            framer: Framer::default(),
            notes,
            sent_before,
            subversion: 1,
            finalized: false,
            gone: false,
        };
        if let Some(Role::Successor) = role {
            return Ok((client, role));
        }
        match client.greet() {
            Ok(()) => Ok((client, role)),
            Err(error) => {
                client.hang_up();
                role.into_iter().for_each(Role::dismiss);
                Err(error)
            }
        }
    }

    fn greet(&mut self) -> io::Result<()> {
        self.send(b"cmd=singinit authtype=none\n", false)?;
        let connection = self
            .connection
            .as_mut()
            .ok_or(io::ErrorKind::NotConnected)?;
        let mut buffer = [0; 1024];
        let greeting = loop {
            if let Some(message) = (self.framer.next()).map_err(|_| io::ErrorKind::InvalidData)? {
                break message;
            }
            match patient::read(connection, &mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.framer.push(&buffer[..count]),
            }
        };
        // libmpi takes it for the name of its process group, which no other may have.
        let name =
            format_args!("singleton_{}_{}", hosts::host_name(), std::process::id()).to_string();
        let time = std::time::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default()
            .as_micros();
        let info = format!("cmd=singinit_info versionok=yes stdio=no kvsname={name}_{time:x}\n");
        self.send(info.as_bytes(), false)?;
        self.subversion = greeting.number("pmi_subversion").unwrap_or(1);
        if let Some(notes) = self.notes {
            notes.question(self.framer.rest());
            notes.greet(self.subversion);
        }
        Ok(())
    }

    /// Hangs up, also for the standby, who has the connection, too.
    fn hang_up(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Readable when libmpi has said something, or has hung up.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(AsFd::as_fd)
    }

    /// Hears what libmpi says.
    pub fn hear(&mut self) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let mut buffer = [0; 65536];
        // Taken when it is noted: a standby then finds it here or there.
        let there = patient::patiently(|| connection.peek(&mut buffer));
        if let (Some(notes), Ok(count @ 1..)) = (self.notes, &there) {
            notes.question(&buffer[..*count]);
        }
        let taken = there.and_then(|count| {
            patient::read_exact(connection, &mut buffer[..count])?;
            Ok(count)
        });
        match taken {
            // The program's children may hold the connection open, and it may close it: only its end counts.
            Ok(0) | Err(_) => self.hang_up(),
            Ok(count) => self.framer.push(&buffer[..count]),
        }
    }

    /// In a standby that takes the agent's place: the program's last question, and whether it has its answer. One that
    /// is incomplete is heard to its end as any other is.
    pub fn recover(&mut self) -> Option<(Message, bool)> {
        let notes = self.notes?;
        let Some(subversion) = notes.subversion() else {
            // The agent was about to greet it.
            self.answer(&Message::line("cmd=launch_failed rc=1"));
            return None;
        };
        self.subversion = subversion;
        let sent = self.connection.as_ref().and_then(standby::sent);
        let sent = (sent.zip(self.sent_before)).map(|(now, before)| now - before);
        let (noted, answered) = notes.last(sent);
        self.framer.push(noted);
        // What was noted and not taken is there twice. No other question can be there: this one has no answer yet.
        let mut buffer = [0; 65536];
        if let Some(connection) = self.connection.as_mut().filter(|_| !answered) {
            let _ = connection.set_nonblocking(true);
            let there = connection.peek(&mut buffer).unwrap_or(0);
            if there > 0 && noted.ends_with(&buffer[..there]) {
                let _ = patient::read_exact(connection, &mut buffer[..there]);
            }
            let _ = connection.set_nonblocking(false);
        }
        self.next().map(|message| (message, answered))
    }

    /// It has called MPI_Finalize.
    pub fn finalizes(&mut self) {
        self.finalized = true;
        if let Some(notes) = self.notes {
            notes.finalize();
        }
    }

    /// Whether it had done so before the agent was killed.
    pub fn had_finalized(&self) -> bool {
        self.notes.is_some_and(Notes::has_finalized)
    }

    /// Whether it had children before the agent was killed.
    pub fn had_children(&self) -> bool {
        self.notes.is_some_and(Notes::has_launched)
    }

    /// The next question, if all of it is here.
    pub fn next(&mut self) -> Option<Message> {
        match self.framer.next() {
            Ok(message) => {
                if let Some(message) = &message {
                    log::trace!("the program: {}", Escaped(message.bytes()));
                }
                message
            }
            Err(_) => {
                log::error!("the program sends what is no PMI");
                self.hang_up();
                self.framer = Framer::default();
                None
            }
        }
    }

    /// Answers a question, if libmpi still listens.
    pub fn answer(&mut self, message: &Message) {
        log::trace!("to the program: {}", Escaped(message.bytes()));
        if self.send(message.bytes(), true).is_err() {
            self.hang_up();
        }
    }

    fn send(&mut self, bytes: &[u8], answer: bool) -> io::Result<()> {
        if let Some(notes) = self.notes {
            notes.send(bytes.len(), answer);
        }
        let connection = self
            .connection
            .as_mut()
            .ok_or(io::ErrorKind::NotConnected)?;
        patient::write_all(connection, bytes)
    }

    /// It is about to be told that it has children.
    pub fn has_children(&self) {
        if let Some(notes) = self.notes {
            notes.launch();
        }
    }

    /// It has ended: nothing is said to it any more.
    pub fn ended(&mut self) {
        self.gone = true;
        self.connection = None;
    }

    /// MPI's own rule, where the program is no shell: who aborts, aborts all. Hydra kills the program's process group
    /// (HYD_pmcd_pmip_send_signal and its callers in src/pm/hydra/proxy/pmip_cb.c), and so do we, who are in it.
    pub fn end_program(&self) {
        if self.program.is_gone() {
            return;
        }
        let _ = match self.program.group() {
            Some(group) => kill_process_group(group, Signal::KILL),
            None => kill_process(self.program.pid, Signal::KILL),
        };
    }
}
