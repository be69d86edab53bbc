//! E24: tenants with a small demand are served, no matter how much the large tenants send.

use crate::{
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Client, Lab, ms, secs, settled, watch_limiter},
    queues::WithDeadline,
    textbook::Promise,
};
use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use steadfast::{
    ConfigError, Error,
    load_shed::{Limiter, LoadShed},
    sim::{Backend, BackendService, Call, Failure, Latency, Load, Reply, Report, Scenario, Sim},
};
use tower::{Service, ServiceExt};

/// The workers of the server. Together they complete [`CAPACITY`] calls per second.
const WORKERS: usize = 20;
const MEAN_SERVICE: Duration = ms(10);
const CAPACITY: f64 = 2_000.0;
const DEADLINE: Duration = ms(300);
/// With fewer calls than this, a single lost call is too large a share.
const ENOUGH: u64 = 400;
/// The number of keys that a load draws. Zipf's law maps them to tenants.
const DRAWN: u64 = 1 << 40;

/// The callers.
#[derive(Clone, Copy)]
pub struct Tenants {
    /// The small tenants. They demand 40% of the capacity in total.
    small: u64,
    /// Whether their demand follows Zipf's law or is equal.
    by_zipf: bool,
    large: u64,
    /// The demand of each large tenant, as a share of the capacity.
    each: f64,
}

const ONE_LARGE: Tenants = Tenants { small: 20, by_zipf: false, large: 1, each: 5.0 };
const FIVE_LARGE: Tenants = Tenants { large: 5, each: 1.0, ..ONE_LARGE };
const THOUSANDS: Tenants = Tenants { small: 10_000, by_zipf: true, ..ONE_LARGE };
/// All tenants together demand 95% of the capacity.
const BUSY: Tenants = Tenants { each: 0.55, ..ONE_LARGE };

/// When the large tenants start, and which calls count.
#[derive(Clone, Copy)]
pub struct Times {
    large_from: Duration,
    counts_from: Duration,
    end: Duration,
}

const WHOLE: Times = Times { large_from: secs(10), counts_from: secs(12), end: secs(61) };
const GLANCE: Times = Times { large_from: secs(2), counts_from: secs(4), end: secs(10) };

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let times = if lab.is_glance() { GLANCE } else { WHOLE };
    let seeds = lab.count(5, 2, 1);
    let anchors = lab.beyond_a_glance(|| {
        let first_come =
            lab.mean(0..seeds, |seed| Ok([1.0 - simulate(seed, ONE_LARGE, times, false, first_come)?.small()]))?;
        Ok(vec![Anchor::new("first come first served: the small ones lose", [0.81], first_come)])
    })?;
    let mut figures = Vec::new();
    for (tenants, name) in [
        (ONE_LARGE, "one at 500%: worst small one, all small ones, the large of what is left"),
        (FIVE_LARGE, "five at 100%: worst small one, all small ones, the large of what is left"),
        (THOUSANDS, "10,000 small ones, one at 500%: worst small one, all small ones, the large of what is left"),
    ] {
        let figure = lab.means(seeds, |seed| {
            let tally = simulate(seed, tenants, times, true, by_tenant)?;
            Ok([tally.worst_small(), tally.small(), tally.large_of_what_is_left()])
        })?;
        let wanted = [Bound::AtLeast(0.995), Bound::AtLeast(0.995), Bound::AtLeast(0.98)];
        figures.push(Figure::new(name, wanted, figure));
    }
    let refused = lab.means(seeds, |seed| Ok([simulate(seed, BUSY, times, true, by_tenant)?.refused()]))?;
    figures.push(Figure::new("all at 95% of the capacity: refused", [Bound::AtMost(0.001)], refused));
    let shares = lab.beyond_a_glance(|| {
        let equal = lab.means(seeds, |seed| {
            let tally = simulate(seed, THOUSANDS, times, false, equal_shares)?;
            Ok([1.0 - tally.small(), 1.0 - tally.worst_small()])
        })?;
        let name = "equal shares of the limit: the 10,000 lose, the worst of them loses";
        Ok(vec![Figure::new(name, [Bound::Free; 2], equal)])
    })?;
    figures.extend(shares);
    Ok(vec![Finding {
        id: "E24",
        what: "fairness of shedding: 2,000/s can be done; 20 small tenants of 2% each, or 10,000 of 40% in all, and large ones",
        anchors,
        figures,
        to_come: None,
    }])
}

/// Makes one run. Returns how the calls of each tenant ended.
fn simulate<S: Client>(
    seed: u64,
    tenants: Tenants,
    times: Times,
    is_fair: bool,
    client: impl FnOnce(&Sim, Limiter, BackendService) -> Result<S, ConfigError>,
) -> Result<Rc<Tally>, ConfigError> {
    let Tenants { small, by_zipf, large, each } = tenants;
    let tally = Rc::new(Tally::new(tenants, times));
    let keys = if by_zipf { DRAWN } else { small };
    let load = Load::poisson(0.4 * CAPACITY).named("small").keys(keys).in_time(DEADLINE);
    let rest = Load::poisson(0.0).step(times.large_from, large as f64 * each * CAPACITY);
    let rest = rest.named("large").keys(large).in_time(DEADLINE);
    let report = Scenario::new(load).and(rest).length(times.end).seed(seed).run(|sim| {
        let server = sim.backend(Backend::new(Latency::exponential(MEAN_SERVICE)).servers(WORKERS));
        let builder = Limiter::adaptive();
        let builder = if is_fair { builder.fair_share(1.0).tenant_seed(seed) } else { builder };
        let limiter = builder.build()?;
        watch_limiter(sim, &limiter);
        let service = WithDeadline(DEADLINE, client(sim, limiter, server)?);
        Ok(Recorded { sim: sim.clone(), tally: tally.clone(), service })
    })?;
    let _: Report = settled(report)?;
    Ok(tally)
}

/// This crate's limiter, with the tenant of each call.
fn by_tenant(_sim: &Sim, limiter: Limiter, server: BackendService) -> Result<impl Client + use<>, ConfigError> {
    steadfast::server().load_shed(LoadShed::new(limiter).tenant(|call: &Call| call.key)).service(server)
}

/// This crate's limiter, without tenants.
fn first_come(_sim: &Sim, limiter: Limiter, server: BackendService) -> Result<impl Client + use<>, ConfigError> {
    steadfast::server().load_shed(limiter).service(server)
}

/// Gives each tenant the limit divided by the number of tenants with calls in flight.
fn equal_shares(_sim: &Sim, limiter: Limiter, server: BackendService) -> Result<impl Client + use<>, ConfigError> {
    let service = steadfast::server().load_shed(limiter.clone()).service(server)?;
    Ok(EqualShares { limiter, in_flight: Rc::default(), service })
}

/// The counted calls of each tenant, and those of them that were answered in time.
struct Tally {
    tenants: Tenants,
    times: Times,
    /// The cumulative shares of the small tenants, up to one.
    ends: Vec<f64>,
    counts: RefCell<Vec<Counts>>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    offered: u64,
    in_time: u64,
    refused: u64,
}

impl Counts {
    fn plus(self, other: &Self) -> Self {
        Self {
            offered: self.offered + other.offered,
            in_time: self.in_time + other.in_time,
            refused: self.refused + other.refused,
        }
    }

    fn goodput(self) -> f64 {
        self.in_time as f64 / self.offered as f64
    }
}

impl Tally {
    fn new(tenants: Tenants, times: Times) -> Self {
        let mut sum = 0.0;
        let mut ends: Vec<f64> = (1..=tenants.small)
            .map(|rank| {
                sum += if tenants.by_zipf { 1.0 / rank as f64 } else { 1.0 };
                sum
            })
            .collect();
        ends.iter_mut().for_each(|end| *end /= sum);
        let counts = vec![Counts::default(); (tenants.small + tenants.large) as usize];
        Self { tenants, times, ends, counts: RefCell::new(counts) }
    }

    /// Returns the tenant of a call.
    fn tenant(&self, call: &Call) -> u64 {
        match (call.class, self.tenants.by_zipf) {
            (0, false) => call.key,
            (0, true) => {
                let at = call.key as f64 / DRAWN as f64;
                self.ends.partition_point(|end| *end <= at) as u64
            }
            _ => self.tenants.small + call.key,
        }
    }

    fn ended(&self, tenant: u64, begin: Duration, end: Duration, result: Result<(), bool>) {
        if begin < self.times.counts_from {
            return;
        }
        let counts = &mut self.counts.borrow_mut()[tenant as usize];
        counts.offered += 1;
        counts.in_time += u64::from(result.is_ok() && end - begin <= DEADLINE);
        counts.refused += u64::from(result == Err(true));
    }

    fn small(&self) -> f64 {
        let counts = self.counts.borrow();
        counts[..self.tenants.small as usize].iter().fold(Counts::default(), Counts::plus).goodput()
    }

    /// Returns the smallest share answered in time of any small tenant with enough calls.
    fn worst_small(&self) -> f64 {
        let counts = self.counts.borrow();
        let small = counts[..self.tenants.small as usize].iter();
        small.filter(|counts| counts.offered >= ENOUGH).map(|counts| counts.goodput()).fold(f64::INFINITY, f64::min)
    }

    /// Returns the goodput of the large tenants, as a share of the capacity that the small tenants do not demand.
    fn large_of_what_is_left(&self) -> f64 {
        let counts = self.counts.borrow();
        let (small, large) = counts.split_at(self.tenants.small as usize);
        let [small, large] = [small, large].map(|part| part.iter().fold(Counts::default(), Counts::plus));
        let can_be_done = CAPACITY * (self.times.end - self.times.counts_from).as_secs_f64();
        large.in_time as f64 / (can_be_done - small.offered as f64)
    }

    /// Returns the share of all calls that was refused.
    fn refused(&self) -> f64 {
        let all = self.counts.borrow().iter().fold(Counts::default(), Counts::plus);
        all.refused as f64 / all.offered as f64
    }
}

/// Names the tenant of each call, and records how it ends.
#[derive(Clone)]
struct Recorded<S> {
    sim: Sim,
    tally: Rc<Tally>,
    service: S,
}

impl<S: Client> Service<Call> for Recorded<S> {
    type Response = Reply;
    type Error = Error<Failure>;
    type Future = Promise<Reply, Error<Failure>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error<Failure>>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let Self { sim, tally, service } = self.clone();
        Box::pin(async move {
            let (tenant, begin) = (tally.tenant(&call), sim.elapsed());
            call.key = tenant;
            let result = service.oneshot(call).await.map_err(Into::into);
            let ended = result.as_ref().map(|_| ()).map_err(|error| matches!(error, Error::Rejected(_)));
            tally.ended(tenant, begin, sim.elapsed(), ended);
            result
        })
    }
}

/// Refuses a tenant whose calls in flight reach the limit divided by the number of tenants in flight.
#[derive(Clone)]
struct EqualShares<S> {
    limiter: Limiter,
    in_flight: Rc<RefCell<HashMap<u64, u64>>>,
    service: S,
}

impl<S: Client> Service<Call> for EqualShares<S> {
    type Response = Reply;
    type Error = Error<Failure>;
    type Future = Promise<Reply, Error<Failure>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error<Failure>>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Self { limiter, in_flight, service } = self.clone();
        Box::pin(async move {
            {
                let mut in_flight = in_flight.borrow_mut();
                let held = in_flight.get(&call.key).copied().unwrap_or_default();
                let tenants = in_flight.len() as u64 + u64::from(held == 0);
                if held >= (limiter.limit() as u64 / tenants).max(1) {
                    return Err(Error::Service(Failure::Overloaded));
                }
                *in_flight.entry(call.key).or_default() += 1;
            }
            let result = service.oneshot(call).await;
            let mut in_flight = in_flight.borrow_mut();
            if let Some(held) = in_flight.get_mut(&call.key) {
                *held -= 1;
                if *held == 0 {
                    in_flight.remove(&call.key);
                }
            }
            result.map_err(Into::into)
        })
    }
}
