//! Bounds how long a call may take, readiness and queues included.
//!
//! A caller that waits for ever holds its memory, its connection and its own callers for ever: slowness spreads
//! upstream until everything is slow. A [`TimeoutLayer`] ends a call when its time is up.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::{Error, Rejection, timeout::TimeoutLayer};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! let slow = service_fn(async |_: ()| -> Result<(), std::io::Error> {
//!     tokio::time::sleep(Duration::from_secs(60)).await;
//!     Ok(())
//! });
//! let service = TimeoutLayer::new(Duration::from_millis(100))?.typed_error().layer(slow);
//!
//! let error = service.oneshot(()).await.unwrap_err();
//! assert!(matches!(error, Error::Rejected(Rejection::TimedOut(_))));
//! assert!(error.rejection().unwrap().reached_service());
//! # Ok(())
//! # }
//! ```
//!
//! # Semantics
//!
//! - The limit covers everything further in: waiting for the service to be ready, queues, attempts and the pauses
//!   between them. It ends with the response's head; a streamed body is not covered.
//! - A deadline inherited through [`CallContext`](crate::CallContext) counts if it is earlier; a limit never extends
//!   it. Retries further in, in the same stack, learn the deadline and do not sleep past it. A call whose inherited
//!   deadline has passed before it begins is refused before any work: no caller waits for its answer. Its rejection
//!   says [`Waiting`](crate::error::TimedOutIn::Waiting) and that it [spent](crate::error::TimedOut::spent) nothing.
//! - An answer that is there when the time is up is returned, not thrown away.
//! - When the time is up the service's future is dropped, then the call ends as
//!   [`TimedOut`](crate::error::TimedOut), which says whether the service had been called.
//! - A call that an earlier deadline ends before it had half of the limit [says nothing about the
//!   service](crate::error::TimedOut::was_cut_short). Inside a stack each attempt is judged so, by the attempt timeout,
//!   or by the timeout of the stack where there is none; see [`Ending::CutShort`](crate::shell::Ending::CutShort).
//! - The limit counts from the first poll of the response future. Alone around a service it counts from the end of that
//!   first poll, so that a call that is answered at once reads no clock. In a stack, the service sees the deadline in
//!   its [context](crate::CallContext), so the clock is read before.
//! - tokio's timers fire at whole milliseconds: a limit ends a call up to a millisecond or two late, never early.
//! - A cancelled call leaves nothing behind.
//!
//! # A limit for each request
//!
//! A [`PerRequest`] asks a closure for the limit of each request; `None` is no limit. It takes the place of a duration
//! in [`TimeoutLayer::by`], and in `timeout` and `attempt_timeout` of the stacks. A configuration of a live stack
//! cannot set such a limit.
//!
//! # A timeout that is learned
//!
//! A [`Quantile`] finds the limit from the share of calls that it may give up although an answer would still have come.
//! It takes the place of a duration in [`TimeoutLayer::learned`], and in `timeout` and `attempt_timeout` of the stacks.
//!
//! It also knows how long the fastest answer took lately. A call that has to end earlier, by the deadline of its caller
//! or of a timeout further out, is [refused](Quantile#calls-that-cannot-be-answered-in-time) before any work. Other
//! timeouts refuse a call only where its deadline has passed.
//!
//! # Cost
//!
//! A learned limit reads the clock at the beginning and at the end of each call. A limit for each request reads it at
//! the beginning, after the closure has run. Otherwise:
//!
//! A call that is answered in its first poll: no timer, no allocation; no clock reading when alone, one in a stack. A
//! pending call: one timer per stack, and one reading of the clock per poll.
//!
//! # Differences from `tower::timeout`
//!
//! Tower's does not cover readiness, makes a timer for every call, knows no inherited deadline, and boxes the error.
//!
//! # Defaults
//!
//! There is no default limit: choose it from the latencies of the service, as the time after which the answer is no
//! longer worth having. Where a retry follows, a high [`Quantile`] fits.

mod layer;
mod patience;
mod per_request;
mod quantile;
mod stage;

pub use crate::deadline::Deadline;
pub use layer::TimeoutLayer;
pub use patience::Patience;
pub use per_request::PerRequest;
pub use quantile::{Quantile, QuantileBuilder};
pub(crate) use stage::Of;
#[doc(hidden)]
pub use stage::TimeoutStage;
