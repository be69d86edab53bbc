//! Stacks whose configuration changes while calls pass.
//!
//! Limits have to change when there is no time for a deployment: a tenant is let in or kept out, a dependency is known
//! to be down, a limit turns out to be wrong at night. `.live()?` in place of `.layer()?` makes the same stack and a
//! [`Control`], by which a [`StackConfig`] is applied to it, as a whole or not at all.
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
//! // Each configuration is a whole: this one lets calls pass again, and has the timeout that was built.
//! let tight = StackConfig { load_shed: Some(LoadShedConfig::new(10)), ..StackConfig::default() };
//! control.apply(&tight)?;
//! assert_eq!(service.oneshot(3).await?, 3);
//!
//! // What cannot work is refused, and nothing changes.
//! let error = control.apply(&StackConfig { load_shed: Some(LoadShedConfig::new(0)), ..off }).unwrap_err();
//! assert_eq!(error.to_string(), "load_shed.limit = 0: must be at least 1");
//! assert_eq!(control.config().load_shed, tight.load_shed);
//! # Ok(())
//! # }
//! ```
//!
//! # What a call sees of a change
//!
//! A call passes the gates (kill switch, breaker, limits) in one go, and all of them decide by the same configuration.
//! A change neither waits for the calls at the gates nor stops them. A call that finds a change made while it passed
//! gives back what it took and begins again, before it reaches the service. The functions that say a key, a cost or a
//! weight, or copy a request, then run again for it. A call that was refused does not begin again: one gate refused it,
//! by one configuration.
//!
//! Changes give way to a call that they have overtaken eight times: each waits for it, for about a millisecond.
//!
//! While a change is made, a limit is as strict as the old configuration and the new one together. It takes the time of
//! some stores and a short lock for each mechanism.
//!
//! The gates hold what all calls share, and so their limits are those in force when a call asks: another attempt, and a
//! call whose turn comes in a line or in a queue, is let on by what is in force then.
//!
//! Some parts change in one step, since neither of two configurations is the stricter one: a queue, the number of
//! probes of a breaker and the times after which it takes a call for a failure, limits by key that become stricter in
//! one number and less strict in another, the distributed limits, [`LiveLimit`](crate::rate_limit::LiveLimit)s of your
//! own, and the terms of calls. Where one change has several of these, calls that begin meanwhile wait until all have
//! changed.
//!
//! A call's own terms, which are its timeout, its attempts, the waits between them and their timeout, are those in
//! force when it began, from its beginning to its end.
//!
//! # What stays
//!
//! | mechanism | its state |
//! |---|---|
//! | rate limit | what the buckets hold stays, in tokens, up to the new burst; who waits goes on waiting, at the new rate |
//! | circuit breaker | its state, its window and its probes stay; an open circuit keeps to the time that it was opened for |
//! | retry | the balance of the budget stays, up to the new cap |
//! | load shed | no call is interrupted; if more are in flight than may be, calls are refused until enough have ended |
//! | load level | likewise, and who waits stays |
//! | kill switch | calls that have passed it go on; a further attempt of one is refused |
//!
//! # What it does not cover
//!
//! - A mechanism that two live stacks share follows both. A call of the one stack may see a half of a change that the
//!   control of the other makes.
//! - A call that a [`LiveLimit`](crate::rate_limit::LiveLimit) of your own makes while it is applied may see a half of
//!   the change.
//! - A call that waits for a rate limit is judged by the quota and the shadow mode of the moment when its turn comes.
//! - A [`LiveLimit`](crate::rate_limit::LiveLimit) of your own that panics while it is applied may leave its part of
//!   the change undone, and those of the limits after it. The other gates follow. The terms may stay.
//! - A [`Control`] that is kept by a function of its own stack keeps that stack alive for ever.
//!
//! # Cost
//!
//! A pass of a live stack writes nothing that threads share. It costs three loads of a version, a counter of the
//! thread, and a copy of the terms, which are seven words: up to a tenth of what the stack costs as built. A change
//! costs the calls that it overtakes another pass, and each thread the cache lines that the change wrote. For what it
//! costs the thread that makes it see [`Control::apply`].

mod attempt;
mod change;
mod changes;
mod config;
mod control;
mod depth;
mod instrument;
mod news;
mod parts;
mod passes;
mod pieces;
mod shared;
mod stage;
mod switch;
mod terms;

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
