use crate::{
    shell::{Denied, End},
    stripes::{STRIPES, Stripe, own},
    telemetry::reason::{DENIALS, REASONS, RejectionReason, denial_index},
};
use std::{
    array,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// The number of counters. In order, they count the retried calls, the attempts after the first, each of [`DENIALS`],
/// and each of [`REASONS`].
const NUMBERS: usize = 2 + DENIALS.len() + REASONS.len();
const FIRST_DENIAL: usize = 2;
const FIRST_REASON: usize = FIRST_DENIAL + DENIALS.len();

/// Counts the retries and rejections of all stacks of one name. The counts never fall.
///
/// The orderings are relaxed: the numbers guard no other memory.
pub(super) struct EventCounts {
    pub(super) stack: &'static str,
    stripes: [Stripe<[AtomicU64; NUMBERS]>; STRIPES],
}

impl EventCounts {
    pub(super) fn of(stack: &'static str) -> Self {
        Self { stack, stripes: array::from_fn(|_| Stripe(array::from_fn(|_| AtomicU64::new(0)))) }
    }

    #[inline]
    pub(super) fn count(&self, end: &End<'_>) {
        let retries = end.retries();
        if retries.attempts() > 1 {
            self.add(0, 1);
            self.add(1, u64::from(retries.attempts() - 1));
        }
        if let Some(denied) = retries.denied() {
            self.add(FIRST_DENIAL + denial_index(denied), 1);
        }
        if let Some(rejection) = end.rejection() {
            self.add(FIRST_REASON + RejectionReason::of(rejection).index(), 1);
        }
    }

    fn add(&self, index: usize, number: u64) {
        own(&self.stripes)[index].fetch_add(number, Relaxed);
    }

    pub(super) fn total(&self) -> CountsSnapshot {
        let of = |index: usize| self.stripes.iter().map(move |stripe| stripe.0[index].load(Relaxed));
        CountsSnapshot(array::from_fn(|index| of(index).fold(0, u64::wrapping_add)))
    }
}

/// All counts at one time, or their differences between two times.
#[derive(Clone, Copy, Debug)]
pub(super) struct CountsSnapshot([u64; NUMBERS]);

impl Default for CountsSnapshot {
    fn default() -> Self {
        Self([0; NUMBERS])
    }
}

impl CountsSnapshot {
    pub(super) fn since(&self, before: &Self) -> Self {
        Self(array::from_fn(|index| self.0[index].wrapping_sub(before.0[index])))
    }

    /// Returns the retries, if any call was retried or a retry was denied.
    pub(super) fn retries(&self) -> Option<RetryCounts> {
        let denied = array::from_fn(|index| self.0[FIRST_DENIAL + index]);
        let counts = RetryCounts { calls: self.0[0], attempts: self.0[1], denied };
        (counts.calls > 0 || counts.attempts > 0 || denied.iter().any(|count| *count > 0)).then_some(counts)
    }

    /// Returns the rejections, if any call was rejected.
    pub(super) fn refusals(&self) -> Option<Refusals> {
        let refusals = Refusals(array::from_fn(|index| self.0[FIRST_REASON + index]));
        (refusals.total() > 0).then_some(refusals)
    }
}

/// The retries of the stacks of one name in one interval. A call counts when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryCounts {
    calls: u64,
    attempts: u64,
    denied: [u64; DENIALS.len()],
}

impl RetryCounts {
    /// Returns the number of calls that made more than one attempt.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// Returns the number of attempts after the first, of all calls.
    pub fn attempts(&self) -> u64 {
        self.attempts
    }

    /// Returns the number of calls with a retryable failure that got no further attempt for this reason.
    pub fn denied(&self, reason: Denied) -> u64 {
        self.denied[denial_index(reason)]
    }

    /// Returns the number of calls with a retryable failure that got no further attempt.
    pub fn all_denied(&self) -> u64 {
        self.denied.iter().sum()
    }
}

/// The rejected calls of the stacks of one name in one interval, by mechanism and reason. A call counts when it ends,
/// by the [`Rejection`](crate::Rejection) that the caller gets. Timeouts count, too.
///
/// | mechanism | reasons |
/// |---|---|
/// | `timeout` | `limit`, `deadline` |
/// | `circuit_breaker` | `open` |
/// | `load_shed` | `limit`, `class`, `tenant`, `signal` |
/// | `rate_limit` | `rate`; `never`: the call costs too much, or its key is too long; `closed` |
/// | `load_level` | `depth`, `deadline`, `weight`, `too_heavy`, `displaced`, `on_the_way`, `waited_too_long`, `closed` |
/// | `kill_switch` | `switched_off` |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals([u64; REASONS.len()]);

impl Refusals {
    /// Iterates over mechanism, reason and number of calls, without zeros.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let all = REASONS.iter().zip(&self.0).map(|((mechanism, reason), count)| (*mechanism, *reason, *count));
        all.filter(|(.., count)| *count > 0)
    }

    /// Returns the number of calls that this mechanism rejected. `mechanism` is a name that
    /// [`Rejection::mechanism`](crate::Rejection::mechanism) returns.
    pub fn of(&self, mechanism: &str) -> u64 {
        self.iter().filter(|(each, ..)| *each == mechanism).map(|(.., count)| count).sum()
    }

    /// Returns the number of all rejected calls.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
