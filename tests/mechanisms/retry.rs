//! When a call is retried, after what wait, from which budget, and what it keeps between attempts.

use crate::support::{Act, Backend, Failed, Stopwatch, by_status, ms, secs};
use futures::{FutureExt, future::join_all, poll};
use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use steadfast::{
    CallContext, Error, Outcome, Random, Rejection,
    circuit_breaker::Breaker,
    classify::AnyError,
    error::{TimedOut, TimedOutBy},
    load_shed::Limiter,
    rate_limit::{RateLimit, TokenBucket},
    retry::{Backoff, CloneRequest, Jitter, Retry, RetryBudget, RetryLayer},
    shell::TypedError,
};
use tokio::{
    spawn,
    task::yield_now,
    time::{Instant, advance, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimit, service_fn};

/// Retries with exactly this wait, and no budget.
fn every(attempts: u32, wait: Duration) -> Retry {
    Retry::new(attempts).backoff(Backoff::exponential(wait, wait).jitter(Jitter::None)).without_budget()
}

/// Retries without waits, and without a budget.
fn at_once(attempts: u32) -> Retry {
    Retry::new(attempts).backoff(Backoff::none()).without_budget()
}

fn layer(retry: Retry) -> RetryLayer<CloneRequest, AnyError, TypedError> {
    RetryLayer::new(retry).unwrap().typed_error()
}

/// A budget that has earned this number of retries and earns `ratio` per call. It also holds the fraction of a retry
/// with which it began.
fn budget(earned: u32, ratio: f64) -> RetryBudget {
    let budget = RetryBudget::builder().ratio(ratio).cap(1000).no_floor().random(Random::seeded(1)).build().unwrap();
    let fraction = budget.balance();
    assert!(fraction < 1.0);
    for _ in 0..(f64::from(earned) / ratio).round() as u32 {
        budget.deposit();
    }
    assert!((budget.balance() - fraction - f64::from(earned)).abs() < 1e-6);
    budget
}

/// Returns the change of the balance in retries while `work` runs.
async fn change_of<T>(budget: &RetryBudget, work: impl Future<Output = T>) -> (T, f64) {
    let before = budget.balance();
    let output = work.await;
    (output, ((budget.balance() - before) * 1e6).round() / 1e6)
}

// Which calls are retried.

#[tokio::test(start_paused = true)]
async fn a_failed_call_is_retried_until_it_succeeds() {
    let backend = Backend::script([Act::fail(), Act::fail()], Act::answer(200));
    assert_eq!(layer(at_once(5)).layer(backend.clone()).oneshot(()).await, Ok(200));
    assert_eq!(backend.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_has_the_configured_attempts_and_the_result_of_the_last() {
    for attempts in 1..=4 {
        let backend = Backend::script(vec![Act::fail(); 10], Act::answer(200));
        let result = layer(at_once(attempts)).layer(backend.clone()).oneshot(()).await;
        assert_eq!(result, Err(Error::Service(Failed)));
        assert_eq!(backend.calls(), attempts as usize);
    }
    let backend = Backend::script([Act::fail()], Act::answer(500));
    let service = RetryLayer::new(at_once(2)).unwrap().typed_error().classify(by_status).layer(backend);
    assert_eq!(service.oneshot(()).await, Ok(500));
}

#[tokio::test(start_paused = true)]
async fn only_failures_that_another_attempt_may_mend_are_retried() {
    for (status, attempts) in [(200, 1), (400, 1), (404, 1), (429, 1), (500, 3), (503, 3)] {
        let backend = Backend::always(Act::answer(status));
        let service = RetryLayer::new(at_once(3)).unwrap().typed_error().classify(by_status).layer(backend.clone());
        assert_eq!(service.oneshot(()).await, Ok(status));
        assert_eq!(backend.calls(), attempts, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_readiness_is_retried() {
    let backend = Backend::always(Act::answer(200)).broken();
    let call = spawn(layer(every(3, secs(1))).layer(backend.clone()).oneshot(()));
    sleep(ms(1500)).await;
    assert_eq!(backend.calls(), 0);
    backend.set_ready_for(1);
    assert_eq!(call.await.unwrap(), Ok(200));
    assert_eq!(backend.arrivals(), [secs(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_retried_only_if_the_attempt_reached_the_service() {
    let stack = steadfast::client().retry(at_once(3)).attempt_timeout(secs(1)).layer().unwrap();
    let backend = Backend::script([Act::hang()], Act::answer(200));
    assert_eq!(stack.layer(backend.clone()).oneshot(()).await, Ok(200));
    assert_eq!(backend.arrivals(), [secs(0), secs(1)]);

    let watch = Stopwatch::start();
    let never_ready = Backend::always(Act::answer(200)).ready_for(0);
    let error = stack.layer(never_ready).oneshot(()).await.unwrap_err();
    assert_eq!(error, Error::Rejected(TimedOut::new(Some(secs(1)), false).ended_by(TimedOutBy::Attempt).into()));
    assert_eq!(watch.read(), secs(1));
}

// The waits.

/// Returns the waits of this number of calls with four attempts each, all of which fail.
async fn waits(calls: usize, jitter: Jitter) -> Vec<Vec<Duration>> {
    let backoff = Backoff::exponential(ms(100), ms(300)).jitter(jitter);
    let retry = Retry::new(4).backoff(backoff).without_budget().random(Random::seeded(7));
    let service = layer(retry);
    join_all((0..calls).map(|_| async {
        let backend = Backend::always(Act::fail());
        service.layer(backend.clone()).oneshot(()).await.unwrap_err();
        backend.gaps()
    }))
    .await
}

fn mean(waits: &[Vec<Duration>], retry: usize) -> f64 {
    waits.iter().map(|of_call| of_call[retry].as_secs_f64()).sum::<f64>() / waits.len() as f64
}

#[tokio::test(start_paused = true)]
async fn without_jitter_the_waits_double_up_to_the_cap() {
    for of_call in waits(3, Jitter::None).await {
        assert_eq!(of_call, [ms(100), ms(200), ms(300)]);
    }
}

#[tokio::test(start_paused = true)]
async fn full_jitter_spreads_the_waits_from_zero_to_the_ceiling() {
    let waits = waits(1000, Jitter::Full).await;
    for (retry, ceiling) in [0.1, 0.2, 0.3].into_iter().enumerate() {
        // tokio's timers are exact to a millisecond.
        assert!(waits.iter().all(|of_call| of_call[retry].as_secs_f64() <= ceiling + 0.001));
        assert!((mean(&waits, retry) / ceiling - 0.5).abs() < 0.05, "{}", mean(&waits, retry));
        let at_the_ceiling = waits.iter().filter(|of_call| of_call[retry].as_secs_f64() >= ceiling - 0.001).count();
        assert!(at_the_ceiling < 50, "{at_the_ceiling} of 1000 line up at the ceiling");
    }
}

#[tokio::test(start_paused = true)]
async fn equal_jitter_waits_at_least_half_of_the_ceiling() {
    let waits = waits(1000, Jitter::Equal).await;
    for (retry, ceiling) in [0.1, 0.2, 0.3].into_iter().enumerate() {
        let bounds = ceiling / 2.0..=ceiling + 0.001;
        assert!(waits.iter().all(|of_call| bounds.contains(&of_call[retry].as_secs_f64())));
        assert!((mean(&waits, retry) / ceiling - 0.75).abs() < 0.05, "{}", mean(&waits, retry));
    }
}

#[tokio::test(start_paused = true)]
async fn decorrelated_jitter_waits_from_the_base_to_three_times_the_wait_before() {
    let waits = waits(1000, Jitter::Decorrelated).await;
    for of_call in &waits {
        let mut highest = ms(300);
        for wait in of_call {
            assert!((ms(100)..=highest + ms(1)).contains(wait), "{of_call:?}");
            highest = (3 * *wait).min(ms(300));
        }
    }
    assert!((mean(&waits, 0) - 0.2).abs() < 0.01, "{}", mean(&waits, 0));
}

#[tokio::test(start_paused = true)]
async fn decorrelated_jitter_grows_from_one_wait_to_the_next() {
    let backoff = Backoff::exponential(ms(10), secs(100)).jitter(Jitter::Decorrelated);
    let waits = join_all((0..1000).map(async |seed| {
        let retry = Retry::new(5).backoff(backoff).without_budget().random(Random::seeded(seed));
        let backend = Backend::always(Act::fail());
        layer(retry).layer(backend.clone()).oneshot(()).await.unwrap_err();
        backend.gaps()
    }));
    let waits = waits.await;
    // Each mean wait is halfway between the base and three times the mean wait before it, in milliseconds:
    // (10 + 3 x 10) / 2, (10 + 3 x 20) / 2, and so on.
    for (retry, millis) in [20.0, 35.0, 57.5, 91.25].into_iter().enumerate() {
        let mean = mean(&waits, retry) * 1e3;
        assert!((mean / millis - 1.0).abs() < 0.1, "wait {retry} takes {mean} ms on average, not {millis}");
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_no_wait_after_the_last_failure() {
    for (attempts, wait) in [(1, secs(0)), (2, secs(10)), (3, secs(20))] {
        let watch = Stopwatch::start();
        layer(every(attempts, secs(10))).layer(Backend::always(Act::fail())).oneshot(()).await.unwrap_err();
        assert_eq!(watch.read(), wait);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_fail_together_are_not_retried_together() {
    // Two layers from one configuration, and two calls through each.
    let backoff = Backoff::exponential(secs(1), secs(1));
    let retry = Retry::new(2).backoff(backoff).without_budget().random(Random::seeded(3));
    let backend = Backend::always(Act::fail());
    let calls = [layer(retry.clone()), layer(retry)]
        .map(|layer| [layer.layer(backend.clone()).oneshot(()), layer.layer(backend.clone()).oneshot(())]);
    join_all(calls.into_iter().flatten()).await;
    let mut arrivals = backend.arrivals().split_off(4);
    arrivals.sort();
    arrivals.dedup();
    assert_eq!(arrivals.len(), 4, "{arrivals:?}");
}

// The deadline.

#[tokio::test(start_paused = true)]
async fn no_wait_begins_that_would_end_at_the_deadline_of_the_stack() {
    for (limit, attempts) in [(ms(999), 2), (ms(1000), 2), (ms(1001), 3)] {
        let backend = Backend::always(Act::fail());
        let stack = steadfast::client().timeout(limit).retry(every(3, ms(500)));
        let watch = Stopwatch::start();
        assert_eq!(stack.service(backend.clone()).unwrap().oneshot(()).await, Err(Error::Service(Failed)));
        assert_eq!(backend.calls(), attempts, "{limit:?}");
        assert_eq!(watch.read(), ms(500) * (attempts as u32 - 1));
    }
}

#[tokio::test(start_paused = true)]
async fn no_wait_begins_that_would_end_at_the_callers_deadline() {
    for (limit, attempts) in [(ms(1000), 2), (ms(1001), 3)] {
        let backend = Backend::always(Act::fail());
        let service = layer(every(3, ms(500))).layer(backend.clone());
        let context = CallContext::new().with_deadline(Instant::now() + limit);
        let watch = Stopwatch::start();
        assert_eq!(context.scope(service.oneshot(())).await, Err(Error::Service(Failed)));
        assert_eq!(backend.calls(), attempts, "{limit:?}");
        assert_eq!(watch.read(), ms(500) * (attempts as u32 - 1));
    }
}

#[tokio::test(start_paused = true)]
async fn no_wait_that_the_service_asks_for_begins_if_it_ends_too_late() {
    let backend = Backend::always(Act::answer(503));
    let stack = steadfast::client().timeout(secs(1)).retry(at_once(3)).classify(by_status);
    let watch = Stopwatch::start();
    assert_eq!(stack.service(backend.clone()).unwrap().oneshot(()).await, Ok(503));
    assert_eq!((watch.read(), backend.calls()), (secs(0), 1));
}

// Hints of the service.

#[tokio::test(start_paused = true)]
async fn a_retry_waits_for_the_hint_of_the_service_and_then_the_jitter() {
    let backoff = Backoff::exponential(ms(200), ms(200));
    let retry = Retry::new(2).backoff(backoff).without_budget().random(Random::seeded(5));
    let service = RetryLayer::new(retry).unwrap().typed_error().classify(by_status);
    let backend = Backend::always(Act::answer(503));
    join_all((0..1000).map(|_| service.layer(backend.clone()).oneshot(()))).await;

    let retries = backend.arrivals().split_off(1000);
    assert_eq!(retries.len(), 1000);
    assert!(retries.iter().all(|at| (ms(1000)..=ms(1201)).contains(at)));
    let mean = retries.iter().sum::<Duration>() / 1000;
    assert!((ms(1090)..ms(1110)).contains(&mean), "{mean:?}");
}

#[tokio::test(start_paused = true)]
async fn an_endless_hint_ends_the_call() {
    let stack = steadfast::client()
        .retry(at_once(3))
        .classify(|_: Result<&u16, &Failed>| Outcome::Overloaded { retry_after: Some(Duration::MAX) });
    let backend = Backend::always(Act::answer(503));
    assert_eq!(stack.service(backend.clone()).unwrap().oneshot(()).now_or_never(), Some(Ok(503)));
    assert_eq!(backend.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_costs_more_than_the_burst_is_not_retried() {
    let bucket = TokenBucket::builder(1, secs(1)).build().unwrap();
    let limit = RateLimit::new(bucket).cost(|_: &()| 2);
    let stack = steadfast::client().retry(every(3, secs(1))).rate_limit(limit);
    let call = stack.service(Backend::always(Act::answer(200))).unwrap().oneshot(());
    let error = call.now_or_never().expect("no wait").unwrap_err();
    assert!(matches!(error, Error::Rejected(Rejection::RateLimited(_))));
}

#[tokio::test(start_paused = true)]
async fn rejections_without_a_hint_are_not_retried() {
    let backend = Backend::always(Act::answer(200));
    let full = Limiter::fixed(1).unwrap();
    let _held = full.try_acquire().unwrap();
    let shed = steadfast::client().retry(every(3, secs(1))).load_shed(full.clone()).service(backend.clone()).unwrap();
    let error = shed.oneshot(()).now_or_never().expect("no wait").unwrap_err();
    assert!(matches!(error, Error::Rejected(Rejection::Overloaded(_))));

    let forced = Breaker::builder().build().unwrap();
    forced.force_open();
    let open = steadfast::client().retry(every(3, secs(1))).circuit_breaker(forced).service(backend.clone()).unwrap();
    let error = open.oneshot(()).now_or_never().expect("no wait").unwrap_err();
    assert!(matches!(error, Error::Rejected(Rejection::CircuitOpen(_))));
    assert_eq!(backend.calls(), 0);
}

// The budget.

#[tokio::test(start_paused = true)]
async fn each_retry_costs_one_and_each_call_earns_the_ratio_once() {
    let budget = budget(10, 0.5);
    let service = layer(at_once(4).budget(budget.clone()));
    let failing = service.layer(Backend::always(Act::fail()));
    assert_eq!(change_of(&budget, failing.oneshot(())).await, (Err(Error::Service(Failed)), 0.5 - 3.0));
    let working = service.layer(Backend::always(Act::answer(200)));
    assert_eq!(change_of(&budget, working.oneshot(())).await, (Ok(200), 0.5));
}

#[tokio::test(start_paused = true)]
async fn with_an_empty_budget_a_call_fails_without_a_wait() {
    let budget = budget(2, 0.001);
    let service = layer(every(4, secs(1)).budget(budget.clone()));
    let backend = Backend::always(Act::fail());
    let watch = Stopwatch::start();
    assert_eq!(service.layer(backend.clone()).oneshot(()).await, Err(Error::Service(Failed)));
    assert_eq!((backend.calls(), watch.read()), (3, secs(2)));
    assert_eq!(service.layer(backend.clone()).oneshot(()).now_or_never(), Some(Err(Error::Service(Failed))));
    assert_eq!(backend.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn two_layers_with_one_budget_share_its_retries() {
    let budget = budget(3, 0.001);
    let [first, second] = [(); 2].map(|()| layer(at_once(3).budget(budget.clone())));
    let backend = Backend::always(Act::fail());
    first.layer(backend.clone()).oneshot(()).await.unwrap_err();
    assert_eq!(backend.calls(), 3);
    second.layer(backend.clone()).oneshot(()).await.unwrap_err();
    assert_eq!(backend.calls(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_refused_before_the_service_earns_nothing() {
    let budget = budget(5, 0.5);
    let full = Limiter::fixed(1).unwrap();
    let _held = full.try_acquire().unwrap();
    let retry = at_once(3).budget(budget.clone());
    let stack = steadfast::client().retry(retry).load_shed(full.clone());
    let service = stack.service(Backend::always(Act::answer(200))).unwrap();
    let (result, change) = change_of(&budget, service.oneshot(())).await;
    assert!(result.is_err());
    assert_eq!(change, 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_an_inner_layer_refuses_is_refunded() {
    let budget = budget(5, 0.5);
    let limiter = Limiter::fixed(1).unwrap();
    let retry = every(3, secs(1)).budget(budget.clone());
    let backend = Backend::always(Act::fail());
    let stack = steadfast::client().retry(retry).load_shed(limiter.clone()).service(backend.clone()).unwrap();
    let call = spawn({
        let budget = budget.clone();
        async move { change_of(&budget, stack.oneshot(())).await }
    });
    sleep(ms(500)).await;
    // The first attempt has failed. While the call waits for its second attempt, another call takes the place.
    let _held = limiter.try_acquire().unwrap();
    let (result, change) = call.await.unwrap();
    assert!(matches!(result, Err(Error::Rejected(Rejection::Overloaded(_)))));
    assert_eq!((backend.calls(), change), (1, 0.5));
}

#[tokio::test(start_paused = true)]
async fn a_retry_whose_call_is_dropped_while_it_waits_is_refunded() {
    let budget = budget(5, 0.5);
    let service = layer(every(3, secs(1)).budget(budget.clone())).layer(Backend::always(Act::fail()));
    let (cancelled, change) = change_of(&budget, timeout(ms(500), service.oneshot(()))).await;
    assert!(cancelled.is_err());
    assert_eq!(change, 0.5);
}

#[tokio::test(start_paused = true)]
async fn a_retry_whose_call_is_dropped_before_the_service_is_ready_is_refunded() {
    let budget = budget(5, 0.5);
    let backend = Backend::always(Act::fail()).ready_for(1);
    let service = layer(every(3, secs(1)).budget(budget.clone())).layer(backend.clone());
    let (cancelled, change) = change_of(&budget, timeout(ms(1500), service.oneshot(()))).await;
    assert!(cancelled.is_err());
    assert_eq!((backend.calls(), change), (1, 0.5));
}

#[tokio::test(start_paused = true)]
async fn a_retry_whose_call_is_dropped_in_the_service_is_spent() {
    let budget = budget(5, 0.5);
    let backend = Backend::script([Act::fail()], Act::hang());
    let service = layer(every(3, secs(1)).budget(budget.clone())).layer(backend.clone());
    let (cancelled, change) = change_of(&budget, timeout(ms(1500), service.oneshot(()))).await;
    assert!(cancelled.is_err());
    assert_eq!((backend.calls(), change), (2, -0.5));
}

#[tokio::test(start_paused = true)]
async fn a_retry_whose_attempt_times_out_before_the_service_is_ready_is_refunded() {
    let budget = budget(5, 0.5);
    let backend = Backend::always(Act::fail()).ready_for(1);
    let stack = steadfast::client().retry(every(3, secs(1)).budget(budget.clone())).attempt_timeout(secs(1));
    let call = stack.service(backend.clone()).unwrap().oneshot(());
    let (result, change) = change_of(&budget, call).await;
    assert_eq!(result, Err(Error::Rejected(TimedOut::new(Some(secs(1)), true).ended_by(TimedOutBy::Attempt).into())));
    assert_eq!((backend.calls(), change), (1, 0.5));
}

#[tokio::test(start_paused = true)]
async fn a_retry_whose_call_times_out_before_the_service_is_ready_is_refunded() {
    let budget = budget(5, 0.5);
    let backend = Backend::always(Act::fail()).ready_for(1);
    let stack = steadfast::client().timeout(secs(2)).retry(every(3, secs(1)).budget(budget.clone()));
    let call = stack.service(backend.clone()).unwrap().oneshot(());
    let (result, change) = change_of(&budget, call).await;
    assert_eq!(result, Err(Error::Rejected(TimedOut::new(Some(secs(2)), true).into())));
    assert_eq!((backend.calls(), change), (1, 0.5));
}

#[tokio::test(start_paused = true)]
async fn a_stack_over_a_failing_service_sends_a_tenth_more_and_no_more() {
    let budget = RetryBudget::builder().ratio(0.1).random(Random::seeded(2)).build().unwrap();
    let backend = Backend::always(Act::fail().after(ms(10)));
    let stack = steadfast::client()
        .timeout(secs(10))
        .retry(Retry::new(4).budget(budget).random(Random::seeded(3)))
        .load_shed(Limiter::fixed(1000).unwrap())
        .attempt_timeout(secs(1))
        .service(backend.clone())
        .unwrap();
    for _ in 0..50 {
        let failed = join_all((0..100).map(|_| stack.clone().oneshot(()))).await;
        assert!(failed.iter().all(|result| *result == Err(Error::Service(Failed))));
    }
    let amplification = backend.calls() as f64 / 5000.0;
    assert!((1.09..=1.12).contains(&amplification), "{amplification}");
}

// Requests.

/// A request that records whether it is the original, and how often it was cloned.
#[derive(Debug)]
struct Request {
    original: bool,
    clones: Arc<AtomicUsize>,
}

impl Request {
    fn new() -> (Self, Arc<AtomicUsize>) {
        let clones = Arc::new(AtomicUsize::new(0));
        (Self { original: true, clones: clones.clone() }, clones)
    }
}

impl Clone for Request {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::Relaxed);
        Self { original: false, clones: self.clones.clone() }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_cloned_once_for_each_further_attempt_that_is_possible() {
    let cases = [
        // attempts, failures before the success, clones
        (1, 0, 0),
        (1, 1, 0),
        (3, 0, 1),
        (3, 1, 2),
        (3, 2, 2),
        (3, 3, 2),
        (5, 4, 4),
    ];
    for (attempts, failures, expected) in cases {
        let backend = Backend::script(vec![Act::fail(); failures], Act::answer(200));
        let (request, clones) = Request::new();
        let _ = layer(at_once(attempts)).layer(backend).oneshot(request).await;
        assert_eq!(clones.load(Ordering::Relaxed), expected, "{attempts} attempts, {failures} failures");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_attempt_gets_the_original_request() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let service = tower::service_fn({
        let seen = seen.clone();
        move |request: Request| {
            seen.lock().unwrap().push(request.original);
            async { Err::<(), _>(Failed) }
        }
    });
    let (request, _) = Request::new();
    layer(at_once(3)).layer(service).oneshot(request).await.unwrap_err();
    assert_eq!(*seen.lock().unwrap(), [true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_may_not_be_repeated_is_sent_once_and_not_cloned() {
    let backend = Backend::always(Act::fail());
    let retry = at_once(3).replay_if(|_: &Request| false);
    let (request, clones) = Request::new();
    let service = RetryLayer::new(retry).unwrap().typed_error().layer(backend.clone());
    assert_eq!(service.oneshot(request).await, Err(Error::Service(Failed)));
    assert_eq!((backend.calls(), clones.load(Ordering::Relaxed)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn replay_if_runs_once_per_call() {
    let asked = Arc::new(AtomicUsize::new(0));
    let retry = at_once(4).replay_if({
        let asked = asked.clone();
        move |_: &Request| {
            asked.fetch_add(1, Ordering::Relaxed);
            true
        }
    });
    let backend = Backend::always(Act::fail());
    let (request, clones) = Request::new();
    let service = RetryLayer::new(retry).unwrap().typed_error().layer(backend.clone());
    service.oneshot(request).await.unwrap_err();
    assert_eq!((backend.calls(), clones.load(Ordering::Relaxed)), (4, 3));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

/// A request that is not `Clone`, and can be copied a few times.
#[derive(Debug)]
struct Copies(AtomicUsize);

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_clone_is_copied_by_the_function_and_sent_once_more_without_a_copy() {
    for (copies, attempts) in [(0, 1), (1, 2), (2, 3), (3, 4), (9, 5)] {
        let copy = |request: &Copies| {
            let left = request.0.load(Ordering::Relaxed).checked_sub(1)?;
            request.0.store(left, Ordering::Relaxed);
            Some(Copies(AtomicUsize::new(left)))
        };
        let backend = Backend::always(Act::fail());
        let service = RetryLayer::new(at_once(5).replay_with(copy)).unwrap().typed_error().layer(backend.clone());
        service.oneshot(Copies(AtomicUsize::new(copies))).await.unwrap_err();
        assert_eq!(backend.calls(), attempts, "{copies} copies");
    }
}

// What a call keeps between attempts.

#[tokio::test(start_paused = true)]
async fn a_call_in_backoff_holds_no_place_in_the_service() {
    let backend = Backend::script([Act::fail()], Act::answer(200));
    let one_at_a_time = ConcurrencyLimit::new(backend.clone(), 1);
    let waiting = spawn(layer(every(2, secs(10))).layer(one_at_a_time.clone()).oneshot(()));
    sleep(secs(1)).await;
    assert_eq!((backend.calls(), backend.in_flight()), (1, 0));
    assert_eq!(one_at_a_time.oneshot(()).await, Ok(200));
    assert_eq!(waiting.await.unwrap(), Ok(200));
    assert_eq!(backend.arrivals(), [secs(0), secs(1), secs(10)]);
}

/// A service whose clones can each be called once. A second call to a clone, or a call without readiness, panics.
#[derive(Default)]
struct Once {
    ready: bool,
    called: bool,
    clones: Arc<AtomicUsize>,
}

impl Clone for Once {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::Relaxed);
        Self { ready: false, called: false, clones: self.clones.clone() }
    }
}

impl Service<()> for Once {
    type Response = ();
    type Error = Failed;
    type Future = std::future::Ready<Result<(), Failed>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        assert!(self.ready && !self.called);
        self.called = true;
        std::future::ready(Err(Failed))
    }
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_a_clone_of_the_service_to_itself() {
    let service = layer(at_once(4)).layer(Once::default());
    let clones = service.get_ref().clones.clone();
    assert_eq!(service.oneshot(()).await, Err(Error::Service(Failed)));
    assert_eq!(clones.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn the_answer_of_a_failed_attempt_is_dropped_before_the_wait() {
    let answers = Arc::new(Mutex::new(Vec::new()));
    let service = tower::service_fn({
        let answers = answers.clone();
        move |(): ()| {
            let answer = Arc::new("a body with a connection");
            answers.lock().unwrap().push(Arc::downgrade(&answer));
            async { Ok::<_, Failed>(answer) }
        }
    });
    let retry = RetryLayer::new(every(2, secs(1))).unwrap().typed_error();
    let service = retry.classify(|_: Result<&Arc<&str>, &Failed>| Outcome::Failure).layer(service);
    let mut call = pin!(service.oneshot(()));
    assert!(poll!(call.as_mut()).is_pending());
    let alive = || answers.lock().unwrap().iter().map(|answer| answer.strong_count()).collect::<Vec<_>>();
    assert_eq!(alive(), [0]);
    let _kept = call.await.unwrap();
    assert_eq!(alive(), [0, 1]);
}

// The result.

#[tokio::test(start_paused = true)]
async fn a_refused_retry_reports_that_an_earlier_attempt_reached_the_service() {
    // The circuit opens while the call waits for its second attempt, which is refused.
    let breaker = Breaker::builder().consecutive_failures(2).build().unwrap();
    let retry = every(3, secs(1));
    let stack = steadfast::client().timeout(secs(3)).retry(retry).circuit_breaker(breaker.clone()).layer().unwrap();
    let call = spawn(stack.layer(Backend::always(Act::fail())).oneshot(()));
    sleep(ms(500)).await;
    breaker.try_acquire().unwrap().failure();
    let error = call.await.unwrap().unwrap_err();
    let rejection = error.rejection().unwrap();
    assert!(matches!(rejection, Rejection::CircuitOpen(_)));
    assert!(rejection.reached_service());

    let error = stack.layer(Backend::always(Act::fail())).oneshot(()).await.unwrap_err();
    assert!(!error.rejection().unwrap().reached_service());
}

#[tokio::test(start_paused = true)]
async fn a_timeout_in_the_second_attempt_reports_that_the_first_reached_the_service() {
    let backend = Backend::always(Act::fail()).ready_for(1);
    let stack = steadfast::client().timeout(secs(2)).retry(every(2, secs(1)));
    let result = stack.service(backend).unwrap().oneshot(()).await;
    assert_eq!(result, Err(Error::Rejected(TimedOut::new(Some(secs(2)), true).into())));
}

// Earlier attempts do not affect the evidence of the present one.

#[tokio::test(start_paused = true)]
async fn an_attempt_that_never_reached_the_service_does_not_count_and_gets_its_token_back() {
    // The first attempt fails, the second waits for readiness until the deadline of the whole call.
    let breaker = Breaker::builder().failure_rate(1.0, secs(60)).build().unwrap();
    let bucket = TokenBucket::builder(10, secs(3600)).build().unwrap();
    let backend = Backend::always(Act::fail()).ready_for(1);
    let stack = steadfast::client()
        .timeout(secs(2))
        .retry(every(2, secs(1)))
        .circuit_breaker(breaker.clone())
        .rate_limit(bucket.clone())
        .service(backend.clone())
        .unwrap();
    let result = stack.oneshot(()).await;
    assert_eq!(result, Err(Error::Rejected(TimedOut::new(Some(secs(2)), true).into())));
    assert_eq!(backend.calls(), 1);
    assert_eq!(breaker.counts_at(Instant::now()), (1, 1));
    assert_eq!(bucket.available_at(Instant::now()), 9);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_returns_its_place_at_once_and_its_running_attempt_does_not_count() {
    let breaker = Breaker::builder().failure_rate(1.0, secs(60)).build().unwrap();
    let limiter = Limiter::fixed(1).unwrap();
    let stack = steadfast::client()
        .retry(every(2, secs(1)))
        .circuit_breaker(breaker.clone())
        .load_shed(limiter.clone())
        .service(Backend::script([Act::fail()], Act::hang()))
        .unwrap();
    let mut call = Box::pin(stack.oneshot(()));
    assert!(poll!(call.as_mut()).is_pending());
    assert_eq!(limiter.in_flight(), 0);
    advance(secs(1)).await;
    assert!(poll!(call.as_mut()).is_pending());
    assert_eq!(limiter.in_flight(), 1);
    drop(call);
    yield_now().await;
    assert_eq!(limiter.in_flight(), 0);
    assert_eq!(breaker.counts_at(Instant::now()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_time_to_clone_the_request_does_not_shorten_the_attempt() {
    /// Takes a second to be cloned.
    struct Slow;

    impl Clone for Slow {
        fn clone(&self) -> Self {
            // The first poll advances the clock.
            let _ = advance(secs(1)).now_or_never();
            Self
        }
    }

    // The time that each attempt has until its deadline.
    let left = Arc::new(Mutex::new(Vec::new()));
    let service = service_fn({
        let left = left.clone();
        move |_: Slow| {
            let deadline = CallContext::current().deadline().unwrap();
            left.lock().unwrap().push(deadline.saturating_duration_since(Instant::now()));
            async { Err::<(), _>(Failed) }
        }
    });
    let client = || steadfast::client().timeout(secs(60)).attempt_timeout(secs(5));
    let plain = client().retry(at_once(3)).service(service.clone()).unwrap();
    assert_eq!(plain.oneshot(Slow).await, Err(Error::Service(Failed)));
    let chosen = client().retry(at_once(3).replay_if(|_: &Slow| true)).service(service).unwrap();
    assert_eq!(chosen.oneshot(Slow).await, Err(Error::Service(Failed)));
    assert_eq!(*left.lock().unwrap(), [secs(5); 6]);
}
