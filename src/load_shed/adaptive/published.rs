//! The limit that was found last, as calls read it.

use super::algorithm::Limit;
use crate::{
    clock::Nanos,
    sync::{AtomicU64, Ordering},
};

/// Why a limit is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::load_shed) enum Reason {
    Unknown,
    Calls,
    Rate,
}

/// Words that are read one by one: a call may see the rate of one window with the share of another.
pub(in crate::load_shed) struct Published {
    /// The calls that end in the usable time: calls in 2^48 ns, times the share. Zero where the limit is a number.
    rate: AtomicU64,
    /// The limit as a number; unused where there is a rate.
    calls: AtomicU64,
    /// 1 where nothing is known.
    is_unknown: AtomicU64,
    /// The limit while nothing is known.
    initial: u64,
    /// The deadline of most calls, in nanoseconds.
    deadline: AtomicU64,
    measures_all: AtomicU64,
}

/// A rate counts calls in 2^48 ns, so that it is exact to a millionth from one call in three seconds on.
const SHIFT: u32 = 48;
const PER_SECOND: f64 = (1_u64 << SHIFT) as f64 / 1e9;
/// A limit by rate is at least this share of it without its slack. Calls above it are measured.
const SLACK: u64 = 8;

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
                // A number that is not one becomes zero.
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

    /// The limit for a call that has this much time.
    #[inline]
    pub(super) fn limit_for(&self, remaining: Nanos) -> u64 {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return self.calls.load(Ordering::Relaxed);
        }
        u64::try_from((u128::from(rate) * u128::from(remaining.0)) >> SHIFT).unwrap_or(u64::MAX)
    }

    /// Whether a call among `level` is close to the limit.
    #[inline]
    pub(super) fn is_in_slack(&self, level: u64, allowed: u64) -> bool {
        level.saturating_add(level / SLACK) >= allowed
    }

    #[inline]
    pub(super) fn measures_all(&self) -> bool {
        self.measures_all.load(Ordering::Relaxed) != 0
    }

    pub(in crate::load_shed) fn deadline(&self) -> Nanos {
        Nanos(self.deadline.load(Ordering::Relaxed))
    }

    /// The deadline of most calls, a quarter of the way to this one.
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
