//! Calls that wait for their turn.

use crate::{
    below::Below,
    controls::{Act, Controls, Readiness},
    resources::Spent,
    subject::{MINTING_TIME, Make, PLACES, Subject},
    task::{Task, pass},
};
use std::{task::Poll, time::Duration};
use steadfast::rate_limit::TokenBucket;
use tokio::time::Instant;
use tower::{Service, ServiceExt};

/// A subject with nothing left.
async fn exhausted(make: Make) -> Subject {
    let subject = Subject::tight(make).await;
    subject.resources.names().for_each(|name| subject.resources.exhaust(name));
    subject
}

/// Lets the turn of the next waiter come: the bucket mints a token, or a call in the service gives its place back.
async fn turn_comes(subject: &Subject) {
    if subject.resources.bucket.is_some() {
        return pass(MINTING_TIME).await;
    }
    subject.resources.one_leaves();
    pass(Duration::from_millis(1)).await;
}

/// Asserts that no call waits, and what is left after the turns of `come` waiters. A bucket has their tokens back,
/// except `spent` of them. A queue has all of their places back.
#[track_caller]
fn assert_left_of_turns(subject: &Subject, come: usize, spent: u64) {
    if let Some(bucket) = &subject.resources.bucket {
        assert_eq!(bucket.available_at(Instant::now()), come as u64 - spent);
    }
    if let Some(queue) = &subject.resources.queue {
        assert_eq!(queue.in_service(), PLACES - come, "the others are still there");
    }
    assert_eq!(waiting(subject), 0);
}

fn waiting(subject: &Subject) -> usize {
    let resources = &subject.resources;
    let in_line = resources.bucket.as_ref().map(TokenBucket::waiting);
    in_line.or(resources.held().waiting).unwrap()
}

pub async fn a_call_that_waits_leaves_the_service_alone(make: Make) {
    let subject = exhausted(make).await;
    let below = Below::plain(Controls::new().readiness(Readiness::Panics));
    let mut call = Task::new(subject.around(&below).call(7));
    for _ in 0..3 {
        assert!(call.poll().is_pending());
        pass(MINTING_TIME / 4).await;
    }
    assert_eq!((call.wakes(), waiting(&subject)), (0, 1));
    drop(call);
    assert_eq!((below.controls.seen().ready_polls, below.controls.seen().calls), (0, 0));
    assert_eq!((waiting(&subject), below.controls.seen().instances_alive), (0, 1), "one is the handle's");
}

pub async fn a_call_whose_turn_has_come_is_woken_once(make: Make) {
    let subject = exhausted(make).await;
    let below = Below::plain(Controls::new());
    let mut calls: Vec<_> = (0..PLACES).map(|_| Task::new(subject.around(&below).oneshot(7))).collect();
    for call in &mut calls {
        assert!(call.poll().is_pending());
    }
    for (number, call) in calls.iter_mut().enumerate() {
        turn_comes(&subject).await;
        assert_eq!((call.wakes(), below.reached()), (1, number as u64));
        assert_eq!(call.poll(), Poll::Ready(Ok(7)));
        assert_eq!(call.wakes(), 1);
    }
    assert_left_of_turns(&subject, PLACES, PLACES as u64);
}

pub async fn a_call_that_waited_and_was_dropped_after_any_of_its_polls_leaves_full_capacity(make: Make) {
    for polls in 1.. {
        let subject = exhausted(make).await;
        let below = Below::plain(Controls::new().readiness(Readiness::After(1)).act(Act::AnswerAfter(2)));
        let mut call = Task::new(subject.around(&below).oneshot(7));
        let mut answered = false;
        for poll in 1..=polls {
            answered = call.poll().is_ready();
            if answered {
                break;
            }
            if poll == 2 {
                turn_comes(&subject).await;
            }
            pass(Duration::ZERO).await;
        }
        drop(call);
        assert_left_of_turns(&subject, usize::from(polls >= 2), below.reached());
        below.assert_full_capacity().await;
        if answered {
            assert!(polls >= 5, "only {polls} polls");
            break;
        }
    }
}

pub async fn a_panic_of_the_service_after_a_wait_leaves_full_capacity(make: Make) {
    let scripts = [
        (Readiness::Panics, Act::Answer),
        (Readiness::Ready, Act::PanicInCall),
        (Readiness::Ready, Act::PanicInPollAfter(0)),
        (Readiness::Ready, Act::AnswerThenPanicInDrop),
    ];
    for (readiness, act) in scripts {
        let subject = exhausted(make).await;
        let below = Below::plain(Controls::new().readiness(readiness).act(act));
        let mut call = Task::new(subject.around(&below).call(7));
        assert!(call.poll().is_pending());
        turn_comes(&subject).await;
        call.poll_panics();
        // In a bucket, the call has spent one token. In a queue, its place is free again. Dropping the rest of the call
        // gives nothing back.
        assert_left_of_turns(&subject, 1, 1);
        drop(call);
        assert_left_of_turns(&subject, 1, 1);
        subject.resources.all_leave();
        subject.assert_admits_what_is_left(Spent::reached(PLACES as u64)).await;
    }
}

pub async fn a_place_given_back_on_one_handle_goes_to_a_waiter_on_another(make: Make) {
    let subject = Subject::tight(make).await;
    let (blocked, open) = (Below::plain(Controls::new().readiness(Readiness::Blocked)), Below::plain(Controls::new()));
    let mut calls: Vec<_> = (0..PLACES).map(|_| Task::new(subject.around(&blocked).call(7))).collect();
    assert!(calls.iter_mut().all(|call| call.poll().is_pending()));
    let mut waiting = Task::new(subject.cloned_around(&open).call(7));
    assert!(waiting.poll().is_pending());
    assert_eq!(waiting.wakes(), 0);
    // The dropped call has not reached its service, so its token or its place goes to the next waiter at once.
    calls.pop();
    assert_eq!(waiting.wakes(), 1);
    assert_eq!(waiting.poll(), Poll::Ready(Ok(7)));
}
