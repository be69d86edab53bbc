//! E1: many clients race for one row under optimistic locking. How long do they take, and how often do they write?
//!
//! The model and the published figures: M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.

use crate::{
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Client, Lab, ms, secs},
    textbook::{self, Promise},
};
use rand::{Rng, RngExt, rngs::Xoshiro256PlusPlus};
use std::{
    cell::{Cell, RefCell},
    future::{Ready, ready},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use steadfast::{
    ConfigError,
    retry::{Backoff, Jitter, Retry},
    sim::{Call, Failure, Latency, Link, Load, Reply, Scenario, Sim},
};
use tower::{Service, ServiceExt};

const CLIENTS: usize = 100;
const BASE: Duration = ms(5);
const CAP: Duration = secs(2);

/// The backoffs, and the published numbers for each: completion in milliseconds, and writes.
const PUBLISHED: [(&str, Waits, [f64; 2]); 5] = [
    ("none", Waits::None, [2_031.0, 2_426.0]),
    ("exponential", Waits::Exponential, [63_309.0, 1_846.0]),
    ("equal", Waits::Equal, [6_540.0, 813.0]),
    ("full", Waits::Full, [4_909.0, 796.0]),
    ("decorrelated", Waits::Decorrelated, [4_780.0, 999.0]),
];

#[derive(Clone, Copy)]
enum Waits {
    None,
    Exponential,
    Equal,
    Full,
    Decorrelated,
}

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let anchors = lab.beyond_a_glance(|| {
        let anchor = |(name, waits, published): (_, Waits, _)| {
            let textbook = lab.mean(0..100, |seed| race(seed, |sim, row| Ok(waits.textbook(seed, sim, row))))?;
            Ok(Anchor::new(name, published, textbook))
        };
        PUBLISHED.into_iter().map(anchor).collect()
    })?;
    let mut figures = Vec::new();
    for (name, waits, published) in PUBLISHED {
        // Single races with jitter differ by a tenth and more. Races with decorrelated jitter are on average 7% faster
        // than published.
        let [runs, others] = match waits {
            Waits::None | Waits::Exponential => [2, 2],
            Waits::Equal | Waits::Full => [8, 8],
            Waits::Decorrelated => [25, 10],
        };
        let [runs, others] = [runs, others].map(|glance| lab.count(100, 100, glance));
        let ours = lab.means_with(runs, others, |seed| race(seed, |sim, row| waits.ours(sim, row)))?;
        figures.push(Figure::new(name, published.map(Bound::near), ours));
    }
    Ok(vec![Finding {
        id: "E1",
        what: "100 clients race for one row, with five backoffs; completion in ms, writes",
        anchors,
        figures,
        to_come: None,
    }])
}

/// Returns when the last client has written, in milliseconds, and the number of writes that this took.
fn race<S: Client>(
    seed: u64,
    writer: impl FnOnce(&Sim, Race) -> Result<S, ConfigError>,
) -> Result<[f64; 2], ConfigError> {
    let row = Row::default();
    // Every client calls once, at the start, so no think time ends within the run.
    let load = Load::closed(CLIENTS, secs(3_600));
    let report = Scenario::new(load).length(ms(1)).settle_within(secs(3_000)).seed(seed).run(|sim| {
        let network = Link::new(sim, Latency::normal(ms(10), ms(2)), row.clone());
        writer(sim, Race { network })
    })?;
    let completion =
        report.classes.iter().map(|class| class.latency.map_or(f64::INFINITY, |latency| latency.max)).sum::<f64>();
    Ok([completion * 1e3, row.writes.get() as f64])
}

impl Waits {
    /// This crate's retry, with its backoff.
    fn ours(self, sim: &Sim, race: Race) -> Result<impl Client + use<>, ConfigError> {
        // The ceiling of the model is 5 ms x 2^n with n from 1; that of a `Backoff` is its base x 2^(n-1).
        let doubling = Backoff::exponential(2 * BASE, CAP);
        let backoff = match self {
            Self::None => Backoff::none(),
            Self::Exponential => doubling.jitter(Jitter::None),
            Self::Equal => doubling.jitter(Jitter::Equal),
            Self::Full => doubling,
            Self::Decorrelated => Backoff::exponential(BASE, CAP).jitter(Jitter::Decorrelated),
        };
        // The largest number of attempts that a retry allows, so that no client gives up.
        let retry = Retry::new(1000).backoff(backoff).without_budget().random(sim.random());
        steadfast::client().retry(retry).service(race)
    }

    /// The loop in the article.
    fn textbook(self, seed: u64, sim: &Sim, race: Race) -> impl Client + use<> {
        let random = Rc::new(RefCell::new(textbook::random(seed)));
        TextbookRetry { waits: self, sim: sim.clone(), random, race }
    }

    /// The formulas in the article, in seconds.
    fn draw(self, attempt: i32, previous: f64, random: &mut impl Rng) -> f64 {
        let (base, cap) = (BASE.as_secs_f64(), CAP.as_secs_f64());
        let ceiling = cap.min(base * 2f64.powi(attempt));
        match self {
            Self::None => 0.0,
            Self::Exponential => ceiling,
            Self::Equal => ceiling / 2.0 + random.random_range(0.0..ceiling / 2.0),
            Self::Full => random.random_range(0.0..ceiling),
            Self::Decorrelated => cap.min(random.random_range(base..previous.max(base) * 3.0)),
        }
    }
}

#[derive(Clone)]
struct TextbookRetry {
    waits: Waits,
    sim: Sim,
    random: Rc<RefCell<Xoshiro256PlusPlus>>,
    race: Race,
}

impl Service<Call> for TextbookRetry {
    type Response = Reply;
    type Error = Failure;
    type Future = Promise<Reply, Failure>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let Self { waits, sim, random, race } = self.clone();
        Box::pin(async move {
            let mut wait = 0.0;
            for attempt in 1.. {
                if race.clone().oneshot(call).await.is_ok() {
                    break;
                }
                wait = waits.draw(attempt, wait, &mut *random.borrow_mut());
                sim.sleep(Duration::from_secs_f64(wait)).await;
            }
            Ok(Reply)
        })
    }
}

/// Reads the row and writes it back. An attempt fails if another client wrote in between.
#[derive(Clone)]
struct Race {
    network: Link<Row>,
}

impl Service<Call> for Race {
    type Response = Reply;
    type Error = Failure;
    type Future = Promise<Reply, Failure>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _call: Call) -> Self::Future {
        let network = self.network.clone();
        Box::pin(async move {
            let version = network.clone().oneshot(Request::Read).await?;
            network.oneshot(Request::Write { version }).await?;
            Ok(Reply)
        })
    }
}

/// One row of a database, with its version.
#[derive(Clone, Default)]
struct Row {
    version: Rc<Cell<u64>>,
    writes: Rc<Cell<u64>>,
}

enum Request {
    Read,
    /// Writes if this is still the version.
    Write {
        version: u64,
    },
}

impl Service<Request> for Row {
    type Response = u64;
    type Error = Failure;
    type Future = Ready<Result<u64, Failure>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Request::Write { version } = request else { return ready(Ok(self.version.get())) };
        self.writes.set(self.writes.get() + 1);
        if version != self.version.get() {
            return ready(Err(Failure::Failed));
        }
        self.version.set(version + 1);
        ready(Ok(version + 1))
    }
}
