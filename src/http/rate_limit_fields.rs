//! `RateLimit` and `RateLimit-Policy`, of version 10 of the IETF draft "RateLimit header fields for HTTP".

use crate::rate_limit::{Keyed, Quota, SlidingWindow, TierOf, TokenBucket};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{
    borrow::Borrow,
    fmt::Write,
    hash::{BuildHasher, Hash},
    time::Duration,
};
use tokio::time::Instant;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STANDING: HeaderName = HeaderName::from_static("ratelimit");

/// How much of its quota a caller has left.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The calls allowed in one window, sent as `q`.
    pub quota: u64,
    /// The length of the window, sent as `w` in whole seconds, rounded up.
    pub window: Duration,
    /// The remaining calls, sent as `r`.
    pub remaining: u64,
    /// The time until more calls are allowed, sent as `t` in whole seconds, rounded up. A bucket reports the time until
    /// it holds `quota` tokens again. An empty bucket reports the time for one token. A [`SlidingWindow`] reports its
    /// whole window.
    pub reset: Duration,
}

impl Standing {
    /// Returns the standing of a bucket with this quota and these tokens.
    fn of_bucket(quota: Quota, available: u64) -> Self {
        let (count, window) = (quota.count(), quota.period());
        // `reset` is the time until the bucket has `count` tokens again. If the bucket is empty, it is the time for one
        // token.
        let missing = if available == 0 { 1 } else { count.saturating_sub(available) };
        let reset = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        let reset = u128::from(reset) * u128::from(missing) / u128::from(count.max(1));
        let reset = Duration::from_nanos(u64::try_from(reset).unwrap_or(u64::MAX));
        Self { quota: count, window, remaining: available.min(count), reset }
    }
}

/// A limit that reports how much of its quota a caller has left, for
/// [`Http::rate_limit_fields`](super::Http::rate_limit_fields).
///
/// [`TokenBucket`] and [`SlidingWindow`] implement it. [`ByKey`] implements it for a [`Keyed`].
pub trait Advertise<Request> {
    /// The key of the caller, kept until the response.
    type Key;

    /// Returns the key of the request's caller.
    fn key(&self, request: &Request) -> Self::Key;

    /// Returns how much of its quota the caller has left at `now`.
    fn standing(&self, key: &Self::Key, now: Instant) -> Standing;
}

impl<Request> Advertise<Request> for TokenBucket {
    type Key = ();

    fn key(&self, _request: &Request) {}

    fn standing(&self, (): &(), now: Instant) -> Standing {
        Standing::of_bucket(self.quota(), self.available_at(now))
    }
}

impl<Request> Advertise<Request> for SlidingWindow {
    type Key = ();

    fn key(&self, _request: &Request) {}

    fn standing(&self, (): &(), now: Instant) -> Standing {
        Standing { quota: self.limit(), window: self.window(), remaining: self.available_at(now), reset: self.window() }
    }
}

/// The buckets of a [`Keyed`] with one tier, and a function that makes the key of a request.
///
/// ```
/// use std::{net::IpAddr, time::Duration};
/// use http::Request;
/// use steadfast::http::{ByKey, Http, Peer};
/// use steadfast::rate_limit::{Keyed, Quota};
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// let buckets = Keyed::<IpAddr>::builder(10_000, Quota::new(10, Duration::from_secs(1))).build()?;
/// let caller = |request: &Request<()>| request.extensions().get::<IpAddr>().copied().unwrap_or([0, 0, 0, 0].into());
/// let border = Http::new(Peer::External).rate_limit_fields("caller", ByKey(buckets, caller))?;
/// # let _ = border;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ByKey<K: ?Sized, T, S, F>(
    /// The buckets.
    pub Keyed<K, T, S>,
    /// The function that makes the key.
    pub F,
);

impl<Request, K, T, S, F, Key> Advertise<Request> for ByKey<K, T, S, F>
where
    K: Hash + ?Sized,
    T: TierOf<K>,
    S: BuildHasher,
    F: Fn(&Request) -> Key,
    Key: Borrow<K>,
{
    type Key = Key;

    fn key(&self, request: &Request) -> Key {
        (self.1)(request)
    }

    fn standing(&self, key: &Key, now: Instant) -> Standing {
        Standing::of_bucket(self.0.quota(0), self.0.available_at(key.borrow(), now))
    }
}

/// Writes both fields. `hint` is the time after which the caller of a rate-limited call may retry. It is `None` if no
/// rate limit refused the call, or if the caller can never retry it. With a hint, `r` is 0 and `t` is at most `hint`,
/// rounded up.
pub(super) fn write(headers: &mut HeaderMap, name: &str, standing: Standing, hint: Option<Duration>) {
    let Standing { quota, window, remaining, reset } = standing;
    let (remaining, reset) = match hint {
        Some(hint) => (0, reset.min(hint)),
        None => (remaining, reset),
    };
    let mut field = format!("\"{name}\";q={};w={}", integer(quota), seconds(window));
    insert(headers, POLICY, &field);
    field.clear();
    // Writing to a string does not fail.
    let _ = write!(field, "\"{name}\";r={};t={}", integer(remaining), seconds(reset));
    insert(headers, STANDING, &field);
}

fn insert(headers: &mut HeaderMap, field: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(field, value);
    }
}

/// The largest integer of a structured field [RFC 9651 3.3.1].
const LARGEST: u64 = 999_999_999_999_999;

fn integer(number: u64) -> u64 {
    number.min(LARGEST)
}

fn seconds(length: Duration) -> u64 {
    integer(length.as_secs().saturating_add(u64::from(length.subsec_nanos() > 0)))
}
