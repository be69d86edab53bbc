//! One limit that many processes keep together, with a stated bound.
//!
//! A limit in each of ten processes is ten limits. So the state of each key is in a [`Store`] that all of them share:
//! [`Embedded`] for one process and for tests, `Redis` (feature `redis`) for a fleet, or one of your own. It is asked
//! for many keys at once, never for one decision.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::rate_limit::{Quota, RateLimit, distributed::{Embedded, Exact}};
//!
//! struct Order {
//!     tenant: String,
//! }
//!
//! // For a fleet: `Redis::builder("redis://127.0.0.1:6379").connect().await?`.
//! let store = Embedded::new();
//! let quota = Quota::new(100, Duration::from_secs(1));
//! let (limit, flusher) = Exact::builder(store, quota).namespace("orders").processes(4).build()?;
//! tokio::spawn(flusher.run());
//!
//! // Alone ..
//! assert!(limit.acquire(b"tenant 7", 1).await.is_ok());
//! // .. or in a stack, as any other limit.
//! let limit = RateLimit::distributed_ref(limit, |order: &Order| order.tenant.as_str());
//! let stack = steadfast::server().rate_limit(limit).layer()?;
//! # let _ = stack;
//! # Ok(())
//! # }
//! ```
//!
//! # Which way
//!
//! | | [`Exact`] | [`Leased`] | [`WriteBehind`] |
//! |---|---|---|---|
//! | who decides | the store | this process, on a credit | this process, by what it last knew |
//! | a call waits | a round trip, at most the deadline (5 ms) | the first one of a key (in `acquire`) | never |
//! | a call costs at most | B | L | U |
//! | the limit | a rate with a burst B | L in any window | a rate with a burst B |
//! | admitted in any interval of length t, by all, at most | B + r (t + deadline) | L, if t is at most the window | B + r t + (N - 1) U |
//! | admitted of what could be, in the long run | all | 91 to 95 of 100 | all |
//! | choose it where | each call is worth a round trip | the limit belongs to a partner, who counts | the limit protects you, and calls are cheap |
//!
//! N is the number of processes, r the rate, U the most that one process may have admitted and not told
//! ([`max_unflushed`](WriteBehindBuilder::max_unflushed)). The `overshoot_bound()` of each is the part beyond `B + r
//! t`, or beyond L.
//!
//! Two limits on one store need two [namespaces](ExactBuilder::namespace), where they have keys in common.
//!
//! # How each is kept
//!
//! The state of a bucket is a level, which drains at the rate by the store's clock, and a total. It admits what a token
//! bucket does, with three differences. A changed rate does not change the price of spent tokens. Tokens admitted
//! without the store can be owed. A clock that goes back locks no caller out.
//!
//! [`Leased`] holds a credit of each key in use and takes tokens from it. Each period it tells the store what it spent
//! and when, gives back what it is not likely to need, and takes a quarter more than it needed in the last one. Tokens
//! that a process holds count as spent for the others, and spent tokens count for a whole window after the end of the
//! 40th of a window in which it was. So at most L is spent in any window, and a little less in the long run: with a
//! flush each second and a window of ten, 9 tokens of 10 that a log of all calls would admit, and 19 of 20 when far
//! more is asked for.
//!
//! # When something fails
//!
//! Every call of the store has a deadline of ours. After three failures in a row it is asked by the flusher alone, each
//! period or [probe](ExactBuilder::probe_every), and this process decides as [`OnOutage`] says: by default it keeps to
//! its share of what was admitted before.
//!
//! When the store is back, each process tells it what it admitted meanwhile. The processes do so for two and a half
//! periods, and for the time that the store [takes](Store::returns_within) to be reached again. Then the store decides
//! again.
//!
//! | what fails, with [`OnOutage::FairShare`] | admitted by [`Exact`] and [`WriteBehind`] in any interval, beyond their bound | by [`Leased`] |
//! |---|---|---|
//! | the store, for all | B + N, and as much more of `r t` as the shares are more than one together | nothing: each keeps what it held and had spent in a window |
//! | the store loses its data, or a key | B, less what is known to those who ask first | what processes that did not know the key are granted before one that knew it asks: then nothing is granted for a window |
//! | some processes are cut off, for D | B + r D of their share; what their share of the rate has not drained by then is repaid, up to [`max_debt`](ExactBuilder::max_debt) | their share: the store gives to the others what they had spent a window later, and what they held two windows after that they were last heard of |
//! | a process ends without a farewell | nothing | nothing: what it held counts as spent, two windows later |
//!
//! Tokens admitted in an outage drain in it too, so a process tells the store only what is left of them. The part that
//! does not fit below the burst is a [debt](ExactBuilder::max_debt). Two fifths of the rate repay it, and callers have
//! the rest. So an outage, however long, locks no caller out.
//!
//! A step of the store's clock counts as time that passed. After a step forward by S a bucket admits what drains in S
//! once more, at most B, and a window admits up to L once more. A step back locks no caller out.
//!
//! The share of a process is its part of all that was admitted in the four seconds before the outage. While the demand
//! is steady, the shares of all processes add up to one. With [`OnOutage::LastKnown`] every process has the whole
//! limit.
//!
//! No call waits for a connection to be made, except within its deadline where the [runtime](#runtimes) of the
//! connection has ended. An error of the store is an answer of the policy, not of the caller.
//!
//! # Shutting down
//!
//! A flusher ends when the last handle of its limit is dropped, and all stacks and routers that have one; it then tells
//! the store what is left to tell, and gives back what is held. Where the store does not answer that takes a few of its
//! deadlines at most. So keep what `spawn` returned, and wait for it at the end. Dropped earlier, it is what a crash
//! is: what a process held counts as spent for two windows.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use std::time::Duration;
//! # use steadfast::rate_limit::distributed::{Embedded, Leased};
//! let store = Embedded::new();
//! let (limit, flusher) = Leased::builder(store.clone(), 100, Duration::from_secs(10)).build()?;
//! let flusher = tokio::spawn(flusher.run());
//! limit.acquire(b"tenant 7", 1).await?;
//! // .. serve until it is time to stop; then drop the server, and with it its handles ..
//! drop(limit);
//! flusher.await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Runtimes
//!
//! A limit belongs to no runtime. A flusher belongs to the runtime that it is spawned in. When that ends, the limit
//! decides as [`OnOutage`] says until another flusher runs. `limit.flusher()` makes one. Flushers take turns: when the
//! one at work is dropped, the next one goes on at once. A process with a runtime in each thread spawns one in each; so
//! does a test suite with a runtime in each test.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use std::time::Duration;
//! # use steadfast::rate_limit::{Quota, distributed::{Embedded, Exact}};
//! let quota = Quota::new(100, Duration::from_secs(1));
//! let (limit, flusher) = Exact::builder(Embedded::new(), quota).build()?;
//! let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build();
//! runtime()?.block_on(async {
//!     tokio::spawn(flusher.run());
//!     limit.acquire(b"tenant 7", 1).await
//! })?;
//! // That runtime has ended, and the flusher with it.
//! runtime()?.block_on(async {
//!     tokio::spawn(limit.flusher().run());
//!     limit.acquire(b"tenant 7", 1).await
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! # Without a flusher
//!
//! A flusher that never runs asks no store: [`Exact`] waits for its deadline in every call and then decides as in an
//! outage, [`Leased`] refuses, [`WriteBehind`] admits what may be unflushed. [`Readings`] then show that the store was
//! asked 0 times.
//!
//! # A store of your own
//!
//! [`Store`] has two methods that every store writes, and two with defaults. [`Charge`] and [`Demand`] list the steps
//! of a store in their order. The suite in `conformance` (feature `conformance`) checks that yours keeps to them.
//!
//! # Defaults
//!
//! [`Exact`]: a deadline of 5 ms, some ten round trips within a data centre; a probe each 100 ms.
//!
//! [`WriteBehind`]: a flush each 100 ms; as many unflushed tokens as the rate gives in that time.
//!
//! [`Leased`]: a flush in each tenth of the window, at least each second: often enough for shares to follow the demand.
//! Half of a period for the store to answer.
//!
//! A debt of at most a burst. Room for 100,000 keys.

// The rooms, each of which imports from those before it only:
//
// | room | what is in it |
// |---|---|
// | `level`, `outage` | how full a bucket is; the policies for outages |
// | `store` | what a store is and does: the contract, the stores, the suite |
// | `settings` | what the builders of all limits have in common |
// | `ledger` | what one process knows of a key, and has to tell the store |
// | `sync` | what carries the ledger to the store and back: entries, flushers, health |
// | `by_key` | how a `RateLimit` asks a distributed limit |
// | `exact`, `leased`, `write_behind` | the limits, one folder each |
// | `instrument` | what can be read of them |

mod by_key;
mod exact;
mod instrument;
mod leased;
mod ledger;
mod level;
mod outage;
mod settings;
mod store;
mod sync;
mod write_behind;

#[doc(hidden)]
pub use by_key::{BytesOf, Distributed, DistributedByKey};
pub use exact::{Exact, ExactBuilder};
pub use leased::{Leased, LeasedBuilder, Spent};
pub use outage::OnOutage;
#[cfg(feature = "redis-tls")]
pub use store::RedisTls;
#[cfg(feature = "conformance")]
pub use store::conformance;
pub use store::{
    Answering, Charge, Charged, Demand, Embedded, Hint, LARGEST_BATCH, LONGEST_KEY, LONGEST_NAME, Settled, Store,
    StoreError, StoreErrorKind,
};
#[cfg(feature = "redis")]
pub use store::{Redis, RedisBuilder, RedisCredentials, RedisError};
pub use sync::{Flusher, Readings, StoreHealth};
pub use write_behind::{WriteBehind, WriteBehindBuilder};
