use super::RetryBudget;
use crate::shell::{Instrument, Reading, Readings};
use tokio::time::Instant;

/// Gives `retry_budget_balance`: the earned and initial retries that are left, without the floor's retry.
impl Instrument for RetryBudget {
    fn read(&self, _now: Instant, readings: &mut Readings<'_>) {
        readings.add(Reading::sum("retry_budget_balance", self.balance()));
    }

    fn address(&self) -> Option<usize> {
        Some(RetryBudget::address(self))
    }
}
