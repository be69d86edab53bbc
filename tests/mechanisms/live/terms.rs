//! A call keeps its own settings from its start to its end. Settings that calls share apply from the next use on.

use crate::support::{Stopwatch, ms, secs};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};
use steadfast::{
    Rejection,
    circuit_breaker::Breaker,
    load_level::Queue,
    retry::{Backoff, Retry},
    stack::live::{RetryConfig, StackConfig},
};
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};

#[tokio::test(start_paused = true)]
async fn a_call_keeps_the_timeout_that_it_began_with() {
    let (layer, control) = steadfast::server().timeout(secs(2)).live().unwrap();
    let service = layer.layer(service_fn(async |()| std::future::pending::<Result<(), std::io::Error>>().await));
    let watch = Stopwatch::start();
    let before = tokio::spawn(service.clone().oneshot(()));
    sleep(secs(1)).await;
    control.apply(&StackConfig { timeout: Some(secs(9)), ..StackConfig::default() }).unwrap();
    let after = tokio::spawn(service.oneshot(()));

    let Err(error) = before.await.unwrap() else { panic!() };
    assert_eq!(watch.read(), secs(2));
    let Some(Rejection::TimedOut(details)) = error.rejection() else { panic!("{error:?}") };
    assert_eq!(details.limit(), Some(secs(2)));
    assert!(after.await.unwrap().is_err());
    assert_eq!(watch.read(), secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_in_a_queue_keeps_its_timeout() {
    let queue = Queue::builder(1, 10).max_wait(secs(10)).build().unwrap();
    let (layer, control) = steadfast::server().load_level(queue.clone()).timeout(secs(2)).live().unwrap();
    let service = layer.layer(service_fn(async |()| std::future::pending::<Result<(), std::io::Error>>().await));
    let place = queue.try_acquire().unwrap();
    let waiting = tokio::spawn(service.oneshot(()));
    sleep(secs(1)).await;
    control.apply(&StackConfig { timeout: Some(secs(7)), ..StackConfig::default() }).unwrap();
    drop(place);
    let watch = Stopwatch::start();
    assert!(waiting.await.unwrap().is_err());
    assert_eq!(watch.read(), secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_call_keeps_its_attempts_and_its_waits() {
    let tries = Arc::new(AtomicU32::new(0));
    let failing = service_fn({
        let tries = tries.clone();
        move |()| {
            tries.fetch_add(1, Ordering::Relaxed);
            async { Err::<(), _>(std::io::Error::other("failed")) }
        }
    });
    let waits = |wait| Backoff::exponential(wait, wait).jitter(steadfast::retry::Jitter::None);
    let (layer, control) =
        steadfast::client().retry(Retry::new(4).backoff(waits(secs(1))).without_budget()).live().unwrap();
    let service = layer.layer(failing);
    let watch = Stopwatch::start();
    let before = tokio::spawn(service.clone().oneshot(()));
    sleep(ms(500)).await;
    let retry = RetryConfig { backoff: waits(secs(20)), ..RetryConfig::new(2) };
    control.apply(&StackConfig { retry: Some(retry), ..StackConfig::default() }).unwrap();
    before.await.unwrap().unwrap_err();
    assert_eq!((tries.swap(0, Ordering::Relaxed), watch.read()), (4, secs(3)));

    let watch = Stopwatch::start();
    service.oneshot(()).await.unwrap_err();
    assert_eq!((tries.load(Ordering::Relaxed), watch.read()), (2, secs(20)));
}

#[tokio::test(start_paused = true)]
async fn a_further_attempt_meets_the_kill_switch() {
    let failing = service_fn(async |()| Err::<(), _>(std::io::Error::other("failed")));
    let waits = Backoff::exponential(secs(1), secs(1)).jitter(steadfast::retry::Jitter::None);
    let (layer, control) = steadfast::client()
        .retry(Retry::new(4).backoff(waits).without_budget())
        .circuit_breaker(Breaker::builder().build().unwrap())
        .live()
        .unwrap();
    let watch = Stopwatch::start();
    let call = tokio::spawn(layer.layer(failing).oneshot(()));
    sleep(ms(500)).await;
    control.apply(&StackConfig { switched_off: true, ..StackConfig::default() }).unwrap();
    let error = call.await.unwrap().unwrap_err();
    let Some(rejection @ Rejection::SwitchedOff(_)) = error.rejection() else { panic!("{error:?}") };
    assert!(rejection.reached_service());
    assert_eq!((watch.read(), rejection.mechanism(), rejection.retry_after()), (secs(1), "kill_switch", None));
    assert_eq!(rejection.to_string(), "kill switch: switched off");
}
