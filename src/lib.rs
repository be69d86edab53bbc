//! Resilience middleware for tower services. Clients survive slow or failing dependencies without making them worse.
//! Servers keep their throughput under overload.
//!
//! | module | question it answers |
//! |---|---|
//! | [`timeout`] | how long may a call take? |
//! | [`retry`] | is it worth trying again? |
//! | [`circuit_breaker`] | is it worth trying at all? |
//! | [`load_shed`] | is there room for this one, now? |
//! | [`load_level`] | can it wait its turn? |
//! | [`rate_limit`] | has this caller had its share? |
//! | [`per_key`] | what if one of many hosts is down? |
//! | [`stack::live`] | what if a limit is wrong, now? |
//! | [`http`] | what does all this mean in HTTP and gRPC? |
//! | [`constant_work`] | where do all these limits come from? |
//! | [`telemetry`] | what does it do, now? |
//! | [`sim`] | what would happen to my system? |
//!
//! The [`guide`] answers one question on each page. It has [recipes](guide::cookbook),
//! [tables for users of other crates](guide::migration), and a [glossary](guide::glossary).
//!
//! [`client`] and [`server`] combine these modules into one service:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::{Error, Outcome, circuit_breaker::Breaker, retry::{Backoff, Retry}};
//! use tower::{ServiceExt, service_fn};
//!
//! // Any tower service: a status code stands for an HTTP response here.
//! let payments = service_fn(async |amount: u32| Ok::<u16, std::io::Error>(if amount > 100 { 503 } else { 200 }));
//!
//! let payments = steadfast::client()
//!     .timeout(Duration::from_secs(2))
//!     .retry(Retry::new(3).backoff(Backoff::exponential(Duration::from_millis(50), Duration::from_secs(1))))
//!     .circuit_breaker(Breaker::builder().failure_rate(0.5, Duration::from_secs(10)).build()?)
//!     .attempt_timeout(Duration::from_millis(600))
//!     .classify(|result| match result {
//!         Ok(503) => Outcome::Overloaded { retry_after: None },
//!         Ok(500..) | Err(_) => Outcome::Failure,
//!         Ok(_) => Outcome::Success,
//!     })
//!     .service(payments)?;
//!
//! match payments.oneshot(7).await {
//!     Ok(status) => assert_eq!(status, 200),
//!     Err(Error::Rejected(rejection)) => panic!("{} says: {rejection}", rejection.mechanism()),
//!     Err(Error::Service(error)) => panic!("the service failed: {error}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Which layer for what
//!
//! - A dependency is slow: a [`timeout`] for each call, and one for each attempt.
//! - A dependency fails now and then: [`retry`], within a budget, if the request may be sent twice.
//! - A dependency is down for a while: a [`circuit_breaker`], one for each host or shard that can fail alone.
//! - More calls arrive than the server can process: [`load_shed`] on the server refuses them before work begins.
//! - A burst arrives that the server can work off soon: [`load_level`] on the server lets calls wait in a bounded
//!   queue.
//! - A caller takes more than its share, or a partner limits your rate: [`rate_limit`], for all calls or for each key.
//!
//! Each mechanism is also a tower layer of its own (`TimeoutLayer`, `RetryLayer`, ..), for `ServiceBuilder`. Most also
//! work without tower, as handles: `Breaker`, `Limiter`, `Queue`, `TokenBucket`, `Keyed`, `SlidingWindow`,
//! `RetryBudget`.
//!
//! # Features
//!
//! No feature is on by default.
//!
//! | feature | adds | where |
//! |---|---|---|
//! | `http` | the meaning of answers, rejections as responses, deadlines in headers, bodies that are sent again | [`http`] |
//! | `redis` | limits of many processes and durable queues in Redis or Valkey | [`distributed`](rate_limit::distributed), [`durable`] |
//! | `redis-tls` | the same over TLS | `RedisTls` |
//! | `metrics` | metrics of calls and mechanisms for the `metrics` crate | [`telemetry`] |
//! | `tracing` | spans of calls and attempts, and events | [`telemetry`] |
//! | `serde` | a [`StackConfig`](stack::live::StackConfig) from JSON or TOML; turned on by `constant-work` | [`stack::live`] |
//! | `constant-work` | changes of stacks while calls pass: from a file, over HTTP (with `http`) or from Redis (with `redis`) | [`constant_work`] |
//! | `load` | tower's `Load` for stacks, so that tower's `Balance` avoids stacks that refuse calls | [`stack`](stack#behind-a-balancer) |
//! | `sim` | a simulation of your stack in virtual time, for tests | [`sim`] |
//! | `conformance` | a suite that checks a store of your own for limits of many processes | [`distributed`](rate_limit::distributed) |
//!
//! # Rules of all layers
//!
//! - All services that one layer makes share the state of the layer. All clones of a handle share one state.
//! - A service is always ready. A refusal comes out of the response future. A future that its caller drops gives its
//!   permits back at once. A future that its caller keeps after the call has ended holds none.
//! - Time is tokio's time, so a test with a paused clock moves every layer.
//! - A call that is admitted or refused at once allocates nothing in this crate; the pages of the modules name the
//!   exceptions. A call that is still pending after its first poll makes at most one timer, for any number of layers.
//! - A configuration that cannot work is a [`ConfigError`], which names the field, the value and the rule. No
//!   configuration and no request makes this crate panic.
//! - All rejections have one type, [`Rejection`]. [`stack`](stack#how-a-rejection-reaches-the-caller) lists the ways in
//!   which it reaches the caller.
//!
//! # Runtime
//!
//! The crate needs tokio with its timer enabled. A layer, a handle or a store is not bound to the runtime in which it
//! was made. Later runtimes can use it, and so can several at the same time. The page of each background task names the
//! runtime that the task needs.
//!
#![cfg_attr(feature = "constant-work", doc = "[`constant_work`]: crate::constant_work")]
#![cfg_attr(feature = "http", doc = "[`http`]: crate::http")]
#![cfg_attr(feature = "redis", doc = "[`durable`]: load_level::durable")]
#![cfg_attr(feature = "sim", doc = "[`sim`]: crate::sim")]
#![cfg_attr(not(feature = "constant-work"), doc = "[`constant_work`]: crate#features")]
#![cfg_attr(not(feature = "http"), doc = "[`http`]: crate#features")]
#![cfg_attr(not(feature = "redis"), doc = "[`durable`]: crate#features")]
#![cfg_attr(not(feature = "sim"), doc = "[`sim`]: crate#features")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod amount;
mod answer;
mod backoff;
pub mod circuit_breaker;
pub mod classify;
mod clock;
#[cfg(feature = "constant-work")]
pub mod constant_work;
pub mod context;
mod deadline;
#[cfg(feature = "serde")]
mod durations;
pub mod error;
pub mod guide;
mod held;
mod histogram;
#[cfg(feature = "http")]
pub mod http;
pub mod load_level;
pub mod load_shed;
mod pace;
mod panics;
pub mod per_key;
mod random;
pub mod rate_limit;
#[cfg(feature = "redis")]
mod redis;
pub mod retry;
pub mod shell;
#[cfg(feature = "sim")]
#[doc(alias("chaos", "fault injection"))]
pub mod sim;
pub mod stack;
mod stripes;
mod sync;
pub mod telemetry;
pub mod timeout;
mod waiters;
mod words;

pub use classify::Outcome;
pub use context::{CallContext, Criticality};
pub use error::{ConfigError, Error, Rejection};
pub use random::Random;

/// Begins the stack of a client, around a service that you call. See [`stack`].
#[doc(alias("resilience pipeline", "policy wrap"))]
pub fn client() -> stack::ClientBuilder {
    stack::client()
}

/// Begins the stack of a server, around a service that others call. See [`stack`].
#[doc(alias("resilience pipeline", "policy wrap"))]
pub fn server() -> stack::ServerBuilder {
    stack::server()
}

/// The examples of the README, compiled and run.
#[cfg(all(
    doctest,
    feature = "redis",
    feature = "constant-work",
    feature = "http",
    feature = "metrics",
    feature = "sim",
    feature = "tracing"
))]
#[doc = include_str!("../README.md")]
struct Readme;
