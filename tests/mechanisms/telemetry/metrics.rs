//! Metrics of calls, attempts and mechanisms.

use super::{count, gauge, sample};
use crate::{
    counting::so_far,
    probes::every,
    support::{Act, Backend, by_status, ms, secs},
};
use futures::{FutureExt, future::join_all};
use metrics::with_local_recorder;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::{
    future::ready,
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};
use steadfast::{
    circuit_breaker::Breaker,
    load_level::Queue,
    load_shed::Limiter,
    rate_limit::{RateLimit, TokenBucket},
    retry::{Retry, RetryBudget},
    shell::{Instrument, Reading, Readings},
    telemetry::{BUCKETS, Metrics, SampleValue},
};
use tokio::time::Instant;
use tower::{Service, ServiceExt, service_fn};

#[tokio::test(start_paused = true)]
async fn calls_and_attempts_are_counted_by_outcome_with_their_durations() {
    let metrics = Metrics::new();
    let client = steadfast::client()
        .observe("payments", metrics.clone())
        .timeout(secs(1))
        .retry(every(3, ms(10)))
        .attempt_timeout(ms(40))
        .classify(by_status)
        .service(Backend::script([Act::fail().after(ms(3)), Act::hang()], Act::answer(200).after(ms(7))))
        .unwrap();
    client.oneshot(()).await.unwrap();

    let SampleValue::Histogram(calls) = sample(&metrics, "call_duration_seconds", &[("outcome", "success")]) else {
        panic!("a histogram")
    };
    assert_eq!(calls.count(), 1);
    assert!((calls.sum() - 0.070).abs() < 1e-9, "{}", calls.sum());
    let attempts = |kind, outcome| count(&metrics, "attempt_duration_seconds", &[("kind", kind), ("outcome", outcome)]);
    assert_eq!(attempts("first", "failure"), 1);
    assert_eq!(attempts("retry", "timed_out"), 1);
    assert_eq!(attempts("retry", "success"), 1);
    let SampleValue::Histogram(delays) = sample(&metrics, "retry_delay_seconds", &[("stack", "payments")]) else {
        panic!("a histogram")
    };
    assert!((delays.sum() - 0.020).abs() < 1e-9, "{}", delays.sum());
    assert_eq!(count(&metrics, "retries_denied_total", &[("reason", "exhausted")]), 0);
}

#[tokio::test(start_paused = true)]
async fn rejections_and_denied_retries_are_counted_by_reason() {
    let metrics = Metrics::new();
    let limiter = Limiter::fixed(1).unwrap();
    let client = steadfast::client()
        .observe("payments", metrics.clone())
        .retry(Retry::new(3).budget(RetryBudget::builder().ratio(0.0).no_floor().build().unwrap()))
        .load_shed(limiter.clone())
        .service(service_fn(|()| ready(Err::<(), _>(io::Error::other("down")))))
        .unwrap();
    client.clone().oneshot(()).await.unwrap_err();
    assert_eq!(count(&metrics, "retries_denied_total", &[("reason", "budget")]), 1);
    let permit = limiter.try_acquire().unwrap();
    client.clone().oneshot(()).await.unwrap_err();
    drop(permit);
    let refused = [("mechanism", "load_shed"), ("reason", "limit"), ("reached", "false")];
    assert_eq!(count(&metrics, "rejections_total", &refused), 1);
    assert_eq!(count(&metrics, "call_duration_seconds", &[("outcome", "rejected")]), 1);
    assert_eq!(count(&metrics, "call_duration_seconds", &[("outcome", "failure")]), 1);
}

#[tokio::test(start_paused = true)]
async fn mechanisms_are_read_from_the_start_and_reading_changes_no_state() {
    let metrics = Metrics::new();
    let breaker = Breaker::builder().consecutive_failures(1).open_for(secs(5)).build().unwrap();
    let client = steadfast::client()
        .observe("payments", metrics.clone())
        .circuit_breaker(breaker.clone())
        .rate_limit(RateLimit::new(TokenBucket::builder(10, secs(1)).build().unwrap()).named("per second"))
        .load_shed(Limiter::fixed(8).unwrap())
        .service(service_fn(|()| ready(Err::<(), _>(io::Error::other("down")))))
        .unwrap();
    let state = |state| gauge(&metrics, "circuit_state", &[("stack", "payments"), ("state", state)]);
    let states = || ["closed", "open", "half_open", "forced_open", "forced_closed"].map(state);
    assert_eq!(states(), [1.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(gauge(&metrics, "rate_limit_available", &[("limit", "per second")]), 10.0);
    assert_eq!(gauge(&metrics, "in_flight_limit", &[("mechanism", "load_shed")]), 8.0);

    client.clone().oneshot(()).await.unwrap_err();
    for _ in 0..3 {
        assert_eq!(states(), [0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(gauge(&metrics, "circuit_half_open_in_seconds", &[]), 5.0);
        assert_eq!(count(&metrics, "circuit_transitions_total", &[("to", "open")]), 1);
        assert_eq!(gauge(&metrics, "rate_limit_available", &[]), 9.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_reports_the_waiting_time_of_all_calls_that_waited() {
    let metrics = Metrics::new();
    let server = steadfast::server()
        .observe("orders", metrics.clone())
        .load_level(Queue::builder(1, 3).max_wait(ms(50)).build().unwrap())
        .service(Backend::script([], Act::answer(200).after(ms(20))))
        .unwrap();
    let calls = (0..4).map(|_| server.clone().oneshot(())).collect::<Vec<_>>();
    let mut all = join_all(calls);
    assert!((&mut all).now_or_never().is_none());
    assert_eq!(gauge(&metrics, "queue_waiting", &[("stack", "orders")]), 3.0);
    assert_eq!(gauge(&metrics, "in_flight", &[("mechanism", "load_level")]), 1.0);
    assert_eq!(count(&metrics, "queue_wait_seconds", &[]), 0);
    let served = all.await.into_iter().filter(Result::is_ok).count();
    assert_eq!(served, 3);
    // The calls waited for 20 ms, for 40 ms, and for the maximum of 50 ms.
    let SampleValue::Histogram(waits) = sample(&metrics, "queue_wait_seconds", &[]) else { panic!("a histogram") };
    assert_eq!(waits.count(), 3);
    assert!((waits.sum() - 0.110).abs() < 1e-9, "{}", waits.sum());
}

#[tokio::test(start_paused = true)]
async fn when_a_stack_ends_its_counts_stay_and_its_gauges_become_zero() {
    let metrics = Metrics::new();
    let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
    let stack = || {
        steadfast::client()
            .observe("payments", metrics.clone())
            .circuit_breaker(breaker.clone())
            .load_shed(Limiter::fixed(3).unwrap())
            .layer()
            .unwrap()
    };
    let transitions = || count(&metrics, "circuit_transitions_total", &[("to", "forced_open")]);
    let first = stack();
    breaker.force_open();
    assert_eq!((transitions(), gauge(&metrics, "in_flight_limit", &[])), (1, 3.0));

    // A breaker in two stacks of one name is read once. Each limiter is read.
    let second = stack();
    assert_eq!((transitions(), gauge(&metrics, "in_flight_limit", &[])), (1, 6.0));
    assert_eq!(gauge(&metrics, "circuit_state", &[("state", "forced_open")]), 1.0);
    drop(first);
    assert_eq!((transitions(), gauge(&metrics, "in_flight_limit", &[])), (1, 3.0));
    breaker.reset();
    breaker.force_open();
    drop(second);
    assert_eq!((transitions(), gauge(&metrics, "in_flight_limit", &[])), (2, 0.0));
    assert_eq!(gauge(&metrics, "circuit_state", &[("state", "forced_open")]), 0.0);

    // The breaker's transitions before the third stack were counted already, and do not count again.
    let third = stack();
    breaker.reset();
    breaker.force_open();
    assert_eq!(transitions(), 3);
    drop(third);
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_is_installed_late_gets_all_counts() {
    let metrics = Metrics::new();
    let client = steadfast::client()
        .observe("payments", metrics.clone())
        .service(service_fn(|()| ready(Ok::<_, io::Error>(()))))
        .unwrap();
    client.clone().oneshot(()).await.unwrap();
    let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS).unwrap().build_recorder();
    let exporter = recorder.handle();
    let rendered = || {
        with_local_recorder(&recorder, || metrics.collect());
        exporter.render()
    };
    let line = "steadfast_call_duration_seconds_count{stack=\"payments\",outcome=\"success\"}";
    assert!(rendered().contains(&format!("{line} 1\n")), "{}", exporter.render());
    client.clone().oneshot(()).await.unwrap();
    assert!(rendered().contains(&format!("{line} 2\n")), "{}", exporter.render());
    assert!(rendered().contains(&format!("{line} 2\n")), "{}", exporter.render());
}

#[test]
fn threads_lose_no_count() {
    let metrics = Metrics::new();
    let client = steadfast::client()
        .observe("payments", metrics.clone())
        .service(service_fn(|()| ready(Ok::<_, io::Error>(()))))
        .unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    assert!(client.clone().call(()).now_or_never().is_some());
                }
            });
        }
    });
    assert_eq!(count(&metrics, "call_duration_seconds", &[("outcome", "success")]), 4000);
    assert_eq!(count(&metrics, "attempt_duration_seconds", &[("kind", "first"), ("outcome", "success")]), 4000);
}

#[test]
fn a_counted_call_allocates_nothing() {
    let client = steadfast::client()
        .observe("payments", Metrics::new())
        .timeout(secs(6))
        .retry(Retry::new(3))
        .circuit_breaker(Breaker::builder().build().unwrap())
        .load_shed(Limiter::fixed(8).unwrap())
        .attempt_timeout(secs(1))
        .service(service_fn(|()| ready(Ok::<_, io::Error>(()))))
        .unwrap();
    let call = || assert!(client.clone().call(()).now_or_never().is_some());
    call();
    let before = so_far();
    (0..1000).for_each(|_| call());
    assert_eq!(so_far(), before);
}

/// A user's instrument that runs a function while it is read.
struct Own(Arc<dyn Fn() + Send + Sync>);

impl Instrument for Own {
    fn read(&self, _now: Instant, readings: &mut Readings<'_>) {
        (self.0)();
        readings.add(Reading::count("own_total", 1));
        readings.add(Reading::sum("own", 2.0).label("kind", "fine"));
    }
}

#[test]
fn a_users_instrument_is_read_under_no_lock() {
    let metrics = Metrics::new();
    let inner = metrics.clone();
    let depth = Arc::new(AtomicU32::new(0));
    let watching = metrics.watch(
        "own",
        Own(Arc::new(move || {
            if depth.fetch_add(1, Ordering::Relaxed) == 1 {
                inner.samples();
            }
        })),
    );
    let samples = metrics.samples();
    let own: Vec<_> = samples.iter().filter(|sample| sample.name.starts_with("own")).collect();
    assert_eq!(own.len(), 2, "{own:?}");
    assert_eq!(own[0].labels, [("stack", "own"), ("kind", "fine")]);
    drop(watching);
}
