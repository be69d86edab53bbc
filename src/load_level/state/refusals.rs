//! The reasons for a refusal, and the expected waits.

use super::{CLASSES, QueueState};
use crate::{
    clock::Nanos,
    error::{Closed, QueueFull, QueueFullCause, Rejection, WaitedTooLong},
    load_level::rates::time_for,
    waiters::WaiterId,
};
use std::time::Duration;

/// The reason for a refusal. Plain data, which the queue keeps until the task polls.
///
/// The `bound` of `Full` is the configured limit that the call did not fit into, or the depth that follows from the
/// service rate. For a displaced waiter it is the configured depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::load_level) enum QueueRefusal {
    Full { cause: QueueFullCause, bound: u64, retry_after: Option<Duration> },
    TooLong { waited: Duration, retry_after: Option<Duration> },
    Closed,
}

impl From<QueueRefusal> for Rejection {
    fn from(refusal: QueueRefusal) -> Self {
        match refusal {
            QueueRefusal::Full { cause, bound, retry_after } => QueueFull::new(cause, bound, retry_after).into(),
            QueueRefusal::TooLong { waited, retry_after } => WaitedTooLong::new(waited, retry_after).into(),
            QueueRefusal::Closed => Closed::queue().into(),
        }
    }
}

impl QueueState {
    /// Returns how long the oldest waiter has waited.
    pub(in crate::load_level) fn oldest_age(&self, now: Nanos) -> Duration {
        let since =
            (0..CLASSES).filter_map(|class| self.waiters.get(self.waiters.oldest(class)?)).map(|waiter| waiter.since);
        since.min().map_or(Nanos::ZERO, |since| now.saturating_sub(since)).duration()
    }

    pub(super) fn count(&mut self, refusal: &QueueRefusal) {
        let counter = match refusal {
            QueueRefusal::Full { cause: QueueFullCause::Displaced, .. } => &mut self.counts.displaced,
            QueueRefusal::Full { .. } => &mut self.counts.full,
            QueueRefusal::TooLong { .. } => &mut self.counts.waited_too_long,
            QueueRefusal::Closed => &mut self.counts.closed,
        };
        *counter += 1;
    }

    pub(super) fn full(&self, cause: QueueFullCause, now: Nanos) -> QueueRefusal {
        let bound = match cause {
            QueueFullCause::Weight | QueueFullCause::TooHeavy => u64::try_from(self.max_weight).unwrap_or(u64::MAX),
            _ => self.depth as u64,
        };
        let retry_after = if cause == QueueFullCause::TooHeavy { None } else { self.time_to_serve(now) };
        QueueRefusal::Full { cause, bound, retry_after }
    }

    pub(in crate::load_level) fn waited_too_long(&self, id: WaiterId, now: Nanos) -> QueueRefusal {
        let since = self.waiters.get(id).map_or(now, |waiter| waiter.since);
        self.too_long(now.saturating_sub(since), now)
    }

    pub(super) fn too_long(&self, waited: Nanos, now: Nanos) -> QueueRefusal {
        QueueRefusal::TooLong { waited: waited.duration(), retry_after: self.time_to_serve(now) }
    }

    /// Returns the time until a call that comes now may begin, if no call waits and a place in the service is free.
    pub(in crate::load_level) fn paced_wait(&self, now: Nanos) -> Duration {
        self.pace.map_or(Nanos::ZERO, |pace| pace.due().saturating_sub(now)).duration()
    }

    /// Returns the time until the turn of a call that comes now and is served after all waiters. `None` while the rate
    /// at which waiters leave is not known or is zero.
    pub(in crate::load_level) fn expected_wait(&self, now: Nanos) -> Option<Duration> {
        time_for(self.waiters_and_one(), self.rates.flow(now, self.totals)?.left)
    }

    /// Returns the time to serve all waiters and one more call, if no waiter leaves unserved. `None` while the rate is
    /// not known or is zero.
    fn time_to_serve(&self, now: Nanos) -> Option<Duration> {
        time_for(self.waiters_and_one(), self.rates.flow(now, self.totals)?.served)
    }

    pub(super) fn waiters_and_one(&self) -> u64 {
        (self.waiters.all().calls as u64).saturating_add(1)
    }
}
