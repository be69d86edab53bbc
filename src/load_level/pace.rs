use crate::{
    clock,
    error::{ConfigError, check_duration},
};
use std::{fmt, time::Duration};

/// Calls begin no faster than this: so many in a period, one after the other.
///
/// It is the generic cell rate algorithm (ITU-T I.371) with a tolerance of five milliseconds, in fixed-point
/// nanoseconds: timers fire at whole milliseconds and late, and what was due until then may begin at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// When the next one may begin, and how far apart they are: nanoseconds with 32 binary digits of fraction.
    due: u128,
    interval: u128,
    /// As it was configured.
    calls: u64,
    period: Duration,
}

/// What of the pace a call has taken: when the next one might begin. It can be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u64);

impl Share {
    /// Of a call that came where there was no pace. Nothing is due so early once one call has begun.
    pub(super) const NONE: Self = Self(0);
}

/// What a clock or a timer is late by is caught up with, up to so many nanoseconds.
const TOLERANCE: u64 = 5_000_000;
const FRACTION: u32 = 32;

impl Pace {
    /// From the origin of the time on. `field`: how it is named in errors.
    pub(super) fn new(field: &'static str, calls: u64, period: Duration) -> Result<Self, ConfigError> {
        check_duration(field, period)?;
        if calls == 0 || calls > clock::nanos(period) {
            let rule = "must be at least 1, and at most one per nanosecond";
            return Err(ConfigError::new(field, calls, rule));
        }
        let interval = (u128::from(clock::nanos(period)) << FRACTION).div_ceil(u128::from(calls));
        Ok(Self { due: 0, interval, calls, period })
    }

    /// This pace from now on, in place of another one. Who began under that one counts for this one, so that no more
    /// begin where it is set often.
    pub(super) fn in_place_of(self, before: Option<Self>, now: u64) -> Self {
        let due = match before {
            None => u128::from(now) << FRACTION,
            Some(before) if before.due() <= now => before.due,
            Some(before) => before.due.saturating_sub(before.interval).saturating_add(self.interval),
        };
        Self { due, ..self }
    }

    /// As it was configured: so many in which period.
    pub(super) fn terms(&self) -> (u64, Duration) {
        (self.calls, self.period)
    }

    /// When the next one may begin, rounded up.
    pub(super) fn due(&self) -> u64 {
        u64::try_from(self.due.div_ceil(1 << FRACTION)).unwrap_or(u64::MAX)
    }

    /// When one may begin that has so many before it.
    pub(super) fn due_after(&self, before: usize) -> u64 {
        let due = self.due.saturating_add(self.interval.saturating_mul(before as u128));
        u64::try_from(due.div_ceil(1 << FRACTION)).unwrap_or(u64::MAX)
    }

    /// One begins now, if it may.
    pub(super) fn take(&mut self, now: u64) -> Option<Share> {
        let now_fixed = u128::from(now) << FRACTION;
        if self.due > now_fixed {
            return None;
        }
        let earliest = u128::from(now.saturating_sub(TOLERANCE)) << FRACTION;
        self.due = self.due.max(earliest).saturating_add(self.interval);
        Some(Share(self.due()))
    }

    /// One that began did not. That is of use to the others as long as none has begun since: the time before is gone,
    /// and they would begin at once what was due one after the other.
    pub(super) fn give_back(&mut self, share: Share) {
        if Share(self.due()) == share {
            self.due = self.due.saturating_sub(self.interval);
        }
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {:?}", self.calls, self.period)
    }
}
