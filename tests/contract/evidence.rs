//! Inside a stack, each attempt is judged by its own result, not by that of an earlier one.

use crate::{
    below::Below,
    controls::{Act, Controls, Readiness},
    resources::Spent,
    subject::{BACKOFF, LIMIT, Make, PLACES, Room, Subject, WHOLE_LIMIT},
    task::{Task, pass},
};
use std::{task::Poll, time::Duration};
use steadfast::{CallContext, Error, Rejection, circuit_breaker::BreakerState};
use tokio::time::Instant;
use tower::{Service, ServiceExt};

/// A first attempt that fails, and a second that waits for the service's readiness.
fn blocked_in_the_second_attempt() -> Below {
    let readiness = [Readiness::Ready, Readiness::Blocked];
    Below::plain(Controls::new().next_readiness(readiness).next_acts([Act::FailAfter(0)]))
}

pub async fn a_retry_cut_off_before_it_reached_the_service_is_no_evidence(make: Make) {
    // First the caller's deadline cuts the retry off, then the configured limit.
    for inherited in [LIMIT / 2, 2 * WHOLE_LIMIT] {
        let subject = Subject::tight(make).await;
        let below = blocked_in_the_second_attempt();
        let deadline = Instant::now() + inherited;
        let call = CallContext::new().with_deadline(deadline).scope(subject.around(&below).oneshot(7));
        let error = call.await.unwrap_err();
        assert!(matches!(error, Error::Rejected(Rejection::TimedOut(_))), "{error:?}");
        assert!(error.rejection().unwrap().reached_service(), "the first attempt reached the service");

        assert_eq!(below.reached(), 1);
        let held = subject.resources.held();
        assert_eq!(held.in_flight, Some(0));
        assert_eq!(held.free_probes, Some(PLACES), "a probe that did not reach the service is no evidence");
        assert_eq!(held.tokens, Some(PLACES as u64 - 1), "its token is refunded");
        assert_eq!(held.retries, Some(PLACES as f64), "and so is the retry");
    }
}

/// Calls a service that hangs, with a deadline after `left`. Returns whether the timeout reports that the call was cut
/// short.
async fn hangs_within(subject: &Subject, below: &Below, left: Duration) -> bool {
    let context = CallContext::new().with_deadline(Instant::now() + left);
    let error = context.scope(subject.around(below).oneshot(7)).await.unwrap_err();
    let Error::Rejected(Rejection::TimedOut(details)) = error else { panic!("{error:?}") };
    details.was_cut_short()
}

pub async fn a_timeout_says_whether_the_call_had_half_of_its_patience(make: Make) {
    for (left, cut_short) in [(LIMIT / 2 - Duration::from_millis(1), true), (LIMIT / 2, false), (LIMIT, false)] {
        let subject = Subject::tight(make).await;
        let below = Below::plain(Controls::new().act(Act::Wait));
        assert_eq!(hangs_within(&subject, &below, left).await, cut_short, "{left:?}");
        assert_eq!(below.reached(), 1);
        // Cut short or not, the call's tokens are spent, and its places are returned.
        let held = subject.resources.held();
        assert!(held.in_flight.is_none_or(|in_flight| in_flight == 0));
        assert!(held.in_service.is_none_or(|in_service| in_service == 0));
        assert!(held.tokens.is_none_or(|tokens| tokens == PLACES as u64 - 1));
    }
}

pub async fn an_attempt_with_less_than_half_of_its_patience_is_no_evidence(make: Make) {
    let subject = Subject::tight(make).await;
    let below = Below::plain(Controls::new().act(Act::Wait));
    for _ in 0..PLACES {
        hangs_within(&subject, &below, LIMIT / 2 - Duration::from_millis(1)).await;
    }
    assert_eq!(below.reached(), PLACES as u64);
    assert_eq!(subject.resources.held().free_probes, Some(PLACES), "each probe returned its place");

    let subject = Subject::tight(make).await;
    hangs_within(&subject, &below, LIMIT / 2).await;
    let breaker = subject.resources.breaker.as_ref().unwrap();
    assert_eq!(breaker.state(), BreakerState::Open, "an attempt with half of its patience is a failure");
}

pub async fn the_retry_does_not_wait_for_a_refusal_of_its_own_stack(make: Make) {
    // The circuit is open for less than the backoff, so an attempt after the backoff would be admitted. The call is
    // refused at once nevertheless.
    let subject = make(Room::Tight);
    let below = Below::plain(Controls::new());
    let Poll::Ready(Err(error)) = Task::new(subject.around(&below).oneshot(7)).poll() else { panic!("not refused") };
    assert!(matches!(error, Error::Rejected(Rejection::CircuitOpen(_))), "{error:?}");
    assert_eq!(below.reached(), 0);
    subject.assert_admits_what_is_left(Spent::NOTHING).await;
}

pub async fn the_retry_does_not_wait_before_an_attempt_that_the_stack_would_refuse(make: Make) {
    for mechanism in ["circuit_breaker", "rate_limit"] {
        let subject = Subject::roomy(make).await;
        let below = Below::plain(Controls::new().act(Act::FailAfter(1)));
        let mut call = Task::new(subject.around(&below).oneshot(7));
        assert!(call.poll().is_pending());
        subject.resources.exhaust(mechanism);
        let Poll::Ready(Err(error)) = call.poll() else { panic!("{mechanism}: it waits") };
        assert!(matches!(error, Error::Service(_)), "{mechanism}: {error:?}");
        assert_eq!(below.reached(), 1);
        assert_eq!(subject.resources.held().retries, Some(PLACES as f64), "{mechanism}: no retry is spent");
    }
}

pub async fn a_refused_retry_says_that_an_earlier_attempt_reached_the_service(make: Make) {
    let subject = Subject::roomy(make).await;
    let below = Below::plain(Controls::new().next_acts([Act::FailAfter(0)]));
    let mut call = Task::new(subject.around(&below).call(7));
    assert!(call.poll().is_pending());
    subject.resources.exhaust("load_shed");
    let (begin, tokens) = (Instant::now(), subject.resources.held().tokens);
    let error = call.resolve().await.unwrap_err();
    assert_eq!(Instant::now() - begin, BACKOFF, "a refusal without a hint is not retried");
    assert!(matches!(&error, Error::Rejected(Rejection::Overloaded(_))), "{error:?}");
    assert!(error.rejection().unwrap().reached_service());
    assert_eq!(subject.resources.held().tokens, tokens, "the token of the refused attempt is refunded");
    assert_eq!(subject.resources.held().retries, Some(PLACES as f64), "and so is the retry");
    assert_eq!(below.reached(), 1);
}

/// Polls a call whose first attempt fails, and polls it again only after its deadline or limit has passed. The backoff
/// has ended by then, too. Yet no second attempt begins, because no caller waits for its answer.
async fn assert_no_attempt_begins_too_late(make: Make, deadline: Duration) {
    let subject = Subject::tight(make).await;
    let below = Below::plain(Controls::new().act(Act::FailAfter(0)));
    let context = CallContext::new().with_deadline(Instant::now() + deadline);
    let mut call = Task::new(Box::pin(context.scope(subject.around(&below).oneshot(7))));
    assert!(call.poll().is_pending());
    pass(WHOLE_LIMIT).await;
    let Poll::Ready(Err(error)) = call.poll() else { panic!("a call with no time left") };
    assert!(matches!(error, Error::Rejected(Rejection::TimedOut(_))), "{error:?}");
    assert!(error.rejection().unwrap().reached_service(), "the first attempt reached the service");
    assert_eq!(below.reached(), 1);
    drop(call);
    subject.assert_admits_what_is_left(Spent::reached(1)).await;
}

pub async fn no_attempt_begins_after_the_limit(make: Make) {
    assert_no_attempt_begins_too_late(make, 2 * WHOLE_LIMIT).await;
}

pub async fn no_attempt_begins_after_the_callers_deadline(make: Make) {
    assert_no_attempt_begins_too_late(make, LIMIT).await;
}
