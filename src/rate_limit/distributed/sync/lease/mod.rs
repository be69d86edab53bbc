//! The synchronizer of leases: it settles with the store what was spent, what is held and what is wanted.
//!
//! A key is in one of three states.
//!
//! | state | when | next |
//! |---|---|---|
//! | newcomer | the flusher takes it into a batch, at once | in flight |
//! | known | the flusher takes it into a batch, in each period | in flight |
//! | in flight | the store answers | known, with what was granted |
//! | in flight | the store does not answer, or the batch is dropped | known, and cut off |
//!
//! Where the store is down, one batch in each period asks it. All other keys are cut off without asking. How a key then
//! stands with the store is in its [ledger](super::super::ledger::lease).
//!
//! | file | what is in it |
//! |---|---|
//! | `synchronizer.rs` | all keys, and what callers take from them |
//! | `entry.rs` | one key: its credit, and whether it is in flight |
//! | `flush.rs` | one flush: which keys leave together, and how they land |
//! | `rounds.rs` | the flusher's work |

pub(in crate::rate_limit::distributed) mod entry;
pub(in crate::rate_limit::distributed) mod flush;
pub(in crate::rate_limit::distributed) mod rounds;
pub(in crate::rate_limit::distributed) mod synchronizer;
