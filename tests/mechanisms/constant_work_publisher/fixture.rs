//! A rule, and a sink in memory. The sink fails or hangs on command, and yields in every call.

use serde::{Deserialize, Serialize};
use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use steadfast::{
    ConfigError,
    constant_work::{
        Publisher, PublisherBuilder, Rule, Shape, Sink, Snapshot, SourceError, SourceFailure, Version, WallClock,
    },
};
use tokio::task::yield_now;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    pub tenant: u64,
    pub rate: u32,
}

impl Rule for Limit {
    const SCHEMA: u32 = 7;

    fn inert(_: u32) -> Self {
        Self { tenant: u64::MAX, rate: u32::MAX }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        match self.rate {
            0 => Err(ConfigError::new("limit.rate", self.rate, "must be above 0")),
            _ => Ok(()),
        }
    }
}

pub const SLOTS: u32 = 8;

pub fn shape() -> Shape {
    Shape::for_rules::<Limit>(SLOTS).expect("a rule like any")
}

/// Returns `count` rules, which differ from those of any other rate.
pub fn rules(count: u64, rate: u32) -> Vec<Limit> {
    (0..count).map(|tenant| Limit { tenant, rate }).collect()
}

/// The behaviour of the next calls of a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Way {
    #[default]
    Well,
    /// Reading fails.
    NotReadable,
    /// Writing fails, and nothing is written.
    NotWritable,
    /// Writing fails after the snapshot is written, as if the answer were lost.
    Unanswered,
    /// Reading never ends.
    ReadHangs,
    /// Writing never ends.
    WriteHangs,
}

#[derive(Default)]
struct SinkState {
    bytes: Option<Vec<u8>>,
    way: Way,
    reads: Vec<usize>,
    writes: usize,
}

/// A sink in memory. Clones share it.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<SinkState>>);

impl Memory {
    fn with<R>(&self, with: impl FnOnce(&mut SinkState) -> R) -> R {
        with(&mut self.0.lock().expect("no caller panics with the lock"))
    }

    pub fn go(&self, way: Way) {
        self.with(|state| state.way = way);
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.with(|state| state.bytes.clone()).expect("something is published")
    }

    pub fn put(&self, bytes: impl Into<Option<Vec<u8>>>) {
        self.with(|state| state.bytes = bytes.into());
    }

    pub fn snapshot(&self) -> Snapshot<Limit> {
        Snapshot::decode(&self.bytes(), shape()).expect("a snapshot")
    }

    /// The version and the rules that are published.
    pub fn published(&self) -> (u64, u64, Vec<Limit>) {
        let Snapshot { version: Version { epoch, version }, rules, .. } = self.snapshot();
        (epoch, version, rules)
    }

    /// The limit of each read, and the number of writes that began.
    pub fn calls(&self) -> (Vec<usize>, usize) {
        self.with(|state| (state.reads.clone(), state.writes))
    }
}

fn unreachable() -> SourceError {
    SourceError::new(SourceFailure::Unreachable)
}

impl Sink for Memory {
    async fn published(&mut self, into: &mut Vec<u8>, at_most: usize) -> Result<bool, SourceError> {
        into.clear();
        yield_now().await;
        let way = self.with(|state| {
            state.reads.push(at_most);
            state.way
        });
        match way {
            Way::ReadHangs => pending().await,
            Way::NotReadable => return Err(unreachable()),
            _ => {}
        }
        let bytes = self.with(|state| state.bytes.clone());
        into.extend_from_slice(bytes.as_deref().unwrap_or_default());
        into.truncate(at_most);
        yield_now().await;
        Ok(bytes.is_some())
    }

    async fn publish(&mut self, snapshot: &[u8]) -> Result<(), SourceError> {
        yield_now().await;
        let way = self.with(|state| {
            state.writes += 1;
            state.way
        });
        match way {
            Way::WriteHangs => pending().await,
            Way::NotWritable => return Err(unreachable()),
            _ => {}
        }
        self.put(snapshot.to_vec());
        yield_now().await;
        if way == Way::Unanswered { Err(unreachable()) } else { Ok(()) }
    }
}

/// A clock that a test sets, in nanoseconds since 1970.
#[derive(Clone, Default)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    pub fn set(&self, nanos: u64) {
        self.0.store(nanos, Ordering::Relaxed);
    }

    pub fn wall_clock(&self) -> WallClock {
        let clock = self.clone();
        WallClock::from_fn(move || Duration::from_nanos(clock.0.load(Ordering::Relaxed)))
    }
}

pub fn builder(sink: &Memory) -> PublisherBuilder<Limit, Memory> {
    Publisher::builder(sink.clone(), shape())
}

pub fn publisher(sink: &Memory) -> Publisher<Limit, Memory> {
    builder(sink).build().expect("settings that work")
}
