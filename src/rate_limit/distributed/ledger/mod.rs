//! What one process knows of one key, and has to tell the store.
//!
//! State machines without tasks, locks or clocks: time is an argument, and the synchronizer holds the lock.
//!
//! | file | what is in it |
//! |---|---|
//! | `bucket.rs` | the ledger of a bucket, for [`Exact`](super::Exact) and [`WriteBehind`](super::WriteBehind) |
//! | `reported.rs` | of them: spends that were told and not confirmed |
//! | `missed.rs` | of them: spends for which an answer was too late |
//! | `backlog.rs` | of them: spends of an outage, less what has drained |
//! | `meter.rs`, `share.rs` | this process's part of all that was admitted |
//! | `local.rs` | the bucket by which a process decides for itself |
//! | `lease.rs` | the ledger of a window, for [`Leased`](super::Leased) |

pub(super) mod backlog;
pub(super) mod bucket;
pub(super) mod lease;
pub(super) mod local;
pub(super) mod meter;
pub(super) mod missed;
pub(super) mod reported;
pub(super) mod share;
