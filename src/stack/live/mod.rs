//! Stacks whose configuration changes while calls pass.
//!
//! Limits must change when there is no time for a deployment: a tenant is admitted or blocked, a dependency is known to
//! be down, or a limit turns out to be wrong at night. `.live()?` in place of `.layer()?` builds the same stack and a
//! [`Control`]. The control applies a [`StackConfig`] to the stack, as a whole or not at all.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::{Rejection, load_shed::Limiter, stack::live::{LoadShedConfig, StackConfig}};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! let (layer, control) =
//!     steadfast::server().load_shed(Limiter::fixed(100)?).timeout(Duration::from_secs(1)).live()?;
//! let service = layer.layer(service_fn(async |n: u32| Ok::<_, std::io::Error>(n)));
//! assert_eq!(service.clone().oneshot(1).await?, 1);
//!
//! let off = StackConfig { switched_off: true, ..StackConfig::default() };
//! control.apply(&off)?;
//! let error = service.clone().oneshot(2).await.unwrap_err();
//! assert!(matches!(error.rejection(), Some(Rejection::SwitchedOff(_))));
//!
//! // Each configuration is complete: this one turns the kill switch off again and keeps the built timeout.
//! let tight = StackConfig { load_shed: Some(LoadShedConfig::new(10)), ..StackConfig::default() };
//! control.apply(&tight)?;
//! assert_eq!(service.oneshot(3).await?, 3);
//!
//! // A configuration that cannot work is refused, and nothing changes.
//! let error = control.apply(&StackConfig { load_shed: Some(LoadShedConfig::new(0)), ..off }).unwrap_err();
//! assert_eq!(error.to_string(), "load_shed.limit = 0: must be at least 1");
//! assert_eq!(control.config().load_shed, tight.load_shed);
//! # Ok(())
//! # }
//! ```
//!
//! # Calls during a change
//!
//! A call passes the gates (kill switch, breaker, limits) under one configuration. A running change never waits for
//! calls at the gates. These calls wait for the change only in the cases named below. A call that a change overtakes at
//! the gates returns its permits and restarts, before it reaches the service. The functions for the key, cost, weight
//! or copy of a request then run again. A refused call does not restart: one gate refused it, under one configuration.
//!
//! A call that changes have overtaken eight times gets priority: each later change yields to it before it starts, for
//! at most about a millisecond.
//!
//! During a change, a limit admits only calls that both the old and the new configuration would admit. The parts in the
//! list below are exceptions. A change is short: it writes a few words of memory, and takes one or two short locks for
//! each mechanism.
//!
//! The start of a pass reserves nothing: when the call reaches a limit, it finds the places and tokens that other calls
//! have left. A further attempt is admitted under the configuration in force when the attempt starts. A waiter is
//! admitted under the configuration in force at its turn.
//!
//! Some parts do not pass through a state that is as strict as both configurations. They change in one step:
//!
//! - a queue,
//! - a breaker's number of probes, whether it is forced closed, and the durations after which it counts a call as a
//!   failure,
//! - keyed limits that become stricter in one number and less strict in another,
//! - distributed limits, and your own [`LiveLimit`](crate::rate_limit::LiveLimit)s,
//! - the settings of calls, which are listed below.
//!
//! If one change concerns several of these parts, new calls wait until all have changed. Several numbers of one breaker
//! count as one part. New calls also wait if one of these parts is a rate limit that is combined with
//! [another](crate::rate_limit::RateLimit::and).
//!
//! The settings of a call are its timeout, its number of attempts, their backoff, their timeout, and the
//! [longest hint](crate::retry::Retry::max_hint) that a retry waits for. A call keeps the settings that were in force
//! when it started.
//!
//! # State that survives a change
//!
//! | mechanism | its state |
//! |---|---|
//! | rate limit | buckets keep their tokens, up to the new burst; waiters keep waiting, at the new rate |
//! | circuit breaker | keeps its state, unless it is forced, and its window and probes; an open circuit keeps its open time; a half-open circuit closes if as many probes as the new number have succeeded |
//! | retry | the budget keeps its balance, up to the new cap |
//! | load shed | interrupts no call; above the new limit, calls are refused until enough have ended |
//! | load level | interrupts no call; waiters keep waiting |
//! | kill switch | calls that have passed it continue; their further attempts are refused |
//!
//! # Limitations
//!
//! - A mechanism that two live stacks share follows the controls of both. A call of one stack can see half of a change
//!   that the control of the other stack makes.
//! - If your own [`LiveLimit`](crate::rate_limit::LiveLimit) makes a call while a configuration is applied, that call
//!   can see half of the change.
//! - A call that waits for a rate limit is judged by the quota and the shadow mode at its turn.
//! - If your own [`LiveLimit`](crate::rate_limit::LiveLimit) panics while a configuration is applied, this limit may
//!   stay unchanged or half changed. Each other limit or gate then has its old or its new configuration, and so do the
//!   settings.
//! - If a function that was given to the stack holds the [`Control`] of the stack, the two keep each other alive.
//!
//! # Cost
//!
//! A pass of a live stack writes no memory that threads share. The first pass of a call costs three loads of a version,
//! a thread-local counter and a copy of the settings (seven words). This is up to a tenth of the cost of a call through
//! a stack that `.layer()` builds. A later pass costs less. A change makes the calls that it overtakes repeat their
//! pass, and each thread reload the cache lines that the change wrote. [`Control::apply`] states the cost for the
//! thread that makes the change.

mod attempt;
mod change;
mod changes;
mod config;
mod config_gate;
mod control;
mod depth;
mod instrument;
mod news;
mod parts;
mod pieces;
mod settings;
mod shared;
mod stage;
mod switch;

pub use crate::{
    circuit_breaker::{BreakerConfig, FailureRate, Forced, SlowCallRate},
    load_level::LoadLevelConfig,
    load_shed::LoadShedConfig,
    pace::Pace,
    rate_limit::RateLimitConfig,
    retry::{BudgetConfig, RetryConfig},
};
#[doc(hidden)]
pub use attempt::LiveAttemptStage;
pub use config::StackConfig;
pub use control::Control;
pub(super) use parts::Parts;
#[doc(hidden)]
pub use pieces::Pieces;
#[doc(hidden)]
pub use stage::LiveStage;
#[doc(hidden)]
pub use switch::SwitchStage;
