//! The synchronizer of buckets: it charges the store with what was spent, and asks it for what callers want.
//!
//! A key is in one of three states. Where it is in flight, it can be queued at the same time.
//!
//! | state | when | next |
//! |---|---|---|
//! | idle | a caller asks for tokens, or there is something to tell | queued, with the callers that wait |
//! | queued | the flusher takes it into a batch | in flight, with those callers |
//! | in flight | the store answers | idle; or queued, if there is more to tell. The callers have their verdicts |
//! | in flight | the store does not answer, or the batch is dropped | queued, to tell all of it again. The callers decide alone |
//!
//! The flusher has one of three duties.
//!
//! | duty | what it does | next |
//! |---|---|---|
//! | `AtOnce` | sends what is queued as soon as fewer than two batches are under way | `Probe`, when the store is given up |
//! | `EachPeriod` | sends at each tick what is queued then | `Probe`, when the store is given up |
//! | `Probe` | asks at each tick whether the store is back | the one before, when the store answers |
//!
//! | file | what is in it |
//! |---|---|
//! | `synchronizer.rs` | all keys, and what callers ask of them |
//! | `entry.rs` | one key: idle or queued |
//! | `batch.rs` | keys in flight: how they leave and land |
//! | `rounds.rs` | the flusher's work |

pub(in crate::rate_limit::distributed) mod batch;
pub(in crate::rate_limit::distributed) mod entry;
pub(in crate::rate_limit::distributed) mod rounds;
pub(in crate::rate_limit::distributed) mod synchronizer;
