//! One case of E18, in a process of its own under a counter of instructions.

use super::counting::{Allocated, allocated};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    error::Error,
    hint::black_box,
    sync::{Arc, Mutex, PoisonError},
};
use steadfast::{
    ConfigError, Random,
    constant_work::{Poller, Rule, Shape, Snapshot, Source, SourceError, SourceFailure, Version, WallClock},
};
use tokio::runtime::{self, Runtime};

/// The slots of a snapshot.
const SLOTS: u32 = 256;
/// The ticks that are counted.
pub const TICKS: u64 = 20;

/// What changes from one tick to the next, how much is there, and what the source is like.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub mechanism: Mechanism,
    pub changed: f64,
    pub used: f64,
    pub outcome: Outcome,
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Reads, checks and builds all, always.
    ConstantWork,
    /// Looks whether something has changed, and if so parses what there is and puts into force what differs.
    Watcher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Down,
    Corrupt,
}

/// The limit of a tenant. Numbers of fixed length: those of postcard are otherwise shorter the smaller they are, and quicker
/// to read.
#[derive(Clone, Serialize, Deserialize)]
struct TenantLimit {
    #[serde(with = "postcard::fixint::le")]
    tenant: u64,
    #[serde(with = "postcard::fixint::le")]
    per_second: u64,
    #[serde(with = "postcard::fixint::le")]
    burst: u64,
    tier: u8,
}

impl Rule for TenantLimit {
    const SCHEMA: u32 = 18;

    /// Of tenants that there are not, after all others.
    fn inert(slot: u32) -> Self {
        Self { tenant: u64::from(u32::MAX) + u64::from(slot), per_second: 1, burst: 1, tier: 0 }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        if self.per_second == 0 || self.burst == 0 {
            return Err(ConfigError::new("limit.per_second", self.per_second, "must be at least 1"));
        }
        Ok(())
    }
}

impl Case {
    fn used(&self) -> u64 {
        (self.used * f64::from(SLOTS)) as u64
    }

    /// The rules before this tick: of each, the number of its latest change is in it.
    fn rules(&self, tick: u64) -> Vec<TenantLimit> {
        let used = self.used();
        let changed = (self.changed * f64::from(SLOTS)).ceil() as u64;
        let rule = |slot| {
            // A window of so many rules moves on by itself in each tick.
            let first = (tick * changed) % used.max(1);
            let is_new = (slot + used - first) % used.max(1) < changed;
            let per_second = 1 + self.seed + if is_new { tick } else { 0 };
            TenantLimit { tenant: slot, per_second, burst: 100 + slot, tier: (slot % 3) as u8 }
        };
        (0..used).map(rule).collect()
    }

    /// What is published before this tick. It is corrupt in the middle, if at all; not before the first tick, so that there
    /// is a last good one.
    fn published(&self, tick: u64, encoded: Vec<u8>) -> Option<Vec<u8>> {
        match self.outcome {
            Outcome::Down if tick > 0 => None,
            Outcome::Corrupt if tick > 0 => {
                let mut bytes = encoded;
                let middle = bytes.len() / 2;
                bytes.iter_mut().skip(middle).take(1).for_each(|byte| *byte ^= 0x80);
                Some(bytes)
            }
            Outcome::Ok | Outcome::Down | Outcome::Corrupt => Some(encoded),
        }
    }

    fn version(&self, tick: u64) -> u64 {
        if self.changed > 0.0 { 1 + tick } else { 1 }
    }
}

/// What is published, and `None` while it cannot be had.
#[derive(Clone, Default)]
struct Place(Arc<Mutex<Option<Vec<u8>>>>);

impl Place {
    fn set(&self, published: Option<Vec<u8>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = published;
    }
}

impl Source for Place {
    async fn fetch(&mut self, into: &mut Vec<u8>, at_most: usize) -> Result<(), SourceError> {
        into.clear();
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bytes) => {
                into.extend_from_slice(&bytes[..bytes.len().min(at_most)]);
                Ok(())
            }
            None => Err(SourceError::new(SourceFailure::Unreachable)),
        }
    }
}

/// What one tick does: the only part of this process whose instructions are counted.
#[inline(never)]
fn counted_tick(runtime: &Runtime, tick: &mut dyn FnMut(&Runtime) -> bool) -> bool {
    black_box(tick(runtime))
}

/// Runs a case: what the ticks allocated, and in how many of them all went well.
pub fn run(case: Case) -> Result<(Allocated, u64), Box<dyn Error>> {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    match case.mechanism {
        Mechanism::ConstantWork => constant_work(case, &runtime),
        Mechanism::Watcher => watcher(case, &runtime),
    }
}

fn ticks(
    runtime: &Runtime,
    mut publish: impl FnMut(u64) -> Result<(), Box<dyn Error>>,
    mut tick: impl FnMut(&Runtime) -> bool,
) -> Result<(Allocated, u64), Box<dyn Error>> {
    publish(0)?;
    tick(runtime);
    let (mut sum, mut good) = (Allocated { times: 0, bytes: 0 }, 0);
    for number in 1..=TICKS {
        publish(number)?;
        let (is_good, made) = allocated(|| counted_tick(runtime, &mut tick));
        sum = Allocated { times: sum.times + made.times, bytes: sum.bytes + made.bytes };
        good += u64::from(is_good);
    }
    Ok((sum, good))
}

fn constant_work(case: Case, runtime: &Runtime) -> Result<(Allocated, u64), Box<dyn Error>> {
    let shape = Shape::for_rules::<TenantLimit>(SLOTS)?;
    let place = Place::default();
    // A table in the order of the tenants, in which the slots are, too.
    let index = |rules: &[TenantLimit]| -> Box<[(u64, u64, u64, u8)]> {
        rules.iter().map(|rule| (rule.tenant, rule.per_second, rule.burst, rule.tier)).collect()
    };
    let mut poller = {
        let _runtime = runtime.enter();
        Poller::builder(place.clone(), shape).random(Random::seeded(case.seed)).build(index)?
    };
    let now = WallClock::system().now_nanos();
    let publish = |tick| {
        let mut bytes = Vec::new();
        let version = Version { epoch: 1, version: case.version(tick) };
        Snapshot { version, published_at_nanos: now + tick, rules: case.rules(tick) }.encode(shape, &mut bytes)?;
        place.set(case.published(tick, bytes));
        Ok(())
    };
    ticks(runtime, publish, |runtime| runtime.block_on(poller.tick()).is_ok())
}

/// What is commonly written: nothing to do as long as nothing changed; otherwise all is parsed, what differs is put into
/// force, and what cannot be parsed is read again, three times.
fn watcher(case: Case, runtime: &Runtime) -> Result<(Allocated, u64), Box<dyn Error>> {
    let place = Place::default();
    let revision = std::cell::Cell::new(0);
    let publish = |tick| {
        if case.changed > 0.0 || tick == 0 || case.outcome == Outcome::Corrupt {
            place.set(case.published(tick, serde_json::to_vec(&case.rules(tick))?));
            revision.set(tick + 1);
        } else if case.outcome == Outcome::Down {
            place.set(None);
        }
        Ok(())
    };
    let mut in_force: HashMap<u64, TenantLimit> = HashMap::new();
    let (mut seen, mut buffer) = (0, Vec::new());
    let tick = |runtime: &Runtime| {
        if seen == revision.get() {
            return true;
        }
        for _ in 0..3 {
            let fetched = runtime.block_on(place.clone().fetch(&mut buffer, usize::MAX));
            let Ok(rules) = fetched.map(|()| serde_json::from_slice::<Vec<TenantLimit>>(&buffer)) else { return false };
            let Ok(rules) = rules else { continue };
            for rule in rules {
                if in_force.get(&rule.tenant).is_none_or(|old| old.per_second != rule.per_second) {
                    in_force.insert(rule.tenant, rule);
                }
            }
            seen = revision.get();
            return true;
        }
        false
    };
    ticks(runtime, publish, tick)
}

/// In how many ticks after a corrupt one the published rules are in force.
pub fn ticks_to_heal(seed: u64) -> Result<u64, Box<dyn Error>> {
    let case = Case { mechanism: Mechanism::ConstantWork, changed: 1.0, used: 1.0, outcome: Outcome::Corrupt, seed };
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let _runtime = runtime.enter();
    let shape = Shape::for_rules::<TenantLimit>(SLOTS)?;
    let place = Place::default();
    let limits = |rules: &[TenantLimit]| -> Vec<u64> { rules.iter().map(|rule| rule.per_second).collect() };
    let mut poller = Poller::builder(place.clone(), shape).build(limits)?;
    let current = poller.current();
    let rules = |tick| case.rules(tick);
    let encoded = |tick| {
        let mut bytes = Vec::new();
        let version = Version { epoch: 1, version: case.version(tick) };
        Snapshot { version, published_at_nanos: 0, rules: rules(tick) }.encode(shape, &mut bytes).map(|()| bytes)
    };
    place.set(Some(encoded(0)?));
    runtime.block_on(poller.tick())?;
    place.set(case.published(1, encoded(1)?));
    if runtime.block_on(poller.tick()).is_ok() {
        return Err("a corrupt snapshot was taken".into());
    }
    place.set(Some(encoded(1)?));
    for ticks in 1..=10 {
        let _ = runtime.block_on(poller.tick());
        if **current.load() == limits(&rules(1)) {
            return Ok(ticks);
        }
    }
    Err("it was never healed".into())
}
