//! One mechanism for each key: a circuit breaker for each host, a limit for each tenant.
//!
//! A single breaker in front of many hosts judges them as one. If one of twenty hosts is down, the breaker stays closed
//! for that host, or opens for the healthy ones too. A [`PerKey`] makes a breaker for each host that is called, and
//! forgets hosts that are no longer called.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use steadfast::{circuit_breaker::{Breaker, BreakerState}, per_key::PerKey};
//! use tower::{ServiceExt, service_fn};
//!
//! #[derive(Clone)]
//! struct Request {
//!     host: String,
//! }
//!
//! let send = service_fn(async |request: Request| match &*request.host {
//!     "dead.example" => Err("connection refused"),
//!     _ => Ok("hello"),
//! });
//!
//! let breakers =
//!     PerKey::new(|request: &Request| request.host.clone(), Breaker::builder().consecutive_failures(5))?;
//! let client = steadfast::client().circuit_breaker(breakers.clone()).service(send)?;
//!
//! let call = |host: &str| client.clone().oneshot(Request { host: host.to_owned() });
//! for _ in 0..5 {
//!     assert!(call("dead.example").await.is_err());
//!     assert!(call("living.example").await.is_ok());
//! }
//! assert_eq!(breakers.get("dead.example").unwrap().state(), BreakerState::Open);
//! assert_eq!(breakers.get("living.example").unwrap().state(), BreakerState::Closed);
//! # Ok(())
//! # }
//! ```
//!
//! # Mechanisms
//!
//! | mechanism | built from | used in |
//! |---|---|---|
//! | [`Breaker`](crate::circuit_breaker::Breaker) | `BreakerBuilder` | `client().circuit_breaker(..)` |
//! | [`Limiter`](crate::load_shed::Limiter), fixed | `LoadShedConfig` | `load_shed(..)` of both stacks |
//! | `Limiter`, [adaptive](#an-adaptive-limit-for-each-key) | function | `load_shed(..)` of both stacks |
//! | [`TokenBucket`](crate::rate_limit::TokenBucket) | `TokenBucketBuilder` | `rate_limit(..)` of both stacks |
//! | [`SlidingWindow`](crate::rate_limit::SlidingWindow) | `SlidingWindowBuilder` | `rate_limit(..)` of both stacks |
//! | [`RetryBudget`](crate::retry::RetryBudget) | `RetryBudgetBuilder` | your code, by [`PerKey::handle`] |
//!
//! A [`LoadShed`](crate::load_shed::LoadShed) takes one limiter, and no `PerKey`. With a `PerKey` of limiters the
//! criticality of a call comes from its [context](crate::CallContext). To let requests bypass the limiters, use the
//! builder's [`exempt`](crate::stack::ServerBuilder::exempt).
//!
//! A `PerKey` implements [`Gate`](crate::shell::Gate) or [`Limit`](crate::rate_limit::Limit) if its mechanism does, so
//! it also works in a stage of your own. Without tower, [`PerKey::handle`] returns the mechanism of a key.
//!
//! For token buckets with a common quota, [`Keyed`](crate::rate_limit::Keyed) is smaller and faster: it keeps 24 bytes
//! for each key, and no handles. Use a `PerKey` of buckets if each key has its own quota, or if you need a handle.
//!
//! # What is forgotten
//!
//! At most [`max_keys`](PerKey::max_keys) keys have a mechanism. In a full table, a new key replaces the least recently
//! used key that can be forgotten:
//!
//! | mechanism | forgotten at any time | forgotten after `idle_after`: has evidence | never forgotten: in use |
//! |---|---|---|---|
//! | breaker | closed, without failures | closed with failures; half-open; open and due | open and not due; forced |
//! | fixed limiter | no call in flight | | calls in flight |
//! | adaptive limiter | no call in flight, has not learned | no call in flight, has learned | calls in flight |
//! | token bucket, window | full: no tokens were taken lately | lacks tokens | a closed bucket |
//! | retry budget | at least the balance of a new budget | a lower balance | |
//!
//! - An open circuit is due when its open time has passed. The failures include slow calls, if the breaker counts them.
//! - A key is also in use while a call that it admitted is in flight, and while your code holds a handle of it.
//! - A new key therefore never replaces an open circuit that is not due. A key is idle for
//!   [`idle_after`](PerKey::idle_after) if no call has used it for that long.
//! - Each new key removes up to two keys that were idle for at least `idle_after` and are not in use, even if the table
//!   has room.
//! - If no key can be forgotten, new keys share one [overflow](PerKey::overflow) mechanism until a place is free. The
//!   overflow mechanism is made like the others, and [`overflowed`](PerKey::overflowed) counts its uses. After a search
//!   that found no key to forget, no other search begins for a while: 10 µs times the number of keys, so 10 ms for 1024
//!   keys. Meanwhile, new keys share the overflow mechanism.
//! - A breaker or a limiter notes a use of its key when a call ends or is refused. A rate limit notes it when it
//!   decides on a call. [`PerKey::handle`] notes a use, too. The time of the last use is exact to a millisecond. A
//!   search moves the keys that it cannot forget to the end of the order. Such a move does not count as a use.
//! - A forgotten key comes back as a new key does: a breaker comes back closed, with the common configuration. A
//!   configuration that was set on the handle of one key alone is lost, unless your code keeps that handle.
//!
//! A caller that keeps sending new keys therefore replaces only keys without evidence, and keys that were idle for
//! `idle_after`. When no such key is left, its further keys share one mechanism with other new keys. Such a caller can
//! occupy the table for `idle_after`, with keys that have evidence. Do not let untrusted callers choose keys.
//!
//! # A breaker for each host
//!
//! With the feature `http`, `PerKey::new(http::authority, Breaker::builder().consecutive_failures(10))` keeps a breaker
//! for each host and port. Each breaker sees only the calls to its own host. With fewer than 20 calls in ten seconds, a
//! default breaker never opens. Set
//! [`consecutive_failures`](crate::circuit_breaker::BreakerBuilder::consecutive_failures), or a lower
//! [`minimum_calls`](crate::circuit_breaker::BreakerBuilder::minimum_calls). A stack has one retry budget for all
//! hosts. Until the circuit of a failing host opens, its retries use up the budget of the others.
//!
//! # An adaptive limit for each key
//!
//! A function makes an adaptive [`Limiter`](crate::load_shed::Limiter) for each key. A slow host then fills only its
//! own limit: calls to the other hosts are not shed.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::{load_shed::Limiter, per_key::PerKey};
//! use tokio::{sync::Mutex, time::sleep};
//! use tower::{BoxError, ServiceExt, service_fn};
//!
//! // Both hosts serve one call at a time: one in 1 ms, the other in 100 ms.
//! static FAST: Mutex<u64> = Mutex::const_new(1);
//! static SLOW: Mutex<u64> = Mutex::const_new(100);
//! let send = service_fn(async |host: &'static str| {
//!     let host = if host == "fast.example" { &FAST } else { &SLOW };
//!     let takes = host.lock().await;
//!     sleep(Duration::from_millis(*takes)).await;
//!     Ok::<_, BoxError>(())
//! });
//!
//! let deadline = Duration::from_millis(500);
//! let limiters =
//!     PerKey::new(|host: &&'static str| *host, move || Limiter::adaptive().deadline(deadline).build())?;
//! let client = steadfast::client().load_shed(limiters.clone()).service(send)?;
//!
//! // 100 calls per second to each.
//! for _ in 0..500 {
//!     for host in ["fast.example", "slow.example"] {
//!         tokio::spawn(client.clone().oneshot(host));
//!     }
//!     sleep(Duration::from_millis(10)).await;
//! }
//! assert_eq!(limiters.get("fast.example").unwrap().refused(), 0);
//! assert!(limiters.get("slow.example").unwrap().refused() > 300);
//! # Ok(())
//! # }
//! ```
//!
//! The function runs once in [`PerKey::new`], which returns its error, and once for each new key. A key keeps its
//! learned limit at least until no call has used it for [`idle_after`](PerKey::idle_after). An adaptive limiter takes
//! about 5 KiB, with a [fair share](crate::load_shed::LimiterBuilder::fair_share) 21 KiB; set
//! [`max_keys`](PerKey::max_keys) accordingly.
//!
//! # Too many open circuits
//!
//! [`most_open`](PerKey::most_open) bounds the fraction of the circuits that are open at once.
//!
//! # Live stacks
//!
//! In a [live](crate::stack::live) stack, the field `circuit_breaker` configures the breakers of a [`PerKey::new`],
//! those of present and of later keys. It configures neither the breakers of a [`PerKey::with`] nor limiters. A
//! `PerKey` of buckets has no field: add it as a stage of your own, `own_rate_limit(RateLimit::new(..))`.
//!
//! # Metrics
//!
//! A [`PerKey`] is an [`Instrument`](crate::shell::Instrument). Its readings combine all keys, and an observer of the
//! stack gets them. The observer may read on any thread, so keys must be `Send`, `Sync` and `'static`.
//! [`label_keys`](PerKey::label_keys) gives up to 64 keys their own readings.
//!
//! # Cancellation
//!
//! If a call is dropped, the mechanism that admitted the call settles it, as without keys. No mechanism is forgotten
//! while a call that it admitted is in flight.
//!
//! # Cost
//!
//! A call with a known key runs the key function, hashes the key, and takes one read lock on a shard of the table. The
//! call also clones and drops an `Arc`. It reads the clock once to note the use, and shares this reading with the rest
//! of the stack. It allocates nothing, and takes no exclusive lock.
//!
//! A new key takes the lock of the list that orders all keys by their last use. In a full table it visits keys, the
//! least recently used first, until it finds one that can be forgotten. A key that it cannot forget moves to the end of
//! the list, so the next search begins with the others.
//!
//! A call holds the lock of a shard for a few steps. A search holds the lock of the list from its beginning to its end.
//! No code of yours runs under them. Your functions and `Hash` of the key run before a lock is taken. Keys and
//! mechanisms are dropped after the lock is released. `Eq` never runs: keys are compared by 64 bits of a hash with a
//! secret seed. Two keys with the same 64 bits would share a mechanism. Among 1024 keys, the probability of that is 3
//! in 10^14.
//!
//! # Differences
//!
//! Polly and resilience4j keep breakers by name in a registry that only grows. Envoy and Finagle have a breaker for
//! each endpoint of a cluster that they know in advance. Here a function of yours makes the key from the request.
//!
//! # Defaults
//!
//! | what | default | because |
//! |---|---|---|
//! | keys | 1024 | few clients call more hosts; breakers take about 1 MiB |
//! | forgotten after | 10 minutes | longer than most windows, and than a circuit stays open by default: a minute |
//! | most open | no bound | only the user knows whether keys fail together |

mod gate;
mod handle;
mod instrument;
mod keys;
mod labels;
mod limit;
mod live;
mod mechanism;
mod order;
mod table;

pub use handle::PerKey;
#[doc(hidden)]
pub use live::OneOrPerKey;
#[doc(hidden)]
pub use mechanism::{Mechanism, Recipe};
