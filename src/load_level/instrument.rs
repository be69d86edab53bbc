use super::{DrainTime, Queue};
use crate::shell::{Instrument, Reading, Readings};
use tokio::time::Instant;

/// Reads `in_flight` and `in_flight_limit`, with the label `mechanism="load_level"`. Also reads `queue_waiting`,
/// `queue_oldest_seconds`, `queue_drain_seconds` and `queue_wait_seconds`. `queue_drain_seconds` is infinity for a
/// queue that does not drain, and 0 while the drain time is not known. `queue_wait_seconds` are the waits of the calls
/// that waited, served or not.
impl Instrument for Queue {
    fn read(&self, now: Instant, readings: &mut Readings<'_>) {
        let now = self.readings_at(now);
        let (in_flight, limit) = (now.in_service as f64, now.concurrency as f64);
        readings.add(Reading::sum("in_flight", in_flight).label("mechanism", "load_level"));
        readings.add(Reading::sum("in_flight_limit", limit).label("mechanism", "load_level"));
        readings.add(Reading::sum("queue_waiting", now.waiting as f64));
        readings.add(Reading::largest("queue_oldest_seconds", now.oldest_age.as_secs_f64()));
        let drains_in = match now.drain_time {
            DrainTime::In(time) => time.as_secs_f64(),
            DrainTime::Never => f64::INFINITY,
            DrainTime::Unknown => 0.0,
        };
        readings.add(Reading::largest("queue_drain_seconds", drains_in));
        readings.add(Reading::durations("queue_wait_seconds", self.waits()));
    }

    fn address(&self) -> Option<usize> {
        Some(Queue::address(self))
    }
}
