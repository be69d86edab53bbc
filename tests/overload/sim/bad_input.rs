//! Invalid scenarios: each is refused with the field, the value and the rule, without a panic or an endless loop.

use super::{into, ms, secs};
use proptest::prelude::*;
use std::time::Duration;
use steadfast::{
    ConfigError,
    sim::{Backend, BackendService, Latency, Link, Load, Report, Scenario},
};

fn backend() -> Backend {
    Backend::new(Latency::fixed(ms(1)))
}

fn scenario(load: Load) -> Scenario {
    Scenario::new(load).length(secs(10))
}

#[track_caller]
fn refused(result: Result<Report, ConfigError>, field: &str, value: &str, rule: &str) {
    let error = result.expect_err("this cannot work");
    assert_eq!((error.field(), error.value(), error.rule()), (field, value, rule));
}

#[track_caller]
fn load_refused(load: Load, field: &str, value: &str, rule: &str) {
    refused(scenario(load).run(into(backend())), field, value, rule);
}

#[track_caller]
fn backend_refused(backend: Backend, field: &str, value: &str, rule: &str) {
    refused(scenario(Load::poisson(10.0)).run(into(backend)), field, value, rule);
}

#[test]
fn a_load_without_arrivals() {
    let (field, rule) = ("sim.load.calls", "must be above 0, and at most 1e9 in the whole run");
    load_refused(Load::poisson(0.0), field, "0.0", rule);
    load_refused(Load::constant(0.0).spike(secs(1), secs(2), 0.0), field, "0.0", rule);
    load_refused(Load::constant(5.0).step(secs(0), 0.0), field, "0.0", rule);
    load_refused(Load::closed(0, secs(1)), "sim.load.callers", "0", "must be from 1 to 1000000");
}

#[test]
fn a_load_whose_first_call_would_arrive_after_the_end() {
    let (field, rule) = ("sim.load.calls", "must be above 0, and at most 1e9 in the whole run");
    load_refused(Load::constant(0.1), field, "0", rule);
    load_refused(Load::poisson(1e-9), field, "0", rule);
    let rare = scenario(Load::constant(0.1)).and(Load::constant(1.0)).run(into(backend()));
    assert_eq!(rare.unwrap().offered(), 9);
}

#[test]
fn a_load_without_an_end() {
    let (field, rule) = ("sim.load.calls", "must be above 0, and at most 1e9 in the whole run");
    load_refused(Load::constant(1e9), field, "10000000000.0", rule);
    load_refused(Load::closed(1_000_000, Duration::ZERO), field, "10000000000.0", rule);
    load_refused(Load::closed(1_000_000, ms(9)), field, "1111111111.1111112", rule);
    load_refused(
        Load::closed(usize::MAX, secs(1)),
        "sim.load.callers",
        &usize::MAX.to_string(),
        "must be from 1 to 1000000",
    );
}

#[test]
fn an_invalid_rate() {
    let rule = "must be a number from 0 to 1e9";
    let rates =
        [(-1.0, "-1.0"), (f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf"), (2e9, "2000000000.0")];
    for (rate, text) in rates {
        load_refused(Load::poisson(rate), "sim.load.rps", text, rule);
        load_refused(Load::constant(rate), "sim.load.rps", text, rule);
        load_refused(Load::poisson(1.0).spike(secs(1), secs(2), rate), "sim.load.rps", text, rule);
        load_refused(Load::poisson(1.0).step(secs(1), rate), "sim.load.rps", text, rule);
        load_refused(Load::poisson(1.0).ramp(secs(1), secs(2), 1.0, rate), "sim.load.rps", text, rule);
    }
}

#[test]
fn a_segment_outside_the_run() {
    let (field, rule) = ("sim.load.segment", "must begin before it ends, and end within the run");
    load_refused(Load::poisson(1.0).spike(secs(2), secs(1), 5.0), field, "2s..1s", rule);
    load_refused(Load::poisson(1.0).spike(secs(2), secs(2), 5.0), field, "2s..2s", rule);
    load_refused(Load::poisson(1.0).spike(secs(9), secs(11), 5.0), field, "9s..11s", rule);
    load_refused(Load::poisson(1.0).ramp(secs(9), secs(11), 5.0, 9.0), field, "9s..11s", rule);
    load_refused(Load::poisson(1.0).spike(secs(10), secs(11), 5.0), field, "10s..11s", rule);
    load_refused(Load::poisson(1.0).step(secs(10), 5.0), field, "10s..10s", rule);
    assert!(scenario(Load::poisson(1.0).spike(secs(9), secs(10), 5.0)).run(into(backend())).is_ok());
}

#[test]
fn a_rate_of_a_closed_load() {
    let (field, rule) = ("sim.load.segment", "must be left out: a closed load has no rate");
    load_refused(Load::closed(3, ms(10)).spike(secs(1), secs(2), 5.0), field, "1s", rule);
    load_refused(Load::closed(3, ms(10)).step(secs(4), 0.0), field, "4s", rule);
}

#[test]
fn dead_keys_that_no_call_has() {
    let (field, rule) = ("sim.backend.dead_keys", "must begin before they end, and be below a load's number of keys");
    backend_refused(backend().dead_keys(1..3), field, "1..3", rule);
    let keyed = |dead| scenario(Load::poisson(10.0).keys(2)).and(Load::poisson(10.0).keys(5)).run(into(dead));
    #[expect(clippy::reversed_empty_ranges, reason = "the test checks that it is refused")]
    let reversed = backend().dead_keys(3..1);
    refused(keyed(reversed), field, "3..1", rule);
    refused(keyed(backend().dead_keys(2..2)), field, "2..2", rule);
    refused(keyed(backend().dead_keys(4..6)), field, "4..6", rule);
    assert!(keyed(backend().dead_keys(4..5)).is_ok());
}

#[test]
fn a_load_with_impossible_settings() {
    load_refused(Load::poisson(1.0).keys(0), "sim.load.keys", "0", "must be at least 1");
    load_refused(Load::poisson(1.0).in_time(Duration::ZERO), "sim.load.in_time", "0ns", "must be longer than zero");
}

#[test]
fn a_disturbance_outside_the_run() {
    let (field, rule) = ("sim.backend.disturbance", "must begin before it ends, and end within the run");
    backend_refused(backend().outage(secs(9)..secs(11)), field, "9s..11s", rule);
    backend_refused(backend().outage(secs(20)..secs(21)), field, "20s..21s", rule);
    backend_refused(backend().slow(secs(3)..secs(3), 2.0), field, "3s..3s", rule);
    backend_refused(backend().hang(secs(3)..secs(2)), field, "3s..2s", rule);
    assert!(scenario(Load::poisson(1.0)).run(into(backend().outage(secs(9)..secs(10)))).is_ok());
}

#[test]
fn an_invalid_backend() {
    backend_refused(backend().servers(0), "sim.backend.servers", "0", "must be at least 1");
    for (probability, text) in [(-0.1, "-0.1"), (1.1, "1.1"), (f64::NAN, "NaN")] {
        let rule = "must be a number from 0 to 1";
        backend_refused(backend().failing(probability), "sim.backend.failing", text, rule);
    }
    for (factor, text) in [(0.0, "0.0"), (-1.0, "-1.0"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        backend_refused(backend().slow(secs(1)..secs(2), factor), "sim.backend.slow", text, "must be a number above 0");
    }
    for (sigma, text) in [(-1.0, "-1.0"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let strange = Latency::log_normal(ms(1), sigma);
        let (field, rule) = ("sim.latency.sigma", "must be a number of at least 0");
        backend_refused(Backend::new(strange), field, text, rule);
        let linked = scenario(Load::poisson(1.0)).run(|sim| Ok(Link::new(sim, strange, sim.backend(backend()))));
        refused(linked, field, text, rule);
    }
}

#[test]
fn a_run_of_zero_or_excessive_length() {
    let rule = "must be longer than zero and at most 366 days";
    let run = |length| Scenario::new(Load::poisson(1.0)).length(length).run(into(backend()));
    refused(run(Duration::ZERO), "sim.length", "0ns", rule);
    refused(run(Duration::MAX), "sim.length", &format!("{:?}", Duration::MAX), rule);
    let patient = scenario(Load::poisson(1.0)).settle_within(Duration::MAX).run(into(backend()));
    refused(patient, "sim.settle_within", &format!("{:?}", Duration::MAX), "must be at most a day");
}

#[test]
fn a_run_without_clients() {
    let result = scenario(Load::poisson(1.0)).run_clients(|_| Ok(Vec::<BackendService>::new()));
    refused(result, "sim.clients", "0", "must be at least 1");
}

#[test]
fn a_run_inside_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let result = runtime.block_on(async { scenario(Load::poisson(1.0)).run(into(backend())) });
    refused(result, "sim.run", "\"called inside a tokio runtime\"", "must be called outside a tokio runtime");
}

#[test]
fn an_invalid_client() {
    let result = scenario(Load::poisson(1.0)).run(|sim| {
        let backend = sim.backend(backend());
        steadfast::client().timeout(Duration::ZERO).service(backend)
    });
    refused(result, "timeout", "0ns", "must be longer than zero and at most 366 days");
}

#[test]
fn a_service_that_never_answers_does_not_keep_the_run_from_ending() {
    let never = Backend::new(Latency::fixed(Duration::MAX)).servers(1);
    let report = scenario(Load::poisson(10.0)).run(into(never)).unwrap();
    assert_eq!(report.classes[0].unanswered, report.offered());
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![(0u64..3_000).prop_map(ms), Just(Duration::ZERO), Just(Duration::MAX), Just(Duration::from_nanos(1))]
}

fn numbers() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..100.0, Just(0.0), Just(-0.0), Just(1e-300), Just(-1.0), Just(f64::NAN), Just(f64::INFINITY)]
}

fn loads() -> impl Strategy<Value = Load> {
    let plain = prop_oneof![
        numbers().prop_map(Load::poisson),
        numbers().prop_map(Load::constant),
        (0usize..5, durations()).prop_map(|(callers, think)| Load::closed(callers, think)),
    ];
    let segments = prop::collection::vec((durations(), durations(), numbers(), numbers()), 0..4);
    (plain, segments, durations(), 0u64..3).prop_map(|(plain, segments, in_time, keys)| {
        let load = segments.into_iter().fold(plain, |load, (from, to, begin, end)| load.ramp(from, to, begin, end));
        load.in_time(in_time).keys(keys)
    })
}

fn latencies() -> impl Strategy<Value = Latency> {
    prop_oneof![
        durations().prop_map(Latency::fixed),
        durations().prop_map(Latency::exponential),
        (durations(), numbers()).prop_map(|(median, sigma)| Latency::log_normal(median, sigma)),
        (durations(), durations()).prop_map(|(mean, deviation)| Latency::normal(mean, deviation)),
        (durations(), durations()).prop_map(|(base, per_call)| Latency::growing_with_in_flight(base, per_call)),
    ]
}

fn backends() -> impl Strategy<Value = Backend> {
    let disturbances = prop::collection::vec((0..3, durations(), durations(), numbers()), 0..4);
    (latencies(), 0usize..4, 0usize..4, numbers(), disturbances, any::<bool>()).prop_map(
        |(latency, servers, bound, failing, disturbances, notices)| {
            let backend = Backend::new(latency).servers(servers).queue_bound(bound).failing(failing);
            let backend = if notices { backend.notices_cancellation().newest_first() } else { backend };
            disturbances.into_iter().fold(backend, |backend, (kind, from, to, factor)| match kind {
                0 => backend.outage(from..to),
                1 => backend.slow(from..to, factor),
                _ => backend.hang(from..to),
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn every_scenario_is_refused_or_accounts_for_every_call(
        load in loads(),
        backend in backends(),
        hop in latencies(),
        length in durations(),
        settle in durations(),
        limit in durations(),
    ) {
        // A day of settling is allowed, but would take too long here.
        let settle = if settle == Duration::MAX { settle } else { settle.min(secs(5)) };
        let scenario = Scenario::new(load).length(length).settle_within(settle);
        let result = scenario.run(|sim| {
            let far = Link::new(sim, hop, sim.backend(backend));
            steadfast::client().timeout(limit).service(far)
        });
        match result {
            Err(error) => prop_assert!(!error.field().is_empty() && !error.rule().is_empty()),
            Ok(report) => {
                for class in &report.classes {
                    let rejected: u64 = class.rejected.values().sum();
                    let ended = class.in_time + class.late + class.failed + rejected;
                    prop_assert_eq!(class.offered, ended + class.unanswered);
                }
            }
        }
    }
}
