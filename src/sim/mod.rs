//! Runs the real layers under simulated stress, in virtual time, to show what would happen to your system.
//!
//! A stack that passes every ordinary test can still turn a short outage into a long one: retries that multiply the
//! load, queues that serve only calls whose callers have gone, a system that does not come back by itself. None of it
//! shows at low load with a healthy backend. Here the types that production uses meet a simulated load and a simulated
//! backend. An hour takes a second, and a seed gives the same report each time, byte for byte.
//!
//! A test of your own stack:
//!
//! This module needs the feature `sim`.
//!
//! ```
//! use std::time::Duration;
//! use steadfast::retry::{Backoff, Retry, RetryBudget};
//! use steadfast::sim::{Backend, Latency, Load, Scenario};
//!
//! # fn main() -> Result<(), steadfast::ConfigError> {
//! let secs = Duration::from_secs;
//! // A service that is away for five seconds, and 100 calls per second that want an answer within one.
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
//! report.assert_amplification_at_most(1.1); // and nothing is made worse
//! report.assert_recovers_within(secs(1));
//! report.class("calls").assert_p99_at_most(secs(1));
//! # Ok(())
//! # }
//! ```
//!
//! # Setting up
//!
//! The feature belongs to the tests, where cargo adds it to the features of the program:
//!
//! ```toml
//! [dependencies]
//! steadfast = "0.1"
//!
//! [dev-dependencies]
//! steadfast = { version = "0.1", features = ["sim"] }
//! tower = { version = "0.5", features = ["util"] }
//!
//! # A simulation is a great many small calls: unoptimized it takes some fifteen times as long.
//! [profile.test]
//! opt-level = 2
//! ```
//!
//! In `[dependencies]` it would turn on tokio's `test-util` for the program. Then each reading of the clock first
//! checks whether it is paused, and any code may pause it.
//!
//! - A test is a plain `#[test]`. A run brings its own runtime, and is refused inside another one, such as that of
//!   `#[tokio::test]`.
//! - Give [`.random(sim.random())`](Sim::random) to all that draws random numbers: the retry, its budget, a breaker.
//!   Give [`.hasher(sim.hasher())`](Sim::hasher) to a keyed limit. Without them runs with the same seed differ.
//! - A layer's request is a [`Call`]: key a limit by `|call: &Call| call.key`, with [`Load::keys`] keys.
//! - A server stack belongs behind a [`Link`]. A client that gives up drops its call; if that is the very future of the
//!   server, the server's permit is back while its backend goes on, and a limit of 60 lets in any number. Behind a link
//!   the server goes on with what it has begun, as one on another machine does.
//! - A run ends its calls with an [`Error<Failure>`](crate::Error), and so does a server stack. A client stack around
//!   one would wrap it once more: `.keep_error()` puts its own rejections beside those of the server.
//!
//! ```
//! use std::time::Duration;
//! use steadfast::load_shed::Limiter;
//! use steadfast::retry::{Retry, RetryBudget};
//! use steadfast::sim::{Backend, Latency, Link, Load, Scenario};
//!
//! # fn main() -> Result<(), steadfast::ConfigError> {
//! let ms = Duration::from_millis;
//! // Twice what ten servers of 20 ms can do.
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
//! A stack whose error is a `BoxError`, as with tower's own layers, turns it back into an [`Error`]:
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
//! - [`Backend`]: a service with servers, a queue, a latency and bad days. By default it goes on working on calls whose
//!   callers have gone, as real ones do.
//! - [`Link`]: a network in between, on whose far side work goes on when its caller has gone. Chains of services are
//!   tower services that call each other; see `examples/experiments`.
//! - [`Scenario`]: brings them together. Make everything with a clock or random numbers inside its closure: handles
//!   there see the virtual clock, and [`Sim::random`] follows the seed. Loads, backends, links and layers draw from
//!   streams of their own, so that another stack meets the same calls.
//! - [`Report`]: how the calls ended, as a table, as numbers, and as assertions for tests; for all calls, and for each
//!   [class](Report::class).
//! - [`Scenario::seeds`]: several runs with different seeds, and an [`Estimate`] from them with its confidence
//!   interval.
//!
//! # Time
//!
//! The clock is tokio's, paused, and moved by hand. Arrivals, backends and links are exact to the nanosecond (arrivals
//! for the first fifty days in which the rate does not change, and to a few nanoseconds after); timers of the layers
//! fire at whole milliseconds, as tokio's do in production. Everything runs on one thread.
//!
//! # The defaults
//!
//! A run of 60 s with seed 0, which then waits for its calls for up to 120 s; an answer is in time within a second; a
//! backend has any number of servers, never fails, and works on for callers that have gone. So a load and a latency are
//! enough to begin with, and a run is bad only where the scenario makes it so.

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
    /// The class, as the position of its load in the scenario.
    pub class: usize,
    /// The key: its shard, its user. Below the load's number of keys.
    pub key: u64,
    /// How much it matters.
    pub criticality: Criticality,
}

/// The answer to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply;

/// A backend did not answer a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum Failure {
    /// It failed.
    #[error("the backend failed")]
    Failed,
    /// It refused the call, because its queue was full.
    #[error("the backend is overloaded")]
    Overloaded,
}

impl From<Failure> for Error<Failure> {
    fn from(failure: Failure) -> Self {
        Self::Service(failure)
    }
}
