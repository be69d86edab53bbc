//! Handles are always ready and hold nothing. The call drives the readiness of the service, on an instance of its own.

use crate::{
    any_layer::Handle,
    below::{Below, KINDS, Kind},
    controls::{Act, Controls, Readiness},
    fixture::Fault,
    resources::Spent,
    subject::{BACKOFF, Make, OPEN_FOR, PLACES, Subject},
    task::{Task, pass},
};
use std::task::{Context, Poll, Waker};
use steadfast::Error;
use tower::{Service, ServiceExt};

fn poll_ready(handle: &mut Handle<Error<Fault>>) -> Poll<Result<(), Error<Fault>>> {
    handle.poll_ready(&mut Context::from_waker(Waker::noop()))
}

const ALL: [Readiness; 4] = [Readiness::Ready, Readiness::Blocked, Readiness::Fails, Readiness::Panics];

pub async fn a_handle_is_always_ready_and_holds_nothing(make: Make) {
    for readiness in ALL {
        let subject = Subject::tight(make).await;
        let below = Below::plain(Controls::new().readiness(readiness));
        let mut handle = subject.around(&below);
        let (held, seen) = (subject.resources.held(), below.controls.seen());
        for _ in 0..3 {
            assert_eq!(poll_ready(&mut handle), Poll::Ready(Ok(())));
        }
        assert_eq!(subject.resources.held(), held);
        assert_eq!(below.controls.seen(), seen, "a handle that is polled ready leaves the service alone");
    }
}

pub async fn poll_ready_never_rejects(make: Make) {
    let subject = Subject::tight(make).await;
    let below = Below::plain(Controls::new().readiness(Readiness::Blocked).act(Act::Wait));
    let mut handle = subject.around(&below);
    let calls: Vec<_> = (0..2 * PLACES).map(|_| handle.call(7)).collect();
    let mut calls: Vec<_> = calls.into_iter().map(Task::new).collect();
    for call in &mut calls {
        let _ = call.poll();
        assert_eq!(poll_ready(&mut handle), Poll::Ready(Ok(())));
    }
    subject.provoke_a_rejection();
    assert_eq!(poll_ready(&mut handle), Poll::Ready(Ok(())));
    assert_eq!(poll_ready(&mut subject.around(&below)), Poll::Ready(Ok(())));
}

pub async fn nothing_happens_before_the_first_poll(make: Make) {
    let subject = Subject::tight(make).await;
    let below = Below::plain(Controls::new());
    let held = subject.resources.held();
    let mut handle = subject.around(&below);
    let calls: Vec<_> = (0..2 * PLACES).map(|_| handle.call(7)).collect();
    assert_eq!(subject.resources.held(), held);
    let seen = below.controls.seen();
    assert_eq!((seen.ready_polls, seen.calls, seen.future_polls), (0, 0, 0));
    drop(calls);
    subject.assert_admits_what_is_left(Spent::NOTHING).await;
}

pub async fn a_service_that_is_not_ready_wakes_the_call_once_when_it_is(make: Make) {
    let subject = Subject::tight(make).await;
    let below = Below::plain(Controls::new().readiness(Readiness::Blocked));
    let mut call = Task::new(subject.around(&below).oneshot(7));
    assert!(call.poll().is_pending());
    assert_eq!((call.wakes(), below.reached()), (0, 0));

    below.controls.unblock();
    assert_eq!(call.wakes(), 1);
    assert_eq!(call.poll(), Poll::Ready(Ok(7)));
    assert_eq!(call.wakes(), 1);
    assert_eq!(below.controls.seen().ready_polls, 2);
}

pub async fn a_readiness_error_comes_out_of_the_future(make: Make) {
    for kind in KINDS {
        let subject = Subject::tight(make).await;
        let below = Below::new(kind, Controls::new().readiness(Readiness::Fails));
        let mut handle = subject.around(&below);
        assert_eq!(poll_ready(&mut handle), Poll::Ready(Ok(())));
        let error = Task::new(handle.call(7)).resolve().await.unwrap_err();
        match error {
            Error::Service(Fault::Foreign(text)) if matches!(kind, Kind::Buffered(_)) => {
                assert_eq!(text, "buffered service failed: the service will never be ready");
            }
            error => assert_eq!(error, Error::Service(Fault::NotReady)),
        }
        assert_eq!(below.controls.seen().calls, 0);
        below.controls.assert_contract_kept();
    }
}

pub async fn the_instance_that_was_polled_ready_is_the_one_that_is_called(make: Make) {
    for kind in KINDS {
        // The fixture panics when it is called on an instance that was not polled ready since its last call.
        let subject = Subject::tight(make).await;
        let acts = [Act::FailAfter(1), Act::AnswerAfter(1)];
        let below = Below::new(kind, Controls::new().readiness(Readiness::After(2)).next_acts(acts));
        let mut handle = subject.around(&below);
        for _ in 0..2 {
            let _ = handle.ready().await.unwrap().call(7).await;
            pass(BACKOFF).await;
        }
        let _ = handle.clone().oneshot(7).await;
        assert!(below.controls.seen().calls >= 3, "{:?}", below.controls.seen());
        below.controls.assert_contract_kept();
    }
}

pub async fn a_call_costs_one_clone_of_the_service(make: Make) {
    let subject = Subject::tight(make).await;
    let below = Below::plain(Controls::new());
    let mut handle = subject.around(&below);
    let before = below.controls.seen();
    assert_eq!(handle.call(7).await, Ok(7));
    let after = below.controls.seen();
    assert_eq!(after.instances_made - before.instances_made, 1);
    assert_eq!(after.instances_alive, before.instances_alive);
    assert_eq!((after.ready_polls, after.calls, after.future_polls), (1, 1, 1));
}

pub async fn an_idle_ready_handle_takes_no_capacity(make: Make) {
    for kind in [Kind::Plain, Kind::Limited(PLACES), Kind::Buffered(PLACES)] {
        let subject = Subject::tight(make).await;
        let below = Below::new(kind, Controls::new().act(Act::Wait));
        let mut idle = vec![subject.around(&below); 3 * PLACES];
        for handle in &mut idle {
            assert_eq!(poll_ready(handle), Poll::Ready(Ok(())));
        }
        below.assert_full_capacity().await;

        let mut calls: Vec<_> = (0..PLACES).map(|_| Task::new(subject.around(&below).oneshot(7))).collect();
        for call in &mut calls {
            assert!(call.poll().is_pending());
        }
        pass(OPEN_FOR).await;
        assert_eq!(below.controls.seen().calls, PLACES);
        below.controls.answer();
        for call in &mut calls {
            assert_eq!(call.resolve().await, Ok(7));
        }
    }
}

pub async fn a_refusal_does_not_touch_the_service(make: Make) {
    for mechanism in Subject::tight(make).await.resources.names() {
        let subject = Subject::tight(make).await;
        subject.resources.exhaust(mechanism);
        let below = Below::plain(Controls::new().readiness(Readiness::Panics));
        let mut call = Task::new(subject.around(&below).oneshot(7));
        let Poll::Ready(Err(error)) = call.poll() else { panic!("{mechanism} does not refuse at once") };
        assert_eq!(error.rejection().map(|rejection| rejection.mechanism()), Some(mechanism));
        let seen = below.controls.seen();
        assert_eq!((seen.ready_polls, seen.calls), (0, 0));
    }
}

pub async fn each_attempt_has_an_instance_of_its_own(make: Make) {
    let subject = Subject::tight(make).await;
    let readiness = [Readiness::Ready, Readiness::Fails, Readiness::After(1)];
    let below = Below::plain(Controls::new().next_readiness(readiness).next_acts([Act::FailAfter(0)]));
    let before = below.controls.seen();
    let mut call = Task::new(subject.around(&below).oneshot(7));
    assert_eq!(call.resolve().await, Ok(7));
    let called = below.controls.called();
    assert_eq!(called.len(), 2);
    assert_ne!(called[0], called[1]);
    let after = below.controls.seen();
    assert_eq!(after.instances_made - before.instances_made, 1 + 3, "one for the handle, one for each attempt");
    below.controls.assert_contract_kept();
}
