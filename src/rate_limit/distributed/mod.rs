//! One limit that many processes keep together, with a stated bound.
//!
//! The state of each key is in a [`Store`] that they share, which is asked for many keys at once and in the background; a
//! decision asks nobody. [`Leased`] is strict: in no window is more admitted than the limit, by all processes together,
//! whatever comes and while the store is down.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::rate_limit::distributed::{Embedded, Leased};
//!
//! // A store of your own in its place is one method.
//! let store = Embedded::new();
//! let (limit, flusher) = Leased::builder(store, 1000, Duration::from_secs(10)).build()?;
//! tokio::spawn(flusher.run());
//!
//! assert!(limit.acquire(b"tenant 7", 1).await.is_ok());
//! # Ok(())
//! # }
//! ```
//!
//! # How it is kept
//!
//! A process holds a credit of each key in use and takes tokens from it. Each period it tells the store what it spent and
//! when, gives back what it is not likely to need, and takes a quarter more than it needed in the last one. What a process
//! holds counts as spent for the others, and what was spent counts for a whole window after the end of the 40th of a window
//! in which it was. So at most `limit` is spent in any window, and a little less in the long run: with a flush each second
//! and a window of ten, 9 tokens of 10 that a log of all calls would admit, and 19 of 20 when far more is asked for.
//!
//! # When something fails
//!
//! | what fails | what is admitted in any window, at most |
//! |---|---|
//! | the store, for all | `limit`: each process keeps to its share, which is what it held and had spent in a window when it was cut off |
//! | the store loses its data | `limit`, and what was granted between the restart and each process's next report |
//! | a process is cut off while the others are not | `limit`, and its share: the store gives that to the others two windows later |
//! | a process ends without giving back what it holds | `limit`: it counts as spent, two windows later |
//!
//! # Defaults
//!
//! A flush in each tenth of the window, at least each second: often enough for shares to follow the demand. Half of a period
//! for the store to answer. Room for 100,000 keys.

mod account;
mod books;
mod by_key;
#[cfg(feature = "conformance")]
pub mod conformance;
mod embedded;
mod engine;
mod entries;
mod exact;
mod flights;
mod flusher;
mod health;
mod leased;
mod level;
mod namespace;
mod outage;
#[cfg(feature = "redis")]
mod redis;
mod share;
mod store;
mod write_behind;

pub use by_key::{BytesOf, Distributed, DistributedByKey, Noted};
pub use embedded::Embedded;
pub use engine::Readings;
pub use exact::{Asked, Exact, ExactBuilder, Taken};
pub use flusher::Flusher;
pub use health::StoreHealth;
pub use leased::{Leased, LeasedBuilder, Newcomer, Spent};
pub use outage::OnOutage;
#[cfg(feature = "redis")]
pub use redis::{Redis, RedisBuilder, RedisError};
pub use store::{
    Answering, Charge, Charged, Demand, Hint, LARGEST_BATCH, LONGEST_KEY, LONGEST_NAME, Settled, Store, StoreError,
    StoreErrorKind,
};
pub use write_behind::{WriteBehind, WriteBehindBuilder};
