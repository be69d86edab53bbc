//! The current limit, as calls read it.

use super::algorithm::Limit;
use crate::{
    clock::Nanos,
    sync::{AtomicU64, Ordering},
};

/// The form of the current limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::load_shed) enum Reason {
    /// It is the initial limit.
    Unknown,
    /// It is a number of calls.
    Calls,
    /// It is a rate, from which the limit of each call follows by its remaining time.
    Rate,
}

/// The current limit, in words that are read one by one: a call may read the rate of one window and the deadline of
/// another. Relaxed, because the numbers of one window are close to those of the window before it.
pub(in crate::load_shed) struct Published {
    /// The completions in 2^48 ns, times the share. Zero if the limit is a number of calls.
    rate: AtomicU64,
    /// The limit as a number of calls; unused if there is a rate.
    calls: AtomicU64,
    /// 1 while the limit is the initial limit.
    is_unknown: AtomicU64,
    /// The limit until the algorithm has learned.
    initial: u64,
    /// The usual remaining time of calls at admission, in nanoseconds.
    deadline: AtomicU64,
    /// 1 while the algorithm measures every call.
    measures_all: AtomicU64,
}

/// The rate, times the share, is in calls per 2^48 ns, about 78 hours. It is rounded down to a whole number. From four
/// calls per second on, the number is exact to a millionth.
const SHIFT: u32 = 48;
/// One call per second, in calls per 2^48 ns.
const PER_SECOND: f64 = (1_u64 << SHIFT) as f64 / 1e9;
/// Calls from about `NEAR / (NEAR + 1)` of the limit on are near it, and are measured.
const NEAR: u64 = 8;

impl Published {
    pub(super) fn new(limit: Limit, initial: u64, deadline: Nanos, measures_all: bool) -> Self {
        let published = Self {
            rate: AtomicU64::new(0),
            calls: AtomicU64::new(initial),
            is_unknown: AtomicU64::new(1),
            initial,
            deadline: AtomicU64::new(deadline.0),
            measures_all: AtomicU64::new(0),
        };
        published.publish(limit, deadline, measures_all);
        published
    }

    pub(super) fn publish(&self, limit: Limit, deadline: Nanos, measures_all: bool) {
        let (rate, calls) = match limit {
            Limit::Rate { per_second, share } => {
                // NaN becomes 1.0 by `max`; the cast saturates.
                let rate = (per_second * share * PER_SECOND).max(1.0);
                (rate as u64, 0)
            }
            Limit::Calls(calls) => (0, calls as u64),
            Limit::Unknown => (0, self.initial),
        };
        self.is_unknown.store((limit == Limit::Unknown).into(), Ordering::Relaxed);
        self.calls.store(calls, Ordering::Relaxed);
        self.rate.store(rate, Ordering::Relaxed);
        self.deadline.store(deadline.0, Ordering::Relaxed);
        self.measures_all.store(measures_all.into(), Ordering::Relaxed);
    }

    /// Returns the limit for a call with this remaining time.
    #[inline]
    pub(super) fn limit_for(&self, remaining: Nanos) -> u64 {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return self.calls.load(Ordering::Relaxed);
        }
        u64::try_from((u128::from(rate) * u128::from(remaining.0)) >> SHIFT).unwrap_or(u64::MAX)
    }

    /// Returns whether a call is near the limit, if `level` calls are in flight with it.
    #[inline]
    pub(super) fn is_near(&self, level: u64, allowed: u64) -> bool {
        level.saturating_add(level / NEAR) >= allowed
    }

    #[inline]
    pub(super) fn measures_all(&self) -> bool {
        self.measures_all.load(Ordering::Relaxed) != 0
    }

    pub(in crate::load_shed) fn deadline(&self) -> Nanos {
        Nanos(self.deadline.load(Ordering::Relaxed))
    }

    /// Returns the usual remaining time, moved a quarter of the way to this one.
    pub(super) fn smooth(&self, remaining: Nanos) -> Nanos {
        let deadline = self.deadline.load(Ordering::Relaxed);
        Nanos(deadline - deadline / 4 + remaining.0 / 4)
    }

    pub(in crate::load_shed) fn reason(&self) -> Reason {
        match (self.is_unknown.load(Ordering::Relaxed), self.rate.load(Ordering::Relaxed)) {
            (1, _) => Reason::Unknown,
            (_, 0) => Reason::Calls,
            _ => Reason::Rate,
        }
    }
}
