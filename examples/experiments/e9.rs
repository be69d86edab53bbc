//! E9: one of five shards is dead. What does a circuit breaker do to the calls for the other four?

use crate::{
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Client, Lab, ms, secs},
    textbook::Promise,
};
use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use steadfast::{
    ConfigError,
    circuit_breaker::Breaker,
    sim::{Backend, BackendService, Call, Failure, Latency, Load, Reply, Report, Scenario, Sim},
};
use tower::{Service, ServiceExt};

const SHARDS: u64 = 5;
const WINDOW: Duration = secs(10);
const THRESHOLD: f64 = 0.1;
const MINIMUM: u32 = 20;
const OPEN: Duration = secs(5);

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let seeds = lab.count(5, 1, 1);
    let length = lab.length(secs(600), secs(150));
    let anchors = lab.beyond_a_glance(|| {
        let none = lab.mean(0..seeds, |seed| summary(&outage(seed, length, 1, |_, shards| Ok(shards))?, 1))?;
        let textbook = lab.mean(0..seeds, |seed| summary(&outage(seed, length, 1, one_textbook_breaker)?, 1))?;
        let name = "no breaker, one shared classic breaker: success";
        Ok(vec![Anchor::column(name, [0.8, 0.03], &[none, textbook], 0)])
    })?;
    let one_dead = lab.means(seeds, |seed| summary(&outage(seed, length, 1, breaker_per_shard)?, 1))?;
    let three_dead = lab.means(seeds, |seed| summary(&outage(seed, length, 3, breaker_per_shard)?, 3))?;
    let sent = [Bound::AtMost(0.02); 2];
    let mut figures = vec![
        Figure::column("1 dead: success", [Bound::AtLeast(0.795)], std::slice::from_ref(&one_dead), 0),
        Figure::column("3 dead: success", [Bound::AtLeast(0.395)], std::slice::from_ref(&three_dead), 0),
        Figure::column("sent to the dead, of their demand: 1 dead, 3 dead", sent, &[one_dead, three_dead], 1),
    ];
    figures.extend(lab.beyond_a_glance(|| {
        let shared = lab.means(seeds, |seed| summary(&outage(seed, length, 1, one_breaker)?, 1))?;
        Ok(vec![Figure::column("one for all: success", [Bound::Free], &[shared], 0)])
    })?);
    Ok(vec![
        Finding {
            id: "E9",
            what: "1 of 5 shards dead, 100 rps, breakers at 10% of at least 20 calls, open for 5 s; one for each shard",
            anchors,
            figures,
            to_come: None,
        },
        Finding::later(
            "E9",
            "the same with one breaker in proportional mode",
            "",
            "success ≥ 0.795 when failures are not overload answers",
        ),
    ])
}

/// The share of the calls that succeeds, and the share of the calls for dead shards that is sent to them.
fn summary(report: &Report, dead: u64) -> Result<[f64; 2], ConfigError> {
    let demand = report.offered() as f64 * dead as f64 / SHARDS as f64;
    let sent: u64 = report.backends.iter().take(dead as usize).map(|shard| shard.received).sum();
    Ok([report.goodput(), sent as f64 / demand])
}

/// Calls to five shards, of which the first `dead` are.
pub fn outage<S: Client>(
    seed: u64,
    length: Duration,
    dead: u64,
    client: impl FnOnce(&Sim, Shards<BackendService>) -> Result<S, ConfigError>,
) -> Result<Report, ConfigError> {
    Scenario::new(Load::poisson(100.0).keys(SHARDS)).length(length).seed(seed).run(|sim| {
        let shard = |key: u64| {
            sim.backend(Backend::new(Latency::fixed(ms(1))).named(format!("shard {key}")).dead_keys(0..dead))
        };
        client(sim, Shards((0..SHARDS).map(shard).collect()))
    })
}

fn breaker() -> Result<Breaker, ConfigError> {
    Breaker::builder().failure_rate(THRESHOLD, WINDOW).minimum_calls(MINIMUM).open_for(OPEN).build()
}

/// One breaker of this crate before all shards.
pub fn one_breaker(_: &Sim, shards: Shards<BackendService>) -> Result<impl Client + use<>, ConfigError> {
    steadfast::client().circuit_breaker(breaker()?).service(shards)
}

/// A breaker of this crate for each shard.
pub fn breaker_per_shard(_: &Sim, shards: Shards<BackendService>) -> Result<impl Client + use<>, ConfigError> {
    let guarded = |shard: &BackendService| steadfast::client().circuit_breaker(breaker()?).service(shard.clone());
    Ok(Shards(shards.0.iter().map(guarded).collect::<Result<_, _>>()?))
}

fn one_textbook_breaker(sim: &Sim, shards: Shards<BackendService>) -> Result<impl Client + use<>, ConfigError> {
    Ok(TextbookBreaker { sim: sim.clone(), state: Rc::default(), service: shards })
}

/// Sends each call to the shard of its key.
#[derive(Clone)]
pub struct Shards<S>(Rc<[S]>);

impl<S: Client> Service<Call> for Shards<S> {
    type Response = Reply;
    type Error = S::Error;
    type Future = Promise<Reply, S::Error>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let shard = self.0[call.key as usize].clone();
        Box::pin(shard.oneshot(call))
    }
}

/// M. Nygard, "Release It!": closed, open, and half-open with a single probe. Counts over the last ten seconds.
#[derive(Clone)]
struct TextbookBreaker<S> {
    sim: Sim,
    state: Rc<RefCell<TextbookState>>,
    service: S,
}

#[derive(Default)]
struct TextbookState {
    /// When the last calls ended, and whether they failed.
    log: VecDeque<(Duration, bool)>,
    open_until: Option<Duration>,
    probing: bool,
}

impl TextbookState {
    /// Whether a call may pass; if the circuit is open its time must be up, and the call is the probe.
    fn admits(&mut self, now: Duration) -> bool {
        let Some(until) = self.open_until else { return true };
        let probe = now >= until && !self.probing;
        self.probing |= probe;
        probe
    }

    fn ended(&mut self, now: Duration, failed: bool) {
        if self.probing {
            self.probing = false;
            self.log.clear();
            self.open_until = failed.then_some(now + OPEN);
            return;
        }
        self.log.push_back((now, failed));
        while self.log.front().is_some_and(|(at, _)| *at + WINDOW < now) {
            self.log.pop_front();
        }
        let failures = self.log.iter().filter(|(_, failed)| *failed).count();
        if self.log.len() >= MINIMUM as usize && failures as f64 >= THRESHOLD * self.log.len() as f64 {
            self.open_until = Some(now + OPEN);
        }
    }
}

impl<S: Service<Call, Response = Reply, Error = Failure> + Clone + 'static> Service<Call> for TextbookBreaker<S> {
    type Response = Reply;
    type Error = Failure;
    type Future = Promise<Reply, Failure>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Self { sim, state, service } = self.clone();
        Box::pin(async move {
            if !state.borrow_mut().admits(sim.elapsed()) {
                return Err(Failure::Overloaded);
            }
            let result = service.oneshot(call).await;
            state.borrow_mut().ended(sim.elapsed(), result.is_err());
            result
        })
    }
}
