//! E9: one of five shards is dead. How does a circuit breaker affect the calls for the other four?

mod evidence;

use crate::{
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Client, Lab, ms, secs},
    textbook::Promise,
};
use std::{
    cell::RefCell,
    collections::VecDeque,
    ops::Range,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use steadfast::{
    ConfigError,
    circuit_breaker::{Breaker, BreakerBuilder, BreakerState},
    sim::{Backend, BackendService, Call, ClassReport, Failure, Latency, Load, Reply, Report, Scenario, Sim},
};
use tower::{Service, ServiceExt, service_fn};

const SHARDS: u64 = 5;
const WINDOW: Duration = secs(10);
const THRESHOLD: f64 = 0.1;
const MINIMUM: u32 = 20;
const OPEN: Duration = secs(5);
/// The default of [`max_open_for`](steadfast::circuit_breaker::BreakerBuilder::max_open_for).
const LONGEST_OPEN: Duration = secs(60);
/// The failure rate of the living shards.
const BY_CHANCE: f64 = 0.02;

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
    let course = if lab.is_glance() { GLANCE } else { WHOLE };
    let constant = lab.worst(seeds, |seed| comes_back(seed, course, |breaker| breaker.max_open_for(OPEN)))?;
    let doubling = lab.worst(seeds, |seed| comes_back(seed, course, |breaker| breaker))?;
    // The time for the probes and their answers, at 20 calls per second.
    let round = secs(1).as_secs_f64();
    let back = |longest: Duration, brief: Duration, sent: f64| {
        let within = |time: Duration| Bound::AtMost(time.as_secs_f64() + round);
        [within(longest), within(brief), Bound::AtMost(0.005), Bound::Within(0.0005, sent)]
    };
    let rare = lab.means(seeds, |seed| rarely_called(seed, course.length()))?;
    let sent = [Bound::AtMost(0.02); 2];
    let mut figures = vec![
        Figure::column("1 dead: success", [Bound::AtLeast(0.795)], std::slice::from_ref(&one_dead), 0),
        Figure::column("3 dead: success", [Bound::AtLeast(0.395)], std::slice::from_ref(&three_dead), 0),
        Figure::column("sent to the dead, of their demand: 1 dead, 3 dead", sent, &[one_dead, three_dead], 1),
    ];
    figures.push(Figure::new(
        "dead twice, then briefly, 2% fail by chance: s until back in service, s after the brief one, refused to the living, \
         sent to the dead; always open for 5 s",
        back(OPEN, OPEN, 0.02),
        constant,
    ));
    // In the brief outage the circuit opens for 5 s and for 10 s, with a jitter of a quarter on the latter.
    let doubled = OPEN + (2 * OPEN).mul_f64(1.25) + secs(2) - BRIEFLY;
    // Fewer than with a constant open time of 5 s. At a glance the outages are shorter, and the first calls weigh more.
    let few = if lab.is_glance() { 0.013 } else { 0.008 };
    figures.push(Figure::new(
        "the same, the open time doubling up to a minute",
        back(LONGEST_OPEN, doubled, few),
        doubling,
    ));
    figures.push(Figure::new("one call per second and shard: refused", [Bound::AtMost(0.002)], rare));
    figures.extend(evidence::figures(lab, seeds)?);
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

/// A run in which the first shard dies and recovers, twice, and then once more briefly.
#[derive(Clone, Copy)]
struct Course {
    /// How long the shard is dead, from the start, and how long it then lives until it dies again.
    dead: Duration,
}

/// The length of the third outage.
const BRIEFLY: Duration = secs(10);

/// Dead for five minutes of each ten, twice, and briefly after five more minutes.
const WHOLE: Course = Course { dead: secs(300) };
const GLANCE: Course = Course { dead: secs(150) };

impl Course {
    fn outages(self) -> [Range<Duration>; 3] {
        let brief = 4 * self.dead;
        [Duration::ZERO..self.dead, 2 * self.dead..3 * self.dead, brief..brief + BRIEFLY]
    }

    fn length(self) -> Duration {
        5 * self.dead
    }
}

/// The observations of the shard that dies.
#[derive(Default)]
struct Seen {
    /// The calls that reached it while it was dead.
    sent: u64,
    /// The longest time from the end of a long outage until its circuit closed, in seconds, and that of the brief
    /// outage. Infinite if the circuit never closed.
    back_after: [f64; 2],
}

/// Returns how long it takes until the shard is back in service, also after a brief outage; the refused share of the
/// calls for the other shards; and the share of the calls for the dead shard that is sent to it.
fn comes_back(
    seed: u64,
    course: Course,
    change: fn(BreakerBuilder) -> BreakerBuilder,
) -> Result<[f64; 4], ConfigError> {
    let seen = Rc::new(RefCell::new(Seen { sent: 0, back_after: [f64::INFINITY; 2] }));
    let noted = seen.clone();
    // A class for each shard.
    let load = |shard: u64| Load::poisson(100.0 / SHARDS as f64).named(format!("shard {shard}"));
    let scenario = (1..SHARDS).fold(Scenario::new(load(0)), |scenario, shard| scenario.and(load(shard)));
    let report = scenario.length(course.length()).seed(seed).run(|sim| {
        let mut guarded = Vec::new();
        for shard in 0..SHARDS {
            let spec = Backend::new(Latency::fixed(ms(1))).named(format!("shard {shard}"));
            // No call to the recovering shard fails by chance, so its probes report its true state.
            let dies = |spec: Backend| course.outages().into_iter().fold(spec, Backend::outage);
            let backend = sim.backend(if shard == 0 { dies(spec) } else { spec.failing(BY_CHANCE) });
            let breaker = change(a_breaker()).random(sim.random()).build()?;
            if shard == 0 {
                sim.spawn(watch(sim.clone(), course, backend.clone(), breaker.clone(), noted.clone()));
            }
            guarded.push(steadfast::client().circuit_breaker(breaker).service(backend)?);
        }
        let guarded: Rc<[_]> = guarded.into();
        Ok(service_fn(move |call: Call| guarded[call.class].clone().oneshot(call)))
    })?;
    let Seen { sent, back_after: [long, brief] } = *seen.borrow();
    let demand: u64 = course.outages().iter().map(|outage| calls_to_the_first(&report, outage)).sum();
    Ok([long, brief, refused(&report.classes[1..]), sent as f64 / demand as f64])
}

/// Returns the refused share of the calls for living shards, at a rate so low that few calls are evidence.
fn rarely_called(seed: u64, length: Duration) -> Result<[f64; 1], ConfigError> {
    let load = Load::poisson(SHARDS as f64).keys(SHARDS);
    let report = Scenario::new(load).length(length).seed(seed).run(|sim| {
        let shard = |_| sim.backend(Backend::new(Latency::fixed(ms(1))).failing(BY_CHANCE));
        breaker_per_shard(sim, Shards((0..SHARDS).map(shard).collect()))
    })?;
    Ok([refused(&report.classes)])
}

fn refused(classes: &[ClassReport]) -> f64 {
    let (refused, offered) = classes.iter().fold((0, 0), |(refused, offered), class| {
        (refused + class.rejected.values().sum::<u64>(), offered + class.offered)
    });
    refused as f64 / offered as f64
}

/// Returns the calls for the first shard in this time, counted in whole spans.
fn calls_to_the_first(report: &Report, during: &Range<Duration>) -> u64 {
    let (from, to) = (during.start.as_secs_f64(), during.end.as_secs_f64());
    let spans = report.classes.iter().take(1).flat_map(|class| &class.spans);
    spans.filter(|span| span.from >= from && span.to <= to).map(|span| span.offered).sum()
}

/// Records how often the shard was called while it was dead, and when its circuit closed afterwards.
async fn watch(sim: Sim, course: Course, shard: BackendService, breaker: Breaker, seen: Rc<RefCell<Seen>>) {
    let (mut longest, mut last) = (Duration::ZERO, Duration::ZERO);
    for outage in course.outages() {
        longest = longest.max(last);
        sim.sleep(outage.start.saturating_sub(sim.elapsed())).await;
        let before = shard.counts().received;
        sim.sleep(outage.end - outage.start).await;
        seen.borrow_mut().sent += shard.counts().received - before;
        while breaker.state() != BreakerState::Closed {
            sim.sleep(ms(10)).await;
        }
        last = sim.elapsed() - outage.end;
    }
    seen.borrow_mut().back_after = [longest, last].map(|time| time.as_secs_f64());
}

/// Returns the share of the calls that succeed, and the share of the calls for dead shards that is sent to them.
fn summary(report: &Report, dead: u64) -> Result<[f64; 2], ConfigError> {
    let demand = report.offered() as f64 * dead as f64 / SHARDS as f64;
    let sent: u64 = report.backends.iter().take(dead as usize).map(|shard| shard.received).sum();
    Ok([report.goodput(), sent as f64 / demand])
}

/// Calls five shards, of which the first `dead` are dead.
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

fn a_breaker() -> BreakerBuilder {
    Breaker::builder().failure_rate(THRESHOLD, WINDOW).minimum_calls(MINIMUM).open_for(OPEN)
}

/// One breaker of this crate for all shards.
pub fn one_breaker(_: &Sim, shards: Shards<BackendService>) -> Result<impl Client + use<>, ConfigError> {
    steadfast::client().circuit_breaker(a_breaker().build()?).service(shards)
}

/// A breaker of this crate for each shard.
pub fn breaker_per_shard(_: &Sim, shards: Shards<BackendService>) -> Result<impl Client + use<>, ConfigError> {
    let guarded =
        |shard: &BackendService| steadfast::client().circuit_breaker(a_breaker().build()?).service(shard.clone());
    Ok(Shards(shards.0.iter().map(guarded).collect::<Result<_, _>>()?))
}

fn one_textbook_breaker(sim: &Sim, shards: Shards<BackendService>) -> Result<impl Client + use<>, ConfigError> {
    Ok(TextbookBreaker { sim: sim.clone(), state: Rc::default(), service: shards })
}

/// Sends each call to the shard that its key selects.
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
    /// Returns whether a call may pass. If the circuit is open, its open time must have ended, and the call is the
    /// probe.
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
