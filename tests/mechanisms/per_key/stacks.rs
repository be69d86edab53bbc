//! A `PerKey` in the slot of a mechanism in a stack.

use crate::{
    counting::so_far,
    support::{ms, secs},
};
use std::{
    convert::Infallible,
    future::{pending, ready},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use steadfast::{
    Error, Outcome, Rejection,
    circuit_breaker::{Breaker, BreakerState},
    load_shed::{Limiter, LoadShedConfig},
    per_key::PerKey,
    rate_limit::{RateLimit, SlidingWindow, TokenBucket},
    retry::{Backoff, Retry},
    shell::{Ending, Frame, Gate},
    stack::live::{BreakerConfig, Forced, StackConfig},
};
use tokio::{
    spawn,
    sync::Mutex,
    task::yield_now,
    time::{Instant, advance, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, service_fn};

#[derive(Clone, Debug)]
struct Request {
    host: String,
    works: bool,
}

fn to(host: &str, works: bool) -> Request {
    Request { host: host.to_owned(), works }
}

fn host(request: &Request) -> String {
    request.host.clone()
}

fn backend() -> impl Service<Request, Response = (), Error = &'static str, Future: Send> + Clone {
    service_fn(async |request: Request| if request.works { Ok(()) } else { Err("dead") })
}

#[tokio::test(start_paused = true)]
async fn a_dead_host_is_refused_and_healthy_hosts_are_not() {
    let breakers = PerKey::new(host, Breaker::builder().consecutive_failures(3)).unwrap();
    let client = steadfast::client().circuit_breaker(breakers.clone()).service(backend()).unwrap();
    for _ in 0..3 {
        assert!(matches!(client.clone().oneshot(to("dead", false)).await, Err(Error::Service("dead"))));
    }
    let refused = client.clone().oneshot(to("dead", true)).await.unwrap_err();
    assert!(matches!(refused, Error::Rejected(Rejection::CircuitOpen(_))), "{refused:?}");
    client.clone().oneshot(to("alive", true)).await.unwrap();
    assert_eq!(breakers.get("dead").unwrap().state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_is_a_use() {
    let breakers = PerKey::new(host, Breaker::builder().consecutive_failures(1)).unwrap().max_keys(1);
    let breakers = breakers.idle_after(secs(100));
    let client = steadfast::client().circuit_breaker(breakers.clone()).service(backend()).unwrap();
    client.clone().oneshot(to("dead", false)).await.unwrap_err();
    // This call comes just before the circuit can be probed, so it is refused. It counts as a use of the key.
    advance(secs(4)).await;
    client.clone().oneshot(to("dead", false)).await.unwrap_err();
    advance(secs(97)).await;
    client.clone().oneshot(to("other", true)).await.unwrap();
    assert!(breakers.get("dead").is_some());
    advance(secs(4)).await;
    client.clone().oneshot(to("other", true)).await.unwrap();
    assert!(breakers.get("dead").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_retry_does_not_wait_for_a_host_that_would_be_refused() {
    let breakers = PerKey::new(host, Breaker::builder().consecutive_failures(1)).unwrap();
    let retry = Retry::new(3).backoff(Backoff::exponential(secs(1), secs(1))).without_budget();
    let client = steadfast::client().retry(retry).circuit_breaker(breakers).service(backend()).unwrap();
    let begin = Instant::now();
    assert!(matches!(client.clone().oneshot(to("dead", false)).await, Err(Error::Service("dead"))));
    assert_eq!(Instant::now(), begin);
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_keeps_its_key_and_one_that_is_dropped_gives_it_back() {
    let limiters = PerKey::new(|key: &u64| *key, LoadShedConfig::new(1)).unwrap().max_keys(1);
    let server = steadfast::server().load_shed(limiters.clone());
    let server = server.service(service_fn(async |_: u64| pending::<Result<(), Infallible>>().await)).unwrap();
    let mut first = Box::pin(server.clone().oneshot(1));
    assert!(timeout(ms(1), &mut first).await.is_err());
    assert!(matches!(server.clone().oneshot(1).await, Err(Error::Rejected(Rejection::Overloaded(_)))));
    // Key 2 finds no place. It shares the overflow mechanism with all other keys without a place.
    let mut second = Box::pin(server.clone().oneshot(2));
    assert!(timeout(ms(1), &mut second).await.is_err());
    assert!(matches!(server.clone().oneshot(3).await, Err(Error::Rejected(Rejection::Overloaded(_)))));
    assert_eq!(limiters.overflow().unwrap().in_flight(), 1);
    drop((first, second));
    assert_eq!((limiters.get(&1).unwrap().in_flight(), limiters.overflow().unwrap().in_flight()), (0, 0));
    advance(ms(1)).await;
    let mut second = Box::pin(server.clone().oneshot(2));
    assert!(timeout(ms(1), &mut second).await.is_err());
    assert!(limiters.get(&1).is_none());
    assert_eq!(limiters.get(&2).unwrap().in_flight(), 1);
}

/// Two hosts that serve one call at a time. A call of the fast host takes 1 ms, a call of the slow host 100 ms. `works`
/// selects the fast host.
fn one_by_one() -> impl Service<Request, Response = (), Error = Infallible, Future: Send> + Clone + Send + 'static {
    let hosts = Arc::new([Mutex::new(ms(100)), Mutex::new(ms(1))]);
    service_fn(move |request: Request| {
        let hosts = hosts.clone();
        async move {
            let takes = hosts[usize::from(request.works)].lock().await;
            sleep(*takes).await;
            Ok(())
        }
    })
}

#[tokio::test(start_paused = true)]
async fn with_an_adaptive_limit_for_each_host_a_slow_one_sheds_its_own_calls_only() {
    let limiters = PerKey::new(host, || Limiter::adaptive().deadline(ms(500)).build()).unwrap();
    let client = steadfast::client().load_shed(limiters.clone()).service(one_by_one()).unwrap();
    let shared = Limiter::adaptive().deadline(ms(500)).build().unwrap();
    let judged_as_one = steadfast::client().load_shed(shared.clone()).service(one_by_one()).unwrap();
    let mut fast_of_one = 0;
    for _ in 0..1_000 {
        for (name, is_fast) in [("fast", true), ("slow", false)] {
            spawn(client.clone().oneshot(to(name, is_fast)));
            let before = shared.refused();
            spawn(judged_as_one.clone().oneshot(to(name, is_fast)));
            yield_now().await;
            fast_of_one += if is_fast { shared.refused() - before } else { 0 };
        }
        sleep(ms(10)).await;
    }
    let refused = |host: &str| limiters.get(host).unwrap().refused();
    assert_eq!(refused("fast"), 0);
    assert!(refused("slow") > 800, "{}", refused("slow"));
    assert!(fast_of_one > 100, "one limit for both sheds calls to the fast one: {fast_of_one}");
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_of_a_key_sees_the_deadline_of_the_stack() {
    let limiters = PerKey::new(host, || Limiter::adaptive().build()).unwrap();
    let client = steadfast::client().timeout(ms(200)).load_shed(limiters.clone()).service(one_by_one()).unwrap();
    for _ in 0..100 {
        spawn(client.clone().oneshot(to("fast", true)));
        spawn(client.clone().oneshot(to("fast", true)));
        sleep(ms(10)).await;
    }
    assert_eq!(limiters.get("fast").unwrap().readings().deadline, Some(ms(200)));
}

#[tokio::test(start_paused = true)]
async fn buckets_and_windows_limit_each_key() {
    let buckets = PerKey::new(host, TokenBucket::builder(1, secs(10))).unwrap();
    let windows = PerKey::new(host, SlidingWindow::builder(1, secs(20))).unwrap();
    let client = steadfast::client().rate_limit(RateLimit::from(buckets).and(RateLimit::new(windows)));
    let client = client.service(backend()).unwrap();
    let limited = async |host: &str| match client.clone().oneshot(to(host, true)).await {
        Err(Error::Rejected(Rejection::RateLimited(limited))) => limited.retry_after(),
        _ => None,
    };
    assert_eq!(limited("one").await, None);
    assert_eq!(limited("one").await, Some(secs(10)));
    assert_eq!(limited("two").await, None);
    advance(secs(10)).await;
    assert!(limited("one").await.is_some_and(|wait| wait >= secs(10)));
}

#[tokio::test(start_paused = true)]
async fn a_change_of_a_live_stack_reaches_all_keys_and_those_made_later() {
    let breakers = PerKey::new(host, Breaker::builder().consecutive_failures(3)).unwrap();
    let (layer, control) = steadfast::client().circuit_breaker(breakers.clone()).live().unwrap();
    let client = layer.layer(backend());
    client.clone().oneshot(to("early", true)).await.unwrap();
    let strict = BreakerConfig { consecutive_failures: Some(1), ..BreakerConfig::default() };
    let config = StackConfig { circuit_breaker: Some(strict.clone()), ..StackConfig::default() };
    control.apply(&config).unwrap();
    for host in ["early", "late"] {
        client.clone().oneshot(to(host, false)).await.unwrap_err();
        assert_eq!(breakers.get(host).unwrap().state(), BreakerState::Open, "{host}");
    }
    let forced = Some(BreakerConfig { forced: Some(Forced::Open), ..strict });
    control.apply(&StackConfig { circuit_breaker: forced, ..StackConfig::default() }).unwrap();
    let refused = client.clone().oneshot(to("latest", true)).await.unwrap_err();
    assert!(matches!(refused, Error::Rejected(Rejection::CircuitOpen(_))));
    // An empty configuration restores the numbers that the stack was built with.
    control.apply(&StackConfig::default()).unwrap();
    for _ in 0..2 {
        client.clone().oneshot(to("latest", false)).await.unwrap_err();
    }
    assert_eq!(breakers.get("latest").unwrap().state(), BreakerState::Closed);
    let zero = BreakerConfig { probes: 0, ..BreakerConfig::default() };
    let error = control.apply(&StackConfig { circuit_breaker: Some(zero), ..StackConfig::default() }).unwrap_err();
    assert_eq!(error.field(), "circuit_breaker.probes");
}

#[tokio::test(start_paused = true)]
async fn a_live_stack_does_not_configure_mechanisms_that_have_no_configuration_in_common() {
    let breakers = PerKey::with(host, |_: &String| Breaker::builder().build().unwrap()).max_keys(0);
    // An overflow mechanism has no configuration in common with the keys either.
    drop(breakers.handle("one".to_owned()));
    assert!(breakers.overflow().is_some());
    let (_, control) = steadfast::client().circuit_breaker(breakers).live().unwrap();
    assert_eq!(control.config().circuit_breaker, None);
    let config = StackConfig { circuit_breaker: Some(BreakerConfig::default()), ..StackConfig::default() };
    assert_eq!(control.apply(&config).unwrap_err().field(), "circuit_breaker");
}

#[test]
fn explain_describes_the_limit_of_each_key() {
    let breakers = PerKey::new(host, Breaker::builder().consecutive_failures(5)).unwrap().max_keys(200);
    let breakers = breakers.most_open(0.5).unwrap();
    let limiters = PerKey::new(host, LoadShedConfig::new(8)).unwrap();
    let layer = steadfast::client().circuit_breaker(breakers).load_shed(limiters).layer().unwrap();
    let explanation = layer.explain();
    let layers: Vec<_> = explanation.layers().collect();
    assert_eq!(
        layers,
        [
            (
                "circuit breaker",
                "for each key, at most 200: opens at 5 failures in a row, for 5s growing to 60s, then 3 probes; at most \
                 50% of them open"
            ),
            ("load shed", "for each key, at most 1024: at most 8 in flight"),
        ]
    );
    assert_eq!(explanation.max_in_flight(), None);
}

#[tokio::test(start_paused = true)]
async fn a_result_counts_for_the_key_that_admitted_it() {
    let breakers = PerKey::new(host, Breaker::builder().consecutive_failures(1)).unwrap();
    let frame = &mut Frame::new();
    let permits = ["one", "two"].map(|host| breakers.admit(&to(host, true), frame).unwrap());
    let [one, two] = permits;
    Gate::<Request>::settle(&breakers, two, Ending::TimedOut, frame);
    Gate::<Request>::settle(&breakers, one, Ending::Panicked, frame);
    let state = |host: &str| breakers.get(host).unwrap().state();
    assert_eq!((state("one"), state("two")), (BreakerState::Open, BreakerState::Open));
}

#[tokio::test(start_paused = true)]
async fn the_last_use_of_a_key_is_the_end_of_its_last_call() {
    let breakers = PerKey::new(host, Breaker::builder()).unwrap().max_keys(2);
    let frame = &mut Frame::new();
    let long = breakers.admit(&to("long", true), frame).unwrap();
    advance(secs(1)).await;
    let short = breakers.admit(&to("short", true), &mut Frame::new()).unwrap();
    Gate::<Request>::settle(&breakers, short, Ending::Answered(Outcome::Success), &mut Frame::new());
    advance(secs(1)).await;
    Gate::<Request>::settle(&breakers, long, Ending::Answered(Outcome::Success), &mut Frame::new());
    advance(secs(1)).await;
    drop(breakers.handle("other".to_owned()));
    assert!(breakers.get("long").is_some() && breakers.get("short").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_retry_does_not_wait_if_the_overflow_mechanism_would_refuse() {
    let shared = PerKey::new(host, Breaker::builder().consecutive_failures(1)).unwrap().max_keys(0);
    let retry = Retry::new(3).backoff(Backoff::exponential(secs(1), secs(1))).without_budget();
    let client = steadfast::client().retry(retry).circuit_breaker(shared.clone()).service(backend()).unwrap();
    let begin = Instant::now();
    assert!(matches!(client.clone().oneshot(to("dead", false)).await, Err(Error::Service("dead"))));
    assert_eq!((Instant::now(), shared.is_empty()), (begin, true));
}

#[tokio::test(start_paused = true)]
async fn a_call_with_a_known_key_allocates_nothing() {
    let breakers = PerKey::new(|key: &u64| *key, Breaker::builder().failure_rate(0.5, secs(10))).unwrap();
    let buckets = PerKey::new(|key: &u64| *key, TokenBucket::builder(1_000_000, secs(1))).unwrap();
    let client = steadfast::client().circuit_breaker(breakers.clone()).rate_limit(buckets.clone());
    let client = client.service(service_fn(|key: u64| ready(Ok::<_, Infallible>(key)))).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut call = |key: u64| {
        let mut future = pin!(client.clone().call(key));
        assert!(matches!(future.as_mut().poll(&mut context), Poll::Ready(Ok(_))));
    };
    (0..100).for_each(&mut call);
    let before = so_far().times;
    (0..100).for_each(&mut call);
    assert_eq!(so_far().times, before);
    assert_eq!((breakers.len(), buckets.len()), (100, 100));
}
