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
//! The [`guide`] has a page for each question of users, and a [glossary](guide::glossary).
//!
//! [`client`] and [`server`] put them together:
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
//! - A dependency may be slow: a [`timeout`] on every call out, and on every attempt.
//! - It fails now and then: [`retry`], within a budget, if the request may be sent twice.
//! - It is down for a while: a [`circuit_breaker`], one for each thing that fails by itself.
//! - More may arrive than can be done: [`load_shed`] on the server, before work begins.
//! - More arrives now than can be done now, but not for long: [`load_level`] on the server, where work waits its turn.
//! - A caller may take more than its share, or you may of another's: [`rate_limit`], for all or for each key.
//!
//! Each is also a tower layer of its own (`TimeoutLayer`, `RetryLayer`, ..), for `ServiceBuilder`, and a handle that
//! works without tower (`Breaker`, `Limiter`, `Queue`, `TokenBucket`, `Keyed`, `SlidingWindow`, `RetryBudget`).
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
//! | `load` | tower's `Load` for stacks, so that its `Balance` avoids those that refuse calls | [`stack`](stack#behind-a-balancer) |
//! | `sim` | a simulation of your stack in virtual time, for tests | [`sim`] |
//! | `conformance` | a suite that checks a store of your own for limits of many processes | [`distributed`](rate_limit::distributed) |
//!
//! # What holds for all of them
//!
//! - State is shared by all that one layer makes, and by all clones of a handle.
//! - A service is always ready; refusals come out of the response future. Dropping that future at any time, or keeping
//!   it after its end, leaves nothing taken.
//! - Time is tokio's: a test with a paused clock drives every layer.
//! - A call that is admitted or refused at once allocates nothing here. A call that is still pending after its first
//!   poll makes one timer, whatever the number of layers.
//! - A configuration that cannot work is a [`ConfigError`], which names the field, the value and the rule. Nothing
//!   panics on any configuration or request.
//! - A rejection is one type, [`Rejection`]. See [`stack`] for the four ways in which it comes out.
//!
//! # Runtime
//!
//! tokio, with its timer enabled. No layer, handle or store belongs to the runtime that it was made in. Later runtimes
//! can use it, and so can several at the same time. Each background task names its runtime on its page.
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

/// Begins the stack of a client: of what calls out. See [`stack`].
pub fn client() -> stack::ClientBuilder {
    stack::client()
}

/// Begins the stack of a server: of what is called. See [`stack`].
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
