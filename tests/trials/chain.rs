//! E22: a chain of services in front of a broken leaf, over HTTP and gRPC. The example `chain` is run as it stands.

use crate::{process::Process, trial::trials};
use serde_json::Value;

trials![a_broken_leaf_is_called_little_more_than_once_for_each_call_and_no_service_works_in_vain];

async fn a_broken_leaf_is_called_little_more_than_once_for_each_call_and_no_service_works_in_vain() {
    let lines = Process::start("chain", &["--json"]).finish();
    let report = lines.join("\n");
    let seen: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    let numbers = |what: &str, phase: usize| -> Vec<f64> {
        seen[what][phase].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    assert!(numbers("answered", 0).iter().all(|share| *share >= 0.99), "{report}");
    for phase in 0..3 {
        // By each protocol. Without marks and budgets it is 27 while the leaf fails.
        for amplification in numbers("amplification", phase) {
            assert!((0.99..=1.12).contains(&amplification), "{report}");
        }
    }
    assert_eq!(seen["not_shrunk"], 0, "{report}");
    // On a machine that is busy all timers are late.
    assert!(seen["own_overrun_ms"].as_f64().unwrap() <= 5.0, "{report}");
}
