//! Reports, and the messages of their failed assertions.

use super::{bare, class, latency, ms, secs};
use std::{panic, time::Duration};
use steadfast::{
    Criticality,
    sim::{Backend, Latency, Link, Load, Recovery, Report, Scenario},
};

/// 10 calls per second for 100 seconds, of which those from 20 to 40 s fail.
fn outage() -> Report {
    let backend = Backend::new(Latency::fixed(ms(20))).outage(ms(19_950)..ms(39_950));
    bare(Load::constant(10.0), secs(100), backend)
}

/// Returns the message of a failed assertion.
fn complaint(assertion: impl FnOnce() + panic::UnwindSafe) -> String {
    let payload = panic::catch_unwind(assertion).expect_err("the assertion should have failed");
    payload.downcast_ref::<String>().cloned().expect("a message with numbers in it")
}

#[test]
fn a_report_counts_the_calls_answered_in_time() {
    let report = outage();
    assert_eq!((report.offered(), class(&report).in_time, class(&report).failed), (999, 799, 200));
    assert_eq!(report.goodput(), 799.0 / 999.0);
    assert_eq!(report.goodput_between(secs(0), secs(19)), Some(1.0));
    assert_eq!(report.goodput_between(secs(21), secs(39)), Some(0.0));
    assert_eq!(report.amplification(), Some(1.0));
}

#[test]
fn an_answer_after_the_limit_is_late() {
    let slow = Backend::new(Latency::fixed(ms(20))).slow(secs(2)..secs(4), 100.0);
    let report = bare(Load::constant(10.0).in_time(ms(500)), secs(10), slow);
    assert_eq!((class(&report).in_time, class(&report).late), (79, 20));
}

#[test]
fn goodput_of_a_moment_is_that_of_its_span() {
    let report = outage();
    assert_eq!(report.goodput_between(ms(5_300), ms(5_301)), Some(1.0));
    assert_eq!(report.goodput_between(ms(25_300), ms(25_301)), Some(0.0));
    // Half of the twenty calls in two spans fail: the first failure is at 20 s.
    assert_eq!(report.goodput_between(ms(19_999), ms(20_001)), Some(0.5));
    let pausing = bare(Load::constant(10.0).step(secs(5), 0.0), secs(10), Backend::new(Latency::fixed(ms(1))));
    assert_eq!(pausing.goodput_between(secs(6), secs(8)), None);
    assert_eq!(pausing.goodput_between(secs(11), secs(12)), None);
}

#[test]
fn a_call_belongs_to_the_span_that_begins_with_it() {
    // One call at each edge except the first.
    let report = bare(Load::constant(100.0), secs(1), Backend::new(Latency::fixed(ms(1))));
    let calls: Vec<u64> = report.spans.iter().map(|span| span.offered).collect();
    assert_eq!(calls[0], 0);
    assert!(calls[1..].iter().all(|calls| *calls == 1), "{calls:?}");
}

#[test]
fn each_class_has_its_own_course_over_time() {
    let batch = Load::constant(30.0).named("batch").criticality(Criticality::Sheddable).step(secs(5), 0.0);
    let slow = Backend::new(Latency::fixed(ms(1))).outage(secs(2)..secs(3));
    let scenario = Scenario::new(Load::constant(10.0)).and(batch).length(secs(10));
    let report = scenario.run(|sim| Ok(sim.backend(slow))).unwrap();
    let [calls, batch] = &report.classes[..] else { panic!("{report}") };
    let between = |class: &steadfast::sim::ClassReport, from: usize, to: usize| -> (u64, u64) {
        let spans = &class.spans[from..to];
        (spans.iter().map(|span| span.offered).sum(), spans.iter().map(|span| span.in_time).sum())
    };
    assert_eq!(calls.spans.len(), 100);
    assert_eq!(between(calls, 10, 20), (10, 10));
    assert_eq!(between(calls, 20, 30), (10, 0));
    assert_eq!(between(calls, 60, 100), (40, 40));
    assert_eq!(between(batch, 20, 30), (30, 0));
    assert_eq!(between(batch, 60, 100), (0, 0));
    assert_eq!(report.spans[45].offered, calls.spans[45].offered + batch.spans[45].offered);
}

#[test]
fn a_run_has_recovered_when_goodput_stays_good() {
    assert_eq!(outage().recovery(), Recovery::After(ms(50)));
    // Each of the first nine seconds has an outage in its second half. The last second has none.
    let bad_days = (0..9).fold(Backend::new(Latency::fixed(ms(1))), |backend, second| {
        backend.outage(ms(second * 1_000 + 500)..ms(second * 1_000 + 1_000))
    });
    let flapping = |backend| bare(Load::constant(1_000.0), secs(10), backend).recovery();
    assert_eq!(flapping(bad_days.clone()), Recovery::After(secs(0)));
    // A fifth fails before the disturbance as well.
    assert_eq!(flapping(bad_days.failing(0.2)), Recovery::After(secs(0)));
}

#[test]
fn a_relapse_is_no_recovery() {
    // The disturbance ends at 10 s. Each call after 40 s fails outside the backend, so the run knows of no disturbance
    // there.
    let report = Scenario::new(Load::constant(100.0).spike(secs(5), secs(10), 200.0)).length(secs(60)).run(|sim| {
        let (clock, backend) = (sim.clone(), sim.backend(Backend::new(Latency::fixed(ms(1)))));
        Ok(tower::service_fn(move |call| {
            let (late, backend) = (clock.elapsed() > secs(40), backend.clone());
            async move {
                let reply = tower::ServiceExt::oneshot(backend, call).await;
                if late { Err(steadfast::sim::Failure::Failed) } else { reply }
            }
        }))
    });
    assert_eq!(report.unwrap().recovery(), Recovery::Never);
}

#[test]
fn without_calls_after_the_disturbance_there_is_no_recovery() {
    // The backend is dead, and after the last disturbance there are no calls to show it.
    let dead = Backend::new(Latency::fixed(ms(1))).failing(1.0);
    let report = bare(Load::constant(100.0).step(ms(19_600), 0.0), secs(40), dead);
    assert_eq!(report.recovery(), Recovery::Untested);
    assert!(report.to_string().ends_with(", too few calls after the last disturbance\n"), "{report}");
    // If the disturbance ends with the run, there are no calls after it either, although no call fails.
    let healthy = || Backend::new(Latency::fixed(ms(1)));
    let ramp = Load::constant(100.0).ramp(secs(5), secs(10), 100.0, 200.0);
    assert_eq!(bare(ramp, secs(10), healthy()).recovery(), Recovery::Untested);
    let spike = Load::constant(100.0).spike(secs(5), secs(10), 200.0);
    assert_eq!(bare(spike, secs(10), healthy()).recovery(), Recovery::Untested);
}

#[test]
fn without_a_disturbance_there_is_nothing_to_recover_from() {
    let report = bare(Load::constant(100.0), secs(10), Backend::new(Latency::fixed(ms(1))));
    assert_eq!((report.recovery(), report.calm_from), (Recovery::Undisturbed, None));
    assert!(!report.to_string().contains("recovered"), "{report}");
}

#[test]
fn constant_failures_do_not_hide_a_recovery() {
    // 8 to 40 calls in a span, of which one in fifty fails.
    for rps in [20.0, 50.0, 100.0] {
        for seed in 0..4 {
            let scenario = Scenario::new(Load::poisson(rps).spike(secs(10), secs(15), rps * 2.0)).length(secs(40));
            let flaky = Backend::new(Latency::fixed(ms(5))).failing(0.02);
            let report = scenario.seed(seed).run(|sim| Ok(sim.backend(flaky))).unwrap();
            let Recovery::After(time) = report.recovery() else { panic!("seed {seed}, {rps} rps\n{report}") };
            // A failure soon after the spike can lengthen the recovery. On these seeds there is none.
            assert!(time <= secs(1), "seed {seed}, {rps} rps\n{report}");
        }
    }
}

#[test]
fn constant_failures_do_not_change_the_time_of_a_recovery() {
    // A queue of 20 s of work, which is served at twice the speed at which it grows: it takes 40 s until calls are in
    // time again.
    for seed in 0..2 {
        let scenario = Scenario::new(Load::poisson(50.0).in_time(secs(2))).length(secs(140));
        let hanging = Backend::new(Latency::fixed(ms(10))).servers(1).failing(0.01).hang(secs(20)..secs(60));
        let report = scenario.seed(seed).run(|sim| Ok(sim.backend(hanging))).unwrap();
        let Recovery::After(time) = report.recovery() else { panic!("seed {seed}\n{report}") };
        assert!((secs(32)..=secs(42)).contains(&time), "seed {seed}\n{report}");
    }
}

#[test]
fn latencies_are_exact_to_a_thousandth() {
    let short = [700, 1_500, 123_456].map(Duration::from_nanos);
    for time in short.into_iter().chain([1, 7, 100, 12_345, 60_000].map(ms)) {
        let report = bare(Load::constant(1.0), secs(10), Backend::new(Latency::fixed(time)));
        let (took, expected) = (latency(&report), time.as_secs_f64());
        for quantile in [took.mean, took.p50, took.p90, took.p99, took.p999, took.max] {
            assert!((quantile - expected).abs() <= expected / 1_000.0, "{quantile} s instead of {expected} s");
        }
    }
}

#[test]
fn a_report_prints_as_a_table() {
    let text = outage().to_string();
    assert_eq!(
        text,
        "\
class           offered    in time       late     failed   rejected unanswered     p50 ms     p99 ms
calls               999        799          0        200          0          0       20.0       20.0
  failed after: p50 0.0 ms, p99 0.0 ms
backend: 999 received (1.000 per call), 999 answered, 0 refused, 0 wasted, 0 abandoned, 0 in flight; 1 at once, 0.0 waiting, 0.2 busy
goodput 0.7998, 1 tasks at once, recovered 50ms after the last disturbance
"
    );
}

#[test]
fn a_report_has_the_calls_of_each_backend() {
    let report = Scenario::new(Load::constant(10.0)).length(secs(10)).run(|sim| {
        let [cache, database] = ["cache", "database"].map(|name| {
            let backend = Backend::new(Latency::fixed(ms(1))).named(name);
            sim.backend(if name == "cache" { backend.failing(1.0) } else { backend })
        });
        Ok(tower::service_fn(move |call| {
            let (cache, database) = (cache.clone(), database.clone());
            async move {
                let cached = tower::ServiceExt::oneshot(cache, call).await;
                // Each call reaches the database twice.
                tower::ServiceExt::oneshot(database.clone(), call).await?;
                cached.or(tower::ServiceExt::oneshot(database, call).await)
            }
        }))
    });
    let report = report.unwrap();
    let text = report.to_string();
    assert!(text.contains("\ncache: 99 received (1.000 per call), "), "{text}");
    assert!(text.contains("\ndatabase: 198 received (2.000 per call), "), "{text}");
    assert_eq!(report.amplification(), Some(3.0));
}

#[test]
fn a_report_counts_the_tasks_that_a_server_would_have() {
    // Counts the three callers. Does not count the loops that make their calls, or the backend at its work.
    let backend = || Backend::new(Latency::fixed(ms(10)));
    let closed = || Scenario::new(Load::closed(3, ms(10))).length(secs(1));
    let report = closed().run(|sim| Ok(sim.backend(backend()))).unwrap();
    assert_eq!(report.most_tasks, 3);
    assert!(report.to_string().contains(", 3 tasks at once"), "{report}");
    // On the link, each caller has one more task.
    let far = closed().run(|sim| Ok(Link::new(sim, Latency::fixed(ms(1)), sim.backend(backend()))));
    assert_eq!(far.unwrap().most_tasks, 6);
}

#[test]
fn a_report_serializes_the_numbers_of_the_table() {
    let json: serde_json::Value = serde_json::to_value(outage()).unwrap();
    assert_eq!(json["goodput"], 799.0 / 999.0);
    assert_eq!(json["amplification"], 1.0);
    assert_eq!(json["recovery"], serde_json::json!({ "state": "after", "seconds": 0.05 }));
    assert_eq!(json["calm_from"], 39.95);
    assert_eq!(json["classes"][0]["spans"][30]["in_time"], 0);
    assert_eq!(json["backends"][0]["refused"], 0);
    let calm = bare(Load::constant(10.0), secs(1), Backend::new(Latency::fixed(ms(1))));
    let json = serde_json::to_value(calm).unwrap();
    assert_eq!(json["recovery"], serde_json::json!({ "state": "undisturbed" }));
}

#[test]
fn a_report_names_the_mechanisms_of_rejections() {
    let backend = Backend::new(Latency::fixed(ms(200)));
    let report = Scenario::new(Load::constant(10.0)).length(secs(10)).run(|sim| {
        let backend = sim.backend(backend);
        steadfast::client().timeout(ms(100)).service(backend)
    });
    let report = report.unwrap();
    assert_eq!(report.rejected("timeout"), 1.0);
    assert_eq!(report.rejected("load_shed"), 0.0);
    assert!(report.to_string().contains("  rejected by timeout: 99\n"), "{report}");
    report.assert_rejected_at_most("load_shed", 0.0);
    let text = complaint(|| report.assert_rejected_at_most("timeout", 0.05));
    assert!(text.starts_with("timeout rejected 1.0000, wanted at most 0.05\nclass "), "{text}");
}

#[test]
fn failed_assertions_show_the_numbers() {
    let report = outage();
    report.assert_goodput_at_least(0.79);
    let text = complaint(|| outage().assert_goodput_at_least(0.9));
    assert!(text.starts_with("goodput is 0.7998, wanted at least 0.9\nclass "), "{text}");

    report.assert_amplification_at_most(1.0);
    let text = complaint(|| outage().assert_amplification_at_most(0.5));
    assert!(text.starts_with("amplification is 1.0000, wanted at most 0.5\nclass "), "{text}");

    report.assert_recovers_within(ms(50));
    let text = complaint(|| outage().assert_recovers_within(ms(49)));
    assert!(text.starts_with("goodput took 50ms to recover, wanted at most 49ms\nclass "), "{text}");
}

#[test]
fn a_run_that_never_recovers_fails_the_assertion() {
    let text = complaint(|| {
        let dead = Backend::new(Latency::fixed(ms(1))).outage(secs(1)..secs(2)).failing(1.0);
        bare(Load::constant(10.0), secs(10), dead).assert_recovers_within(secs(5));
    });
    assert!(text.starts_with("goodput never recovered, wanted recovery within 5s\nclass "), "{text}");
}

#[test]
fn an_unknown_recovery_fails_the_assertion() {
    let healthy = || Backend::new(Latency::fixed(ms(1)));
    let text = complaint(|| {
        bare(Load::constant(10.0).step(secs(5), 0.0), secs(10), healthy()).assert_recovers_within(secs(5));
    });
    let expected = "too few calls came after the last disturbance to know whether goodput recovered\nclass ";
    assert!(text.starts_with(expected), "{text}");
    let text = complaint(|| bare(Load::constant(10.0), secs(10), healthy()).assert_recovers_within(secs(5)));
    assert!(text.starts_with("there was no disturbance to recover from\nclass "), "{text}");
}
