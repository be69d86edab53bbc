//! A rule, a source with scripted answers, and a poller that reads it.

use serde::{Deserialize, Serialize};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use steadfast::{
    ConfigError, Random,
    constant_work::{
        Current, Poller, PollerBuilder, Rule, Shape, Snapshot, Source, SourceError, SourceFailure, Version, WallClock,
    },
};

pub const SECOND: Duration = Duration::from_secs(1);
/// The time of the tests' wall clock.
pub const NOW: Duration = Duration::from_secs(1_800_000_000);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    pub client: [u8; 8],
    pub per_second: u32,
    pub weight: f32,
}

impl Rule for Limit {
    const SCHEMA: u32 = 7;

    fn inert(_slot: u32) -> Self {
        Self { client: [0; 8], per_second: u32::MAX, weight: 1.0 }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        if self.per_second == 0 {
            return Err(ConfigError::new("limit.per_second", self.per_second, "must be at least 1"));
        }
        if !(self.weight.is_finite() && self.weight > 0.0) {
            return Err(ConfigError::new("limit.weight", self.weight, "must be a number above zero"));
        }
        Ok(())
    }
}

pub fn limit(client: u64, per_second: u32) -> Limit {
    Limit { client: client.to_le_bytes(), per_second, weight: 0.5 }
}

pub fn shape(slots: u32) -> Shape {
    Shape::for_rules::<Limit>(slots).unwrap()
}

/// Returns a snapshot of these rules, published at [`NOW`].
pub fn published(shape: Shape, epoch: u64, version: u64, rules: &[Limit]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let version = Version { epoch, version };
    let published_at_nanos = NOW.as_nanos() as u64;
    Snapshot { version, published_at_nanos, rules: rules.to_vec() }.encode(shape, &mut bytes).unwrap();
    bytes
}

/// Returns the bytes with other content at one place, and a correct checksum.
pub fn forged(mut bytes: Vec<u8>, at: usize, content: &[u8]) -> Vec<u8> {
    bytes[at..at + content.len()].copy_from_slice(content);
    let end = bytes.len() - 4;
    let checksum = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[derive(Clone, Debug)]
pub enum Answer {
    Bytes(Vec<u8>),
    Fails(SourceFailure),
    Hangs,
    Panics,
}

#[derive(Debug)]
struct Script {
    answer: Answer,
    pending: u32,
    slow: Duration,
    fetches: Vec<tokio::time::Instant>,
}

/// A source that a test controls. Clones share the script.
#[derive(Clone, Debug)]
pub struct Scripted(Arc<Mutex<Script>>);

impl Scripted {
    pub fn new(answer: Answer) -> Self {
        // Reserves room for the first thousand fetches, and records no more. A fetch thus allocates nothing here.
        let fetches = Vec::with_capacity(1_000);
        Self(Arc::new(Mutex::new(Script { answer, pending: 0, slow: Duration::ZERO, fetches })))
    }

    pub fn down() -> Self {
        Self::new(Answer::Fails(SourceFailure::Unreachable))
    }

    /// Locks the script, even after a fetch has panicked and poisoned the lock.
    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn answers(&self, answer: Answer) {
        self.script().answer = answer;
    }

    pub fn gives(&self, bytes: &[u8]) {
        self.answers(Answer::Bytes(bytes.to_vec()));
    }

    /// Sets how often a fetch yields before it answers.
    pub fn pends(&self, times: u32) {
        self.script().pending = times;
    }

    /// Sets the time that a fetch takes.
    pub fn takes(&self, time: Duration) {
        self.script().slow = time;
    }

    /// Returns the times of the fetches.
    pub fn fetches(&self) -> Vec<tokio::time::Instant> {
        self.script().fetches.clone()
    }
}

impl Source for Scripted {
    async fn fetch(&mut self, into: &mut Vec<u8>, at_most: usize) -> Result<(), SourceError> {
        into.clear();
        let (pending, slow) = {
            let mut script = self.script();
            if script.fetches.len() < script.fetches.capacity() {
                script.fetches.push(tokio::time::Instant::now());
            }
            (script.pending, script.slow)
        };
        for _ in 0..pending {
            // A part of the bytes, as from a connection.
            into.extend_from_slice(b"half");
            tokio::task::yield_now().await;
        }
        if !slow.is_zero() {
            tokio::time::sleep(slow).await;
        }
        into.clear();
        let hangs = {
            let script = self.script();
            match &script.answer {
                Answer::Bytes(bytes) => into.extend_from_slice(&bytes[..bytes.len().min(at_most)]),
                Answer::Fails(failure) => return Err(SourceError::new(*failure)),
                Answer::Panics => panic!("as a test asked for"),
                Answer::Hangs => {}
            }
            matches!(script.answer, Answer::Hangs)
        };
        if hangs {
            std::future::pending().await
        }
        Ok(())
    }
}

pub fn builder(source: &Scripted, shape: Shape) -> PollerBuilder<Limit, Scripted> {
    Poller::builder(source.clone(), shape).random(Random::seeded(1)).wall_clock(WallClock::from_fn(|| NOW))
}

/// Copies the rules of all slots.
pub fn copy(rules: &[Limit]) -> Vec<Limit> {
    rules.to_vec()
}

/// The rules in force, without the inert ones.
pub fn in_force(current: &Current<Vec<Limit>>) -> Vec<Limit> {
    current.load().iter().filter(|rule| **rule != Limit::inert(0)).cloned().collect()
}
