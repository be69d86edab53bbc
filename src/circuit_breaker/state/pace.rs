//! The time that calls take, where slow calls count.

use super::{Shared, State};
use crate::{
    circuit_breaker::{
        BreakerState,
        rules::Rules,
        ticket::{Evidence, Moment, Ticket},
        ticks::Ticks,
        window::Counts,
    },
    sync::lock,
};
use tokio::time::Instant;

impl Shared {
    /// The calls in the window and the slow ones among them, where a rate of slow calls is configured.
    pub(in crate::circuit_breaker) fn slow_counts(&self, now: Instant) -> Counts {
        let (_, ticks, share) = self.published.slow_rules();
        match self.slow.get() {
            Some(window) if share > 0 => window.counts(&ticks, self.look().era(), now),
            _ => Counts::default(),
        }
    }

    /// Counts a call of a closed circuit whose time says something.
    #[cold]
    pub(in crate::circuit_breaker) fn settle_timed(&self, ticket: &Ticket, evidence: Evidence, now: Instant) {
        let moment = self.moment(now);
        let evidence = ticket.resolve(evidence, moment);
        let slow = ticket.is_slow(moment);
        // A call that was given up earlier might have been slow or not.
        if slow || ticket.can_be_slow() && evidence.is_answer() {
            self.record_pace(ticket.era(), slow, now);
        }
        self.record(ticket.era(), evidence, || now);
    }

    /// As [`Breaker::under_way`](super::Breaker), for a call whose time says something.
    #[cold]
    pub(in crate::circuit_breaker) fn timed_under_way(
        &self,
        ticket: &mut Ticket,
        reached: bool,
        now: impl FnOnce() -> Instant,
    ) -> Option<Instant> {
        let word = self.look();
        if word.era() != ticket.era() {
            ticket.forget_times();
            return None;
        }
        if !reached {
            ticket.waits();
            return None;
        }
        if ticket.has_begun() && !ticket.can_be_slow() {
            // What is left is when it is overdue, and only its end asks that.
            return None;
        }
        let now = now();
        let moment = self.moment(now);
        ticket.begins(moment);
        let slow_at = ticket.slow_at();
        if !slow_at.has_come(moment) {
            return if slow_at == Moment::NEVER { None } else { self.origin.instant(slow_at.0) };
        }
        ticket.was_counted_as_slow();
        match word.state() {
            BreakerState::Closed => self.record_pace(ticket.era(), true, now),
            BreakerState::HalfOpen => self.fail_probe(ticket.era(), now),
            _ => {}
        }
        None
    }

    /// A probe is slow, and still under way.
    fn fail_probe(&self, era: u32, now: Instant) {
        let mut machine = lock(&self.machine);
        if machine.era == era && matches!(machine.state, State::HalfOpen { .. }) {
            // HalfOpen => Open
            self.reopen(&mut machine, now);
        }
    }

    /// Counts the time that a call of a closed circuit took, or has taken.
    pub(in crate::circuit_breaker) fn record_pace(&self, era: u32, slow: bool, now: Instant) {
        let Some(window) = self.slow.get() else { return };
        let (rules, ticks, share) = self.published.slow_rules();
        if share == 0 || !window.record(&ticks, era, slow, now) {
            return;
        }
        let opens = |rules: Rules, ticks: &Ticks, share| window.reaches(rules.rate(share), ticks, era, now);
        if opens(rules, &ticks, share) {
            self.open_if(era, now, || {
                let (present, ticks, share) = self.published.slow_rules();
                present == rules || opens(present, &ticks, share)
            });
        }
    }
}
