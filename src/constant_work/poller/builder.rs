use super::{
    Poller,
    build::Build,
    current::Current,
    last_good::LastGood,
    readings::{InForce, PollerReadings, PollerState, Ticks},
    tick::{Held, Staleness, Tick},
};
use crate::{
    clock::Nanos,
    constant_work::{rule::Rule, shape::Shape, snapshot, source::Source, wall_clock::WallClock},
    error::{ConfigError, check_duration},
    random::Random,
};
use std::{path::PathBuf, time::Duration};

/// Makes a [`Poller`].
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

/// How often a source is asked, where nothing else is said.
const PERIOD: Duration = Duration::from_secs(1);
/// By how much a publisher's clock may be ahead, where nothing else is said.
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

    /// The time from one tick to the next: one second by default. It is also the time that a change takes, at most, to
    /// be in force after its publication, and with the [`Shape::length`] it is the whole of the load on the source.
    #[must_use]
    pub fn period(mut self, period: Duration) -> Self {
        self.period = period;
        self
    }

    /// How long a fetch may take, and the reading of the file in the first tick: at most the period, which is the
    /// default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The rules in force before the first good snapshot, and after [`Staleness::DefaultsAfter`]: none by default.
    #[must_use]
    pub fn defaults(mut self, rules: Vec<T>) -> Self {
        self.defaults = rules;
        self
    }

    /// The rules in force once the last good snapshot is old. Default: it stays in force.
    #[must_use]
    pub fn staleness(mut self, staleness: Staleness) -> Self {
        self.staleness = staleness;
        self
    }

    /// By how much the time of a publication may be ahead of the clock here: one day by default, so that a clock which
    /// shows local time as if it were UTC (up to 14 hours) refuses nothing. `Duration::MAX` refuses nothing ever.
    ///
    /// The time does not order snapshots, so one from the future does no harm but to the readings. A clock here that is
    /// far behind would refuse all snapshots: a longer allowance is safer than a shorter one.
    #[must_use]
    pub fn clock_allowance(mut self, allowance: Duration) -> Self {
        self.clock_allowance = allowance;
        self
    }

    /// The file in which the last good snapshot is kept, for a start while the source is down, and against replays
    /// after a restart: none by default. Each poller needs one of its own; `.partial` is appended to the name while it
    /// is written.
    ///
    /// It is written in every tick in which there is a good snapshot, changed or not, and synced to the disk.
    #[must_use]
    pub fn last_good(mut self, path: impl Into<PathBuf>) -> Self {
        self.last_good = Some(path.into());
        self
    }

    /// Where the phase is drawn from.
    #[must_use]
    pub fn random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// The clock that publications are dated by.
    #[must_use]
    pub fn wall_clock(mut self, wall_clock: WallClock) -> Self {
        self.wall_clock = wall_clock;
        self
    }

    /// Makes the poller, and puts the value in force that the target builds from the defaults. Nothing is read yet. A
    /// panic of the target here is not caught.
    ///
    /// # Errors
    ///
    /// A period that is zero or longer than 366 days; a timeout that is zero or longer than the period; a staleness
    /// shorter than the period; a path without a file's name; defaults that do not fit the shape, do not validate or
    /// that the target refuses; an inert rule that does not.
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
        let mut defaults = Held::empty(shape);
        snapshot::encode(Default::default(), Nanos::ZERO, &self.defaults, shape, &mut defaults.bytes)
            .map_err(|error| ConfigError::new("poller.defaults", error, "must fit the shape and validate"))?;
        snapshot::decode_slots(&defaults.bytes, shape, &mut defaults.rules)
            .map_err(|error| ConfigError::new("poller.defaults", error, "must decode to what was encoded"))?;
        // The encoding has seen that there are no more rules than slots.
        defaults.header.used = self.defaults.len() as u32;
        target.check(&defaults.rules)?;
        let value = target.build(&defaults.rules);
        let phase = Duration::from_nanos(1 + self.random.with(|random| random.next_u64()) % Nanos::of(self.period).0);
        let state = PollerState {
            in_force: InForce::Defaults,
            good: None,
            used: defaults.header.used,
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
                good: Held::empty(shape),
                good_read: None,
                incoming: Held::empty(shape),
                in_force: InForce::Defaults,
                current: Current::new(value),
                retired: None,
            },
        })
    }
}
