//! The API: the file to copy.

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use std::time::Duration;
use steadfast::{
    Rejection,
    rate_limit::{Keyed, Quota, RateLimit, TierBy, TokenBucket},
};
use tokio::time::Instant;
use tower::BoxError;

/// The header that identifies a caller.
const API_KEY: &str = "x-api-key";

/// The free tier. Callers without a key share one of its buckets. A burst of ten covers a page with its parts.
const FREE: Quota = Quota::new(5, Duration::from_secs(1)).with_burst(10);
/// The paid tier: keys that begin with `pro-`. A real API looks the key up in its own table.
const PRO: Quota = Quota::new(50, Duration::from_secs(1)).with_burst(50);

/// The table has room for this number of live keys: 2.4 MB for the life of the table. Beyond it, new keys share a
/// bucket.
const MOST_KEYS: usize = 100_000;

type Quotas = Keyed<str, TierBy<fn(&str) -> usize>>;

fn tier_of(key: &str) -> usize {
    usize::from(key.starts_with("pro-"))
}

fn key_of(headers: &HeaderMap) -> &str {
    headers.get(API_KEY).and_then(|key| key.to_str().ok()).unwrap_or_default()
}

/// Each key has the quota of its tier.
pub fn with_a_quota_for_each_key() -> Result<Router, BoxError> {
    let quotas: Quotas = Keyed::builder(MOST_KEYS, FREE).tiers([PRO], tier_of as fn(&str) -> usize).build()?;
    let limit = RateLimit::by_key_ref(quotas.clone(), |request: &Request| key_of(request.headers()));
    let stack = steadfast::server()
        .rate_limit(limit.named("requests"))
        // A real API also sheds load and limits the time: see `axum_server`.
        .respond_with(refuse)
        .layer()?;
    Ok(api().layer(stack).layer(from_fn_with_state(quotas, say_what_is_left)))
}

/// For contrast: all callers share one limit, which is as large as the quotas of the four callers together.
pub fn with_one_limit_for_all() -> Result<Router, BoxError> {
    let bucket = TokenBucket::builder(2 * PRO.count() + 2 * FREE.count(), Duration::from_secs(1)).build()?;
    let stack = steadfast::server().rate_limit(bucket).respond_with(refuse).layer()?;
    Ok(api().layer(stack))
}

fn api() -> Router {
    Router::new().route("/report", get(async || "all is well\n"))
}

/// Returns the answer to a caller that has spent its quota. It also answers for further layers, if you add some to the
/// stack.
fn refuse(rejection: Rejection) -> Response {
    let status = match &rejection {
        // The request costs more than is ever allowed at once.
        Rejection::RateLimited(refused) if refused.retry_after().is_none() => StatusCode::PAYLOAD_TOO_LARGE,
        Rejection::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = (status, format!("{rejection}\n")).into_response();
    if let Some(wait) = rejection.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    response
}

/// Adds the caller's quota and the rest of it to every answer: the `RateLimit-Policy` and `RateLimit` headers of the
/// IETF draft "RateLimit header fields for HTTP".
async fn say_what_is_left(State(quotas): State<Quotas>, request: Request, next: Next) -> Response {
    let key = key_of(request.headers()).to_owned();
    let mut response = next.run(request).await;
    let quota = quotas.quota(tier_of(&key));
    let left = quotas.available_at(&key, Instant::now());
    // The time until the bucket is full again.
    let missing = quota.burst().saturating_sub(left);
    let until_full = whole_seconds(quota.period().mul_f64(missing as f64 / quota.count() as f64));
    let policy = format!(r#""requests";q={};w={}"#, quota.count(), quota.period().as_secs());
    let headers = response.headers_mut();
    for (name, value) in [
        (HeaderName::from_static("ratelimit-policy"), policy),
        (HeaderName::from_static("ratelimit"), format!(r#""requests";r={left};t={until_full}"#)),
    ] {
        headers.extend(HeaderValue::try_from(value).map(|value| (name, value)));
    }
    response
}

/// Converts to whole seconds for a header. Rounds up: a caller that comes back early is refused again.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
