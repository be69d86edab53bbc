//! Observed stacks, and a stack of a user's own stages.

use super::{ATTEMPTS, BACKOFF, LIMIT, Room, Subject, WHOLE_LIMIT, a_breaker, a_bucket, a_budget, a_limiter, a_retry};
use crate::{resources::Resources, under_way::UnderWay};
use steadfast::{
    rate_limit::RateLimit,
    stack::{admission, gate},
};

/// Like [`client`](super::client), with an observer of each call and attempt.
pub fn client_that_is_observed(room: Room) -> Subject {
    let (limiter, breaker, bucket, budget) = (a_limiter(room), a_breaker(room), a_bucket(room), a_budget());
    let under_way = UnderWay::default();
    let layer = steadfast::client()
        .observe("subject", under_way.clone())
        .timeout(WHOLE_LIMIT)
        .retry(a_retry(&budget))
        .circuit_breaker(breaker.clone())
        .rate_limit(bucket.clone())
        .load_shed(limiter.clone())
        .attempt_timeout(LIMIT)
        .layer()
        .unwrap();
    let resources = Resources {
        limiter: Some(limiter),
        breaker: Some(breaker),
        bucket: Some(bucket),
        budget: Some(budget),
        under_way: Some(under_way),
        ..Resources::default()
    };
    Subject::new(layer, resources, Some(LIMIT * ATTEMPTS + BACKOFF * (ATTEMPTS - 1)))
}

/// A client whose slots are all filled by a user. Both timeout slots hold counting stages; the others hold the
/// mechanisms of this crate.
pub fn client_of_own_stages(room: Room) -> Subject {
    let (limiter, breaker, bucket, budget) = (a_limiter(room), a_breaker(room), a_bucket(room), a_budget());
    let under_way = UnderWay::default();
    let layer = steadfast::client()
        .own_timeout(under_way.slot(0))
        .own_retry(a_retry(&budget))
        .own_circuit_breaker(gate(breaker.clone()))
        .own_rate_limit(admission(RateLimit::new(bucket.clone())))
        .own_load_shed(gate(limiter.clone()))
        .own_attempt_timeout(under_way.slot(1))
        .layer()
        .unwrap();
    let resources = Resources {
        limiter: Some(limiter),
        breaker: Some(breaker),
        bucket: Some(bucket),
        budget: Some(budget),
        under_way: Some(under_way),
        ..Resources::default()
    };
    Subject::new(layer, resources, None)
}

/// Like [`server`](super::server), with an observer of each call.
pub fn server_that_is_observed(room: Room) -> Subject {
    let (limiter, bucket, under_way) = (a_limiter(room), a_bucket(room), UnderWay::default());
    let layer = steadfast::server()
        .observe("subject", under_way.clone())
        .rate_limit(bucket.clone())
        .load_shed(limiter.clone())
        .timeout(LIMIT)
        .layer()
        .unwrap();
    let (limiter, bucket, under_way) = (Some(limiter), Some(bucket), Some(under_way));
    Subject::new(layer, Resources { limiter, bucket, under_way, ..Resources::default() }, Some(LIMIT))
}
