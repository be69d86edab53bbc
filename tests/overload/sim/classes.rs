//! Reports of each class, of many runs, and of runs with a warm-up.

use super::{assert_near, bare, class, ms, secs, seen};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::{net::Ipv4Addr, panic, time::Duration};
use steadfast::{
    load_shed::Limiter,
    rate_limit::{Keyed, Quota, RateLimit, RateLimitLayer},
    sim::{Backend, BackendService, Estimate, Latency, Link, Load, Recovery, Report, Scenario, each_seed},
};
use tower::{Layer, ServiceExt};

/// Returns the message of a failed assertion.
fn complaint(assertion: impl FnOnce() + panic::UnwindSafe) -> String {
    let payload = panic::catch_unwind(assertion).expect_err("the assertion should have failed");
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref().map(|text: &&str| (*text).to_owned())).expect("a message")
}

/// 96 calls of one class and 4 of another per second, for 100 s. The backend fails all calls from 20 to 30 s. From 20 s
/// to the end, each call of the small class fails.
fn one_stays_dead() -> Report {
    let small = Load::constant(4.0).named("small");
    Scenario::new(Load::constant(96.0).named("large"))
        .and(small)
        .length(secs(100))
        .run(|sim| {
            let backend = sim.backend(Backend::new(Latency::fixed(ms(5))).outage(secs(20)..secs(30)));
            let (dead, clock) = (sim.backend(Backend::new(Latency::fixed(ms(5))).failing(1.0)), sim.clone());
            Ok(tower::service_fn(move |call: steadfast::sim::Call| {
                let lost = call.class == 1 && clock.elapsed() >= secs(20);
                let backend: BackendService = if lost { dead.clone() } else { backend.clone() };
                backend.oneshot(call)
            }))
        })
        .unwrap()
}

#[test]
fn a_small_class_that_stays_dead_has_not_recovered() {
    let report = one_stays_dead();
    assert_eq!(report.class("large").recovery(), Recovery::After(Duration::ZERO));
    assert_eq!(report.class("small").recovery(), Recovery::Never);
    assert_eq!(report.recovery(), Recovery::Never);
    report.class("large").assert_recovers_within(secs(1));
    let text = complaint(|| one_stays_dead().class("small").assert_recovers_within(secs(60)));
    assert!(text.starts_with("goodput never recovered, wanted recovery within 60s\nclass "), "{text}");
}

#[test]
fn earlier_failures_are_no_relapse() {
    // 6% fail, before the outage and after it.
    for seed in 0..20 {
        let backend = Backend::new(Latency::fixed(ms(5))).failing(0.06).outage(secs(20)..secs(25));
        let scenario = Scenario::new(Load::poisson(100.0)).length(secs(60)).seed(seed);
        let report = scenario.run(|sim| Ok(sim.backend(backend))).unwrap();
        assert!(matches!(report.recovery(), Recovery::After(time) if time <= secs(1)), "seed {seed}\n{report}");
    }
}

#[test]
fn twice_the_failures_of_before_are_a_relapse() {
    for seed in 0..20 {
        let scenario = Scenario::new(Load::poisson(100.0).spike(secs(20), secs(21), 150.0)).length(secs(60)).seed(seed);
        let report = scenario.run(|sim| {
            let before = sim.backend(Backend::new(Latency::fixed(ms(5))).failing(0.1));
            let (after, clock) = (sim.backend(Backend::new(Latency::fixed(ms(5))).failing(0.3)), sim.clone());
            Ok(tower::service_fn(move |call| {
                if clock.elapsed() < secs(20) { before.clone().oneshot(call) } else { after.clone().oneshot(call) }
            }))
        });
        assert_eq!(report.unwrap().recovery(), Recovery::Never, "seed {seed}");
    }
}

#[test]
fn a_few_calls_prove_nothing() {
    // In the spans that begin after the outage, 18 calls arrive in the first run, and 20 in the second.
    let after = |length| {
        let backend = Backend::new(Latency::fixed(ms(1))).outage(secs(4)..ms(5_050));
        bare(Load::constant(10.0), length, backend).recovery()
    };
    assert_eq!(after(ms(7_000)), Recovery::Untested);
    assert!(matches!(after(ms(7_200)), Recovery::After(_)));
    // A class that ends with the disturbance does not count; the other classes do.
    let spike = Load::constant(0.0).named("spike").spike(secs(2), secs(3), 500.0);
    let scenario = Scenario::new(Load::constant(50.0)).and(spike).length(secs(20));
    let report = scenario.run(|sim| Ok(sim.backend(Backend::new(Latency::fixed(ms(1)))))).unwrap();
    assert_eq!(report.class("spike").recovery(), Recovery::Untested);
    assert_eq!(report.recovery(), Recovery::After(Duration::ZERO));
}

#[test]
fn many_small_classes_count_together() {
    let tiny = |name: &str| Load::constant(0.5).named(name);
    let scenario = (1..20).fold(Scenario::new(tiny("0")), |scenario, name| scenario.and(tiny(&name.to_string())));
    let run = |backend: Backend| {
        let report = scenario.clone().length(secs(40)).run(|sim| Ok(sim.backend(backend))).unwrap();
        assert!(report.classes.iter().all(|class| class.recovery() == Recovery::Untested), "{report}");
        report.recovery()
    };
    let outage = Backend::new(Latency::fixed(ms(1))).outage(secs(5)..secs(10));
    assert!(matches!(run(outage.clone()), Recovery::After(_)));
    assert_eq!(run(outage.outage(secs(10)..secs(39))), Recovery::Untested);
}

#[test]
fn a_class_has_assertions_of_its_own() {
    let report = one_stays_dead();
    report.class("large").assert_goodput_at_least(0.89);
    report.class("large").assert_p99_at_most(ms(6));
    report.class("small").assert_rejected_at_most("timeout", 0.0);
    let text = complaint(|| one_stays_dead().class("small").assert_goodput_at_least(0.5));
    assert!(text.starts_with("goodput is 0.1980, wanted at least 0.5\nclass "), "{text}");
    let text = complaint(|| one_stays_dead().class("large").assert_p99_at_most(ms(4)));
    assert!(text.starts_with("the p99 is 5.0"), "{text}");
    let text = complaint(|| {
        let _ = one_stays_dead().class("Large");
    });
    assert_eq!(text, "there is no class \"Large\", only [\"large\", \"small\"]");
}

#[test]
fn without_answers_no_assertion_passes() {
    let dead = bare(Load::constant(10.0), secs(10), Backend::new(Latency::fixed(ms(20))).failing(1.0));
    assert_eq!((class(&dead).latency, class(&dead).latency_of_rejected), (None, None));
    assert_near("the failures", class(&dead).latency_of_failed.unwrap().p50, 0.02, 0.001);
    assert!(dead.to_string().contains("          -          -\n  failed after: p50 20.0 ms, p99 20.0 ms\n"), "{dead}");
    let text = complaint(move || class(&dead).assert_p99_at_most(secs(1)));
    assert!(text.starts_with("there was no answer, wanted a p99 of at most 1s\nclass "), "{text}");
}

#[test]
fn refusals_have_their_own_latency() {
    let report = Scenario::new(Load::constant(10.0)).length(secs(10)).run(|sim| {
        let backend = sim.backend(Backend::new(Latency::fixed(secs(1))));
        steadfast::client().timeout(ms(100)).service(backend)
    });
    let report = report.unwrap();
    assert_eq!(class(&report).latency, None);
    assert_near("the refusals", class(&report).latency_of_rejected.unwrap().p50, 0.1, 0.001);
}

#[test]
fn a_misspelt_mechanism_passes_no_assertion() {
    let report = || bare(Load::constant(10.0), secs(1), Backend::new(Latency::fixed(ms(1))));
    for text in [
        complaint(move || report().assert_rejected_at_most("time_out", 0.0)),
        complaint(move || class(&report()).assert_rejected_at_most("time_out", 0.0)),
        complaint(move || {
            let _ = report().rejected("time_out");
        }),
    ] {
        assert!(text.starts_with("no mechanism is called \"time_out\", only [\"timeout\", "), "{text}");
    }
}

#[test]
fn without_a_backend_there_is_no_amplification() {
    let report = || {
        Scenario::new(Load::constant(10.0))
            .length(secs(1))
            .run(|_| Ok(tower::service_fn(|_| async { Ok::<_, steadfast::sim::Failure>(steadfast::sim::Reply) })))
    };
    assert_eq!(report().unwrap().amplification(), None);
    let text = complaint(|| report().unwrap().assert_amplification_at_most(10.0));
    assert!(text.starts_with("there is no backend, wanted an amplification of at most 10\nclass "), "{text}");
}

#[test]
fn a_server_at_twice_its_capacity_has_a_utilization_of_one() {
    // 1,000 calls per second for ten seconds, and half of them wait at the end of the run.
    let report = bare(Load::constant(1_000.0), secs(10), Backend::new(Latency::fixed(ms(2))).servers(1));
    let seen = seen(&report);
    assert!((0.999..=1.0).contains(&seen.utilization.unwrap()), "{report}");
    // The queue grows by 500 each second.
    assert_near("the waiting calls", seen.mean_waiting, 2_500.0, 0.01);
}

#[test]
fn a_warm_up_is_no_part_of_the_report() {
    // All calls of the first two of ten seconds fail, and no others.
    let run = |warm_up| {
        let scenario = Scenario::new(Load::constant(100.0)).length(secs(10)).warm_up(warm_up);
        let backend = Backend::new(Latency::fixed(ms(20))).servers(4).outage(Duration::ZERO..ms(1_995));
        scenario.run(|sim| Ok(sim.backend(backend))).unwrap()
    };
    let (whole, warm) = (run(Duration::ZERO), run(ms(1_995)));
    assert_eq!((whole.offered(), class(&whole).failed), (999, 199));
    assert_eq!((warm.offered(), class(&warm).failed, warm.goodput()), (800, 0, 1.0));
    assert_eq!((seen(&warm).received, seen(&warm).answered, warm.amplification()), (800, 800, Some(1.0)));
    assert_near("busy", seen(&warm).mean_busy, 2.0, 0.01);
    assert_near("busy", seen(&whole).mean_busy, 1.6, 0.01);
    assert_eq!((warm.spans[0].from, warm.spans[99].to), (1.995, 10.0));
    // Calls that are in the backend when the warm-up ends count as in flight, and in no other number.
    let load = Load::constant(100.0).step(secs(1), 1.0).in_time(secs(10));
    let slow = Scenario::new(load)
        .length(secs(4))
        .warm_up(secs(2))
        .run(|sim| Ok(sim.backend(Backend::new(Latency::fixed(secs(3))))));
    let slow = slow.unwrap();
    assert_eq!((slow.offered(), seen(&slow).received, seen(&slow).answered), (2, 2, 2));
    assert!((100..=102).contains(&seen(&slow).most_in_flight), "{slow}");
}

#[test]
fn a_warm_up_ends_within_the_run() {
    let result =
        Scenario::new(Load::constant(1.0)).warm_up(secs(60)).run(super::into(Backend::new(Latency::fixed(ms(1)))));
    let error = result.unwrap_err();
    assert_eq!((error.field(), error.rule()), ("sim.warm_up", "must be shorter than the run"));
}

#[test]
fn several_seeds_give_the_runs_of_each_seed() {
    let scenario = Scenario::new(Load::poisson(50.0)).length(secs(5));
    let run = |sim: &steadfast::sim::Sim| Ok(sim.backend(Backend::new(Latency::exponential(ms(20))).servers(1)));
    let together = scenario.clone().seeds(3..=9).run(run).unwrap().reports;
    let alone: Vec<Report> = (3..=9).map(|seed| scenario.clone().seed(seed).run(run).unwrap()).collect();
    assert_eq!(together, alone);
    let none = scenario.seeds(RANGE_WITHOUT_A_SEED).run(run).unwrap_err();
    assert_eq!(none.field(), "sim.seeds");
}

#[allow(clippy::reversed_empty_ranges, reason = "the test is about such a range")]
const RANGE_WITHOUT_A_SEED: std::ops::RangeInclusive<u64> = 2..=1;

#[test]
fn several_seeds_return_the_first_error() {
    let error = each_seed(0..20, |seed| {
        if seed < 5 { Ok(seed) } else { Err(steadfast::ConfigError::new("seed", seed, "must be below 5")) }
    });
    assert_eq!(error.unwrap_err().value(), "5");
}

#[test]
fn an_estimate_agrees_with_numbers_computed_by_hand() {
    // Deviation sqrt(2.5), standard error sqrt(0.5), t of four degrees of freedom 2.776.
    let estimate = Estimate::of([1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_near("the mean", estimate.mean, 3.0, 1e-12);
    assert_near("the half width", estimate.half_width, 2.776 * 0.5f64.sqrt(), 1e-9);
    assert_eq!(estimate.to_string(), "3.0000 ± 1.9629 (5 runs)");
    assert_near("the lower end", estimate.low(), 3.0 - 1.962_928, 1e-5);
    assert_near("the upper end", estimate.high(), 3.0 + 1.962_928, 1e-5);
    assert!(Estimate::of([]).mean.is_nan());
    assert_eq!(Estimate::of([7.0]).half_width, f64::INFINITY);
    // Student's t of 30 degrees of freedom is 2.042, of 120 it is 1.980.
    for (runs, quantile) in [(31, 2.042), (121, 1.980)] {
        let estimate = Estimate::of((0..runs).map(|run| f64::from(run % 2)));
        let mean = estimate.mean;
        let error = (mean * (1.0 - mean) / f64::from(runs - 1)).sqrt();
        assert_near("the half width", estimate.half_width, quantile * error, 0.001);
    }
}

#[test]
fn the_confidence_interval_contains_the_mean_as_often_as_promised() {
    // Sums of twelve uniform numbers are nearly normal, with the mean 6.
    let mut random = SmallRng::seed_from_u64(7);
    let hits = (0..4_000).filter(|_| {
        let estimate = Estimate::of((0..5).map(|_| (0..12).map(|_| random.random::<f64>()).sum::<f64>()));
        estimate.low() <= 6.0 && 6.0 <= estimate.high()
    });
    // Of 4,000 intervals of 95%, about 3,800 contain it; the standard deviation is 14.
    let hits = hits.count();
    assert!((3_745..=3_855).contains(&hits), "{hits}");
}

#[test]
fn a_permit_that_is_not_returned_is_reported() {
    let run = |leaks: bool| {
        let report = Scenario::new(Load::constant(100.0)).length(secs(5)).run(|sim| {
            let limiter = Limiter::fixed(10)?;
            let held = limiter.clone();
            sim.watch("permits", move || held.in_flight() as u64);
            let backend = sim.backend(Backend::new(Latency::fixed(ms(20))));
            let thief = limiter.clone();
            let server = steadfast::server().load_shed(limiter).service(backend)?.map_response(move |reply| {
                if leaks && thief.in_flight() == 2 {
                    std::mem::forget(thief.try_acquire());
                }
                reply
            });
            // The callers give up, and the server continues.
            steadfast::client().timeout(ms(15)).keep_error().service(Link::new(sim, Latency::fixed(ms(1)), server))
        });
        report.unwrap()
    };
    run(false).assert_nothing_held();
    assert_eq!(run(false).held["permits"], 0);
    assert!(run(true).held["permits"] > 0);
    let text = complaint(move || run(true).assert_nothing_held());
    assert!(text.starts_with("something is still held\nclass ") && text.contains("\npermits: "), "{text}");
    let text =
        complaint(|| bare(Load::constant(1.0), secs(2), Backend::new(Latency::fixed(ms(1)))).assert_nothing_held());
    assert!(text.starts_with("nothing is watched: register the handles with `Sim::watch`\nclass "), "{text}");
}

/// Returns the refusals of a keyed limit that has less room than keys.
fn refusals_of_a_full_table(seed: u64) -> u64 {
    let report = Scenario::new(Load::poisson(500.0).keys(1_000)).length(secs(10)).seed(seed).run(|sim| {
        let quota = Quota::new(1, secs(10));
        let keyed = Keyed::<Ipv4Addr>::builder(100, quota).hasher(sim.hasher()).build()?;
        let limit = RateLimit::by_key(keyed, |call: &steadfast::sim::Call| Ipv4Addr::from(call.key as u32));
        let backend = sim.backend(Backend::new(Latency::fixed(ms(1))));
        Ok(RateLimitLayer::new(limit).typed_error().layer(backend.map_err(steadfast::sim::Failure::from)))
    });
    class(&report.unwrap()).rejected["rate_limit"]
}

#[test]
fn a_keyed_limit_with_the_hasher_of_the_run_is_deterministic() {
    let first = refusals_of_a_full_table(7);
    for _ in 0..4 {
        assert_eq!(refusals_of_a_full_table(7), first);
    }
    assert_ne!(refusals_of_a_full_table(8), first);
}
