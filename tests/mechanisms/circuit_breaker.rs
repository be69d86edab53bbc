//! How a breaker judges the calls that pass through its layer.

use crate::support::{Act, Backend, Failed, Stopwatch, by_status, ms, secs};
use futures::{FutureExt, future::join_all, poll};
use std::{
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};
use steadfast::{
    Error, Outcome, Random, Rejection,
    circuit_breaker::{Breaker, BreakerBuilder, BreakerState, CircuitBreakerLayer, Permit},
    classify::AnyError,
    error::CircuitOpen,
    load_shed::Limiter,
    rate_limit::{RateLimit, TokenBucket},
    retry::{Backoff, Retry},
    shell::TypedError,
};
use tokio::{
    spawn,
    task::yield_now,
    time::{Instant, advance, sleep, timeout},
};
use tower::{Layer, ServiceExt, limit::ConcurrencyLimit, service_fn};

type Result<T = u16, E = Error<Failed>> = std::result::Result<T, E>;

fn layer(breaker: &Breaker) -> CircuitBreakerLayer<AnyError, TypedError> {
    CircuitBreakerLayer::new(breaker.clone()).typed_error()
}

/// Counts over a minute, and never opens: for tests of the evidence.
fn counting() -> BreakerBuilder {
    Breaker::builder().failure_rate(1.0, secs(60)).minimum_calls(1_000_000)
}

/// Calls and failures.
fn counts(breaker: &Breaker) -> (u64, u64) {
    breaker.counts_at(Instant::now())
}

/// Opens at the first failure, for 5 s each time, then needs this number of probes.
fn touchy(probes: u32) -> BreakerBuilder {
    Breaker::builder().consecutive_failures(1).open_for(secs(5)).max_open_for(secs(5)).probes(probes)
}

/// Returns a breaker that has just opened.
fn opened(builder: BreakerBuilder) -> Breaker {
    let breaker = builder.build().unwrap();
    breaker.try_acquire().unwrap().failure();
    assert_eq!(breaker.state(), BreakerState::Open);
    breaker
}

fn refused(retry_after: Option<Duration>) -> Result {
    Err(Error::Rejected(CircuitOpen::new(retry_after).into()))
}

// Opening and closing.

#[tokio::test(start_paused = true)]
async fn the_circuit_opens_refuses_probes_and_closes() {
    let breaker = touchy(2).consecutive_failures(3).build().unwrap();
    let backend = Backend::always(Act::fail());
    let service = layer(&breaker).layer(backend.clone());
    for _ in 0..3 {
        assert_eq!(service.clone().oneshot(()).await, Err(Error::Service(Failed)));
    }
    assert_eq!(service.clone().oneshot(()).await, refused(Some(secs(5))));
    sleep(secs(2)).await;
    assert_eq!(service.clone().oneshot(()).await, refused(Some(secs(3))));
    assert_eq!(backend.calls(), 3);

    sleep(secs(3)).await;
    assert_eq!(service.clone().oneshot(()).await, Err(Error::Service(Failed)));
    assert_eq!(service.clone().oneshot(()).await, refused(Some(secs(5))));

    sleep(secs(5)).await;
    backend.becomes(Act::answer(200));
    assert_eq!(service.clone().oneshot(()).await, Ok(200));
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert_eq!(service.clone().oneshot(()).await, Ok(200));
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert_eq!(backend.calls(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_readiness_is_a_failure() {
    let breaker = counting().build().unwrap();
    let service = layer(&breaker).layer(Backend::always(Act::answer(200)).broken());
    assert_eq!(service.oneshot(()).await, Err(Error::Service(Failed)));
    assert_eq!(counts(&breaker), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn each_outcome_counts_as_documented() {
    for (overload_is_failure, status, expected) in [
        (false, 200, (1, 0)),
        (false, 400, (1, 0)),
        (false, 404, (0, 0)),
        (false, 429, (1, 0)),
        (false, 500, (1, 1)),
        (false, 503, (1, 0)),
        (true, 200, (1, 0)),
        (true, 429, (1, 1)),
        (true, 503, (1, 1)),
    ] {
        let breaker = counting().overload_is_failure(overload_is_failure).build().unwrap();
        let service = layer(&breaker).classify(by_status).layer(Backend::always(Act::answer(status)));
        assert_eq!(service.oneshot(()).await, Ok(status));
        assert_eq!(counts(&breaker), expected, "{status}, {overload_is_failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_sheds_nine_calls_of_ten_does_not_open_it() {
    let breaker = Breaker::builder().consecutive_failures(5).failure_rate(0.5, secs(10)).build().unwrap();
    let acts = (0..1000).map(|call| Act::answer(if call % 10 == 0 { 200 } else { 429 }));
    let backend = Backend::script(acts, Act::answer(200));
    let service = layer(&breaker).classify(by_status).layer(backend.clone());
    for _ in 0..1000 {
        service.clone().oneshot(()).await.unwrap();
    }
    assert_eq!((breaker.state(), backend.calls()), (BreakerState::Closed, 1000));
}

// Dropped calls.

#[tokio::test(start_paused = true)]
async fn by_default_a_dropped_call_of_any_duration_does_not_count() {
    let breaker = counting().build().unwrap();
    let service = layer(&breaker).layer(Backend::always(Act::hang()));
    timeout(secs(3600), service.oneshot(())).await.unwrap_err();
    assert_eq!(counts(&breaker), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_after_the_configured_time_is_a_failure_and_one_dropped_before_is_not() {
    let breaker = counting().cancelled_is_failure_after(secs(1)).build().unwrap();
    let service = layer(&breaker).layer(Backend::always(Act::hang()));
    timeout(ms(999), service.clone().oneshot(())).await.unwrap_err();
    assert_eq!(counts(&breaker), (0, 0));
    timeout(ms(1000), service.oneshot(())).await.unwrap_err();
    assert_eq!(counts(&breaker), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_ignored_call_of_any_duration_is_no_failure() {
    let breaker = counting().cancelled_is_failure_after(secs(5)).build().unwrap();
    for prove_nothing in [Permit::ignored, Permit::cut_short] {
        let permit = breaker.clone().try_acquire_owned().unwrap();
        sleep(secs(5)).await;
        prove_nothing(permit);
        assert_eq!(counts(&breaker), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_before_the_service_is_ready_does_not_count() {
    let breaker = counting().cancelled_is_failure_after(secs(1)).build().unwrap();
    let service = layer(&breaker).layer(Backend::always(Act::hang()).ready_for(0));
    timeout(secs(5), service.oneshot(())).await.unwrap_err();
    assert_eq!(counts(&breaker), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_duration_of_a_dropped_call_excludes_its_wait_for_the_service() {
    // The service is ready after five seconds, and hangs.
    for (patience, failed) in [(ms(5999), 0), (secs(6), 1)] {
        for threshold in [None, Some(secs(2))] {
            let of = |builder: BreakerBuilder| match threshold {
                Some(threshold) => builder.cancelled_is_failure_after(secs(1)).slow_call_rate(1.0, threshold),
                None => builder.cancelled_is_failure_after(secs(1)),
            };
            let (closed, half_open) = (of(counting()).build().unwrap(), opened(of(touchy(1))));
            sleep(secs(5)).await;
            let calls = [&closed, &half_open].map(|breaker| {
                let backend = Backend::always(Act::hang()).ready_for(0);
                let call = spawn(timeout(patience, layer(breaker).layer(backend.clone()).oneshot(())));
                (backend, call)
            });
            sleep(secs(5)).await;
            calls.iter().for_each(|(backend, _)| backend.set_ready_for(1));
            for (backend, call) in calls {
                call.await.unwrap().unwrap_err();
                assert_eq!(backend.calls(), 1);
            }
            assert_eq!(counts(&closed), (failed, failed), "{patience:?}");
            let state = if failed == 0 { BreakerState::HalfOpen } else { BreakerState::Open };
            assert_eq!(half_open.state(), state, "{patience:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_returns_its_place_and_changes_nothing() {
    let breaker = opened(touchy(1));
    sleep(secs(5)).await;
    let backend = Backend::script([Act::hang(); 10], Act::answer(200));
    let service = layer(&breaker).layer(backend.clone());
    for _ in 0..10 {
        let mut probe = Box::pin(service.clone().oneshot(()));
        assert!(poll!(probe.as_mut()).is_pending());
        assert_eq!(service.clone().oneshot(()).await, refused(None));
        drop(probe);
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
    }
    assert_eq!(service.oneshot(()).await, Ok(200));
    assert_eq!((breaker.state(), backend.calls()), (BreakerState::Closed, 11));
}

#[tokio::test(start_paused = true)]
async fn a_probe_dropped_after_the_configured_time_opens_the_circuit_again() {
    let breaker = opened(touchy(1).cancelled_is_failure_after(secs(1)));
    sleep(secs(5)).await;
    let service = layer(&breaker).layer(Backend::always(Act::hang()));
    timeout(secs(1), service.clone().oneshot(())).await.unwrap_err();
    assert_eq!(service.oneshot(()).await, refused(Some(secs(5))));
}

#[tokio::test(start_paused = true)]
async fn a_silence_of_half_the_probe_timeout_ends_a_series_of_dropped_probes() {
    for (gap, reopens) in [(ms(14_999), true), (secs(15), false)] {
        let breaker = opened(touchy(1).probe_timeout(secs(30)));
        sleep(secs(5)).await;
        let mut admitted = 0;
        while admitted < 10 && breaker.try_acquire().map(drop).is_ok() {
            admitted += 1;
            sleep(gap).await;
        }
        // With the shorter gap, each probe comes before the series ends: at 0 s, 15 s and 30 s. The fourth call is in
        // the series, too, but after the probe timeout. It opens the circuit again.
        assert_eq!(admitted, if reopens { 3 } else { 10 }, "{gap:?}");
    }
}

// Timeouts, inside and outside.

#[tokio::test(start_paused = true)]
async fn an_attempt_that_times_out_in_the_service_is_a_failure() {
    let breaker = counting().build().unwrap();
    let stack = steadfast::client().circuit_breaker(breaker.clone()).attempt_timeout(secs(1)).layer().unwrap();
    stack.layer(Backend::always(Act::hang())).oneshot(()).await.unwrap_err();
    assert_eq!(counts(&breaker), (1, 1));
    // A call that waits for readiness until its timeout does not count.
    stack.layer(Backend::always(Act::hang()).ready_for(0)).oneshot(()).await.unwrap_err();
    assert_eq!(counts(&breaker), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_the_stack_is_a_failure_if_the_call_was_in_the_service() {
    let breaker = counting().build().unwrap();
    let stack = steadfast::client().timeout(secs(1)).circuit_breaker(breaker.clone()).layer().unwrap();
    stack.layer(Backend::always(Act::hang())).oneshot(()).await.unwrap_err();
    assert_eq!(counts(&breaker), (1, 1));
    stack.layer(Backend::always(Act::hang()).ready_for(0)).oneshot(()).await.unwrap_err();
    assert_eq!(counts(&breaker), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn timeouts_alone_open_the_circuit_of_a_service_that_hangs() {
    let breaker = Breaker::builder().build().unwrap();
    let backend = Backend::always(Act::hang());
    let stack = steadfast::client().circuit_breaker(breaker.clone()).attempt_timeout(secs(1));
    let service = stack.service(backend.clone()).unwrap();
    let ends = join_all((0..100).map(|_| service.clone().oneshot(()))).await;
    assert!(ends.iter().all(|end| matches!(end, Err(Error::Rejected(Rejection::TimedOut(_))))));
    assert_eq!(breaker.state(), BreakerState::Open);
    assert!(matches!(service.oneshot(()).await, Err(Error::Rejected(Rejection::CircuitOpen(_)))));
    assert_eq!(backend.calls(), 100);
}

// Panics.

#[tokio::test(start_paused = true)]
async fn a_panic_in_call_or_in_poll_is_a_failure_and_frees_the_probe() {
    for act in [Act::panic(), Act::panic_at_once()] {
        let breaker = counting().build().unwrap();
        let service = layer(&breaker).layer(Backend::always(act));
        AssertUnwindSafe(service.oneshot(())).catch_unwind().await.unwrap_err();
        assert_eq!(counts(&breaker), (1, 1), "{act:?}");

        let breaker = opened(touchy(1));
        sleep(secs(5)).await;
        let service = layer(&breaker).layer(Backend::always(act));
        let probe = spawn(service.clone().oneshot(()));
        assert!(probe.await.unwrap_err().is_panic());
        assert_eq!(service.oneshot(()).await, refused(Some(secs(5))), "{act:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_service_does_not_count_and_one_in_the_drop_of_its_future_fails() {
    let breaker = counting().build().unwrap();
    let bucket = TokenBucket::builder(10, secs(1)).build().unwrap();
    let limit = RateLimit::new(bucket).cost(|(): &()| -> u64 { panic!("as the test wants it") });
    let client = steadfast::client().circuit_breaker(breaker.clone()).rate_limit(limit);
    let service = client.service(Backend::always(Act::answer(200))).unwrap();
    AssertUnwindSafe(service.oneshot(())).catch_unwind().await.unwrap_err();
    assert_eq!(counts(&breaker), (0, 0));

    /// A future that hangs, and panics when it is dropped.
    struct Bomb;
    impl Future for Bomb {
        type Output = Result<u16, Failed>;
        fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
            Poll::Pending
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("as the test wants it");
        }
    }
    let service = layer(&breaker).layer(service_fn(|(): ()| Bomb));
    let mut call = Box::pin(service.oneshot(()));
    assert!(poll!(call.as_mut()).is_pending());
    std::panic::catch_unwind(AssertUnwindSafe(|| drop(call))).unwrap_err();
    assert_eq!(counts(&breaker), (1, 1));
}

// Half-open.

#[tokio::test(start_paused = true)]
async fn of_a_thousand_calls_at_once_a_half_open_circuit_admits_exactly_its_probes() {
    for probes in [1, 3, 20] {
        let breaker = opened(touchy(probes));
        sleep(secs(5)).await;
        let backend = Backend::always(Act::answer(200).after(ms(10)));
        let service = layer(&breaker).layer(backend.clone());
        let ends = join_all((0..1000).map(|_| service.clone().oneshot(()))).await;
        assert_eq!(backend.calls(), probes as usize);
        assert_eq!(ends.iter().filter(|end| **end == refused(None)).count(), 1000 - probes as usize);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_does_not_keep_the_circuit_half_open_forever() {
    let breaker = opened(touchy(1).probe_timeout(secs(30)));
    sleep(secs(5)).await;
    let backend = Backend::script([Act::fail().after(secs(40))], Act::answer(200));
    let service = layer(&breaker).layer(backend.clone());
    let watch = Stopwatch::start();
    let hung = spawn(service.clone().oneshot(()));
    for _ in 0..30 {
        yield_now().await;
        assert_eq!(service.clone().oneshot(()).await, refused(None));
        sleep(secs(1)).await;
    }
    assert_eq!((watch.read(), backend.calls()), (secs(30), 1));
    assert_eq!(service.clone().oneshot(()).await, refused(Some(secs(5))));
    sleep(secs(5)).await;
    assert_eq!(service.clone().oneshot(()).await, Ok(200));
    assert_eq!(breaker.state(), BreakerState::Closed);

    // The late end of the hung probe belongs to an earlier era.
    assert_eq!(hung.await.unwrap(), Err(Error::Service(Failed)));
    assert_eq!(watch.read(), secs(40));
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_an_inner_layer_refuses_returns_its_place() {
    let breaker = opened(touchy(1));
    sleep(secs(5)).await;
    let limiter = Limiter::fixed(1).unwrap();
    let held = limiter.try_acquire().unwrap();
    let backend = Backend::always(Act::answer(200));
    let stack = steadfast::client().circuit_breaker(breaker.clone()).load_shed(limiter.clone());
    let service = stack.service(backend.clone()).unwrap();
    for _ in 0..100 {
        let error = service.clone().oneshot(()).await.unwrap_err();
        assert!(matches!(error, Error::Rejected(Rejection::Overloaded(_))), "{error:?}");
    }
    drop(held);
    assert_eq!(service.oneshot(()).await, Ok(200));
    assert_eq!((breaker.state(), backend.calls()), (BreakerState::Closed, 1));
}

#[tokio::test(start_paused = true)]
async fn probes_without_a_verdict_do_not_extend_the_timeout_of_a_hung_probe_forever() {
    // Two places: one has a probe that hangs, the other is taken and returned repeatedly.
    let breaker = opened(touchy(2).probe_timeout(secs(30)));
    sleep(secs(5)).await;
    let backend = Backend::script([Act::hang()], Act::answer(404));
    let service = layer(&breaker).classify(by_status).layer(backend.clone());
    let mut hung = pin!(service.clone().oneshot(()));
    assert!(poll!(hung.as_mut()).is_pending());
    for _ in 0..29 {
        sleep(secs(1)).await;
        assert_eq!(service.clone().oneshot(()).await, Ok(404));
    }
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    // Half a minute without a verdict: the service may hang completely.
    sleep(secs(1)).await;
    service.oneshot(()).await.unwrap_err();
    assert_eq!(breaker.state(), BreakerState::Open);
}

// Eras.

#[tokio::test(start_paused = true)]
async fn a_failure_of_a_call_from_before_the_circuit_opened_does_not_open_it_again() {
    let breaker = touchy(1).build().unwrap();
    let backend =
        Backend::script([Act::fail().after(secs(6)), Act::fail().after(secs(7)), Act::fail()], Act::answer(200));
    let service = layer(&breaker).layer(backend);
    let early: Vec<_> = (0..2).map(|_| spawn(service.clone().oneshot(()))).collect();
    yield_now().await;
    assert_eq!(service.clone().oneshot(()).await, Err(Error::Service(Failed)));
    assert_eq!(breaker.state(), BreakerState::Open);
    sleep(secs(5)).await;
    assert_eq!(service.clone().oneshot(()).await, Ok(200));
    assert_eq!(breaker.state(), BreakerState::Closed);
    for call in early {
        assert_eq!(call.await.unwrap(), Err(Error::Service(Failed)));
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_of_a_call_from_before_the_circuit_opened_is_no_probe() {
    let breaker = touchy(1).build().unwrap();
    let backend = Backend::script([Act::answer(200).after(secs(6)), Act::fail(), Act::hang()], Act::answer(200));
    let service = layer(&breaker).layer(backend);
    let early = spawn(service.clone().oneshot(()));
    yield_now().await;
    assert_eq!(service.clone().oneshot(()).await, Err(Error::Service(Failed)));
    sleep(secs(5)).await;
    let mut probe = pin!(service.clone().oneshot(()));
    assert!(poll!(probe.as_mut()).is_pending());
    assert_eq!(early.await.unwrap(), Ok(200));
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert_eq!(service.oneshot(()).await, refused(None));
}

#[tokio::test(start_paused = true)]
async fn a_reset_ignores_the_results_of_calls_in_flight() {
    let breaker = touchy(1).build().unwrap();
    let service = layer(&breaker).layer(Backend::always(Act::fail().after(secs(1))));
    let call = spawn(service.oneshot(()));
    yield_now().await;
    breaker.reset();
    call.await.unwrap().unwrap_err();
    assert_eq!(breaker.state(), BreakerState::Closed);
}

// By hand.

#[tokio::test(start_paused = true)]
async fn forced_open_refuses_until_a_reset_and_lets_calls_in_flight_continue() {
    let breaker = touchy(1).build().unwrap();
    let backend = Backend::always(Act::answer(200).after(secs(1)));
    let service = layer(&breaker).layer(backend.clone());
    let in_flight = spawn(service.clone().oneshot(()));
    yield_now().await;
    breaker.force_open();
    assert_eq!(service.clone().oneshot(()).await, refused(None));
    assert_eq!(in_flight.await.unwrap(), Ok(200));
    sleep(secs(3600)).await;
    assert_eq!(service.clone().oneshot(()).await, refused(None));
    assert_eq!((breaker.state(), backend.calls()), (BreakerState::ForcedOpen, 1));
    breaker.reset();
    assert_eq!(service.oneshot(()).await, Ok(200));
}

#[tokio::test(start_paused = true)]
async fn forced_closed_admits_all_calls_and_counts_no_result() {
    let breaker = touchy(1).build().unwrap();
    let backend = Backend::always(Act::fail().after(ms(10)));
    let service = layer(&breaker).layer(backend.clone());
    breaker.force_closed();
    for _ in 0..100 {
        assert_eq!(service.clone().oneshot(()).await, Err(Error::Service(Failed)));
    }
    let in_flight = spawn(service.clone().oneshot(()));
    yield_now().await;
    breaker.reset();
    in_flight.await.unwrap().unwrap_err();
    assert_eq!(breaker.state(), BreakerState::Closed);
    service.clone().oneshot(()).await.unwrap_err();
    assert_eq!((breaker.state(), backend.calls()), (BreakerState::Open, 102));
}

#[tokio::test(start_paused = true)]
async fn a_probe_in_flight_when_the_circuit_is_forced_does_not_count() {
    for (force, state) in [
        (Breaker::force_open as fn(&Breaker), BreakerState::ForcedOpen),
        (Breaker::force_closed, BreakerState::ForcedClosed),
        (Breaker::reset, BreakerState::Closed),
    ] {
        for end in [Act::answer(200), Act::fail()] {
            let breaker = opened(touchy(1));
            sleep(secs(5)).await;
            let probe = spawn(layer(&breaker).layer(Backend::always(end.after(secs(1)))).oneshot(()));
            yield_now().await;
            assert_eq!(breaker.state(), BreakerState::HalfOpen);
            force(&breaker);
            let _ = probe.await.unwrap();
            assert_eq!(breaker.state(), state);
        }
    }
}

// The window.

#[tokio::test(start_paused = true)]
async fn after_a_hundred_thousand_successes_an_outage_is_noticed_within_half_a_window() {
    // 1,000 calls per second for 100 seconds, and a window of ten.
    let breaker = Breaker::builder().failure_rate(0.5, secs(10)).build().unwrap();
    let backend = Backend::always(Act::answer(200));
    let service = layer(&breaker).layer(backend.clone());
    for _ in 0..10_000 {
        for _ in 0..10 {
            service.clone().oneshot(()).await.unwrap();
        }
        sleep(ms(10)).await;
    }
    backend.becomes(Act::fail());
    let watch = Stopwatch::start();
    let mut failures = 0;
    while breaker.state() == BreakerState::Closed {
        for _ in 0..10 {
            let _ = service.clone().oneshot(()).await;
        }
        failures = backend.calls() - 100_000;
        sleep(ms(10)).await;
    }
    // The window counts 10,000 calls, less those of its oldest sixteenth that have expired. Half of them have failed.
    assert!((4_680..=5_000).contains(&failures), "{failures}");
    assert!(watch.read() <= secs(5), "{:?}", watch.read());
}

#[tokio::test(start_paused = true)]
async fn after_a_quiet_window_only_the_minimum_of_calls_has_to_fail() {
    let breaker = Breaker::builder().failure_rate(0.5, secs(10)).minimum_calls(20).build().unwrap();
    let backend = Backend::always(Act::answer(200));
    let service = layer(&breaker).layer(backend.clone());
    for _ in 0..10_000 {
        service.clone().oneshot(()).await.unwrap();
    }
    // One window and a half: nothing has overwritten the successes, but they are too old.
    sleep(secs(15)).await;
    backend.becomes(Act::fail());
    for failure in 1..=20 {
        assert_eq!(breaker.state(), BreakerState::Closed, "after {failure} failures");
        service.clone().oneshot(()).await.unwrap_err();
    }
    assert_eq!(breaker.state(), BreakerState::Open);
}

// Slow calls.

/// Counts slow calls, and never opens.
fn timing(threshold: Duration) -> BreakerBuilder {
    counting().slow_call_rate(1.0, threshold)
}

/// Calls and slow calls.
fn paces(breaker: &Breaker) -> (u64, u64) {
    breaker.slow_counts_at(Instant::now())
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_opens_the_circuit_when_the_minimum_of_calls_reaches_the_threshold() {
    // 1,000 calls per second, the first at once.
    let breaker = Breaker::builder().slow_call_rate(0.5, secs(1)).minimum_calls(20).build().unwrap();
    let backend = Backend::always(Act::hang());
    let service = layer(&breaker).layer(backend.clone());
    let watch = Stopwatch::start();
    while breaker.state() == BreakerState::Closed {
        spawn(service.clone().oneshot(()));
        sleep(ms(1)).await;
        yield_now().await;
    }
    assert_eq!((watch.read(), backend.calls()), (secs(1) + ms(19), 1019));
    assert_eq!(service.oneshot(()).await, refused(Some(secs(5))));
}

#[tokio::test(start_paused = true)]
async fn a_call_in_flight_is_slow_at_the_threshold_and_is_not_counted_again_at_its_end() {
    for (act, expected) in [(Act::answer(200), (1, 0)), (Act::fail(), (1, 1))] {
        let breaker = timing(secs(1)).build().unwrap();
        let call = spawn(layer(&breaker).layer(Backend::always(act.after(secs(3)))).oneshot(()));
        sleep(ms(999)).await;
        assert_eq!((paces(&breaker), counts(&breaker)), ((0, 0), (0, 0)));
        sleep(ms(1)).await;
        yield_now().await;
        assert_eq!((paces(&breaker), counts(&breaker)), ((1, 1), (0, 0)));
        let _ = call.await.unwrap();
        assert_eq!((paces(&breaker), counts(&breaker)), ((1, 1), expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_fast_below_the_threshold_and_a_call_without_an_answer_is_neither() {
    for (act, expected) in [
        (Act::answer(200), (1, 0)),
        (Act::answer(200).after(ms(999)), (1, 0)),
        (Act::answer(200).after(secs(1)), (1, 1)),
        (Act::fail().after(ms(999)), (1, 0)),
        (Act::answer(503).after(ms(999)), (1, 0)),
        (Act::answer(404).after(ms(999)), (0, 0)),
        (Act::answer(404).after(secs(1)), (1, 1)),
    ] {
        let breaker = timing(secs(1)).build().unwrap();
        let _ = layer(&breaker).classify(by_status).layer(Backend::always(act)).oneshot(()).await;
        assert_eq!(paces(&breaker), expected, "{act:?}");
    }
    // An abandoned call counts only if it has reached the threshold: as a slow call.
    for (patience, expected) in [(ms(999), (0, 0)), (secs(1), (1, 1)), (secs(2), (1, 1))] {
        let breaker = timing(secs(1)).build().unwrap();
        timeout(patience, layer(&breaker).layer(Backend::always(Act::hang())).oneshot(())).await.unwrap_err();
        assert_eq!((paces(&breaker), counts(&breaker)), (expected, (0, 0)), "{patience:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_duration_of_a_call_excludes_its_wait_for_the_service() {
    let breaker = timing(ms(1500)).build().unwrap();
    let busy = ConcurrencyLimit::new(Backend::always(Act::answer(200).after(secs(1))), 1);
    let service = layer(&breaker).layer(busy);
    let ends = join_all((0..3).map(|_| service.clone().oneshot(()))).await;
    assert!(ends.iter().all(|end| *end == Ok(200)));
    assert_eq!((paces(&breaker), counts(&breaker)), ((3, 0), (3, 0)), "one second each, though the last took three");

    // A call that is answered in the poll that reaches the service is fast.
    let backend = Backend::always(Act::answer(200)).ready_for(0);
    let call = spawn(layer(&breaker).layer(backend.clone()).oneshot(()));
    sleep(secs(5)).await;
    backend.set_ready_for(1);
    assert_eq!(call.await.unwrap(), Ok(200));
    assert_eq!(paces(&breaker), (4, 0));

    // A call that never reaches the service is not slow.
    let service = layer(&breaker).layer(Backend::always(Act::hang()).ready_for(0));
    timeout(secs(5), service.oneshot(())).await.unwrap_err();
    assert_eq!(paces(&breaker), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_keeps_the_threshold_that_it_was_admitted_with() {
    for later in [ms(1), secs(3)] {
        let breaker = timing(secs(1)).build().unwrap();
        let backend = Backend::always(Act::answer(200).after(secs(1))).ready_for(0);
        let call = spawn(layer(&breaker).layer(backend.clone()).oneshot(()));
        sleep(secs(5)).await;
        breaker.configure(timing(later)).unwrap();
        backend.set_ready_for(1);
        sleep(ms(999)).await;
        assert_eq!(paces(&breaker), (0, 0));
        assert_eq!(call.await.unwrap(), Ok(200));
        assert_eq!(paces(&breaker), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_reaches_the_threshold_opens_the_circuit_at_once() {
    let breaker = opened(touchy(2).slow_call_rate(1.0, secs(1)));
    sleep(secs(5)).await;
    let service = layer(&breaker).layer(Backend::always(Act::answer(200).after(secs(3))));
    let probe = spawn(service.clone().oneshot(()));
    sleep(ms(999)).await;
    assert_eq!((breaker.state(), breaker.free_probes()), (BreakerState::HalfOpen, 1));
    sleep(ms(1)).await;
    yield_now().await;
    assert_eq!(service.oneshot(()).await, refused(Some(secs(5))));
    // Its success is too late.
    assert_eq!(probe.await.unwrap(), Ok(200));
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn the_threshold_of_slow_calls_can_change_while_calls_pass() {
    let breaker = counting().build().unwrap();
    let service = layer(&breaker).layer(Backend::always(Act::answer(200).after(secs(1))));
    let configure = |builder: BreakerBuilder| breaker.configure(builder).unwrap();
    let call = async || service.clone().oneshot(()).await.unwrap();
    call().await;
    configure(timing(ms(500)));
    assert_eq!((paces(&breaker), counts(&breaker)), ((0, 0), (1, 0)), "it begins empty, and the other window stays");
    call().await;
    configure(timing(secs(2)));
    call().await;
    assert_eq!((paces(&breaker), counts(&breaker)), ((2, 1), (3, 0)));
    configure(counting());
    call().await;
    assert_eq!(paces(&breaker), (0, 0));
    configure(timing(secs(2)));
    assert_eq!((paces(&breaker), counts(&breaker)), ((0, 0), (4, 0)), "what was seen before it was switched off");
}

// How long it stays open.

/// The open times of a circuit whose probes fail.
async fn open_times(breaker: &Breaker, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..count {
        breaker.try_acquire().unwrap().failure();
        let (now, at) = (Instant::now(), breaker.half_open_at().unwrap());
        times.push(at - now);
        assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), Some(at - now), "a refusal says the same");
        advance(at - now).await;
    }
    times
}

fn growing(seed: u64) -> BreakerBuilder {
    let builder = Breaker::builder().consecutive_failures(1).open_for(secs(5)).probes(1);
    builder.random(Random::seeded(seed))
}

#[tokio::test(start_paused = true)]
async fn each_failed_probe_doubles_the_open_time_within_a_quarter_up_to_a_minute() {
    let mut all = Vec::new();
    for seed in 0..100 {
        let times = open_times(&growing(seed).build().unwrap(), 10).await;
        assert_eq!(times[0], secs(5), "exactly");
        for two in times.windows(2) {
            let (least, most) = (two[0] * 3 / 2, two[0] * 5 / 2);
            assert!((least.min(secs(60))..=most.min(secs(60))).contains(&two[1]), "{times:?}");
        }
        assert_eq!(times[8..], [secs(60); 2], "seven growths by half are more than twelvefold");
        assert_eq!(times, open_times(&growing(seed).build().unwrap(), 10).await);
        all.push(times[1]);
    }
    let mean = all.iter().sum::<Duration>() / 100;
    assert!((ms(9600)..=ms(10_400)).contains(&mean), "{mean:?}");
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn the_longest_open_time_can_be_set_and_the_growth_switched_off() {
    let of = |builder: BreakerBuilder| builder.build().unwrap();
    let times = open_times(&of(growing(1).max_open_for(secs(7))), 3).await;
    assert_eq!(times, [secs(5), secs(7), secs(7)]);
    let times = open_times(&of(growing(1).max_open_for(secs(5))), 10).await;
    assert_eq!(times, [secs(5); 10]);
    // The longest time is two minutes if the first one is.
    let times = open_times(&of(growing(1).open_for(secs(120))), 3).await;
    assert_eq!(times, [secs(120); 3]);
}

#[tokio::test(start_paused = true)]
async fn the_open_time_starts_over_once_the_circuit_was_closed_for_as_long_as_it_was_open() {
    let breaker = growing(3).build().unwrap();
    let times = open_times(&breaker, 3).await;
    // The probe succeeds. Then the circuit opens again, a moment too early for the open time to start over.
    let last = times[2];
    breaker.try_acquire().unwrap().success();
    assert_eq!((breaker.state(), breaker.half_open_at()), (BreakerState::Closed, None));
    advance(last - ms(1)).await;
    assert_eq!(open_times(&breaker, 1).await, [last], "no longer and no shorter");
    breaker.try_acquire().unwrap().success();
    advance(last).await;
    assert_eq!(open_times(&breaker, 1).await, [secs(5)]);
    // A reset by hand makes the open time start over at once.
    let times = open_times(&breaker, 2).await;
    assert!(times[0] > secs(5));
    breaker.reset();
    assert_eq!(open_times(&breaker, 1).await, [secs(5)]);
}

#[tokio::test(start_paused = true)]
async fn the_breaker_reports_when_it_lets_probes_through_and_how_many_are_free() {
    let breaker = opened(touchy(3));
    let at = Instant::now() + secs(5);
    sleep(secs(60)).await;
    for _ in 0..3 {
        assert_eq!((breaker.half_open_at(), breaker.free_probes()), (Some(at), 0), "no call has come yet");
    }
    let probes = (1..=3).rev().map(|left| {
        let probe = breaker.try_acquire().unwrap();
        assert_eq!((breaker.half_open_at(), breaker.free_probes()), (None, left - 1));
        probe
    });
    probes.collect::<Vec<_>>().into_iter().next().unwrap().success();
    assert_eq!(breaker.free_probes(), 2, "two were dropped, and one of three has succeeded");
    breaker.force_open();
    assert_eq!((breaker.half_open_at(), breaker.free_probes()), (None, 0));
}

// Reconfigured while calls pass.

/// Makes calls: first those that fail, then those that succeed.
fn settle(breaker: &Breaker, failures: u32, successes: u32) {
    (0..failures).for_each(|_| breaker.try_acquire().unwrap().failure());
    (0..successes).for_each(|_| breaker.try_acquire().unwrap().success());
}

#[tokio::test(start_paused = true)]
async fn a_lower_threshold_opens_the_circuit_at_the_next_failure_and_not_before() {
    let breaker = Breaker::builder().consecutive_failures(10).build().unwrap();
    settle(&breaker, 4, 0);
    breaker.configure(breaker.configuration().consecutive_failures(3)).unwrap();
    assert_eq!(breaker.state(), BreakerState::Closed);
    settle(&breaker, 1, 0);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_keeps_its_instant_and_next_opens_for_the_new_time() {
    let breaker = opened(touchy(1));
    breaker.configure(touchy(1).open_for(secs(60)).max_open_for(secs(60))).unwrap();
    sleep(secs(2)).await;
    assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), Some(secs(3)));
    sleep(secs(3)).await;
    breaker.try_acquire().unwrap().failure();
    assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), Some(secs(60)));
}

#[tokio::test(start_paused = true)]
async fn fewer_probes_close_the_circuit_at_once_if_the_successes_suffice_and_more_probes_pass_at_once() {
    let breaker = opened(touchy(4));
    sleep(secs(5)).await;
    settle(&breaker, 0, 2);
    let probes: Vec<_> = (0..2).map(|_| breaker.try_acquire().unwrap()).collect();
    assert!(breaker.try_acquire().is_err());
    // Two have succeeded, and one of the two in flight exceeds the number.
    breaker.configure(touchy(3)).unwrap();
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert!(breaker.try_acquire().is_err());
    breaker.configure(touchy(5)).unwrap();
    drop(breaker.try_acquire().unwrap());
    breaker.configure(touchy(2)).unwrap();
    assert_eq!(breaker.state(), BreakerState::Closed);
    probes.into_iter().for_each(|probe| probe.failure());
    assert_eq!(breaker.state(), BreakerState::Closed, "they are of an era that is over");
}

#[tokio::test(start_paused = true)]
async fn a_forced_circuit_stays_forced() {
    for (force, state) in [
        (Breaker::force_open as fn(&Breaker), BreakerState::ForcedOpen),
        (Breaker::force_closed, BreakerState::ForcedClosed),
    ] {
        let breaker = touchy(1).build().unwrap();
        force(&breaker);
        breaker.configure(counting()).unwrap();
        assert_eq!(breaker.state(), state);
        breaker.reset();
        settle(&breaker, 1, 0);
        assert_eq!((breaker.state(), counts(&breaker)), (BreakerState::Closed, (1, 1)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalid_configuration_changes_nothing() {
    let breaker = opened(touchy(1));
    let before = breaker.configuration();
    let error = breaker.configure(counting().probes(0).open_for(secs(1))).unwrap_err();
    assert_eq!((error.field(), error.value()), ("circuit_breaker.probes", "0"));
    assert_eq!(breaker.configuration(), before);
    assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), Some(secs(5)));
}

#[tokio::test(start_paused = true)]
async fn the_default_configuration_round_trips_and_opens_at_half_of_twenty() {
    let breaker = touchy(1).build().unwrap();
    breaker.configure(Breaker::builder()).unwrap();
    assert_eq!(breaker.configuration(), Breaker::builder());
    settle(&breaker, 9, 10);
    assert_eq!((breaker.state(), counts(&breaker)), (BreakerState::Closed, (19, 9)));
    settle(&breaker, 1, 0);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn an_added_threshold_starts_to_count_at_zero() {
    let only_in_a_row = || Breaker::builder().consecutive_failures(5);
    let breaker = only_in_a_row().build().unwrap();
    settle(&breaker, 4, 0);
    breaker.configure(counting()).unwrap();
    settle(&breaker, 3, 7);
    assert_eq!(counts(&breaker), (10, 3));
    breaker.configure(only_in_a_row()).unwrap();
    assert_eq!(counts(&breaker), (0, 0));
    settle(&breaker, 4, 0);
    assert_eq!(breaker.state(), BreakerState::Closed, "four in a row, not those from before as well");
    breaker.configure(counting()).unwrap();
    assert_eq!(counts(&breaker), (0, 0));
    settle(&breaker, 1, 1);
    assert_eq!(counts(&breaker), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_shorter_window_forgets_older_calls_and_a_longer_one_keeps_all_for_at_most_its_length() {
    let of = |length| Breaker::builder().failure_rate(1.0, length).minimum_calls(1_000_000);
    let breaker = of(secs(16)).build().unwrap();
    sleep(ms(500)).await;
    for _ in 0..16 {
        settle(&breaker, 1, 0);
        sleep(secs(1)).await;
    }
    // There was one failure in each of 16 seconds, and the first has expired.
    assert_eq!(counts(&breaker), (15, 15));
    breaker.configure(of(secs(8))).unwrap();
    assert_eq!(counts(&breaker), (7, 7));
    settle(&breaker, 0, 100);
    sleep(ms(7400)).await;
    assert_eq!(counts(&breaker), (100, 0));
    sleep(ms(600)).await;
    assert_eq!(counts(&breaker), (0, 0));

    settle(&breaker, 5, 0);
    breaker.configure(of(secs(160))).unwrap();
    sleep(secs(140)).await;
    assert_eq!(counts(&breaker), (5, 5));
    sleep(secs(20)).await;
    assert_eq!(counts(&breaker), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_change_of_other_settings_keeps_the_calls_for_the_whole_window() {
    let of = |minimum| Breaker::builder().failure_rate(1.0, secs(16)).minimum_calls(minimum);
    let breaker = of(100).build().unwrap();
    let start = Instant::now();
    // The failure is recorded by a clock that is 8 s ahead of the clock of the change.
    breaker.try_acquire().unwrap().failure_at(start + secs(8));
    breaker.configure(of(200)).unwrap();
    assert_eq!(breaker.counts_at(start + secs(24) - Duration::from_nanos(1)), (1, 1));
    assert_eq!(breaker.counts_at(start + secs(24)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_changed_window_counts_records_of_a_later_clock_than_that_of_the_change() {
    let of = |length| Breaker::builder().failure_rate(1.0, length).minimum_calls(1_000_000);
    for length in [secs(12), secs(160)] {
        let breaker = of(secs(16)).build().unwrap();
        let start = Instant::now();
        breaker.try_acquire().unwrap().failure_at(start + secs(8));
        breaker.configure(of(length)).unwrap();
        assert_eq!(counts(&breaker), (1, 1), "{length:?}");
        assert_eq!(breaker.counts_at(start + length), (0, 0), "{length:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_is_empty_after_a_silence_of_any_length() {
    let breaker = counting().failure_rate(1.0, secs(16)).build().unwrap();
    let start = Instant::now();
    settle(&breaker, 1, 0);
    // Up to 2^32 sixteenths, more than the tags of the sixteenths can distinguish.
    for exponent in 4..=32 {
        assert_eq!(breaker.counts_at(start + secs(1 << exponent)), (0, 0), "2^{exponent} sixteenths");
    }
    assert_eq!(counts(&breaker), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_keeps_its_patience_while_an_overload_is_judged_by_the_present_configuration() {
    let patient = || counting().cancelled_is_failure_after(secs(1));
    let breaker = patient().build().unwrap();
    let early = breaker.try_acquire().unwrap();
    breaker.configure(counting()).unwrap();
    let late = breaker.try_acquire().unwrap();
    breaker.configure(patient()).unwrap();
    sleep(secs(1)).await;
    drop(late);
    assert_eq!(counts(&breaker), (0, 0));
    drop(early);
    assert_eq!(counts(&breaker), (1, 1));

    let service = layer(&breaker).classify(by_status).layer(Backend::always(Act::answer(503).after(secs(1))));
    let call = spawn(service.oneshot(()));
    yield_now().await;
    breaker.configure(patient().overload_is_failure(true)).unwrap();
    call.await.unwrap().unwrap();
    assert_eq!(counts(&breaker), (2, 2));
}

// In a stack.

#[tokio::test(start_paused = true)]
async fn every_attempt_of_a_call_counts_by_itself() {
    let breaker = counting().build().unwrap();
    let stack = steadfast::client()
        .retry(Retry::new(3).backoff(Backoff::none()).without_budget())
        .circuit_breaker(breaker.clone())
        .service(Backend::script([Act::fail(), Act::fail()], Act::answer(200)))
        .unwrap();
    assert_eq!(stack.oneshot(()).await, Ok(200));
    assert_eq!(counts(&breaker), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn an_owned_permit_reports_each_outcome_from_another_task() {
    let breaker = Breaker::builder().consecutive_failures(1).overload_is_failure(true).build().unwrap();
    let report = async |report: fn(Permit<'static>, Instant)| {
        let permit = breaker.clone().try_acquire_owned().unwrap();
        tokio::spawn(async move { report(permit, Instant::now()) }).await.unwrap();
        let state = breaker.state();
        breaker.reset();
        state
    };
    let closed: [fn(Permit<'static>, Instant); 4] = [
        |permit, _| permit.success(),
        |permit, _| permit.ignored(),
        |permit, now| permit.cut_short_at(now),
        |permit, now| permit.outcome_at(Outcome::Permanent, now),
    ];
    for outcome in closed {
        assert_eq!(report(outcome).await, BreakerState::Closed);
    }
    let open: [fn(Permit<'static>, Instant); 3] = [
        |permit, _| permit.failure(),
        |permit, _| permit.overloaded(),
        |permit, now| permit.outcome_at(Outcome::Failure, now),
    ];
    for outcome in open {
        assert_eq!(report(outcome).await, BreakerState::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn changes_of_the_window_do_not_change_the_meaning_of_overload_answers() {
    for is_failure in [false, true] {
        let of = |length| {
            Breaker::builder().failure_rate(1.0, length).minimum_calls(1_000_000).overload_is_failure(is_failure)
        };
        let breaker = of(secs(16)).build().unwrap();
        for change in 1..=20 {
            breaker.configure(of(secs(16 + change))).unwrap();
            let (_, before) = counts(&breaker);
            breaker.try_acquire().unwrap().overloaded();
            let (_, after) = counts(&breaker);
            assert_eq!(after - before, u64::from(is_failure), "change {change}");
        }
    }
}
