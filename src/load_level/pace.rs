use crate::{
    clock::Nanos,
    error::{ConfigError, check_duration},
};
use std::{fmt, time::Duration};

/// The rate at which calls begin, one after the other.
///
/// It is the generic cell rate algorithm (GCRA, ITU-T I.371) with a tolerance of five milliseconds, in fixed-point
/// nanoseconds. Timers fire at whole milliseconds and late, so the calls that became due in the last five milliseconds
/// may begin together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// When the next call may begin, in nanoseconds with 32 fractional bits.
    due: u128,
    /// The time between two calls, in the same unit.
    interval: u128,
    /// The configured number of calls in one `period`.
    calls: u64,
    /// The configured period.
    period: Duration,
}

/// The slot that a call took from the pace, and can give back. Stored as the instant at which the call after it may
/// begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceSlot(Nanos);

impl PaceSlot {
    /// The slot of a call that took none. [`Pace::give_back`] ignores it: once a call has taken a slot, the next call
    /// is due later than zero. Before that the next call is due at zero, and stays so.
    pub(super) const NONE: Self = Self(Nanos::ZERO);
}

/// The longest delay of a clock or a timer that later calls make up for: 5 ms.
const TOLERANCE: Nanos = Nanos(5_000_000);
/// The fractional bits of an instant in fixed point.
const FRACTION: u32 = 32;

impl Pace {
    /// Returns a pace whose first call is due at time zero. `field` is its name in errors.
    pub(super) fn new(field: &'static str, calls: u64, period: Duration) -> Result<Self, ConfigError> {
        check_duration(field, period)?;
        let Nanos(nanos) = Nanos::of(period);
        if calls == 0 || calls > nanos {
            let rule = "must be at least 1, and at most one per nanosecond";
            return Err(ConfigError::new(field, calls, rule));
        }
        let interval = (u128::from(nanos) << FRACTION).div_ceil(u128::from(calls));
        Ok(Self { due: 0, interval, calls, period })
    }

    /// Returns this pace as it applies from now on, in place of another one. The last call under the other pace counts
    /// for this one, so that setting a pace again and again admits no additional calls.
    pub(super) fn in_place_of(self, before: Option<Self>, now: Nanos) -> Self {
        let due = match before {
            None => fixed(now),
            Some(before) if before.due() <= now => before.due,
            Some(before) => before.due.saturating_sub(before.interval).saturating_add(self.interval),
        };
        Self { due, ..self }
    }

    /// Returns the configured calls, and the period in which they begin.
    pub(super) fn terms(&self) -> (u64, Duration) {
        (self.calls, self.period)
    }

    /// Returns when the next call may begin, rounded up.
    pub(super) fn due(&self) -> Nanos {
        rounded_up(self.due)
    }

    /// Returns when the call behind `before` others may begin.
    pub(super) fn due_after(&self, before: usize) -> Nanos {
        rounded_up(self.due.saturating_add(self.interval.saturating_mul(before as u128)))
    }

    /// Takes the slot of a call that begins now. `None` if no call may begin yet.
    pub(super) fn take(&mut self, now: Nanos) -> Option<PaceSlot> {
        if self.due > fixed(now) {
            return None;
        }
        let earliest = fixed(now.saturating_sub(TOLERANCE));
        self.due = self.due.max(earliest).saturating_add(self.interval);
        Some(PaceSlot(self.due()))
    }

    /// Gives back the slot of a call that did not begin. The slot is lost if another call has taken the next one since.
    /// Giving it back then would let two calls begin together that were due one after the other.
    pub(super) fn give_back(&mut self, slot: PaceSlot) {
        if PaceSlot(self.due()) == slot {
            self.due = self.due.saturating_sub(self.interval);
        }
    }
}

fn fixed(nanos: Nanos) -> u128 {
    u128::from(nanos.0) << FRACTION
}

fn rounded_up(fixed: u128) -> Nanos {
    Nanos(u64::try_from(fixed.div_ceil(1 << FRACTION)).unwrap_or(u64::MAX))
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {:?}", self.calls, self.period)
    }
}
