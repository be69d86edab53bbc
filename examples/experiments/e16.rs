//! E16: a timeout learned from the allowed rate of false timeouts.

use crate::{
    finding::{Bound, Figure, Finding},
    lab::{Lab, secs, settled},
};
use std::{sync::Arc, sync::Mutex, time::Duration};
use steadfast::{
    ConfigError,
    sim::{Backend, Latency, Load, Scenario},
    timeout::Quantile,
};

/// One call in a thousand times out although it would have been answered.
const RATE: f64 = 0.001;
const RPS: f64 = 1000.0;
const LATENCY: Latency = Latency::log_normal(Duration::from_millis(20), 0.5);
/// The limit is learned until then.
const KNOWN: Duration = secs(20);
/// A span of the report, 2.6 s long, ends here, so no span includes slow calls.
const MEASURED_UNTIL: Duration = secs(130);
const SLOW_FROM: Duration = secs(140);
const SLOW_UNTIL: Duration = secs(200);
const END: Duration = secs(260);

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let means = [lab.means(lab.count(10, 3, 2), learned)?];
    let figures = vec![
        Figure::column("false timeouts", [Bound::Within(RATE / 2.0, 2.0 * RATE)], &means, 0),
        Figure::column("limit at the end of x10, of the first", [Bound::Within(0.8, 1.25)], &means, 1),
        Figure::column("limit 60 s later, of the first", [Bound::Within(0.8, 1.25)], &means, 2),
    ];
    Ok(vec![Finding {
        id: "E16",
        what: "timeout from a false-timeout rate e = 0.001, lognormal latency; then latency x10 for 60 s",
        anchors: Vec::new(),
        figures,
        to_come: None,
    }])
}

/// Returns the share of the calls that timed out before the slowdown. Also returns the limit at the end of the slowdown
/// and 60 s later, as ratios to the limit before it.
fn learned(seed: u64) -> Result<[f64; 3], ConfigError> {
    let limit = Quantile::builder(RATE).between(Duration::from_millis(1), secs(5)).build()?;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let load = Load::poisson(RPS).in_time(secs(60));
    let report = settled(Scenario::new(load).length(END).seed(seed).run(|sim| {
        let (read, seen) = (limit.clone(), Arc::clone(&seen));
        sim.spawn(async move {
            for at in [SLOW_FROM, SLOW_UNTIL - SLOW_FROM] {
                tokio::time::sleep(at).await;
                if let Ok(mut seen) = seen.lock() {
                    seen.push(read.current().as_secs_f64());
                }
            }
        });
        let service = sim.backend(Backend::new(LATENCY).slow(SLOW_FROM..SLOW_UNTIL, 10.0));
        steadfast::client().attempt_timeout(limit.clone()).service(service)
    })?)?;
    let given_up = 1.0 - report.goodput_between(KNOWN, MEASURED_UNTIL).unwrap_or_default();
    let seen = seen.lock().map(|seen| seen.clone()).unwrap_or_default();
    let [first, slow] = seen[..] else { return Ok([f64::NAN; 3]) };
    Ok([given_up, slow / first, limit.current().as_secs_f64() / first])
}
