//! Sends a failed call again, when that is likely to help and cannot hurt.
//!
//! A retry turns a passing fault into a success, and a lasting fault into a multiple of the load. A call is therefore
//! retried only if four conditions hold:
//!
//! - The attempt failed in a way that another attempt may mend.
//! - The call has attempts left.
//! - The backoff ends before the caller's deadline.
//! - The [`RetryBudget`], unless it is [switched off](Retry::without_budget), has a retry left. The budget bounds the
//!   load that all retries together add.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::atomic::{AtomicU32, Ordering};
//! use std::time::Duration;
//! use steadfast::retry::{Backoff, Retry, RetryBudget, RetryLayer};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! static CALLS: AtomicU32 = AtomicU32::new(0);
//! let flaky = service_fn(async |_: ()| match CALLS.fetch_add(1, Ordering::Relaxed) {
//!     10 => Err(std::io::Error::other("connection reset")),
//!     _ => Ok("answer"),
//! });
//!
//! let budget = RetryBudget::builder().ratio(0.2).build()?;
//! let backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(1));
//! let retry = Retry::new(3).backoff(backoff).budget(budget);
//! let service = RetryLayer::new(retry)?.typed_error().layer(flaky);
//!
//! // Ten calls earn two retries; a new budget has less than one.
//! for _ in 0..10 {
//!     service.clone().oneshot(()).await?;
//! }
//! assert_eq!(service.oneshot(()).await?, "answer");
//! assert_eq!(CALLS.load(Ordering::Relaxed), 12);
//! # Ok(())
//! # }
//! ```
//!
//! # What is retried
//!
//! | the attempt ended with | retry |
//! |---|---|
//! | [`Outcome::Failure`](crate::Outcome::Failure), or a timeout after the service was called | after the backoff |
//! | `Outcome::Overloaded` with a `retry_after` of at most [`max_hint`](Retry::max_hint) | after the `retry_after` and the backoff |
//! | `Outcome::Overloaded` with a longer `retry_after`, or without | no |
//! | `Outcome::Unprocessed` with a `retry_after` of at most `max_hint`, or without | after the `retry_after`, if any, and the backoff |
//! | `Outcome::Unprocessed` with a longer `retry_after` | no |
//! | a refusal by an inner layer | no, unless [asked for](Retry::wait_for_refusals) |
//! | any other outcome | no |
//!
//! If the call is not retried, the caller gets the result of the last attempt at once. A retry whose backoff would end
//! at or after the call's deadline is not made.
//!
//! # Refusals by the stack itself
//!
//! An open circuit fails fast, and a retry must not turn that into a wait. A refusal by an inner layer of the same
//! stack therefore ends the call at once. Before a backoff, the retry also asks the inner layers whether they would
//! refuse the next attempt at the time it is due. If one would, the caller gets the result of the last attempt at once,
//! and the budget is not charged. With [`wait_for_refusals`](Retry::wait_for_refusals), the retry does not ask. If a
//! layer refuses the attempt although it had not predicted that, the caller gets the refusal. It is marked as [having
//! reached the service](crate::Rejection::reached_service), because an earlier attempt did.
//!
//! Asking changes no state. Each layer answers from what it knows:
//!
//! | layer | predicts a refusal |
//! |---|---|
//! | circuit breaker | until the open time ends; while a half-open circuit has no place for a probe, or its probes have exceeded the probe timeout; while the circuit is forced open |
//! | rate limit | while the bucket has too few tokens |
//! | rate limit with a wait queue | if the call's turn would come too late |
//! | [distributed](crate::rate_limit::distributed) rate limit | by the last answer of the store |
//! | [learned timeout](crate::timeout::Quantile) | if the time until the deadline is too short for any answer |
//! | load shed, queue, lease, or a store that does not answer | never |
//!
//! Asking a rate limit runs its functions for the key and the cost of the request. Asking a
//! [`PerKey`](crate::per_key::PerKey) runs its function for the key.
//!
//! A refusal by another stack is an answer of the service. The [classifier](crate::classify) judges a server's `429` or
//! `503`, and an `Outcome::Overloaded` with a hint is retried. The service's own error may wrap a rejection, for
//! example of a layer stacked by hand. The default classifier treats that error like any other, so the call is retried.
//! [`Layered`](crate::classify::Layered) recognizes rejections by layers of this process that were stacked by hand;
//! such a rejection ends the call. The retry cannot ask those layers before a backoff.
//!
//! # The budget
//!
//! A call makes one deposit, at the end of its first attempt that reached the service. A retry withdraws before its
//! backoff. The budget refunds the retry if an inner layer refuses the attempt. It also refunds the retry if a timeout
//! ends the attempt, or the caller drops the call, before the attempt has reached the service. An attempt that has not
//! begun counts as one that has not reached the service. An attempt whose service fails to become ready has reached the
//! service and is not refunded.
//!
//! # Short-lived programs
//!
//! A new budget holds a random fraction of one retry, and the first call adds a tenth of one. `Retry::new(3)` therefore
//! retries the first failure of a new process in one case of ten. This suits a service, which soon earns more. Initial
//! credit is expensive where clients are many: 1,000 quiet clients with initial credit triple the load on a failing
//! service. A command-line tool, a cron job or a function that lives for one call sets
//! [`RetryBudget::builder().initial(n)`](RetryBudgetBuilder::initial).
//!
//! # Requests
//!
//! The retry clones the request before the first attempt, and before each retry except the last possible one.
//! [`Retry::replay_with`] copies requests that are not `Clone`. [`Retry::replay_if`] says which requests may be
//! repeated, with `true`, `false` or a [`Repeat`]. With [`Repeat::IfUnprocessed`], a request that must not be processed
//! twice is retried if the service provably did not process it. A [`Replay`] of your own can keep less than the whole
//! request.
//!
//! # Between attempts
//!
//! The retry drops the service's future and takes a fresh clone of the service. A call in backoff therefore holds no
//! place in any queue, and no permit of an inner layer.
//!
//! # Cancellation
//!
//! A dropped call leaves nothing behind. [The budget](#the-budget) says when the retry that it took is refunded.
//!
//! # Cost
//!
//! A call that succeeds at once clones the request once and makes one atomic step on the budget, or none while the
//! budget is full. It allocates nothing. It reads no clock itself. Layers share one reading of the clock until user
//! code runs. The clone is user code, so an inner layer that needs the time reads the clock again. A retry takes one
//! short lock for its jitter. Before the backoff, the retry reads the inner rate limit. This takes a lock if the limit
//! is a bucket that warms up, a window or a bucket per key.
//!
//! # Services that retry by themselves
//!
//! Attempts multiply: three attempts here and three in the service are nine. This layer cannot see retries inside the
//! service, so switch them off there: `retry::never()` in `reqwest`, `retry_canceled_requests(false)` in hyper-util's
//! client, a setting in most SDKs. By itself, hyper-util repeats only requests that were never sent, because the
//! server had closed an idle connection. With these repeats switched off, such a request fails. Therefore close idle
//! connections earlier than the server does.
//!
//! # Differences from `tower::retry`
//!
//! Tower's budget truncates its ratio and can be overdrawn. All backoffs that one `ExponentialBackoffMaker` makes
//! repeat one sequence of jitter. Tower leaves the policy, deadlines and `Retry-After` to the user.
//!
//! # Defaults
//!
//! | what | default | because |
//! |---|---|---|
//! | backoff | 50 ms doubling to 2 s, full jitter | see [`Backoff`] |
//! | budget | 10% of the calls, and a trickle | see [`RetryBudget`] |
//! | requests | all are repeatable | only the user knows which are not |
//! | [`max_hint`](Retry::max_hint) | 60 s | callers rarely wait longer |
//! | refusals by inner layers | end the call | an open circuit and a limit exist to fail fast |

mod budget;
mod config;
mod instrument;
mod layer;
mod plan;
mod replay;
mod stage;

pub use crate::backoff::{Backoff, Jitter};
pub use budget::{RetryBudget, RetryBudgetBuilder, Withdrawal};
pub use config::{BudgetConfig, RetryConfig};
pub use layer::{Retry, RetryLayer};
#[doc(hidden)]
pub use replay::{CloneRequest, MayRepeat, ReplayIf, ReplayWith};
pub use replay::{Repeat, Replay};
#[doc(hidden)]
pub use stage::RetryStage;
