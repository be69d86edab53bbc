use super::{CLASSES, DIGITS, IgnoredHeader, KnownHeader, known, name, number, trimmed};
use crate::{
    context::{CallContext, Criticality},
    deadline::Deadline,
    http::{Peer, grpc},
};
use http::{HeaderMap, HeaderValue};
use std::time::Duration;
use tokio::time::Instant;

/// The longest time that a header can grant: one hour. A header that claims more counts as one hour.
const LONGEST: Duration = Duration::from_secs(3600);

/// What the border of a server reads from a request.
pub(in crate::http) struct ReadRequest<'headers> {
    /// The context of the call.
    pub(in crate::http) context: CallContext,
    /// The first `content-type` header, if any.
    pub(in crate::http) content_type: Option<&'headers HeaderValue>,
    /// The first `accept` header, if any.
    pub(in crate::http) accept: Option<&'headers HeaderValue>,
}

/// Returns `given`, the context of the call, with the claims of this peer's headers added.
///
/// Any peer may ask for less: an earlier deadline, or a lower criticality. Only an internal peer may ask for more: a
/// criticality above the given one. Any peer may state how many attempts came before this one. Handlers can read that
/// number.
///
/// - The earliest of the given deadline and all readable ones counts. `x-envoy-expected-rq-timeout-ms` is read only
///   from an internal peer. A header grants at most one hour. Zero is a deadline at `now`.
/// - Of each header that states attempts, the first field counts. The largest of these numbers and the given one
///   counts.
/// - The first `steadfast-criticality` field counts.
/// - A header that cannot be read is ignored and [counted](crate::http::ignored_headers).
///
/// Costs one pass over the headers, and a reading of the clock if a header states a deadline. Never allocates.
#[inline]
pub(in crate::http) fn read(
    peer: Peer,
    headers: &HeaderMap,
    given: CallContext,
    now: impl FnOnce() -> Instant,
) -> ReadRequest<'_> {
    let (mut content_type, mut accept) = (None, None);
    let mut claims = ClaimedContext::default();
    for (known, value) in known(headers) {
        match known {
            KnownHeader::ContentType => content_type = content_type.or(Some(value)),
            KnownHeader::Accept => accept = accept.or(Some(value)),
            _ => claims.add(peer, known, value),
        }
    }
    ReadRequest { context: claims.context(peer, given, now), content_type, accept }
}

/// The context that the headers claim.
#[derive(Default)]
struct ClaimedContext {
    /// The shortest time left.
    left: Option<Duration>,
    /// The largest number of earlier attempts.
    attempt: u64,
    criticality: Option<Criticality>,
    /// Which of the fields that count only once were seen.
    seen: [bool; 4],
}

impl ClaimedContext {
    #[cold]
    fn add(&mut self, peer: Peer, known: KnownHeader, value: &HeaderValue) {
        match known {
            KnownHeader::GrpcTimeout => self.add_left(grpc::timeout(value)),
            KnownHeader::Deadline => self.add_left(millis(value)),
            KnownHeader::EnvoyTimeout if peer == Peer::Internal => self.add_left(millis(value)),
            KnownHeader::GrpcAttempts if self.is_first(0) => self.add_attempt(value, 0),
            KnownHeader::Attempt if self.is_first(1) => self.add_attempt(value, 0),
            // Envoy counts the current attempt too.
            KnownHeader::EnvoyAttempt if self.is_first(2) => self.add_attempt(value, 1),
            KnownHeader::Criticality if self.is_first(3) => {
                let value = trimmed(value);
                let class = CLASSES.into_iter().find(|class| value.eq_ignore_ascii_case(name(*class).as_bytes()));
                self.criticality = read_or_count(class, IgnoredHeader::Criticality);
            }
            _ => {}
        }
    }

    fn is_first(&mut self, field: usize) -> bool {
        !std::mem::replace(&mut self.seen[field], true)
    }

    fn add_left(&mut self, left: Option<Duration>) {
        if let Some(left) = read_or_count(left, IgnoredHeader::Deadline) {
            self.left = Some(self.left.map_or(left, |least| least.min(left)));
        }
    }

    fn add_attempt(&mut self, value: &HeaderValue, current: u64) {
        if let Some(attempts) = read_or_count(number(trimmed(value), DIGITS), IgnoredHeader::Attempt) {
            self.attempt = self.attempt.max(attempts.saturating_sub(current));
        }
    }

    #[inline]
    fn context(self, peer: Peer, given: CallContext, now: impl FnOnce() -> Instant) -> CallContext {
        let deadline = match self.left {
            Some(left) => Deadline::after(now(), left.min(LONGEST)),
            None => Deadline::NEVER,
        };
        let context = given.narrowed(deadline);
        let attempt = u32::try_from(self.attempt).unwrap_or(u32::MAX);
        let context = if attempt > given.attempt() { context.with_attempt(attempt) } else { context };
        match (self.criticality, peer) {
            (None, _) => context,
            (Some(claimed), Peer::Internal) => context.with_criticality(claimed),
            (Some(claimed), Peer::External) => context.with_criticality(claimed.min(given.criticality())),
        }
    }
}

pub(super) fn millis(value: &HeaderValue) -> Option<Duration> {
    number(trimmed(value), DIGITS).map(Duration::from_millis)
}

fn read_or_count<T>(value: Option<T>, kind: IgnoredHeader) -> Option<T> {
    if value.is_none() {
        kind.count();
    }
    value
}
