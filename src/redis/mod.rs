//! What everything that is kept in Redis shares: a connection that is replaced when it breaks, the check of a server, the
//! calling of scripts, and why these fail.

mod connection;
mod error;
mod script;
mod server;

pub(crate) use connection::{Connection, Failure, LONGEST_PAUSE};
pub use error::RedisError;
pub(crate) use error::{Fault, FaultKind, without_password};
pub(crate) use script::Script;
pub(crate) use server::{Server, Terms};
