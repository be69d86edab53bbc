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

/// Checks the rules of all slots together, as a poller does.
pub(super) type Check<T> = Box<dyn FnMut(&[T]) -> Result<(), ConfigError> + Send + Sync>;

impl<T: Rule, S: Sink> PublisherBuilder<T, S> {
    pub(super) fn new(sink: S, shape: Shape) -> Self {
        let (period, timeout, wall_clock) = (Duration::from_secs(10), None, WallClock::system());
        let (check, nearly_full, rule) = (None, 0.8, PhantomData);
        Self { sink, shape, epoch: 1, period, timeout, wall_clock, check, nearly_full, rule }
    }

    /// The epoch of all publications, which comes before their versions. Default: 1.
    ///
    /// Readers take nothing that is older than what they have. Where publications were lost (a sink restored from a
    /// backup, or lost with all it had), versions begin again below those that readers have seen, and readers refuse
    /// them: then, and only then, publish with a higher epoch.
    pub fn epoch(self, epoch: u64) -> Self {
        Self { epoch, ..self }
    }

    /// The time from the begin of one publication to that of the next in [`run`](Publisher::run). Default: 10 s,
    /// since all rules are read in each, which usually asks a database for them.
    ///
    /// No shorter than that of the readers is of use.
    pub fn period(self, period: Duration) -> Self {
        Self { period, ..self }
    }

    /// The time for each of the steps that can hang: the rules to come, what is published to be read, a snapshot to be
    /// written. Default: the period.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// The fill from which on [`is_nearly_full`](PublisherReadings::is_nearly_full). Default: 0.8, so that
    /// there is a quarter more to go. Above 0, and at most 1.
    pub fn nearly_full(self, fill: f64) -> Self {
        Self { nearly_full: fill, ..self }
    }

    /// Dates publications by this clock. Default: the system's.
    pub fn wall_clock(self, wall_clock: WallClock) -> Self {
        Self { wall_clock, ..self }
    }

    /// Checks the rules of all slots together before each publication, as [`Build::check`] of this target does in a
    /// poller: with inert rules where slots are not used. A publication that it refuses ends in
    /// [`PublishError::Unreadable`](crate::constant_work::PublishError::Unreadable), and what was published before
    /// stays. Default: each rule is validated, and no more.
    ///
    /// Without it, a publication succeeds that every poller refuses. Give the target that pollers have, or one that is
    /// built alike. For stacks that are not in this process, [`Stacks`](crate::constant_work::Stacks) with
    /// [`ignore_unknown`](crate::constant_work::Stacks::ignore_unknown) still finds two rules for one stack.
    pub fn check(self, target: impl Build<T> + Send + Sync + 'static) -> Self {
        let mut target = target;
        Self { check: Some(Box::new(move |rules| target.check(rules))), ..self }
    }

    /// Makes the publisher. Nothing is read or written yet.
    ///
    /// # Errors
    ///
    /// A duration that is zero or longer than 366 days, and a fill out of its range.
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
