//! This crate's poller.

use super::{
    cases::{Case, SLOTS, Source, Subject},
    limit::{Limit, Slot, Tables},
};
use std::time::Duration;
use steadfast::{
    ConfigError, Random,
    constant_work::{self, Poller, Shape, Snapshot, SourceError, SourceFailure, Version, WallClock},
};
use tokio::runtime::{self, Runtime};

/// The time of the wall clock.
const NOW: Duration = Duration::from_secs(1_800_000_000);

/// A poller in virtual time, which runs on the calling thread.
pub struct Polling {
    runtime: Runtime,
    poller: Poller<Slot, Answers, Tables>,
}

/// A source in memory, with or without an answer for each tick. It also copies as many bytes when it is down, because
/// the work of the source is not the poller's.
pub struct Answers {
    answers: Vec<Option<Vec<u8>>>,
    /// As many zero bytes as an answer has.
    blank: Vec<u8>,
    next: usize,
}

impl constant_work::Source for Answers {
    async fn fetch(&mut self, into: &mut Vec<u8>, at_most: usize) -> Result<(), SourceError> {
        into.clear();
        let answer = self.answers.get(self.next).and_then(Option::as_ref);
        self.next += 1;
        let bytes = answer.unwrap_or(&self.blank);
        into.extend_from_slice(&bytes[..bytes.len().min(at_most)]);
        if answer.is_some() { Ok(()) } else { Err(SourceError::new(SourceFailure::Unreachable)) }
    }
}

impl Polling {
    /// Prepares this number of ticks after the warm-up.
    pub fn new(case: &Case, seed: u64, ticks: u32) -> Result<Self, ConfigError> {
        let snapshots = case.publications(seed, ticks).map(|(version, limits)| snapshot(version, &limits));
        let snapshots = snapshots.collect::<Result<Vec<_>, _>>()?;
        Self::of(snapshots.into_iter().enumerate().map(|(tick, bytes)| case.gives(tick, bytes)).collect())
    }

    fn of(answers: Vec<Option<Vec<u8>>>) -> Result<Self, ConfigError> {
        let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.map_err(|error| ConfigError::new("runtime", error, "must be there"))?;
        let length = answers.iter().flatten().map(Vec::len).max().unwrap_or_default();
        let source = Answers { answers, blank: vec![0; length], next: 0 };
        let poller = Poller::builder(source, Shape::for_rules::<Slot>(SLOTS)?)
            .random(Random::seeded(1))
            .wall_clock(WallClock::from_fn(|| NOW))
            .build(Tables)?;
        Ok(Self { runtime, poller })
    }

    /// Returns the bytes that the last tick fetched.
    pub fn fetched(&self) -> u64 {
        self.poller.readings().now().bytes as u64
    }

    fn has_in_force(&self, limits: &[Limit]) -> bool {
        self.poller.current().load().iter().filter(|limit| limit.tenant != u64::MAX).eq(limits)
    }
}

impl Subject for Polling {
    fn tick(&mut self) -> bool {
        self.runtime.block_on(self.poller.tick()).is_ok()
    }
}

fn snapshot(version: u64, limits: &[Limit]) -> Result<Vec<u8>, ConfigError> {
    let mut bytes = Vec::new();
    let version = Version { epoch: 1, version };
    let rules = limits.iter().copied().map(Slot).collect();
    Snapshot { version, published_at_nanos: NOW.as_nanos() as u64, rules }
        .encode(Shape::for_rules::<Slot>(SLOTS)?, &mut bytes)
        .map_err(|error| ConfigError::new("limits", error, "must make a snapshot"))?;
    Ok(bytes)
}

/// Publishes a new snapshot, which is corrupt in one tick. Returns after how many further ticks it is in force. Returns
/// infinity if the corrupt tick changed the configuration in force, or if the new one never comes into force.
pub fn ticks_to_heal(seed: u64) -> Result<f64, ConfigError> {
    let broken = Case { source: Source::Corrupt, used: SLOTS, changed: SLOTS };
    let publications: Vec<_> = broken.publications(seed, 0).take(2).collect();
    let [(first, old), (second, new)] = &publications[..] else { return Ok(f64::INFINITY) };
    let whole = snapshot(*second, new)?;
    let mut answers = vec![Some(snapshot(*first, old)?), broken.gives(1, whole.clone())];
    answers.extend(vec![Some(whole); 10]);
    let mut polling = Polling::of(answers)?;
    if !polling.tick() || polling.tick() || !polling.has_in_force(old) {
        return Ok(f64::INFINITY);
    }
    let healed = (1..=10).find(|_| polling.tick() && polling.has_in_force(new));
    Ok(healed.map_or(f64::INFINITY, f64::from))
}
