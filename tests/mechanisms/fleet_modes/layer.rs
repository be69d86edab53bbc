//! The three limits in a layer: admission, refusal and refund.

use super::{
    exact::still,
    fleet::{exact_by, write_behind_by},
    store::Fickle,
};
use crate::support::{Act, Backend, ByHand, Failed, Stopwatch, ms, secs};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};
use steadfast::{
    Error, Random, Rejection,
    load_shed::Limiter,
    rate_limit::{
        Quota, RateLimit, RateLimitLayer, TokenBucket,
        distributed::{Distributed, Exact, Leased, WriteBehind},
    },
    retry::{Backoff, Jitter, Retry},
};
use tokio::{spawn, time::sleep};
use tower::{Layer, Service, ServiceExt};

const BURST: u64 = 10;

fn exact(store: &Fickle) -> Exact {
    exact_by(store, still(BURST), 1, |builder| builder.deadline(ms(50)))
}

fn write_behind(store: &Fickle) -> WriteBehind {
    write_behind_by(store, still(BURST), 1, 1, |builder| builder.max_unflushed(BURST))
}

/// Flushes so rarely that a test only gets the first grant.
fn leased(store: &Fickle) -> Leased {
    let builder = Leased::builder(store.clone(), BURST, secs(1000)).flush_every(secs(500)).random(Random::seeded(1));
    let (limit, flusher) = builder.build().unwrap();
    spawn(flusher.run());
    limit
}

/// Makes up to `most` calls of one token until one is refused. Returns the number of admitted calls.
async fn admitted<D: Distributed + Clone + 'static>(limit: &D, most: u64) -> u64 {
    let limit = RateLimit::distributed(limit.clone(), |_: &()| b"key");
    let service = RateLimitLayer::new(limit).typed_error().layer(Backend::always(Act::answer(200)));
    for number in 0..most {
        match service.clone().oneshot(()).await {
            Ok(200) => {}
            Err(Error::Rejected(rejection)) => {
                assert_eq!((rejection.mechanism(), rejection.reached_service()), ("rate_limit", false));
                return number;
            }
            _ => panic!("neither admitted nor refused"),
        }
    }
    most
}

#[tokio::test(start_paused = true)]
async fn calls_within_the_limit_pass_and_others_are_refused() {
    let store = Fickle::slow(1, 1);
    assert_eq!(admitted(&exact(&store), 100).await, BURST);
    assert_eq!(admitted(&write_behind(&Fickle::slow(1, 1)), 100).await, BURST);
    let limit = leased(&store);
    // The first lease has two tokens.
    assert_eq!(admitted(&limit, 100).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_refused_by_an_inner_layer_or_dropped_before_the_service_returns_its_tokens() {
    async fn check<D: Distributed + Clone + 'static>(limit: D, most: u64) {
        let limiter = Limiter::fixed(1).unwrap();
        let held = limiter.try_acquire().unwrap();
        let by_key = || RateLimit::distributed(limit.clone(), |_: &()| b"key");
        let full = steadfast::client().rate_limit(by_key()).load_shed(limiter.clone());
        let full = full.service(Backend::always(Act::answer(200))).unwrap();
        for _ in 0..1000 {
            let end = full.clone().oneshot(()).await;
            assert!(matches!(end, Err(Error::Rejected(Rejection::Overloaded(_)))), "{end:?}");
            sleep(ms(5)).await;
        }
        drop(held);
        let backend = Backend::always(Act::answer(200)).ready_for(0);
        let waits = RateLimitLayer::new(by_key()).typed_error().layer(backend);
        for polls in 0..5 {
            let mut call = ByHand::new(waits.clone().oneshot(()));
            for _ in 0..polls {
                assert!(call.poll().is_pending());
                sleep(ms(1)).await;
            }
            drop(call);
            sleep(ms(5)).await;
        }
        assert_eq!(admitted(&limit, most + 1).await, most);
    }
    let store = Fickle::slow(2, 2);
    let limit = exact(&store);
    check(limit, BURST).await;
    // Four calls waited for the service until their tokens were reported. The store keeps those.
    check(write_behind(&Fickle::slow(2, 2)), BURST - 4).await;
    let limit = leased(&store);
    check(limit, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_while_it_waits_for_the_store_gives_up_its_place_and_its_grant() {
    for after in 0..8 {
        let store = Fickle::slow(4, 4);
        let limit = RateLimit::distributed(exact(&store), |_: &()| b"key");
        let backend = Backend::always(Act::answer(200));
        let service = RateLimitLayer::new(limit).typed_error().layer(backend.clone());
        let call = ByHand::pending(service.oneshot(()));
        sleep(ms(after)).await;
        drop(call);
        sleep(ms(50)).await;
        assert_eq!((store.free(b"key", still(BURST)), backend.calls()), (BURST, 0), "after {after} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_no_longer_than_the_deadline() {
    let store = Fickle::slow(1000, 1000);
    let (limit, time) = (exact(&store), Stopwatch::start());
    assert!(admitted(&limit, 1).await <= 1);
    assert!((ms(40)..=ms(50)).contains(&time.read()), "{:?}", time.read());
}

#[tokio::test(start_paused = true)]
async fn an_answer_can_refund_its_call_and_each_call_has_its_cost() {
    let store = Fickle::slow(1, 1);
    let limit = RateLimit::distributed_ref(exact(&store), |(key, _): &(String, u64)| key.as_bytes())
        .cost(|(_, tokens): &(String, u64)| *tokens)
        .refund_if(|answer: Result<&u16, &Failed>| answer == Ok(&304));
    let backend = Backend::always(Act::answer(304));
    let service = RateLimitLayer::new(limit).typed_error().layer(backend.clone());
    let call = |tokens| service.clone().oneshot(("key".to_owned(), tokens));
    assert_eq!(call(7).await, Ok(304));
    sleep(ms(10)).await;
    assert_eq!(store.free(b"key", still(BURST)), BURST);
    backend.becomes(Act::answer(200));
    assert_eq!(call(7).await, Ok(200));
    assert_eq!(call(0).await, Ok(200));
    assert_eq!(store.free(b"key", still(BURST)), 3);
    let Err(Error::Rejected(too_much)) = call(11).await else { panic!("not refused") };
    assert_eq!(too_much.retry_after(), None);
}

#[tokio::test(start_paused = true)]
async fn in_shadow_mode_refusals_are_only_counted() {
    let store = Fickle::slow(2, 2);
    let limit = RateLimit::distributed(exact(&store), |_: &()| b"key").shadow();
    let refused = limit.refused();
    let service = RateLimitLayer::new(limit).typed_error().layer(Backend::always(Act::answer(200)));
    for _ in 0..25 {
        assert_eq!(service.clone().oneshot(()).await, Ok(200));
    }
    assert_eq!((refused.get(), store.free(b"key", still(BURST))), (15, 0));
    let limit = RateLimit::distributed(write_behind(&Fickle::new()), |_: &()| b"key").shadow();
    let refused = limit.refused();
    let service = RateLimitLayer::new(limit).typed_error().layer(Backend::always(Act::answer(200)));
    for _ in 0..25 {
        assert_eq!(service.clone().oneshot(()).await, Ok(200));
    }
    assert_eq!(refused.get(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_never_waits_joins_another_limit_and_refunds_its_refusals() {
    let limit = write_behind(&Fickle::new());
    let bucket = TokenBucket::builder(1, secs(3600)).burst(3).build().unwrap();
    let both = RateLimit::distributed(limit.clone(), |_: &()| b"key").named("fleet").and(RateLimit::new(bucket));
    let service = RateLimitLayer::new(both).typed_error().layer(Backend::always(Act::answer(200)));
    let mut passed = 0;
    for _ in 0..20 {
        passed += u64::from(service.clone().oneshot(()).await.is_ok());
    }
    assert_eq!((passed, limit.readings().unflushed), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_has_the_name_of_the_limit_and_a_stack_explains_it() {
    let limit = exact(&Fickle::slow(1, 1));
    let named = RateLimit::distributed(limit.clone(), |_: &()| b"key").named("fleet").cost(|_: &()| 11);
    let service = RateLimitLayer::new(named.clone()).typed_error().layer(Backend::always(Act::answer(200)));
    let Err(Error::Rejected(Rejection::RateLimited(refused))) = service.oneshot(()).await else { panic!() };
    assert_eq!(refused.limit(), Some("fleet"));
    let stack = steadfast::client().timeout(secs(1)).rate_limit(named);
    let text = stack.layer().unwrap().explain().to_string();
    assert!(text.contains("for each key 1 per 86400s, bursts of 10, by all processes together"), "{text}");
    let quota = Quota::new(1, Duration::from_secs(1));
    let stack = steadfast::client().rate_limit(RateLimit::distributed(
        write_behind_by(&Fickle::new(), quota, 3, 1, |builder| builder),
        |_: &()| b"key",
    ));
    let text = stack.layer().unwrap().explain().to_string();
    assert!(text.contains("bursts of 1, by all processes together, and at most 2 tokens beyond that"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_does_not_wait_for_tokens_that_are_known_to_be_spent() {
    let retry = || {
        let backoff = Backoff::exponential(ms(1), ms(1)).jitter(Jitter::None);
        Retry::new(2).backoff(backoff).without_budget()
    };
    // The first attempt is admitted and fails. No token drains during the test.
    let calls = async |limit: RateLimit<_>| {
        let backend = Backend::always(Act::fail());
        let stack = steadfast::client().retry(retry()).rate_limit(limit).service(backend.clone()).unwrap();
        let (watch, result) = (Stopwatch::start(), stack.oneshot(()).await);
        (result, backend.calls(), watch.read())
    };
    let by_key = |limit: &WriteBehind| RateLimit::distributed(limit.clone(), |_: &()| b"key");
    for (left, attempts, waited) in [(2, 2, ms(1)), (1, 1, ms(0))] {
        let limit = write_behind(&Fickle::slow(1, 1));
        assert_eq!(admitted(&limit, BURST - left).await, BURST - left);
        assert_eq!(calls(by_key(&limit)).await, (Err(Error::Service(Failed)), attempts, waited), "{left} left");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_panics_when_it_is_dropped_costs_no_token() {
    #[derive(Clone)]
    struct Key(bool);
    impl AsRef<[u8]> for Key {
        fn as_ref(&self) -> &[u8] {
            b"key"
        }
    }
    impl Drop for Key {
        fn drop(&mut self) {
            if self.0 {
                panic!("a key, as the test wants it");
            }
        }
    }
    let limit = write_behind(&Fickle::slow(1, 1));
    let by_key = RateLimit::distributed(limit.clone(), |explodes: &bool| Key(*explodes));
    let mut service = RateLimitLayer::new(by_key).typed_error().layer(Backend::always(Act::answer(200)));
    for _ in 0..2 * BURST {
        let call = AssertUnwindSafe(ByHand::new(service.call(true)));
        assert!(catch_unwind(|| { call }.poll()).is_err());
    }
    assert_eq!(admitted(&limit, 100).await, BURST);
}
