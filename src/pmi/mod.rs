//! PMI-1, the protocol between an MPI process and its process manager, without I/O: bytes become messages
//! ([`decoder`]), messages requests ([`message`]), and requests replies ([`server`]).

pub mod decoder;
pub mod message;
pub mod server;
