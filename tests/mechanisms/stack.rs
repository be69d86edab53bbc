//! The order of the layers in a client and in a server, shown by its effects; the explanation of a stack; and layers
//! stacked by hand.

use crate::support::{Act, Backend, Failed, Stopwatch, ms, secs};
use futures::{FutureExt, future::join_all};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use steadfast::{
    CallContext, ConfigError, Criticality, Error, Rejection,
    circuit_breaker::{Breaker, BreakerState, CircuitBreakerLayer},
    classify::{AnyError, Layered},
    error::CircuitOpen,
    load_level::{LoadLevelLayer, Queue},
    load_shed::{Limiter, LoadShedLayer},
    rate_limit::{RateLimit, RateLimitLayer, TokenBucket},
    retry::{Backoff, Jitter, Retry, RetryBudget, RetryBudgetBuilder, RetryLayer},
    stack::Explanation,
    timeout::TimeoutLayer,
};
use tokio::{
    spawn,
    time::{Instant, sleep},
};
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt};

fn every(attempts: u32, wait: Duration) -> Retry {
    Retry::new(attempts).backoff(Backoff::exponential(wait, wait).jitter(Jitter::None)).without_budget()
}

/// Ten tokens, and no refill for an hour.
fn ten_tokens() -> TokenBucket {
    TokenBucket::builder(10, secs(36_000)).build().unwrap()
}

/// Counts over a minute, and opens only if each of a million calls failed.
fn counting() -> Breaker {
    Breaker::builder().failure_rate(1.0, secs(60)).minimum_calls(1_000_000).build().unwrap()
}

/// Just opened, for 5 s.
fn opened() -> Breaker {
    let breaker = Breaker::builder().consecutive_failures(1).open_for(secs(5)).probes(1).build().unwrap();
    breaker.try_acquire().unwrap().failure();
    breaker
}

fn tokens(bucket: &TokenBucket) -> u64 {
    bucket.available_at(Instant::now())
}

fn mechanism<E>(error: &Error<E>) -> &'static str {
    error.rejection().map_or("service", Rejection::mechanism)
}

// The order of a client.

#[tokio::test(start_paused = true)]
async fn an_open_breaker_spends_no_tokens_and_takes_no_place() {
    let (bucket, limiter) = (ten_tokens(), Limiter::fixed(1).unwrap());
    let _held = limiter.try_acquire().unwrap();
    let stack = steadfast::client()
        .circuit_breaker(opened())
        .rate_limit(bucket.clone())
        .load_shed(limiter.clone())
        .service(Backend::always(Act::answer(200)))
        .unwrap();
    for _ in 0..100 {
        assert_eq!(mechanism(&stack.clone().oneshot(()).await.unwrap_err()), "circuit_breaker");
    }
    assert_eq!((tokens(&bucket), limiter.in_flight()), (10, 1));
    // Even without tokens and places, the breaker refuses first.
    bucket.try_acquire(10).unwrap();
    assert_eq!(mechanism(&stack.oneshot(()).await.unwrap_err()), "circuit_breaker");
}

#[tokio::test(start_paused = true)]
async fn a_call_over_the_rate_takes_no_place() {
    let (bucket, limiter) = (ten_tokens(), Limiter::fixed(1).unwrap());
    bucket.try_acquire(10).unwrap();
    let _held = limiter.try_acquire().unwrap();
    let stack = steadfast::client().rate_limit(bucket).load_shed(limiter.clone());
    let error = stack.service(Backend::always(Act::answer(200))).unwrap().oneshot(()).await.unwrap_err();
    assert_eq!(mechanism(&error), "rate_limit");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_returned_if_the_limit_has_no_place() {
    let (bucket, limiter) = (ten_tokens(), Limiter::fixed(1).unwrap());
    let backend = Backend::always(Act::answer(200).after(secs(1)));
    let stack = steadfast::client().rate_limit(bucket.clone()).load_shed(limiter).service(backend.clone()).unwrap();
    let ends = join_all((0..100).map(|_| stack.clone().oneshot(()))).await;
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 1);
    assert!(ends.iter().flat_map(|end| end.as_ref().err()).all(|error| mechanism(error) == "load_shed"));
    assert_eq!((backend.calls(), tokens(&bucket)), (1, 9));
}

#[tokio::test(start_paused = true)]
async fn refusals_of_the_stack_itself_are_no_evidence_against_the_service() {
    let (breaker, bucket, limiter) = (counting(), ten_tokens(), Limiter::fixed(1).unwrap());
    let held = limiter.try_acquire().unwrap();
    let stack = steadfast::client()
        .circuit_breaker(breaker.clone())
        .rate_limit(bucket.clone())
        .load_shed(limiter.clone())
        .service(Backend::always(Act::answer(200)))
        .unwrap();
    for _ in 0..100 {
        assert_eq!(mechanism(&stack.clone().oneshot(()).await.unwrap_err()), "load_shed");
    }
    drop(held);
    bucket.try_acquire(10).unwrap();
    for _ in 0..100 {
        assert_eq!(mechanism(&stack.clone().oneshot(()).await.unwrap_err()), "rate_limit");
    }
    assert_eq!(breaker.counts_at(Instant::now()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_between_two_attempts_holds_neither_token_nor_place() {
    let (bucket, limiter) = (ten_tokens(), Limiter::fixed(1).unwrap());
    let backend = Backend::script([Act::fail().after(secs(1))], Act::answer(200).after(secs(1)));
    let stack = steadfast::client()
        .retry(every(2, secs(10)))
        .rate_limit(bucket.clone())
        .load_shed(limiter.clone())
        .service(backend.clone())
        .unwrap();
    let call = spawn(stack.clone().oneshot(()));
    sleep(ms(500)).await;
    assert_eq!((tokens(&bucket), limiter.in_flight()), (9, 1));
    sleep(secs(1)).await;
    // The first attempt has spent its token. The second has not taken one yet.
    assert_eq!((tokens(&bucket), limiter.in_flight()), (9, 0));
    assert_eq!(stack.oneshot(()).await, Ok(200));
    assert_eq!(call.await.unwrap(), Ok(200));
    assert_eq!((tokens(&bucket), limiter.in_flight()), (7, 0));
    assert_eq!(backend.arrivals(), [ms(0), ms(1500), ms(11_000)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_a_token_holds_no_place() {
    let bucket = TokenBucket::builder(1, secs(10)).build().unwrap();
    bucket.try_acquire(1).unwrap();
    let limiter = Limiter::fixed(1).unwrap();
    let stack =
        steadfast::client().retry(every(2, ms(1)).wait_for_refusals()).rate_limit(bucket).load_shed(limiter.clone());
    let call = spawn(stack.service(Backend::always(Act::answer(200))).unwrap().oneshot(()));
    sleep(secs(5)).await;
    assert_eq!(limiter.in_flight(), 0);
    assert_eq!(call.await.unwrap(), Ok(200));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_its_own_limit_and_the_whole_call_has_one() {
    let backend = Backend::always(Act::hang());
    let stack = steadfast::client().timeout(secs(5)).retry(every(3, ms(500))).attempt_timeout(secs(1));
    let watch = Stopwatch::start();
    let error = stack.service(backend.clone()).unwrap().oneshot(()).await.unwrap_err();
    assert_eq!(mechanism(&error), "timeout");
    assert_eq!(backend.arrivals(), [ms(0), ms(1500), ms(3000)]);
    assert_eq!(watch.read(), secs(4));
}

#[tokio::test(start_paused = true)]
async fn an_outage_opens_the_breaker_through_all_layers_and_the_service_is_left_alone() {
    let breaker = Breaker::builder().build().unwrap();
    let backend = Backend::always(Act::fail().after(ms(5)));
    let stack = steadfast::client()
        .timeout(secs(4))
        .retry(Retry::new(3).random(steadfast::Random::seeded(1)))
        .circuit_breaker(breaker.clone())
        .load_shed(Limiter::fixed(1000).unwrap())
        .attempt_timeout(secs(1))
        .service(backend.clone())
        .unwrap();
    for _ in 0..1000 {
        stack.clone().oneshot(()).await.unwrap_err();
    }
    // The twentieth failure opens the circuit. No call waits until the circuit admits probes, five seconds later.
    assert_eq!((breaker.state(), backend.calls()), (BreakerState::Open, 20));
}

#[tokio::test(start_paused = true)]
async fn the_service_of_a_client_sees_the_number_and_the_deadline_of_its_attempt() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let began = Instant::now();
    let service = tower::service_fn({
        let seen = seen.clone();
        move |(): ()| {
            let seen = seen.clone();
            async move {
                sleep(ms(100)).await;
                let context = CallContext::current();
                let deadline = context.deadline().map(|deadline| deadline - began);
                seen.lock().unwrap().push((context.attempt(), deadline, context.criticality()));
                Err::<u16, _>(Failed)
            }
        }
    });
    let context = CallContext::new().with_criticality(Criticality::Sheddable).with_attempt(7);
    let stack = steadfast::client().timeout(secs(3)).retry(every(3, secs(1))).attempt_timeout(ms(300));
    context.scope(stack.service(service.clone()).unwrap().oneshot(())).await.unwrap_err();
    let sheddable = Criticality::Sheddable;
    let expected = [(0, ms(300), sheddable), (1, ms(1400), sheddable), (2, ms(2500), sheddable)];
    assert_eq!(seen.lock().unwrap().drain(..).collect::<Vec<_>>(), expected.map(|(n, at, class)| (n, Some(at), class)));

    // A client with only a timeout passes its deadline on; a client without layers passes on its caller's.
    let began = began + ms(2300);
    assert_eq!(Instant::now(), began);
    let stack = steadfast::client().timeout(secs(3)).service(service.clone()).unwrap();
    context.scope(stack.oneshot(())).await.unwrap_err();
    let stack = steadfast::client().service(service).unwrap();
    context.scope(stack.oneshot(())).await.unwrap_err();
    assert_eq!(*seen.lock().unwrap(), [(7, Some(ms(5300)), sheddable), (7, None, sheddable)]);
}

#[tokio::test(start_paused = true)]
async fn an_inner_client_ends_with_the_outer_attempt() {
    let backend = Backend::always(Act::hang());
    let inner = steadfast::client().timeout(secs(60)).keep_error();
    let inner = inner.service(ServiceExt::<()>::map_err(backend.clone(), Error::<Failed>::Service)).unwrap();
    let outer = steadfast::client().retry(every(2, secs(1))).attempt_timeout(secs(2)).keep_error();
    let watch = Stopwatch::start();
    let error = outer.service(inner).unwrap().oneshot(()).await.unwrap_err();
    let Error::Rejected(Rejection::TimedOut(details)) = error else { panic!("{error:?}") };
    assert_eq!(details.limit(), None, "the inner one ended by the deadline that it inherited");
    assert_eq!((backend.calls(), watch.read()), (2, secs(5)));
}

// The order of a server.

#[tokio::test(start_paused = true)]
async fn on_a_server_a_caller_over_its_rate_takes_no_place_and_a_full_server_returns_the_token() {
    let (bucket, limiter) = (ten_tokens(), Limiter::fixed(1).unwrap());
    let stack = steadfast::server()
        .rate_limit(bucket.clone())
        .load_shed(limiter.clone())
        .timeout(secs(1))
        .service(Backend::always(Act::answer(200)))
        .unwrap();
    let held = limiter.try_acquire().unwrap();
    assert_eq!(mechanism(&stack.clone().oneshot(()).await.unwrap_err()), "load_shed");
    assert_eq!(tokens(&bucket), 10);
    bucket.try_acquire(10).unwrap();
    assert_eq!(mechanism(&stack.clone().oneshot(()).await.unwrap_err()), "rate_limit");
    drop(held);
    assert_eq!(mechanism(&stack.oneshot(()).await.unwrap_err()), "rate_limit");
    assert_eq!(limiter.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn on_a_server_a_hanging_handler_returns_its_place_at_its_timeout() {
    let limiter = Limiter::fixed(1).unwrap();
    let backend = Backend::script([Act::hang()], Act::answer(200));
    let stack = steadfast::server()
        .load_shed(limiter.clone())
        .timeout(secs(1))
        .respond_with(|rejection: Rejection| match rejection {
            Rejection::TimedOut(_) => 504,
            _ => 503,
        })
        .service(backend)
        .unwrap();
    let hung = spawn(stack.clone().oneshot(()));
    sleep(ms(1)).await;
    assert_eq!(stack.clone().oneshot(()).await, Ok(503));
    assert_eq!(hung.await.unwrap(), Ok(504));
    assert_eq!(stack.oneshot(()).await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn on_a_server_a_call_that_waits_holds_a_place_of_the_load_shed_and_its_token() {
    let (bucket, limiter, queue) = (ten_tokens(), Limiter::fixed(2).unwrap(), Queue::builder(1, 5).build().unwrap());
    let stack = steadfast::server()
        .rate_limit(bucket.clone())
        .load_shed(limiter.clone())
        .load_level(queue.clone())
        .service(Backend::always(Act::answer(200)))
        .unwrap();
    let held = queue.try_acquire().unwrap();
    let waiting = [(); 2].map(|()| spawn(stack.clone().oneshot(())));
    sleep(ms(1)).await;
    assert_eq!((limiter.in_flight(), tokens(&bucket), queue.readings().waiting), (2, 8, 2));
    assert_eq!(mechanism(&stack.clone().oneshot(()).await.unwrap_err()), "load_shed");
    // A call that waits too long returns its place and its token.
    let error = join_all(waiting).await.into_iter().map(|end| end.unwrap().unwrap_err()).next_back().unwrap();
    assert_eq!(mechanism(&error), "load_level");
    assert_eq!((limiter.in_flight(), tokens(&bucket), queue.readings().waiting), (0, 10, 0));
    drop(held);
    assert_eq!(stack.oneshot(()).await, Ok(200));
    assert_eq!((limiter.in_flight(), tokens(&bucket), queue.in_service()), (0, 9, 0));
}

#[tokio::test(start_paused = true)]
async fn on_a_server_the_timeout_starts_after_the_wait() {
    let queue = Queue::builder(1, 10).max_wait(secs(10)).build().unwrap();
    let backend = Backend::script([Act::answer(200).after(ms(900)), Act::hang()], Act::answer(200).after(ms(900)));
    let stack = steadfast::server().load_level(queue.clone()).timeout(secs(1)).service(backend.clone()).unwrap();
    let watch = Stopwatch::start();
    let ends = join_all((0..3).map(|_| stack.clone().oneshot(()))).await;
    assert_eq!(backend.arrivals(), [ms(0), ms(900), ms(1900)]);
    assert_eq!((ends[0].clone(), ends[2].clone(), watch.read()), (Ok(200), Ok(200), ms(2800)));
    let hung = ends[1].as_ref().unwrap_err();
    assert!(matches!(hung.rejection(), Some(Rejection::TimedOut(details)) if details.limit() == Some(secs(1))));
    assert_eq!(queue.in_service(), 0, "the place of the call that was ended went to the next one");
}

// Building.

#[tokio::test(start_paused = true)]
async fn the_order_in_which_the_slots_are_filled_does_not_matter() {
    let breaker = counting();
    let one_way = steadfast::client()
        .timeout(secs(9))
        .retry(every(2, ms(1)))
        .circuit_breaker(breaker.clone())
        .rate_limit(ten_tokens())
        .load_shed(Limiter::fixed(7).unwrap())
        .attempt_timeout(secs(1))
        .layer()
        .unwrap();
    let the_other = steadfast::client()
        .attempt_timeout(secs(1))
        .load_shed(Limiter::fixed(7).unwrap())
        .rate_limit(ten_tokens())
        .circuit_breaker(breaker)
        .retry(every(2, ms(1)))
        .timeout(secs(9))
        .layer()
        .unwrap();
    assert_eq!(one_way.explain().to_string(), the_other.explain().to_string());
    let names: Vec<_> = one_way.explain().layers().map(|(name, _)| name).collect();
    assert_eq!(names, ["timeout", "retry", "circuit breaker", "rate limit", "load shed", "attempt timeout"]);

    let queue = || Queue::builder(5, 20).build().unwrap();
    let shed = || Limiter::fixed(7).unwrap();
    let one_way = steadfast::server().timeout(secs(1)).load_level(queue()).load_shed(shed()).rate_limit(ten_tokens());
    let other = steadfast::server().rate_limit(ten_tokens()).load_shed(shed()).timeout(secs(1)).load_level(queue());
    let (one_way, other) = (one_way.layer().unwrap().explain(), other.layer().unwrap().explain());
    assert_eq!(one_way.to_string(), other.to_string());
    let names: Vec<_> = one_way.layers().map(|(name, _)| name).collect();
    assert_eq!(names, ["rate limit", "load shed", "load level", "timeout"]);
}

#[tokio::test(start_paused = true)]
async fn a_stack_without_layers_changes_nothing() {
    let stack = steadfast::client().service(Backend::script([Act::answer(200)], Act::fail())).unwrap();
    assert_eq!(stack.clone().oneshot(()).await, Ok(200));
    assert_eq!(stack.oneshot(()).await, Err(Error::Service(Failed)));
    let server = steadfast::server().service(Backend::always(Act::answer(200))).unwrap();
    assert_eq!(server.oneshot(()).await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn a_full_client_explains_itself() {
    let stack = steadfast::client()
        .timeout(secs(6))
        .retry(Retry::new(3))
        .circuit_breaker(Breaker::builder().consecutive_failures(5).failure_rate(0.25, secs(30)).build().unwrap())
        .rate_limit(TokenBucket::builder(100, secs(1)).burst(20).build().unwrap())
        .load_shed(Limiter::fixed(64).unwrap())
        .attempt_timeout(ms(600))
        .service(Backend::always(Act::answer(200)))
        .unwrap();
    let explanation = stack.explain();
    assert_eq!(
        explanation.to_string(),
        "\
A call passes, from the outside in:
  1. timeout: 6s
  2. retry: up to 3 attempts, waits of at most 50ms, doubling up to 2s, full jitter, budget: ratio 0.1, floor 1 per 100s, cap 10, initial below 1
  3. circuit breaker: opens at 5 failures in a row or at 25% failures of at least 20 calls in 30s, for 5s growing to 60s, then 3 probes
  4. rate limit: 100 per 1s, bursts of 20
  5. load shed: at most 64 in flight
  6. attempt timeout: 600ms
At worst: 1.95s of latency (6s if the service asks for waits), 3 attempts, 64 in flight.
"
    );
    assert_eq!(explanation.worst_case_latency(), Some(ms(1950)));
    assert_eq!((explanation.attempts(), explanation.max_in_flight()), (3, Some(64)));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_lets_calls_wait_explains_itself() {
    let queue = Queue::builder(64, 200).max_wait(ms(400)).build().unwrap();
    let server = steadfast::server()
        .load_shed(Limiter::fixed(300).unwrap())
        .load_level(queue.clone())
        .timeout(ms(600))
        .layer()
        .unwrap();
    let explanation = server.explain();
    assert_eq!(
        explanation.to_string(),
        "\
A call passes, from the outside in:
  1. load shed: at most 300 in flight
  2. load level: 64 at once, 200 waiting for up to 400ms, oldest first, for up to 0.5 of the time until their deadline
  3. timeout: 600ms
At worst: 1s of latency, 1 attempt, 64 in flight.
"
    );
    assert_eq!((explanation.worst_case_latency(), explanation.max_in_flight()), (Some(secs(1)), Some(64)));
    // A changed queue explains its new values.
    queue.set_concurrency(500).unwrap();
    queue.set_max_wait(secs(2)).unwrap();
    let explanation = server.explain();
    assert_eq!((explanation.worst_case_latency(), explanation.max_in_flight()), (Some(ms(2600)), Some(300)));
    let unlimited = steadfast::server().load_level(queue).layer().unwrap().explain();
    assert_eq!((unlimited.worst_case_latency(), unlimited.max_in_flight()), (None, Some(500)));
}

/// Returns the last line of an explanation.
fn at_worst(explanation: &Explanation) -> String {
    explanation.to_string().lines().last().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn the_worst_case_of_a_call_follows_from_all_layers() {
    let explain = steadfast::client().layer().unwrap().explain();
    assert_eq!(at_worst(&explain), "At worst: unbounded latency, 1 attempt, any number in flight.");
    assert_eq!((explain.worst_case_latency(), explain.attempts(), explain.max_in_flight()), (None, 1, None));

    // Without an attempt timeout, only the timeout of the call bounds the latency.
    let explain = steadfast::client().retry(every(4, secs(1))).layer().unwrap().explain();
    assert_eq!((explain.worst_case_latency(), explain.attempts()), (None, 4));
    let explain = steadfast::client().timeout(secs(2)).retry(every(4, secs(1))).layer().unwrap().explain();
    assert_eq!(explain.worst_case_latency(), Some(secs(2)));
    assert_eq!(at_worst(&explain), "At worst: 2s of latency, 4 attempts, any number in flight.");

    let explain = steadfast::client().retry(every(4, secs(1))).attempt_timeout(secs(2)).layer().unwrap().explain();
    assert_eq!(explain.worst_case_latency(), Some(secs(4 * 2 + 3)));
}

#[tokio::test(start_paused = true)]
async fn a_failure_rate_is_explained_in_the_percents_that_were_configured() {
    for (rate, text) in [(0.5, "50%"), (0.07, "7%"), (0.29, "29%"), (0.125, "12.5%"), (1.0, "100%"), (1e-6, "0.0001%")]
    {
        let breaker = Breaker::builder().failure_rate(rate, secs(10)).build().unwrap();
        let explanation = steadfast::client().circuit_breaker(breaker).layer().unwrap().explain();
        let (_, breaker) = explanation.layers().next().unwrap();
        assert!(breaker.starts_with(&format!("opens at {text} failures")), "{breaker}");
    }
}

fn error_of<T>(built: Result<T, ConfigError>) -> (&'static str, String) {
    let Err(error) = built else { panic!("built") };
    (error.field(), error.value().to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_timeout_shorter_than_all_attempts_says_how_many_of_them_fit() {
    // Three attempts of 600 ms, and backoffs of 100 ms.
    let explain = |limit| {
        let stack = steadfast::client().timeout(limit).retry(every(3, ms(100))).attempt_timeout(ms(600));
        stack.layer().unwrap().explain()
    };
    for (limit, fitting, text) in [
        (ms(2000), None, "At worst: 2s of latency, 3 attempts, any number in flight."),
        (ms(1999), Some(2), "2 of 3 full attempts fit into the timeout of 1.999s."),
        (ms(1300), Some(2), "2 of 3 full attempts fit into the timeout of 1.3s."),
        (ms(1299), Some(1), "1 of 3 full attempts fits into the timeout of 1.299s."),
        (ms(600), Some(1), "1 of 3 full attempts fits into the timeout of 600ms."),
    ] {
        let explanation = explain(limit);
        assert_eq!((explanation.full_attempts(), &*at_worst(&explanation)), (fitting, text));
        assert_eq!((explanation.worst_case_latency(), explanation.attempts()), (Some(limit), 3));
    }

    // A wait for the rate limit is part of an attempt.
    let bucket = TokenBucket::builder(1, secs(1)).max_wait(secs(3)).build().unwrap();
    let waits = || RateLimit::new(bucket.clone()).wait();
    let stack = steadfast::client().timeout(ms(3500)).rate_limit(waits()).attempt_timeout(ms(600));
    assert_eq!(at_worst(&stack.layer().unwrap().explain()), "0 of 1 full attempt fit into the timeout of 3.5s.");
}

#[tokio::test(start_paused = true)]
async fn a_retry_explains_the_numbers_of_its_budget() {
    let explain = |retry| {
        let explanation = steadfast::client().retry(retry).layer().unwrap().explain();
        explanation.layers().next().unwrap().1.rsplit_once("full jitter, ").unwrap().1.to_owned()
    };
    let with = |budget: RetryBudgetBuilder| Retry::new(3).budget(budget.build().unwrap());
    assert_eq!(explain(Retry::new(3)), "budget: ratio 0.1, floor 1 per 100s, cap 10, initial below 1");
    let budget = RetryBudget::builder().ratio(0.25).no_floor().cap(7).initial(3);
    assert_eq!(explain(with(budget)), "budget: ratio 0.25, no floor, cap 7, initial 3");
    assert_eq!(explain(Retry::new(3).without_budget()), "without a budget");
}

#[tokio::test(start_paused = true)]
async fn a_new_program_with_initial_retries_retries_its_first_failure() {
    for (initial, calls) in [(0, 1), (1, 2), (2, 3)] {
        let backend = Backend::always(Act::fail());
        let budget = RetryBudget::builder().initial(initial).no_floor().ratio(0.0).build().unwrap();
        let stack = steadfast::client().retry(every(3, ms(100)).budget(budget)).service(backend.clone()).unwrap();
        stack.oneshot(()).await.unwrap_err();
        assert_eq!(backend.calls(), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn each_slot_is_checked_by_its_own_rule() {
    let zero = Duration::ZERO;
    let refused = |field, value: &str| (field, value.to_owned());
    assert_eq!(error_of(steadfast::client().timeout(zero).layer()), refused("timeout", "0ns"));
    assert_eq!(error_of(steadfast::client().attempt_timeout(zero).layer()), refused("attempt_timeout", "0ns"));
    assert_eq!(error_of(steadfast::server().timeout(zero).layer()), refused("timeout", "0ns"));
    assert_eq!(error_of(steadfast::client().retry(Retry::new(0)).layer()), refused("retry.attempts", "0"));
    let upside_down = Retry::new(2).backoff(Backoff::exponential(secs(2), secs(1)));
    assert_eq!(error_of(steadfast::client().retry(upside_down).layer()), refused("retry.backoff.base", "2s"));
}

// Layers stacked by hand.

#[tokio::test(start_paused = true)]
async fn stacked_by_hand_an_inner_breakers_refusal_is_no_evidence_to_an_outer_one() {
    let (outer, inner) = (counting(), opened());
    let backend = Backend::always(Act::answer(200));
    let service = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(outer.clone()).classify_with(Layered(AnyError)))
        .layer(CircuitBreakerLayer::new(inner.clone()))
        .map_err(Error::Service)
        .service(backend.clone());
    for _ in 0..100 {
        let error: Error<Failed> = service.clone().oneshot(()).await.unwrap_err();
        assert_eq!(error, Error::Rejected(CircuitOpen::new(Some(secs(5))).into()));
    }
    assert_eq!(outer.counts_at(Instant::now()), (0, 0));
    // Answers of the service itself still count.
    sleep(secs(5)).await;
    service.clone().oneshot(()).await.unwrap();
    backend.becomes(Act::fail());
    assert_eq!(service.oneshot(()).await, Err(Error::Service(Failed)));
    assert_eq!(outer.counts_at(Instant::now()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn stacked_by_hand_over_boxed_errors_an_inner_refusal_is_no_evidence_either() {
    let (outer, inner) = (counting(), opened());
    let backend = Backend::always(Act::fail());
    let service = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(outer.clone()).classify_with(Layered(AnyError)))
        .layer(CircuitBreakerLayer::new(inner))
        .map_err(BoxError::from)
        .service(backend.clone());
    let error: BoxError = service.clone().oneshot(()).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Rejection::CircuitOpen(_))));
    assert_eq!(outer.counts_at(Instant::now()), (0, 0));
    sleep(secs(5)).await;
    let error = service.oneshot(()).await.unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&Failed));
    assert_eq!(outer.counts_at(Instant::now()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn stacked_by_hand_a_rejection_is_found_inside_wrapping_errors() {
    #[derive(Debug, thiserror::Error)]
    #[error("while calling the payments")]
    struct Context(#[source] BoxError);

    let (outer, inner) = (counting(), opened());
    let service = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(outer.clone()).classify_with(Layered(AnyError)))
        .map_err(|error: BoxError| BoxError::from(Context(error)))
        .layer(CircuitBreakerLayer::new(inner))
        .map_err(BoxError::from)
        .service(Backend::always(Act::answer(200)));
    service.oneshot(()).await.unwrap_err();
    assert_eq!(outer.counts_at(Instant::now()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn without_layered_an_inner_refusal_is_an_error_like_any_other() {
    let (outer, inner) = (counting(), opened());
    let service = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(outer.clone()))
        .layer(CircuitBreakerLayer::new(inner))
        .map_err(BoxError::from)
        .service(Backend::always(Act::answer(200)));
    service.oneshot(()).await.unwrap_err();
    assert_eq!(outer.counts_at(Instant::now()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn stacked_by_hand_a_refusal_of_an_inner_layer_ends_the_call_at_once() {
    let typed = ServiceBuilder::new()
        .layer(RetryLayer::new(every(2, ms(1))).unwrap().classify_with(Layered(AnyError)))
        .layer(CircuitBreakerLayer::new(opened()))
        .map_err(Error::<Failed>::Service)
        .service(Backend::always(Act::answer(200)));
    let error = typed.oneshot(()).now_or_never().expect("no wait").unwrap_err();
    assert_eq!(mechanism(&error), "circuit_breaker");

    let boxed = ServiceBuilder::new()
        .layer(RetryLayer::new(every(2, ms(1))).unwrap().classify_with(Layered(AnyError)))
        .layer(CircuitBreakerLayer::new(opened()))
        .map_err(BoxError::from)
        .service(Backend::always(Act::answer(200)));
    let error = boxed.oneshot(()).now_or_never().expect("no wait").unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Rejection::CircuitOpen(_))));
}

#[tokio::test(start_paused = true)]
async fn stacked_by_hand_a_retry_does_not_repeat_a_refusal_without_a_hint() {
    let limiter = Limiter::fixed(1).unwrap();
    let _held = limiter.try_acquire().unwrap();
    let service = ServiceBuilder::new()
        .layer(RetryLayer::new(every(3, secs(1))).unwrap().classify_with(Layered(AnyError)))
        .layer(LoadShedLayer::new(limiter.clone()))
        .map_err(BoxError::from)
        .service(Backend::always(Act::answer(200)));
    let watch = Stopwatch::start();
    let error = service.oneshot(()).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Rejection::Overloaded(_))));
    assert_eq!(watch.read(), secs(0));
}

#[tokio::test(start_paused = true)]
async fn all_client_layers_stacked_by_hand_pass_answers_and_errors_unchanged() {
    let backend = Backend::script([Act::answer(200)], Act::fail());
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(secs(9)).unwrap())
        .layer(RetryLayer::new(every(2, ms(1))).unwrap().classify_with(Layered(AnyError)))
        .layer(CircuitBreakerLayer::new(counting()).classify_with(Layered(AnyError)))
        .layer(RateLimitLayer::new(ten_tokens()))
        .layer(LoadShedLayer::new(Limiter::fixed(1).unwrap()))
        .layer(TimeoutLayer::new(secs(1)).unwrap())
        .map_err(Error::Service)
        // States the type of the request. Inferring it among all requests that the backend accepts takes the compiler
        // minutes.
        .service(backend.clone().map_request(|request: ()| request));
    assert_eq!(service.clone().oneshot(()).await, Ok::<_, Error<Failed>>(200));
    assert_eq!(service.oneshot(()).await, Err(Error::Service(Failed)));
    assert_eq!(backend.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn stacked_by_hand_a_refusal_of_an_inner_queue_is_no_evidence_to_a_breaker() {
    let (breaker, queue) = (counting(), Queue::builder(1, 1).build().unwrap());
    let _held = queue.try_acquire().unwrap();
    let service = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker.clone()).classify_with(Layered(AnyError)))
        .layer(LoadLevelLayer::new(queue))
        .map_err(Error::Service)
        .service(Backend::always(Act::answer(200)));
    let ends: [Result<u16, Error<Failed>>; 2] =
        join_all([service.clone().oneshot(()), service.oneshot(())]).await.try_into().unwrap();
    assert_eq!(ends.map(|end| mechanism(&end.unwrap_err())), ["load_level"; 2]);
    assert_eq!(breaker.counts_at(Instant::now()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stack_as_a_layer_shares_its_state_among_all_its_services() {
    let stack = steadfast::client().load_shed(Limiter::fixed(2).unwrap()).layer().unwrap();
    let routes: Vec<_> = (0..10).map(|_| stack.layer(Backend::always(Act::answer(200).after(secs(1))))).collect();
    let ends = join_all(routes.into_iter().map(|route| route.oneshot(()))).await;
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 2);
}
