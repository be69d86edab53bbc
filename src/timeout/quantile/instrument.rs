use super::Quantile;
use crate::shell::{Instrument, Reading, Readings};
use tokio::time::Instant;

/// Gives `timeout_seconds`, the limit, and `timeout_rate`, the share of the calls in the window that timed out.
impl Instrument for Quantile {
    fn read(&self, _now: Instant, readings: &mut Readings<'_>) {
        readings.add(Reading::largest("timeout_seconds", self.current().as_secs_f64()));
        readings.add(Reading::largest("timeout_rate", self.achieved_rate()));
    }

    fn address(&self) -> Option<usize> {
        Some(Quantile::address(self))
    }
}
