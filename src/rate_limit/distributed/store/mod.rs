//! Stores keep the state of each key for all processes, and answer requests about a batch of keys at a time.
//!
//! A store knows keys and processes. It does not know limits, their callers or their flushers.
//!
//! | file | content |
//! |---|---|
//! | `contract.rs` | the trait [`Store`] |
//! | `charge.rs` | a request about a bucket, its answer, and the steps of the store |
//! | `demand.rs` | a request about a window, its answer, and the steps of the store |
//! | `error.rs` | why a store did not answer |
//! | `namespace.rs` | the names of keys in a store |
//! | `embedded/` | the store in this process's memory, the reference for all others |
//! | `redis/` | the store in Redis |
//! | `conformance/` | the suite for a store of your own |

pub(super) mod charge;
#[cfg(feature = "conformance")]
pub mod conformance;
pub(super) mod contract;
pub(super) mod demand;
pub(super) mod embedded;
pub(super) mod error;
pub(super) mod namespace;
#[cfg(feature = "redis")]
pub(super) mod redis;

pub use charge::{Charge, Charged, Hint};
pub use contract::{Answering, LARGEST_BATCH, Store};
pub use demand::{Demand, Settled};
pub use embedded::Embedded;
pub use error::{StoreError, StoreErrorKind};
pub use namespace::{LONGEST_KEY, LONGEST_NAME};
#[cfg(feature = "redis-tls")]
pub use redis::RedisTls;
#[cfg(feature = "redis")]
pub use redis::{Redis, RedisBuilder, RedisCredentials, RedisError};
