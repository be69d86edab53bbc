use crate::{clock::Origin, load_level::pace::Pace};
use std::time::Duration;
use tokio::time::Instant;

/// The server's clock, as of its last answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerClock {
    /// Milliseconds of the server's clock in its last answer.
    millis: u64,
    /// When that answer came, by the clock of this process.
    at: Instant,
}

impl ServerClock {
    pub(super) fn new(millis: u64, at: Instant) -> Self {
        Self { millis, at }
    }

    /// Returns the time since `millis` by the server's clock. Zero for an instant in the future.
    pub(super) fn since(&self, millis: u64, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at);
        (Duration::from_millis(self.millis) + passed).saturating_sub(Duration::from_millis(millis))
    }
}

/// The pace at which calls begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Starts {
    pace: Pace,
    origin: Origin,
    /// The instant of `origin`.
    began: Instant,
}

impl Starts {
    pub(super) fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, origin: Origin::at(now), began: now }
    }

    /// Takes the slot of a call, if one may begin. Returns whether one may.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        self.pace.take(self.origin.to(now)).is_some()
    }

    /// Returns when the next call may begin.
    pub(super) fn next(&self, now: Instant) -> Instant {
        self.began.checked_add(self.pace.due().duration()).map_or(now, |next| next.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_clock_goes_on_between_answers() {
        let at = Instant::now();
        let clock = ServerClock::new(5000, at);
        assert_eq!(clock.since(4000, at + Duration::from_millis(500)), Duration::from_millis(1500));
        assert_eq!(clock.since(9000, at), Duration::ZERO);
    }
}
