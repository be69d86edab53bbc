//! A rate limit that many processes share, with a stated bound.
//!
//! A limit in each of ten processes is ten limits. A distributed limit keeps the state of each key in a [`Store`] that
//! all processes share: [`Embedded`] for one process and for tests, `Redis` (feature `redis`) for a fleet, or a store
//! of your own. One call to the store carries a batch of up to 64 keys.
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
//! # Which limit to choose
//!
//! B is the burst, r the rate, L the limit of a window, and N the number of processes. U is the most tokens of a key
//! that one process may have admitted before the store confirms them
//! ([`max_unflushed`](WriteBehindBuilder::max_unflushed)).
//!
//! | | [`Exact`] | [`Leased`] | [`WriteBehind`] |
//! |---|---|---|---|
//! | who decides | the store | this process, from its lease | this process, from the last answer of the store and from its own spends since then |
//! | a call waits | for the store, for a round trip, at most the deadline (5 ms) | for the store, only in `acquire` or a stack, and only until the store first answers for the key, at most the deadline | never |
//! | the most tokens that a call may cost | B | L | U, if it was set; else B |
//! | the limit | a rate with a burst B | L in any window | a rate with a burst B |
//! | all processes admit in any interval of length t at most | B + r (t + deadline) | L, if t is at most the window | B + r t + (N - 1) U |
//! | the part of the limit that is usable in the long run | all | 91% to 95% | all |
//! | choose it if | each call is worth a round trip | a partner sets the limit and counts your calls | the limit protects you, and calls are cheap |
//!
//! The `overshoot_bound()` of each limit is the part beyond `B + r t`, or beyond L. If U was not set, U is the tokens
//! that the rate gives in a flush period, at most B. A [`WriteBehind`] call may then cost more than U, and its cost
//! takes the place of U in the bound.
//!
//! Two limits that share a store and have keys in common need two [namespaces](ExactBuilder::namespace).
//!
//! # How the limits work
//!
//! The state of a bucket is a level and a total. The level is the number of spent tokens, and drains at the rate by the
//! store's clock. The total counts all tokens ever spent. It falls only if the store loses the bucket, or forgets an
//! empty one; a process then sees a lower total than before. A bucket admits the same calls as a token bucket, with
//! three differences:
//!
//! 1. A new rate does not revalue tokens that are already spent.
//! 2. The bucket can be in debt for tokens that were admitted without the store.
//! 3. A clock that goes back locks no caller out.
//!
//! [`Leased`] holds a lease for each key in use: tokens that the process may spend without asking. In each flush period
//! the process reports what it spent and when. The process has a target: 1.25 times the tokens that callers asked for
//! in the last period, at most L. Until the store first answers for the key, the target is at least a sixteenth of L.
//! The process returns the tokens that it holds beyond the target, or asks for those that it lacks. The store counts
//! leased tokens as spent. The store divides time into fortieths of the window and keeps one sum of spends for each. A
//! spend counts until one window after the end of its fortieth. All processes together therefore spend at most L in any
//! window, and a little less in the long run. With a flush each second and a window of 10 s, the limit admits 91% of
//! what an exact log of all calls would admit. If the demand is far above the limit, it admits 95%.
//!
//! # When something fails
//!
//! Every call to the store has a deadline. After three failures in a row the store is down, and no caller waits for it.
//! The flusher then asks whether the store is back: with [`Exact`] once in each [probe
//! period](ExactBuilder::probe_every), with the others once in each flush period. Until the store decides again, the
//! process decides as [`OnOutage`] says. By default it keeps to its [share](#shares) of the limit.
//!
//! When the store is back, each process reports what it admitted in the outage. With [`Exact`] and [`WriteBehind`] it
//! leaves out what has drained since. The store then decides again after 2.5 probe or flush periods, plus the time that
//! the processes [need to reconnect](Store::returns_within). With [`Leased`] a process reports everything that it
//! spent, and takes new tokens after 1.2 flush periods plus that time.
//!
//! | failure, with [`OnOutage::FairShare`] | [`Exact`] and [`WriteBehind`] admit in any interval, beyond their bound | [`Leased`] admits beyond L |
//! |---|---|---|
//! | the store is down for all processes | B + N. If the shares add up to `s > 1`, also `(s - 1) r t` | nothing, unless [`processes`](LeasedBuilder::processes) is set: each process keeps what it held and had spent in a window |
//! | the store loses its data, or a key | at most B. It is less if the first processes to ask still know a level: the store then continues from that level, not from an empty bucket | the tokens granted to processes that had not used the key. Once a process that had used it asks, the store notices the loss and grants nothing for a window |
//! | some processes cannot reach the store, for a time D | their share of B + r D. When they reach the store again, they report what they admitted in that time, less what has drained since. Each process counts only its share of the rate as drained. The store adds the reported tokens to the level, up to the burst. The rest becomes a debt, up to [`max_debt`](ExactBuilder::max_debt) | their [share](#shares), because the store grants these tokens to other processes as well. It grants spent tokens one window after they were spent. It grants held tokens about three windows after the process last asked it |
//! | a process crashes | [`Exact`]: the tokens that the process had admitted by itself and not reported, usually none. [`WriteBehind`]: the tokens that the process had not reported, at most U, if another process takes its place | nothing: its lease stays taken for two windows, and then counts as spent for one more |
//!
//! The level also drains during an outage. A process therefore reports only the admitted tokens that have not drained.
//! The part that does not fit below the burst becomes a [debt](ExactBuilder::max_debt). Two fifths of the rate repay
//! the debt, and callers have the rest. No outage, however long, locks callers out.
//!
//! A step forward of the store's clock counts as time that passed. After a step by S, a bucket admits again what drains
//! in S, at most B, and a window admits up to L again. After a step back, no caller is locked out.
//!
//! With `Redis`, a call to the store waits for a connection only in two cases. Either the [runtime](#runtimes) that
//! owned the last connection has ended or no longer runs. Or the store was made lazily, outside of a runtime. The call
//! never waits beyond the deadline. An error of the store never reaches the caller of the limit; the outage policy
//! decides instead.
//!
//! # Shares
//!
//! With [`Exact`] and [`WriteBehind`], the share of a process is its part of all tokens that were admitted in the four
//! seconds before the outage. While the demand is steady, the shares of all processes add up to one. With
//! [`OnOutage::LastKnown`] every process applies the whole limit instead.
//!
//! With [`Leased`], the share of a process is set when the process loses the store. The share is the tokens that the
//! process then holds, and those that it has spent in the last window. All shares together are at most the limit,
//! unless [`processes`](LeasedBuilder::processes) is set. Here [`OnOutage::LastKnown`] does the same as
//! [`OnOutage::FairShare`].
//!
//! # Shutting down
//!
//! A flusher ends when the last handle of its limit is dropped, including every stack and router that has one. Before
//! it ends, it reports the unreported tokens and returns the held ones. If the store does not answer, this takes at
//! most a few times the limit's deadline. Keep the `JoinHandle` that `spawn` returned, and await it at the end. To
//! other processes a flusher that is dropped earlier looks like a crash: the others get the tokens of its lease about
//! three windows later.
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
//! // .. serve until it is time to stop, then drop the server and its handles ..
//! drop(limit);
//! flusher.await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Runtimes
//!
//! A limit belongs to no runtime. A flusher belongs to the runtime that it is spawned in. When that runtime ends, the
//! limit decides as [`OnOutage`] says until another flusher runs. `limit.flusher()` makes another one. One flusher
//! works at a time; when it is dropped, the next one continues at once. A process with a runtime in each thread spawns
//! a flusher in each runtime. A test suite with a runtime in each test does so, too.
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
//! If the flusher exists but never runs, the store is never asked. [`Exact`] waits for its deadline in every call and
//! then decides as [`OnOutage`] says. [`Leased`] refuses: `try_acquire` at once, `acquire` and a stack after the
//! deadline. [`WriteBehind`] admits up to `max_unflushed` tokens of each key, or one call that costs more. [`Readings`]
//! then show that the store was asked 0 times.
//!
//! # A store of your own
//!
//! [`Store`] has two required methods, and two with defaults. [`Charge`] and [`Demand`] list the steps of a store in
//! order. The suite in `conformance` (feature `conformance`) checks that your store follows them.
//!
//! # Defaults
//!
//! | limit | setting | default | because |
//! |---|---|---|---|
//! | [`Exact`] | deadline | 5 ms | about ten round trips within a data center |
//! | [`Exact`] | probe of a store that is down | every 100 ms | the store decides again 2.5 probe periods after it is back |
//! | [`Exact`] | processes, for a key without a known share | 8 | |
//! | [`WriteBehind`] | flush | every 100 ms | |
//! | [`WriteBehind`] | deadline | the period of the flush | |
//! | [`WriteBehind`] | unflushed tokens | the tokens that the rate gives in a period | one process can use the whole rate |
//! | [`Leased`] | flush | every tenth of the window, at most 1 s apart | the leases follow the demand |
//! | [`Leased`] | deadline | half of a period | |
//! | [`Leased`] | processes, for a key that is new in an outage | none: the process refuses | new keys add nothing to the total |
//! | [`Exact`], [`WriteBehind`] | debt | at most a burst; for `WriteBehind` the overshoot bound if that is more | |
//! | all | policy for an outage | [`OnOutage::FairShare`] | all processes together stay near the limit |
//! | all | keys | 100,000 | |

// The submodules. Each imports only from those above it:
//
// | submodule | content |
// |---|---|
// | `level`, `outage` | the level of a bucket; the policies for outages |
// | `store` | the trait, the stores, the conformance suite |
// | `settings` | the settings that all builders share |
// | `ledger` | what one process knows of a key, and what it still has to report to the store |
// | `sync` | the exchange between ledgers and store: entries, flushers, health |
// | `by_key` | the interface to `RateLimit` |
// | `exact`, `leased`, `write_behind` | the limits, one folder each |
// | `instrument` | the readings of a limit |

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
