//! Stops calls to a service that fails, and uses a few probes to find out when it works again.
//!
//! Calls to a failing service cost time and connections, and can prevent its recovery. A circuit breaker watches the
//! results of calls. When too many calls fail, it opens and refuses calls at once. After the open time it lets a few
//! probes through, and closes when they succeed.
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
//! - If [`consecutive_failures`](BreakerBuilder::consecutive_failures) is set, the circuit opens on the failure that
//!   completes a run of that length. The default failure rate then does not apply. Set the failure rate too to have
//!   both.
//! - The circuit opens when the [`failure_rate`](BreakerBuilder::failure_rate) of a sliding window reaches its limit.
//!   The breaker checks the rate after each call that counts, so a success that completes the minimum of calls can open
//!   the circuit too.
//! - If a [rate of slow calls](BreakerBuilder::slow_call_rate) is configured, the circuit opens when that rate reaches
//!   its limit. An in-flight call counts as soon as it reaches the threshold, so the breaker notices a hanging service
//!   before the calls to it end.
//! - The first open time is exactly [`open_for`](BreakerBuilder::open_for). Each failed probe [doubles
//!   it](BreakerBuilder::max_open_for), with some jitter, up to `max_open_for`: by default a minute, or `open_for`
//!   if that is longer.
//! - A half-open circuit lets [`probes`](BreakerBuilder::probes) calls through. It closes after that number of
//!   successes. It opens at the first failure, or at the first probe that reaches the threshold of slow calls. A probe
//!   that counts as nothing in the table below returns its place to the next call.
//! - If the probes bring neither success nor failure for the [`probe_timeout`](BreakerBuilder::probe_timeout), because
//!   they hang or are dropped, the next call opens the circuit again. The time starts with the first probe, and again
//!   at each success. A call that arrives while no probe is in flight becomes a probe, and starts the time again
//!   instead of opening the circuit. There is one exception. After a probe that reached the service is abandoned, such
//!   a call does not start the time again for half of the probe timeout.
//! - Every call belongs to the era that admitted it. Each change of state begins a new era, and a call of an earlier
//!   era counts for nothing.
//! - The instants that you pass to methods ending in `_at` must come from one clock. The breaker does not check them.
//!   If a failure that you record with an instant a year ahead opens the circuit, the circuit stays open for a year.
//! - A refusal states how long the circuit stays open, unless it was opened by hand or waits for probes.
//!
//! | the call ended with | counts as |
//! |---|---|
//! | `Outcome::Success`, `Outcome::Permanent` | a success: the service answers |
//! | `Outcome::Failure`, a timeout after the service was called, a panic in it | a failure |
//! | `Outcome::Unprocessed` without a hint | a failure: the service could not be reached |
//! | a deadline before half of the attempt's full time (see below) | nothing; a probe returns its place |
//! | an error of the service's readiness | the outcome that the classifier gives it |
//! | a timeout before the service was ready | nothing |
//! | `Outcome::Overloaded`, `Outcome::Unprocessed` with a hint | a success, unless [`overload_is_failure`](BreakerBuilder::overload_is_failure) is set |
//! | `Outcome::Ignored`, a rejection by an inner layer | nothing |
//! | dropped by the caller | nothing, or a failure [after some time](BreakerBuilder::cancelled_is_failure_after) |
//! | any call that spent at least the threshold of slow calls in the service, unless an inner layer refused it | also a slow call, once |
//!
//! The full time of an attempt is the attempt timeout, or the timeout of the stack if there is no attempt timeout. If
//! a deadline ends an attempt before half of its full time, the service had too little time. The attempt then proves
//! nothing about the service.
//!
//! # Reconfiguration
//!
//! [`Breaker::configure`] replaces the whole configuration of a running breaker. A result is counted by the rules of
//! one configuration, never by a mixture. Only the times of a call, such as the threshold of slow calls, stay those
//! with which the call was admitted. `configure` keeps the state, the failures in a row, the calls in the window and
//! the permits in flight. An open circuit stays open until the instant that its refusals have stated, and a forced
//! circuit stays forced. The page of the method describes a window whose length changes, and the one case in which a
//! half-open circuit closes.
//!
//! # Cost
//!
//! Admitting a call through a closed circuit takes one load. Recording its result takes a few more loads, one clock
//! reading and one compare-and-swap. The state and the rules are in one cache line, which no call writes while the
//! circuit is closed. The window is elsewhere; each call that counts usually writes one word of it. A failure also
//! reads the window: 16 words. A success reads the window only while it might open the circuit by completing the
//! minimum of calls.
//!
//! A refusal takes a few loads and one clock reading. The windows have a fixed size. A call allocates only if it
//! changes the state. A rate of slow calls costs [more](BreakerBuilder::slow_call_rate).
//!
//! # One breaker per host or shard
//!
//! A breaker judges all its calls together. If a fifth of the traffic goes to a dead shard, a single breaker with the
//! default rate of one half stays closed. With a rate of a fifth it opens, also for the healthy shards. Give each shard
//! or host its own breaker, with a [`PerKey`](crate::per_key::PerKey) of breakers.
//!
//! # Defaults
//!
//! | what | default | because |
//! |---|---|---|
//! | opens at | half of the calls failed, over 10 s | below that, more calls succeed than fail |
//! | failures in a row | do not count | a busy service fails some calls in a row by chance |
//! | minimum calls | 20 | the rate of fewer calls is chance |
//! | slow calls | do not count | only the user knows how slow is too slow |
//! | open for | 5 s | long enough to relieve the service, short enough that few users notice |
//! | at most open for | a minute, or the first open time if that is longer | a service that is down for long gets few probes; a longer wait would help no user |
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
