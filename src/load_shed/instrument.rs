use super::{LimitReason, Limiter};
use crate::shell::{Instrument, Reading, Readings};
use tokio::time::Instant;

/// Reads `in_flight`, `in_flight_limit` and `shadow_rejections_total` of the mechanism `load_shed`. A limit that is not
/// a plain fixed limit also has `shed_total` by class and reason, `shed_exempt_total`, and `in_flight_limit_reason`.
impl Instrument for Limiter {
    fn read(&self, _now: Instant, readings: &mut Readings<'_>) {
        let all = [
            Reading::sum("in_flight", self.in_flight() as f64),
            Reading::sum("in_flight_limit", self.limit() as f64),
            Reading::count("shadow_rejections_total", self.would_have_refused()),
        ];
        all.into_iter().for_each(|reading| readings.add(reading.label("mechanism", "load_shed")));
        let Some(refusals) = self.refusals() else { return };
        for (class, cause, count) in refusals.all() {
            let reading = Reading::count("shed_total", count).label("class", class.name());
            readings.add(reading.label("reason", cause.name()));
        }
        readings.add(Reading::count("shed_exempt_total", self.exempted()));
        let now = self.readings().reason;
        for reason in LimitReason::ALL {
            let is_now = if reason == now { 1.0 } else { 0.0 };
            readings.add(Reading::sum("in_flight_limit_reason", is_now).label("reason", reason.name()));
        }
    }

    fn address(&self) -> Option<usize> {
        Some(Limiter::address(self))
    }
}
