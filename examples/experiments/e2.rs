//! E2: the cost and the benefit of a retry budget, for several shares of failing calls.

use crate::{
    crowd::{ATTEMPTS, budgeted, crowd},
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Lab, ms, secs},
    textbook::Retries,
};
use std::{cell::Cell, rc::Rc, time::Duration};
use steadfast::{
    CallContext, ConfigError,
    load_shed::Limiter,
    retry::{Backoff, Retry, RetryBudget},
    sim::{Backend, Call, Latency, Load, Scenario, Sim},
};
use tower::{ServiceExt, service_fn};

/// The clients, and the calls per second of all clients together: ten per client.
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
    let refused = lab.means(lab.count(10, 3, 1), refusing_itself)?;
    let load = [Bound::Within(1.07, 1.12); 4];
    let success = [Bound::AtLeast(0.96), Bound::AtLeast(0.75), Bound::AtLeast(0.53), Bound::Free];
    Ok(vec![Finding {
        id: "E2",
        what: "a retry budget of 10%, 100 clients x 10 rps, up to 3 retries; of all calls fail 10, 30, 50, 100%",
        anchors,
        figures: vec![
            Figure::column("load", load, &ours, 0),
            Figure::column("success", success, &ours, 1),
            Figure::new(
                "with a limit of the client's own: load per call that it admits, share of the retries that it refuses",
                [Bound::Within(1.09, 1.11), Bound::AtLeast(0.3)],
                refused,
            ),
        ],
        to_come: None,
    }])
}

/// The client's own limit, how long a call takes, and the calls per second: three times the throughput that the limit
/// allows.
const LIMIT: usize = 10;
const TOOK: Duration = ms(50);
const OFFERED: f64 = 600.0;

/// Simulates a client whose own limit refuses retries after the backoff. All calls fail. A refused retry is refunded,
/// so the service gets one retry per ten first attempts, as the budget allows. Returns the calls to the service per
/// first attempt there, and the share of the retries that were refused.
fn refusing_itself(seed: u64) -> Result<[f64; 2], ConfigError> {
    let admitted = Rc::new(Cell::new(0));
    let counted = admitted.clone();
    let report = Scenario::new(Load::poisson(OFFERED)).length(secs(60)).seed(seed).run(|sim| {
        let backend = sim.backend(Backend::new(Latency::exponential(TOOK)).failing(1.0));
        let service = service_fn(move |call: Call| {
            counted.set(counted.get() + u64::from(CallContext::current().attempt() == 0));
            backend.clone().oneshot(call)
        });
        let budget = RetryBudget::builder().ratio(0.1).no_floor().cap(10).random(sim.random()).build()?;
        let retry = Retry::new(2).backoff(Backoff::fixed(TOOK)).budget(budget).random(sim.random());
        steadfast::client().retry(retry).load_shed(Limiter::fixed(LIMIT)?).service(service)
    })?;
    let (admitted, received) = (admitted.get(), report.backends[0].received);
    // A refused call was refused at its first attempt or at its retry.
    let rejected: u64 = report.classes.iter().flat_map(|class| class.rejected.values()).sum();
    let refused = rejected - (report.offered() - admitted);
    Ok([received as f64 / admitted as f64, refused as f64 / (refused + received - admitted) as f64])
}
