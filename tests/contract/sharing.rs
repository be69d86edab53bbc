//! State lives in the layer: all services that it makes, and all clones, share it.

use crate::{
    any_layer::Handle,
    below::Below,
    controls::{Act, Controls, Readiness},
    resources::{Held, Spent},
    subject::{ATTEMPTS, Make, PLACES, Subject},
    task::Task,
};
use std::task::Poll;
use steadfast::Error;
use tower::{Service, ServiceExt};

/// Returns as many handles as there are places, made in every possible way.
fn handles<E>(of: [Handle<E>; 3]) -> [Handle<E>; PLACES] {
    let [first, second, third] = of;
    [first.clone(), first, second, third]
}

pub async fn all_handles_of_a_layer_share_one_state(make: Make) {
    let subject = Subject::tight(make).await;
    let below = Below::plain(Controls::new().act(Act::Wait));
    let mut handles = handles([subject.around(&below), subject.around(&below), subject.cloned_around(&below)]);

    let mut calls: Vec<_> = handles.iter_mut().map(|handle| Task::new(handle.call(7))).collect();
    for call in &mut calls {
        assert!(call.poll().is_pending());
    }
    let full = subject.resources.held_after(Spent::NOTHING);
    // Checks the calls only: the second count is of attempts, which a server does not have.
    let under_way = subject.resources.under_way.as_ref().map(|under_way| under_way.counts());
    assert!(under_way.is_none_or(|[calls, _]| calls == PLACES as i64));
    let expected = Held {
        in_flight: full.in_flight.map(|_| PLACES),
        in_service: full.in_service.map(|_| PLACES),
        free_probes: full.free_probes.map(|_| 0),
        tokens: full.tokens.map(|_| 0),
        under_way,
        ..full
    };
    assert_eq!(subject.resources.held(), expected);

    for handle in &mut handles {
        let _ = Task::new(handle.call(7)).poll();
    }
    let admitted = if subject.is_bounded() { PLACES } else { 2 * PLACES };
    assert_eq!(below.controls.seen().calls, admitted);
    assert_eq!(subject.resources.held(), expected);
    drop(calls);
    subject.assert_admits_what_is_left(Spent::reached(below.reached().min(PLACES as u64))).await;
}

pub async fn a_place_returned_on_one_handle_is_free_on_another(make: Make) {
    let subject = Subject::tight(make).await;
    // Calls that do not reach the service spend nothing. When such a call is dropped, everything that it took is free
    // again.
    let blocked = || Controls::new().readiness(Readiness::Blocked);
    let (first, second) = (Below::plain(blocked()), Below::plain(blocked()));
    let [mut here, mut there] = [subject.around(&first), subject.cloned_around(&second)];
    let mut calls: Vec<_> = (0..PLACES).map(|_| Task::new(here.call(7))).collect();
    for call in &mut calls {
        assert!(call.poll().is_pending());
    }
    assert!(matches!(Task::new(there.call(7)).poll(), Poll::Ready(Err(Error::Rejected(_)))));
    assert_eq!(second.controls.seen().ready_polls, 0);

    calls.pop();
    let mut call = Task::new(there.call(7));
    assert!(call.poll().is_pending());
    assert_eq!(second.controls.seen().ready_polls, 1);
    assert!(matches!(Task::new(here.call(7)).poll(), Poll::Ready(Err(Error::Rejected(_)))));
}

pub async fn all_handles_of_a_layer_spend_one_budget(make: Make) {
    let subject = Subject::roomy(make).await;
    let below = Below::plain(Controls::new().act(Act::FailAfter(0)));
    let handles = handles([subject.around(&below), subject.around(&below), subject.cloned_around(&below)]);
    let mut attempts = Vec::new();
    for handle in handles {
        let before = below.reached();
        handle.oneshot(7).await.unwrap_err();
        attempts.push(below.reached() - before);
    }
    // The budget begins with four retries and earns a quarter with each call.
    assert_eq!(attempts, [u64::from(ATTEMPTS), u64::from(ATTEMPTS), 1, 1]);
    assert_eq!(subject.resources.budget.as_ref().unwrap().balance(), 0.75);
}
