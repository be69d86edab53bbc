use super::Quantile;
use crate::shell::{Instrument, Reading, Readings};
use tokio::time::Instant;

/// Exports `timeout_seconds`, the limit, and `timeout_rate`, the achieved rate.
impl Instrument for Quantile {
    fn read(&self, _now: Instant, readings: &mut Readings<'_>) {
        readings.add(Reading::largest("timeout_seconds", self.current().as_secs_f64()));
        readings.add(Reading::largest("timeout_rate", self.achieved_rate()));
    }

    fn address(&self) -> Option<usize> {
        Some(Quantile::address(self))
    }
}
