//! E3: the same traffic from few clients or from many, with a budget each.

use crate::{
    crowd::{ATTEMPTS, budgeted, crowd},
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Lab, secs},
    textbook::{Bucket, Retries},
};
use std::time::Duration;
use steadfast::ConfigError;

/// Of all clients together.
const RPS: f64 = 100.0;
const LENGTH: Duration = secs(20);
const CLIENTS: [usize; 3] = [10, 100, 1_000];

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let seeds = lab.count(20, 8, 1);
    let anchors = lab.beyond_a_glance(|| {
        let mut textbook = Vec::new();
        for clients in CLIENTS {
            // An initial credit of 5 looks small, until a thousand quiet clients have it.
            textbook.push(lab.mean(0..seeds, |seed| {
                crowd(seed, LENGTH, clients, RPS, 0.5, |_, backend| {
                    Ok(Retries::new(ATTEMPTS, backend).within(Bucket::new(5.0, 0.1, 5.0)))
                })
            })?);
        }
        Ok(vec![Anchor::column("initial credit 5, half fail: load", [1.12, 1.29, 1.86], &textbook, 0)])
    })?;
    let (mut half, mut all) = (Vec::new(), Vec::new());
    for clients in CLIENTS {
        half.push(lab.means(seeds, |seed| crowd(seed, LENGTH, clients, RPS, 0.5, budgeted))?);
        all.push(lab.means(seeds, |seed| crowd(seed, LENGTH, clients, RPS, 1.0, budgeted))?);
    }
    Ok(vec![Finding {
        id: "E3",
        what: "100 rps spread over 10, 100, 1000 clients with a budget each; half of all calls fail, or all",
        anchors,
        figures: vec![
            Figure::column("half fail: load", [Bound::Within(1.05, 1.12); 3], &half, 0),
            Figure::column("success", [Bound::AtLeast(0.52); 3], &half, 1),
            Figure::column("all fail: load", [Bound::AtMost(1.12); 3], &all, 0),
        ],
        to_come: None,
    }])
}
