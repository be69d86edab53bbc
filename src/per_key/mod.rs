//! One mechanism for each key: a circuit breaker for each host, a limit for each tenant.
//!
//! A breaker in front of many hosts judges them as one. Where one of twenty is dead, it stays closed for the dead one,
//! or opens for the living. A [`PerKey`] makes a breaker for each host that is called, and forgets those that are not
//! called any more.
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
//! # Which mechanisms, and where
//!
//! | one for each key of | made from a | stands in |
//! |---|---|---|
//! | [`Breaker`](crate::circuit_breaker::Breaker) | `BreakerBuilder` | `client().circuit_breaker(..)` |
//! | [`Limiter`](crate::load_shed::Limiter) | `LoadShedConfig` | `load_shed(..)` of both stacks |
//! | [`TokenBucket`](crate::rate_limit::TokenBucket) | `TokenBucketBuilder` | `rate_limit(..)` of both stacks |
//! | [`SlidingWindow`](crate::rate_limit::SlidingWindow) | `SlidingWindowBuilder` | `rate_limit(..)` of both stacks |
//! | [`RetryBudget`](crate::retry::RetryBudget) | `RetryBudgetBuilder` | your code, by [`PerKey::handle`] |
//!
//! A `PerKey` is a [`Gate`](crate::shell::Gate) or a [`Limit`](crate::rate_limit::Limit) where its mechanism is one,
//! and so stands in stages of your own, too. Without tower, [`PerKey::handle`] gives the mechanism of a key.
//!
//! For token buckets alike, [`Keyed`](crate::rate_limit::Keyed) is smaller and faster: it keeps 24 bytes for each key,
//! and no handles. Use a `PerKey` of buckets where each key has its own quota, or where a handle is needed.
//!
//! # What is forgotten
//!
//! At most [`max_keys`](PerKey::max_keys) keys have a mechanism. In a full table a newcomer takes the place of the key
//! that was not used for longest among those that have nothing to lose:
//!
//! | mechanism | has nothing to lose | has evidence | is in use |
//! |---|---|---|---|
//! | breaker | closed, no failure counts | closed with failures, half-open, open and due | open and not due, forced |
//! | limiter | no call in flight | | calls in flight |
//! | token bucket, window | full: nothing was taken lately | lacks tokens | closed |
//! | retry budget | at least what a new one begins with | less than that | |
//!
//! - A key is in use as well while a call that it admitted is in flight, and while a handle of it is held.
//! - A key in use is never forgotten. One with evidence is forgotten only when it was not called for
//!   [`idle_after`](PerKey::idle_after): an open circuit does not give way to a newcomer.
//! - Each newcomer removes up to two keys that are idle for longer than `idle_after`, even where there is room.
//! - If none may be forgotten, newcomers share one mechanism, [which is made like the others](PerKey::overflow), until
//!   a place is free. [`overflowed`](PerKey::overflowed) counts them. After a vain search, newcomers do not search
//!   again for a while: 10 µs times the number of keys, so 10 ms with 1024.
//! - The last use is the end of a call, or its refusal, to a millisecond. A key that a look has found in use counts as
//!   used then.
//! - A breaker that is forgotten comes back closed, with the configuration of all: a change by hand is forgotten, too.
//!
//! So a caller that sends ever new keys takes places from idle keys only, and then shares one with other newcomers. It
//! can hold places with keys that have evidence for `idle_after`. Do not make keys of what strangers can choose.
//!
//! # A breaker for each host
//!
//! With the feature `http`, `PerKey::new(http::authority, Breaker::builder().consecutive_failures(10))` keeps one for
//! each host and port. Each breaker sees only the calls to its own host. With fewer than 20 in ten seconds the default
//! never opens: set [`consecutive_failures`](crate::circuit_breaker::BreakerBuilder::consecutive_failures), or a lower
//! [`minimum_calls`](crate::circuit_breaker::BreakerBuilder::minimum_calls). A budget for retries is one for all hosts
//! in a stack: until its circuit is open, a host that is down takes retries from the others.
//!
//! # Not too many at once
//!
//! [`most_open`](PerKey::most_open) bounds the share of the breakers that are open at once.
//!
//! # Live stacks
//!
//! The part `circuit_breaker` of a [live](crate::stack::live) stack holds for the breakers of all keys, also for those
//! that are made later, if they are alike. For breakers that a function makes, and for limiters, a live stack has no
//! part. A `PerKey` of buckets stands in a live stack as a stage of your own: `own_rate_limit(RateLimit::new(..))`.
//!
//! # Metrics
//!
//! A [`PerKey`] is an [`Instrument`](crate::shell::Instrument): its readings are of all keys together, and an observer
//! of a stack gets them. [`label_keys`](PerKey::label_keys) gives up to 64 keys readings of their own. Keys are
//! therefore `Send`, `Sync` and `'static`.
//!
//! # Cancellation
//!
//! A call that is dropped settles with the mechanism that admitted it, as it would without keys. The mechanism of a
//! call in flight is not forgotten.
//!
//! # Cost
//!
//! A call with a known key: the function that makes the key, its hash, one read lock on a shard of the table, one clone
//! and one drop of an `Arc`, and one reading of the clock at its end, shared with the rest of the stack. It allocates
//! nothing, and takes no exclusive lock. A newcomer takes one lock on the order of all keys, and in a full table looks
//! at keys from the oldest on until one may go: at each key that is in use at most once, before all others had their
//! turn.
//!
//! The locks of the table are held for a few steps. No function of yours runs under one of them: keys are hashed and
//! made before, and dropped after. Keys are compared by 64 bits of a secretly seeded hash, so that no `Eq` runs at all.
//!
//! # Differences
//!
//! Polly and resilience4j keep a breaker by name in a registry that only grows. Envoy and Finagle have one for each
//! endpoint of a cluster that they know beforehand; here a key is whatever you make of a request.
//!
//! # Defaults
//!
//! | what | default | because |
//! |---|---|---|
//! | keys | 1024 | few clients call more hosts; about a MiB of breakers |
//! | forgotten after | ten minutes | longer than a circuit stays open, and than most limits look back |
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
