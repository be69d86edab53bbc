//! Resilience middleware for tower services.
#![forbid(unsafe_code)]

pub mod circuit_breaker;
pub mod classify;
pub mod context;
pub mod error;
pub mod load_shed;
mod random;
pub mod rate_limit;
pub mod retry;
pub mod shell;
pub mod stack;
mod sync;
pub mod timeout;

pub use classify::Outcome;
pub use context::{CallContext, Criticality};
pub use error::{ConfigError, Error, Rejection};
pub use random::Random;

/// Begins the stack of a client: of what calls out. See [`stack`].
pub fn client() -> stack::ClientBuilder {
    stack::client()
}

/// Begins the stack of a server: of what is called. See [`stack`].
pub fn server() -> stack::ServerBuilder {
    stack::server()
}
