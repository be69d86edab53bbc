//! A queue in front of a service.

use super::{Waiter, class, full, occupancy, patient, served, too_full, too_long, waiter, waiting, within};
use crate::support::{Act, Backend, ByHand, Failed, ms, secs};
use futures::future::join_all;
use std::task::Poll;
use steadfast::{
    CallContext, Criticality, Error, Rejection,
    error::QueueFullCause::{Depth, Displaced, TooHeavy},
    load_level::{LoadLevel, LoadLevelLayer, LoadLevelStage, Queue, WeighsOne},
    shell::{CriticalityOfContext, Leaf, Stack, TypedError},
};
use tokio::{
    spawn,
    time::{advance, sleep},
};
use tower::{BoxError, Layer, Service, ServiceExt};

type Leveled = Stack<LoadLevelStage<WeighsOne, CriticalityOfContext, Leaf>, TypedError, Backend>;

fn around(queue: &Queue, backend: &Backend) -> Leveled {
    LoadLevelLayer::new(queue.clone()).typed_error().layer(backend.clone())
}

#[tokio::test(start_paused = true)]
async fn the_concurrency_limit_is_kept_and_all_calls_are_served_in_order() {
    let queue = patient(3, 1000).build().unwrap();
    let backend = Backend::always(Act::answer(200).after(ms(10)));
    let service = around(&queue, &backend);
    let ends = join_all((0..300).map(|_| service.clone().oneshot(()))).await;
    assert!(ends.into_iter().all(|end| end == Ok(200)));
    assert_eq!((backend.calls(), backend.most_in_flight()), (300, 3));
    assert_eq!(backend.arrivals(), (0..300).map(|number| ms(number / 3 * 10)).collect::<Vec<_>>());
    assert_eq!(occupancy(&queue), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_service_is_polled_ready_only_after_the_turn_has_come() {
    let (queue, permits) = full(patient(1, 10));
    // A service whose readiness fails.
    let service = around(&queue, &Backend::always(Act::hang()).broken());
    let mut call = ByHand::pending(service.oneshot(()));
    advance(secs(60)).await;
    assert!(call.poll().is_pending());
    drop(permits);
    assert_eq!(call.poll(), Poll::Ready(Err(Error::Service(Failed))));
    assert_eq!(occupancy(&queue), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn layers_of_one_queue_and_clones_of_one_layer_share_its_places() {
    let queue = patient(1, 2).build().unwrap();
    let backend = Backend::always(Act::answer(200).after(secs(1)));
    let layer = LoadLevelLayer::new(queue.clone()).typed_error();
    let another = LoadLevelLayer::new(LoadLevel::from(queue.clone())).typed_error();
    let services = [layer.layer(backend.clone()), layer.clone().layer(backend.clone()), another.layer(backend.clone())];
    let ends = join_all(services.into_iter().cycle().take(4).map(|service| service.oneshot(()))).await;
    assert_eq!(ends, [Ok(200), Ok(200), Ok(200), Err(Error::Rejected(too_full(Depth, 2)))]);
    assert_eq!(backend.most_in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_with_and_without_tower_share_the_places() {
    let (queue, permits) = full(patient(1, 10));
    let backend = Backend::always(Act::answer(200).after(secs(1)));
    let mut with = ByHand::pending(around(&queue, &backend).oneshot(()));
    let mut without: Waiter = waiter(&queue);
    drop(permits);
    assert!(with.poll().is_pending() && served(&mut without).is_none());
    advance(secs(1)).await;
    assert_eq!(with.poll(), Poll::Ready(Ok(200)));
    assert!(served(&mut without).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_does_not_reach_the_service() {
    let (queue, _permits) = full(patient(1, 1));
    let backend = Backend::always(Act::answer(200));
    let service = around(&queue, &backend);
    let waiting = ByHand::pending(service.clone().oneshot(()));
    let Error::Rejected(rejection) = service.clone().oneshot(()).await.unwrap_err() else { panic!("not rejected") };
    assert_eq!(rejection, too_full(Depth, 1));
    assert_eq!(
        (rejection.mechanism(), rejection.reached_service(), rejection.retry_after()),
        ("load_level", false, None)
    );
    drop(waiting);
    let late = within(ms(10)).scope(service.oneshot(())).await.unwrap_err();
    assert_eq!(late, Error::Rejected(too_long(ms(10))));
    let Error::Rejected(rejection) = late else { panic!("not rejected") };
    assert_eq!(rejection.to_string(), "load level: waited for 10 ms and was not served");
    assert_eq!((rejection.mechanism(), rejection.reached_service()), ("load_level", false));
    assert_eq!(backend.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_half_of_the_time_to_the_deadline_of_its_context() {
    let (queue, _permits) = full(Queue::builder(1, 10));
    let service = around(&queue, &Backend::always(Act::answer(200)));
    let ended = within(ms(300)).scope(service.oneshot(())).await;
    assert_eq!(ended, Err(Error::Rejected(too_long(ms(150)))));
}

#[tokio::test(start_paused = true)]
async fn the_weight_and_the_criticality_come_from_the_request() {
    let (queue, _permits) = full(patient(1, 10).max_weight(10).by_criticality());
    let matters = |request: &u64| if *request == 9 { Criticality::CriticalPlus } else { Criticality::Sheddable };
    let level = LoadLevel::new(queue.clone()).criticality(matters).weight(|request: &u64| *request);
    let service = LoadLevelLayer::new(level).typed_error().layer(Backend::always(Act::answer(200)));
    let mut light = ByHand::pending(service.clone().oneshot(4));
    assert_eq!((queue.readings().weight, waiting(&queue)), (4, 1));
    assert_eq!(service.clone().oneshot(11).await, Err(Error::Rejected(too_full(TooHeavy, 10))));
    let _heavy = ByHand::pending(service.clone().oneshot(9));
    assert_eq!(light.poll(), Poll::Ready(Err(Error::Rejected(too_full(Displaced, 10)))));
    assert_eq!((queue.readings().weight, waiting(&queue)), (9, 1));
}

#[tokio::test(start_paused = true)]
async fn by_default_the_criticality_comes_from_the_context() {
    let (queue, permits) = full(patient(1, 10).by_criticality());
    let backend = Backend::script([Act::answer(1), Act::answer(2)], Act::answer(3));
    let service = around(&queue, &backend);
    let call = |criticality| spawn(class(criticality).scope(service.clone().oneshot(())));
    let calls = [Criticality::Sheddable, Criticality::CriticalPlus, Criticality::Critical].map(call);
    sleep(ms(1)).await;
    assert_eq!(waiting(&queue), 3);
    drop(permits);
    let ends = join_all(calls).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!(ends, [Ok(3), Ok(1), Ok(2)]);
}

#[tokio::test(start_paused = true)]
async fn the_service_sees_the_context_of_the_call_that_waited() {
    let (queue, permits) = full(patient(1, 10));
    let service = tower::service_fn(async |()| Ok::<_, BoxError>(CallContext::current().deadline()));
    let stack = steadfast::server().load_level(queue.clone()).service(service).unwrap();
    let context = within(secs(60));
    let mut call = ByHand::new(context.scope(stack.oneshot(())));
    assert!(call.poll().is_pending());
    drop(permits);
    let Poll::Ready(Ok(deadline)) = call.poll() else { panic!("not answered") };
    assert_eq!(deadline, context.deadline());
}

#[tokio::test(start_paused = true)]
async fn a_place_is_returned_however_the_call_ends() {
    let queue = patient(1, 1).build().unwrap();
    let service = |act| around(&queue, &Backend::always(act));
    assert_eq!(service(Act::fail()).oneshot(()).await, Err(Error::Service(Failed)));
    assert_eq!(queue.in_service(), 0);
    tokio::time::timeout(secs(1), service(Act::hang()).oneshot(())).await.unwrap_err();
    assert_eq!(queue.in_service(), 0);
    let never_ready = around(&queue, &Backend::always(Act::hang()).ready_for(0));
    tokio::time::timeout(secs(1), never_ready.oneshot(())).await.unwrap_err();
    assert_eq!(queue.in_service(), 0);
    let mut kept = ByHand::new(service(Act::answer(200)).oneshot(()));
    assert_eq!(kept.poll(), Poll::Ready(Ok(200)));
    assert_eq!(queue.in_service(), 0);
    drop(kept);
    assert_eq!(occupancy(&queue), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_rejection_becomes_a_response_or_the_services_own_error() {
    let (queue, _permits) = full(patient(1, 1));
    let _waiting = waiter(&queue);
    let layer = LoadLevelLayer::new(queue.clone());
    let respond =
        layer.clone().respond_with(|rejection: Rejection| if rejection.retry_after().is_none() { 503 } else { 0 });
    assert_eq!(respond.layer(Backend::always(Act::fail())).oneshot(()).await, Ok(503));
    let mut boxed = layer.layer(tower::service_fn(async |()| Ok::<(), BoxError>(())));
    let error = boxed.call(()).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Rejection::QueueFull(_))));
}
