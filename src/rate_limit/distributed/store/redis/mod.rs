//! Redis as the store. See [`Redis`].

mod builder;
mod cluster;
mod codec;
mod memory;
mod script;
mod slots;
mod store;

#[cfg(feature = "redis-tls")]
pub use crate::redis::RedisTls;
pub use crate::redis::{RedisCredentials, RedisError};
pub use builder::RedisBuilder;
pub use store::Redis;
