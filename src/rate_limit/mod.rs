//! Refuses calls beyond a rate, and says when to come back.
//!
//! A rate limit is a promise about traffic, not about load: so many calls per second to a partner that counts them, so
//! many tokens per minute for a tenant. It refuses a call that is over the rate even if the service is idle. To protect
//! a service from more work than it can do, use [`load_shed`](crate::load_shed), which sees what is going on.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use steadfast::rate_limit::{RateLimit, RateLimitLayer, TokenBucket};
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//!
//! let upload = service_fn(async |body: Vec<u8>| Ok::<_, BoxError>(body.len()));
//!
//! // A megabyte per second, and no more than two at once.
//! let bytes = TokenBucket::builder(1_000_000, Duration::from_secs(1)).burst(2_000_000).build()?;
//! let limit = RateLimit::new(bytes).cost(|body: &Vec<u8>| body.len() as u64);
//! let service = RateLimitLayer::new(limit).typed_error().layer(upload);
//!
//! service.clone().oneshot(vec![0; 2_000_000]).await.unwrap();
//! let error = service.oneshot(vec![0; 500_000]).await.unwrap_err();
//! let wait = error.rejection().unwrap().retry_after().unwrap();
//! assert_eq!(wait.as_millis(), 500);
//! # Ok(())
//! # }
//! ```
//!
//! # Semantics
//!
//! - A call is admitted or refused in the first poll of its future; nothing waits.
//! - A refusal says after how long there will be enough tokens, if nobody else takes them.
//! - A call that was refused further in, in the same stack, or was dropped before it reached the service, gets its tokens
//!   back. A call that reached the service has spent them, however it ended.
//! - One bucket may serve many layers: its clones share their tokens. A [`TokenBucket`] can also be asked without tower.
//!
//! # Cost
//!
//! One reading of the clock, shared with the rest of the stack, and one compare-and-swap; to refuse, none. No
//! allocation.
//!
//! # Differences from `tower::limit::RateLimit`
//!
//! Tower's counts in fixed windows, so that twice the rate passes around the edge of two; each of its services has a
//! count of its own and is not `Clone`; it cannot refuse.
//!
//! # Defaults
//!
//! A burst of one period's worth; a cost of one token per call.

mod both;
mod cost;
mod layer;
mod limit;
mod line;
mod plan;
mod quota;
mod refund;
mod reservation;
mod scale;
mod stage;
mod token_bucket;

pub use both::Both;
pub use cost::{Cost, CostBy, OneToken};
pub use layer::{RateLimit, RateLimitLayer, RefusedCalls};
pub use limit::{Admission, DescribeLimit, InLine, Limit, Owing, PlaceInLine, Tokens};
pub use quota::Quota;
pub use refund::{AllCount, RefundBy, RefundIf};
pub use reservation::{Acquire, Reservation};
pub use stage::{RateLimitCall, RateLimitStage};
pub use token_bucket::{TokenBucket, TokenBucketBuilder};
