//! Bounds how long a call may take, readiness and inner queues included.
//!
//! A caller without a timeout keeps its memory, its connection and its own callers waiting. A slow service then makes
//! every service above it slow. A [`TimeoutLayer`] ends a call when its time is up.
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
//! - The limit covers all inner layers: the wait for the service to be ready, queues, attempts and backoffs. It ends
//!   when the head of the response arrives. A streamed body is not covered.
//! - If the call inherits an earlier deadline through its [`CallContext`](crate::CallContext), that deadline ends the
//!   call. A limit never extends it. An inner retry of the same stack sees the deadline and does not wait past it.
//! - A call whose inherited deadline has already passed is refused before any work. Its rejection has the phase
//!   [`Waiting`](crate::error::TimedOutIn::Waiting), and has [spent](crate::error::TimedOut::spent) no time.
//! - An answer that is ready when the time is up is returned.
//! - When the time is up, the layer first drops the service's future. The call then ends as
//!   [`TimedOut`](crate::error::TimedOut), which says whether the service had been called.
//! - An earlier deadline can end a call before half of the limit has passed. The call is then [no evidence about the
//!   service](crate::error::TimedOut::was_cut_short). Neither is a call without a limit that a deadline ends. In a
//!   stack, the rule applies to each attempt. The limit is then the attempt timeout, or without one the timeout of the
//!   stack; see [`Ending::CutShort`](crate::shell::Ending::CutShort).
//! - The limit counts from when the call comes to this layer. For a layer alone, and for the timeout of a client, that
//!   is the first poll of the response future. On a server, it is when the call has passed the limits and the queue in
//!   front of the timeout. For an attempt timeout, it is when the attempt has passed the circuit breaker and the limits
//!   in front of it.
//! - In a stack, the service sees the deadline in its [context](crate::CallContext), so the clock is read when the
//!   limit begins. A fixed limit alone around a service, without an inherited deadline, counts from the end of the
//!   first poll. A call that is answered at once then reads no clock.
//! - tokio's timers fire at whole milliseconds. A limit never ends a call early. It ends a call up to two milliseconds
//!   late, or later if the executor is busy.
//!
//! # Cancellation
//!
//! A dropped call leaves nothing behind.
//!
//! # A limit for each request
//!
//! A [`PerRequest`] calls a closure that chooses the limit of each request; `None` sets no limit. Pass it to
//! [`TimeoutLayer::by`], or to `timeout` and `attempt_timeout` of a stack. The configuration of a live stack cannot
//! change this limit.
//!
//! # A learned limit
//!
//! A [`Quantile`] learns the limit from the latencies of the calls. You choose the false-timeout rate: the share of
//! calls that may be given up although an answer would still have come. Pass it to [`TimeoutLayer::learned`], or to
//! `timeout` and `attempt_timeout` of a stack.
//!
//! All requests of a stack share one learned limit. A kind of request that is rarer than the false-timeout rate, and
//! slower than the others, is [always given up](Quantile#requests-of-different-kinds). Give it its own stack and its
//! own `Quantile`.
//!
//! A [`Quantile`] also knows how long the fastest recent answer took. The deadline of a caller or an outer timeout can
//! leave a call less time than that answer took. Such a call is
//! [refused](Quantile#calls-that-cannot-be-answered-in-time) before any work, except one in a second. A limit of the
//! other kinds refuses a call only if its deadline has passed, or if a [`PerRequest`] chooses a limit of zero.
//!
//! # Cost
//!
//! - A call that is answered in its first poll makes no timer and allocates nothing. It reads the clock once in a
//!   stack. Alone, it reads no clock unless it inherits a deadline.
//! - A pending call has one timer per stack. It reads the clock once per poll.
//! - A learned limit reads the clock when a call begins, and when it ends.
//! - A limit for each request reads the clock when a call begins, after the closure has run.
//!
//! # Differences from `tower::timeout`
//!
//! Tower's timeout does not cover readiness, makes a timer for every call, ignores inherited deadlines, and boxes the
//! error.
//!
//! # Defaults
//!
//! There is no default limit. Choose the time after which the caller has no more use for the answer. If a retry
//! follows, choose from the latencies of the service instead: a high quantile of them, such as a [`Quantile`] learns.

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
