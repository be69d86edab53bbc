use crate::{clock::Nanos, random::Random};
use rand::RngExt;
use std::time::Duration;

/// The open time of a circuit: as configured at first, and longer after each failed probe.
///
/// | the circuit opens | for |
/// |---|---|
/// | the first time, or the first time after a change by hand or by `forced` in a configuration | `open_for` |
/// | after a failed probe | twice its last open time, times U(0.75, 1.25), at most `max_open_for` |
/// | after it was closed for less than its last open time | its last open time |
/// | after it was closed for at least its last open time | `open_for` |
///
/// After a change of the configuration, each next open time is moved into the new [`Bounds`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OpenTime {
    /// The last open time; zero to start with `open_for`.
    last: Nanos,
    /// When the circuit last changed from half-open to closed; zero if it did not since the last call of
    /// `BreakerShared::force`.
    closed_at: Nanos,
}

/// The bounds of the open time: `shortest <= longest`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    shortest: Nanos,
    longest: Nanos,
}

impl Bounds {
    pub(super) fn new(open_for: Duration, max_open_for: Duration) -> Self {
        let shortest = Nanos::of(open_for);
        Self { shortest, longest: Nanos::of(max_open_for).max(shortest) }
    }

    fn clamp(self, time: Nanos) -> Nanos {
        time.clamp(self.shortest, self.longest)
    }
}

impl OpenTime {
    /// Records that the circuit changed from half-open to closed at `now`.
    pub(super) fn closed(&mut self, now: Nanos) {
        self.closed_at = now;
    }

    /// Returns the open time of a circuit that was closed until `now`.
    pub(super) fn after_closed(&mut self, bounds: Bounds, now: Nanos) -> Nanos {
        if now.saturating_sub(self.closed_at) >= self.last {
            self.last = Nanos::ZERO;
        }
        self.last = bounds.clamp(self.last);
        self.last
    }

    /// Returns the open time of a circuit that was half-open. Draws no random number if the result is the longest open
    /// time in any case.
    pub(super) fn after_failed_probe(&mut self, bounds: Bounds, random: impl FnOnce() -> Random) -> Nanos {
        let lowest = self.last.saturating_add(Nanos(self.last.0 / 2));
        self.last = if lowest >= bounds.longest {
            bounds.longest
        } else {
            // Twice the last time, times U(0.75, 1.25): between 1.5 and 2.5 times.
            let drawn = random().with(|random| random.random_range(0..=self.last.0));
            bounds.clamp(lowest.saturating_add(Nanos(drawn)))
        };
        self.last
    }
}
