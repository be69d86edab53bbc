//! How do I test timeouts, retries and outages without waiting?
//!
//! A test that waits for real timeouts is slow, and fails on a busy machine. Every layer of this crate reads tokio's
//! clock. A test that pauses tokio's clock therefore controls every timeout, backoff, window and queue.
//!
//! # A paused clock
//!
//! tokio's feature `test-util` has `#[tokio::test(start_paused = true)]`. Put this feature into the
//! `[dev-dependencies]`. While the clock is paused it stands still, and jumps to the next timer when all tasks wait.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::{Error, Rejection, circuit_breaker::{Breaker, BreakerState}};
//! use tokio::time::Instant;
//! use tower::{ServiceExt, service_fn};
//!
//! let secs = Duration::from_secs;
//! let breaker = Breaker::builder().consecutive_failures(3).open_for(secs(5)).build()?;
//! let client = steadfast::client().timeout(secs(1)).circuit_breaker(breaker.clone()).service(service_fn(
//!     async |(): ()| std::future::pending::<Result<(), std::io::Error>>().await,
//! ))?;
//!
//! // Three timeouts of a second each, in no time.
//! let start = Instant::now();
//! for _ in 0..3 {
//!     let error = client.clone().oneshot(()).await.unwrap_err();
//!     assert!(matches!(error, Error::Rejected(Rejection::TimedOut(_))));
//! }
//! assert!(start.elapsed() >= secs(3));
//! assert_eq!(breaker.state(), BreakerState::Open);
//!
//! // The next call is refused. Five seconds later a call passes again, as a probe.
//! let refused = client.clone().oneshot(()).await.unwrap_err();
//! assert_eq!(refused.rejection().unwrap().retry_after(), Some(secs(5)));
//! tokio::time::advance(secs(5)).await;
//! let probe = client.oneshot(()).await.unwrap_err();
//! assert!(matches!(probe, Error::Rejected(Rejection::TimedOut(_))));
//! # Ok(())
//! # }
//! ```
//!
//! # Random numbers
//!
//! Backoffs, the start of a retry budget, and the time for which a circuit stays open after a failed probe are random.
//! Give them a seeded [`Random`](crate::Random), so that each run of a test draws the same numbers:
//!
//! ```
//! use steadfast::{Random, retry::{Backoff, Retry, RetryBudget}};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), steadfast::ConfigError> {
//! let random = Random::seeded(7);
//! let budget = RetryBudget::builder().random(random.clone()).build()?;
//! let retry = Retry::new(3).budget(budget).random(random);
//! # let _ = retry;
//!
//! let backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(1));
//! let waits = |seed| backoff.waits(&Random::seeded(seed)).take(5).collect::<Vec<_>>();
//! assert_eq!(waits(7), waits(7));
//! # Ok(())
//! # }
//! ```
//!
//! # Mechanisms without a clock
//!
//! Handles have methods that take the time as an argument, such as
//! [`TokenBucket::available_at`](crate::rate_limit::TokenBucket::available_at) and
//! [`RetryBudget::withdraw_at`](crate::retry::RetryBudget::withdraw_at). They need no paused clock.
//!
//! # Simulate an outage
//!
//! A stack can pass every unit test and still turn a short outage into a long one. The feature `sim` runs your stack
//! against a simulated load and a simulated backend, in virtual time. A simulated minute takes a moment of real time,
//! and one seed gives the same report each time.
//!
//! ```toml
//! [dev-dependencies]
//! steadfast = { version = "0.1", features = ["sim"] }
//! ```
//!
//! A simulation is an ordinary `#[test]`, without a runtime of its own:
//!
#![cfg_attr(feature = "sim", doc = "```")]
#![cfg_attr(not(feature = "sim"), doc = "```ignore")]
//! use std::time::Duration;
//! use steadfast::{circuit_breaker::Breaker, sim::{Backend, Latency, Load, Scenario}};
//!
//! # fn main() -> Result<(), steadfast::ConfigError> {
//! let secs = Duration::from_secs;
//! let report = Scenario::new(Load::poisson(100.0)).length(secs(60)).seed(7).run(|sim| {
//!     let payments = Backend::new(Latency::exponential(Duration::from_millis(20))).outage(secs(20)..secs(25));
//!     steadfast::client()
//!         .timeout(secs(1))
//!         .circuit_breaker(Breaker::builder().open_for(secs(1)).random(sim.random()).build()?)
//!         .service(sim.backend(payments))
//! })?;
//! report.assert_goodput_at_least(0.85); // five seconds of sixty are lost
//! report.assert_amplification_at_most(1.0);
//! report.assert_recovers_within(secs(4));
//! # Ok(())
//! # }
//! ```
//!
//! Give `sim.random()` to everything that draws random numbers, `.hasher(sim.hasher())` to keyed limits, and a fixed
//! `.tenant_seed(1)` to a limiter with a fair share. Otherwise runs with one seed differ. Put a server stack behind a
//! `Link`, so that its work goes on when a client gives up. [`sim`] explains the seeds and the link, and the example
//! `what_if` is a template.
//!
//! # What virtual time does not show
//!
//! Virtual time leaves out the cost of the CPU, the scheduler of the operating system and the network. Test those with
//! real processes, as the example `overload` does.
//!
#![cfg_attr(feature = "sim", doc = "[`sim`]: crate::sim")]
#![cfg_attr(not(feature = "sim"), doc = "[`sim`]: crate#features")]
