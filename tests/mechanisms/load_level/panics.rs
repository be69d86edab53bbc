//! A panic of user code loses no place.

use super::{assert_free, counts, full, occupancy, order, patient, refused, served, waiter, waiters, within};
use crate::support::{Act, Backend, ByHand, ms};
use std::{
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker},
};
use steadfast::{
    Criticality,
    load_level::{LoadLevel, LoadLevelLayer},
};
use tokio::time::advance;
use tower::{Layer, Service, ServiceExt, service_fn};

#[track_caller]
fn panics<T>(work: impl FnOnce() -> T) {
    assert!(catch_unwind(AssertUnwindSafe(work)).is_err(), "no panic");
}

#[tokio::test(start_paused = true)]
async fn a_panicking_service_gives_its_place_to_the_next_call() {
    for act in [Act::panic(), Act::panic_at_once()] {
        let (queue, permits) = full(patient(1, 10));
        let service = LoadLevelLayer::new(queue.clone()).typed_error().layer(Backend::always(act));
        let mut call = ByHand::pending(service.clone().oneshot(()));
        let mut next = waiter(&queue);
        drop(permits);
        panics(|| call.poll().is_ready());
        assert_eq!((next.wakes(), occupancy(&queue)), (1, (1, 0)));
        drop(call);
        drop(served(&mut next));
        assert_free(&queue);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panicking_weight_or_criticality_function_takes_no_place() {
    let (queue, permits) = full(patient(1, 10).by_criticality());
    let backend = Backend::always(Act::answer(200));
    let weigh = LoadLevel::new(queue.clone()).weight(|(): &()| -> u64 { panic!("as the test wants it") });
    let classify =
        LoadLevel::new(queue.clone()).criticality(|(): &()| -> Criticality { panic!("as the test wants it") });
    let weigh = LoadLevelLayer::new(weigh).typed_error().layer(backend.clone());
    let classify = LoadLevelLayer::new(classify).typed_error().layer(backend);
    let mut calls = (ByHand::new(weigh.clone().oneshot(())), ByHand::new(classify.clone().oneshot(())));
    panics(|| calls.0.poll().is_ready());
    panics(|| calls.1.poll().is_ready());
    assert_eq!(occupancy(&queue), (1, 0));
    drop(permits);
    drop(calls);
    assert_eq!(weigh.oneshot(()).await, Ok(200), "a call that need not wait is not weighed");
    assert_free(&queue);
}

/// A request that panics when it is dropped, if armed.
struct Grenade(bool);

impl Drop for Grenade {
    fn drop(&mut self) {
        if self.0 && !std::thread::panicking() {
            panic!("as the test wants it");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_drop_panics_loses_no_place() {
    async fn hold(request: Grenade) -> Result<(), std::io::Error> {
        std::mem::forget(request);
        Ok(())
    }
    let (queue, permits) = full(patient(1, 1));
    let service = LoadLevelLayer::new(queue.clone()).typed_error().layer(service_fn(hold));
    let call = || ByHand::new(service.clone().oneshot(Grenade(true)));

    // Refused at once.
    let waiting = waiter(&queue);
    let mut at_once = call();
    panics(|| at_once.poll().is_ready());
    drop(at_once);
    drop(waiting);
    // Cancelled while it waits.
    let cancelled = ByHand::pending(service.clone().oneshot(Grenade(true)));
    panics(|| drop(cancelled));
    assert_eq!((occupancy(&queue), counts(&queue)), ((1, 0), [1, 0, 0, 2]));
    // Refused when its time to wait has ended.
    let mut late = call();
    assert!(within(ms(10)).sync_scope(|| late.poll().is_pending()));
    advance(ms(10)).await;
    panics(|| late.poll().is_ready());
    drop(late);
    assert_eq!(occupancy(&queue), (1, 0));
    drop(permits);
    assert_free(&queue);
}

#[tokio::test(start_paused = true)]
async fn a_service_whose_clone_panics_loses_no_place() {
    #[derive(Debug)]
    struct Unclonable(Backend, bool);
    impl Clone for Unclonable {
        fn clone(&self) -> Self {
            assert!(!self.1, "as the test wants it");
            Self(self.0.clone(), self.1)
        }
    }
    impl Service<()> for Unclonable {
        type Response = u16;
        type Error = crate::support::Failed;
        type Future = crate::support::Reply;
        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Service::<()>::poll_ready(&mut self.0, cx)
        }
        fn call(&mut self, request: ()) -> Self::Future {
            self.0.call(request)
        }
    }
    let queue = patient(1, 1).build().unwrap();
    let service = Unclonable(Backend::always(Act::answer(200)), true);
    let mut service = LoadLevelLayer::new(queue.clone()).typed_error().layer(service);
    panics(|| drop(service.call(())));
    assert_free(&queue);
}

/// Panics when it is woken.
struct Fuse;

impl Wake for Fuse {
    fn wake(self: Arc<Self>) {
        panic!("as the test wants it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_when_woken_costs_no_other_call_its_wake_up_or_place() {
    let (queue, permits) = full(patient(2, 10));
    let mut first = waiter(&queue);
    let waker = Waker::from(Arc::new(Fuse));
    let mut fused = Box::pin(queue.acquire());
    assert!(fused.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let [mut second, mut third] = waiters(&queue);
    drop(permits);
    assert_eq!((first.wakes(), occupancy(&queue)), (1, (2, 2)));
    drop(served(&mut first));
    drop(fused);
    assert_eq!((second.wakes(), third.wakes()), (1, 1));
    drop((served(&mut second), served(&mut third)));
    assert_free(&queue);
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_when_dropped_loses_no_place() {
    let (queue, permits) = full(patient(1, 10));
    let waker = ManuallyDrop::new(with_drops_that_panic());
    let mut fused = Box::pin(queue.acquire());
    assert!(fused.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let mut next = waiter(&queue);
    drop(permits);
    // The poll panics, because the queue and tokio's timer each drop a waker.
    panics(|| fused.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    assert_eq!((next.wakes(), occupancy(&queue)), (1, (1, 0)));
    drop(fused);
    let permit = served(&mut next);
    let mut waiting: [_; 3] = waiters(&queue);
    assert_eq!(order(permit.unwrap(), &mut waiting), [0, 1, 2], "each has a place of its own");

    let (queue, permits) = full(patient(1, 10));
    let mut goes = Box::pin(queue.acquire());
    assert!(goes.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    panics(|| drop(goes));
    assert_eq!(occupancy(&queue), (1, 0));
    drop(permits);
    assert_free(&queue);
}

/// A waker whose drops panic.
fn with_drops_that_panic() -> Waker {
    fn clone(_: *const ()) -> RawWaker {
        RawWaker::new(std::ptr::null(), &TABLE)
    }
    fn drop(_: *const ()) {
        if !std::thread::panicking() {
            panic!("as the test wants it");
        }
    }
    const TABLE: RawWakerVTable = RawWakerVTable::new(clone, |_| {}, |_| {}, drop);
    // SAFETY: no function of the table uses the pointer.
    unsafe { Waker::from_raw(clone(std::ptr::null())) }
}

/// A waker whose clones panic.
fn without_clones() -> Waker {
    const TABLE: RawWakerVTable = RawWakerVTable::new(|_| panic!("as the test wants it"), |_| {}, |_| {}, |_| {});
    // SAFETY: no function of the table uses the pointer.
    unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &TABLE)) }
}

#[tokio::test(start_paused = true)]
async fn a_waker_whose_clone_panics_loses_no_place() {
    let (queue, permits) = full(patient(1, 10));
    {
        let mut acquire = pin!(queue.acquire());
        panics(|| acquire.as_mut().poll(&mut Context::from_waker(&without_clones())).is_ready());
        assert_eq!(occupancy(&queue), (1, 1), "it keeps its place until it is dropped");
    }
    assert_eq!((occupancy(&queue), counts(&queue)), ((1, 0), [0, 0, 0, 1]));
    let mut late = super::waiter_with(&queue, within(ms(10)));
    advance(ms(10)).await;
    let _ = refused(&mut late);
    drop(permits);
    assert_free(&queue);
}
