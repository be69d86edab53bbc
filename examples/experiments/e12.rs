//! E12: priority. A server has capacity for all calls of high criticality and for some of low criticality. Then it
//! receives twelve times as many calls of low criticality as before.

use crate::{
    finding::{Bound, Figure, Finding},
    lab::{Client, Lab, secs, settled, watch_limiter, watch_queue},
};
use std::time::Duration;
use steadfast::{
    ConfigError, Criticality,
    load_level::Queue,
    load_shed::{Limiter, LimiterBuilder},
    sim::{Backend, BackendService, Latency, Link, Load, Report, Scenario, Sim},
};

const MEAN_SERVICE: Duration = Duration::from_millis(10);
const HIGH: f64 = 60.0;
const LOW: f64 = 50.0;
const LOW_SPIKE: f64 = 600.0;
/// The capacity that is left for low calls, per second.
const LEFT: f64 = 40.0;
const DEADLINE: Duration = secs(1);

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    // The server's throughput over 60 s differs by 1.3% from run to run, and the rest for low calls differs by more.
    let seeds = lab.count(100, 30, 8);
    let limit = lab.means_with(seeds, seeds, |seed| spike(seed, limited))?;
    let queue = lab.means_with(seeds, seeds, |seed| spike(seed, limited_and_levelled))?;
    let both = [limit, queue];
    Ok(vec![Finding {
        id: "E12",
        what: "priority: 60 of 100/s are high, low ones come at 50, then 600/s; a limit by criticality, and one with a \
               queue behind it",
        anchors: Vec::new(),
        figures: vec![
            Figure::column("high answered in time", [Bound::AtLeast(0.999); 2], &both, 0),
            Figure::column("low answered in time, of what is left", [Bound::AtLeast(0.98); 2], &both, 1),
        ],
        to_come: None,
    }])
}

/// Returns the share of the high calls answered in time, and the low calls answered in the spike as a share of the
/// remaining capacity.
fn spike<S: Client>(
    seed: u64,
    client: impl FnOnce(&Sim, BackendService) -> Result<S, ConfigError>,
) -> Result<[f64; 2], ConfigError> {
    let high = Load::poisson(HIGH).named("high").criticality(Criticality::CriticalPlus).in_time(DEADLINE);
    let low = Load::poisson(LOW).named("low").criticality(Criticality::Sheddable).in_time(DEADLINE);
    let (from, to) = (secs(20), secs(80));
    let service = Backend::new(Latency::exponential(MEAN_SERVICE)).servers(1);
    let scenario = Scenario::new(high).and(low.spike(from, to, LOW_SPIKE)).length(secs(100)).seed(seed);
    let report = settled(scenario.run(|sim| client(sim, sim.backend(service)))?)?;
    let high = report.class("high").goodput().unwrap_or_default();
    Ok([high, in_time(&report, from, to) / (LEFT * (to - from).as_secs_f64())])
}

/// The low calls that arrived between `from` and `to` and were answered in time.
fn in_time(report: &Report, from: Duration, to: Duration) -> f64 {
    let spans = report.class("low").spans.iter();
    let within = spans.filter(|span| span.from >= from.as_secs_f64() && span.to <= to.as_secs_f64() + 1e-6);
    within.map(|span| span.in_time as f64).sum()
}

fn limiter() -> LimiterBuilder {
    Limiter::adaptive().deadline(DEADLINE).by_criticality()
}

/// A limit of which low calls may use half, and a server that serves first in, first out.
fn limited(sim: &Sim, service: BackendService) -> Result<impl Client + use<>, ConfigError> {
    let limiter = limiter().build()?;
    watch_limiter(sim, &limiter);
    callers(sim, steadfast::server().load_shed(limiter).service(service)?)
}

/// That server behind a queue that serves high calls first.
fn limited_and_levelled(sim: &Sim, service: BackendService) -> Result<impl Client + use<>, ConfigError> {
    let limiter = limiter().build()?;
    watch_limiter(sim, &limiter);
    let queue = Queue::builder(1, 1000).by_criticality().build()?;
    watch_queue(sim, &queue);
    callers(sim, steadfast::server().load_shed(limiter).load_level(queue).service(service)?)
}

/// Callers on another machine: the server does not notice that a caller has left.
fn callers<S>(sim: &Sim, server: S) -> Result<impl Client + use<S>, ConfigError>
where
    S: Client<Error = steadfast::Error<steadfast::sim::Failure>>,
{
    let server = Link::new(sim, Latency::fixed(Duration::ZERO), server);
    steadfast::client().attempt_timeout(DEADLINE).keep_error().service(server)
}
