use super::{
    Poller,
    build::Build,
    current::Current,
    last_good::LastGood,
    readings::{InForce, PollerReadings, PollerState, Ticks},
    tick::{SnapshotBuffers, Staleness, Tick},
};
use crate::{
    clock::Nanos,
    constant_work::{rule::Rule, shape::Shape, snapshot, source::Source, wall_clock::WallClock},
    error::{ConfigError, check_duration},
    random::Random,
};
use std::{path::PathBuf, time::Duration};

/// Configures a [`Poller`].
#[derive(Debug)]
pub struct PollerBuilder<T, S> {
    source: S,
    shape: Shape,
    period: Duration,
    timeout: Option<Duration>,
    defaults: Vec<T>,
    staleness: Staleness,
    clock_allowance: Duration,
    last_good: Option<PathBuf>,
    random: Random,
    wall_clock: WallClock,
}

/// The default period.
const PERIOD: Duration = Duration::from_secs(1);
/// The default limit on how far a publisher's clock may be ahead.
const CLOCK_ALLOWANCE: Duration = Duration::from_secs(24 * 60 * 60);

impl<T: Rule, S: Source> PollerBuilder<T, S> {
    pub(super) fn new(source: S, shape: Shape) -> Self {
        Self {
            source,
            shape,
            period: PERIOD,
            timeout: None,
            defaults: Vec::new(),
            staleness: Staleness::KeepForEver,
            clock_allowance: CLOCK_ALLOWANCE,
            last_good: None,
            random: Random::new(),
            wall_clock: WallClock::system(),
        }
    }

    /// Sets the time from one tick to the next. Default: one second. Unless ticks are late, the tick that reads a
    /// change begins at most one period after its publication. The period and the [`Shape::length`] together determine
    /// the load on the source.
    #[must_use]
    pub fn period(mut self, period: Duration) -> Self {
        self.period = period;
        self
    }

    /// Sets the longest time of a fetch, and of reading the last-good file in the first tick. Default: the period,
    /// which is also the maximum.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the rules that are in force before the first good snapshot, and once the last good one is stale
    /// ([`Staleness::DefaultsAfter`]). Default: none.
    #[must_use]
    pub fn defaults(mut self, rules: Vec<T>) -> Self {
        self.defaults = rules;
        self
    }

    /// Sets how long the last good snapshot stays in force without a new one. Default: for ever.
    #[must_use]
    pub fn staleness(mut self, staleness: Staleness) -> Self {
        self.staleness = staleness;
        self
    }

    /// Sets how far the publication time may be ahead of the local clock. Default: one day, so that a clock that shows
    /// local time as UTC (up to 14 hours ahead) causes no refusal. `Duration::MAX` disables the check.
    ///
    /// The publication time does not order snapshots, so a time within the allowance affects only the readings. If the
    /// local clock is far behind, the poller refuses all snapshots: a longer allowance is safer than a shorter one.
    #[must_use]
    pub fn clock_allowance(mut self, allowance: Duration) -> Self {
        self.clock_allowance = allowance;
        self
    }

    /// Sets the file that keeps the last good snapshot. With the file, a poller that starts while the source is down
    /// begins with the last good rules, and a restarted poller refuses older snapshots. Default: none. Each poller
    /// needs its own file. The poller writes a temporary file, whose name is that of the file with `.partial` appended,
    /// and renames it over the file.
    ///
    /// From the first good snapshot on, the poller writes the file and syncs it to disk in every tick, changed or not.
    /// It skips the write if the previous write is still running.
    #[must_use]
    pub fn last_good(mut self, path: impl Into<PathBuf>) -> Self {
        self.last_good = Some(path.into());
        self
    }

    /// Draws the phase from this generator.
    #[must_use]
    pub fn random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// Compares publication times with this clock. Default: the system's clock.
    #[must_use]
    pub fn wall_clock(mut self, wall_clock: WallClock) -> Self {
        self.wall_clock = wall_clock;
        self
    }

    /// Builds the poller, and puts in force the value that the target builds from the defaults. Reads nothing yet. Does
    /// not catch a panic of the target.
    ///
    /// # Errors
    ///
    /// A period that is zero or longer than 366 days; a timeout that is zero or longer than the period; a staleness
    /// shorter than the period; a path without a file name; defaults that do not fit the shape, do not validate, or are
    /// refused by the target; an inert rule that does not fit or validate.
    pub fn build<B: Build<T>>(self, mut target: B) -> Result<Poller<T, S, B>, ConfigError> {
        check_duration("poller.period", self.period)?;
        let timeout = self.timeout.unwrap_or(self.period);
        if timeout.is_zero() || timeout > self.period {
            return Err(ConfigError::new("poller.timeout", timeout, "must be longer than zero and at most the period"));
        }
        if let Staleness::DefaultsAfter(limit) = self.staleness {
            if limit < self.period {
                return Err(ConfigError::new("poller.staleness", limit, "must be at least the period"));
            }
        }
        let last_good = match self.last_good {
            None => None,
            Some(path) => Some(
                LastGood::new(path.clone())
                    .ok_or_else(|| ConfigError::new("poller.last_good", path, "must end with the name of a file"))?,
            ),
        };
        let shape = self.shape;
        let mut defaults = SnapshotBuffers::empty(shape);
        snapshot::encode(Default::default(), Nanos::ZERO, &self.defaults, shape, &mut defaults.bytes)
            .map_err(|error| ConfigError::new("poller.defaults", error, "must fit the shape and validate"))?;
        snapshot::decode_slots(&defaults.bytes, shape, &mut defaults.rules)
            .map_err(|error| ConfigError::new("poller.defaults", error, "must decode after encoding, and validate"))?;
        // `encode` has checked that there are no more rules than slots.
        defaults.header.used_slots = self.defaults.len() as u32;
        target.check(&defaults.rules)?;
        let value = target.build(&defaults.rules);
        let phase = Duration::from_nanos(1 + self.random.with(|random| random.next_u64()) % Nanos::of(self.period).0);
        let state = PollerState {
            in_force: InForce::Defaults,
            good: None,
            used: defaults.header.used_slots,
            slots: shape.slots(),
            bytes: 0,
            last_tick: None,
            ticks: Ticks::default(),
            last_refusal: None,
            last_good: Default::default(),
            last_good_error: None,
        };
        Ok(Poller {
            source: self.source,
            period: self.period,
            timeout,
            phase,
            last_good,
            readings: PollerReadings::new(state, self.wall_clock.clone()),
            wall_clock: self.wall_clock,
            tick: Tick {
                shape,
                target,
                staleness: self.staleness,
                clock_allowance: self.clock_allowance,
                defaults,
                last_good: SnapshotBuffers::empty(shape),
                last_good_read_at: None,
                incoming: SnapshotBuffers::empty(shape),
                in_force: InForce::Defaults,
                current: Current::new(value),
                retired: None,
            },
        })
    }
}
