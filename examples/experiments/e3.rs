//! E3: the same traffic from few clients or from many, with one budget per client.

use crate::{
    crowd::{ATTEMPTS, budgeted, crowd},
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Lab, amplification, ms, secs},
    textbook::{Bucket, Retries},
};
use std::time::Duration;
use steadfast::{
    ConfigError,
    sim::{Backend, Latency, Load, Scenario},
};

/// The calls per second of all clients together.
const RPS: f64 = 100.0;
const LENGTH: Duration = secs(20);
const CLIENTS: [usize; 3] = [10, 100, 1_000];

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let seeds = lab.count(20, 8, 1);
    let anchors = lab.beyond_a_glance(|| {
        let mut textbook = Vec::new();
        for clients in CLIENTS {
            // An initial credit of 5 looks small, but not for a thousand quiet clients.
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
    let saved = lab.means(seeds, after_a_minute_of_peace)?;
    Ok(vec![Finding {
        id: "E3",
        what: "100 rps spread over 10, 100, 1000 clients with a budget each; half of all calls fail, or all",
        anchors,
        figures: vec![
            Figure::column("half fail: load", [Bound::Within(1.05, 1.12); 3], &half, 0),
            Figure::column("success", [Bound::AtLeast(0.52); 3], &half, 1),
            Figure::column("all fail: load", [Bound::AtMost(1.12); 3], &all, 0),
            // The bound: what is earned during the outage, and the most that ten clients can save: 10 retries each.
            Figure::new("all fail for 10 s after 60 s without a failure: load", [Bound::Within(1.1, 1.21)], saved),
        ],
        to_come: None,
    }])
}

/// Returns the backend calls per call while all calls fail, for ten clients that had a minute to save retries.
fn after_a_minute_of_peace(seed: u64) -> Result<[f64; 1], ConfigError> {
    let failing = secs(60)..secs(70);
    let report = Scenario::new(Load::poisson(RPS)).length(secs(100)).seed(seed).run_clients(|sim| {
        let backend = sim.backend(Backend::new(Latency::fixed(ms(1))).outage(failing.clone()));
        (0..CLIENTS[0]).map(|_| budgeted(sim, backend.clone())).collect()
    })?;
    // Only failures are retried.
    let retries = (amplification(&report) - 1.0) * report.offered() as f64;
    let (from, to) = (failing.start.as_secs_f64(), failing.end.as_secs_f64());
    let spans = report.spans.iter().filter(|span| span.from >= from && span.to <= to);
    Ok([1.0 + retries / spans.map(|span| span.offered).sum::<u64>() as f64])
}
