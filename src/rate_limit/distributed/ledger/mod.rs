//! The local ledger: what one process knows of one key, and what it still has to report to the store.
//!
//! The ledgers are state machines without tasks, locks or clocks. Time is an argument, and the synchronizer holds the
//! lock.
//!
//! | file | content |
//! |---|---|
//! | `bucket.rs` | the ledger of a bucket, for [`Exact`](super::Exact) and [`WriteBehind`](super::WriteBehind) |
//! | `reported.rs` | part of it: spends that were reported and not yet confirmed |
//! | `missed.rs` | part of it: spends for which the answer came too late |
//! | `backlog.rs` | part of it: spends of an outage, less what has drained |
//! | `meter.rs`, `share.rs` | this process's part of all admitted tokens |
//! | `local.rs` | the bucket by which a process decides alone |
//! | `lease.rs` | the ledger of a lease, for [`Leased`](super::Leased) |

pub(super) mod backlog;
pub(super) mod bucket;
pub(super) mod lease;
pub(super) mod local;
pub(super) mod meter;
pub(super) mod missed;
pub(super) mod reported;
pub(super) mod share;
