//! E3: the same traffic from few clients or from many, with a budget each.

use crate::{
    crowd::{ATTEMPTS, budgeted, crowd},
    finding::{Anchor, Bound, Figure, Finding},
    lab::Lab,
    textbook::{Bucket, Retries},
};
use steadfast::ConfigError;

/// Of all clients together.
const RPS: f64 = 100.0;
const CLIENTS: [usize; 3] = [10, 100, 1_000];

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let seeds = lab.count(20, 8);
    let (mut textbook, mut half, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for clients in CLIENTS {
        // An initial credit of 5 looks small, until a thousand quiet clients have it.
        textbook.push(lab.mean(0..seeds, |seed| {
            crowd(seed, clients, RPS, 0.5, |_, backend| {
                Ok(Retries::new(ATTEMPTS, backend).within(Bucket::new(5.0, 0.1, 5.0)))
            })
        })?);
        half.push(lab.means(seeds, |seed| crowd(seed, clients, RPS, 0.5, budgeted))?);
        all.push(lab.means(seeds, |seed| crowd(seed, clients, RPS, 1.0, budgeted))?);
    }
    Ok(vec![Finding {
        id: "E3",
        what: "100 rps spread over 10, 100, 1000 clients with a budget each; half of all calls fail, or all",
        anchors: vec![Anchor::column("initial credit 5, half fail: load", [1.12, 1.29, 1.86], &textbook, 0)],
        figures: vec![
            Figure::column("half fail: load", [Bound::Within(1.05, 1.12); 3], &half, 0),
            Figure::column("success", [Bound::AtLeast(0.52); 3], &half, 1),
            Figure::column("all fail: load", [Bound::AtMost(1.12); 3], &all, 0),
        ],
        to_come: None,
    }])
}
