use super::last_good::LastGoodCounts;
use crate::{
    clock::Nanos,
    constant_work::{refusal::Refusal, snapshot::Version, wall_clock::WallClock},
    held::address,
    sync::{Mutex, lock},
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// The source of the value in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InForce {
    /// The rules that were configured here: nothing good has been read yet, or the last good is too old.
    Defaults,
    /// The last good snapshot.
    LastGood,
}

/// A poller at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Readings {
    /// The source of the value in force.
    pub in_force: InForce,
    /// The last good snapshot.
    pub version: Option<Version>,
    /// For how long the last good snapshot has been published, by the publisher's clock and the one here: zero where
    /// the publisher's is ahead. A publisher that publishes on a schedule and has stopped is seen here.
    pub since_publication: Option<Duration>,
    /// For how long the source has not given a good snapshot; from the first tick on where the last good is from the
    /// file. A source that is down is seen here.
    pub since_good_read: Option<Duration>,
    /// The used slots of what is in force.
    pub used: u32,
    /// The slots there are.
    pub slots: u32,
    /// The bytes that the last fetch gave.
    pub bytes: usize,
    /// How long the last tick took, the fetch included.
    pub last_tick: Option<Duration>,
    /// How the ticks ended.
    pub ticks: Ticks,
    /// The last refusal there was, even if good ticks came after it.
    pub last_refusal: Option<Refusal>,
    /// The time since then, by tokio's clock.
    pub since_last_refusal: Option<Duration>,
    /// How often the file of the last good snapshot was written.
    pub last_good: LastGoodCounts,
    /// Why that file was not used or not written the last time, such as a full disk. `None` since it was last written.
    pub last_good_error: Option<String>,
}

/// How many ticks ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    pub(super) good: u64,
    pub(super) missed: u64,
    pub(super) refused: [u64; Refusal::KINDS.len()],
}

impl Ticks {
    /// Those that brought a good snapshot.
    pub fn good(&self) -> u64 {
        self.good
    }

    /// Those that [`run`](crate::constant_work::Poller::run) left out, because the tick before took longer than the
    /// period.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Those that were refused with this kind, of [`Refusal::KINDS`].
    pub fn refused(&self, kind: &str) -> u64 {
        self.by_kind().find(|(of, _)| *of == kind).map_or(0, |(_, count)| count)
    }

    /// The refused ones by kind, for a labelled counter: every kind, also those that never happened.
    pub fn by_kind(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        Refusal::KINDS.into_iter().zip(self.refused)
    }
}

/// Reads a poller from outside, while it runs and afterwards. Clones read the same one.
///
/// A reading takes a short lock that a tick takes once, and clones the last refusal.
#[derive(Clone)]
pub struct PollerReadings {
    state: Arc<Mutex<PollerState>>,
    wall_clock: WallClock,
}

/// The state that a tick leaves for readers.
#[derive(Debug)]
pub(super) struct PollerState {
    pub(super) in_force: InForce,
    pub(super) good: Option<Good>,
    pub(super) used: u32,
    pub(super) slots: u32,
    pub(super) bytes: usize,
    pub(super) last_tick: Option<Duration>,
    pub(super) ticks: Ticks,
    /// And when.
    pub(super) last_refusal: Option<(Refusal, Instant)>,
    pub(super) last_good: LastGoodCounts,
    pub(super) last_good_error: Option<String>,
}

/// When a good snapshot was published and read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Good {
    pub(super) version: Version,
    pub(super) published_at: Nanos,
    pub(super) read_at: Instant,
}

impl PollerReadings {
    pub(super) fn new(state: PollerState, wall_clock: WallClock) -> Self {
        Self { state: Arc::new(Mutex::new(state)), wall_clock }
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut PollerState)) {
        change(&mut lock(&self.state));
    }

    /// The poller as it is now.
    pub fn now(&self) -> Readings {
        self.at(Instant::now())
    }

    pub(in crate::constant_work) fn at(&self, now: Instant) -> Readings {
        let wall_now = self.wall_clock.now();
        let state = lock(&self.state);
        let since_publication = |good: Good| wall_now.saturating_sub(good.published_at).duration();
        Readings {
            in_force: state.in_force,
            version: state.good.map(|good| good.version),
            since_publication: state.good.map(since_publication),
            since_good_read: state.good.map(|good| now.saturating_duration_since(good.read_at)),
            used: state.used,
            slots: state.slots,
            bytes: state.bytes,
            last_tick: state.last_tick,
            ticks: state.ticks,
            last_refusal: state.last_refusal.as_ref().map(|(refusal, _)| refusal.clone()),
            since_last_refusal: state.last_refusal.as_ref().map(|(_, at)| now.saturating_duration_since(*at)),
            last_good: state.last_good,
            last_good_error: state.last_good_error.clone(),
        }
    }
}

impl PollerReadings {
    /// The address of what all clones read.
    pub(in crate::constant_work) fn address(&self) -> usize {
        address(&self.state)
    }
}

impl fmt::Debug for PollerReadings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PollerReadings").field(&self.now()).finish()
    }
}
