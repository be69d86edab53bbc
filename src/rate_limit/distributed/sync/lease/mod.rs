//! The synchronizer of leases: it reports to the store what was spent and what is held, and asks for what is wanted.
//!
//! A key is in one of three states. A newcomer is a key for which the store was never asked.
//!
//! | state | event | next |
//! |---|---|---|
//! | newcomer | the flusher takes it into a batch, at once | in flight |
//! | known | the flusher takes it into a batch, in each period | in flight |
//! | known | it is idle when a flush begins, or when a new key needs its place | forgotten |
//! | in flight | the store answers | known, with the grant |
//! | in flight | the store does not answer, or the batch is dropped | known, and cut off |
//!
//! While the store is down, one batch in each period asks it. All other keys are cut off without asking. The
//! [ledger](super::super::ledger::lease) of a key tracks the state of its lease.
//!
//! | file | content |
//! |---|---|
//! | `synchronizer.rs` | all keys, and the tokens that callers take |
//! | `entry.rs` | one key: its credit, and whether it is in flight |
//! | `flush.rs` | one flush: which keys leave together, and how they land |
//! | `rounds.rs` | the loop of the flusher |

pub(in crate::rate_limit::distributed) mod entry;
pub(in crate::rate_limit::distributed) mod flush;
pub(in crate::rate_limit::distributed) mod rounds;
pub(in crate::rate_limit::distributed) mod synchronizer;
