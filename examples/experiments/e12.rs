//! E12: priority. One server has room for what matters and for some of what does not, and gets twelve times too much of
//! the latter.

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
/// What is left for the low ones, per second.
const LEFT: f64 = 40.0;
const DEADLINE: Duration = secs(1);

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    // What the server does in 60 s differs by 1.3% from run to run, and what it leaves by more.
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

/// The share of the high ones that was answered in time, and low ones answered in the spike, of those that could be.
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

/// Low calls answered in time that came in between. What the high ones leave differs from run to run.
fn in_time(report: &Report, from: Duration, to: Duration) -> f64 {
    let spans = report.class("low").spans.iter();
    let within = spans.filter(|span| span.from >= from.as_secs_f64() && span.to <= to.as_secs_f64() + 1e-6);
    within.map(|span| span.in_time as f64).sum()
}

fn limiter() -> LimiterBuilder {
    Limiter::adaptive().deadline(DEADLINE).by_criticality()
}

/// A limit of which the low ones see half, and a server that serves first what came first.
fn limited(sim: &Sim, service: BackendService) -> Result<impl Client + use<>, ConfigError> {
    let limiter = limiter().build()?;
    watch_limiter(sim, &limiter);
    callers(sim, steadfast::server().load_shed(limiter).service(service)?)
}

/// The same with a queue in which the high ones go first.
fn limited_and_levelled(sim: &Sim, service: BackendService) -> Result<impl Client + use<>, ConfigError> {
    let limiter = limiter().build()?;
    watch_limiter(sim, &limiter);
    let queue = Queue::builder(1, 1000).by_criticality().build()?;
    watch_queue(sim, &queue);
    callers(sim, steadfast::server().load_shed(limiter).load_level(queue).service(service)?)
}

/// Callers on another machine: the server does not notice that one has gone.
fn callers<S>(sim: &Sim, server: S) -> Result<impl Client + use<S>, ConfigError>
where
    S: Client<Error = steadfast::Error<steadfast::sim::Failure>>,
{
    let server = Link::new(sim, Latency::fixed(Duration::ZERO), server);
    steadfast::client().attempt_timeout(DEADLINE).keep_error().service(server)
}
