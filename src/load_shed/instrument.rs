use super::Limiter;
use crate::shell::{Instrument, Reading, Readings};
use tokio::time::Instant;

/// `in_flight`, `in_flight_limit` and `shadow_rejections_total` of the mechanism `load_shed`.
impl Instrument for Limiter {
    fn read(&self, _now: Instant, readings: &mut Readings<'_>) {
        let all = [
            Reading::sum("in_flight", self.in_flight() as f64),
            Reading::sum("in_flight_limit", self.limit() as f64),
            Reading::count("shadow_rejections_total", self.would_have_refused()),
        ];
        all.into_iter().for_each(|reading| readings.add(reading.label("mechanism", "load_shed")));
    }

    fn address(&self) -> Option<usize> {
        Some(Limiter::address(self))
    }
}
