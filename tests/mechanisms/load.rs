//! The load that a stack reports, alone and to tower's `Balance`, in virtual time.

use crate::support::{Act, Backend, Failed, ms, secs};
use futures::FutureExt;
use std::{
    collections::hash_map::DefaultHasher,
    hash::BuildHasherDefault,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use steadfast::{
    circuit_breaker::{Breaker, BreakerState},
    load_level::Queue,
    load_shed::Limiter,
    rate_limit::{Keyed, Quota, RateLimit, SlidingWindow, TokenBucket},
    retry::Retry,
    stack::live::StackConfig,
};
use tokio::time::{Instant, sleep};
use tower::{
    BoxError, Layer, Service, ServiceExt,
    balance::p2c::Balance,
    discover::ServiceList,
    load::{CompleteOnResponse, Load, PendingRequests},
    service_fn,
    util::rng::HasherRng,
};

/// The number that a stack adds to its load while it would refuse a call.
const PENALTY: usize = usize::MAX / 2;

/// The record of an endpoint.
#[derive(Default)]
struct Endpoint {
    calls: AtomicU32,
    /// The number of failed answers.
    failures: AtomicU32,
}

/// Returns an endpoint. For the time `fails_for` after its creation it fails at once. Later it answers after 20 ms.
fn endpoint(
    seen: &Arc<Endpoint>,
    fails_for: Duration,
) -> impl Service<(), Response = (), Error = Failed, Future: Send> + Clone + Send + 'static {
    let (seen, start) = (seen.clone(), Instant::now());
    service_fn(move |()| {
        let seen = seen.clone();
        async move {
            seen.calls.fetch_add(1, Ordering::Relaxed);
            if Instant::now().saturating_duration_since(start) < fails_for {
                seen.failures.fetch_add(1, Ordering::Relaxed);
                return Err(Failed);
            }
            sleep(ms(20)).await;
            Ok(())
        }
    })
}

/// Returns a breaker that opens at five failures in a row, for five seconds.
fn breaker() -> Breaker {
    Breaker::builder().consecutive_failures(5).open_for(secs(5)).max_open_for(secs(5)).build().unwrap()
}

/// Sends calls 5 ms apart through a balancer, and returns the share that fails.
async fn share_of_failures<L>(services: Vec<L>, calls: u32) -> f64
where
    L: Service<(), Response = (), Error: Into<BoxError> + 'static, Future: Send + 'static>
        + Load<Metric: std::fmt::Debug>,
{
    let random = HasherRng::with_hasher(BuildHasherDefault::<DefaultHasher>::default());
    let mut balance = Balance::from_rng(ServiceList::new(services), random);
    let mut answers = Vec::new();
    for _ in 0..calls {
        answers.push(tokio::spawn(balance.ready().await.unwrap().call(())));
        sleep(ms(5)).await;
    }
    let mut failed = 0;
    for answer in answers {
        failed += u32::from(answer.await.unwrap().is_err());
    }
    f64::from(failed) / f64::from(calls)
}

#[tokio::test(start_paused = true)]
async fn a_balancer_avoids_the_endpoint_whose_circuit_is_open() {
    let open = Breaker::builder().build().unwrap();
    open.force_open();
    let breakers = || [open.clone(), breaker(), breaker()];
    let seen = Arc::default();
    let stack = |breaker| {
        let stack = steadfast::client().circuit_breaker(breaker).attempt_timeout(secs(1));
        stack.service(endpoint(&seen, Duration::ZERO)).unwrap()
    };
    let stacks = breakers().map(stack).to_vec();
    assert_eq!(share_of_failures(stacks, 1000).await, 0.0);

    // If a balancer counts only the calls in flight, the endpoint behind the open circuit seems to be idle.
    let counted = breakers().map(|breaker| PendingRequests::new(stack(breaker), CompleteOnResponse::default()));
    let share = share_of_failures(counted.into(), 1000).await;
    assert!(share > 0.5, "{share}");
}

#[tokio::test(start_paused = true)]
async fn a_balancer_probes_an_open_circuit_and_returns_to_its_endpoint() {
    let seen: [Arc<Endpoint>; 3] = Default::default();
    let breakers = [breaker(), breaker(), breaker()];
    let fails_for = [secs(12), Duration::ZERO, Duration::ZERO];
    let stacks = (0..3)
        .map(|n| {
            let stack = steadfast::client().circuit_breaker(breakers[n].clone());
            stack.service(endpoint(&seen[n], fails_for[n])).unwrap()
        })
        .collect();
    // For 40 seconds.
    let share = share_of_failures(stacks, 8000).await;
    // Five failures opened the circuit. One probe each at 5 and at 10 seconds failed. Until 15 seconds, no other
    // call reached the endpoint, and the circuit refused none.
    assert_eq!(seen[0].failures.load(Ordering::Relaxed), 7);
    assert_eq!(share, 7.0 / 8000.0);
    assert_eq!(breakers[0].state(), BreakerState::Closed);
    // From 15 seconds on it serves its third of the calls.
    let calls = seen[0].calls.load(Ordering::Relaxed);
    assert!((1500..1900).contains(&calls), "{calls}");
}

#[tokio::test(start_paused = true)]
async fn the_load_is_the_calls_in_flight_of_all_services_of_a_layer() {
    let seen = Arc::default();
    let (layer, _control) = steadfast::client().timeout(secs(60)).retry(Retry::new(3)).live().unwrap();
    let one = layer.layer(endpoint(&seen, Duration::ZERO));
    let mut other = layer.layer(endpoint(&seen, Duration::ZERO));
    let mut clone = one.clone();
    let layer_of_its_own = steadfast::client().layer().unwrap();
    assert_eq!((one.load(), other.load()), (0, 0));

    let unpolled = other.call(());
    let mut polled = Box::pin(clone.call(()));
    assert!(polled.as_mut().now_or_never().is_none());
    assert_eq!((one.load(), other.load(), clone.load()), (2, 2, 2));
    let stranger = layer_of_its_own.layer(endpoint(&seen, Duration::ZERO));
    assert_eq!(stranger.load(), 0);

    drop(unpolled);
    assert_eq!(one.load(), 1);
    polled.await.unwrap();
    assert_eq!(one.load(), 0);
    drop((layer, other, clone));
    assert_eq!(one.load(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_layer_with_another_error_mode_counts_no_calls_of_the_old_layer() {
    let seen = Arc::default();
    let layer = steadfast::load_shed::LoadShedLayer::new(Limiter::fixed(9).unwrap());
    let old = layer.layer(endpoint(&seen, Duration::ZERO));
    let mut new = layer.clone().typed_error().layer(endpoint(&seen, Duration::ZERO));
    assert_eq!((old.load(), new.load()), (0, 0));
    let call = new.call(());
    assert_eq!((old.load(), new.load()), (0, 1));
    drop(call);
    assert_eq!((old.load(), new.load()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_has_a_penalty_until_a_call_may_probe_it() {
    let breaker = Breaker::builder()
        .consecutive_failures(1)
        .open_for(secs(5))
        .max_open_for(secs(5))
        .probes(1)
        .probe_timeout(secs(9));
    let breaker = breaker.build().unwrap();
    let seen = Arc::default();
    let stack = steadfast::client().circuit_breaker(breaker.clone()).service(endpoint(&seen, Duration::ZERO)).unwrap();
    assert_eq!(stack.load(), 0);
    breaker.try_acquire().unwrap().failure();
    assert_eq!(stack.load(), PENALTY);
    sleep(ms(4999)).await;
    assert_eq!(stack.load(), PENALTY);
    sleep(ms(1)).await;
    // Reading the load changes nothing.
    assert_eq!((stack.load(), stack.load(), breaker.state()), (0, 0, BreakerState::Open));

    let probe = breaker.try_acquire().unwrap();
    assert_eq!((stack.load(), breaker.state()), (PENALTY, BreakerState::HalfOpen));
    // A hanging probe must not divert calls for ever. After the probe timeout the load has no penalty, so a call comes.
    // This call opens the circuit again.
    sleep(secs(9)).await;
    assert_eq!(stack.load(), 0);
    assert!(breaker.try_acquire().is_err());
    assert_eq!((stack.load(), breaker.state()), (PENALTY, BreakerState::Open));
    drop(probe);
    sleep(secs(5)).await;
    breaker.try_acquire().unwrap().success();
    assert_eq!((stack.load(), breaker.state()), (0, BreakerState::Closed));

    breaker.force_open();
    assert_eq!(stack.load(), PENALTY);
    breaker.force_closed();
    assert_eq!(stack.load(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_limit_that_refuses_now_has_a_penalty() {
    let seen = Arc::default();
    let service = || endpoint(&seen, Duration::ZERO);

    let limiter = Limiter::fixed(1).unwrap();
    let stack = steadfast::client().load_shed(limiter.clone()).service(service()).unwrap();
    let permit = limiter.try_acquire().unwrap();
    assert_eq!(stack.load(), PENALTY);
    limiter.set_shadow(true);
    assert_eq!(stack.load(), 0);
    limiter.set_shadow(false);
    drop(permit);
    assert_eq!(stack.load(), 0);

    let bucket = TokenBucket::builder(1, secs(1)).build().unwrap();
    let window = SlidingWindow::builder(1, secs(1)).build().unwrap();
    let both = RateLimit::new(bucket.clone()).and(RateLimit::new(window.clone()));
    let stack = steadfast::client().rate_limit(both).service(service()).unwrap();
    let shadow = steadfast::client().rate_limit(RateLimit::new(bucket.clone()).shadow()).service(service()).unwrap();
    let waits = steadfast::client().rate_limit(RateLimit::new(bucket.clone()).wait()).service(service()).unwrap();
    assert_eq!((stack.load(), bucket.available_at(Instant::now())), (0, 1));
    bucket.try_acquire(1).unwrap();
    assert_eq!((stack.load(), shadow.load(), waits.load()), (PENALTY, 0, 0));
    sleep(secs(1)).await;
    assert_eq!(stack.load(), 0);
    window.try_acquire(1).unwrap();
    assert_eq!(stack.load(), PENALTY);

    let keyed = Keyed::<u8>::builder(1, Quota::new(1, secs(9))).build().unwrap();
    let by_key = RateLimit::by_key(keyed.clone(), |(): &()| 1);
    let stack = steadfast::client().rate_limit(by_key).service(service()).unwrap();
    keyed.try_acquire(&1, 1).unwrap();
    assert_eq!(stack.load(), 0);

    let queue = Queue::builder(1, 1).build().unwrap();
    let stack = steadfast::server().load_level(queue.clone()).service(service()).unwrap();
    let permit = queue.try_acquire().unwrap();
    assert_eq!(stack.load(), 0);
    let mut waiting = Box::pin(queue.acquire());
    assert!(waiting.as_mut().now_or_never().is_none());
    assert_eq!(stack.load(), PENALTY);
    drop((waiting, permit));
    assert_eq!(stack.load(), 0);

    let (layer, control) = steadfast::server().timeout(secs(1)).live().unwrap();
    let stack = layer.layer(service());
    assert_eq!(stack.load(), 0);
    control.apply(&StackConfig { switched_off: true, ..StackConfig::default() }).unwrap();
    assert_eq!(stack.load(), PENALTY);
    control.apply(&StackConfig::default()).unwrap();
    assert_eq!(stack.load(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_load_counts_a_bucket_with_waiters_and_a_full_wait_queue_as_refusing() {
    let seen = Arc::default();
    let service = || endpoint(&seen, Duration::ZERO);
    let bucket = TokenBucket::builder(2, secs(2)).max_wait(secs(3)).build().unwrap();
    let refuses = steadfast::client().rate_limit(bucket.clone()).service(service()).unwrap();
    let waits = steadfast::client().rate_limit(RateLimit::new(bucket.clone()).wait()).service(service()).unwrap();
    bucket.try_acquire(2).unwrap();
    let mut first = Box::pin(bucket.acquire(2));
    assert!(first.as_mut().now_or_never().is_none());
    sleep(secs(1)).await;
    // There is a token, but it belongs to the waiter, which needs two and gets them in one second.
    assert_eq!((bucket.available_at(Instant::now()), bucket.try_acquire(1).is_err()), (1, true));
    assert_eq!((refuses.load(), waits.load()), (PENALTY, 0));
    let mut second = Box::pin(bucket.acquire(1));
    assert!(second.as_mut().now_or_never().is_none());
    assert_eq!((refuses.load(), waits.load()), (PENALTY, 0));
    let mut third = Box::pin(bucket.acquire(1));
    assert!(third.as_mut().now_or_never().is_none());
    assert_eq!((refuses.load(), waits.load()), (PENALTY, PENALTY));
    drop((first, second, third));
    assert_eq!((refuses.load(), waits.load()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_queue_with_a_late_waiter_is_not_full() {
    let seen = Arc::default();
    let queue = Queue::builder(1, 1).max_wait(secs(1)).build().unwrap();
    let stack = steadfast::server().load_level(queue.clone()).service(endpoint(&seen, Duration::ZERO)).unwrap();
    let _permit = queue.try_acquire().unwrap();
    // The task does not poll this waiter again. When the longest wait is over, another call may take its place.
    let mut stuck = Box::pin(queue.acquire());
    assert!(stuck.as_mut().now_or_never().is_none());
    assert_eq!(stack.load(), PENALTY);
    sleep(secs(1)).await;
    assert_eq!(stack.load(), 0);
    let mut newcomer = Box::pin(queue.acquire());
    assert!(newcomer.as_mut().now_or_never().is_none());
    assert_eq!(stack.load(), PENALTY);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_or_finds_no_service_does_not_stay_in_flight() {
    let backend = Backend::script([Act::panic(), Act::panic_at_once()], Act::answer(200));
    let limiter = Limiter::fixed(9).unwrap();
    let retry = Retry::new(2).without_budget();
    let stack = steadfast::client().timeout(secs(9)).retry(retry).load_shed(limiter.clone()).service(backend.clone());
    let stack = stack.unwrap();
    for _ in 0..2 {
        assert!(AssertUnwindSafe(stack.clone().oneshot(())).catch_unwind().await.is_err());
        assert_eq!((stack.load(), limiter.in_flight()), (0, 0));
    }
    let _ = backend.broken();
    assert!(stack.clone().oneshot(()).await.is_err());
    assert_eq!((stack.load(), limiter.in_flight()), (0, 0));
}
