//! The synchronizer of buckets: it reports spends to the store, and asks it for the tokens that callers want.
//!
//! A key is in one of three states. A key in flight can be queued at the same time.
//!
//! | state | event | next |
//! |---|---|---|
//! | idle | a caller asks for tokens, or there is something to report | queued, with the waiters |
//! | idle, with an empty bucket and nothing to report | the flusher sweeps, or a new key needs the place | forgotten |
//! | queued | the flusher takes it into a batch | in flight, with those waiters |
//! | queued | the flusher takes it, but all waiters have gone and there is nothing to report | idle |
//! | in flight | the store answers | idle, or queued if there is more to report. The waiters get their verdicts |
//! | in flight | the store does not answer | idle, or queued if there are spends to report again. The process decides alone about the waiters |
//! | in flight | the batch is dropped with its flusher | idle. The next flusher queues the key if there are spends to report again. The process decides alone about the waiters |
//!
//! The flusher has one of three duties.
//!
//! | duty | action | next |
//! |---|---|---|
//! | `AtOnce` (`Exact`) | sends the queue as soon as fewer than two batches are in flight | `Probe`, when the store is given up |
//! | `EachPeriod` (`WriteBehind`) | sends at each tick the keys that are queued then | `Probe`, when the store is given up |
//! | `Probe` | asks at each tick whether the store is back | the previous duty, when the store answers |
//!
//! | file | content |
//! |---|---|
//! | `synchronizer.rs` | all keys, and the requests of callers |
//! | `entry.rs` | one key: idle or queued |
//! | `batch.rs` | keys in flight: how they leave and land |
//! | `rounds.rs` | the loop of the flusher |

pub(in crate::rate_limit::distributed) mod batch;
pub(in crate::rate_limit::distributed) mod entry;
pub(in crate::rate_limit::distributed) mod rounds;
pub(in crate::rate_limit::distributed) mod synchronizer;
