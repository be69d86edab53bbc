//! What callers are told: why they are refused, and how long they would wait.

use super::State;
use crate::{
    Rejection,
    error::{Closed, QueueFull, QueueFullCause, WaitedTooLong},
    load_level::{
        rates::time_for,
        waiters::{CLASSES, Place},
    },
};
use std::time::Duration;

/// Why a call is refused, as the queue keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::load_level) enum Refusal {
    Full { cause: QueueFullCause, bound: u64, retry_after: Option<Duration> },
    TooLong { waited: Duration, retry_after: Option<Duration> },
    Closed,
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full { cause, bound, retry_after } => QueueFull::new(cause, bound, retry_after).into(),
            Refusal::TooLong { waited, retry_after } => WaitedTooLong::new(waited, retry_after).into(),
            Refusal::Closed => Closed::queue().into(),
        }
    }
}

impl State {
    /// For how long the one has waited that has waited for longest.
    pub(in crate::load_level) fn oldest_age(&self, now: u64) -> u64 {
        let since =
            (0..CLASSES).filter_map(|class| self.waiters.get(self.waiters.oldest(class)?)).map(|waiter| waiter.since);
        since.min().map_or(0, |since| now.saturating_sub(since))
    }

    pub(super) fn count(&mut self, refusal: &Refusal) {
        let counter = match refusal {
            Refusal::Full { cause: QueueFullCause::Displaced, .. } => &mut self.counts.displaced,
            Refusal::Full { .. } => &mut self.counts.full,
            Refusal::TooLong { .. } => &mut self.counts.waited_too_long,
            Refusal::Closed => &mut self.counts.closed,
        };
        *counter += 1;
    }

    pub(super) fn full(&self, cause: QueueFullCause, now: u64) -> Refusal {
        let bound = match cause {
            QueueFullCause::Weight | QueueFullCause::TooHeavy => u64::try_from(self.max_weight).unwrap_or(u64::MAX),
            _ => self.depth as u64,
        };
        let retry_after = if cause == QueueFullCause::TooHeavy { None } else { self.time_to_serve(now) };
        Refusal::Full { cause, bound, retry_after }
    }

    pub(super) fn too_long_of(&self, place: Place, now: u64) -> Refusal {
        let since = self.waiters.get(place).map_or(now, |waiter| waiter.since);
        self.too_long(now.saturating_sub(since), now)
    }

    pub(super) fn too_long(&self, waited: u64, now: u64) -> Refusal {
        Refusal::TooLong { waited: Duration::from_nanos(waited), retry_after: self.time_to_serve(now) }
    }

    /// The time until the turn of one that comes now, where nobody waits and there is room but for the pace.
    pub(in crate::load_level) fn paced_wait(&self, now: u64) -> Duration {
        Duration::from_nanos(self.pace.map_or(0, |pace| pace.due().saturating_sub(now)))
    }

    /// The time until the turn of one that comes after all who wait now.
    pub(in crate::load_level) fn expected_wait(&self, now: u64) -> Option<Duration> {
        time_for(self.and_one_more(), self.rates.flow(now, self.totals)?.left)
    }

    /// The time in which all who wait now and one more are served, if nobody leaves unserved.
    fn time_to_serve(&self, now: u64) -> Option<Duration> {
        time_for(self.and_one_more(), self.rates.flow(now, self.totals)?.served)
    }

    fn and_one_more(&self) -> u64 {
        (self.waiters.waiting() as u64).saturating_add(1)
    }
}
