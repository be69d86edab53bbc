//! E14: a fair queue sustains a collapse. A service stalls for ten seconds, or receives twice its capacity. Afterwards
//! it works only on calls whose callers have left.

use crate::{
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Client, Lab, secs, settled},
    queues::{Discipline, Queued, WithDeadline, adaptive, level, levelled},
};
use std::time::Duration;
use steadfast::{
    ConfigError, Error, load_level,
    retry::{Backoff, Retry, RetryBudget},
    sim::{Backend, BackendService, Call, Failure, Latency, Link, Load, Reply, Report, Scenario, Sim},
};
use tower::{Service, ServiceExt};

/// The calls that the service works on at once.
const PERMITS: usize = 10;
/// A capacity of 300 calls per second.
const MEAN_SERVICE: Duration = Duration::from_nanos(33_333_333);
const RPS: f64 = 280.0;
const RPS_OF_SURGE: f64 = 600.0;
/// How long a client waits for an attempt. Each call has two attempts.
const PATIENCE: Duration = secs(1);
/// How long the service stalls or is overloaded.
const TROUBLE: Duration = secs(10);

/// The timeline of a run.
#[derive(Clone, Copy)]
pub struct Course {
    /// When the stall or the overload begins.
    begin: Duration,
    /// The length of the run: a span of the report is a hundredth of it.
    pub length: Duration,
}

pub const WHOLE: Course = Course { begin: secs(20), length: secs(100) };
const GLANCE: Course = Course { begin: secs(5), length: secs(30) };

impl Course {
    const fn end(self) -> Duration {
        self.begin.saturating_add(TROUBLE)
    }

    /// Calls after this time have no later calls behind them, and do not count.
    pub const fn counted(self) -> Duration {
        self.length.saturating_sub(secs(3))
    }
}

/// The cause of the collapse.
#[derive(Clone, Copy)]
pub enum Trigger {
    /// The service stalls.
    Standstill,
    /// 600 calls per second.
    Surge,
}

const TRIGGERS: [Trigger; 2] = [Trigger::Standstill, Trigger::Surge];

/// A server as its clients see it.
pub trait Answering: Service<Call, Response = Reply, Error = Error<Failure>> + Clone + 'static {}

impl<S: Service<Call, Response = Reply, Error = Error<Failure>> + Clone + 'static> Answering for S {}

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let anchors = lab.beyond_a_glance(|| {
        Ok(vec![
            anchor(lab, "FIFO: served/s", 0.0, fifo)?,
            anchor(lab, "with a 10% retry budget", 0.0, fifo_with_budget)?,
            anchor(lab, "with the expired dropped", 34.0, without_the_expired)?,
            anchor(lab, "barging", 151.0, barging)?,
        ])
    })?;
    let course = if lab.is_glance() { GLANCE } else { WHOLE };
    let (mut ours, mut adapted) = (Vec::new(), Vec::new());
    for trigger in TRIGGERS {
        adapted.push(lab.means(lab.count(10, 2, 1), |seed| {
            summary(&collapse(seed, course, trigger, levelled_by_itself)?, course)
        })?);
        ours.push(lab.means(lab.count(10, 2, 1), |seed| {
            summary(&collapse(seed, course, trigger, levelled_by_default)?, course)
        })?);
    }
    let mut figures = vec![
        Figure::column("answered of the first 5 s", [Bound::AtLeast(0.95); 2], &ours, 0),
        Figure::column("and after", [Bound::AtLeast(0.95); 2], &ours, 1),
        Figure::column("depth found: of the first 5 s", [Bound::AtLeast(0.95); 2], &adapted, 0),
        Figure::column("depth found: and after", [Bound::AtLeast(0.95); 2], &adapted, 1),
    ];
    // A queue that lets calls wait for the whole deadline resembles the textbook queue without the expired calls. The
    // default refuses a call after half of its deadline, and this saves the others.
    figures.extend(lab.beyond_a_glance(|| {
        let whole_deadline = lab.means(lab.count(10, 2, 0), |seed| {
            summary(&collapse(seed, WHOLE, Trigger::Standstill, levelled_for_the_whole_deadline)?, WHOLE)
        })?;
        let name = "dropping only the expired stays collapsed: after";
        // It answers some calls; no answer at all would be another failure.
        Ok(vec![Figure::column(name, [Bound::Within(0.02, 0.2)], &[whole_deadline], 1)])
    })?);
    Ok(vec![Finding {
        id: "E14",
        what: "fair queues keep a collapse alive: 280/s, 300/s can be done; after 10 s without service, and (ours) after 10 s \
               of 600/s",
        anchors,
        figures,
        to_come: None,
    }])
}

/// Returns the answers per second to the calls that arrived after the cause had ended.
fn anchor<S: Client>(
    lab: &Lab,
    name: &'static str,
    published: f64,
    client: impl Fn(&Sim, BackendService) -> Result<S, ConfigError> + Sync,
) -> Result<Anchor, ConfigError> {
    let per_second = lab.mean(0..lab.count(10, 2, 0), |seed| {
        let report = collapse(seed, WHOLE, Trigger::Standstill, &client)?;
        Ok([answered_per_second(&report)])
    })?;
    Ok(Anchor::new(name, [published], per_second))
}

fn answered_per_second(report: &Report) -> f64 {
    let (from, to) = (WHOLE.end().as_secs_f64(), WHOLE.counted().as_secs_f64());
    let after = report.spans.iter().filter(|span| span.from >= from && span.to <= to);
    after.map(|span| span.in_time as f64).sum::<f64>() / (to - from)
}

/// Returns the share answered of the calls of the first five seconds after the cause had ended, and of the later calls.
fn summary(report: &Report, course: Course) -> Result<[f64; 2], ConfigError> {
    let of = |from, to| report.goodput_between(from, to).unwrap_or_default();
    let (end, counted) = (course.end(), course.counted());
    Ok([of(end, end + secs(5)), of(end + secs(5), counted)])
}

/// Makes one run.
pub fn collapse<S: Client>(
    seed: u64,
    course: Course,
    trigger: Trigger,
    client: impl FnOnce(&Sim, BackendService) -> Result<S, ConfigError>,
) -> Result<Report, ConfigError> {
    // Two attempts of a second each.
    let calm = Load::poisson(RPS).in_time(2 * PATIENCE);
    let service = Backend::new(Latency::exponential(MEAN_SERVICE)).servers(PERMITS);
    let (load, service) = match trigger {
        Trigger::Standstill => (calm, service.hang(course.begin..course.end())),
        Trigger::Surge => (calm.spike(course.begin, course.end(), RPS_OF_SURGE), service),
    };
    settled(Scenario::new(load).length(course.length).seed(seed).run(|sim| client(sim, sim.backend(service)))?)
}

pub fn fifo(sim: &Sim, service: BackendService) -> Result<impl Client + use<>, ConfigError> {
    clients(sim, second_try(sim).without_budget(), queued(sim, Discipline::Fifo, service))
}

fn fifo_with_budget(sim: &Sim, service: BackendService) -> Result<impl Client + use<>, ConfigError> {
    let budget = RetryBudget::builder().ratio(0.1).random(sim.random()).build()?;
    clients(sim, second_try(sim).budget(budget), queued(sim, Discipline::Fifo, service))
}

pub fn without_the_expired(sim: &Sim, service: BackendService) -> Result<impl Client + use<>, ConfigError> {
    let discipline = Discipline::FifoWithoutTheExpired { deadline: PATIENCE, service: Duration::ZERO };
    clients(sim, second_try(sim).without_budget(), queued(sim, discipline, service))
}

pub fn barging(sim: &Sim, service: BackendService) -> Result<impl Client + use<>, ConfigError> {
    clients(sim, second_try(sim).without_budget(), queued(sim, Discipline::Barging, service))
}

/// This crate's queue with its defaults.
pub fn levelled_by_default(sim: &Sim, service: BackendService) -> Result<impl Client + use<>, ConfigError> {
    clients(sim, second_try(sim).without_budget(), levelled(sim, level(PERMITS)?, service))
}

/// This crate's queue with an adaptive depth.
fn levelled_by_itself(sim: &Sim, service: BackendService) -> Result<impl Client + use<>, ConfigError> {
    clients(sim, second_try(sim).without_budget(), levelled(sim, adaptive(PERMITS)?, service))
}

/// This crate's queue with its defaults, except that a call may wait for the caller's whole deadline.
fn levelled_for_the_whole_deadline(sim: &Sim, service: BackendService) -> Result<impl Client + use<>, ConfigError> {
    let queue = level(PERMITS)?;
    queue.set_discipline(load_level::Discipline::by_deadline(1.0))?;
    clients(sim, second_try(sim).without_budget(), levelled(sim, queue, service))
}

/// An unbounded textbook queue.
fn queued(sim: &Sim, discipline: Discipline, service: BackendService) -> impl Answering + use<> {
    Queued::new(sim, discipline, usize::MAX, PERMITS, service).map_err(Error::Service)
}

fn second_try(sim: &Sim) -> Retry {
    Retry::new(2).backoff(Backoff::none()).random(sim.random())
}

/// Clients on another machine: the server does not notice that a client has left.
fn clients<S: Answering>(sim: &Sim, retry: Retry, server: S) -> Result<impl Client + use<S>, ConfigError> {
    let server = WithDeadline(PATIENCE, Link::new(sim, Latency::fixed(Duration::ZERO), server));
    steadfast::client().retry(retry).attempt_timeout(PATIENCE).keep_error().service(server)
}
