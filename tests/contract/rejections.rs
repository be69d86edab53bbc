//! The details of a rejection, for each mechanism, alone and in a stack.

use crate::{
    below::Below,
    controls::{Act, Controls, Readiness},
    resources::{Resources, Spent},
    subject::{self, LIMIT, MINTING_TIME, Make, OPEN_FOR, PLACES, Room, Subject},
    task::{Task, in_finite_time, pass},
};
use std::{task::Poll, time::Duration};
use steadfast::{
    CallContext, Error, Rejection,
    error::QueueFullCause,
    load_level::Queue,
    rate_limit::{RateLimit, RateLimitLayer, TokenBucket},
};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

/// Returns the rejection of the next call, which needs only one poll.
fn refusal(subject: &Subject) -> Rejection {
    let below = Below::plain(Controls::new());
    match Task::new(subject.around(&below).call(7)).poll() {
        Poll::Ready(Err(Error::Rejected(rejection))) => rejection,
        other => panic!("not refused: {other:?}"),
    }
}

/// Returns the rejection that ends a call of a service with these controls.
async fn ended(make: Make, controls: Controls) -> Rejection {
    let subject = Subject::roomy(make).await;
    match in_finite_time(subject.around(&Below::plain(controls)).oneshot(7)).await {
        Err(Error::Rejected(rejection)) => rejection,
        other => panic!("not rejected: {other:?}"),
    }
}

/// The mechanism, whether the service was reached, and the `retry_after`.
fn row(rejection: &Rejection) -> (&'static str, bool, Option<Duration>) {
    (rejection.mechanism(), rejection.reached_service(), rejection.retry_after())
}

#[tokio::test(start_paused = true)]
async fn a_timeout_says_whether_the_service_was_reached_and_has_no_retry_after() {
    for make in [subject::timeout as Make, subject::client, subject::server] {
        // A client has a timeout for each attempt, and its message says so.
        let in_the_service = ended(make, Controls::new().act(Act::Wait)).await;
        assert_eq!(row(&in_the_service), ("timeout", true, None));
        let Rejection::TimedOut(details) = in_the_service else { panic!("{in_the_service:?}") };
        assert_eq!(details.limit(), Some(LIMIT));
        assert_eq!(
            details.to_string().replace(" (attempt timeout)", ""),
            "no answer within 10 s, given up in the service after 10 s"
        );

        let before_it = ended(make, Controls::new().readiness(Readiness::Blocked)).await;
        assert_eq!(row(&before_it), ("timeout", false, None));
        let Rejection::TimedOut(details) = before_it else { panic!("{before_it:?}") };
        assert_eq!(
            details.to_string().replace(" (attempt timeout)", ""),
            "no answer within 10 s, given up waiting for readiness after 10 s; the service was not reached"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_retry_after_of_an_open_circuit_is_the_rest_of_its_open_time() {
    let subject = subject::circuit_breaker(Room::Tight);
    assert_eq!(row(&refusal(&subject)), ("circuit_breaker", false, Some(OPEN_FOR)));
    pass(OPEN_FOR / 5).await;
    assert_eq!(row(&refusal(&subject)), ("circuit_breaker", false, Some(OPEN_FOR * 4 / 5)));
    pass(OPEN_FOR * 4 / 5).await;
    subject.assert_admits_what_is_left(Spent::NOTHING).await;
}

#[tokio::test(start_paused = true)]
async fn a_half_open_or_forced_circuit_has_no_retry_after() {
    for make in [subject::circuit_breaker as Make, subject::client] {
        let subject = Subject::tight(make).await;
        let below = Below::plain(Controls::new().act(Act::Wait));
        let mut probes: Vec<_> = (0..PLACES).map(|_| Task::new(subject.around(&below).call(7))).collect();
        assert!(probes.iter_mut().all(|probe| probe.poll().is_pending()));
        assert_eq!(row(&refusal(&subject)), ("circuit_breaker", false, None));
        drop(probes);

        subject.resources.exhaust("circuit_breaker");
        assert_eq!(row(&refusal(&subject)), ("circuit_breaker", false, None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_shed_names_its_limit_and_has_no_retry_after() {
    for make in [subject::load_shed as Make, subject::client, subject::server] {
        let subject = Subject::tight(make).await;
        subject.resources.exhaust("load_shed");
        let rejection = refusal(&subject);
        assert_eq!(row(&rejection), ("load_shed", false, None));
        let Rejection::Overloaded(details) = rejection else { panic!("{rejection:?}") };
        assert_eq!(details.limit(), PLACES);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_names_its_bound_and_has_no_retry_after_before_it_has_served_a_call() {
    for make in [subject::load_level as Make, subject::server_that_levels] {
        let subject = Subject::tight(make).await;
        subject.resources.exhaust("load_level");
        let rejection = refusal(&subject);
        assert_eq!(row(&rejection), ("load_level", false, None));
        let Rejection::QueueFull(details) = rejection else { panic!("{rejection:?}") };
        assert_eq!((details.cause(), details.bound()), (QueueFullCause::Depth, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn the_rejection_of_a_call_that_waited_too_long_states_its_wait() {
    for make in [subject::load_level_that_waits as Make, subject::server_that_waits] {
        let subject = Subject::tight(make).await;
        subject.resources.exhaust("load_level");
        let below = Below::plain(Controls::new().readiness(Readiness::Panics));
        let context = CallContext::new().with_deadline(Instant::now() + LIMIT);
        let error = context.scope(subject.around(&below).oneshot(7)).await.unwrap_err();
        let rejection = error.rejection().unwrap();
        assert_eq!(row(rejection), ("load_level", false, None));
        let Rejection::WaitedTooLong(details) = rejection else { panic!("{rejection:?}") };
        assert_eq!(details.waited(), LIMIT / 2);
    }
}

#[tokio::test(start_paused = true)]
async fn closing_wakes_a_waiting_call_once_and_its_rejection_has_no_retry_after() {
    for make in [subject::load_level_that_waits as Make, subject::server_that_waits, subject::rate_limit_that_waits] {
        let subject = Subject::tight(make).await;
        let Resources { queue, bucket, .. } = &subject.resources;
        let mechanism = if queue.is_some() { "load_level" } else { "rate_limit" };
        subject.resources.exhaust(mechanism);
        let below = Below::plain(Controls::new().readiness(Readiness::Panics));
        let mut waiting = Task::new(subject.around(&below).call(7));
        assert!(waiting.poll().is_pending());
        queue.iter().for_each(Queue::close);
        bucket.iter().for_each(TokenBucket::close);
        assert_eq!(waiting.wakes(), 1);
        let Poll::Ready(Err(Error::Rejected(rejection))) = waiting.poll() else { panic!("it still waits") };
        assert_eq!(row(&rejection), (mechanism, false, None));
        assert!(matches!(rejection, Rejection::Closed(_)));
        assert_eq!(refusal(&subject), rejection, "later calls get the same rejection");
        pass(365 * MINTING_TIME).await;
        assert_eq!(waiting.wakes(), 1, "no timer is left");
    }
}

#[tokio::test(start_paused = true)]
async fn the_retry_after_of_a_rate_limit_is_the_time_to_the_next_token() {
    for make in [subject::rate_limit as Make, subject::client, subject::server] {
        let subject = Subject::tight(make).await;
        subject.resources.exhaust("rate_limit");
        assert_eq!(row(&refusal(&subject)), ("rate_limit", false, Some(MINTING_TIME)));

        let below = Below::plain(Controls::new());
        pass(MINTING_TIME - Duration::from_millis(1)).await;
        let _ = Task::new(subject.around(&below).call(7)).poll();
        assert_eq!(below.reached(), 0);
        pass(Duration::from_millis(1)).await;
        assert_eq!(Task::new(subject.around(&below).call(7)).poll(), Poll::Ready(Ok(7)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_admitted_to_its_last_token_at_one_instant() {
    let bucket = TokenBucket::builder(PLACES as u64, Duration::from_secs(1)).build().unwrap();
    let service = RateLimitLayer::new(bucket).typed_error().layer(Below::plain(Controls::new()).inner());
    for _ in 0..PLACES {
        assert_eq!(service.clone().oneshot(7).await, Ok(7));
    }
    assert!(matches!(service.oneshot(7).await, Err(Error::Rejected(Rejection::RateLimited(_)))));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_costs_more_than_the_burst_has_no_retry_after() {
    let bucket = TokenBucket::builder(10, Duration::from_secs(1)).build().unwrap();
    let limit = RateLimit::new(bucket.clone()).cost(|request: &u32| u64::from(*request));
    let service = RateLimitLayer::new(limit).typed_error().layer(Below::plain(Controls::new()).inner());
    let error = service.clone().oneshot(11).await.unwrap_err();
    assert_eq!(row(error.rejection().unwrap()), ("rate_limit", false, None));
    assert_eq!(service.oneshot(10).await, Ok(10));
    assert_eq!(bucket.available_at(tokio::time::Instant::now()), 0);
}
