//! E2: what a retry budget costs and what it is worth, whatever the share of the calls that fails.

use crate::{
    crowd::{ATTEMPTS, budgeted, crowd},
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Lab, secs},
    textbook::Retries,
};
use steadfast::{ConfigError, sim::Sim};

/// The clients, and the calls per second of all together: ten of each.
const CROWD: (usize, f64) = (100, 1_000.0);
const CROWD_AT_A_GLANCE: (usize, f64) = (50, 500.0);
const FAILING: [f64; 4] = [0.1, 0.3, 0.5, 1.0];

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let seeds = lab.count(20, 1, 1);
    let (clients, rps) = if lab.is_glance() { CROWD_AT_A_GLANCE } else { CROWD };
    let length = lab.length(secs(20), secs(10));
    let anchors = lab.beyond_a_glance(|| {
        let (mut plain, mut none) = (Vec::new(), Vec::new());
        for failing in FAILING {
            let retries = |attempts: u32| move |_: &Sim, backend| Ok(Retries::new(attempts, backend));
            plain.push(lab.mean(0..seeds, |seed| crowd(seed, length, clients, rps, failing, retries(ATTEMPTS)))?);
            none.push(lab.mean(0..seeds, |seed| crowd(seed, length, clients, rps, failing, retries(1)))?);
        }
        Ok(vec![
            Anchor::column("plain retries: load", [1.11, 1.41, 1.86, 4.0], &plain, 0),
            Anchor::column("success", [1.0, 0.99, 0.94, 0.0], &plain, 1),
            Anchor::column("no retries: success", [0.9, 0.7, 0.49, 0.0], &none, 1),
        ])
    })?;
    let mut ours = Vec::new();
    for failing in FAILING {
        ours.push(lab.means(seeds, |seed| crowd(seed, length, clients, rps, failing, budgeted))?);
    }
    let load = [Bound::Within(1.07, 1.12); 4];
    let success = [Bound::AtLeast(0.96), Bound::AtLeast(0.75), Bound::AtLeast(0.53), Bound::Free];
    Ok(vec![Finding {
        id: "E2",
        what: "a retry budget of 10%, 100 clients x 10 rps, up to 3 retries; of all calls fail 10, 30, 50, 100%",
        anchors,
        figures: vec![Figure::column("load", load, &ours, 0), Figure::column("success", success, &ours, 1)],
        to_come: None,
    }])
}
