//! When the service panics, the call returns its permits at once.

use crate::{
    below::{Below, KINDS_WITHOUT_WORKER},
    controls::{Act, Controls, Readiness},
    resources::Spent,
    subject::{BACKOFF, LIMIT, Make, Subject},
    task::{Task, pass},
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tower::Service;

/// A call that panics spends its token. The circuit breaker counts it as a failure.
const SPENT: Spent = Spent { reached: 1, ..Spent::NOTHING };

/// Polls a call until it panics, after this number of pending polls.
async fn panics_in_poll(make: Make, controls: impl Fn() -> Controls, pending_polls: usize) {
    for kind in KINDS_WITHOUT_WORKER {
        let subject = Subject::tight(make).await;
        let below = Below::new(kind, controls());
        let mut call = Task::new(subject.around(&below).call(7));
        for _ in 0..pending_polls {
            assert!(call.poll().is_pending());
        }
        call.poll_panics();
        // The permits are returned at once, before the future is dropped.
        subject.assert_left(SPENT).await;
        drop(call);
        subject.assert_admits_what_is_left(SPENT).await;
        below.assert_full_capacity().await;
    }
}

pub async fn a_panic_in_poll_ready_leaves_full_capacity(make: Make) {
    panics_in_poll(make, || Controls::new().next_readiness([Readiness::Panics]), 0).await;
}

pub async fn a_panic_in_call_leaves_full_capacity(make: Make) {
    panics_in_poll(make, || Controls::new().next_acts([Act::PanicInCall]), 0).await;
    let not_ready_at_first = || Controls::new().readiness(Readiness::After(1)).next_acts([Act::PanicInCall]);
    panics_in_poll(make, not_ready_at_first, 1).await;
}

pub async fn a_panic_in_a_poll_of_the_services_future_leaves_full_capacity(make: Make) {
    panics_in_poll(make, || Controls::new().next_acts([Act::PanicInPollAfter(0)]), 0).await;
    panics_in_poll(make, || Controls::new().next_acts([Act::PanicInPollAfter(2)]), 2).await;
}

pub async fn a_panic_in_the_drop_of_an_answered_future_leaves_full_capacity(make: Make) {
    panics_in_poll(make, || Controls::new().next_acts([Act::AnswerThenPanicInDrop]), 0).await;
}

pub async fn a_panic_in_the_drop_of_a_cancelled_future_leaves_full_capacity(make: Make) {
    for kind in KINDS_WITHOUT_WORKER {
        let subject = Subject::tight(make).await;
        let below = Below::new(kind, Controls::new().next_acts([Act::WaitThenPanicInDrop]));
        let mut call = Task::new(subject.around(&below).call(7));
        assert!(call.poll().is_pending());
        assert!(catch_unwind(AssertUnwindSafe(|| drop(call))).is_err());
        subject.assert_admits_what_is_left(SPENT).await;
        below.assert_full_capacity().await;
    }
}

pub async fn a_panic_in_the_drop_of_a_timed_out_future_leaves_full_capacity(make: Make) {
    for kind in KINDS_WITHOUT_WORKER {
        let subject = Subject::tight(make).await;
        let below = Below::new(kind, Controls::new().next_acts([Act::WaitThenPanicInDrop]));
        let mut call = Task::new(subject.around(&below).call(7));
        assert!(call.poll().is_pending());
        pass(LIMIT).await;
        call.poll_panics();
        subject.assert_left(SPENT).await;
        drop(call);
        subject.assert_admits_what_is_left(SPENT).await;
        below.assert_full_capacity().await;
    }
}

pub async fn a_retry_that_panics_is_not_refunded(make: Make) {
    for act in [Act::PanicInCall, Act::PanicInPollAfter(0), Act::PanicInPollAfter(1), Act::AnswerThenPanicInDrop] {
        let subject = Subject::tight(make).await;
        let below = Below::plain(Controls::new().next_acts([Act::FailAfter(0), act]));
        let mut call = Task::new(subject.around(&below).call(7));
        assert!(call.poll().is_pending());
        pass(BACKOFF).await;
        if act == Act::PanicInPollAfter(1) {
            assert!(call.poll().is_pending());
        }
        call.poll_panics();
        assert_eq!(below.reached(), 2);
        drop(call);
        subject.assert_admits_what_is_left(Spent::reached(2).retried(1)).await;
    }
}
