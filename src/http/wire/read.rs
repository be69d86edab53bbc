use super::{
    ATTEMPT, CLASSES, CRITICALITY, DEADLINE, DIGITS, ENVOY_ATTEMPT, ENVOY_TIMEOUT, GRPC_ATTEMPTS, Ignored, name,
    number, trimmed,
};
use crate::{
    context::{CallContext, Criticality},
    deadline::Deadline,
    http::{Peer, grpc},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;
use tokio::time::Instant;

/// The longest time that a header can grant. A caller that claims more has this.
const LONGEST: Duration = Duration::from_secs(3600);

/// What the request of this peer says about its call, on top of what is known of it.
///
/// Anyone may ask for less: an earlier deadline, more attempts made, which lowers the retries, and a lower criticality.
/// Only an internal peer may ask for more: a criticality above the default.
///
/// - The smallest of all deadlines that can be read counts, and at most one hour. Zero is a deadline at `now`.
/// - The largest number of attempts counts, of the first field of each name.
/// - The first field of a criticality counts.
/// - A header that cannot be read is ignored and [counted](crate::http::ignored_headers).
///
/// It costs one look-up for each header of the [table](super), and never allocates.
pub(in crate::http) fn read(peer: Peer, headers: &HeaderMap, given: CallContext, now: Instant) -> CallContext {
    let deadline = match time_left(peer, headers) {
        Some(left) => Deadline::after(now, left.min(LONGEST)),
        None => Deadline::NEVER,
    };
    let context = given.narrowed(deadline);
    let attempt = attempt(headers);
    let context = if attempt > given.attempt() { context.with_attempt(attempt) } else { context };
    match (criticality(headers), peer) {
        (None, _) => context,
        (Some(claimed), Peer::Internal) => context.with_criticality(claimed),
        (Some(claimed), Peer::External) => context.with_criticality(claimed.min(given.criticality())),
    }
}

fn time_left(peer: Peer, headers: &HeaderMap) -> Option<Duration> {
    let millis = |value: &HeaderValue| number(trimmed(value), DIGITS).map(Duration::from_millis);
    let counted = Some(Ignored::Deadline);
    let from_envoy = match peer {
        Peer::Internal => least(headers, &ENVOY_TIMEOUT, millis, counted),
        Peer::External => None,
    };
    let of_all = [least(headers, &grpc::TIMEOUT, grpc::timeout, counted), least(headers, &DEADLINE, millis, counted)];
    of_all.into_iter().chain([from_envoy]).flatten().min()
}

/// The smallest of all values of this header that can be read. The others are counted as this kind, if any.
pub(super) fn least(
    headers: &HeaderMap,
    name: &HeaderName,
    parse: impl Fn(&HeaderValue) -> Option<Duration>,
    kind: Option<Ignored>,
) -> Option<Duration> {
    let values = headers.get_all(name).iter();
    values.filter_map(|value| read_or_count(parse(value), kind)).min()
}

fn read_or_count<T>(value: Option<T>, kind: Option<Ignored>) -> Option<T> {
    if let (None, Some(kind)) = (&value, kind) {
        kind.count();
    }
    value
}

/// The largest number of earlier attempts that a header names, or zero.
fn attempt(headers: &HeaderMap) -> u32 {
    let first = |name: HeaderName| -> u64 {
        let Some(value) = headers.get(name) else { return 0 };
        read_or_count(number(trimmed(value), DIGITS), Some(Ignored::Attempt)).unwrap_or(0)
    };
    // Envoy counts the attempt at hand.
    let earlier = first(GRPC_ATTEMPTS).max(first(ATTEMPT)).max(first(ENVOY_ATTEMPT).saturating_sub(1));
    u32::try_from(earlier).unwrap_or(u32::MAX)
}

fn criticality(headers: &HeaderMap) -> Option<Criticality> {
    let value = trimmed(headers.get(CRITICALITY)?);
    let class = CLASSES.into_iter().find(|class| value.eq_ignore_ascii_case(name(*class).as_bytes()));
    read_or_count(class, Some(Ignored::Criticality))
}
