//! How many calls a rate lets through, which of them get their tokens back, and what a refusal says.

mod support;

use futures::{future::join_all, poll};
use std::time::Duration;
use steadfast::{
    Error, Rejection,
    load_shed::Limiter,
    rate_limit::{AllCount, OneToken, RateLimit, RateLimitLayer, TokenBucket},
    shell::TypedError,
};
use support::{Act, Backend, Failed, ms, secs};
use tokio::{
    spawn,
    time::{Instant, sleep, timeout},
};
use tower::{Layer, ServiceExt};

fn bucket(count: u64, period: Duration, burst: u64) -> TokenBucket {
    TokenBucket::builder(count, period).burst(burst).build().unwrap()
}

fn layer(bucket: &TokenBucket) -> RateLimitLayer<TokenBucket, OneToken, AllCount, TypedError> {
    RateLimitLayer::new(bucket.clone()).typed_error()
}

fn available(bucket: &TokenBucket) -> u64 {
    bucket.available_at(Instant::now())
}

/// After how long a refused call may come again.
fn wait_of<T>(end: Result<T, Error<Failed>>) -> Option<Duration> {
    match end {
        Err(Error::Rejected(rejection @ Rejection::RateLimited(_))) => rejection.retry_after(),
        _ => panic!("not rejected by the rate limit"),
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_thousand_calls_at_once_exactly_the_burst_is_admitted() {
    let backend = Backend::always(Act::answer(200));
    let service = layer(&bucket(10, secs(1), 25)).layer(backend.clone());
    let ends = join_all((0..1000).map(|_| service.clone().oneshot(()))).await;
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 25);
    assert_eq!(backend.calls(), 25);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_never_stops_gets_the_rate_and_the_burst_and_nothing_more() {
    let backend = Backend::always(Act::answer(200));
    let service = layer(&bucket(10, secs(1), 5)).layer(backend.clone());
    for _ in 0..10_000 {
        let _ = service.clone().oneshot(()).await;
        sleep(ms(1)).await;
    }
    // 5 at once, and one every 100 ms from the first of them on for a little under 10 s.
    assert_eq!(backend.calls(), 5 + 99);
    assert!(backend.gaps()[5..].iter().all(|gap| (ms(99)..=ms(101)).contains(gap)), "{:?}", backend.gaps());
}

#[tokio::test(start_paused = true)]
async fn twice_the_rate_does_not_pass_around_the_edge_of_two_periods() {
    // Counted in fixed windows, 10 calls at the end of one and 9 at the beginning of the next all pass.
    let backend = Backend::always(Act::answer(200));
    let service = layer(&bucket(10, secs(1), 10)).layer(backend.clone());
    for (wait, admitted) in [(ms(995), 10), (ms(10), 10), (ms(90), 11), (ms(905), 20)] {
        sleep(wait).await;
        for _ in 0..10 {
            let _ = service.clone().oneshot(()).await;
        }
        assert_eq!(backend.calls(), admitted, "{:?}", backend.arrivals());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_that_comes_back_when_it_was_told_is_admitted() {
    let service = layer(&bucket(3, secs(1), 1)).layer(Backend::always(Act::answer(200)));
    for _ in 0..10 {
        service.clone().oneshot(()).await.unwrap();
        let wait = wait_of(service.clone().oneshot(()).await).unwrap();
        assert!((ms(333)..=ms(334)).contains(&wait), "{wait:?}");
        sleep(wait).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_layers_with_one_bucket_share_its_tokens() {
    let bucket = bucket(1, secs(1), 3);
    let [first, second] = [(); 2].map(|()| layer(&bucket).layer(Backend::always(Act::answer(200))));
    let ends = join_all([first.clone().oneshot(()), second.clone().oneshot(()), first.oneshot(())]).await;
    assert!(ends.iter().all(Result::is_ok));
    wait_of(second.oneshot(()).await);
}

// What a call costs.

#[tokio::test(start_paused = true)]
async fn a_call_costs_what_its_request_says_and_one_above_the_burst_never_passes() {
    let bucket = bucket(100, secs(1), 50);
    let limit = RateLimit::new(bucket.clone()).cost(|tokens: &u64| *tokens);
    let service = RateLimitLayer::new(limit).typed_error().layer(Backend::always(Act::answer(200)));
    assert_eq!(service.clone().oneshot(30).await, Ok(200));
    assert_eq!(available(&bucket), 20);
    let wait = wait_of(service.clone().oneshot(30).await).unwrap();
    assert!((ms(100)..=ms(101)).contains(&wait), "{wait:?}");
    assert_eq!(service.clone().oneshot(0).await, Ok(200));
    assert_eq!(available(&bucket), 20);
    assert_eq!(wait_of(service.clone().oneshot(51).await), None);
    assert_eq!(wait_of(service.clone().oneshot(u64::MAX).await), None);
    assert_eq!(service.oneshot(20).await, Ok(200));
    assert_eq!(available(&bucket), 0);
}

// Which calls get their tokens back.

#[tokio::test(start_paused = true)]
async fn a_future_that_was_never_polled_takes_no_token() {
    let bucket = bucket(1, secs(3600), 5);
    drop(layer(&bucket).layer(Backend::always(Act::answer(200))).oneshot(()));
    assert_eq!(available(&bucket), 5);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_reached_the_service_has_spent_its_token_however_it_ended() {
    let bucket = bucket(1, secs(3600), 10);
    let service = |act| layer(&bucket).layer(Backend::always(act));
    service(Act::answer(200)).oneshot(()).await.unwrap();
    assert_eq!(available(&bucket), 9);
    service(Act::fail()).oneshot(()).await.unwrap_err();
    assert_eq!(available(&bucket), 8);
    timeout(secs(1), service(Act::hang()).oneshot(())).await.unwrap_err();
    assert_eq!(available(&bucket), 7);
    assert!(spawn(service(Act::panic()).oneshot(())).await.unwrap_err().is_panic());
    assert_eq!(available(&bucket), 6);
    let inside = steadfast::client().rate_limit(bucket.clone()).attempt_timeout(secs(1));
    inside.service(Backend::always(Act::hang())).unwrap().oneshot(()).await.unwrap_err();
    assert_eq!(available(&bucket), 5);
    let outside = steadfast::client().timeout(secs(1)).rate_limit(bucket.clone());
    outside.service(Backend::always(Act::hang())).unwrap().oneshot(()).await.unwrap_err();
    assert_eq!(available(&bucket), 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_dropped_or_timed_out_before_it_reached_the_service_gets_its_token_back() {
    let bucket = bucket(1, secs(3600), 10);
    let never_ready = || Backend::always(Act::hang()).ready_for(0);
    let mut waiting = Box::pin(layer(&bucket).layer(never_ready()).oneshot(()));
    assert!(poll!(waiting.as_mut()).is_pending());
    assert_eq!(available(&bucket), 9);
    drop(waiting);
    assert_eq!(available(&bucket), 10);
    let inside = steadfast::client().rate_limit(bucket.clone()).attempt_timeout(secs(1));
    inside.service(never_ready()).unwrap().oneshot(()).await.unwrap_err();
    assert_eq!(available(&bucket), 10);
    let outside = steadfast::client().timeout(secs(1)).rate_limit(bucket.clone());
    outside.service(never_ready()).unwrap().oneshot(()).await.unwrap_err();
    assert_eq!(available(&bucket), 10);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_refused_further_in_gets_all_its_tokens_back() {
    let bucket = bucket(1, secs(3600), 10);
    let limiter = Limiter::fixed(1).unwrap();
    let held = limiter.try_acquire().unwrap();
    let limit = RateLimit::new(bucket.clone()).cost(|tokens: &u64| *tokens);
    let stack = steadfast::client().rate_limit(limit).load_shed(limiter.clone());
    let service = stack.service(Backend::always(Act::answer(200))).unwrap();
    for _ in 0..1000 {
        assert!(matches!(service.clone().oneshot(7).await, Err(Error::Rejected(Rejection::Overloaded(_)))));
        assert_eq!(available(&bucket), 10);
    }
    drop(held);
    assert_eq!(service.oneshot(7).await, Ok(200));
    assert_eq!(available(&bucket), 3);
}

#[tokio::test(start_paused = true)]
async fn tokens_that_come_back_to_a_bucket_that_has_filled_meanwhile_are_not_kept() {
    let bucket = bucket(1, secs(1), 2);
    let service = layer(&bucket).layer(Backend::always(Act::hang()).ready_for(0));
    timeout(secs(60), service.oneshot(())).await.unwrap_err();
    assert_eq!(available(&bucket), 2);
    let backend = Backend::always(Act::answer(200));
    let service = layer(&bucket).layer(backend.clone());
    join_all((0..10).map(|_| service.clone().oneshot(()))).await;
    assert_eq!(backend.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_which_mechanism_it_was_and_that_the_service_was_not_reached() {
    let bucket = bucket(4, secs(1), 1);
    bucket.try_acquire(1).unwrap();
    let error = layer(&bucket).layer(Backend::always(Act::answer(200))).oneshot(()).await.unwrap_err();
    let rejection = error.rejection().unwrap();
    assert_eq!((rejection.mechanism(), rejection.reached_service()), ("rate_limit", false));
    let text = rejection.to_string();
    assert!(text.starts_with("rate limit: used up for another 250"), "{text}");
}
