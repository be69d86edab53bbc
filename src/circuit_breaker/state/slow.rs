//! Counts slow calls. A closed circuit opens when their rate reaches its limit, a half-open circuit at the first one.

use super::BreakerShared;
use crate::{
    circuit_breaker::{
        BreakerState,
        rules::Rules,
        ticket::{Evidence, NEVER, Ticket, has_passed},
        ticks::Ticks,
        window::Counts,
    },
    clock::Nanos,
};
use tokio::time::Instant;

impl BreakerShared {
    /// Returns the calls in the window and the slow ones among them. Both are zero if no rate of slow calls is
    /// configured.
    pub(in crate::circuit_breaker) fn slow_counts(&self, now: Nanos) -> Counts {
        let (_, ticks, share) = self.published.slow_rules();
        match self.slow.get() {
            Some(window) if share > 0 => window.counts(&ticks, self.word().era(), now),
            _ => Counts::default(),
        }
    }

    /// Counts the end of a timed call of a closed circuit.
    #[cold]
    pub(in crate::circuit_breaker) fn settle_timed(&self, ticket: &Ticket, evidence: Evidence, now: Nanos) {
        let evidence = ticket.resolve(evidence, now);
        let slow = ticket.is_slow(now);
        // It is unknown whether a call that was abandoned before the threshold would have been slow. Such a call is not
        // recorded here, unless it was overdue: then `resolve` has made it a failure. A call that ended before the
        // threshold as `Evidence::Nothing` is not recorded here either.
        if slow || ticket.can_be_slow() && evidence.is_answer() {
            self.record_slowness(ticket.era(), slow, now);
        }
        self.record(ticket.era(), evidence, || now);
    }

    /// Does the work of `Breaker::under_way` for a timed call.
    #[cold]
    pub(in crate::circuit_breaker) fn timed_under_way(
        &self,
        ticket: &mut Ticket,
        reached: bool,
        now: impl FnOnce() -> Instant,
    ) -> Option<Instant> {
        let word = self.word();
        if word.era() != ticket.era() {
            ticket.forget_times();
            return None;
        }
        if !reached {
            ticket.waits();
            return None;
        }
        if ticket.has_begun() && !ticket.can_be_slow() {
            // The call cannot be counted as slow, or was already counted. Only its end checks whether it is overdue.
            return None;
        }
        let now = self.since_origin(now());
        ticket.begins(now);
        let slow_at = ticket.slow_at();
        if !has_passed(slow_at, now) {
            return if slow_at == NEVER { None } else { self.origin.instant(slow_at) };
        }
        ticket.was_counted_as_slow();
        match word.state() {
            BreakerState::Closed => self.record_slowness(ticket.era(), true, now),
            BreakerState::HalfOpen => self.fail_probe(ticket.era(), now),
            _ => {}
        }
        None
    }

    /// Counts a call of a closed circuit as slow or fast.
    pub(in crate::circuit_breaker) fn record_slowness(&self, era: u32, slow: bool, now: Nanos) {
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
