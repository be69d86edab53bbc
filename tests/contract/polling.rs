//! Every pending call has registered the wakers that it needs, and is not woken without need.

use crate::{
    below::{Below, KINDS_WITHOUT_WORKER, Kind},
    controls::{Act, Controls, Readiness},
    subject::{LIMIT, MANY, Make, Subject},
    task::{Task, all, pass},
};
use std::{task::Poll, time::Duration};
use steadfast::{Error, Rejection};
use tokio::time::Instant;
use tower::{Service, ServiceExt};

pub async fn a_pending_call_is_polled_only_when_the_service_wakes_it(make: Make) {
    for kind in KINDS_WITHOUT_WORKER {
        let subject = Subject::tight(make).await;
        let below = Below::new(kind, Controls::new().readiness(Readiness::Blocked).act(Act::Wait));
        let call = tokio::spawn(subject.around(&below).oneshot(7));
        // Both loops together take 9/10 of `LIMIT`, so no timeout ends the call.
        for _ in 0..9 {
            pass(LIMIT / 20).await;
        }
        let seen = below.controls.seen();
        assert_eq!((seen.ready_polls, seen.calls), (1, 0));

        below.controls.unblock();
        for _ in 0..9 {
            pass(LIMIT / 20).await;
        }
        let seen = below.controls.seen();
        assert_eq!((seen.ready_polls, seen.calls, seen.future_polls), (2, 1, 1));

        below.controls.answer();
        assert_eq!(call.await.unwrap(), Ok(7));
        let seen = below.controls.seen();
        assert_eq!((seen.ready_polls, seen.calls, seen.future_polls), (2, 1, 2));
    }
}

pub async fn an_answer_wakes_the_call_once(make: Make) {
    let subject = Subject::tight(make).await;
    let below = Below::plain(Controls::new().act(Act::Wait));
    let mut call = Task::new(subject.around(&below).call(7));
    assert!(call.poll().is_pending());
    pass(LIMIT / 2).await;
    assert_eq!(call.wakes(), 0);

    below.controls.answer();
    assert_eq!(call.wakes(), 1);
    assert_eq!(call.poll(), Poll::Ready(Ok(7)));
    pass(LIMIT).await;
    assert_eq!(call.wakes(), 1, "no timer is left");
}

pub async fn only_the_waker_of_the_latest_poll_is_woken(make: Make) {
    let subject = Subject::tight(make).await;
    let below = Below::plain(Controls::new().readiness(Readiness::Blocked).act(Act::Wait));
    let mut call = Task::new(subject.around(&below).oneshot(7));
    assert!(call.poll().is_pending());
    let first = call.change_waker();
    assert!(call.poll().is_pending());
    below.controls.unblock();
    assert_eq!((first(), call.wakes()), (0, 1));

    assert!(call.poll().is_pending());
    let second = call.change_waker();
    assert!(call.poll().is_pending());
    below.controls.answer();
    assert_eq!((first(), second(), call.wakes()), (0, 1, 1));
    assert_eq!(call.poll(), Poll::Ready(Ok(7)));
}

pub async fn the_timer_wakes_the_call_once_and_by_its_latest_waker(make: Make) {
    let subject = Subject::tight(make).await;
    let below = Below::plain(Controls::new().act(Act::Wait));
    let mut call = Task::new(subject.around(&below).oneshot(7));
    assert!(call.poll().is_pending());
    pass(LIMIT / 2).await;
    let first = call.change_waker();
    assert!(call.poll().is_pending());
    pass(LIMIT / 2 - Duration::from_millis(1)).await;
    assert_eq!((first(), call.wakes()), (0, 0));
    pass(Duration::from_millis(1)).await;
    assert_eq!((first(), call.wakes()), (0, 1));

    // Each of the two polls so far polled the service's future once.
    assert_eq!(below.controls.seen().future_polls, 2);
    let _ = call.poll();
    assert_eq!(below.controls.seen().future_polls, 3);
    assert_eq!(below.controls.seen().futures_alive, 0);
}

/// Polls [`MANY`] calls, as many as the subject admits, in each poll of one task. The runtime's coop budget lets a task
/// take 128 steps in one poll, and makes all later steps pending. No layer may treat that as overload or slowness.
async fn a_thousand_calls_in_one_poll(make: Make, kind: Kind) {
    let subject = Subject::roomy(make).await;
    let below = Below::new(kind, Controls::new().act(Act::AnswerAfter(1)));
    let handle = subject.around(&below);
    let begin = Instant::now();
    let calls = (0..MANY as u32).map(|request| handle.clone().oneshot(request));
    assert_eq!(all(calls.collect()).await, (0..MANY as u32).map(Ok).collect::<Vec<_>>());
    assert_eq!(below.controls.seen().calls, MANY);
    assert_eq!(Instant::now(), begin, "no call waited");

    // All tokens are spent now, and nothing else.
    let mut last = Task::new(handle.oneshot(7));
    match (last.poll(), &subject.resources.bucket) {
        (Poll::Ready(Err(Error::Rejected(Rejection::RateLimited(_)))) | Poll::Pending, Some(_)) | (_, None) => {}
        (other, Some(_)) => panic!("{other:?}"),
    }
    drop(last);
    assert!(subject.resources.bucket.is_none() || below.controls.seen().calls == MANY);
    assert_eq!(subject.resources.limiter.as_ref().map_or(0, |limiter| limiter.in_flight()), 0);
    assert_eq!(subject.resources.queue.as_ref().map_or(0, |queue| queue.in_service()), 0);
    below.assert_full_capacity().await;
}

pub async fn a_thousand_calls_in_one_poll_are_all_admitted(make: Make) {
    a_thousand_calls_in_one_poll(make, Kind::Budgeted).await;
}

pub async fn a_thousand_calls_in_one_poll_are_all_admitted_over_a_concurrency_limit(make: Make) {
    a_thousand_calls_in_one_poll(make, Kind::Limited(16)).await;
}

pub async fn a_thousand_calls_in_one_poll_are_all_admitted_over_a_buffer(make: Make) {
    a_thousand_calls_in_one_poll(make, Kind::Buffered(16)).await;
}
