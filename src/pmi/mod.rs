//! PMI-1, without I/O.

pub mod message;
pub mod server;
