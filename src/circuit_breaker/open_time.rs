use crate::{clock::Nanos, random::Random};
use rand::RngExt;
use std::time::Duration;

/// How long a circuit stays open: at first as configured, and longer after each failed probe.
///
/// | opens | for |
/// |---|---|
/// | the first time | `open_for` |
/// | since a probe failed | twice as long as the last time, times U(0.75, 1.25), and at most `max_open_for` |
/// | after it was closed for less than it was last open | as long as the last time |
/// | after it was closed for longer | `open_for`, as the first time |
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OpenTime {
    /// How long the circuit was last open; zero if it begins from the start.
    last: Nanos,
    /// When it was closed after that.
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
    /// Notes that the circuit was closed at `now`.
    pub(super) fn closed(&mut self, now: Nanos) {
        self.closed_at = now;
    }

    /// For how long the circuit, closed until `now`, is open from now on.
    pub(super) fn after_closed(&mut self, bounds: Bounds, now: Nanos) -> Nanos {
        if now.saturating_sub(self.closed_at) >= self.last {
            self.last = Nanos::ZERO;
        }
        self.last = bounds.clamp(self.last);
        self.last
    }

    /// For how long the circuit, half-open until now, is open from now on. Draws only where the number counts.
    pub(super) fn after_failed_probe(&mut self, bounds: Bounds, random: impl FnOnce() -> Random) -> Nanos {
        let lowest = self.last.saturating_add(Nanos(self.last.0 / 2));
        self.last = if lowest >= bounds.longest {
            bounds.longest
        } else {
            // Twice as long, times U(0.75, 1.25): from one and a half times to two and a half times.
            let drawn = random().with(|random| random.random_range(0..=self.last.0));
            bounds.clamp(lowest.saturating_add(Nanos(drawn)))
        };
        self.last
    }
}
