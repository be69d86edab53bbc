//! Begins calls when the concurrency, the pace, the age of the message and the last rejection of the service allow it.
//! The call of a suspect begins only after Redis has recorded that it begins: see [`alone`](super::alone).

use super::{
    super::{call::Caller, clock::Starts, requests::Outcome},
    Phase, Run,
    calls::Job,
    waiting::Ready,
};
use crate::load_level::{durable::message::Delivery, pace::Pace};
use std::time::Duration;
use tokio::time::Instant;

/// The pause after a rejection that pauses the worker, if the rejection has no `retry_after`.
const HOLD: Duration = Duration::from_millis(100);
/// The longest pause after a rejection with a `retry_after`.
const LONGEST_HOLD: Duration = Duration::from_secs(1);

pub(super) struct Starting {
    pace: Option<Starts>,
    /// The end of the latest pause after a rejection.
    hold_until: Instant,
}

/// Whether the call of a message may begin.
pub(super) enum Admitted {
    Yes(Ready),
    /// The message was dropped for its age.
    TooOld,
    NotYet(Ready),
}

impl Starting {
    pub(super) fn new(pace: Option<Pace>, now: Instant) -> Self {
        Self { pace: pace.map(|pace| Starts::new(pace, now)), hold_until: now }
    }

    /// Pauses the start of calls after a rejection which shows that the service takes no calls now.
    pub(super) fn hold(&mut self, retry_after: Option<Duration>, now: Instant) {
        let hold = retry_after.unwrap_or(HOLD).min(LONGEST_HOLD);
        self.hold_until = self.hold_until.max(now + hold);
    }

    /// Returns when both the pace and the pause allow the next call. `None`: there is no pace, and no pause now. Then
    /// only the next message or the end of a call lets a call begin.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let held = (now < self.hold_until).then_some(self.hold_until);
        let paced = self.pace.as_ref().map(|pace| pace.next(now));
        held.into_iter().chain(paced).max()
    }
}

impl<C> Run<C> {
    /// Begins the calls that may begin.
    pub(super) fn begin_calls(&mut self, now: Instant)
    where
        C: Caller,
    {
        let mut jobs = Vec::new();
        // Redis has recorded that this suspect's call begins, so it begins even during a pause. The age and the pace
        // were checked before Redis was asked.
        if let Some(ready) = self.alone.take_marked(now) {
            jobs.push(self.job(ready, now));
        }
        if self.phase == Phase::Working && now >= self.starting.hold_until {
            self.begin_alone(now);
            while self.may_begin_beside(jobs.len()) {
                let Some(ready) = self.waiting.ordinary.pop_front() else { break };
                match self.admit(ready, now) {
                    Admitted::Yes(ready) => jobs.push(self.job(ready, now)),
                    Admitted::TooOld => {}
                    Admitted::NotYet(ready) => {
                        self.waiting.ordinary.push_front(ready);
                        break;
                    }
                }
            }
        }
        self.calls.begin(jobs, &self.caller);
    }

    /// Decides whether the call of a message may begin now, by the age of the message and by the pace. Drops a message
    /// that is too old. Takes a slot of the pace for a call that may begin.
    pub(super) fn admit(&mut self, ready: Ready, now: Instant) -> Admitted {
        let age = self.tending.age_of(&ready.ticket, now);
        if self.settings.max_age.is_some_and(|longest| age > longest) {
            self.report.dropped_for_age += 1;
            self.settling.add([Outcome::dropped(ready.ticket)]);
            return Admitted::TooOld;
        }
        if self.starting.pace.as_mut().is_some_and(|pace| !pace.begin(now)) {
            return Admitted::NotYet(ready);
        }
        Admitted::Yes(ready)
    }

    fn job(&self, Ready { ticket, payload }: Ready, now: Instant) -> Job {
        let age = self.tending.age_of(&ticket, now);
        let memory = ticket.memory;
        let attempt = memory.failed.saturating_add(1);
        let delivery = Delivery { id: memory.id.to_string(), payload, attempt, may_have_begun: memory.is_suspect, age };
        Job { ticket, delivery }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_call_waits_for_the_pace_and_for_the_pause() {
        let now = Instant::now();
        let pace = Pace::new("pace", 1, Duration::from_secs(1)).unwrap();
        let mut starting = Starting::new(Some(pace), now);
        assert_eq!(starting.due(now), Some(now));
        starting.hold(None, now);
        assert_eq!(starting.due(now), Some(now + HOLD), "before the end of the pause, the loop has nothing to do");
        assert!(starting.pace.as_mut().unwrap().begin(now));
        assert_eq!(
            starting.due(now),
            Some(now + Duration::from_secs(1)),
            "the pace is later than the end of the pause"
        );
        assert_eq!(starting.due(now + HOLD), Some(now + Duration::from_secs(1)));
        let mut unpaced = Starting::new(None, now);
        assert_eq!(unpaced.due(now), None);
        unpaced.hold(Some(Duration::from_secs(9)), now);
        assert_eq!(unpaced.due(now), Some(now + LONGEST_HOLD));
    }
}
