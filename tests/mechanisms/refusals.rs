//! Refusals by the layers of a retry's own stack. If such a layer refuses the call, or would refuse the next attempt,
//! the retry ends the call at once. With `wait_for_refusals`, the retry waits and tries again.

use crate::support::{Act, Backend, Failed, Stopwatch, by_status, ms, secs};
use futures::{FutureExt, future::join_all};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use steadfast::{
    Error, Outcome, Random, Rejection,
    circuit_breaker::{Breaker, BreakerState, CircuitBreakerLayer},
    classify::{AnyError, Layered},
    error::{CircuitOpen, Overloaded},
    load_shed::Limiter,
    rate_limit::{Keyed, Quota, RateLimit, SlidingWindow, TokenBucket},
    retry::{Backoff, Jitter, Retry, RetryBudget, RetryLayer},
    shell::{Ending, Frame, Gate, GateStage, KeepError, Leaf, StackLayer},
    stack::live::StackConfig,
};
use tokio::{
    spawn,
    time::{Instant, sleep},
};
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt};

fn every(attempts: u32, wait: Duration) -> Retry {
    Retry::new(attempts).backoff(Backoff::exponential(wait, wait).jitter(Jitter::None)).without_budget()
}

/// A retry with two attempts and no backoff between them.
fn at_once_again() -> Retry {
    Retry::new(2).backoff(Backoff::none()).without_budget()
}

/// Opens at the first failure, for five seconds, then lets one probe through.
fn nervous() -> Breaker {
    let builder = Breaker::builder().consecutive_failures(1).open_for(secs(5)).probes(1);
    builder.probe_timeout(secs(10)).build().unwrap()
}

fn opened() -> Breaker {
    let breaker = nervous();
    breaker.try_acquire().unwrap().failure();
    breaker
}

fn at_once<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("no wait")
}

fn failed() -> Result<u16, Error<Failed>> {
    Err(Error::Service(Failed))
}

// Refusals of the first attempt.

#[tokio::test(start_paused = true)]
async fn a_hundred_callers_of_an_open_circuit_are_refused_at_once() {
    let stack = steadfast::client()
        .retry(Retry::new(3).without_budget())
        .circuit_breaker(opened())
        .service(Backend::always(Act::answer(200)))
        .unwrap();
    for end in at_once(join_all((0..100).map(|_| stack.clone().oneshot(())))) {
        assert_eq!(end, Err(Error::Rejected(CircuitOpen::new(Some(secs(5))).into())));
    }
    sleep(secs(5)).await;
    assert_eq!(stack.oneshot(()).await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn a_call_over_the_rate_is_refused_at_once_and_learns_when_to_come_back() {
    let bucket = TokenBucket::builder(1, secs(1)).build().unwrap();
    let backend = Backend::always(Act::answer(200));
    let stack = steadfast::client().retry(every(3, ms(1))).rate_limit(bucket).service(backend.clone()).unwrap();
    assert_eq!(stack.clone().oneshot(()).await, Ok(200));
    let error = at_once(stack.oneshot(())).unwrap_err();
    assert!(matches!(error, Error::Rejected(Rejection::RateLimited(_))));
    assert_eq!(error.rejection().unwrap().retry_after(), Some(secs(1)));
    assert_eq!(backend.calls(), 1);
}

// Refusals that the next attempt would get.

#[tokio::test(start_paused = true)]
async fn a_call_whose_failure_opens_the_circuit_ends_as_it_failed_and_at_once() {
    let budget = RetryBudget::builder().ratio(0.5).cap(100).no_floor().random(Random::seeded(1)).build().unwrap();
    (0..20).for_each(|_| budget.deposit());
    let before = budget.balance();
    let breaker = nervous();
    let backend = Backend::always(Act::fail());
    let stack = steadfast::client()
        .retry(every(3, secs(1)).budget(budget.clone()))
        .circuit_breaker(breaker.clone())
        .service(backend.clone())
        .unwrap();
    assert_eq!(at_once(stack.oneshot(())), failed());
    assert_eq!((backend.calls(), breaker.state()), (1, BreakerState::Open));
    assert!((budget.balance() - before - 0.5).abs() < 1e-6, "no retry is spent");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_ends_when_the_circuit_lets_probes_through_is_begun() {
    for (wait, attempts) in [(ms(4999), 1), (ms(5000), 2)] {
        let backend = Backend::script([Act::fail()], Act::answer(200));
        let stack = steadfast::client().retry(every(3, wait)).circuit_breaker(nervous());
        let result = stack.service(backend.clone()).unwrap().oneshot(()).await;
        assert_eq!(result, if attempts == 1 { failed() } else { Ok(200) });
        assert_eq!(backend.calls(), attempts, "{wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_half_open_circuit_is_waited_for_only_if_it_has_a_place() {
    // The circuit admits two probes. To this breaker an overload is a success, so the first attempt is a probe that
    // succeeds. The second attempt needs the other place.
    let overloaded = |result: Result<&u16, &Failed>| match result {
        Ok(503) => Outcome::Overloaded { retry_after: Some(secs(1)) },
        _ => Outcome::Success,
    };
    for (others, attempts) in [(0, 2), (1, 1)] {
        let builder = Breaker::builder().consecutive_failures(1).open_for(secs(5)).probes(2);
        let breaker = builder.probe_timeout(secs(10)).build().unwrap();
        breaker.try_acquire().unwrap().failure();
        sleep(secs(5)).await;
        let _probes: Vec<_> = (0..others).map(|_| breaker.try_acquire().unwrap()).collect();
        let backend = Backend::script([Act::answer(503)], Act::answer(200));
        let stack = steadfast::client().retry(every(2, ms(1))).circuit_breaker(breaker.clone()).classify(overloaded);
        let result = stack.service(backend.clone()).unwrap().oneshot(()).await;
        assert_eq!(result, Ok(if attempts == 2 { 200 } else { 503 }));
        assert_eq!(backend.calls(), attempts, "{others} other probes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_half_open_circuit_is_not_waited_for_if_its_probe_timeout_ends_before_the_attempt() {
    let builder = Breaker::builder().consecutive_failures(1).open_for(secs(5)).probes(5);
    let breaker = builder.probe_timeout(secs(10)).build().unwrap();
    breaker.try_acquire().unwrap().failure();
    sleep(secs(5)).await;
    let _hangs = breaker.try_acquire().unwrap();
    // To this breaker each overload is a probe that succeeds. It gives the probe that hangs another ten seconds until
    // the circuit opens.
    for (wait, attempts) in [(ms(9999), 2), (ms(10_000), 1)] {
        let backend = Backend::always(Act::answer(503));
        let stack = steadfast::client()
            .retry(at_once_again().max_hint(secs(60)))
            .circuit_breaker(breaker.clone())
            .classify(move |_: Result<&u16, &Failed>| Outcome::Overloaded { retry_after: Some(wait) });
        let service = stack.service(backend.clone()).unwrap();
        let _ = service.oneshot(()).await;
        assert_eq!(backend.calls(), attempts, "{wait:?}");
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
    }
}

#[tokio::test(start_paused = true)]
async fn a_circuit_forced_open_while_an_attempt_runs_is_not_waited_for_and_a_forced_closed_one_is_no_obstacle() {
    for (force, attempts) in [(true, 1), (false, 2)] {
        let breaker = nervous();
        let backend = Backend::always(Act::fail().after(secs(1)));
        let stack = steadfast::client().retry(every(2, secs(1))).circuit_breaker(breaker.clone());
        let call = spawn(stack.service(backend.clone()).unwrap().oneshot(()));
        sleep(ms(500)).await;
        if force {
            breaker.force_open()
        } else {
            breaker.force_closed()
        }
        assert_eq!(call.await.unwrap(), failed());
        assert_eq!(backend.calls(), attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_for_which_a_limit_has_no_token_when_it_is_due_is_not_waited_for() {
    /// Whether a second attempt is made after this wait. The first attempt takes all tokens of the limit.
    macro_rules! is_made {
        ($wait:expr, $limit:expr) => {{
            let (backend, watch) = (Backend::always(Act::fail()), Stopwatch::start());
            let stack = steadfast::client().retry(every(2, $wait)).rate_limit($limit).service(backend.clone()).unwrap();
            assert_eq!(stack.oneshot(7_u32).await, failed());
            assert_eq!(watch.read(), if backend.calls() == 2 { $wait } else { ms(0) });
            backend.calls() == 2
        }};
    }

    let bucket = || TokenBucket::builder(1, secs(1)).build().unwrap();
    let keyed = || Keyed::<u32>::builder(100, Quota::new(1, secs(1))).build().unwrap();
    let window = || SlidingWindow::builder(1, secs(1)).build().unwrap();
    for (wait, expected) in [(ms(400), false), (ms(999), false), (ms(1000), true)] {
        assert_eq!(is_made!(wait, bucket()), expected, "{wait:?}");
        assert_eq!(is_made!(wait, RateLimit::new(bucket()).count_refused()), expected, "{wait:?}");
        assert_eq!(is_made!(wait, RateLimit::by_key(keyed(), |n: &u32| *n)), expected, "{wait:?}");
        assert_eq!(is_made!(wait, RateLimit::new(window())), expected, "{wait:?}");
        let ample = RateLimit::new(TokenBucket::builder(9, secs(1)).build().unwrap());
        assert_eq!(is_made!(wait, ample.and(RateLimit::new(bucket()))), expected, "{wait:?}");
        let two_tokens = RateLimit::new(TokenBucket::builder(2, secs(1)).build().unwrap()).cost(|_: &u32| 2);
        assert_eq!(is_made!(wait, two_tokens), expected, "{wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn limits_that_would_not_refuse_the_attempt_do_not_keep_it_from_being_made() {
    let bucket = || TokenBucket::builder(1, secs(1)).max_wait(secs(5)).build().unwrap();
    let backend = Backend::always(Act::fail());
    let waits = steadfast::client().retry(every(2, ms(1))).rate_limit(RateLimit::new(bucket()).wait());
    assert_eq!(waits.service(backend.clone()).unwrap().oneshot(()).await, failed());
    assert_eq!(backend.arrivals(), [secs(0), secs(1)]);

    let backend = Backend::always(Act::fail());
    let shadow = steadfast::client().retry(every(2, ms(1))).rate_limit(RateLimit::new(bucket()).shadow());
    assert_eq!(shadow.service(backend.clone()).unwrap().oneshot(()).await, failed());
    assert_eq!(backend.calls(), 2);

    let backend = Backend::always(Act::fail());
    let shed = steadfast::client().retry(every(2, ms(1))).load_shed(Limiter::fixed(1).unwrap());
    assert_eq!(shed.service(backend.clone()).unwrap().oneshot(()).await, failed());
    assert_eq!(backend.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_forecast_takes_no_token_and_counts_the_waiters() {
    // The bucket mints a token every 500 ms. The test and the first attempt take both tokens. The waiter gets the token
    // at 500 ms, so the second attempt has to wait for the one at 1000 ms.
    let bucket = TokenBucket::builder(2, secs(1)).burst(2).max_wait(secs(5)).build().unwrap();
    for (wait, attempts) in [(ms(900), 1), (ms(1000), 2)] {
        sleep(secs(10)).await;
        let backend = Backend::always(Act::fail().after(ms(10)));
        let stack = steadfast::client().retry(every(2, wait - ms(10))).rate_limit(bucket.clone());
        bucket.try_acquire(1).unwrap();
        let call = spawn(stack.service(backend.clone()).unwrap().oneshot(()));
        sleep(ms(1)).await;
        let waiter = spawn(bucket.acquire(1));
        assert_eq!(call.await.unwrap(), failed());
        assert!(waiter.await.unwrap().is_ok());
        assert_eq!(backend.calls(), attempts, "{wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_was_switched_off_during_an_attempt_is_not_waited_for() {
    let (layer, control) = steadfast::client().retry(every(3, secs(1))).live().unwrap();
    let backend = Backend::always(Act::fail().after(secs(1)));
    let call = spawn(layer.layer(backend.clone()).oneshot(()));
    sleep(ms(500)).await;
    control.apply(&StackConfig { switched_off: true, ..StackConfig::default() }).unwrap();
    let watch = Stopwatch::start();
    assert_eq!(call.await.unwrap(), failed());
    assert_eq!((watch.read(), backend.calls()), (ms(500), 1));
}

#[tokio::test(start_paused = true)]
async fn a_gate_of_a_users_own_is_asked() {
    /// Would refuse each attempt that is due before this instant. In fact it admits all attempts.
    #[derive(Clone)]
    struct Before(Instant);

    impl<Request> Gate<Request> for Before {
        type Permit = ();

        fn admit(&self, _: &Request, _: &mut Frame) -> Result<(), Rejection> {
            Ok(())
        }

        fn would_refuse(&self, _: &Request, due: Instant, _: &mut Frame) -> bool {
            due < self.0
        }

        fn settle(&self, (): (), _: Ending, _: &mut Frame) {}
    }

    for (wait, attempts) in [(ms(999), 1), (ms(1000), 2)] {
        let gate = GateStage::new(Before(Instant::now() + secs(1)), Leaf::new(AnyError));
        let stage = steadfast::stack::Slot::build(every(2, wait), gate).unwrap();
        let backend = Backend::always(Act::fail());
        let service =
            StackLayer::from_stages(stage, KeepError).layer(ServiceExt::<()>::map_err(backend.clone(), Error::Service));
        assert_eq!(service.oneshot(()).await, failed());
        assert_eq!(backend.calls(), attempts);
    }
}

// Retries with `wait_for_refusals`.

#[tokio::test(start_paused = true)]
async fn with_wait_for_refusals_a_retry_waits_for_a_rate_limit_until_it_has_a_token() {
    let bucket = TokenBucket::builder(1, secs(1)).build().unwrap();
    let backend = Backend::always(Act::answer(200));
    let retry = at_once_again().wait_for_refusals();
    let stack = steadfast::client().retry(retry).rate_limit(bucket).service(backend.clone()).unwrap();
    assert_eq!(stack.clone().oneshot(()).await, Ok(200));
    assert_eq!(stack.oneshot(()).await, Ok(200));
    assert_eq!(backend.arrivals(), [secs(0), secs(1)]);
}

#[tokio::test(start_paused = true)]
async fn with_wait_for_refusals_a_retry_probes_an_open_circuit_but_not_beyond_the_longest_hint_or_the_deadline() {
    let cases = [(secs(5), secs(9), true), (ms(4999), secs(9), false), (secs(5), secs(5), false)];
    for (max_hint, timeout, waits) in cases {
        let backend = Backend::always(Act::answer(200));
        let retry = at_once_again().wait_for_refusals().max_hint(max_hint);
        let stack = steadfast::client().timeout(timeout).retry(retry).circuit_breaker(opened());
        let watch = Stopwatch::start();
        let result = stack.service(backend.clone()).unwrap().oneshot(()).await;
        if waits {
            assert_eq!((result, watch.read()), (Ok(200), secs(5)));
        } else {
            assert_eq!(result, Err(Error::Rejected(CircuitOpen::new(Some(secs(5))).into())));
            assert_eq!(watch.read(), secs(0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_wait_for_refusals_a_retry_waits_for_a_layer_that_was_stacked_by_hand() {
    let backend = Backend::always(Act::answer(200));
    let retry = every(2, ms(1)).wait_for_refusals();
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(retry).unwrap().classify_with(Layered(AnyError)))
        .layer(CircuitBreakerLayer::new(opened()))
        .map_err(BoxError::from)
        .service(backend.clone());
    assert_eq!(service.oneshot(()).await.unwrap(), 200);
    assert_eq!(backend.arrivals(), [ms(5001)]);
}

// Refusals by others.

#[tokio::test(start_paused = true)]
async fn a_refusal_by_another_service_is_an_answer_and_is_retried() {
    // The default classifier knows no rejections. To it, the refusal of another service is an error like any other.
    let refuse_once = |calls: Arc<AtomicUsize>| {
        tower::service_fn(move |(): ()| {
            let is_first = calls.fetch_add(1, Ordering::Relaxed) == 0;
            let refused = Err(Error::<Failed>::Rejected(Overloaded::new(1, None).into()));
            async move { if is_first { refused } else { Ok(200_u16) } }
        })
    };
    let calls = Arc::new(AtomicUsize::new(0));
    let stack = steadfast::client().retry(every(2, ms(1))).keep_error().service(refuse_once(calls.clone())).unwrap();
    assert_eq!(stack.oneshot(()).await, Ok(200));
    assert_eq!(calls.load(Ordering::Relaxed), 2);

    let calls = Arc::new(AtomicUsize::new(0));
    let stack = steadfast::client().retry(every(2, ms(1))).classify_with(Layered(AnyError)).keep_error();
    let refused = stack.service(refuse_once(calls.clone())).unwrap().oneshot(()).await.unwrap_err();
    assert!(matches!(refused, Error::Rejected(Rejection::Overloaded(_))));
    assert_eq!(calls.load(Ordering::Relaxed), 1, "a refusal by a layer of this process ends the call");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_when_to_come_back_is_obeyed_up_to_the_longest_hint_and_never_early() {
    // `by_status` has a hint of a second for a 503.
    let cases = [(None, 2), (Some(secs(1)), 2), (Some(ms(999)), 1), (Some(Duration::ZERO), 1)];
    for (max_hint, attempts) in cases {
        let backend = Backend::always(Act::answer(503));
        let retry = every(2, ms(1));
        let retry = max_hint.map_or(retry.clone(), |max_hint| retry.max_hint(max_hint));
        let stack = steadfast::client().retry(retry).classify(by_status).service(backend.clone()).unwrap();
        let watch = Stopwatch::start();
        assert_eq!(stack.oneshot(()).await, Ok(503));
        assert_eq!((backend.calls(), watch.read()), (attempts, ms(1001) * (attempts as u32 - 1)), "{max_hint:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn by_default_a_server_may_ask_for_a_minute_and_no_more() {
    for (hint, attempts) in [(secs(60), 2), (secs(60) + Duration::from_nanos(1), 1), (secs(30 * 86_400), 1)] {
        let backend = Backend::always(Act::answer(503));
        let overloaded = move |_: Result<&u16, &Failed>| Outcome::Overloaded { retry_after: Some(hint) };
        let alone = RetryLayer::new(every(2, ms(1))).unwrap().typed_error().classify(overloaded);
        assert_eq!(alone.layer(backend.clone()).oneshot(()).await, Ok(503));
        assert_eq!(backend.calls(), attempts, "{hint:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_live_stack_follows_another_longest_hint() {
    let retry = every(2, ms(1)).max_hint(ms(10));
    let (layer, control) = steadfast::client().retry(retry).classify(by_status).live().unwrap();
    let backend = Backend::always(Act::answer(503));
    assert_eq!(at_once(layer.layer(backend.clone()).oneshot(())), Ok(503));
    let mut config = control.built().clone();
    assert_eq!(config.retry.as_ref().unwrap().max_hint, ms(10));
    config.retry.as_mut().unwrap().max_hint = secs(1);
    control.apply(&config).unwrap();
    assert_eq!(layer.layer(backend.clone()).oneshot(()).await, Ok(503));
    assert_eq!(backend.calls(), 3);
    config.retry.as_mut().unwrap().max_hint = secs(367 * 86_400);
    assert_eq!(control.apply(&config).unwrap_err().field(), "retry.max_hint");
}

// The worst case in the explanation of a stack.

#[tokio::test(start_paused = true)]
async fn the_explained_worst_case_holds_for_a_service_that_asks_for_the_longest_waits() {
    let backend = Backend::always(Act::answer(503).after(ms(500)));
    let overloaded = |_: Result<&u16, &Failed>| Outcome::Overloaded { retry_after: Some(secs(2)) };
    let retry = || every(3, ms(250)).max_hint(secs(2));
    let stack = steadfast::client().retry(retry()).attempt_timeout(ms(500)).classify(overloaded);
    let stack = stack.service(backend.clone()).unwrap();
    let explanation = stack.explain();
    assert_eq!(explanation.worst_case_latency(), Some(secs(2)));
    assert_eq!(explanation.worst_case_with_hints(), Some(secs(6)));
    let last = explanation.to_string().lines().last().unwrap().to_owned();
    let text = "At worst: 2s of latency (6s if the service asks for waits), 3 attempts, any number in flight.";
    assert_eq!(last, text);
    let watch = Stopwatch::start();
    assert_eq!(stack.oneshot(()).await, Ok(503));
    assert_eq!(watch.read(), secs(6));

    let bounded = steadfast::client().timeout(secs(3)).retry(retry()).attempt_timeout(ms(500)).layer().unwrap();
    assert_eq!(bounded.explain().worst_case_with_hints(), Some(secs(3)));
    let none = steadfast::client().retry(retry().max_hint(Duration::ZERO)).attempt_timeout(ms(500)).layer().unwrap();
    assert_eq!(none.explain().worst_case_with_hints(), Some(secs(2)));
}

#[tokio::test(start_paused = true)]
async fn the_explained_worst_case_includes_waits_for_own_refusals() {
    let breaker = opened();
    let backend = Backend::always(Act::answer(200).after(ms(500)));
    let retry = || at_once_again().wait_for_refusals().max_hint(secs(5));
    let client = || steadfast::client().retry(retry()).attempt_timeout(ms(500));
    let stack = client().circuit_breaker(breaker).service(backend.clone()).unwrap();
    let watch = Stopwatch::start();
    assert_eq!(stack.clone().oneshot(()).await, Ok(200));
    assert_eq!(watch.read(), ms(5500));
    let explanation = stack.explain();
    // At worst, both attempts take 500 ms, and the wait between them takes 5 s.
    assert_eq!(explanation.worst_case_latency(), Some(secs(6)));
    assert_eq!(explanation.worst_case_with_hints(), Some(secs(6)));
    let text = explanation.to_string();
    assert!(text.contains("1. retry: up to 2 attempts, no waits, waits for refusals, without a budget\n"), "{text}");
    assert!(text.contains("At worst: 6s of latency, 2 attempts"), "{text}");

    let bounded = client().timeout(secs(3)).layer().unwrap().explain();
    assert_eq!(bounded.worst_case_with_hints(), Some(secs(3)));
    assert_eq!(bounded.full_attempts(), None, "both fit, but for the waits");
}
