//! A PMI-1 server for one process, as a pure engine: requests go in, actions come out, and nothing here does I/O.
//!
//! What always works here: keys and values of the process itself, barriers (of one process), sizes and names. What this
//! server cannot know by itself needs a job: a spawn, the size of the universe, and published names.
//!
//! A singleton's connection begins with three messages (PMII_singinit in MPICH's src/pmi/src/pmi_v1.c): the server sends
//! [`Server::hello`], libmpi answers `cmd=singinit` with its version of PMI, and the server sends `cmd=singinit_info` with
//! the name of the key-value space. libmpi takes that for the name of its process group, which no other one may have.

use std::collections::HashMap;

use crate::pmi::message::{Message, Request};

/// The server's state.
pub struct Server {
    /// The name of the key-value space.
    name: String,
    /// The subversion of PMI 1 that libmpi speaks.
    subversion: u32,
    keys: HashMap<Vec<u8>, Vec<u8>>,
}

/// What is to be done about a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this reply.
    Reply(Message),
    /// A job has to answer this request.
    AskJob(Message),
    /// The application is in MPI_Finalize, and waits for this reply.
    Finalize(Message),
    /// The application aborts. It waits for no reply.
    Abort(Message),
}

impl Server {
    /// A server whose key-value space has this name, of at most 256 bytes.
    pub fn new(name: String) -> Server {
        Server {
            name,
            subversion: 1,
            keys: [(b"PMI_process_mapping".into(), b"(vector,(0,1,1))".into())].into(),
        }
    }

    /// The first message of the connection.
    pub fn hello() -> Message {
        Message::line("cmd=singinit authtype=none")
    }

    /// Handles a request.
    pub fn handle(&mut self, message: Message) -> Action {
        let request = Request::of(&message);
        let reply = match request {
            Request::SingInit => {
                self.subversion = message.number("pmi_subversion").unwrap_or(1);
                let name = &self.name;
                // libmpi's parser has no `rc` here.
                return Action::Reply(Message::line(format_args!(
                    "cmd=singinit_info versionok=yes stdio=no kvsname={name}"
                )));
            }
            Request::Init => request.success(format_args!(
                " pmi_version=1 pmi_subversion={}",
                self.subversion
            )),
            // Hydra's sizes (src/pm/hydra/lib/pmiserv_common.h).
            Request::GetMaxes => request.success(" kvsname_max=256 keylen_max=64 vallen_max=1024"),
            Request::AppNum => request.success(" appnum=0"),
            Request::KvsName => request.success(format_args!(" kvsname={}", self.name)),
            Request::Put { key, value } => {
                self.keys.insert(key.to_vec(), value.to_vec());
                request.success("")
            }
            Request::Get { key } => match self.keys.get(key) {
                Some(value) => request.success(format_args!(
                    " found=TRUE value={}",
                    String::from_utf8_lossy(value)
                )),
                None => request.failure("key_not_found"),
            },
            Request::Barrier { tag: Some(tag) } => {
                request.success(format_args!(" tag={}", String::from_utf8_lossy(tag)))
            }
            Request::Barrier { tag: None } => request.success(""),
            Request::Finalize => {
                return Action::Finalize(request.success("").in_reply_to(&message));
            }
            Request::Abort => return Action::Abort(message),
            _ => return Action::AskJob(message),
        };
        Action::Reply(reply.in_reply_to(&message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server::new("singleton_x_1".to_owned())
    }

    /// What the server sends back at once.
    #[track_caller]
    fn reply(server: &mut Server, request: &str) -> String {
        match server.handle(Message::line(request)) {
            Action::Reply(reply) => String::from_utf8(reply.bytes().to_vec()).unwrap(),
            other => panic!("{request}: {other:?}"),
        }
    }

    #[test]
    fn one_life_of_a_singleton() {
        let mut server = server();
        for (request, expected) in [
            (
                "cmd=singinit pmi_version=1 pmi_subversion=2 stdio=yes authtype=none",
                "cmd=singinit_info versionok=yes stdio=no kvsname=singleton_x_1\n",
            ),
            (
                "cmd=init pmi_version=1 pmi_subversion=2",
                "cmd=response_to_init rc=0 pmi_version=1 pmi_subversion=2\n",
            ),
            (
                "cmd=get_maxes",
                "cmd=maxes rc=0 kvsname_max=256 keylen_max=64 vallen_max=1024\n",
            ),
            ("cmd=get_appnum", "cmd=appnum rc=0 appnum=0\n"),
            (
                "cmd=get_my_kvsname",
                "cmd=my_kvsname rc=0 kvsname=singleton_x_1\n",
            ),
            (
                "cmd=get kvsname=k key=PMI_process_mapping",
                "cmd=get_result rc=0 found=TRUE value=(vector,(0,1,1))\n",
            ),
            (
                "cmd=get kvsname=k key=a",
                "cmd=get_result rc=1 msg=key_not_found\n",
            ),
            ("cmd=put kvsname=k key=a value=b", "cmd=put_result rc=0\n"),
            (
                "cmd=get kvsname=k key=a",
                "cmd=get_result rc=0 found=TRUE value=b\n",
            ),
            ("cmd=barrier_in", "cmd=barrier_out rc=0\n"),
            (
                "cmd=barrier_in group=WORLD:3",
                "cmd=barrier_out rc=0 tag=3\n",
            ),
        ] {
            assert_eq!(reply(&mut server, request), expected);
        }
    }

    #[test]
    fn a_value_of_the_applications_hides_the_process_mapping() {
        let mut server = server();
        reply(
            &mut server,
            "cmd=put kvsname=k key=PMI_process_mapping value=x",
        );
        let found = reply(&mut server, "cmd=get kvsname=k key=PMI_process_mapping");
        assert_eq!(found, "cmd=get_result rc=0 found=TRUE value=x\n");
    }

    #[test]
    fn each_reply_repeats_the_thread() {
        let mut server = server();
        let maxes = reply(&mut server, "cmd=get_maxes thrid=0x7");
        assert!(maxes.ends_with(" thrid=0x7\n"), "{maxes}");
        let finalize = server.handle(Message::line("cmd=finalize thrid=0x7"));
        let ack = Message::line("cmd=finalize_ack rc=0 thrid=0x7");
        assert_eq!(finalize, Action::Finalize(ack));
    }

    #[test]
    fn a_job_answers_what_one_process_cannot_know() {
        for request in [
            "cmd=get_universe_size",
            "cmd=publish_name service=a port=b",
            "cmd=unpublish_name service=a",
            "cmd=lookup_name service=a",
            "mcmd=spawn\nnprocs=1\ntotspawns=1\nspawnssofar=1\nendcmd",
            "cmd=put key=no_value",
            "cmd=of_tomorrow",
        ] {
            let request = Message::line(request);
            let action = server().handle(request.clone());
            assert_eq!(action, Action::AskJob(request));
        }
        let abort = Message::line("cmd=abort exitcode=3");
        assert_eq!(server().handle(abort.clone()), Action::Abort(abort));
    }
}
