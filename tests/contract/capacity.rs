//! However a call ends, it leaves full capacity: in the subject, and in the service below it. Full capacity means that
//! everything is free except what calls [spend](Spent).

use crate::{
    below::{Below, KINDS, Kind},
    controls::{Act, Controls, Readiness},
    fixture::Fault,
    resources::{Held, Spent},
    subject::{ATTEMPTS, BACKOFF, LIMIT, Make, PLACES, Room, Subject},
    task::{Task, pass, settle},
};
use std::{
    sync::{Arc, Mutex},
    task::Poll,
};
use steadfast::{CallContext, Error, Rejection};
use tokio::time::Instant;
use tower::{Service, ServiceExt};

pub async fn a_dropped_handle_leaves_full_capacity(make: Make) {
    for kind in KINDS {
        let subject = Subject::tight(make).await;
        let below = Below::new(kind, Controls::new());
        let mut handle = subject.around(&below);
        handle.ready().await.unwrap();
        let clone = handle.clone();
        drop(handle);
        drop(clone);
        below.assert_full_capacity().await;
        subject.assert_admits_what_is_left(Spent::NOTHING).await;
    }
}

pub async fn a_future_dropped_before_its_first_poll_leaves_full_capacity(make: Make) {
    for kind in KINDS {
        let subject = Subject::tight(make).await;
        let below = Below::new(kind, Controls::new());
        let mut handle = subject.around(&below);
        let calls: Vec<_> = (0..2 * PLACES).map(|_| handle.call(7)).collect();
        drop(calls);
        below.assert_full_capacity().await;
        subject.assert_admits_what_is_left(Spent::NOTHING).await;
        assert_eq!(below.reached(), 0);
    }
}

/// Controls for an eventful call: an instance that is not ready at first, a future that is pending for a while, a
/// failure, the wait for a retry, and the same steps up to an answer.
fn an_eventful_call() -> Controls {
    Controls::new().readiness(Readiness::After(1)).next_acts([Act::FailAfter(2), Act::AnswerAfter(1)])
}

pub async fn a_future_dropped_after_any_of_its_polls_leaves_full_capacity(make: Make) {
    for kind in KINDS {
        let mut most_polls = 0;
        for polls in 1.. {
            let subject = Subject::tight(make).await;
            let below = Below::new(kind, an_eventful_call());
            let mut call = Task::new(subject.around(&below).oneshot(7));
            let mut result = None;
            for _ in 0..polls {
                if let Poll::Ready(answer) = call.poll() {
                    result = Some(answer);
                    break;
                }
                pass(BACKOFF).await;
            }
            drop(call);

            let reached = below.reached();
            let answered = usize::from(matches!(result, Some(Ok(_))));
            let spent = Spent::reached(reached).retried(reached.saturating_sub(1)).succeeded(answered);
            below.assert_full_capacity().await;
            subject.assert_admits_what_is_left(spent).await;
            if result.is_some() {
                most_polls = polls;
                break;
            }
        }
        let least = if make(Room::Tight).resources.budget.is_some() { 7 } else { 4 };
        assert!(most_polls >= least, "only {most_polls} polls");
    }
}

pub async fn a_resolved_future_that_is_kept_leaves_full_capacity(make: Make) {
    for kind in KINDS {
        for act in [Act::Answer, Act::AnswerAfter(2)] {
            let subject = Subject::tight(make).await;
            let below = Below::new(kind, Controls::new().act(act));
            let mut kept = Task::new(subject.around(&below).call(7));
            assert_eq!(kept.resolve().await, Ok(7));
            below.assert_full_capacity().await;
            subject.assert_left(Spent::reached(1).succeeded(1)).await;
            drop(kept);
            subject.assert_admits_what_is_left(Spent::reached(1).succeeded(1)).await;
        }

        let subject = Subject::tight(make).await;
        let below = Below::new(kind, Controls::new().act(Act::FailAfter(1)));
        let mut kept = Task::new(subject.around(&below).call(7));
        assert!(matches!(kept.resolve().await, Err(Error::Service(_))));
        let reached = below.reached();
        below.assert_full_capacity().await;
        subject.assert_left(Spent::reached(reached).retried(reached - 1)).await;
        drop(kept);
        subject.assert_admits_what_is_left(Spent::reached(reached).retried(reached - 1)).await;
    }
}

pub async fn a_future_kept_after_a_readiness_error_leaves_full_capacity(make: Make) {
    // The inner limit has given its permit to the call's instance before the fixture's readiness fails.
    for kind in [Kind::Plain, Kind::Limited(1)] {
        let subject = Subject::tight(make).await;
        let below = Below::new(kind, Controls::new().readiness(Readiness::Fails));
        let mut kept = Task::new(subject.around(&below).call(7));
        assert_eq!(kept.resolve().await, Err(Error::Service(Fault::NotReady)));
        below.assert_full_capacity().await;
        // The readiness error counts as an answer of the service: each attempt spends a token, although no call reached
        // the service.
        let attempts = if subject.resources.budget.is_some() { u64::from(ATTEMPTS) } else { 1 };
        let spent = Spent::reached(attempts).retried(attempts - 1);
        assert_eq!(below.reached(), 0);
        subject.assert_left(spent).await;
        drop(kept);
        subject.assert_admits_what_is_left(spent).await;
    }
}

pub async fn a_resolved_future_keeps_no_clone_of_the_service(make: Make) {
    let scripts = [
        (Readiness::Ready, Act::Answer),
        (Readiness::After(1), Act::AnswerAfter(1)),
        (Readiness::Ready, Act::FailAfter(0)),
        (Readiness::Fails, Act::Answer),
    ];
    for (readiness, act) in scripts {
        let subject = Subject::tight(make).await;
        let below = Below::plain(Controls::new().readiness(readiness).act(act));
        let mut handle = subject.around(&below);
        let before = below.controls.seen().instances_alive;
        let mut kept = Task::new(handle.call(7));
        let _ = kept.resolve().await;
        let seen = below.controls.seen();
        assert_eq!((seen.instances_alive, seen.futures_alive), (before, 0));
        drop(kept);
    }
}

/// Records the readings of the subject's handles each time the service's future is dropped. Returns a function that
/// returns the records.
fn note_drops(subject: &Subject, below: &Below) -> impl Fn() -> Vec<Held> + use<> {
    let notes = Arc::new(Mutex::new(Vec::new()));
    let (resources, noted) = (subject.resources.clone(), notes.clone());
    below.controls.when_dropped(move || noted.lock().unwrap().push(resources.held()));
    move || notes.lock().unwrap().clone()
}

pub async fn the_services_future_is_dropped_before_the_permits_are_returned(make: Make) {
    for answered in [false, true] {
        let subject = Subject::tight(make).await;
        let below = Below::plain(Controls::new().act(Act::Wait));
        let drops = note_drops(&subject, &below);
        let mut call = Task::new(subject.around(&below).call(7));
        assert!(call.poll().is_pending());
        let held = subject.resources.held();
        assert_eq!(held.in_flight, subject.resources.limiter.as_ref().map(|_| 1));
        assert_eq!(held.in_service, subject.resources.queue.as_ref().map(|_| 1));
        assert_eq!(held.free_probes, subject.resources.breaker.as_ref().map(|_| PLACES - 1));

        if answered {
            below.controls.answer();
            assert_eq!(call.poll(), Poll::Ready(Ok(7)));
        } else {
            drop(call);
        }
        assert_eq!(drops(), [held]);
        subject.assert_admits_what_is_left(Spent::reached(1).succeeded(usize::from(answered))).await;
    }
}

pub async fn polling_a_resolved_future_panics_and_takes_nothing(make: Make) {
    for (act, succeeded) in [(Act::Answer, 1), (Act::FailAfter(0), 0)] {
        let subject = Subject::tight(make).await;
        let below = Below::plain(Controls::new().act(act));
        let mut call = Task::new(subject.around(&below).call(7));
        let _ = call.resolve().await;
        call.poll_panics();
        let reached = below.reached();
        subject.assert_admits_what_is_left(Spent::reached(reached).retried(reached - 1).succeeded(succeeded)).await;
    }
}

pub async fn a_refused_call_that_is_kept_leaves_full_capacity(make: Make) {
    for mechanism in Subject::tight(make).await.resources.names() {
        let subject = Subject::tight(make).await;
        let below = Below::plain(Controls::new());
        let before = subject.resources.held();
        subject.resources.exhaust(mechanism);
        let exhausted = subject.resources.held();
        let instances = below.controls.seen().instances_alive;

        let mut kept = Task::new(subject.around(&below).call(7));
        assert!(matches!(kept.poll(), Poll::Ready(Err(Error::Rejected(_)))));
        assert_eq!(subject.resources.held(), exhausted);
        assert_eq!(below.controls.seen().instances_alive, instances, "the refused call keeps no clone");
        kept.poll_panics();
        drop(kept);
        assert_eq!(subject.resources.held(), exhausted);
        assert_ne!(exhausted, before);
    }
}

pub async fn a_call_whose_deadline_has_passed_leaves_the_service_alone(make: Make) {
    let subject = Subject::tight(make).await;
    let below = Below::plain(Controls::new().readiness(Readiness::Panics));
    let context = CallContext::new().with_deadline(Instant::now());
    let mut call = Task::new(Box::pin(context.scope(subject.around(&below).call(7))));
    let Poll::Ready(Err(error)) = call.poll() else { panic!("a call with no time left") };
    assert!(matches!(&error, Error::Rejected(Rejection::TimedOut(details)) if details.limit().is_none()), "{error:?}");
    assert!(!error.rejection().unwrap().reached_service());
    let seen = below.controls.seen();
    assert_eq!((seen.ready_polls, seen.calls), (0, 0));
    subject.assert_admits_what_is_left(Spent::NOTHING).await;
}

pub async fn a_kept_future_that_timed_out_in_the_service_leaves_full_capacity(make: Make) {
    for kind in KINDS {
        let subject = Subject::tight(make).await;
        let below = Below::new(kind, Controls::new().act(Act::Wait));
        let mut kept = Task::new(subject.around(&below).call(7));
        let error = kept.resolve().await.unwrap_err();
        assert!(matches!(error, Error::Rejected(Rejection::TimedOut(_))), "{error:?}");
        assert!(error.rejection().unwrap().reached_service());
        let reached = below.reached();
        below.assert_full_capacity().await;
        subject.assert_left(Spent::reached(reached).retried(reached - 1)).await;
        drop(kept);
        subject.assert_admits_what_is_left(Spent::reached(reached).retried(reached - 1)).await;
    }
}

pub async fn a_kept_future_that_timed_out_in_a_queue_leaves_full_capacity(make: Make) {
    for kind in [Kind::Limited(1), Kind::Buffered(1)] {
        let subject = Subject::tight(make).await;
        let below = Below::new(kind, Controls::new());
        let occupied = below.occupy().await;
        let mut kept = Task::new(subject.around(&below).call(7));
        let error = kept.resolve().await.unwrap_err();
        assert!(matches!(error, Error::Rejected(Rejection::TimedOut(_))), "{error:?}");
        assert!(!error.rejection().unwrap().reached_service());
        // The place that becomes free does not go to the call that has ended.
        drop(occupied);
        below.assert_full_capacity().await;
        subject.assert_left(Spent::NOTHING).await;
        assert_eq!(below.reached(), 0);
        drop(kept);
        subject.assert_admits_what_is_left(Spent::NOTHING).await;
    }
}

pub async fn a_timeout_drops_the_services_future_before_it_returns_the_permits(make: Make) {
    let subject = Subject::tight(make).await;
    let below = Below::plain(Controls::new().act(Act::Wait));
    let drops = note_drops(&subject, &below);
    let mut call = Task::new(subject.around(&below).call(7));
    assert!(call.poll().is_pending());
    let held = subject.resources.held();
    assert_eq!(held.in_flight, subject.resources.limiter.as_ref().map(|_| 1));
    assert_eq!(held.in_service, subject.resources.queue.as_ref().map(|_| 1));

    pass(LIMIT).await;
    let _ = call.poll();
    assert_eq!(drops(), [held]);
}

pub async fn a_call_between_two_attempts_holds_nothing(make: Make) {
    for kind in KINDS {
        let subject = Subject::tight(make).await;
        let below = Below::new(kind, Controls::new().next_acts([Act::FailAfter(0)]));
        let mut call = Task::new(subject.around(&below).call(7));
        while below.reached() == 0 || below.controls.seen().futures_alive > 0 || below.controls.seen().calls == 0 {
            assert!(call.poll().is_pending());
            settle().await;
        }
        // The first attempt has failed, and the second is not due. While the call waits, it holds only a retry of the
        // budget.
        assert!(call.poll().is_pending());
        below.assert_full_capacity().await;
        let retries = |retried| subject.resources.held_after(Spent::NOTHING.retried(retried)).retries;
        assert_eq!(subject.resources.held().retries, retries(1));
        assert_eq!(subject.resources.limiter.as_ref().map_or(0, |limiter| limiter.in_flight()), 0);
        drop(call);
        assert_eq!(below.reached(), 1);
        subject.assert_admits_what_is_left(Spent::reached(1)).await;
    }
}
