//! A naive model of the service rate: a list of all waiters that the service took.

use super::model::{MILLI, Nanos};

/// The waiters that the service took since the measurement began or began again. Each entry has the time since the
/// service took the waiter before it, and the concurrency. Time without a waiter does not count.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    waits: Vec<(Nanos, u64)>,
    /// When the service took a waiter last, and the concurrency at that time.
    last: Option<Nanos>,
    places: u64,
}

impl Rate {
    /// Counts a waiter that the service takes. Calls have been waiting without a break since `backlog_since`.
    pub fn note(&mut self, backlog_since: Nanos, now: Nanos, places: u64) {
        let Some(last) = self.last else {
            *self = Self { waits: Vec::new(), last: Some(now), places };
            return;
        };
        let wait = now.saturating_sub(last.max(backlog_since));
        let stood_still = self.counted().is_some_and(|counted| u128::from(wait) > pause(counted, self.places));
        if stood_still || self.is_over(backlog_since) {
            *self = Self { waits: Vec::new(), last: Some(now), places };
            return;
        }
        self.waits.push((wait, places));
        (self.last, self.places) = (Some(now), places);
    }

    /// Returns the sum of the calls and of the time of two spans: the last complete one and the current one. `None` if
    /// they are too few for a rate. A span is complete after 200 calls in at least 50 ms, or after five seconds with
    /// enough calls for a rate.
    fn counted(&self) -> Option<(u64, Nanos)> {
        let (mut before, mut current) = ((0, 0), (0, 0));
        // The longest wait so far. It is in no span until the rate is known.
        let mut longest = None;
        for (wait, places) in &self.waits {
            if Self::enough(before, current, longest, *places).is_some() {
                current = (current.0 + 1, current.1 + wait);
            } else if let Some(held) = longest {
                current = (current.0 + 1, current.1 + wait.min(&held));
                longest = Some(held.max(*wait));
            } else {
                longest = Some(*wait);
            }
            if let Some((served, time)) = Self::enough(before, current, longest, *places) {
                (current, longest) = ((served - before.0, time - before.1), None);
            }
            if current.0 >= 200 && current.1 >= 50 * MILLI || current.0 >= 10 + places && current.1 >= 5000 * MILLI {
                (before, current) = (current, (0, 0));
            }
        }
        Self::enough(before, current, longest, self.places)
    }

    /// Returns the counts if there are enough for a rate. They include the longest wait, unless it is longer
    /// than the pause.
    fn enough(
        before: (u64, Nanos),
        current: (u64, Nanos),
        longest: Option<Nanos>,
        places: u64,
    ) -> Option<(u64, Nanos)> {
        let (mut served, mut time) = (before.0 + current.0, before.1 + current.1);
        if let Some(wait) = longest.filter(|wait| u128::from(*wait) <= pause((served, time), places)) {
            (served, time) = (served + 1, time + wait);
        }
        (served >= 10 + places && time >= 50 * MILLI).then_some((served, time))
    }

    /// Returns whether the time without a waiter was longer than ten seconds, and longer than the pause if the rate is
    /// known.
    fn is_over(&self, backlog_since: Nanos) -> bool {
        let idle = backlog_since.saturating_sub(self.last.unwrap_or(backlog_since));
        idle > 10_000 * MILLI && self.counted().is_none_or(|counted| u128::from(idle) > pause(counted, self.places))
    }

    pub fn known(&self, backlog_since: Nanos) -> Option<(u64, Nanos)> {
        self.counted().filter(|_| !self.is_over(backlog_since))
    }
}

/// Returns the pause: 20 times the mean time of a call. A service that takes no waiter for longer stands still.
fn pause((served, time): (u64, Nanos), places: u64) -> u128 {
    u128::from(time) * u128::from(places) / u128::from(served.max(1)) * 20
}
