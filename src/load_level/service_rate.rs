//! How fast a service takes the calls that wait, for a queue that finds its depth by itself.

use crate::clock::Nanos;
use std::time::Duration;

/// The calls that the service took from the queue, per second of the time in which calls waited. Calls that did not
/// wait tell the demand, not the capacity, and do not count.
///
/// It counts the last 200 to 400 calls, or those of the last 5 to 10 s in which calls waited, if they are fewer. A time
/// in which no call waits does not count: short backlogs add up.
///
/// | from | to | when |
/// |---|---|---|
/// | unknown | known | [`FEWEST`] calls and one for each place in the service were taken, in [`SHORTEST`] |
/// | known | unknown | no call has waited for longer than [`LONGEST_IDLE`] and the [`PAUSE`] of the service |
/// | known | unknown | calls waited for such a pause until one was taken: the service stood still |
/// | known | unknown | the pace changes |
///
/// Until the end of a standstill the rate of before counts: it says what the service does once it goes on. A standstill
/// before the rate is known shows only in comparison with later calls: the longest wait between two calls does not count
/// if it is longer than the pause that follows from all others.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServiceRate {
    /// The span before, and the one that has begun.
    before: Span,
    current: Span,
    /// The longest wait between two calls while the rate is not known. The spans do not contain it.
    longest: Option<Nanos>,
    /// When a waiter was taken last. `None` before the first one.
    last: Option<Nanos>,
    /// The places in the service at that time.
    places: u32,
}

/// A number of calls that waited, and the time in which they were taken. Of a known rate neither is zero.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    served: u64,
    time: Nanos,
}

/// Fewer calls than these, and one for each place in the service, tell nothing: the calls may end in groups.
const FEWEST: u64 = 10;
/// Nor does less time.
const SHORTEST: Nanos = Nanos(50_000_000);
/// A span ends after 200 calls, and two for each place: with 200 the error of the rate is a fourteenth.
const LONG: u64 = 200;
/// Or after five seconds.
const LONGEST: Nanos = Nanos(5_000_000_000);
/// A rate of before an idle time is worth nothing: ten seconds.
const LONGEST_IDLE: Nanos = Nanos(10_000_000_000);
/// A service that takes no call for 20 times the mean time of a call stands still. In a service of one call at a time
/// and of exponential times, one call in 500 million takes that long.
const PAUSE: u128 = 20;

impl ServiceRate {
    /// A waiter is taken, of a service of `places`. Calls wait since `backlog_since`.
    pub(super) fn one_served(&mut self, backlog_since: Nanos, now: Nanos, places: u32) {
        let last = self.last.unwrap_or(now);
        let wait = now.saturating_sub(last.max(backlog_since));
        let stood_still = self.span().is_some_and(|span| wait > self.pause(span));
        if self.last.is_none() || stood_still || self.is_over(backlog_since) {
            // Known => Unknown
            *self = Self { last: Some(now), places, ..Self::default() };
            return;
        }
        (self.last, self.places) = (Some(now), places);
        if self.span().is_none() {
            self.count_shorter(wait);
        } else {
            self.current = self.current.plus(1, wait);
        }
        if self.span().is_some() {
            // Unknown | Known => Known
            self.count_longest();
        }
        let Span { served, time } = self.current;
        let places = u64::from(places);
        if served >= LONG.max(2 * places) && time >= SHORTEST || served >= FEWEST + places && time >= LONGEST {
            (self.before, self.current) = (self.current, Span::default());
        }
    }

    /// Counts the shorter one of this wait and the longest wait before, and keeps the longer one.
    fn count_shorter(&mut self, wait: Nanos) {
        match &mut self.longest {
            None => self.longest = Some(wait),
            Some(longest) => {
                self.current = self.current.plus(1, wait.min(*longest));
                *longest = wait.max(*longest);
            }
        }
    }

    /// Counts the longest wait, unless the service stood still in it.
    fn count_longest(&mut self) {
        let counted = self.counted();
        if let Some(wait) = self.longest.take().filter(|wait| *wait <= self.pause(counted)) {
            self.current = self.current.plus(1, wait);
        }
    }

    /// The calls of both spans.
    fn counted(&self) -> Span {
        self.before.plus(self.current.served, self.current.time)
    }

    /// The rate, if it is known. Calls wait since `backlog_since`, which is the present where none waits.
    pub(super) fn known(&self, backlog_since: Nanos) -> Option<Span> {
        self.span().filter(|_| !self.is_over(backlog_since))
    }

    /// What was counted, if it is enough.
    fn span(&self) -> Option<Span> {
        let counted = self.counted();
        let span = match self.longest {
            Some(wait) if wait <= self.pause(counted) => counted.plus(1, wait),
            _ => counted,
        };
        (span.served >= FEWEST + u64::from(self.places) && span.time >= SHORTEST).then_some(span)
    }

    /// Whether the queue was without a waiter for longer than the earlier counts are valid.
    fn is_over(&self, backlog_since: Nanos) -> bool {
        let idle = backlog_since.saturating_sub(self.last.unwrap_or(backlog_since));
        idle > LONGEST_IDLE && self.span().is_none_or(|span| idle > self.pause(span))
    }

    /// The time in which a service that does not stand still takes a call.
    fn pause(&self, span: Span) -> Nanos {
        // By Little's law, the mean time of a call is the places divided by the rate.
        let mean = u128::from(span.time.0) * u128::from(self.places) / u128::from(span.served.max(1));
        Nanos(u64::try_from(mean.saturating_mul(PAUSE)).unwrap_or(u64::MAX))
    }
}

impl Span {
    /// This span, and as many more calls in this time.
    fn plus(self, served: u64, time: Nanos) -> Self {
        Self { served: self.served.saturating_add(served), time: self.time.saturating_add(time) }
    }

    /// The calls that the service takes within this time.
    pub(super) fn calls_within(self, time: Nanos) -> u64 {
        let calls = u128::from(time.0) * u128::from(self.served) / u128::from(self.time.0.max(1));
        u64::try_from(calls).unwrap_or(u64::MAX)
    }

    /// The time in which the service takes this number of calls.
    pub(super) fn time_for(self, calls: u64) -> Duration {
        let nanos = u128::from(calls) * u128::from(self.time.0) / u128::from(self.served.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Calls per second.
    pub(super) fn per_second(self) -> f64 {
        self.served as f64 * 1e9 / self.time.0.max(1) as f64
    }
}
