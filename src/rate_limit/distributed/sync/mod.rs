//! The synchronizer exchanges the ledgers of all keys with the store, while calls pass.
//!
//! Callers change the ledger of a bucket under a short lock, and take tokens of a lease in one atomic step. One task,
//! the flusher, sends batches of charges or demands to the store and applies the answers. No caller asks the store
//! itself.
//!
//! | file | content |
//! |---|---|
//! | `bucket/` | the synchronizer of buckets, for [`Exact`](super::Exact) and [`WriteBehind`](super::WriteBehind) |
//! | `lease/` | the synchronizer of leases, for [`Leased`](super::Leased) |
//! | `synchronizer.rs` | the parts that both share: the handles of a limit, and flushers that take turns |
//! | `flusher.rs` | the public type of the flusher |
//! | `health.rs` | whether the store answers, and whether it decides |
//! | `entries.rs` | the keys in use, a bounded number of them |
//! | `ask.rs`, `flights.rs` | one call to the store, and the calls in flight |
//! | `readings.rs`, `instrument.rs` | the readings of a limit |

pub(super) mod ask;
pub(super) mod bucket;
pub(super) mod entries;
pub(super) mod flights;
pub(super) mod flusher;
pub(super) mod health;
pub(super) mod instrument;
pub(super) mod lease;
pub(super) mod readings;
pub(super) mod synchronizer;

pub use flusher::Flusher;
pub use health::StoreHealth;
pub use readings::Readings;
