use super::{Publisher, readings::PublisherReadings};
use crate::{
    constant_work::{Build, Rule, Shape, Sink, WallClock},
    error::{ConfigError, check_duration},
};
use std::{fmt, marker::PhantomData, time::Duration};

/// Configures a [`Publisher`].
#[must_use]
pub struct PublisherBuilder<T, S> {
    pub(super) sink: S,
    pub(super) shape: Shape,
    pub(super) epoch: u64,
    pub(super) period: Duration,
    pub(super) timeout: Option<Duration>,
    pub(super) wall_clock: WallClock,
    pub(super) check: Option<Check<T>>,
    nearly_full: f64,
    rule: PhantomData<fn() -> T>,
}

/// The check of the rules of all slots together, as in a poller.
pub(super) type Check<T> = Box<dyn FnMut(&[T]) -> Result<(), ConfigError> + Send + Sync>;

impl<T: Rule, S: Sink> PublisherBuilder<T, S> {
    pub(super) fn new(sink: S, shape: Shape) -> Self {
        let (period, timeout, wall_clock) = (Duration::from_secs(10), None, WallClock::system());
        let (check, nearly_full, rule) = (None, 0.8, PhantomData);
        Self { sink, shape, epoch: 1, period, timeout, wall_clock, check, nearly_full, rule }
    }

    /// Sets the epoch of all publications. Default: 1. A snapshot of a greater epoch is the later one, with any
    /// version.
    ///
    /// Readers refuse snapshots that are older than their last good one. Raise the epoch if publications were lost: a
    /// sink lost its data, or was restored from a backup. A publisher that has just started then begins with versions
    /// below those that readers have seen. Readers refuse them, unless the epoch is greater.
    pub fn epoch(self, epoch: u64) -> Self {
        Self { epoch, ..self }
    }

    /// Sets the time from the start of one publication to the start of the next in [`run`](Publisher::run). Default: 10
    /// s, because each publication reads all rules, usually from a database.
    ///
    /// A reader reads once in each of its own periods. If the publisher's period is shorter than that, the reader
    /// misses publications in between, and its next read gets the latest.
    pub fn period(self, period: Duration) -> Self {
        Self { period, ..self }
    }

    /// Sets the time limit of each step that can hang: obtaining the rules, reading the published snapshot, writing a
    /// snapshot. Default: the period.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Sets the fill at which [`is_nearly_full`](PublisherReadings::is_nearly_full) becomes true. Default: 0.8, so that
    /// the number of rules can still grow by a quarter. Must be above 0 and at most 1.
    pub fn nearly_full(self, fill: f64) -> Self {
        Self { nearly_full: fill, ..self }
    }

    /// Takes publication times from this clock. Default: the system's clock.
    pub fn wall_clock(self, wall_clock: WallClock) -> Self {
        Self { wall_clock, ..self }
    }

    /// Runs [`Build::check`] of this target on the rules of all slots before each publication, as a poller does, with
    /// inert rules in unused slots. If it refuses the rules, the publication returns
    /// [`PublishError::Unreadable`](crate::constant_work::PublishError::Unreadable), and the previous snapshot stays
    /// published. Default: the publisher only validates each rule.
    ///
    /// Without this check, a publication can succeed although every poller refuses it. Pass a target of the kind that
    /// pollers have. If the rules are for stacks of other processes, pass an empty
    /// [`Stacks`](crate::constant_work::Stacks) with [`ignore_unknown`](crate::constant_work::Stacks::ignore_unknown).
    /// It still finds two rules for one stack.
    pub fn check(self, target: impl Build<T> + Send + Sync + 'static) -> Self {
        let mut target = target;
        Self { check: Some(Box::new(move |rules| target.check(rules))), ..self }
    }

    /// Builds the publisher. Reads and writes nothing yet.
    ///
    /// # Errors
    ///
    /// A duration that is zero or longer than 366 days, or a fill outside its range.
    pub fn build(self) -> Result<Publisher<T, S>, ConfigError> {
        check_duration("constant_work.publisher.period", self.period)?;
        if let Some(timeout) = self.timeout {
            check_duration("constant_work.publisher.timeout", timeout)?;
        }
        if !(self.nearly_full > 0.0 && self.nearly_full <= 1.0) {
            let rule = "must be above 0 and at most 1";
            return Err(ConfigError::new("constant_work.publisher.nearly_full", self.nearly_full, rule));
        }
        let readings = PublisherReadings::new(self.shape, self.nearly_full);
        Ok(Publisher::of(self, readings))
    }
}

impl<T, S> fmt::Debug for PublisherBuilder<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("PublisherBuilder");
        debug.field("shape", &self.shape).field("epoch", &self.epoch).field("period", &self.period);
        debug.finish_non_exhaustive()
    }
}
