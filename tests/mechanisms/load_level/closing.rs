//! A closed queue: the waiters, the calls in the service, and later calls.

use super::{
    HOUR, Waiter, assert_free, class, comes_with, counts, full, occupancy, patient, refused, refused_at_once, served,
    too_long, waiter, waiter_with, waiters, within,
};
use crate::support::{Act, Backend, ByHand, ms, secs};
use std::{
    sync::{Arc, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread,
};
use steadfast::{
    CallContext, Criticality, Error, Rejection,
    error::Closed,
    load_level::{Discipline, LoadLevel, LoadLevelLayer, LoadLevelStage, Permit, Queue},
    shell::{Frame, Leaf, RefusesNow, Stage},
};
use tokio::{
    runtime,
    time::{Instant, advance},
};
use tower::{Layer, ServiceExt};

fn closed() -> Rejection {
    Closed::queue().into()
}

fn refused_because_closed(queue: &Queue) -> u64 {
    queue.readings().not_served.closed
}

// Waiters.

#[tokio::test(start_paused = true)]
async fn closing_wakes_each_waiter_once_with_a_closed_rejection() {
    for discipline in [Discipline::by_deadline(0.5), Discipline::fifo(), Discipline::lifo(), Discipline::adaptive()] {
        let (queue, permits) = full(patient(2, 100).discipline(discipline).by_criticality());
        let mut waiting: Vec<_> = (0..40)
            .map(|number| {
                let criticality = if number % 3 == 0 { Criticality::Sheddable } else { Criticality::Critical };
                waiter_with(&queue, class(criticality))
            })
            .collect();
        queue.close();
        assert!(waiting.iter().all(|waiter| waiter.wakes() == 1));
        // No call waits, whether or not its task has polled since.
        assert_eq!((occupancy(&queue), queue.readings().weight), ((2, 0), 0));
        for waiter in &mut waiting {
            assert_eq!(refused(waiter), closed());
            assert_eq!(waiter.wakes(), 1);
        }
        assert_eq!((refused_because_closed(&queue), counts(&queue)), (40, [0; 4]));
        drop(permits);
        assert_eq!(occupancy(&queue), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_rejection_names_the_queue_and_has_no_retry_after() {
    let (queue, _permits) = full(patient(1, 10));
    let mut waiter = waiter(&queue);
    queue.close();
    let rejection = refused(&mut waiter);
    assert_eq!((rejection.mechanism(), rejection.reached_service()), ("load_level", false));
    assert_eq!(rejection.retry_after(), None);
    assert_eq!(rejection.to_string(), "load level: closed");
    let Rejection::Closed(details) = rejection else { panic!("{rejection:?}") };
    assert_eq!((details.limit(), details.to_string().as_str()), (None, "closed"));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_has_come_survives_the_close_before_its_task_polls() {
    let (queue, mut permits) = full(patient(2, 10));
    let [mut seen, dropped, mut late, mut last] =
        [waiter(&queue), waiter(&queue), waiter_with(&queue, within(secs(4))), waiter(&queue)];
    queue.set_discipline(Discipline::fifo()).unwrap();
    permits.clear();
    assert_eq!(occupancy(&queue), (2, 2));
    queue.close();
    assert_eq!([&seen, &dropped, &late, &last].map(ByHand::wakes), [1; 4]);
    assert_eq!(occupancy(&queue), (2, 0), "two are in the service, and have not polled since");
    let permit = served(&mut seen);
    assert!(permit.is_some());
    drop(dropped);
    assert_eq!(queue.in_service(), 1, "its place is free");
    assert_eq!([refused(&mut late), refused(&mut last)], [closed(), closed()]);
    drop(permit);
    assert_eq!(occupancy(&queue), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_turn_from_before_the_close_is_refused_if_polled_after_the_deadline() {
    let (queue, permits) = full(patient(1, 10));
    let mut waiter = waiter_with(&queue, within(secs(2)));
    drop(permits);
    queue.close();
    advance(secs(2)).await;
    assert_eq!(refused(&mut waiter), too_long(secs(2)));
    assert_eq!(occupancy(&queue), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn closing_admits_the_waiters_that_the_pace_allows_by_now() {
    // One call per second, with a tolerance of 5 ms.
    let queue = patient(10, 10).pace(1, secs(1)).build().unwrap();
    let first = queue.try_acquire().unwrap();
    let [mut due, mut not_yet] = waiters(&queue);
    advance(secs(1)).await;
    queue.close();
    assert!(served(&mut due).is_some(), "it is due, whether or not its task has run");
    assert_eq!(refused(&mut not_yet), closed());
    drop(first);
    assert_eq!(occupancy(&queue), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_future_dropped_after_any_of_its_polls_before_or_after_the_close_leaves_nothing() {
    for (before, after) in (0..4).flat_map(|before| (0..2).map(move |after| (before, after))) {
        for let_in in [false, true] {
            let (queue, mut permits) = full(patient(1, 10));
            let mut acquire = ByHand::new(queue.acquire());
            for _ in 0..before {
                assert!(acquire.poll().is_pending());
            }
            if let_in {
                permits.clear();
            }
            queue.close();
            let polled = (0..after).map(|_| acquire.poll()).last();
            match &polled {
                Some(Poll::Ready(Ok(_))) => assert!(let_in && before > 0),
                Some(Poll::Ready(Err(rejection))) => assert_eq!(*rejection, closed()),
                Some(Poll::Pending) => panic!("it waits for a closed queue"),
                None => {}
            }
            drop((polled, acquire));
            assert_eq!(queue.in_service(), permits.len(), "{before} polls before, {after} after, admitted: {let_in}");
            let told = u64::from(!let_in && before > 0 || before == 0 && after > 0);
            assert_eq!((refused_because_closed(&queue), queue.readings().not_served.cancelled), (told, 0));
            permits.clear();
            assert_eq!(occupancy(&queue), (0, 0));
        }
    }
}

// Later calls.

#[tokio::test(start_paused = true)]
async fn a_closed_queue_refuses_every_call_at_once_even_with_free_places() {
    let queue = patient(5, 10).build().unwrap();
    assert!(!queue.is_closed());
    queue.close();
    assert!(queue.is_closed() && queue.clone().is_closed());
    assert_eq!(refused_at_once(&queue), closed());
    let (_, heavy) = comes_with(&queue, CallContext::new(), u64::MAX);
    let (_, expired) = comes_with(&queue, within(ms(0)), 1);
    for answer in [heavy, expired] {
        let Poll::Ready(Err(rejection)) = answer else { panic!("{answer:?}") };
        assert_eq!(rejection, closed(), "no other rule is checked");
    }
    assert!(queue.try_acquire().is_none());
    assert_eq!((refused_because_closed(&queue), counts(&queue), occupancy(&queue)), (3, [0; 4], (0, 0)));
    assert_eq!(queue.readings().expected_wait, None);
}

#[tokio::test(start_paused = true)]
async fn calls_in_the_service_go_on_after_the_close_until_none_is_left() {
    let (queue, mut permits) = full(patient(3, 10));
    queue.close();
    for left in (0..3).rev() {
        permits.pop();
        assert_eq!(queue.in_service(), left);
        assert_eq!(refused_at_once(&queue), closed());
        assert!(queue.try_acquire().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_stays_closed_when_closed_again_or_reconfigured() {
    let (queue, permits) = full(patient(1, 10).pace(1000, secs(1)));
    let mut waiter = waiter(&queue);
    for _ in 0..3 {
        queue.close();
    }
    assert_eq!((waiter.wakes(), refused_because_closed(&queue)), (1, 1));
    queue.set_concurrency(100).unwrap();
    queue.set_pace(None).unwrap();
    queue.set_depth(1000).unwrap();
    queue.set_max_weight(1000).unwrap();
    queue.set_max_wait(HOUR / 2).unwrap();
    queue.set_discipline(Discipline::lifo()).unwrap();
    drop(permits);
    advance(HOUR).await;
    assert!(queue.is_closed() && queue.try_acquire().is_none());
    assert_eq!((refused_at_once(&queue), refused(&mut waiter)), (closed(), closed()));
}

#[tokio::test(start_paused = true)]
async fn is_closed_does_not_change_an_open_queue() {
    let (queue, permits) = full(patient(2, 10));
    let mut waiter = waiter(&queue);
    assert!(!queue.is_closed());
    drop(permits);
    drop(served(&mut waiter).unwrap());
    assert!(!queue.is_closed());
    assert_free(&queue);
}

// In a stack.

#[tokio::test(start_paused = true)]
async fn in_a_stack_closing_refuses_waiters_and_newcomers_and_the_running_call_ends() {
    let queue = patient(1, 10).build().unwrap();
    let backend = Backend::always(Act::answer(200).after(secs(1)));
    let service = LoadLevelLayer::new(queue.clone()).typed_error().layer(backend.clone());
    let [mut running, mut waiting] = [(); 2].map(|()| ByHand::pending(service.clone().oneshot(())));
    queue.close();
    assert_eq!((running.wakes(), waiting.wakes()), (0, 1));
    assert_eq!(waiting.poll(), Poll::Ready(Err(Error::Rejected(closed()))));
    assert_eq!(service.clone().oneshot(()).await, Err(Error::Rejected(closed())));
    advance(secs(1)).await;
    assert_eq!(running.poll(), Poll::Ready(Ok(200)));
    assert_eq!((backend.calls(), occupancy(&queue)), (1, (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waited_is_dropped_with_its_refusal() {
    let (queue, _permits) = full(patient(1, 10));
    let service = LoadLevelLayer::new(queue.clone()).typed_error().layer(Backend::always(Act::answer(200)));
    let request = Arc::new(());
    let mut call = ByHand::pending(service.oneshot(request.clone()));
    assert_eq!(Arc::strong_count(&request), 2);
    queue.close();
    assert!(call.poll().is_ready());
    assert_eq!(Arc::strong_count(&request), 1);
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_predicts_refusals_and_is_explained_as_closed() {
    let queue = patient(2, 10).build().unwrap();
    let stage: LoadLevelStage<_, _, Leaf> = LoadLevelStage::with(LoadLevel::new(queue.clone()), Leaf::default());
    let would_refuse = || {
        let due = Instant::now() + HOUR;
        Stage::<Backend, ()>::would_refuse(&stage, &(), due, &mut Frame::new())
    };
    let explained = || {
        let stack = steadfast::server().load_level(queue.clone()).layer().unwrap();
        stack.explain().to_string()
    };
    assert!(!would_refuse() && !stage.refuses_now(&mut Frame::new()) && !explained().contains("closed"));
    queue.close();
    assert!(would_refuse() && stage.refuses_now(&mut Frame::new()));
    assert!(explained().contains("oldest first, closed"), "{}", explained());
}

// Wakers.

/// A waker that calls the queue when it is woken. It sends whether the queue is closed, and whether it got a place.
struct Returns(Queue, mpsc::Sender<(bool, bool)>);

impl Wake for Returns {
    fn wake(self: Arc<Self>) {
        let _ = self.1.send((self.0.is_closed(), self.0.try_acquire().is_some()));
    }
}

/// Runs on a thread of its own, because a deadlock would hang the test.
#[test]
fn closing_wakes_waiters_without_the_lock_when_the_queue_is_already_closed() {
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || {
        let clock = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _guard = clock.enter();
        let (queue, _permits) = full(patient(1, 10));
        let mut acquire = Box::pin(queue.acquire());
        let waker = Waker::from(Arc::new(Returns(queue.clone(), sender)));
        assert!(acquire.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        queue.close();
    });
    assert_eq!(ended.recv_timeout(secs(20)), Ok((true, false)), "the lock was held");
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_costs_no_other_waiter_its_refusal() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker");
        }
    }
    let (queue, permits) = full(patient(1, 10));
    let mut before: Waiter = waiter(&queue);
    let mut bad = Box::pin(queue.acquire());
    assert!(bad.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(Panics)))).is_pending());
    let mut after: Waiter = waiter(&queue);
    queue.close();
    assert_eq!((before.wakes(), after.wakes()), (1, 1));
    assert_eq!(
        [refused(&mut before), refused(&mut after), bad.await.map(|_: Permit| ()).unwrap_err()],
        [closed(), closed(), closed()]
    );
    drop(permits);
    assert_eq!(occupancy(&queue), (0, 0));
}
