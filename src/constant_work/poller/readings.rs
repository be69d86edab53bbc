use super::last_good::LastGoodCounts;
use crate::{
    clock::Nanos,
    constant_work::{refusal::Refusal, snapshot::Version, wall_clock::WallClock},
    held::address,
    sync::{Mutex, lock},
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::time::Instant;

/// The origin of the value in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InForce {
    /// The default rules: no value has been built from a good snapshot yet, or the last good one is stale.
    Defaults,
    /// The last good snapshot.
    LastGood,
}

/// The state of a poller at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Readings {
    /// The origin of the value in force.
    pub in_force: InForce,
    /// The version of the last good snapshot.
    pub version: Option<Version>,
    /// The time since the publication of the last good snapshot, by the publisher's clock and the local one. Zero if
    /// the publisher's clock is ahead. It grows beyond the publisher's period once the publisher stops.
    pub since_publication: Option<Duration>,
    /// The time since the source last gave a good snapshot. Counts from the first tick if the last good snapshot is
    /// from the last-good file. It grows while the source is down.
    pub since_good_read: Option<Duration>,
    /// The used slots of the rules in force.
    pub used: u32,
    /// The slots of a snapshot.
    pub slots: u32,
    /// The number of bytes that the last fetch returned; 0 if it failed.
    pub bytes: usize,
    /// The duration of the last tick, including the fetch.
    pub last_tick: Option<Duration>,
    /// The ticks by result.
    pub ticks: Ticks,
    /// The last refusal, even if good ticks followed it.
    pub last_refusal: Option<Refusal>,
    /// The time since the last refusal, by tokio's clock.
    pub since_last_refusal: Option<Duration>,
    /// The writes and the refusal of the last-good file.
    pub last_good: LastGoodCounts,
    /// Why the last-good file was last refused, not read or not written, such as a full disk. `None` after a successful
    /// write.
    pub last_good_error: Option<String>,
}

/// Counts the ticks by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    pub(super) good: u64,
    pub(super) missed: u64,
    pub(super) refused: [u64; Refusal::KINDS.len()],
}

impl Ticks {
    /// Returns the number of ticks that read a good snapshot.
    pub fn good(&self) -> u64 {
        self.good
    }

    /// Returns the number of ticks that [`run`](crate::constant_work::Poller::run) skipped. It skips ticks if more than
    /// one became due while an earlier tick was running.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Returns the number of ticks that were refused with this kind, one of [`Refusal::KINDS`].
    pub fn refused(&self, kind: &str) -> u64 {
        self.by_kind().find(|(of, _)| *of == kind).map_or(0, |(_, count)| count)
    }

    /// Returns the refused ticks by kind, for a labelled counter. Includes kinds with a count of zero.
    pub fn by_kind(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        Refusal::KINDS.into_iter().zip(self.refused)
    }
}

/// A handle to the state of a poller, while it runs and afterwards. Clones read the same poller.
///
/// A reading takes a short lock, and clones the last refusal and the last error of the last-good file. Each tick takes
/// the lock once, and [`run`](crate::constant_work::Poller::run) once more between two ticks.
#[derive(Clone)]
pub struct PollerReadings {
    state: Arc<Mutex<PollerState>>,
    wall_clock: WallClock,
}

/// The state that a tick publishes for readers.
#[derive(Debug)]
pub(super) struct PollerState {
    pub(super) in_force: InForce,
    pub(super) good: Option<Good>,
    pub(super) used: u32,
    pub(super) slots: u32,
    pub(super) bytes: usize,
    pub(super) last_tick: Option<Duration>,
    pub(super) ticks: Ticks,
    /// The last refusal, and when it happened.
    pub(super) last_refusal: Option<(Refusal, Instant)>,
    pub(super) last_good: LastGoodCounts,
    pub(super) last_good_error: Option<String>,
}

/// The version of a good snapshot, and when it was published and read.
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

    /// Returns the state of the poller now.
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
    /// Returns the address of the state that all clones share.
    pub(in crate::constant_work) fn address(&self) -> usize {
        address(&self.state)
    }
}

impl fmt::Debug for PollerReadings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PollerReadings").field(&self.now()).finish()
    }
}
