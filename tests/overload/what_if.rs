//! The example `what_if`: its answers must be true.

#[allow(dead_code, reason = "the example also prints and draws")]
#[path = "../../examples/what_if.rs"]
mod example;

use example::{LENGTH, LIMIT, RPS, as_it_could_be, as_it_is, run};
use std::time::Duration;
use steadfast::sim::Recovery;

#[test]
fn as_it_is_the_service_does_not_recover() {
    let report = run(as_it_is, 0).unwrap();
    assert_eq!(report.recovery(), Recovery::Never, "{report}");
}

#[test]
fn as_it_could_be_the_limit_holds_and_the_service_recovers_at_once() {
    let report = run(as_it_could_be, 0).unwrap();
    assert_eq!(report.backends[0].most_in_flight, LIMIT as u64, "{report}");
    report.assert_recovers_within(Duration::from_secs(2));
    assert!(report.backends[0].received as f64 <= 1.1 * RPS * LENGTH.as_secs_f64(), "{report}");
}
