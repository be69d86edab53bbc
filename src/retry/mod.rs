//! Sends a failed call again, when that is likely to help and cannot hurt.
//!
//! A retry turns a passing fault into a success, and a lasting one into a multiple of the load. So every retry here
//! passes four questions: did the service fail in a way that another try may mend; is the call allowed another attempt;
//! does the wait end before the caller's deadline; and has the [`RetryBudget`] a retry left, which bounds the load that
//! all retries together add.
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
//! | `Outcome::Overloaded` with a `retry_after` of at most [`max_hint`](Retry::max_hint) | after that and the backoff |
//! | `Outcome::Overloaded` with a longer one, or without | no |
//! | `Outcome::Unprocessed` with a `retry_after` of at most `max_hint`, or without | after that and the backoff |
//! | `Outcome::Unprocessed` with a longer one | no |
//! | a refusal by a layer further in | no, unless [asked for](Retry::wait_for_refusals) |
//! | any other outcome | no |
//!
//! When there is no retry the caller gets what the last attempt ended with, at once: there is no wait after the last
//! failure, and none that would end at or after the deadline of the call.
//!
//! # Refusals by the stack itself
//!
//! An open circuit fails fast, and a retry must not turn that into a wait. So a refusal by a layer of the same stack
//! ends the call at once. Before it waits, the retry also asks the layers further in whether they would refuse the
//! attempt when it is due. If one would, the caller gets the answer of the last attempt at once, and nothing is spent
//! on a retry. If a layer refuses after all, the caller gets that refusal, marked as [having reached the
//! service](crate::Rejection::reached_service).
//!
//! The question takes nothing and changes nothing. An open circuit would refuse until its time is up; a rate limit,
//! while it has too few tokens. A limit that lets calls wait refuses those whose turn would come too late. A limit of
//! [many processes](crate::rate_limit::distributed) answers by what its store said last. A load shed, a queue, a lease
//! and a store that does not answer cannot tell. The functions that say the key and the cost of a request run for the
//! question.
//!
//! Another stack is another matter. What a server refuses is that service's answer: its `429` or `503` is for the
//! [classifier](crate::classify) to judge, and an `Outcome::Overloaded` with a hint is tried again. So is a rejection
//! in the service's own error, as long as the classifier takes it for an error like any other. The default does.
//! [`Layered`](crate::classify::Layered) says that it comes from a layer of this process, stacked by hand: a refusal
//! there ends the call. Such layers cannot be asked before a wait.
//!
//! # The budget
//!
//! A call deposits when its first attempt that was not refused ends. A retry is withdrawn before its wait, and refunded
//! if the attempt was refused by a layer further in, or the call was cancelled before the attempt reached the service.
//! A service whose readiness fails has been asked: that attempt is spent.
//!
//! # Programs that live for few calls
//!
//! A new budget has less than one retry: a fresh `Retry::new(3)` retries the first failure of a new process in one
//! case of ten.
//! That is right for a service, which soon has earned some. Credit at the start has a price where clients are many: at
//! 1,000 quiet clients it lets retries triple the load on a service that fails. A command-line tool, a cron job or a
//! function that lives for one call asks for its retries with
//! [`RetryBudget::builder().initial(n)`](RetryBudgetBuilder::initial).
//!
//! # Requests
//!
//! A request is cloned only if a further attempt is possible, once for each such attempt. Requests that are
//! not `Clone` are copied by [`Retry::replay_with`]; those that must not be repeated are told apart by
//! [`Retry::replay_if`]. It answers with `true` or `false`, or with a [`Repeat`]: a request that must not be processed
//! twice may still be sent again if the service provably did nothing with it. A [`Replay`] of your own keeps less than
//! a whole request.
//!
//! # Between attempts
//!
//! The service's future is dropped and the call takes a fresh clone of the service, so that a call which waits holds no
//! place in any queue. Everything that layers further in took for the attempt has been given back.
//!
//! # Cancellation
//!
//! A dropped call leaves nothing behind; see the budget.
//!
//! # Cost
//!
//! A call that succeeds at once: one clone of the request and one atomic step on the budget, none while that is full.
//! No allocation, and no clock reading of its own; but a layer further in that needs the time reads the clock after the
//! clone. A retry takes one short lock for its jitter. Before its wait, a rate limit further in is read; a bucket that
//! warms up, a window or a key's bucket under a lock.
//!
//! # A service that retries by itself
//!
//! Attempts multiply: three here and three in the service are nine. Retries inside the service cannot be seen from
//! here, so switch them off there (`reqwest`: `retry::never()`; hyper-util's client: `retry_canceled_requests(false)`;
//! most SDKs have a setting). The last of these repeats only what was never sent, on a connection that the server had
//! closed; without it such a call fails, so keep idle connections shorter than the server does.
//!
//! # Differences from `tower::retry`
//!
//! Tower's budget truncates its ratio and can be overdrawn; its jitter repeats in every session made by one maker; its
//! policy, its deadlines and its handling of `Retry-After` are left to the user.
//!
//! # Defaults
//!
//! | what | default | because |
//! |---|---|---|
//! | backoff | 50 ms doubling to 2 s, full jitter | see [`Backoff`] |
//! | budget | 10% of the calls, and a trickle | see [`RetryBudget`] |
//! | requests | all are repeatable | only the user knows which are not |
//! | [`max_hint`](Retry::max_hint) | 60 s | callers seldom wait longer |
//! | refusals | end the call | an open circuit and a limit are there to fail fast |

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
