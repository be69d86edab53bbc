//! E23: some hosts of a thousand are dead. Are they spared, and are the living hosts served?

use crate::{
    finding::{Anchor, Bound, Figure, Finding},
    lab::{Lab, ms, secs},
};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus, seq::SliceRandom};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Mutex,
    time::Duration,
};
use steadfast::{
    ConfigError, Outcome, Random,
    circuit_breaker::{Breaker, BreakerBuilder},
    per_key::PerKey,
    shell::{Ending, Frame, Gate},
};
use tokio::{
    runtime,
    time::{Instant, advance},
};

const HOSTS: usize = 1_000;
const RPS: f64 = 1_000.0;
/// The share of the calls to living hosts that fail by chance.
const FAILING: f64 = 0.02;
/// The mean response time of a living host.
const LATENCY: Duration = ms(20);

/// When hosts die, when they recover, and the length of the run.
#[derive(Clone, Copy)]
struct Times {
    die: Duration,
    revive: Duration,
    length: Duration,
}

const WHOLE: Times = Times { die: secs(150), revive: secs(450), length: secs(600) };
const GLANCE: Times = Times { die: secs(30), revive: secs(150), length: secs(240) };

/// How many hosts die, how many have a breaker, and when they die.
#[derive(Clone, Copy)]
struct Case {
    dead: usize,
    keys: usize,
    times: Times,
}

pub fn run(lab: &Lab) -> Result<Vec<Finding>, ConfigError> {
    let seeds = lab.count(12, 4, 1);
    let times = if lab.is_glance() { GLANCE } else { WHOLE };
    let case = |dead, keys| Case { dead, keys, times };
    let one_for_all = case(50, 0);
    let anchors = lab.beyond_a_glance(|| {
        let shared = |rate| {
            lab.mean(0..seeds, move |seed| {
                // The usual configuration: the circuit is always open for the same time.
                let builder = Breaker::builder().failure_rate(rate, secs(10)).minimum_calls(20);
                let builder = builder.open_for(secs(5)).max_open_for(secs(5));
                Ok([simulate(seed, one_for_all, builder)?.living_refused()])
            })
        };
        let runs = [shared(0.5)?, shared(0.03)?];
        Ok(vec![Anchor::column("one for all opens at .5, at .03: the living refused", [0.0, 0.5], &runs, 0)])
    })?;
    // The result depends on how many popular hosts are among the dead.
    let mut figures = lab.beyond_a_glance(|| {
        let sent = |seed| Ok([simulate(seed, case(50, HOSTS), by_rate())?.sent_to_the_dead()]);
        let name = "one for each opens at half of 20 in 10 s only: the dead's demand sent";
        Ok(vec![Figure::new(name, [Bound::Free], lab.means(seeds, sent)?)])
    })?;
    for (keys, each, any) in [
        (HOSTS, "calls to a dead host, the living refused, calls that shared", "most calls to a dead host"),
        (
            200,
            "200 keys: calls to a dead host, the living refused, calls that shared",
            "200 keys: most calls to a dead host",
        ),
    ] {
        let ours = Runs::new(case(50, keys));
        let means = lab.means(seeds, |seed| {
            let seen = ours.of(seed)?;
            Ok([seen.calls_to_a_dead_host(), seen.living_refused(), seen.shared()])
        })?;
        figures.push(Figure::new(each, [Bound::AtMost(12.0), Bound::AtMost(0.005), Bound::Free], means));
        let worst = lab.worst(seeds, |seed| Ok([ours.of(seed)?.most_calls_to_a_dead_host()]))?;
        figures.push(Figure::new(any, [Bound::AtMost(20.0)], worst));
    }
    let (bounded, unbounded) = (Runs::new(case(300, 200)), Runs::new(case(300, HOSTS)));
    let many = lab.means(seeds, |seed| {
        let (bounded, unbounded) = (bounded.of(seed)?, unbounded.of(seed)?);
        let lost = unbounded.success() - bounded.success();
        Ok([bounded.calls_to_a_dead_host(), lost, bounded.living_refused(), unbounded.calls_to_a_dead_host()])
    })?;
    figures.push(Figure::new(
        "300 dead, 200 keys: calls to a dead host, success lost to unbounded, the living refused; calls if unbounded",
        [Bound::AtMost(40.0), Bound::AtMost(0.02), Bound::Free, Bound::Free],
        many,
    ));
    Ok(vec![Finding {
        id: "E23",
        what: "a breaker per key: 1,000 hosts, Zipf(1), 1,000/s, 2% fail by chance; 50 dead from 150 to 450 of 600 s",
        anchors,
        figures,
        to_come: None,
    }])
}

/// The conditions of the model: five consecutive failures, or half of 20 calls in 10 s.
fn ours() -> BreakerBuilder {
    by_rate().consecutive_failures(5)
}

fn by_rate() -> BreakerBuilder {
    let opens = Breaker::builder().failure_rate(0.5, secs(10)).minimum_calls(20);
    opens.open_for(secs(5)).max_open_for(secs(60)).probes(3)
}

/// The runs of a case, each computed once.
struct Runs {
    case: Case,
    seen: Mutex<BTreeMap<u64, Seen>>,
}

impl Runs {
    fn new(case: Case) -> Self {
        Self { case, seen: Mutex::default() }
    }

    fn of(&self, seed: u64) -> Result<Seen, ConfigError> {
        // A panic in a run ends the program.
        let known = || self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(seen) = known().get(&seed) {
            return Ok(seen.clone());
        }
        let seen = simulate(seed, self.case, ours())?;
        known().insert(seed, seen.clone());
        Ok(seen)
    }
}

/// The counts of a run.
#[derive(Clone, Default)]
struct Seen {
    calls: u64,
    succeeded: u64,
    to_living: u64,
    living_refused: u64,
    /// Calls meant for hosts while they were dead, and the calls that reached each such host.
    to_dead: u64,
    reached_dead: Vec<u64>,
    /// Calls whose host had no breaker of its own.
    shared: u64,
}

impl Seen {
    fn calls_to_a_dead_host(&self) -> f64 {
        self.reached_dead.iter().sum::<u64>() as f64 / self.reached_dead.len() as f64
    }

    fn most_calls_to_a_dead_host(&self) -> f64 {
        self.reached_dead.iter().max().map_or(f64::NAN, |most| *most as f64)
    }

    fn sent_to_the_dead(&self) -> f64 {
        self.reached_dead.iter().sum::<u64>() as f64 / self.to_dead as f64
    }

    fn living_refused(&self) -> f64 {
        self.living_refused as f64 / self.to_living as f64
    }

    fn shared(&self) -> f64 {
        self.shared as f64 / self.calls as f64
    }

    fn success(&self) -> f64 {
        self.succeeded as f64 / self.calls as f64
    }
}

/// Simulates the clients of all hosts, through the gate that a stack uses.
fn simulate(seed: u64, case: Case, builder: BreakerBuilder) -> Result<Seen, ConfigError> {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| ConfigError::new("experiment.runtime", error, "must start"))?;
    runtime.block_on(calls(seed, case, builder.random(Random::seeded(seed))))
}

async fn calls(seed: u64, case: Case, builder: BreakerBuilder) -> Result<Seen, ConfigError> {
    let Case { dead, keys, times: Times { die, revive, length } } = case;
    let breakers = PerKey::new(|host: &usize| *host, builder)?.max_keys(keys);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let popularity = Popularity::zipf(HOSTS);
    let dead = some_hosts(dead, &mut random);
    let mut reached = vec![0; HOSTS];
    let mut seen = Seen::default();
    // The calls in flight, ordered by the time of their answers.
    let mut answers = BinaryHeap::new();
    let mut permits = Vec::new();
    let mut free = Vec::new();
    let (start, mut arrival) = (Instant::now(), Duration::ZERO);
    loop {
        arrival += exponential(1.0 / RPS, &mut random);
        while let Some(Reverse((at, place))) = answers.peek().copied().filter(|Reverse((at, _))| *at <= arrival) {
            answers.pop();
            turn_to(start + at).await;
            let outcome = if random.random::<f64>() < FAILING { Outcome::Failure } else { Outcome::Success };
            seen.succeeded += u64::from(outcome == Outcome::Success);
            if let Some(permit) = Option::take(&mut permits[place]) {
                Gate::<usize>::settle(&breakers, permit, Ending::Answered(outcome), &mut Frame::new());
            }
            free.push(place);
        }
        if arrival >= length {
            break;
        }
        turn_to(start + arrival).await;
        let host = popularity.draw(&mut random);
        let is_dead = dead[host] && (die..revive).contains(&arrival);
        let frame = &mut Frame::new();
        let admitted = breakers.admit(&host, frame);
        seen.calls += 1;
        if is_dead {
            seen.to_dead += 1;
        } else {
            seen.to_living += 1;
            seen.living_refused += u64::from(admitted.is_err());
        }
        match admitted {
            Ok(permit) if is_dead => {
                reached[host] += 1;
                Gate::<usize>::settle(&breakers, permit, Ending::Answered(Outcome::Failure), frame);
            }
            Ok(permit) => {
                let place = free.pop().unwrap_or_else(|| {
                    permits.push(None);
                    permits.len() - 1
                });
                permits[place] = Some(permit);
                let at = arrival + exponential(LATENCY.as_secs_f64(), &mut random);
                answers.push(Reverse((at, place)));
            }
            Err(_) => {}
        }
    }
    seen.reached_dead = (0..HOSTS).filter(|host| dead[*host]).map(|host| reached[host]).collect();
    seen.shared = breakers.overflowed();
    Ok(seen)
}

/// Advances the clock to this instant.
async fn turn_to(instant: Instant) {
    advance(instant.saturating_duration_since(Instant::now())).await;
}

fn exponential(mean: f64, random: &mut Xoshiro256PlusPlus) -> Duration {
    Duration::from_secs_f64(-(1.0 - random.random::<f64>()).ln() * mean)
}

/// Draws the hosts that die.
fn some_hosts(count: usize, random: &mut Xoshiro256PlusPlus) -> Vec<bool> {
    let mut dead: Vec<bool> = (0..HOSTS).map(|host| host < count).collect();
    dead.shuffle(random);
    dead
}

/// How often each host is called, as cumulative shares.
struct Popularity(Vec<f64>);

impl Popularity {
    fn zipf(hosts: usize) -> Self {
        let mut sum = 0.0;
        let mut sums: Vec<f64> = (1..=hosts)
            .map(|rank| {
                sum += 1.0 / rank as f64;
                sum
            })
            .collect();
        sums.iter_mut().for_each(|share| *share /= sum);
        Self(sums)
    }

    fn draw(&self, random: &mut Xoshiro256PlusPlus) -> usize {
        let drawn = random.random::<f64>();
        self.0.partition_point(|share| *share <= drawn).min(HOSTS - 1)
    }
}
