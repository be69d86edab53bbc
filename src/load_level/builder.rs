use super::{Discipline, Queue, pace::Pace, places::MOST_CONCURRENCY, state::QueueState};
use crate::error::{ConfigError, check_duration};
use std::time::Duration;

/// The default bound of the waiters in an adaptive queue.
const ADAPTIVE_DEPTH: usize = 10_000;

/// Configures a [`Queue`].
#[derive(Clone, Debug)]
#[must_use]
pub struct QueueBuilder {
    concurrency: usize,
    depth: usize,
    is_adaptive: bool,
    max_weight: Option<u64>,
    max_wait: Duration,
    discipline: Discipline,
    by_criticality: bool,
    pace: Option<(u64, Duration)>,
}

impl QueueBuilder {
    pub(super) fn new(concurrency: usize, depth: usize) -> Self {
        Self {
            concurrency,
            depth,
            is_adaptive: false,
            max_weight: None,
            max_wait: Duration::from_secs(1),
            discipline: Discipline::default(),
            by_criticality: false,
            pace: None,
        }
    }

    /// For [`Queue::adaptive`].
    pub(super) fn adaptive(concurrency: usize) -> Self {
        Self { is_adaptive: true, ..Self::new(concurrency, ADAPTIVE_DEPTH) }
    }

    /// Sets the most calls that may wait. An [adaptive](Queue::adaptive) queue has a default of 10,000 waiters: one
    /// second of work for a service of 10,000 calls per second, in about a megabyte. A deeper queue helps only a faster
    /// service, or calls that may wait longer.
    pub fn depth(self, depth: usize) -> Self {
        Self { depth, ..self }
    }

    /// Sets the largest total weight of all waiters, in the unit in which calls are weighed. A single call that weighs
    /// more is refused unless the service has room for it at once. Default: no bound.
    pub fn max_weight(self, max_weight: u64) -> Self {
        Self { max_weight: Some(max_weight), ..self }
    }

    /// Sets the longest time that any call waits, with or without a deadline. Default: 1 s, for callers that wait for
    /// two seconds or more.
    ///
    /// If calls carry no deadline, set it to half of the time after which their callers give up. A call that is served
    /// later is often served in vain.
    pub fn max_wait(self, max_wait: Duration) -> Self {
        Self { max_wait, ..self }
    }

    /// Sets which waiter is served next, and which has waited too long. Default: [by
    /// deadline](Discipline::by_deadline), with a share of one half.
    pub fn discipline(self, discipline: Discipline) -> Self {
        Self { discipline, ..self }
    }

    /// Serves calls of a higher [`Criticality`](crate::Criticality) first. If the queue is full, they take the places
    /// of calls of lower classes. Within a class the discipline decides. While the higher classes alone exceed the
    /// capacity of the service, the lower classes are not served. Default: all calls belong to one class.
    pub fn by_criticality(self) -> Self {
        Self { by_criticality: true, ..self }
    }

    /// Throttles the starts: at most `calls` begin per `period`, evenly spread, one after the other. Timers are coarser
    /// than some paces, so calls that became due in the last five milliseconds may begin together. In every interval of
    /// length t at most `1 + (t + 5 ms) * calls / period` calls begin. Default: calls begin as soon as the service has
    /// room.
    ///
    /// A call begins when its turn comes. If its task then runs late, the task also calls the service late. With a pace
    /// each call takes the lock.
    pub fn pace(self, calls: u64, period: Duration) -> Self {
        Self { pace: Some((calls, period)), ..self }
    }

    /// Builds the queue, without calls.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] names the setting that is out of range:
    ///
    /// - The concurrency must be from 1 to 2^31 - 1.
    /// - The depth and the largest weight must be at least 1.
    /// - The longest wait must be longer than zero, and at most 366 days.
    /// - The pace must be from 1 call per period to one per nanosecond. Its period must be longer than zero, and at
    ///   most 366 days.
    /// - A share of the deadline must be from a millionth to one.
    /// - A target must be longer than zero and shorter than its interval, which must be at most 366 days.
    pub fn build(self) -> Result<Queue, ConfigError> {
        let limit = check_concurrency(self.concurrency)?;
        check_depth(self.depth)?;
        self.max_weight.map_or(Ok(()), check_max_weight)?;
        let max_weight = self.max_weight.map_or(u128::MAX, u128::from);
        check_max_wait(self.max_wait)?;
        self.discipline.check()?;
        let pace = self.pace.map(|(calls, period)| Pace::new("load_level.pace", calls, period)).transpose()?;
        let mut state =
            QueueState::new(self.depth, max_weight, self.max_wait, self.discipline, self.by_criticality, pace);
        if self.is_adaptive {
            state.adapt_depth();
        }
        Ok(Queue::of(limit, state))
    }
}

pub(super) fn check_concurrency(concurrency: usize) -> Result<u32, ConfigError> {
    match u32::try_from(concurrency) {
        Ok(limit @ 1..) if concurrency <= MOST_CONCURRENCY => Ok(limit),
        _ => Err(ConfigError::new("load_level.concurrency", concurrency, "must be at least 1, and at most 2^31 - 1")),
    }
}

pub(super) fn check_depth(depth: usize) -> Result<(), ConfigError> {
    at_least_one("load_level.depth", depth as u64)
}

pub(super) fn check_max_weight(max_weight: u64) -> Result<(), ConfigError> {
    at_least_one("load_level.max_weight", max_weight)
}

fn at_least_one(field: &'static str, value: u64) -> Result<(), ConfigError> {
    if value == 0 {
        return Err(ConfigError::new(field, value, "must be at least 1"));
    }
    Ok(())
}

pub(super) fn check_max_wait(max_wait: Duration) -> Result<(), ConfigError> {
    check_duration("load_level.max_wait", max_wait)
}
