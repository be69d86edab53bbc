//! An adaptive limit: counts calls while they pass, and runs the algorithm at the end of each window.
//!
//! - [`algorithm`]: the interface of an algorithm that adapts the limit to the observed calls.
//! - [`published`]: the current limit, as calls read it.
//! - [`busy`]: the time in which calls were in flight.
//! - [`little`], [`aimd`], [`gradient`]: the algorithms.

mod aimd;
mod algorithm;
mod busy;
mod gradient;
mod little;
mod published;

pub use aimd::Aimd;
pub use algorithm::{Algorithm, Limit, Window};
pub use gradient::Gradient;
pub use little::Little;
pub(super) use published::Reason;

use crate::{
    clock::{Nanos, Origin},
    panics::survives,
    stripes::{STRIPES, Stripe, own},
    sync::{AtomicU64, Mutex, MutexGuard, Ordering},
};
use busy::Busy;
use published::Published;
use std::{array, sync::TryLockError, time::Duration};
use tokio::time::Instant;

/// A window with fewer completions goes on after its length: until it has this number, or until its busy time reaches
/// the deadline.
const COMPLETIONS: u64 = 4;
/// Of the calls that need not be measured, about one in this number is measured nevertheless. A call that finds no
/// other call in flight is never measured for this reason.
const SAMPLED: u64 = 16;
/// Below this limit calls that are alone in flight count, and a window needs one completion.
const SMALL: u64 = 4;
/// Below this limit all calls are measured, since they are few.
const MEASURED: u64 = 32;

/// The counts of the observed calls, and the limit that follows from them.
///
/// All counts are relaxed: they guard no other memory, and a count that one window misses is in the next.
pub(super) struct Adaptive {
    origin: Origin,
    published: Published,
    /// The time from which a call tries to end the present window.
    due: AtomicU64,
    /// The most calls in flight since the end of the last window.
    most_in_flight: AtomicU64,
    /// 1 after the first window has ended.
    has_learned: AtomicU64,
    /// The remaining time of calls without a deadline.
    assumed: Nanos,
    learner: Mutex<Learner>,
    /// Not on the cache lines of the words above, which all calls read and few write.
    busy: Stripe<Busy>,
    measured: Stripe<Measured>,
    /// The completed calls. Striped, so that few threads contend for one cache line.
    completed: [Stripe<AtomicU64>; STRIPES],
}

/// The counts of the measured calls. [`Window`] defines `early` and `late`.
#[derive(Default)]
struct Measured {
    given_up: AtomicU64,
    measured: AtomicU64,
    /// The sum of the latencies, in nanoseconds. It wraps around.
    latency: AtomicU64,
    early: AtomicU64,
    late: AtomicU64,
}

/// The state that only the caller that ends a window uses.
struct Learner {
    algorithm: Box<dyn Algorithm>,
    /// The counts at the end of the last window.
    since: Totals,
    /// The usual remaining time of calls at admission, as of the last window.
    deadline: Nanos,
    /// No window has ended.
    is_new: bool,
}

/// The counts at one instant.
#[derive(Clone, Copy, Default)]
struct Totals {
    busy: Nanos,
    completed: u64,
    given_up: u64,
    measured: u64,
    latency: u64,
    early: u64,
    late: u64,
}

/// How a call ended, to an adaptive limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was answered, or the service panicked.
    Completed,
    /// It had reached the service. Then a timeout ended it, or its caller dropped it.
    GivenUp,
    /// It did not reach the service, or the service refused it.
    Spared,
}

impl Adaptive {
    pub(super) fn new(mut algorithm: Box<dyn Algorithm>, assumed: Duration, initial: u64, now: Instant) -> Self {
        let assumed = Nanos::of(assumed);
        let published = Published::new(algorithm.first(), initial, assumed, algorithm.measures_all());
        Self {
            origin: Origin::at(now),
            published,
            due: AtomicU64::new(0),
            most_in_flight: AtomicU64::new(0),
            has_learned: AtomicU64::new(0),
            assumed,
            learner: Mutex::new(Learner { algorithm, since: Totals::default(), deadline: assumed, is_new: true }),
            busy: Stripe::default(),
            measured: Stripe::default(),
            completed: array::from_fn(|_| Stripe::default()),
        }
    }

    pub(super) fn time(&self, now: Instant) -> Nanos {
        self.origin.to(now)
    }

    /// Returns the remaining time of a call with this deadline. A call without a deadline has the assumed time.
    #[inline]
    pub(super) fn remaining(&self, deadline: Option<Instant>, now: Instant) -> Nanos {
        deadline.map_or(self.assumed, |deadline| Nanos::of(deadline.saturating_duration_since(now)))
    }

    /// Returns the limit for a call with this remaining time.
    #[inline]
    pub(super) fn limit_for(&self, remaining: Nanos) -> u64 {
        self.published.limit_for(remaining)
    }

    /// Returns the limit for a call with the usual remaining time.
    pub(super) fn usual_limit(&self) -> u64 {
        self.limit_for(self.published.deadline())
    }

    /// Returns whether a window has ended.
    pub(super) fn has_learned(&self) -> bool {
        self.has_learned.load(Ordering::Relaxed) != 0
    }

    pub(super) fn published(&self) -> &Published {
        &self.published
    }

    /// Ends the window if it is due. Runs for each arriving call, with its remaining time.
    #[inline]
    pub(super) fn arrives(&self, remaining: Nanos, in_flight: u64, now: Nanos) {
        let due = self.due.load(Ordering::Relaxed);
        // A window is due within a deadline from now. If it is not, the clock went back, or the deadline has become
        // shorter: look now.
        if now.0 >= due || due - now.0 > self.published.deadline().0 {
            self.end_window(remaining, in_flight, now);
        }
    }

    /// Records that a call was admitted. `level` calls are in flight, including this one, and the limit is `allowed`.
    /// Returns whether to measure the latency of the call.
    #[inline]
    pub(super) fn admitted(&self, level: u64, allowed: u64, now: Nanos) -> bool {
        let is_small = allowed < SMALL;
        self.busy.0.admitted(level, is_small, now);
        if self.most_in_flight.load(Ordering::Relaxed) < level {
            self.most_in_flight.fetch_max(level, Ordering::Relaxed);
        }
        allowed < MEASURED
            || self.published.measures_all()
            || self.published.is_near(level, allowed)
            || level > 1 && own(&self.completed).load(Ordering::Relaxed) % SAMPLED == 0
    }

    /// Records the end of a call, after which `left` calls are in flight.
    #[inline]
    pub(super) fn ended(&self, end: End, left: u64, now: impl FnOnce() -> Instant) {
        if self.busy.0.is_counted() {
            if end == End::Completed {
                own(&self.completed).fetch_add(1, Ordering::Relaxed);
            }
            if left == 0 {
                self.busy.0.ends(self.origin.to(now()));
            }
        }
    }

    /// Records the latency of a measured call.
    pub(super) fn measure(&self, since: Nanos, had: Nanos, end: End, now: Nanos) {
        let took = now.saturating_sub(since).0;
        let is_late = u128::from(took) * 100 > u128::from(had.0) * 85;
        // No evidence: a call that was spared, one that was given up before 85% of its time, and one that arrived after
        // its deadline.
        if end == End::Spared || end == End::GivenUp && !is_late || had == Nanos::ZERO {
            return;
        }
        let Stripe(counts) = &self.measured;
        if end == End::GivenUp {
            counts.given_up.fetch_add(1, Ordering::Relaxed);
        }
        counts.measured.fetch_add(1, Ordering::Relaxed);
        counts.latency.fetch_add(took, Ordering::Relaxed);
        if is_late {
            counts.late.fetch_add(1, Ordering::Relaxed);
        } else if u128::from(took) * 5 < u128::from(had.0) * 3 {
            counts.early.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[cold]
    fn end_window(&self, remaining: Nanos, in_flight: u64, now: Nanos) {
        // The caller that gets the lock ends the window. The others go on.
        let mut learner = match self.learner.try_lock() {
            Ok(learner) => learner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        self.end_window_locked(&mut learner, remaining, in_flight, now);
    }

    fn end_window_locked(&self, learner: &mut MutexGuard<'_, Learner>, remaining: Nanos, in_flight: u64, now: Nanos) {
        // Bounds the influence of one caller with an unusual deadline.
        let usual = learner.deadline.0;
        let (least, most) =
            if learner.is_new { (usual / 16, usual.saturating_mul(16)) } else { (usual / 4, usual.saturating_mul(4)) };
        let remaining = Nanos(remaining.0.clamp(least.max(1), most.max(1)));
        let deadline = if learner.is_new { remaining } else { self.published.smooth(remaining) };
        let mut length = deadline;
        survives(|| length = Nanos::of(learner.algorithm.window(deadline.duration())).min(deadline));
        let totals = self.totals(now);
        let since = learner.since;
        if totals.busy < since.busy {
            // Threads began busy time at the same time, or the clock went back: start a new window.
            learner.since = totals;
            return;
        }
        let busy = totals.busy.saturating_sub(since.busy);
        let completed = totals.completed.wrapping_sub(since.completed);
        let enough = if self.usual_limit() < SMALL { 1 } else { COMPLETIONS };
        let is_over = busy >= length && completed >= enough || busy >= deadline;
        if !is_over {
            // Busy time passes no faster than the clock, so the window cannot end before the missing part of its length
            // has passed. At least an eighth of the length passes before a call looks again, even if only completions
            // are missing.
            let wait = length.saturating_sub(busy).0.max(length.0 / 8).max(1);
            self.due.store(now.0.saturating_add(wait), Ordering::Relaxed);
            return;
        }
        learner.is_new = false;
        self.has_learned.store(1, Ordering::Relaxed);
        learner.deadline = deadline;
        learner.since = totals;
        let measured = totals.measured.wrapping_sub(since.measured);
        let latency = totals.latency.wrapping_sub(since.latency);
        let window = Window {
            // Bounds the effect of a clock that jumped.
            busy: busy.duration().min(deadline.duration().saturating_mul(2)),
            completed,
            given_up: totals.given_up.wrapping_sub(since.given_up),
            measured,
            mean_latency: Duration::from_nanos(latency.checked_div(measured).unwrap_or_default()),
            early: totals.early.wrapping_sub(since.early),
            late: totals.late.wrapping_sub(since.late),
            in_flight: usize::try_from(in_flight).unwrap_or(usize::MAX),
            most_in_flight: usize::try_from(self.most_in_flight.swap(in_flight, Ordering::Relaxed))
                .unwrap_or(usize::MAX),
            deadline: deadline.duration(),
        };
        // If the algorithm panics, the limit stays.
        survives(|| {
            let limit = learner.algorithm.learn(&window);
            self.published.publish(limit, deadline, learner.algorithm.measures_all());
        });
        self.due.store(now.0.saturating_add(length.0.max(1)), Ordering::Relaxed);
    }

    fn totals(&self, now: Nanos) -> Totals {
        let Stripe(counts) = &self.measured;
        let completed = self.completed.iter().map(|stripe| stripe.0.load(Ordering::Relaxed));
        Totals {
            busy: self.busy.0.until(now),
            completed: completed.fold(0, u64::wrapping_add),
            given_up: counts.given_up.load(Ordering::Relaxed),
            measured: counts.measured.load(Ordering::Relaxed),
            latency: counts.latency.load(Ordering::Relaxed),
            early: counts.early.load(Ordering::Relaxed),
            late: counts.late.load(Ordering::Relaxed),
        }
    }
}
