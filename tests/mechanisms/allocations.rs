//! A call allocates nothing in this crate, whether it is admitted or refused. Most tests first make calls that let
//! tables and queues grow, and then count the allocations of further calls.

use crate::counting::so_far;
use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use steadfast::{
    Error, Rejection,
    circuit_breaker::{Breaker, CircuitBreakerLayer},
    load_level::{Discipline, LoadLevelLayer, Queue},
    load_shed::{Limiter, LoadShedLayer},
    rate_limit::{
        Keyed, Overflow, Quota, RateLimitLayer, TokenBucket,
        distributed::{Embedded, Exact, Leased, WriteBehind},
    },
    retry::{Retry, RetryBudget, RetryLayer},
    shell::{Begin, Border, End, Frame, Observer, Stamp},
    timeout::TimeoutLayer,
};
use tower::{Layer, Service, util::BoxCloneSyncService};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Echo;

impl Service<u64> for Echo {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        ready(Ok(request))
    }
}

/// Makes a thousand calls to warm up, then counts the allocations of a thousand more. Checks that each call ended as
/// expected.
fn allocations<S: Service<u64> + Clone>(
    service: &S,
    ends_well: impl Fn(&Result<S::Response, S::Error>) -> bool,
) -> u64 {
    let call = || {
        let mut context = Context::from_waker(Waker::noop());
        let mut service = service.clone();
        assert!(service.poll_ready(&mut context).is_ready());
        let Poll::Ready(result) = pin!(service.call(7)).poll(&mut context) else { panic!("a ready service") };
        assert!(ends_well(&result));
    };
    (0..1000).for_each(|_| call());
    let before = so_far().times;
    (0..1000).for_each(|_| call());
    so_far().times - before
}

fn plenty() -> TokenBucket {
    TokenBucket::builder(1_000_000_000, SECOND).build().unwrap()
}

fn queue() -> Queue {
    Queue::builder(1, 100).build().unwrap()
}

fn breaker() -> Breaker {
    Breaker::builder().failure_rate(0.5, 10 * SECOND).build().unwrap()
}

#[test]
fn the_counter_counts() {
    let before = so_far().times;
    drop(std::hint::black_box(Box::new(7)));
    assert_eq!(so_far().times, before + 1);
}

#[test]
fn an_admitted_call_allocates_nothing_in_any_layer() {
    let timeout = TimeoutLayer::new(SECOND).unwrap().typed_error().layer(Echo);
    assert_eq!(allocations(&timeout, Result::is_ok), 0, "timeout");
    let retry = RetryLayer::new(Retry::new(3)).unwrap().typed_error().layer(Echo);
    assert_eq!(allocations(&retry, Result::is_ok), 0, "retry");
    let circuit_breaker = CircuitBreakerLayer::new(breaker()).typed_error().layer(Echo);
    assert_eq!(allocations(&circuit_breaker, Result::is_ok), 0, "circuit breaker");
    let load_shed = LoadShedLayer::new(Limiter::fixed(1).unwrap()).typed_error().layer(Echo);
    assert_eq!(allocations(&load_shed, Result::is_ok), 0, "load shed");
    let rate_limit = RateLimitLayer::new(plenty()).typed_error().layer(Echo);
    assert_eq!(allocations(&rate_limit, Result::is_ok), 0, "rate limit");
    let load_level = LoadLevelLayer::new(queue()).typed_error().layer(Echo);
    assert_eq!(allocations(&load_level, Result::is_ok), 0, "load level");
    let paced = Queue::builder(1, 1).pace(1_000_000_000, SECOND).build().unwrap();
    let load_level = LoadLevelLayer::new(paced).typed_error().layer(Echo);
    assert_eq!(allocations(&load_level, Result::is_ok), 0, "load level with a pace");
}

/// A stack whose type the compiler knows (`named`) allocates nothing. [`BoxCloneSyncService`] erases the type: it boxes
/// the future of each call and each clone of the service. [`allocations`] clones the service once for each call.
#[test]
fn an_erased_stack_allocates_once_for_a_call_and_once_for_a_clone() {
    let named = steadfast::client().load_shed(Limiter::fixed(1).unwrap()).service(Echo).unwrap();
    assert_eq!(allocations(&named, Result::is_ok), 0, "named");
    let erased = BoxCloneSyncService::new(named);
    let before = so_far().times;
    drop(erased.clone());
    assert_eq!(so_far().times, before + 1, "a clone");
    assert_eq!(allocations(&erased, Result::is_ok), 2 * 1000, "a clone and a call, a thousand times");
}

/// Three parts of a stack. The observer keeps the number of the attempt. The stamp adds one to the request. The border
/// keeps the request as it entered, and adds it to the answer.
#[derive(Clone)]
struct Numbers;

impl Observer for Numbers {
    type Watch = u64;

    fn begin(&self, begin: &Begin) -> u64 {
        begin.context().attempt().into()
    }

    fn end(&self, _: u64, _: &End<'_>) {}
}

impl Stamp<u64> for Numbers {
    fn stamp(&self, request: &mut u64, _: &mut Frame) {
        *request += 1;
    }
}

impl<E> Border<u64, u64, E> for Numbers {
    type Response = u64;
    type Error = Error<E>;
    type Seen = u64;

    fn enter(&self, request: &mut u64, _: &mut Frame) -> u64 {
        *request
    }

    fn exit(&self, seen: u64, result: Result<u64, Error<E>>, _: &mut Frame) -> Result<u64, Error<E>> {
        result.map(|answer| answer + seen)
    }
}

#[test]
fn an_observed_and_stamped_call_across_a_border_allocates_nothing() {
    let client = steadfast::client()
        .observe("payments", Numbers)
        .retry(Retry::new(3))
        .circuit_breaker(breaker())
        .stamp(Numbers)
        .border(Numbers);
    assert_eq!(allocations(&client.service(Echo).unwrap(), |answer| *answer == Ok(15)), 0);
    let server = steadfast::server().observe("shop", Numbers).load_shed(Limiter::fixed(1).unwrap()).border(Numbers);
    assert_eq!(allocations(&server.service(Echo).unwrap(), |answer| *answer == Ok(14)), 0);
}

#[test]
fn a_refused_call_allocates_nothing_in_any_layer() {
    let open = breaker();
    open.force_open();
    let circuit_breaker = CircuitBreakerLayer::new(open).typed_error().layer(Echo);
    assert_eq!(allocations(&circuit_breaker, Result::is_err), 0, "circuit breaker");
    let full = Limiter::fixed(1).unwrap();
    let _place = full.try_acquire().unwrap();
    let load_shed = LoadShedLayer::new(full.clone()).typed_error().layer(Echo);
    assert_eq!(allocations(&load_shed, Result::is_err), 0, "load shed");
    let empty = TokenBucket::builder(1, 1000 * SECOND).build().unwrap();
    empty.try_acquire(1).unwrap();
    let rate_limit = RateLimitLayer::new(empty).typed_error().layer(Echo);
    assert_eq!(allocations(&rate_limit, Result::is_err), 0, "rate limit");
}

#[tokio::test(start_paused = true)]
async fn a_call_refused_by_a_full_queue_allocates_nothing() {
    let full = Queue::builder(1, 1).build().unwrap();
    let _place = full.try_acquire().unwrap();
    let mut waiting = pin!(full.acquire());
    assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let load_level = LoadLevelLayer::new(full.clone()).typed_error().layer(Echo);
    assert_eq!(allocations(&load_level, Result::is_err), 0, "load level");
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_allocates_nothing_once_the_queue_has_grown() {
    for discipline in [Discipline::default(), Discipline::fifo(), Discipline::lifo(), Discipline::adaptive()] {
        let queue = Queue::builder(1, 100).discipline(discipline).build().unwrap();
        let service = LoadLevelLayer::new(queue.clone()).typed_error().layer(Echo);
        let mut allocated = 0;
        for round in 0..20 {
            let permit = queue.try_acquire().unwrap();
            let before = so_far().times;
            let mut cx = Context::from_waker(Waker::noop());
            let (mut first, mut second) = (pin!(queue.acquire()), pin!(service.clone().call(7)));
            assert!(first.as_mut().poll(&mut cx).is_pending() && second.as_mut().poll(&mut cx).is_pending());
            drop(permit);
            let (mut served, mut answered) = (false, false);
            while !served || !answered {
                served = served || first.as_mut().poll(&mut cx).is_ready();
                answered = answered || second.as_mut().poll(&mut cx).is_ready();
            }
            if round > 0 {
                allocated += so_far().times - before;
            }
        }
        // A waiting call makes a timer. Tokio keeps the timer inside the future, so it allocates nothing.
        assert_eq!(allocated, 0, "{discipline}");
    }
}

#[test]
fn a_call_through_a_whole_stack_allocates_nothing() {
    let client = steadfast::client()
        .timeout(10 * SECOND)
        .retry(Retry::new(3).budget(RetryBudget::builder().build().unwrap()))
        .circuit_breaker(breaker())
        .rate_limit(plenty())
        .load_shed(Limiter::fixed(1).unwrap())
        .attempt_timeout(SECOND)
        .service(Echo)
        .unwrap();
    assert_eq!(allocations(&client, Result::is_ok), 0, "client");
    let server = steadfast::server()
        .rate_limit(plenty())
        .load_shed(Limiter::fixed(2).unwrap())
        .load_level(queue())
        .timeout(SECOND)
        .respond_with(|_: Rejection| 0)
        .service(Echo)
        .unwrap();
    assert_eq!(allocations(&server, Result::is_ok), 0, "server");
}

#[test]
fn neither_a_known_nor_a_new_key_of_a_keyed_limit_allocates() {
    for overflow in [Overflow::Shared, Overflow::Refuse] {
        let quota = Quota::new(1, 1000 * SECOND).with_burst(2);
        let limit = Keyed::<str>::builder(100, quota).tiers([quota], str::len).overflow(overflow).build().unwrap();
        let keys: Vec<String> = (0..10_000).map(|n| format!("{:>1$}", n, n % 7)).collect();
        let before = so_far().times;
        let admitted = keys.iter().chain(&keys).filter(|key| limit.try_acquire(key, 1).is_ok()).count();
        keys.iter().for_each(|key| limit.refund(key, 1));
        let quota_changed = limit.set_quota(1, quota.with_burst(3)).is_ok();
        assert_eq!(so_far().times, before, "{overflow:?}");
        // The table for 100 keys has 256 slots, each with a burst of 2. The shared buckets of the two tiers have 4.
        assert!(quota_changed && (2 * 100..=2 * 256 + 4).contains(&admitted), "{admitted}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_decision_of_a_limit_of_many_processes_allocates_nothing_for_a_known_key() {
    let (leased, flusher) = Leased::builder(Embedded::new(), 1 << 20, 10 * SECOND).build().unwrap();
    tokio::spawn(flusher.run());
    leased.acquire(b"key", 1).await.unwrap();
    let (behind, _flusher) =
        WriteBehind::builder(Embedded::new(), Quota::new(1_000_000_000, SECOND), 1).build().unwrap();
    behind.try_acquire(b"key", 1).unwrap();
    let (exact, flusher) = Exact::builder(Embedded::new(), Quota::new(1, 1000 * SECOND)).build().unwrap();
    tokio::spawn(flusher.run());
    exact.acquire(b"key", 1).await.unwrap();
    // The store states when there will be another token. The limit remembers this time, and refuses without a request.
    exact.acquire(b"key", 1).await.unwrap_err();
    let before = so_far().times;
    for _ in 0..1000 {
        assert!(leased.try_acquire(b"key", 1).is_ok());
        assert!(leased.try_acquire(b"key", 1 << 20).is_err());
        assert!(behind.try_acquire(b"key", 1).is_ok());
        assert!(behind.try_acquire(b"key", 1 << 30).is_err());
        assert!(exact.acquire(b"key", 1).await.is_err());
    }
    assert_eq!(so_far().times, before);
}
