//! Defects of other queues, which this queue must not have.

use super::{
    HOUR, assert_free, counts, full, occupancy, patient, refused_at_once, served, too_full, waiter, waiters, within,
};
use crate::support::{Act, Backend, ByHand, Counted, Failed, Stopwatch, ms, secs};
use futures::future::join_all;
use std::{sync::Arc, task::Poll};
use steadfast::{
    Error, Rejection,
    error::QueueFullCause::Depth,
    load_level::{LoadLevelLayer, Queue},
};
use tokio::{
    spawn,
    sync::Semaphore,
    time::{advance, sleep},
};
use tower::{
    BoxError, Layer, Service, ServiceExt, buffer::Buffer, limit::ConcurrencyLimit, limit::GlobalConcurrencyLimitLayer,
    service_fn,
};

#[tokio::test(start_paused = true)]
async fn a_readiness_error_does_not_end_other_handles() {
    let queue = patient(1, 10).build().unwrap();
    let layer = LoadLevelLayer::new(queue.clone()).typed_error();
    let backend = Backend::always(Act::answer(200)).broken();
    let service = layer.layer(backend.clone());
    let clone = service.clone();
    assert_eq!(service.clone().oneshot(()).await, Err(Error::Service(Failed)));
    backend.set_ready_for(100);
    assert_eq!((service.oneshot(()).await, clone.oneshot(()).await), (Ok(200), Ok(200)));
    assert_free(&queue);
}

#[tokio::test(start_paused = true)]
async fn cancelled_calls_leave_their_places_at_once() {
    let (queue, permits) = full(patient(1, 100));
    for _ in 0..50 {
        let waiting: Vec<_> = (0..100).map(|_| waiter(&queue)).collect();
        assert_eq!(refused_at_once(&queue), too_full(Depth, 100));
        drop(waiting);
    }
    assert_eq!((occupancy(&queue), counts(&queue)), ((1, 0), [50, 0, 0, 5000]));
    drop(permits);
    assert_free(&queue);
}

#[tokio::test(start_paused = true)]
async fn admitting_one_waiter_does_not_wake_the_others() {
    let queue = patient(1, 1000).build().unwrap();
    let calls: Vec<_> = (0..1000)
        .map(|_| {
            let queue = queue.clone();
            spawn(async move {
                let (permit, polls) = Counted::new(queue.acquire()).await;
                sleep(ms(10)).await;
                drop(permit.unwrap());
                polls
            })
        })
        .collect();
    let polls: usize = join_all(calls).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(polls, 1 + 2 * 999);

    let paced = patient(1000, 1000).pace(100, secs(1)).build().unwrap();
    let calls = (0..1000).map(|_| {
        let paced = paced.clone();
        spawn(async move { Counted::new(async move { drop(paced.acquire().await.unwrap()) }).await.1 })
    });
    let polls: usize = join_all(calls.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(polls, 1 + 2 * 999, "each at its own instant");
}

#[tokio::test(start_paused = true)]
async fn waiters_hold_no_permit_of_the_inner_service() {
    let (queue, permits) = full(patient(1, 10));
    let inner = Arc::new(Semaphore::new(2));
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(inner.clone());
    let service = LoadLevelLayer::new(queue.clone())
        .typed_error()
        .layer(limit.layer(Backend::always(Act::answer(200).after(secs(1)))));
    let mut waiting: Vec<_> = (0..5).map(|_| ByHand::pending(service.clone().oneshot(()))).collect();
    assert_eq!(inner.available_permits(), 2);
    drop(permits);
    assert!(waiting[0].poll().is_pending());
    assert_eq!(inner.available_permits(), 1, "the turn of one call has come");
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_place_is_refused_at_once() {
    let (queue, _permits) = full(Queue::builder(1, 1).max_weight(10));
    let _waiting = waiter(&queue);
    let stopwatch = Stopwatch::start();
    queue.acquire().await.unwrap_err();
    queue.acquire_weighing(11).await.unwrap_err();
    within(ms(0)).scope(queue.acquire()).await.unwrap_err();
    assert_eq!(stopwatch.read(), ms(0));
}

#[tokio::test(start_paused = true)]
async fn ten_services_of_one_layer_share_one_queue() {
    let layer = LoadLevelLayer::new(patient(2, 5).build().unwrap()).typed_error();
    let backend = Backend::always(Act::answer(200).after(secs(1)));
    let routes: Vec<_> = (0..10).map(|_| layer.layer(backend.clone())).collect();
    let ends = join_all(routes.into_iter().map(|route| route.oneshot(()))).await;
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 7);
    assert_eq!((backend.calls(), backend.most_in_flight()), (7, 2));
}

#[tokio::test(start_paused = true)]
async fn every_queue_has_a_bound() {
    // The depth is required, and the default wait is at most a second.
    let (queue, _permits) = full(Queue::builder(1, 3));
    let mut waiting: [_; 3] = waiters(&queue);
    assert_eq!(refused_at_once(&queue), too_full(Depth, 3));
    advance(secs(1)).await;
    assert!(waiting.iter_mut().all(|waiter| matches!(waiter.poll(), Poll::Ready(Err(Rejection::WaitedTooLong(_))))));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_returns_its_place_and_its_start_time_of_the_pace() {
    // Each call is admitted, takes a slot of the pace, and waits for a service that is not ready.
    let queue = patient(1, 10).pace(1, HOUR).build().unwrap();
    let backend = Backend::always(Act::answer(200)).ready_for(0);
    let service = LoadLevelLayer::new(queue.clone()).typed_error().layer(backend.clone());
    for _ in 0..5 {
        let call = tokio::time::timeout(ms(10), service.clone().oneshot(()));
        assert!(call.await.is_err());
        assert_eq!(occupancy(&queue), (0, 0));
    }
    let aborted = spawn(service.clone().oneshot(()));
    sleep(ms(1)).await;
    assert_eq!(occupancy(&queue), (1, 0));
    aborted.abort();
    assert!(aborted.await.unwrap_err().is_cancelled());
    backend.set_ready_for(1);
    let stopwatch = Stopwatch::start();
    assert_eq!(service.oneshot(()).await, Ok(200));
    assert_eq!(stopwatch.read(), ms(0), "the place and the start time are free");
}

#[tokio::test(start_paused = true)]
async fn an_idle_handle_does_not_keep_the_next_permit() {
    let queue = patient(1, 10).build().unwrap();
    let service = LoadLevelLayer::new(queue.clone())
        .typed_error()
        .layer(ConcurrencyLimit::new(Backend::always(Act::answer(200).after(secs(1))), 1));
    let mut idle = service.clone();
    ServiceExt::<()>::ready(&mut idle).await.unwrap();
    let unpolled = idle.call(());
    assert_eq!(service.clone().oneshot(()).await, Ok(200));
    assert_eq!(occupancy(&queue), (0, 0));
    assert_eq!(unpolled.await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_coop_budget_is_not_treated_as_overload() {
    // Once a task has used up its coop budget, tokio's resources return `Pending` until the task's next poll.
    let answers = Buffer::new(service_fn(async |(): ()| Ok::<_, BoxError>(())), 100_000);
    let queue = patient(1000, 1).build().unwrap();
    let service = LoadLevelLayer::new(queue.clone()).layer(answers);
    let ends = join_all((0..1000).map(|_| service.clone().oneshot(()))).await;
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 1000);
    assert_eq!((occupancy(&queue), counts(&queue)), ((0, 0), [0; 4]));

    // A waiter is not refused either.
    let queue = patient(1, 1000).build().unwrap();
    let ends = join_all((0..1000).map(|_| async { drop(queue.acquire().await.unwrap()) })).await;
    assert_eq!((ends.len(), counts(&queue)), (1000, [0; 4]));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_caller_has_gone_does_not_run() {
    let queue = patient(1, 100).build().unwrap();
    let backend = Backend::always(Act::answer(200).after(ms(100)));
    let service = LoadLevelLayer::new(queue.clone()).typed_error().layer(backend.clone());
    let calls: Vec<_> = (0..20).map(|_| spawn(service.clone().oneshot(()))).collect();
    sleep(ms(250)).await;
    calls[4..].iter().for_each(|call| call.abort());
    let ends = join_all(calls).await;
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 4);
    assert_eq!((backend.calls(), counts(&queue)), (4, [0, 0, 0, 16]));

    // A call also does not run if its caller's deadline has passed.
    let ends = join_all((0..20).map(|_| within(ms(350)).scope(service.clone().oneshot(())))).await;
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 4, "the last of them began in time");
    assert_eq!((backend.calls(), counts(&queue)), (8, [0, 0, 16, 16]));
    assert_free(&queue);
}

#[tokio::test(start_paused = true)]
async fn an_admitted_future_that_is_not_polled_keeps_exactly_one_place() {
    let (queue, permits) = full(patient(2, 10));
    let [idle, mut second, mut third] = waiters(&queue);
    drop(permits);
    assert_eq!(occupancy(&queue), (2, 1));
    drop(served(&mut second));
    drop(served(&mut third));
    for _ in 0..10 {
        drop(served(&mut ByHand::new(queue.acquire())).unwrap());
    }
    assert_eq!(occupancy(&queue), (1, 0));
    drop(idle);
    assert_free(&queue);
}
