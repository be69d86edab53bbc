//! Counts the calls of a closed circuit until they open it.

use super::{BreakerShared, CircuitState, Delivery};
use crate::{
    circuit_breaker::{rules::Rules, ticket::Evidence, ticks::Ticks},
    clock::Nanos,
    sync::Ordering,
};

impl BreakerShared {
    /// Counts a call of a closed circuit.
    #[inline]
    pub(in crate::circuit_breaker) fn record(&self, era: u32, evidence: Evidence, now: impl FnOnce() -> Nanos) {
        if matches!(evidence, Evidence::Cancelled | Evidence::Unanswered | Evidence::Nothing) {
            return;
        }
        let (rules, ticks) = self.published.rules_and_ticks();
        if evidence == Evidence::Failure || evidence == Evidence::Overloaded && rules.overload_is_failure() {
            return self.record_failure(rules, &ticks, era, now());
        }
        if rules.counts_in_a_row() {
            self.count_in_a_row(era, |_| 0);
        }
        if rules.has_rate() {
            let now = now();
            if self.failures.record(&ticks, era, false, now) {
                self.judge(rules, &ticks, 0, era, now);
            }
        }
    }

    fn record_failure(&self, rules: Rules, ticks: &Ticks, era: u32, now: Nanos) {
        let mut in_a_row = 0;
        if rules.counts_in_a_row() {
            in_a_row = self.count_in_a_row(era, |failures| failures.saturating_add(1));
        }
        if rules.has_rate() {
            self.failures.record(ticks, era, true, now);
        }
        self.judge(rules, ticks, in_a_row, era, now);
    }

    /// Opens the circuit if the failures in a row or in the window suffice.
    #[cold]
    fn judge(&self, rules: Rules, ticks: &Ticks, in_a_row: u32, era: u32, now: Nanos) {
        let opens = |rules: Rules, ticks: &Ticks| {
            let rate = rules.has_rate() && self.failures.reaches(rules.failure_rate(), ticks, era, now);
            rate || rules.open_at(in_a_row)
        };
        if opens(rules, ticks) {
            self.open_if(era, now, || {
                let (present, ticks) = self.published.rules_and_ticks();
                present == rules || opens(present, &ticks)
            });
        }
    }

    /// Opens the circuit of this era if three conditions hold: it is still closed, `present_agrees` returns `true`, and
    /// the bound on open breakers has a place. The caller may have judged the call by an earlier configuration.
    /// `present_agrees` returns whether the present configuration opens the circuit too. That configuration also sets
    /// the open time.
    pub(super) fn open_if(&self, era: u32, now: Nanos, present_agrees: impl FnOnce() -> bool) {
        self.with_machine(Delivery::Now, |machine| {
            let is_closed = machine.era == era && matches!(machine.state, CircuitState::Closed);
            if is_closed && present_agrees() && self.try_take_place(machine) {
                // Closed => Open
                let bounds = machine.bounds();
                let open_for = machine.open_time.after_closed(bounds, now);
                self.open(machine, now, open_for);
            }
        });
    }

    /// Changes the failures in a row of this era, and returns their number. If a later era has begun to count, changes
    /// nothing and returns zero.
    #[inline]
    fn count_in_a_row(&self, era: u32, change: impl Fn(u32) -> u32) -> u32 {
        let mut word = self.era_and_run.load(Ordering::Relaxed);
        loop {
            let counted = (word >> 32) as u32;
            // Eras wrap around: the later of two is ahead by less than half of their range.
            if counted != era && counted.wrapping_sub(era) < u32::MAX / 2 {
                return 0;
            }
            let failures = change(if counted == era { word as u32 } else { 0 });
            let after = u64::from(era) << 32 | u64::from(failures);
            if after == word {
                return failures;
            }
            match self.era_and_run.compare_exchange_weak(word, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return failures,
                Err(newer) => word = newer,
            }
        }
    }
}
