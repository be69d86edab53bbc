use super::Pace;
use std::time::Duration;
use tokio::time::Instant;

/// The server's clock, as of its last answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerClock {
    millis: u64,
    at: Instant,
}

impl ServerClock {
    pub(super) fn new(millis: u64, at: Instant) -> Self {
        Self { millis, at }
    }

    /// The time since then by the server's clock. A moment that is yet to come was now.
    pub(super) fn since(&self, millis: u64, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at);
        (Duration::from_millis(self.millis) + passed).saturating_sub(Duration::from_millis(millis))
    }
}

/// When calls may begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Starts {
    pace: Pace,
    /// The next one is due then; after a pause it is at most [`BEHIND`] in the past.
    next: Instant,
}

/// So much of a pause is made up for: timers are late by about a millisecond, and the pace should be kept all the same.
const BEHIND: Duration = Duration::from_millis(10);

impl Starts {
    pub(super) fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, next: now }
    }

    /// Begins a call, or says when one may.
    pub(super) fn begin(&mut self, now: Instant) -> Result<(), Instant> {
        let behind = now.checked_sub(BEHIND).unwrap_or(now);
        let next = self.next.max(behind);
        if next > now {
            return Err(next);
        }
        self.next = next + self.step();
        Ok(())
    }

    /// When the next call may begin.
    pub(super) fn next(&self, now: Instant) -> Instant {
        self.next.max(now)
    }

    fn step(&self) -> Duration {
        // At most 366 days.
        let nanos = self.pace.per.as_nanos().div_ceil(u128::from(self.pace.calls));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_begin_evenly_and_make_up_for_ten_milliseconds() {
        let began = Instant::now();
        let millis = Duration::from_millis;
        let mut starts = Starts::new(Pace { calls: 500, per: Duration::from_secs(1) }, began);
        assert_eq!(starts.begin(began), Ok(()));
        assert_eq!(starts.begin(began), Err(began + millis(2)));
        let later = began + millis(1000);
        // Those of 990 to 1000.
        let at_once = (0..100).take_while(|_| starts.begin(later).is_ok()).count();
        assert_eq!(at_once, 6);
        assert_eq!(starts.begin(later), Err(later + millis(2)));
    }

    #[test]
    fn a_server_clock_goes_on_between_answers() {
        let at = Instant::now();
        let clock = ServerClock::new(5000, at);
        assert_eq!(clock.since(4000, at + Duration::from_millis(500)), Duration::from_millis(1500));
        assert_eq!(clock.since(9000, at), Duration::ZERO);
    }
}
