//! What a report says, and what it says when it says no.

use crate::{bare, class, ms, secs};
use std::{panic, time::Duration};
use steadfast::sim::{Backend, Latency, Load, Report, Scenario};

/// 10 calls per second for 100 seconds, of which those from 20 to 40 s fail.
fn outage() -> Report {
    let backend = Backend::new(Latency::fixed(ms(20))).outage(ms(19_950)..ms(39_950));
    bare(Load::constant(10.0), secs(100), backend)
}

/// What an assertion says when it fails.
fn complaint(assertion: impl FnOnce() + panic::UnwindSafe) -> String {
    let payload = panic::catch_unwind(assertion).expect_err("the assertion should have failed");
    payload.downcast_ref::<String>().cloned().expect("a message with numbers in it")
}

#[test]
fn it_counts_what_was_answered_in_time() {
    let report = outage();
    assert_eq!((report.offered(), class(&report).in_time, class(&report).failed), (999, 799, 200));
    assert_eq!(report.goodput(), 799.0 / 999.0);
    assert_eq!(report.goodput_between(secs(0), secs(19)), 1.0);
    assert_eq!(report.goodput_between(secs(21), secs(39)), 0.0);
    assert_eq!(report.amplification(), 1.0);
}

#[test]
fn an_answer_that_comes_too_late_is_late() {
    let slow = Backend::new(Latency::fixed(ms(20))).slow(secs(2)..secs(4), 100.0);
    let report = bare(Load::constant(10.0).in_time(ms(500)), secs(10), slow);
    assert_eq!((class(&report).in_time, class(&report).late), (79, 20));
}

#[test]
fn it_is_recovered_when_goodput_is_back_for_good() {
    assert_eq!(outage().recovery(), Some(Duration::from_millis(50)));
    // Half of the time good, half not, to the very end.
    let flapping = (0..10).fold(Backend::new(Latency::fixed(ms(1))), |backend, second| {
        backend.outage(ms(second * 1_000 + 500)..ms(second * 1_000 + 1_000))
    });
    assert_eq!(bare(Load::constant(100.0), secs(10), flapping).recovery(), None);
}

#[test]
fn latencies_are_exact_to_a_thousandth() {
    for millis in [1, 7, 100, 12_345, 60_000] {
        let report = bare(Load::constant(1.0), secs(10), Backend::new(Latency::fixed(ms(millis))));
        let (latency, expected) = (class(&report).latency, millis as f64 / 1e3);
        for quantile in [latency.mean, latency.p50, latency.p90, latency.p99, latency.p999, latency.max] {
            assert!((quantile - expected).abs() <= expected / 1_000.0, "{quantile} s instead of {expected} s");
        }
    }
}

#[test]
fn it_prints_itself_as_a_table() {
    let text = outage().to_string();
    assert_eq!(
        text,
        "\
class           offered    in time       late     failed   rejected unanswered     p50 ms     p99 ms
calls               999        799          0        200          0          0       20.0       20.0
backend: 999 received, 999 answered, 0 wasted, 0 abandoned, 1 at once
goodput 0.7998, 1.000 attempts per call, recovered 50ms after the last disturbance
"
    );
}

#[test]
fn it_names_who_rejected_what() {
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
fn its_assertions_show_the_numbers() {
    let report = outage();
    report.assert_goodput_at_least(0.79);
    let text = complaint(|| outage().assert_goodput_at_least(0.9));
    assert!(text.starts_with("goodput is 0.7998, wanted at least 0.9\nclass "), "{text}");

    report.assert_amplification_at_most(1.0);
    let text = complaint(|| outage().assert_amplification_at_most(0.5));
    assert!(text.starts_with("amplification is 1.0000, wanted at most 0.5\nclass "), "{text}");

    report.assert_recovers_within(ms(50));
    let text = complaint(|| outage().assert_recovers_within(ms(49)));
    assert!(text.starts_with("it took 50ms to recover, wanted at most 49ms\nclass "), "{text}");
}

#[test]
fn what_never_recovers_is_said_to() {
    let text = complaint(|| {
        let dead = Backend::new(Latency::fixed(ms(1))).outage(secs(1)..secs(2)).failing(1.0);
        bare(Load::constant(10.0), secs(10), dead).assert_recovers_within(secs(5));
    });
    assert!(text.starts_with("it never recovered, wanted 5s at most\nclass "), "{text}");
}
