//! A limit that finds itself: what is counted while calls pass, and when the algorithm runs.
//!
//! - [`algorithm`] is what finds the limit: a function of what was seen.
//! - [`published`] is the limit as calls read it.
//! - [`busy`] keeps account of the time in which calls were in flight.
//! - [`little`], [`aimd`] and [`gradient`] are the algorithms.

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
    sync::{AtomicU64, Mutex, MutexGuard, Ordering},
};
use busy::Busy;
use published::Published;
use std::{sync::TryLockError, time::Duration};
use tokio::time::Instant;

/// A window ends with this number of completions, or after the deadline.
const COMPLETIONS: u64 = 4;
/// Of this number of calls one is measured that need not be.
const SAMPLED: u64 = 16;
/// Below this limit calls that are alone count, and a window ends with one completion.
const SMALL: u64 = 4;
/// Below this limit all calls are measured: there are few.
const MEASURED: u64 = 32;

/// What is seen of calls, and the limit that was found from it.
///
/// All counts are relaxed: none guards other memory, and what a window misses the next one has.
pub(super) struct Adaptive {
    origin: Origin,
    published: Published,
    busy: Busy,
    /// When the next window may end.
    due: AtomicU64,
    completed: AtomicU64,
    given_up: AtomicU64,
    measured: AtomicU64,
    /// The latencies of the measured calls, in nanoseconds. It wraps around.
    latency: AtomicU64,
    early: AtomicU64,
    late: AtomicU64,
    /// The most calls in flight since the last window.
    most_in_flight: AtomicU64,
    /// 1 after the first window.
    has_learned: AtomicU64,
    /// The deadline of calls that state none.
    assumed: Nanos,
    learner: Mutex<Learner>,
}

/// What only the caller at the end of a window uses.
struct Learner {
    algorithm: Box<dyn Algorithm>,
    since: Totals,
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

/// How a call ended, as far as a limit learns from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was answered.
    Completed,
    /// It was given up, or its caller has gone.
    GivenUp,
    /// It did not reach the service, or was refused by it.
    Spared,
}

impl Adaptive {
    pub(super) fn new(mut algorithm: Box<dyn Algorithm>, assumed: Duration, initial: u64, now: Instant) -> Self {
        let assumed = Nanos::of(assumed);
        let published = Published::new(algorithm.first(), initial, assumed, algorithm.measures_all());
        Self {
            origin: Origin::at(now),
            published,
            busy: Busy::default(),
            due: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            measured: AtomicU64::new(0),
            latency: AtomicU64::new(0),
            early: AtomicU64::new(0),
            late: AtomicU64::new(0),
            most_in_flight: AtomicU64::new(0),
            has_learned: AtomicU64::new(0),
            assumed,
            learner: Mutex::new(Learner { algorithm, since: Totals::default(), deadline: assumed, is_new: true }),
        }
    }

    pub(super) fn time(&self, now: Instant) -> Nanos {
        self.origin.to(now)
    }

    /// The time that a call has which is to end by this deadline.
    #[inline]
    pub(super) fn remaining(&self, deadline: Option<Instant>, now: Instant) -> Nanos {
        deadline.map_or(self.assumed, |deadline| Nanos::of(deadline.saturating_duration_since(now)))
    }

    /// The limit for a call that has this much time.
    #[inline]
    pub(super) fn limit_for(&self, remaining: Nanos) -> u64 {
        self.published.limit_for(remaining)
    }

    /// The limit for a call that has as much time as most have.
    pub(super) fn usual_limit(&self) -> u64 {
        self.limit_for(self.published.deadline())
    }

    /// Whether a window has ended.
    pub(super) fn has_learned(&self) -> bool {
        self.has_learned.load(Ordering::Relaxed) != 0
    }

    pub(super) fn published(&self) -> &Published {
        &self.published
    }

    /// A call has come that has this much time. Ends the window if it is time.
    #[inline]
    pub(super) fn arrives(&self, remaining: Nanos, in_flight: u64, now: Nanos) {
        let due = self.due.load(Ordering::Relaxed);
        // No window is due later than a deadline from now, unless the clock went back.
        if now.0 >= due || due - now.0 > self.published.deadline().0 {
            self.end_window(remaining, in_flight, now);
        }
    }

    /// A call was admitted as one of `level` in flight, of the `allowed`. Returns whether it is to be measured.
    #[inline]
    pub(super) fn admitted(&self, level: u64, allowed: u64, now: Nanos) -> bool {
        let is_small = allowed < SMALL;
        self.busy.admitted(level, is_small, now);
        if self.most_in_flight.load(Ordering::Relaxed) < level {
            self.most_in_flight.fetch_max(level, Ordering::Relaxed);
        }
        allowed < MEASURED
            || self.published.measures_all()
            || self.published.is_in_slack(level, allowed)
            || self.completed.load(Ordering::Relaxed) % SAMPLED == 0 && level > 1
    }

    /// A call has ended that was in flight. `left` are in flight now.
    #[inline]
    pub(super) fn ended(&self, end: End, left: u64, now: impl FnOnce() -> Instant) {
        if self.busy.is_counted() {
            if end == End::Completed {
                self.completed.fetch_add(1, Ordering::Relaxed);
            }
            if left == 0 {
                self.busy.ends(self.origin.to(now()));
            }
        }
    }

    /// The latency of a call that was to be measured.
    pub(super) fn measure(&self, since: Nanos, had: Nanos, end: End, now: Nanos) {
        let took = now.saturating_sub(since).0;
        let is_late = u128::from(took) * 100 > u128::from(had.0) * 85;
        // A call that was given up early, or came too late, proves nothing.
        if end == End::Spared || end == End::GivenUp && !is_late || had == Nanos::ZERO {
            return;
        }
        if end == End::GivenUp {
            self.given_up.fetch_add(1, Ordering::Relaxed);
        }
        self.measured.fetch_add(1, Ordering::Relaxed);
        self.latency.fetch_add(took, Ordering::Relaxed);
        if is_late {
            self.late.fetch_add(1, Ordering::Relaxed);
        } else if u128::from(took) * 5 < u128::from(had.0) * 3 {
            self.early.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[cold]
    fn end_window(&self, remaining: Nanos, in_flight: u64, now: Nanos) {
        // The caller that has the lock ends the window for all.
        let mut learner = match self.learner.try_lock() {
            Ok(learner) => learner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        self.end_window_locked(&mut learner, remaining, in_flight, now);
    }

    fn end_window_locked(&self, learner: &mut MutexGuard<'_, Learner>, remaining: Nanos, in_flight: u64, now: Nanos) {
        // One caller with an unusual deadline does not decide for the others.
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
            // Threads that began to be busy at once, or a clock that went back: a new account.
            learner.since = totals;
            return;
        }
        let busy = totals.busy.saturating_sub(since.busy);
        let completed = totals.completed.wrapping_sub(since.completed);
        let enough = if self.usual_limit() < SMALL { 1 } else { COMPLETIONS };
        let is_over = busy >= length && completed >= enough || busy >= deadline;
        if !is_over {
            // The busy time is at most the time.
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
            // A clock that jumped says nothing of the rate.
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
        // A panic leaves the limit as it is.
        survives(|| {
            let limit = learner.algorithm.learn(&window);
            self.published.publish(limit, deadline, learner.algorithm.measures_all());
        });
        self.due.store(now.0.saturating_add(length.0.max(1)), Ordering::Relaxed);
    }

    fn totals(&self, now: Nanos) -> Totals {
        Totals {
            busy: self.busy.until(now),
            completed: self.completed.load(Ordering::Relaxed),
            given_up: self.given_up.load(Ordering::Relaxed),
            measured: self.measured.load(Ordering::Relaxed),
            latency: self.latency.load(Ordering::Relaxed),
            early: self.early.load(Ordering::Relaxed),
            late: self.late.load(Ordering::Relaxed),
        }
    }
}
