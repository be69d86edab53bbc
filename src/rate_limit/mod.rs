//! Limits the rate of calls: refuses calls beyond the rate, or lets them wait for their turn.
//!
//! A rate limit is a promise about traffic, not about load. Examples are 100 calls per second to a partner that counts
//! them, and 1,000 tokens per minute for a tenant. A rate limit refuses a call beyond the rate even if the service is
//! idle. A refusal says when to come back, unless no wait helps. To protect a service from more work than it can do,
//! use [`load_shed`](crate::load_shed), which counts the calls in flight.
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
//! // A megabyte per second, with a burst of two megabytes.
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
//! | [`TokenBucket`] | `burst + rate * t` | fixed |
//! | [`Keyed`] | `burst + rate * t` for each key that has a slot | 24 bytes for each of `max_keys` |
//! | [`SlidingWindow`] | `limit`, if t is at most the window | up to 6 KiB |
//! | [`Exact`](distributed::Exact), [`WriteBehind`](distributed::WriteBehind) | `burst + rate * t` and a stated excess, for each key in all processes | in a store |
//! | [`Leased`](distributed::Leased) | `limit` for each key in all processes, if t is at most the window | in a store |
//!
//! A sliding window with an [estimate](SlidingWindowBuilder::estimate) may admit more than its limit. [`distributed`]
//! compares the three limits that processes share.
//!
//! A [`RateLimit`] wraps one of these, or another [`Limit`], and adds the cost of a call, refunds and waiting:
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
//! // For each tenant, 1,000 calls per hour in the long run (up to 2,000 in the first hour, because the bucket starts
//! // full) and 10 per second. For all tenants together, a megabyte per second.
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
//! - Most limits admit or refuse a call in the first poll of its future. If calls may [wait](RateLimit::wait), a call
//!   that finds too few tokens takes a place in the wait queue in that poll. If its turn would come too late, the call
//!   is refused instead.
//! - Two limits may ask their store first. The call then waits for the answer, at most for the limit's own deadline.
//!   [`Exact`](distributed::Exact) may ask in each call, [`Leased`](distributed::Leased) for a key that is new to the
//!   process.
//! - A refusal contains the limit's [name](RateLimit::named), if it has one. It states the time until there are enough
//!   tokens, provided that no other caller takes any. It states no time if no wait helps: the call costs more than the
//!   burst, or the bucket is closed.
//!   [`available_at`](TokenBucket::available_at) of the limit's handle returns the tokens that are left.
//! - The limit refunds a call that an inner layer of the same stack refused. It also refunds a call that was dropped,
//!   or ended by a timeout, before it reached the service. A call that reached the service has spent its tokens, even
//!   if it failed, unless [`refund_if`](RateLimit::refund_if) refunds it.
//! - A limit in [shadow](RateLimit::shadow) refuses no call and counts those that it would have refused.
//! - A refused call costs nothing. With [`count_refused`](RateLimit::count_refused) it costs as much as an admitted
//!   call, until the bucket owes a burst.
//! - A bucket that is [closed](TokenBucket::close) refuses all waiters and all later calls that cost tokens, with
//!   [`Rejection::Closed`](crate::Rejection::Closed).
//! - One limit may serve many layers: its clones share their tokens. It also works without tower, and its quota can
//!   change while it is in use.
//!
//! # A bucket or a window
//!
//! Use a [`TokenBucket`] if you set the limit yourself. It spreads calls over time. An admitted call changes one word,
//! by one compare-and-swap. The bucket refills continuously, so no caller has to wait for a period to end. In any
//! window of one period it admits at most the burst plus the refill of that period. With `n` calls per period and the
//! default burst of `n`, that is `2 n`.
//!
//! Use a [`SlidingWindow`] if another party counts your calls, and allows at most `n` of them in any minute. The window
//! can admit the whole limit at once, and then nothing for the rest of its length. Each call takes a lock, and the
//! window takes up to 6 KiB of memory. A token bucket keeps such a promise only if its count and its burst add up to
//! at most `n`. Both can be `n / 2`, for example.
//!
//! # A limit for each key
//!
//! [`Keyed`] has a bucket for each of many keys: users, tenants or addresses. Tiers of keys can have different quotas.
//! Its memory is fixed when it is built. A new key takes a free slot of the table, or the slot of a key whose bucket is
//! full again. If the key finds neither, [`Overflow`] decides.
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
//! With a token bucket, an admitted call makes one compare-and-swap. It reads the clock once, and the other layers of
//! the stack use that reading, too. A refused call reads the clock too, makes no compare-and-swap, and adds one to a
//! striped counter. Neither an admitted nor a refused call allocates. With [`count_refused`](RateLimit::count_refused),
//! a refused call also takes a lock and makes a compare-and-swap. The pages of the limits state their exceptions, such
//! as the lock of a window.
//!
//! Each admitted call moves the bucket's cache line to the core of its thread. On one socket, this bounds all threads
//! together to 10 to 20 million admitted calls per second. A lock around the state would write the cache line twice per
//! call. A refusal does not write the cache line, so refusals scale with the cores.
//!
//! Stripes, one for each core with its part of the rate, would admit more calls per second. But an empty stripe would
//! refuse a call although another stripe has tokens. If the call looked at all stripes instead, it would move every
//! cache line.
//!
//! # Differences from `tower::limit::RateLimit`
//!
//! Tower's limit counts in fixed windows, so up to twice the limit passes within one period around the edge of two
//! windows. Each service counts alone, and is not `Clone`. Tower's limit cannot refuse a call: it makes the caller wait
//! in `poll_ready`.
//!
//! # Differences from governor
//!
//! Governor rounds the time per token down to whole nanoseconds: a limit of 600 million per second admits two thirds
//! more. Its keyed state stays until the program removes it. Its waiting calls (`until_ready`) each sleep and try
//! again, in no order. Here such calls wait in a queue, in order of arrival.
//!
//! # Defaults
//!
//! | what | default | because |
//! |---|---|---|
//! | burst | the count | a caller that was quiet for a period may use a period's tokens at once |
//! | cost | one token per call | most limits count calls |
//! | a call beyond the rate | is refused | a waiting call holds resources of its caller |
//! | refused calls | cost nothing | if they cost tokens, a caller that comes back at the stated time would be refused again |
//! | window | strict | users choose a window to keep a promise to another party; the [estimate](SlidingWindowBuilder::estimate) can exceed the limit |

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
