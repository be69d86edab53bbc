//! The synchronizer: it carries the ledger of all keys to the store and back, while calls pass.
//!
//! Callers change the ledger under a short lock. One task, the flusher, sends batches of charges or demands to the store
//! and brings the answers back. No caller ever asks the store itself.
//!
//! | file | what is in it |
//! |---|---|
//! | `bucket/` | the synchronizer of buckets, for [`Exact`](super::Exact) and [`WriteBehind`](super::WriteBehind) |
//! | `lease/` | the synchronizer of leases, for [`Leased`](super::Leased) |
//! | `synchronizer.rs` | what the two have in common: the handles of a limit, and flushers that take turns |
//! | `flusher.rs` | the flusher, as its user sees it |
//! | `health.rs` | whether the store answers, and so whether it decides |
//! | `entries.rs` | the keys in use, a bounded number of them |
//! | `ask.rs`, `flights.rs` | a call of the store, and those under way |
//! | `readings.rs`, `instrument.rs` | how a limit is doing |

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
