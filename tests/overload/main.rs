//! Does the crate protect the system? Runs the experiments of `examples/experiments`, and asserts their bounds.
//!
//! There is one file per experiment. The code and the bounds are those of the example. The seeds are fixed, so each run
//! repeats the last one exactly. The tests use the smallest effort, `Effort::Glance`, and leave out the published
//! mechanisms. They also leave out E10, for which this crate has no mechanism yet.
//!
//! `live` tests the display of the example `overload`, `sim` tests the simulator, and `what_if` tests the example of
//! that name.

#[path = "../../examples/experiments/absent.rs"]
mod absent;
#[path = "../../examples/experiments/crowd.rs"]
mod crowd;
#[allow(dead_code, reason = "the example also prints")]
#[path = "../../examples/experiments/finding.rs"]
mod finding;
#[allow(dead_code, reason = "the example also has a command line")]
#[path = "../../examples/experiments/lab.rs"]
mod lab;
#[path = "../../examples/experiments/queues.rs"]
mod queues;
#[path = "../../examples/experiments/textbook.rs"]
mod textbook;
#[path = "../../examples/experiments/workers.rs"]
mod workers;

mod e1;
mod e11;
mod e12;
mod e13;
mod e14;
mod e16;
mod e17;
mod e18;
mod e2;
mod e22;
mod e23;
mod e24;
mod e25;
mod e26;
mod e3;
mod e4;
mod e5;
mod e6;
mod e6b;
mod e7;
mod e8;
mod e9;
mod live;
mod sim;
mod what_if;

use crate::{
    finding::{Bound, Figure, Finding},
    lab::{Effort, Lab},
};
use indicatif::ProgressBar;
use steadfast::ConfigError;

/// Runs an experiment on a few seeds.
fn findings(run: fn(&Lab) -> Result<Vec<Finding>, ConfigError>) -> Vec<Finding> {
    run(&Lab::new(1000, Effort::Glance, ProgressBar::hidden())).unwrap()
}

/// Checks that every figure keeps its bounds.
fn confirm(findings: &[Finding]) {
    for Finding { id, what, figures, .. } in findings {
        println!("{id}: {what}");
        for figure in figures {
            confirm_figure(figure);
        }
    }
    let bounds = findings.iter().flat_map(|finding| &finding.figures).flat_map(|figure| &figure.wanted);
    assert!(bounds.filter(|bound| **bound != Bound::Free).count() > 0, "no figure has a bound");
}

#[track_caller]
fn confirm_figure(figure: &Figure) {
    let Figure { name, wanted, got, on_other_seeds, .. } = figure;
    println!("{name}: wanted {wanted:?}, got {got:?}, on other seeds {on_other_seeds:?}");
    assert!(figure.holds(), "{name}: wanted {wanted:?}, got {got:?}, on other seeds {on_other_seeds:?}");
}

#[test]
fn the_range_of_the_last_seeds_ends() {
    let seen = std::sync::Mutex::new(Vec::new());
    let mean = Lab::new(0, Effort::Glance, ProgressBar::hidden()).mean(u64::MAX - 3..u64::MAX, |seed| {
        let mut seen = seen.lock().unwrap();
        seen.push(u64::MAX - seed);
        assert!(seen.len() <= 3, "{seen:?}");
        Ok([1.0])
    });
    assert_eq!(mean.unwrap(), [1.0]);
    seen.lock().unwrap().sort_unstable();
    assert_eq!(*seen.lock().unwrap(), [1, 2, 3]);
}
