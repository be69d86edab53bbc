//! Rate limits in a stack: how many calls they admit, which calls they refund, and the content of a refusal.

use crate::support::{Act, Backend, Counted, Failed, Stopwatch, ms, secs};
use futures::{future::join_all, poll};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use steadfast::{
    CallContext, Error, Rejection,
    load_shed::Limiter,
    rate_limit::{AllCount, Keyed, OneToken, Quota, RateLimit, RateLimitLayer, TokenBucket},
    retry::{Backoff, Retry},
    shell::TypedError,
};
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

/// The time after which a refused call may come back.
fn wait_of<T>(end: Result<T, Error<Failed>>) -> Option<Duration> {
    match end {
        Err(Error::Rejected(rejection @ Rejection::RateLimited(_))) => rejection.retry_after(),
        _ => panic!("not rejected by the rate limit"),
    }
}

#[tokio::test(start_paused = true)]
async fn exactly_the_burst_of_a_thousand_calls_at_once_is_admitted() {
    let backend = Backend::always(Act::answer(200));
    let service = layer(&bucket(10, secs(1), 25)).layer(backend.clone());
    let ends = join_all((0..1000).map(|_| service.clone().oneshot(()))).await;
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 25);
    assert_eq!(backend.calls(), 25);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_never_stops_gets_exactly_the_burst_and_the_rate() {
    let backend = Backend::always(Act::answer(200));
    let service = layer(&bucket(10, secs(1), 5)).layer(backend.clone());
    for _ in 0..10_000 {
        let _ = service.clone().oneshot(()).await;
        sleep(ms(1)).await;
    }
    // The first 5 calls pass, and then one every 100 ms for a little under 10 s.
    assert_eq!(backend.calls(), 5 + 99);
    assert!(backend.gaps()[5..].iter().all(|gap| (ms(99)..=ms(101)).contains(gap)), "{:?}", backend.gaps());
}

#[tokio::test(start_paused = true)]
async fn twice_the_rate_does_not_pass_around_the_edge_of_two_periods() {
    // With fixed windows of 1 s, the 10 calls at 995 ms and the 10 calls at 1005 ms would all pass.
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
async fn a_refused_call_that_comes_back_at_the_named_time_is_admitted() {
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

// The cost of a call.

#[tokio::test(start_paused = true)]
async fn a_call_has_the_cost_of_its_request_and_one_above_the_burst_never_passes() {
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

// Refunds.

#[tokio::test(start_paused = true)]
async fn a_future_that_was_never_polled_takes_no_token() {
    let bucket = bucket(1, secs(3600), 5);
    drop(layer(&bucket).layer(Backend::always(Act::answer(200))).oneshot(()));
    assert_eq!(available(&bucket), 5);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_reached_the_service_has_spent_its_token_even_if_it_failed() {
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
async fn a_call_that_an_inner_layer_refused_gets_all_its_tokens_back() {
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
async fn refunds_to_a_full_bucket_are_not_kept() {
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
async fn a_refusal_names_its_mechanism_and_did_not_reach_the_service() {
    let bucket = bucket(4, secs(1), 1);
    bucket.try_acquire(1).unwrap();
    let error = layer(&bucket).layer(Backend::always(Act::answer(200))).oneshot(()).await.unwrap_err();
    let rejection = error.rejection().unwrap();
    assert_eq!((rejection.mechanism(), rejection.reached_service()), ("rate_limit", false));
    let text = rejection.to_string();
    assert!(text.starts_with("rate limit: used up for another 250"), "{text}");
}

// Waiting calls.

/// An empty bucket that lets calls wait.
fn empty(count: u64, burst: u64) -> TokenBucket {
    let bucket = TokenBucket::builder(count, secs(1)).burst(burst).max_wait(secs(3600)).build().unwrap();
    bucket.try_acquire(burst).unwrap();
    bucket
}

#[tokio::test(start_paused = true)]
async fn waiting_calls_reach_the_service_in_order_each_at_its_instant() {
    let bucket = empty(100, 1);
    let backend = Backend::always(Act::answer(200));
    let service = RateLimitLayer::new(RateLimit::new(bucket).wait()).typed_error().layer(backend.clone());
    let ends: Vec<_> = (0..100).map(|_| spawn(Counted::new(service.clone().oneshot(())))).collect();
    for end in ends {
        assert_eq!(end.await.unwrap(), (Ok(200), 2), "one poll to take the place, and one at the turn");
    }
    assert_eq!(backend.arrivals(), (1..=100).map(|n| ms(10 * n)).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_that_is_dropped_lets_later_calls_move_up_and_drops_its_request() {
    let bucket = empty(100, 1);
    let backend = Backend::always(Act::answer(200));
    let service = RateLimitLayer::new(RateLimit::new(bucket.clone()).wait()).typed_error().layer(backend.clone());
    let request = Arc::new(());
    let call = |patience| {
        let call = service.clone().oneshot(request.clone());
        spawn(timeout(patience, call))
    };
    let calls = [call(secs(1)), call(ms(5)), call(secs(1)), call(ms(12)), call(secs(1))];
    sleep(ms(6)).await;
    assert_eq!((bucket.waiting(), Arc::strong_count(&request)), (4, 1 + 4));
    let ends = join_all(calls).await.into_iter().map(|end| end.unwrap().is_ok());
    assert!(ends.eq([true, false, true, false, true]));
    assert_eq!(backend.arrivals(), [ms(10), ms(20), ms(30)]);
    assert_eq!((bucket.waiting(), Arc::strong_count(&request)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_turn_would_come_too_late_is_refused_at_once() {
    let bucket = empty(100, 1);
    let backend = Backend::always(Act::answer(200));
    let limit = || RateLimit::new(bucket.clone()).wait().named("partner");
    let stack = steadfast::client().timeout(ms(25)).rate_limit(limit()).service(backend.clone()).unwrap();
    let alone = RateLimitLayer::new(limit()).typed_error().layer(backend.clone());
    let stopwatch = Stopwatch::start();
    // Two calls have their turn after 10 and 20 ms, within the timeout of the stack. A third would have it after 30 ms.
    let calls = [(); 2].map(|()| spawn(stack.clone().oneshot(())));
    sleep(ms(1)).await;
    let by = |deadline| CallContext::new().with_deadline(Instant::now() + deadline).scope(alone.clone().oneshot(()));
    for refused in [stack.clone().oneshot(()).await, by(ms(29)).await] {
        let Err(Error::Rejected(Rejection::RateLimited(refused))) = refused else { panic!("{refused:?}") };
        assert_eq!((refused.retry_after(), refused.limit()), (Some(ms(29)), Some("partner")));
    }
    assert_eq!((stopwatch.read(), bucket.waiting()), (ms(1), 2));
    assert_eq!(by(ms(30)).await, Ok(200));
    assert!(join_all(calls).await.into_iter().all(|end| end.unwrap() == Ok(200)));
    assert_eq!(backend.arrivals(), [ms(10), ms(20), ms(30)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_times_out_while_it_waits_gives_up_its_place() {
    let bucket = empty(100, 1);
    let limit = RateLimit::new(bucket.clone()).wait();
    let stack = steadfast::client().timeout(ms(25)).rate_limit(limit);
    let service = stack.service(Backend::always(Act::answer(200))).unwrap();
    let stopwatch = Stopwatch::start();
    let call = spawn(service.oneshot(()));
    sleep(ms(5)).await;
    bucket.set_quota(Quota::new(1, secs(1))).unwrap();
    let error = call.await.unwrap().unwrap_err();
    let rejection = error.rejection().unwrap();
    assert_eq!((rejection.mechanism(), rejection.reached_service(), stopwatch.read()), ("timeout", false, ms(25)));
    assert_eq!(bucket.waiting(), 0);
    // The bucket had half a token at 5 ms. At the new rate, the other half takes 500 ms, until 505 ms.
    sleep(ms(480)).await;
    assert_eq!(bucket.try_acquire(1), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_above_a_new_burst_is_refused_and_counted() {
    let bucket = empty(10, 5);
    let limit = RateLimit::new(bucket.clone()).wait().cost(|tokens: &u64| *tokens).named("bulk");
    let refused = limit.refused();
    let service = RateLimitLayer::new(limit).typed_error().layer(Backend::always(Act::answer(200)));
    let calls = [4, 2].map(|tokens| spawn(service.clone().oneshot(tokens)));
    sleep(ms(100)).await;
    bucket.set_quota(Quota::new(10, secs(1)).with_burst(3)).unwrap();
    let [much, little] = calls.map(async |call| call.await.unwrap());
    let error = much.await.unwrap_err();
    assert_eq!(
        error.rejection().unwrap().to_string(),
        "rate limit: bulk: the call costs more than is ever allowed at once"
    );
    assert_eq!(refused.get(), 1);
    assert_eq!(little.await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_waits_for_its_own_turn() {
    let bucket = empty(100, 1);
    let backend = Backend::script([Act::fail(), Act::fail()], Act::answer(200));
    let retry = Retry::new(3).backoff(Backoff::none()).without_budget();
    let stack = steadfast::client().retry(retry).rate_limit(RateLimit::new(bucket).wait());
    assert_eq!(stack.service(backend.clone()).unwrap().oneshot(()).await, Ok(200));
    assert_eq!(backend.arrivals(), [ms(10), ms(20), ms(30)]);
}

// Combined limits.

/// A request of this many bytes.
struct Bytes(u64);

#[tokio::test(start_paused = true)]
async fn a_call_passes_if_all_limits_have_its_cost_and_otherwise_takes_from_none() {
    let (calls, bytes, hourly) = (bucket(10, secs(1), 2), bucket(1000, secs(1), 1000), bucket(3, secs(3600), 3));
    let limit = RateLimit::new(calls.clone())
        .named("calls")
        .and(RateLimit::new(bytes.clone()).cost(|request: &Bytes| request.0).named("bytes"))
        .and(RateLimit::new(hourly.clone()).named("hourly"))
        .named("all of them");
    let refused = limit.refused();
    let service = RateLimitLayer::new(limit).typed_error().layer(Backend::always(Act::answer(200)));
    let left = || (available(&calls), available(&bytes), available(&hourly));
    let refusal = async |bytes| match service.clone().oneshot(Bytes(bytes)).await {
        Err(Error::Rejected(Rejection::RateLimited(refused))) => (refused.limit().unwrap(), refused.retry_after()),
        other => panic!("{other:?}"),
    };

    assert_eq!(service.clone().oneshot(Bytes(600)).await, Ok(200));
    assert_eq!(left(), (1, 400, 2));
    assert_eq!(refusal(500).await, ("bytes", Some(ms(100))));
    assert_eq!(refusal(1001).await, ("bytes", None));
    assert_eq!(left(), (1, 400, 2));
    assert_eq!(service.clone().oneshot(Bytes(0)).await, Ok(200));
    assert_eq!(left(), (0, 400, 1));
    assert_eq!(refusal(500).await, ("calls", Some(ms(100))), "the first one that refuses");
    assert_eq!(left(), (0, 400, 1));
    sleep(secs(1)).await;
    assert_eq!(service.clone().oneshot(Bytes(1)).await, Ok(200));
    assert_eq!(refusal(1).await, ("hourly", Some(secs(1199))));
    assert_eq!(left(), (1, 999, 0));
    assert_eq!(refused.get(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_did_not_reach_the_service_is_refunded_by_all_limits() {
    let (calls, bytes) = (bucket(1, secs(3600), 5), bucket(1, secs(3600), 100));
    let limit = || {
        let bytes = RateLimit::new(bytes.clone()).cost(|request: &Bytes| request.0);
        RateLimit::new(calls.clone()).and(bytes)
    };
    let left = || (available(&calls), available(&bytes));
    // Refused by an inner layer.
    let limiter = Limiter::fixed(1).unwrap();
    let held = limiter.try_acquire().unwrap();
    let stack = steadfast::client().rate_limit(limit()).load_shed(limiter.clone());
    let service = stack.service(Backend::always(Act::answer(200))).unwrap();
    service.clone().oneshot(Bytes(30)).await.unwrap_err();
    assert_eq!(left(), (5, 100));
    drop(held);
    // Dropped before the service was ready, and after.
    let slow = Backend::always(Act::hang()).ready_for(0);
    let layer = RateLimitLayer::new(limit()).typed_error();
    timeout(ms(1), layer.layer(slow.clone()).oneshot(Bytes(30))).await.unwrap_err();
    assert_eq!(left(), (5, 100));
    slow.set_ready_for(1);
    timeout(ms(1), layer.layer(slow).oneshot(Bytes(30))).await.unwrap_err();
    assert_eq!(left(), (4, 70));
    // If the cost function of the second limit panics, the first limit gets its tokens back.
    let panics =
        RateLimit::new(calls.clone()).and(RateLimit::new(bytes.clone()).cost(|_: &Bytes| panic!("so it does")));
    let service = RateLimitLayer::new(panics).typed_error().layer(Backend::always(Act::answer(200)));
    assert!(spawn(service.oneshot(Bytes(30))).await.unwrap_err().is_panic());
    assert_eq!(left(), (4, 70));
}

// `refund_if`.

#[tokio::test(start_paused = true)]
async fn refund_if_gives_a_call_its_tokens_back_once() {
    let (bucket, other) = (bucket(1, secs(3600), 10), bucket(1, secs(3600), 10));
    let limit = RateLimit::new(bucket.clone()).cost(|tokens: &u64| *tokens).and(RateLimit::new(other.clone()));
    let limit = limit.refund_if(|answer: Result<&u16, &Failed>| matches!(answer, Ok(304) | Err(Failed)));
    let layer = RateLimitLayer::new(limit).typed_error();
    for (act, left) in [
        (Act::answer(304), (10, 10)),
        (Act::fail(), (10, 10)),
        (Act::answer(304).after(ms(5)), (10, 10)),
        (Act::answer(200), (7, 9)),
        (Act::answer(404), (4, 8)),
        (Act::answer(304), (4, 8)),
        (Act::panic(), (1, 7)),
    ] {
        let _ = spawn(layer.layer(Backend::always(act)).oneshot(3)).await;
        assert_eq!((available(&bucket), available(&other)), left, "after {act:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_spent_if_refund_if_panics() {
    let bucket = bucket(1, secs(3600), 10);
    let limit = RateLimit::new(bucket.clone()).refund_if(|_: Result<&u16, &Failed>| panic!("so it does"));
    let service = RateLimitLayer::new(limit).typed_error().layer(Backend::always(Act::answer(304)));
    assert!(spawn(service.oneshot(())).await.unwrap_err().is_panic());
    assert_eq!(available(&bucket), 9);
}

#[tokio::test(start_paused = true)]
async fn a_refund_by_refund_if_goes_to_a_waiter() {
    let bucket = TokenBucket::builder(1, secs(60)).max_wait(secs(3600)).build().unwrap();
    let limit = RateLimit::new(bucket).wait().refund_if(|answer: Result<&u16, &Failed>| answer == Ok(&304));
    let backend = Backend::script([Act::answer(304).after(ms(5)); 3], Act::answer(200));
    let service = RateLimitLayer::new(limit).typed_error().layer(backend.clone());
    join_all((0..5).map(|_| service.clone().oneshot(()))).await;
    // Each of the three refunds fills the bucket, which holds one token. So the part of a token that the bucket minted
    // in the first 15 ms is lost. The last call waits for a minute, from 15 ms on.
    assert_eq!(backend.arrivals(), [ms(0), ms(5), ms(10), ms(15), ms(60_015)]);
}

// Refused calls, and shadow.

#[tokio::test(start_paused = true)]
async fn a_caller_that_never_stops_is_not_admitted_again_if_refused_calls_count() {
    let bucket = bucket(10, secs(1), 5);
    let limit = RateLimit::new(bucket.clone()).count_refused();
    let backend = Backend::always(Act::answer(200));
    let service = RateLimitLayer::new(limit).typed_error().layer(backend.clone());
    for _ in 0..1000 {
        let _ = service.clone().oneshot(()).await;
        sleep(ms(50)).await;
    }
    // A call comes every 50 ms, in which half a token is minted. The burst of 5 therefore lasts for about 9 calls.
    // After that, refused calls cost more than is minted, and none is admitted.
    assert!((5..=10).contains(&backend.calls()), "{}", backend.calls());
    // The debt is at most a burst of 5 tokens, and the call costs one: at most 600 ms.
    let wait = wait_of(service.clone().oneshot(()).await).unwrap();
    assert!(wait <= ms(600), "{wait:?}");
    sleep(ms(600)).await;
    assert_eq!(service.oneshot(()).await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn a_limit_in_shadow_lets_all_calls_pass_and_counts_its_refusals() {
    let (first, second) = (bucket(10, secs(1), 3), bucket(1, secs(1), 2));
    let backend = Backend::always(Act::answer(200));
    let limit = RateLimit::new(first.clone()).shadow();
    let refused = limit.refused();
    let service = RateLimitLayer::new(limit).typed_error().layer(backend.clone());
    let ends = join_all((0..10).map(|_| service.clone().oneshot(()))).await;
    assert!(ends.iter().all(|end| *end == Ok(200)));
    assert_eq!((refused.get(), available(&first)), (7, 0));
    sleep(ms(300)).await;
    assert_eq!(available(&first), 3, "calls beyond the rate take no tokens");

    // In shadow, no call waits.
    let limit = RateLimit::new(second.clone()).wait().shadow().cost(|tokens: &u64| *tokens);
    let refused = limit.refused();
    let service = RateLimitLayer::new(limit).typed_error().layer(backend.clone());
    let stopwatch = Stopwatch::start();
    for tokens in [1, 2, 1, 1, 7] {
        assert_eq!(service.clone().oneshot(tokens).await, Ok(200));
    }
    assert_eq!((stopwatch.read(), refused.get(), second.waiting(), available(&second)), (ms(0), 3, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_limit_in_shadow_gives_back_only_the_tokens_that_it_took() {
    let bucket = bucket(1, secs(3600), 1);
    let limit = RateLimit::new(bucket.clone()).shadow().refund_if(|_: Result<&u16, &Failed>| true);
    let service = RateLimitLayer::new(limit).typed_error().layer(Backend::always(Act::answer(200).after(ms(1))));
    let ends = join_all((0..3).map(|_| service.clone().oneshot(()))).await;
    assert!(ends.iter().all(|end| *end == Ok(200)));
    assert_eq!(available(&bucket), 1);
    // A limit in shadow does not affect another limit that refuses.
    let strict = RateLimit::new(self::bucket(1, secs(1), 1)).named("strict");
    bucket.try_acquire(1).unwrap();
    let limit = RateLimit::new(bucket.clone()).shadow().and(strict);
    let service = RateLimitLayer::new(limit).typed_error().layer(Backend::always(Act::answer(200)));
    assert_eq!(service.clone().oneshot(()).await, Ok(200));
    assert_eq!(wait_of(service.oneshot(()).await), Some(secs(1)));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_names_the_limit_and_all_clones_of_a_limit_count_together() {
    let limit = RateLimit::new(bucket(4, secs(1), 1)).named("search");
    let refused = limit.refused();
    let layer = RateLimitLayer::new(limit.clone()).typed_error();
    let stack = steadfast::server().rate_limit(limit).service(Backend::always(Act::answer(200))).unwrap();
    stack.clone().oneshot(()).await.unwrap();
    let error = layer.layer(Backend::always(Act::answer(200))).oneshot(()).await.unwrap_err();
    assert_eq!(error.rejection().unwrap().to_string(), "rate limit: search: used up for another 250 ms");
    stack.oneshot(()).await.unwrap_err();
    assert_eq!(refused.get(), 2);
    assert_eq!(format!("{refused:?}"), "RefusedCalls(2)");
}

#[test]
fn a_stack_explains_its_limits() {
    let bucket = |count, period| TokenBucket::builder(count, period).burst(5).build().unwrap();
    let explain = |explanation: steadfast::stack::Explanation| {
        let text = explanation.layers().map(|(_, text)| text.to_owned()).next().unwrap();
        (text, explanation.worst_case_latency())
    };
    let waits = || RateLimit::new(bucket(10, secs(1))).wait();
    let inner = || steadfast::client().attempt_timeout(secs(1));
    assert_eq!(
        explain(inner().rate_limit(waits()).layer().unwrap().explain()),
        ("10 per 1s, bursts of 5, calls wait up to 1s".to_owned(), Some(secs(2)))
    );
    assert_eq!(
        explain(inner().rate_limit(waits().named("partner").shadow()).layer().unwrap().explain()),
        ("partner: 10 per 1s, bursts of 5, calls wait up to 1s (shadow)".to_owned(), Some(secs(1)))
    );
    let two =
        RateLimit::new(bucket(10, secs(1))).named("calls").and(RateLimit::new(bucket(7, secs(60))).count_refused());
    assert_eq!(
        explain(inner().rate_limit(two).layer().unwrap().explain()).0,
        "calls: 10 per 1s, bursts of 5; 7 per 60s, bursts of 5, refused calls count"
    );
    // The wait adds to the time of an attempt, but not in shadow.
    let stack = |limit| {
        let stack = steadfast::client().timeout(ms(1499)).rate_limit(limit).attempt_timeout(secs(1));
        stack.layer().unwrap().explain()
    };
    assert_eq!(stack(waits()).full_attempts(), Some(0));
    assert_eq!(stack(waits().shadow()).full_attempts(), None);
}

// By key.

#[tokio::test(start_paused = true)]
async fn a_limit_by_borrowed_keys_returns_errors_or_responses_and_refunds_the_key() {
    let keyed = Keyed::<str>::builder(100, Quota::new(1, secs(3600)).with_burst(2)).build().unwrap();
    let limit = RateLimit::by_key_ref(keyed.clone(), |key: &String| key.as_str()).named("per key");
    let layer = || RateLimitLayer::new(limit.clone());
    let answering = Backend::always(Act::answer(200));
    let service = layer().typed_error().layer(answering.clone());
    let responding =
        layer().respond_with(|rejection: Rejection| if rejection.retry_after().is_some() { 429 } else { 413 });
    let responding = responding.layer(answering);
    for key in ["ann", "ben"] {
        assert_eq!(service.clone().oneshot(key.to_owned()).await, Ok(200));
        assert_eq!(responding.clone().oneshot(key.to_owned()).await, Ok(200));
        let refused = service.clone().oneshot(key.to_owned()).await.unwrap_err();
        let text = refused.rejection().unwrap().to_string();
        assert_eq!(text, "rate limit: per key: used up for another 60 min");
        assert_eq!(responding.clone().oneshot(key.to_owned()).await, Ok(429));
    }
    // The service is never ready. A call that is dropped while it waits for readiness gets its token back.
    let waiting = layer().typed_error().layer(Backend::always(Act::hang()).ready_for(0));
    let mut call = Box::pin(waiting.oneshot("eve".to_owned()));
    assert!(poll!(call.as_mut()).is_pending());
    assert_eq!(keyed.available_at("eve", Instant::now()), 1);
    drop(call);
    assert_eq!(keyed.available_at("eve", Instant::now()), 2);
    let owned = RateLimit::by_key(keyed.clone(), |key: &u32| key.to_string());
    assert_eq!(
        RateLimitLayer::new(owned).typed_error().layer(Backend::always(Act::answer(200))).oneshot(7).await,
        Ok(200)
    );
    assert_eq!(keyed.available_at("7", Instant::now()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_after_its_key_changed_tier_takes_no_tokens_of_the_new_tier() {
    let tier = Arc::new(AtomicUsize::new(0));
    let of = tier.clone();
    let tiers = move |_: &str| of.load(Ordering::Relaxed);
    let keyed = Keyed::<str>::builder(100, Quota::new(10, secs(1))).tiers([Quota::new(1000, secs(1))], tiers);
    let keyed = keyed.build().unwrap();
    let limit = RateLimit::by_key_ref(keyed.clone(), |key: &String| key.as_str());
    let service = RateLimitLayer::new(limit).typed_error().layer(Backend::always(Act::hang()).ready_for(0));
    let mut call = Box::pin(service.oneshot("ann".to_owned()));
    assert!(poll!(call.as_mut()).is_pending());
    tier.store(1, Ordering::Relaxed);
    keyed.try_acquire("ann", 1).unwrap();
    sleep(ms(500)).await;
    let before = keyed.available_at("ann", Instant::now());
    assert!((500..=510).contains(&before), "{before}");
    drop(call);
    assert_eq!(keyed.available_at("ann", Instant::now()), before + 1);
}
