//! The calls that a limit admits, when they give their places back, and the effect of a change of the limit.

use crate::support::{Act, Backend, Failed, ms, secs};
use futures::{future::join_all, poll};
use std::thread;
use steadfast::{
    Error, Rejection,
    error::Overloaded,
    load_shed::{Limiter, LoadShedLayer},
    shell::TypedError,
};
use tokio::{
    spawn,
    time::{sleep, timeout},
};
use tower::{BoxError, Layer, Service, ServiceExt, buffer::Buffer, service_fn};

fn layer(limiter: &Limiter) -> LoadShedLayer<TypedError> {
    LoadShedLayer::new(limiter.clone()).typed_error()
}

fn refused(limit: usize) -> Result<u16, Error<Failed>> {
    Err(Error::Rejected(Overloaded::new(limit, None).into()))
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_calls_at_once_exactly_the_limit_is_admitted() {
    for limit in [1, 10, 999] {
        let limiter = Limiter::fixed(limit).unwrap();
        let backend = Backend::always(Act::answer(200).after(ms(10)));
        let service = layer(&limiter).layer(backend.clone());
        let ends = join_all((0..1000).map(|_| service.clone().oneshot(()))).await;
        assert_eq!(ends.iter().filter(|end| **end == Ok(200)).count(), limit);
        assert_eq!(ends.iter().filter(|end| **end == refused(limit)).count(), 1000 - limit);
        assert_eq!((backend.calls(), backend.most_in_flight()), (limit, limit));
        assert_eq!(limiter.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_given_back_is_there_for_the_next_call() {
    let limiter = Limiter::fixed(1).unwrap();
    let service = layer(&limiter).layer(Backend::always(Act::answer(200).after(ms(10))));
    for _ in 0..100 {
        assert_eq!(service.clone().oneshot(()).await, Ok(200));
    }
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_is_ready_and_a_future_that_was_not_polled_take_no_place() {
    let limiter = Limiter::fixed(1).unwrap();
    let mut idle = layer(&limiter).layer(Backend::always(Act::answer(200)));
    ServiceExt::<()>::ready(&mut idle).await.unwrap();
    let unpolled = idle.call(());
    assert_eq!(limiter.in_flight(), 0);
    assert_eq!(idle.clone().oneshot(()).await, Ok(200));
    assert_eq!(unpolled.await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn a_place_comes_back_however_the_call_ends() {
    let limiter = Limiter::fixed(3).unwrap();
    let service = |act| layer(&limiter).layer(Backend::always(act));
    assert_eq!(service(Act::fail()).oneshot(()).await, Err(Error::Service(Failed)));
    assert_eq!(limiter.in_flight(), 0);

    let broken = layer(&limiter).layer(Backend::always(Act::hang()).broken());
    assert_eq!(broken.oneshot(()).await, Err(Error::Service(Failed)));
    assert_eq!(limiter.in_flight(), 0);

    timeout(secs(1), service(Act::hang()).oneshot(())).await.unwrap_err();
    assert_eq!(limiter.in_flight(), 0);

    let never_ready = layer(&limiter).layer(Backend::always(Act::hang()).ready_for(0));
    timeout(secs(1), never_ready.oneshot(())).await.unwrap_err();
    assert_eq!(limiter.in_flight(), 0);

    for act in [Act::panic(), Act::panic_at_once()] {
        assert!(spawn(service(act).oneshot(())).await.unwrap_err().is_panic());
        assert_eq!(limiter.in_flight(), 0);
    }

    for stack in [steadfast::client().timeout(secs(1)), steadfast::client().timeout(secs(2))] {
        let stack = stack.load_shed(limiter.clone()).attempt_timeout(secs(1));
        stack.service(Backend::always(Act::hang())).unwrap().oneshot(()).await.unwrap_err();
        assert_eq!(limiter.in_flight(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_readiness_has_its_place() {
    let limiter = Limiter::fixed(1).unwrap();
    let backend = Backend::always(Act::answer(200)).ready_for(0);
    let service = layer(&limiter).layer(backend.clone());
    let mut waiting = Box::pin(service.clone().oneshot(()));
    assert!(poll!(waiting.as_mut()).is_pending());
    assert_eq!(service.oneshot(()).await, refused(1));
    backend.set_ready_for(1);
    assert_eq!(waiting.await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn a_higher_limit_lets_more_in_at_once() {
    let limiter = Limiter::fixed(2).unwrap();
    let service = layer(&limiter).layer(Backend::always(Act::answer(200).after(secs(1))));
    let mut calls: Vec<_> = (0..3).map(|_| spawn(service.clone().oneshot(()))).collect();
    sleep(ms(1)).await;
    assert_eq!(limiter.in_flight(), 2);
    limiter.set_limit(4).unwrap();
    calls.extend((0..3).map(|_| spawn(service.clone().oneshot(()))));
    sleep(ms(1)).await;
    assert_eq!(limiter.in_flight(), 4);
    let ends: Vec<_> = join_all(calls).await.into_iter().map(|end| end.unwrap()).collect();
    assert_eq!(ends, [Ok(200), Ok(200), refused(2), Ok(200), Ok(200), refused(4)]);
}

#[tokio::test(start_paused = true)]
async fn a_lower_limit_interrupts_no_call_and_admits_none_until_enough_have_ended() {
    let limiter = Limiter::fixed(4).unwrap();
    let backend = Backend::script((1..=4).map(|n| Act::answer(200).after(secs(n))), Act::answer(201));
    let service = layer(&limiter).layer(backend.clone());
    let calls: Vec<_> = (0..4).map(|_| spawn(service.clone().oneshot(()))).collect();
    sleep(ms(500)).await;
    limiter.set_limit(2).unwrap();
    for in_flight in [4, 3, 2] {
        assert_eq!(limiter.in_flight(), in_flight);
        assert_eq!(service.clone().oneshot(()).await, refused(2));
        sleep(secs(1)).await;
    }
    assert_eq!(limiter.in_flight(), 1);
    assert_eq!(service.oneshot(()).await, Ok(201));
    assert!(join_all(calls).await.into_iter().all(|end| end.unwrap() == Ok(200)));
}

#[tokio::test(start_paused = true)]
async fn a_layer_in_shadow_admits_all_calls_and_counts_those_it_would_have_refused() {
    let limiter = Limiter::fixed(2).unwrap();
    let backend = Backend::always(Act::answer(200).after(secs(1)));
    let service = layer(&limiter).layer(backend.clone());
    limiter.configure(3, true).unwrap();
    let calls: Vec<_> = (0..10).map(|_| spawn(service.clone().oneshot(()))).collect();
    sleep(ms(500)).await;
    assert_eq!((limiter.in_flight(), limiter.would_have_refused()), (10, 7));
    limiter.configure(3, false).unwrap();
    assert_eq!(service.clone().oneshot(()).await, refused(3));
    sleep(ms(500)).await;
    assert!(join_all(calls).await.into_iter().all(|end| end.unwrap() == Ok(200)));
    assert_eq!(limiter.in_flight(), 0);
    assert_eq!(service.oneshot(()).await, Ok(200));
    assert_eq!((backend.calls(), limiter.would_have_refused()), (11, 7));
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_zero_is_an_error_and_the_old_limit_stays() {
    let limiter = Limiter::fixed(1).unwrap();
    let error = limiter.set_limit(0).unwrap_err();
    assert_eq!((error.field(), error.value()), ("load_shed.limit", "0"));
    assert_eq!(layer(&limiter).layer(Backend::always(Act::answer(200))).oneshot(()).await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn layers_with_one_limiter_and_work_without_tower_share_its_places() {
    let limiter = Limiter::fixed(2).unwrap();
    let [first, second] = [(); 2].map(|()| layer(&limiter).layer(Backend::always(Act::answer(200).after(secs(1)))));
    let _work = limiter.try_acquire().unwrap();
    let ends = join_all([first.oneshot(()), second.oneshot(())]).await;
    assert_eq!(ends, [Ok(200), refused(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_yields_to_the_runtime_is_not_taken_for_overload() {
    // When a task has used up its cooperative budget, tokio's resources return `Pending` to end its turn.
    let answers = Buffer::new(service_fn(async |(): ()| Ok::<_, BoxError>(())), 100_000);
    let limiter = Limiter::fixed(1000).unwrap();
    let service = LoadShedLayer::new(limiter.clone()).layer(answers);
    let ends = join_all((0..1000).map(|_| service.clone().oneshot(()))).await;
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 1000);
    assert_eq!(limiter.in_flight(), 0);
}

#[test]
fn a_refusal_states_the_limit_and_no_retry_after() {
    let limiter = Limiter::fixed(2).unwrap();
    let _held = (limiter.try_acquire().unwrap(), limiter.try_acquire().unwrap());
    let rejection = Rejection::from(limiter.try_acquire().unwrap_err());
    assert_eq!((rejection.mechanism(), rejection.retry_after()), ("load_shed", None));
    assert!(!rejection.reached_service());
    assert_eq!(rejection.to_string(), "load shed: 2 calls are in flight already");

    let limiter = Limiter::fixed(1).unwrap();
    let _held = limiter.try_acquire().unwrap();
    assert_eq!(limiter.try_acquire().unwrap_err().to_string(), "1 call is in flight already");
}

#[test]
fn an_owned_permit_outlives_its_handle_and_refusals_are_counted() {
    let limiter = Limiter::fixed(1).unwrap();
    let permit = limiter.clone().try_acquire_owned().unwrap();
    assert!(limiter.try_acquire().is_err() && limiter.try_acquire_owned().is_err());
    assert_eq!((limiter.in_flight(), limiter.refused()), (1, 2));
    thread::spawn(move || drop(permit)).join().unwrap();
    assert_eq!((limiter.in_flight(), limiter.refused()), (0, 2));
    limiter.set_shadow(true);
    let _beyond = [limiter.try_acquire().unwrap(), limiter.try_acquire().unwrap()];
    assert_eq!((limiter.refused(), limiter.would_have_refused()), (2, 1));
}
