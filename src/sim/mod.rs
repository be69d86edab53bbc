//! What would happen to my system? Runs the real layers under stress, in virtual time.
//!
//! A stack that passes every ordinary test can still turn a short outage into a long one: retries that multiply the
//! load, queues that serve only calls whose callers have gone, a system that does not come back by itself. None of it
//! shows at low load with a healthy backend. Here the very types that production uses meet a simulated load and a
//! simulated backend; an hour takes a second, and the same seed gives the same report, byte for byte.
//!
//! A test of your own stack:
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
//! # Ok(())
//! # }
//! ```
//!
//! # The parts
//!
//! - [`Load`]: calls that arrive over time; several classes at once with [`Scenario::and`].
//! - [`Backend`]: a service with servers, a queue, a latency and bad days. By default it goes on working on calls whose
//!   callers have gone, as real ones do.
//! - [`Link`]: a network in between. Chains of services are tower services that call each other; see
//!   `examples/experiments`.
//! - [`Scenario`]: brings them together. Whatever has a clock or random numbers is made inside its closure: handles
//!   there see the virtual clock, and [`Sim::random`] follows the seed.
//! - [`Report`]: what became of the load, as a table, as numbers, and as assertions for tests.
//!
//! # Time
//!
//! The clock is tokio's, paused, and moved by hand. Arrivals, backends and links are exact to the nanosecond; timers of
//! the layers fire at whole milliseconds, as tokio's do in production. Everything runs on one thread.

mod backend;
mod kernel;
mod link;
mod load;
mod report;
mod scenario;

pub use backend::{Answer, Backend, BackendCounts, BackendService, Latency};
pub use kernel::{Sim, Sleep};
pub use link::{Arrival, Link};
pub use load::Load;
pub use report::{ClassReport, Latencies, Recovery, Report, Span};
pub use scenario::Scenario;

use crate::{Criticality, Error};
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

/// A backend did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum Failure {
    /// It failed.
    #[error("the backend failed")]
    Failed,
    /// It refused the call, since its queue was full.
    #[error("the backend is overloaded")]
    Overloaded,
}

impl From<Failure> for Error<Failure> {
    fn from(failure: Failure) -> Self {
        Self::Service(failure)
    }
}
