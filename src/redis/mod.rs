//! The parts that limits, durable queues and snapshots in Redis share: a connection that is replaced when it breaks,
//! the check of a server, the call of a script, and the errors.

mod connection;
mod duty;
mod error;
mod keeper;
mod said;
mod script;
mod server;
mod state;
mod target;
#[cfg(feature = "redis-tls")]
mod tls;

pub(crate) use connection::{Connection, Failure};
pub(crate) use duty::{Duty, OnDuty};
pub use error::RedisError;
pub(crate) use error::{Fault, FaultKind};
pub(crate) use keeper::LONGEST_PAUSE;
pub(crate) use said::{Said, bare, words};
pub(crate) use script::Script;
pub(crate) use server::{RedisOptions, Server};
pub use target::RedisCredentials;
pub(crate) use target::{Target, target_settings};
#[cfg(feature = "redis-tls")]
pub use tls::RedisTls;
