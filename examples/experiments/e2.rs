//! E2: what a retry budget costs and what it is worth, whatever the share of the calls that fails.

use crate::{
    crowd::{ATTEMPTS, budgeted, crowd},
    finding::{Anchor, Bound, Figure, Finding},
    lab::Lab,
    textbook::Retries,
};
use steadfast::{ConfigError, sim::Sim};

const CLIENTS: usize = 100;
/// Of all clients together.
const RPS: f64 = 1_000.0;
const FAILING: [f64; 4] = [0.1, 0.3, 0.5, 1.0];

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let seeds = lab.count(20, 1);
    let (mut plain, mut none, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for failing in FAILING {
        let retries = |attempts: u32| move |_: &Sim, backend| Ok(Retries::new(attempts, backend));
        plain.push(lab.mean(0..seeds, |seed| crowd(seed, CLIENTS, RPS, failing, retries(ATTEMPTS)))?);
        none.push(lab.mean(0..seeds, |seed| crowd(seed, CLIENTS, RPS, failing, retries(1)))?);
        ours.push(lab.means(seeds, |seed| crowd(seed, CLIENTS, RPS, failing, budgeted))?);
    }
    let load = [Bound::Within(1.07, 1.12); 4];
    let success = [Bound::AtLeast(0.96), Bound::AtLeast(0.75), Bound::AtLeast(0.53), Bound::Free];
    Ok(vec![Finding {
        id: "E2",
        what: "a retry budget of 10%, 100 clients x 10 rps, up to 3 retries; of all calls fail 10, 30, 50, 100%",
        anchors: vec![
            Anchor::column("plain retries: load", [1.11, 1.41, 1.86, 4.0], &plain, 0),
            Anchor::column("success", [1.0, 0.99, 0.94, 0.0], &plain, 1),
            Anchor::column("no retries: success", [0.9, 0.7, 0.49, 0.0], &none, 1),
        ],
        figures: vec![Figure::column("load", load, &ours, 0), Figure::column("success", success, &ours, 1)],
        to_come: None,
    }])
}
