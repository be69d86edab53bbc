//! Does it save the system? The experiments of `examples/experiments`, with fewer seeds, as assertions.
//!
//! One file for each. The code is that of the example; so are the numbers that have to be kept.

#[path = "../../examples/experiments/crowd.rs"]
mod crowd;
#[allow(dead_code, reason = "the example prints, too")]
#[path = "../../examples/experiments/finding.rs"]
mod finding;
#[allow(dead_code, reason = "the example has a command line, too")]
#[path = "../../examples/experiments/lab.rs"]
mod lab;
#[path = "../../examples/experiments/queues.rs"]
mod queues;
#[path = "../../examples/experiments/textbook.rs"]
mod textbook;

mod e1;
mod e10;
mod e14;
mod e17;
mod e18;
mod e2;
mod e3;
mod e4;
mod e5;
mod e6;
mod e6b;
mod e7;
mod e8;
mod e9;
mod what_if;

use crate::{
    finding::{Anchor, Figure, Finding},
    lab::Lab,
};
use indicatif::ProgressBar;
use steadfast::ConfigError;

/// Runs an experiment with fewer seeds.
fn findings(run: fn(&Lab) -> Result<Vec<Finding>, ConfigError>) -> Vec<Finding> {
    run(&Lab::new(1000, true, ProgressBar::hidden())).unwrap()
}

/// The textbook mechanisms do here what was published of them, and ours do what they have to.
fn confirm(findings: &[Finding]) {
    for Finding { id, what, anchors, figures, .. } in findings {
        println!("{id}: {what}");
        for anchor in anchors {
            confirm_anchor(anchor);
        }
        for figure in figures {
            confirm_figure(figure);
        }
    }
}

#[track_caller]
fn confirm_anchor(anchor: &Anchor) {
    let Anchor { name, published, reproduced } = anchor;
    assert!(anchor.holds(), "{name}: published {published:?}, here {reproduced:?}");
}

#[track_caller]
fn confirm_figure(figure: &Figure) {
    let Figure { name, wanted, got, on_other_seeds } = figure;
    assert!(figure.holds(), "{name}: wanted {wanted:?}, got {got:?}, on other seeds {on_other_seeds:?}");
}

#[test]
fn the_last_seeds_that_there_are_come_to_an_end() {
    let seen = std::sync::Mutex::new(Vec::new());
    let mean = Lab::new(0, true, ProgressBar::hidden()).mean(u64::MAX - 3..u64::MAX, |seed| {
        let mut seen = seen.lock().unwrap();
        seen.push(u64::MAX - seed);
        assert!(seen.len() <= 3, "{seen:?}");
        Ok([1.0])
    });
    assert_eq!(mean.unwrap(), [1.0]);
    seen.lock().unwrap().sort_unstable();
    assert_eq!(*seen.lock().unwrap(), [1, 2, 3]);
}
