//! The depth of an adaptive queue, and the order by urgency.

use super::{CLASSES, NEVER, Newcomer, QueueRefusal, QueueState};
use crate::{
    clock::Nanos,
    error::QueueFullCause,
    load_level::{deadlines::Deadlines, service_rate::Span},
};

impl QueueState {
    /// Returns the service rate of an adaptive queue, if it is known.
    pub(in crate::load_level) fn service_rate(&self, now: Nanos) -> Option<Span> {
        let backlog_since = if self.waiters.all().calls == 0 { now } else { self.nonempty_since };
        self.service_rate?.known(backlog_since)
    }

    pub(in crate::load_level) fn is_adaptive(&self) -> bool {
        self.service_rate.is_some()
    }

    /// Returns the depth that applies now to a call without a deadline. While the newest are served first, a newcomer
    /// of the highest class waits behind no other call. The service rate then sets no bound for that newcomer, and the
    /// configured depth applies.
    pub(in crate::load_level) fn depth_in_force(&self, now: Nanos) -> usize {
        match self.service_rate(now) {
            Some(rate) if !self.newest_first(now) => self.depth_at(rate, self.patience(NEVER, now)),
            _ => self.depth,
        }
    }

    /// Returns the number of calls that the service takes in `patience`, and one more, so that an empty queue always
    /// lets one call wait. At most the configured depth.
    fn depth_at(&self, rate: Span, patience: Nanos) -> usize {
        let calls = rate.calls_within(patience).saturating_add(1);
        usize::try_from(calls).map_or(self.depth, |calls| calls.min(self.depth))
    }

    /// Refuses a newcomer that the service would take only after its time to wait has ended. Late waiters are refused
    /// first.
    // New => Refused
    pub(super) fn check_in_time(
        &mut self,
        newcomer: Newcomer,
        gives_up_at: Nanos,
        now: Nanos,
    ) -> Result<(), QueueRefusal> {
        let Some(rate) = self.service_rate(now) else { return Ok(()) };
        let depth = self.depth_at(rate, gives_up_at.saturating_sub(now));
        // If `depth` is the configured one, `make_room` decides. It may let the newcomer take the place of a waiter
        // that is worth less.
        while depth < self.depth && self.before(newcomer.class, gives_up_at, now).calls >= depth {
            let Some(late) = self.late(now) else {
                let retry_after = Some(rate.time_for(self.waiters_and_one()));
                return Err(QueueRefusal::Full { cause: QueueFullCause::Deadline, bound: depth as u64, retry_after });
            };
            // Waiting => Refused
            self.refuse(late, self.waited_too_long(late, now), now);
        }
        Ok(())
    }

    /// Returns all waiters in the order of [`Deadlines`]: by class, and within a class by the end of their time to
    /// wait.
    pub(super) fn in_order(&self) -> Deadlines {
        let mut deadlines = Deadlines::new();
        for class in 0..CLASSES {
            for (place, waiter) in self.waiters.in_order(class) {
                let weight = self.waiters.weight(place);
                deadlines.join(place, class, weight, waiter.gives_up_at);
            }
        }
        deadlines
    }

    /// Describes the depth in words, and the rate from which it follows.
    pub(super) fn describe_depth(&self) -> String {
        match self.service_rate(self.latest) {
            Some(_) if self.newest_first(self.latest) => {
                ", no more than are served in time: only the configured depth applies while the newest are served first"
                    .to_owned()
            }
            Some(rate) => {
                let (depth, per_second) = (self.depth_in_force(self.latest), rate.per_second());
                format!(", no more than are served in time: {depth} at {per_second:.1} per second")
            }
            None => ", no more than are served in time: the rate is not known yet".to_owned(),
        }
    }
}
