//! Refuses calls beyond a rate, or lets them wait for their turn, and says when to come back.
//!
//! A rate limit is a promise about traffic, not about load: 100 calls per second to a partner that counts them, 1,000
//! tokens per minute for a tenant. It refuses a call that is over the rate even if the service is idle. To protect a
//! service from more work than it can do, use [`load_shed`](crate::load_shed), which sees what is going on.
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
//! # Which limit
//!
//! | limit | admits in any interval of length t at most | memory |
//! |---|---|---|
//! | [`TokenBucket`] | `burst + rate * t` | one word |
//! | [`Keyed`] | the same for each key | 24 bytes for each key |
//! | [`SlidingWindow`] | `limit`, if t is at most the window | up to 6 KiB |
//! | [`Leased`](distributed::Leased) | the same, by many processes together, for each key | in a store |
//!
//! A [`RateLimit`] is one of these, or another [`Limit`], and says what becomes of a call:
//!
//! ```
//! # fn main() -> Result<(), steadfast::ConfigError> {
//! use std::time::Duration;
//! use steadfast::rate_limit::{Keyed, Quota, RateLimit, TokenBucket};
//!
//! struct Upload {
//!     tenant: String,
//!     bytes: u64,
//! }
//!
//! const SECOND: Duration = Duration::from_secs(1);
//! const HOUR: Duration = Duration::from_secs(3600);
//!
//! // For each tenant a thousand per hour in the long run (up to two thousand in the first: see below) and ten per second;
//! // for all of them a megabyte per second.
//! let per_second = Keyed::<str>::builder(10_000, Quota::new(10, SECOND)).build()?;
//! let per_hour = Keyed::<str>::builder(10_000, Quota::new(1000, HOUR)).build()?;
//! let bytes = TokenBucket::builder(1_000_000, SECOND).burst(8_000_000).build()?;
//! let limit = RateLimit::by_key_ref(per_hour, |upload: &Upload| upload.tenant.as_str()).named("per hour")
//!     .and(RateLimit::by_key_ref(per_second, |upload: &Upload| upload.tenant.as_str()).named("per second"))
//!     .and(RateLimit::new(bytes.clone()).cost(|upload: &Upload| upload.bytes).named("bytes"));
//!
//! let stack = steadfast::server().rate_limit(limit).layer()?;
//! // Later, while traffic flows:
//! bytes.set_quota(Quota::new(2_000_000, SECOND))?;
//! # let _ = stack;
//! # Ok(())
//! # }
//! ```
//!
//! # Semantics
//!
//! - A call is admitted or refused in the first poll of its future. Where calls may [wait](RateLimit::wait) it takes
//!   its place in line in that poll instead, if its turn comes in time.
//! - A refusal says which limit it was, and after how long there will be enough tokens, if no other caller takes them.
//!   The limit's own handle says at any time how many are left: `available_at`.
//! - A call that was refused further in, in the same stack, or was dropped before it reached the service, gets its
//!   tokens back. A call that reached the service has spent them, however it ended, unless
//!   [`refund_if`](RateLimit::refund_if) says that its answer need not count.
//! - A limit in [shadow](RateLimit::shadow) refuses nothing and counts what it would have refused.
//! - A refused call costs nothing, or what it would have cost: [`count_refused`](RateLimit::count_refused).
//! - A bucket that is [closed](TokenBucket::close) refuses all calls that wait and all that come, with
//!   [`Rejection::Closed`](crate::Rejection::Closed).
//! - One limit may serve many layers: its clones share their tokens. It can also be asked without tower, and changed
//!   while it is in use.
//!
//! # A bucket or a window
//!
//! A [`TokenBucket`] is the choice where the limit is yours: it spreads calls over time, needs one word of memory and
//! one compare-and-swap, and gives back a little at every moment, so that no caller waits for long. In any window of a
//! period's length it admits at most a burst and what is minted meanwhile, and so up to twice its count if the burst is
//! that.
//!
//! A [`SlidingWindow`] is the choice where another party counts: never more than `n` calls in any minute. It lets a
//! whole limit through at once and nothing for the rest of the window. It takes a lock and up to 6 KiB. To keep to the
//! same promise with a bucket, its count and its burst have to be halved.
//!
//! # A limit for each key
//!
//! [`Keyed`] has a bucket for each of many keys: users, tenants, addresses, in tiers with quotas of their own. Its
//! memory is fixed when it is built, whatever keys come; a key whose bucket is full again gives way to another.
//!
//! ```
//! # use std::time::Duration;
//! use steadfast::rate_limit::{Keyed, Quota};
//!
//! # fn main() -> Result<(), steadfast::ConfigError> {
//! let free = Quota::new(10, Duration::from_secs(1));
//! let paid = Quota::new(1_000, Duration::from_secs(1));
//! let limit = Keyed::<str>::builder(100_000, free).tiers([paid], |tenant| tenant.ends_with("-paid") as usize).build()?;
//! assert!(limit.try_acquire("acme", 11).is_err());
//! assert!(limit.try_acquire("acme-paid", 11).is_ok());
//! # Ok(())
//! # }
//! ```
//!
//! # Cost
//!
//! One reading of the clock, shared with the rest of the stack, and one compare-and-swap; to refuse, none. No
//! allocation.
//!
//! Threads that share a bucket move its cache line from core to core, once per admitted call. A lock around the same
//! state would write it twice. So all threads together admit at the rate at which the cache line moves: some ten to
//! twenty million calls per second between the cores of one socket. A refusal writes nothing shared, and scales with
//! the cores. Stripes, a part of the rate for each core, would lift that bound and break the promise. A stripe that
//! runs dry refuses what another has, or has to look into all of them, and so moves every cache line.
//!
//! # Differences from `tower::limit::RateLimit`
//!
//! Tower's counts in fixed windows, so that twice the rate passes around the edge of two; each of its services has a
//! count of its own and is not `Clone`; it cannot refuse.
//!
//! # Differences from governor
//!
//! Governor keeps whole nanoseconds per token, and so admits two thirds more than 600 million per second; its keyed
//! state stays until the program drops it. It computes when a call would be admitted; here a call can wait for that, in
//! line.
//!
//! # Defaults
//!
//! A burst of one period's worth; a cost of one token per call; refusing, not waiting; refused calls do not count. A
//! window is strict, since a caller that chooses it has a promise to keep. The estimate in two counters takes less
//! memory and breaks the promise, so it is a choice of its own.

mod bucket;
mod config;
pub mod distributed;
mod fixed_point_rate;
mod instrument;
mod keyed;
mod layer;
mod limit;
mod quota;
mod stage;
mod tokens;
mod window;

pub use bucket::{Acquire, Reservation, TokenBucket, TokenBucketBuilder};
#[doc(hidden)]
pub use bucket::{InLine, Owing};
pub(crate) use config::LiveLimits;
pub use config::RateLimitConfig;
#[doc(hidden)]
pub use keyed::{BorrowedKey, ByKey, KeyOf, OwnedKey, TierOf};
pub use keyed::{Keyed, KeyedBuilder, OneTier, Overflow, TierBy};
pub use layer::{RateLimit, RateLimitLayer};
#[doc(hidden)]
pub use limit::{AllCount, Both, Cost, CostBy, CostsOfParts, OneToken, RefundBy, RefundIf};
pub use limit::{DescribeLimit, Limit, LiveLimit, RefusedCalls};
pub use quota::Quota;
#[doc(hidden)]
pub use stage::RateLimitStage;
pub use window::{SlidingWindow, SlidingWindowBuilder};
