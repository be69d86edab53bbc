//! Stops calls to a service that fails, and finds out by a few probes when it works again.
//!
//! Calls to a dead service cost time and connections, and keep it from coming back. A breaker watches the results. When
//! too many calls fail it opens, and refuses calls at once. After a while it lets a few probes through, and closes when
//! they succeed.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::circuit_breaker::{Breaker, BreakerState, CircuitBreakerLayer};
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! let dead = service_fn(async |_: ()| Err::<(), BoxError>("connection refused".into()));
//! let breaker = Breaker::builder()
//!     .failure_rate(0.5, Duration::from_secs(10))
//!     .minimum_calls(20)
//!     .open_for(Duration::from_secs(5))
//!     .build()?;
//! let service = CircuitBreakerLayer::new(breaker.clone()).layer(dead);
//!
//! for _ in 0..20 {
//!     service.clone().oneshot(()).await.unwrap_err();
//! }
//! assert_eq!(breaker.state(), BreakerState::Open);
//! tokio::time::advance(Duration::from_secs(5)).await;
//! service.clone().oneshot(()).await.unwrap_err(); // a probe
//! assert_eq!(breaker.state(), BreakerState::Open);
//! # Ok(())
//! # }
//! ```
//!
//! # Semantics
//!
//! - It opens on a failure that completes a run of [`consecutive_failures`](BreakerBuilder::consecutive_failures).
//! - It opens when the [`failure_rate`](BreakerBuilder::failure_rate) of a sliding window is at its limit. The rate is
//!   looked at after each call that counts, so a success that completes the minimum of calls opens too.
//! - Where it is configured, it opens when the [rate of slow calls](BreakerBuilder::slow_call_rate) is at its limit. A
//!   call still under way beyond the threshold counts at once, so a service that hangs is noticed before its calls end.
//! - The first opening lasts exactly [`open_for`](BreakerBuilder::open_for). Each failed probe
//!   [doubles the time](BreakerBuilder::max_open_for), with some jitter, up to `max_open_for`, by default a minute.
//! - A half-open circuit lets [`probes`](BreakerBuilder::probes) calls through. It closes after that many successes. It
//!   opens at the first failure, and at the first probe that takes the threshold of slow calls. A probe that says
//!   nothing (it was dropped, or refused further in) gives its place to the next call.
//! - When probes have brought neither success nor failure for the [`probe_timeout`](BreakerBuilder::probe_timeout),
//!   because they hang or are dropped, the circuit opens again. If no probe is under way for half of the probe timeout,
//!   the timeout starts again with the next probe.
//! - Every call belongs to the era that admitted it. A call from before a change of state says nothing about the time
//!   after it.
//! - All instants of a breaker come from one clock. A result at an instant ahead of it counts at that instant: a
//!   failure a year ahead keeps the circuit open for a year.
//! - A refusal says how long the circuit stays open, unless it was opened by hand or waits for probes.
//!
//! | the call ended with | to the breaker |
//! |---|---|
//! | `Outcome::Success`, `Outcome::Permanent` | a success: the service is alive |
//! | `Outcome::Failure`, a timeout after the service was called, a panic in it | a failure |
//! | a deadline that came before half of the attempt's full patience | nothing, and a probe gives its place back |
//! | an error of the service's readiness | as the error is classified |
//! | a timeout before the service was ready | nothing |
//! | `Outcome::Overloaded` | a success, unless [`overload_is_failure`](BreakerBuilder::overload_is_failure) |
//! | `Outcome::Ignored`, a rejection further in | nothing |
//! | dropped by the caller | nothing, or a failure [after some time](BreakerBuilder::cancelled_is_failure_after) |
//! | any of them, after it took the threshold of slow calls in the service | slow as well, with any end |
//!
//! The full patience of an attempt is the attempt timeout, or the timeout of the stack where there is none. An attempt
//! that is cut short proves nothing: its caller gave the service too little time.
//!
//! # Reconfiguration
//!
//! [`Breaker::configure`] makes a running breaker follow another configuration as a whole: no call is judged by half of
//! one. It changes thresholds and times, not what was seen: the state, the failures in a row, the calls in the window
//! and the permits in flight stay, an open circuit stays open until the instant that callers have learned, and a forced
//! one stays forced. Its page describes a window whose length changes.
//!
//! # Cost
//!
//! A call through a closed circuit: one load to be admitted, a few more for its result, all of one cache line that no
//! call writes. Its result takes one reading of the clock and one compare-and-swap. While the window has enough
//! failures for a success to open the circuit, a success reads the window as a failure does: 16 words.
//!
//! A refusal: one load and one reading of the clock. The windows have a fixed size. No call allocates. Slow calls,
//! where they count, cost [some more](BreakerBuilder::slow_call_rate).
//!
//! # One breaker for what fails together
//!
//! A breaker judges all its calls as one. Where a fifth of the traffic goes to a dead shard, one breaker for all of it
//! either stays closed for the dead fifth or opens for the living rest. Give each shard or host its own: a
//! [`PerKey`](crate::per_key::PerKey) of breakers.
//!
//! # Defaults
//!
//! | what | default | because |
//! |---|---|---|
//! | opens at | half of the calls failed, over 10 s | below that calling still helps more than it costs |
//! | minimum calls | 20 | the rate of fewer is chance |
//! | slow calls | do not count | only the user knows how slow is too slow |
//! | open for | 5 s | long enough to relieve the service, short enough to be noticed by few |
//! | at most open for | a minute | a service that is down for long is asked rarely; after a minute users have left |
//! | probes | 3 | one success may be chance |
//! | probe timeout | 30 s | longer than any call that is worth waiting for |

mod breaker;
mod builder;
mod config;
mod instrument;
mod layer;
mod most_open;
mod open_time;
mod permit;
mod published;
mod rules;
mod stage;
mod state;
mod ticket;
mod ticks;
mod transition;
mod window;
mod word;

pub use breaker::Breaker;
pub use builder::BreakerBuilder;
pub use config::{BreakerConfig, FailureRate, Forced, SlowCallRate};
pub use layer::CircuitBreakerLayer;
pub(crate) use most_open::MostOpen;
pub use permit::Permit;
pub use transition::Transition;
pub use word::BreakerState;
