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
//! A call passes the gates (kill switch, breaker, limits) in one go, and a change waits until no call is in between:
//! all of them decide by the same configuration. The gates hold what all calls share, and so their limits are those in
//! force when a call asks: another attempt, and a call whose turn comes in a line or in a queue, is let on by what is
//! in force then.
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
//! - A mechanism that two live stacks share follows both. It changes between the passes of the stack whose control
//!   changes it, and not between those of the other.
//! - A call that user code makes and finishes within another call's pass (in a function that says a key, say) does not
//!   wait for a change, which may wait for that pass: it may see a half of one.
//! - A call that waits for a rate limit is judged by the quota and the shadow mode of the moment when its turn comes.
//! - A [`LiveLimit`](crate::rate_limit::LiveLimit) of your own that panics while it is applied leaves the rest of the
//!   change undone.
//! - A [`Control`] that is kept by a function of its own stack keeps that stack alive for ever.
//!
//! # Cost
//!
//! A live stack costs two atomic additions per pass, on a cache line that its thread shares with few others, and some
//! loads and copies. For what a change costs see [`Control::apply`].

mod config;
mod control;
mod parts;
mod passes;
mod pieces;
mod stage;
mod terms;

pub use crate::{
    circuit_breaker::{BreakerConfig, FailureRate, Forced, SlowCallRate},
    load_level::LoadLevelConfig,
    load_shed::LoadShedConfig,
    pace::Pace,
    rate_limit::RateLimitConfig,
    retry::{BudgetConfig, RetryConfig},
};
pub use config::StackConfig;
pub use control::Control;
pub(super) use parts::Parts;
#[doc(hidden)]
pub use pieces::Pieces;
#[doc(hidden)]
pub use stage::{KillSwitch, LiveAttemptStage, LiveStage};
