//! Runs the real layers under simulated load, in virtual time, to show how your system behaves under stress.
//!
//! A stack that passes every ordinary test can still turn a short outage into a long one. Retries can multiply the
//! load, queues can end up serving only calls whose callers have gone, and a system may not recover by itself. None of
//! this shows at low load with a healthy backend. A simulation runs the types that you use in production, with a
//! simulated load and a simulated backend. An hour takes about a second, and a seed gives the same report each time,
//! byte for byte.
//!
//! This module needs the feature `sim`. A test of your own stack:
//!
//! ```
//! use std::time::Duration;
//! use steadfast::retry::{Backoff, Retry, RetryBudget};
//! use steadfast::sim::{Backend, Latency, Load, Scenario};
//!
//! # fn main() -> Result<(), steadfast::ConfigError> {
//! let secs = Duration::from_secs;
//! // A service that is down for five seconds. 100 calls arrive per second, and each needs an answer within a second.
//! let report = Scenario::new(Load::poisson(100.0).in_time(secs(1))).length(secs(60)).seed(7).run(|sim| {
//!     let database = Backend::new(Latency::exponential(Duration::from_millis(20))).outage(secs(20)..secs(25));
//!     steadfast::client()
//!         .timeout(secs(1))
//!         .retry(
//!             Retry::new(3)
//!                 .backoff(Backoff::exponential(Duration::from_millis(20), Duration::from_millis(100)))
//!                 .budget(RetryBudget::builder().ratio(0.1).random(sim.random()).build()?)
//!                 .random(sim.random()),
//!         )
//!         .attempt_timeout(Duration::from_millis(200))
//!         .service(sim.backend(database))
//! })?;
//! println!("{report}");
//! report.assert_goodput_at_least(0.9); // five seconds of sixty are lost
//! report.assert_amplification_at_most(1.1); // at most 10% more attempts than calls
//! report.assert_recovers_within(secs(1));
//! report.class("calls").assert_p99_at_most(secs(1));
//! # Ok(())
//! # }
//! ```
//!
//! # Setup
//!
//! Enable the feature for tests, in `[dev-dependencies]`:
//!
//! ```toml
//! [dependencies]
//! steadfast = "0.1"
//!
//! [dev-dependencies]
//! steadfast = { version = "0.1", features = ["sim"] }
//! tower = { version = "0.5", features = ["util"] }
//!
//! # A simulation makes very many small calls: without optimization it takes about fifteen times as long.
//! [profile.test]
//! opt-level = 2
//! ```
//!
//! If the feature is in `[dependencies]`, it enables tokio's `test-util` in your program. Each clock reading then also
//! checks whether the clock is paused, and any code can pause the clock.
//!
//! - A test is a plain `#[test]`. A run creates its own runtime. Inside another runtime, such as that of
//!   `#[tokio::test]`, it returns an error.
//! - Pass [`.random(sim.random())`](Sim::random) to every type that draws random numbers: the retry, its budget, a
//!   circuit breaker. Pass [`.hasher(sim.hasher())`](Sim::hasher) to a keyed limit, and a fixed
//!   [`.tenant_seed(1)`](crate::load_shed::LimiterBuilder::tenant_seed) to a limiter with a fair share. Otherwise, runs
//!   with the same seed differ.
//! - A layer's request is a [`Call`]: key a limit by `|call: &Call| call.key`, with [`Load::keys`] keys.
//! - Put a server stack behind a [`Link`]. Without a link, the client's call contains the server's future. A client
//!   that gives up drops both, and the server returns its permit although its backend still works. A concurrency limit
//!   then admits any number of calls. Behind a link the server continues its work, as a server on another machine does.
//! - A call must fail with an [`Error<Failure>`](crate::Error), or an error that converts into it. A server stack
//!   returns that type. A client stack around it would wrap the error in another `Error`. With `.keep_error()` the
//!   client stack returns the server's error unchanged, and its own rejections as the same type.
//!
//! ```
//! use std::time::Duration;
//! use steadfast::load_shed::Limiter;
//! use steadfast::retry::{Retry, RetryBudget};
//! use steadfast::sim::{Backend, Latency, Link, Load, Scenario};
//!
//! # fn main() -> Result<(), steadfast::ConfigError> {
//! let ms = Duration::from_millis;
//! // Twice the capacity of ten servers of 20 ms.
//! let report = Scenario::new(Load::poisson(1_000.0)).length(ms(5_000)).run(|sim| {
//!     let workers = sim.backend(Backend::new(Latency::exponential(ms(20))).servers(10));
//!     let server = steadfast::server().load_shed(Limiter::fixed(20)?).service(workers)?;
//!     let budget = RetryBudget::builder().random(sim.random()).build()?;
//!     steadfast::client()
//!         .retry(Retry::new(3).budget(budget).random(sim.random()))
//!         .attempt_timeout(ms(200))
//!         .keep_error()
//!         .service(Link::new(sim, Latency::fixed(ms(1)), server))
//! })?;
//! assert_eq!(report.backends[0].most_in_flight, 20);
//! assert!(report.rejected("load_shed") > 0.4);
//! # Ok(())
//! # }
//! ```
//!
//! If a stack's error is a `BoxError`, as with tower's own layers, convert it back to an [`Error`]:
//!
//! ```
//! use std::time::Duration;
//! use steadfast::sim::{Backend, Failure, Latency, Load, Scenario};
//! use steadfast::{Error, Rejection};
//! use tower::{BoxError, ServiceBuilder, ServiceExt};
//!
//! fn as_error(error: BoxError) -> Error<Failure> {
//!     match error.downcast::<Rejection>() {
//!         Ok(rejection) => Error::Rejected(*rejection),
//!         // Any other error of the layers counts as a failure.
//!         Err(other) => Error::Service(other.downcast::<Failure>().map_or(Failure::Failed, |failure| *failure)),
//!     }
//! }
//!
//! # fn main() -> Result<(), steadfast::ConfigError> {
//! let report = Scenario::new(Load::constant(10.0)).run(|sim| {
//!     let slow = sim.backend(Backend::new(Latency::fixed(Duration::from_millis(200))));
//!     let stack = ServiceBuilder::new().concurrency_limit(100).map_err(BoxError::from).service(slow);
//!     let client = steadfast::client().timeout(Duration::from_millis(100)).keep_error().service(stack)?;
//!     Ok(client.map_err(as_error))
//! })?;
//! assert_eq!(report.rejected("timeout"), 1.0);
//! # Ok(())
//! # }
//! ```
//!
//! # The parts
//!
//! - [`Load`]: calls that arrive over time; several classes at once with [`Scenario::and`].
//! - [`Backend`]: a service with servers, a queue, a latency and disturbances. By default it continues calls whose
//!   callers have gone, as most real services do.
//! - [`Link`]: a network between two services. The service behind it continues its work when the caller has gone.
//!   To simulate a chain of services, let tower services call each other; see `examples/experiments`.
//! - [`Scenario`]: combines them. Create everything that reads a clock or draws random numbers inside the closure of
//!   [`run`](Scenario::run). The clock is virtual there, and [`Sim::random`] follows the seed. Each load, backend, link
//!   and layer draws random numbers of its own. If you change the stack, the calls stay the same, unless the load is
//!   [closed](Load::closed).
//! - [`Report`]: how the calls ended, as a table, as numbers, and as assertions for tests; for all calls, and for each
//!   [class](Report::class).
//! - [`Scenario::seeds`]: several runs with different seeds, and an [`Estimate`] with its confidence interval.
//!
//! # Time
//!
//! The clock is tokio's, paused and advanced by the simulation. Backends and links are exact to the nanosecond. So are
//! arrivals, until the rate has been unchanged for fifty days; then they are exact to a few nanoseconds. Timers of the
//! layers fire at whole milliseconds, as tokio's do in production. A run uses one thread.
//!
//! # Defaults
//!
//! Calls arrive for 60 s. The run then waits up to 120 s for the last ones to end. The seed is 0. An answer within a
//! second is in time. A backend has unlimited servers, never fails, and continues calls whose callers have gone. A load
//! and a latency are therefore enough to start with, and nothing fails unless the scenario makes it fail.

mod backend;
mod class;
mod kernel;
mod latency;
mod ledger;
mod link;
mod load;
mod recovery;
mod report;
mod scenario;
mod seeds;
mod table;

pub use backend::{Answer, Backend, BackendCounts, BackendService};
pub use class::{ClassReport, Latencies, Span};
pub use kernel::Sim;
#[doc(hidden)]
pub use kernel::{SeededHasher, Sleep};
pub use latency::Latency;
pub use link::{Arrival, Link};
pub use load::Load;
pub use recovery::Recovery;
pub use report::Report;
pub use scenario::Scenario;
pub use seeds::{Estimate, Reports, Seeds, each_seed};

use crate::{context::Criticality, error::Error};
use thiserror::Error as ThisError;

/// A call of the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// The class: the index of its load in the scenario. The load of [`Scenario::new`] has index 0.
    pub class: usize,
    /// The key, such as a shard or a user. Less than the number of [`Load::keys`].
    pub key: u64,
    /// The criticality of the call.
    pub criticality: Criticality,
}

/// The answer to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply;

/// The failure of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum Failure {
    /// The backend failed.
    #[error("the backend failed")]
    Failed,
    /// The backend refused the call, because its queue was full.
    #[error("the backend refused the call: its queue is full")]
    Overloaded,
}

impl From<Failure> for Error<Failure> {
    fn from(failure: Failure) -> Self {
        Self::Service(failure)
    }
}
