//! The rate at which a service takes waiting calls, for a queue that finds its depth by itself.

use crate::clock::Nanos;
use std::time::Duration;

/// The calls that the service took from the queue, per second of the time in which calls waited. Calls that did not
/// wait measure the demand, not the capacity, and do not count.
///
/// The rate counts the last one to two spans. A span has 200 calls, or more if the service is large or fast (see
/// [`LONG`]). A span with fewer calls ends once calls have waited for 5 s in it, if it has enough calls for a rate.
/// Time in which no call waits does not count, so short backlogs add up.
///
/// | from | to | when |
/// |---|---|---|
/// | unknown | known | after a first waiter, the service took [`FEWEST`] more, and one for each place, in at least [`SHORTEST`] |
/// | unknown | unknown | for longer than [`LONGEST_IDLE`] no call has waited |
/// | known | unknown | for longer than [`LONGEST_IDLE`], and longer than the pause, no call has waited |
/// | known | unknown | the service took no call for longer than the pause while calls waited: it stood still |
/// | unknown, known | unknown | the pace changes |
///
/// In each row that ends in `unknown`, the counts before that change no longer apply.
///
/// The *pause* is [`PAUSE`] times the mean time of a call. Until a standstill ends, the rate measured before still
/// applies: it predicts how fast the service goes on.
///
/// A *wait* in this file is the time between two calls that the service took. Time before the backlog of the second
/// call does not count. Before the rate is known, a standstill shows only in comparison with later calls. The longest
/// wait is therefore set aside. It counts once the rate is known, unless it is longer than the pause that follows from
/// all other waits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServiceRate {
    /// The previous span, which has ended.
    before: Span,
    /// The span that has begun.
    current: Span,
    /// The longest wait so far while the rate is not known, as the type describes it. The spans do not contain it.
    longest: Option<Nanos>,
    /// When the service took a waiter last. `None` before the first one.
    last: Option<Nanos>,
    /// The concurrency when the service took that waiter.
    places: u32,
}

/// A number of calls that waited, and the time in which the service took them. Neither is zero in a known rate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    served: u64,
    time: Nanos,
}

/// The fewest calls that give a rate, beside one for each place in the service: calls may end in groups.
const FEWEST: u64 = 10;
/// The shortest time that gives a rate.
const SHORTEST: Nanos = Nanos(50_000_000);
/// A span ends once it has 200 calls, has at least two for each place, and has lasted for [`SHORTEST`]. With 200 calls
/// the relative error of the rate is about 1/√200, a fourteenth.
const LONG: u64 = 200;
/// A span also ends after five seconds, if it has enough calls for a rate.
const LONGEST: Nanos = Nanos(5_000_000_000);
/// After ten seconds without a waiter the rate no longer applies, unless the pause is longer.
const LONGEST_IDLE: Nanos = Nanos(10_000_000_000);
/// A service that takes no call for 20 times the mean time of a call, while calls wait, stands still. If it serves one
/// call at a time in exponentially distributed times, one call in 500 million takes that long.
const PAUSE: u128 = 20;

impl ServiceRate {
    /// Counts a waiter that the service takes. `places` is the concurrency of the service. Calls have been waiting
    /// without a break since `backlog_since`.
    pub(super) fn record_service(&mut self, backlog_since: Nanos, now: Nanos, places: u32) {
        let last = self.last.unwrap_or(now);
        let wait = now.saturating_sub(last.max(backlog_since));
        let stood_still = self.span().is_some_and(|span| wait > self.pause(span));
        if self.last.is_none() || stood_still || self.is_over(backlog_since) {
            // Unknown | Known => Unknown
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

    /// Counts the shorter one of this wait and the longest wait before, and keeps the longer one. The first wait is
    /// kept and not counted.
    fn count_shorter(&mut self, wait: Nanos) {
        match &mut self.longest {
            None => self.longest = Some(wait),
            Some(longest) => {
                self.current = self.current.plus(1, wait.min(*longest));
                *longest = wait.max(*longest);
            }
        }
    }

    /// Counts the longest wait, unless the service stood still in it. Then forgets that wait.
    fn count_longest(&mut self) {
        let counted = self.counted();
        if let Some(wait) = self.longest.take().filter(|wait| *wait <= self.pause(counted)) {
            self.current = self.current.plus(1, wait);
        }
    }

    /// Returns the calls and the time of both spans.
    fn counted(&self) -> Span {
        self.before.plus(self.current.served, self.current.time)
    }

    /// Returns the rate, if it is known. Calls have been waiting since `backlog_since`, which is the present if no call
    /// waits.
    pub(super) fn known(&self, backlog_since: Nanos) -> Option<Span> {
        self.span().filter(|_| !self.is_over(backlog_since))
    }

    /// Returns the counts, if there are enough for a rate.
    fn span(&self) -> Option<Span> {
        let counted = self.counted();
        let span = match self.longest {
            Some(wait) if wait <= self.pause(counted) => counted.plus(1, wait),
            _ => counted,
        };
        (span.served >= FEWEST + u64::from(self.places) && span.time >= SHORTEST).then_some(span)
    }

    /// Returns whether the counts no longer apply: before `backlog_since`, no call waited for longer than
    /// [`LONGEST_IDLE`]. If the rate is known, the time must also be longer than the pause.
    fn is_over(&self, backlog_since: Nanos) -> bool {
        let idle = backlog_since.saturating_sub(self.last.unwrap_or(backlog_since));
        idle > LONGEST_IDLE && self.span().is_none_or(|span| idle > self.pause(span))
    }

    /// Returns the pause: a service that takes no waiter for longer than this stands still.
    fn pause(&self, span: Span) -> Nanos {
        // By Little's law, the mean time of a call is the places divided by the rate.
        let mean = u128::from(span.time.0) * u128::from(self.places) / u128::from(span.served.max(1));
        Nanos(u64::try_from(mean.saturating_mul(PAUSE)).unwrap_or(u64::MAX))
    }
}

impl Span {
    /// Returns this span with more calls and more time.
    fn plus(self, served: u64, time: Nanos) -> Self {
        Self { served: self.served.saturating_add(served), time: self.time.saturating_add(time) }
    }

    /// Returns the number of calls that the service takes within this time.
    pub(super) fn calls_within(self, time: Nanos) -> u64 {
        let calls = u128::from(time.0) * u128::from(self.served) / u128::from(self.time.0.max(1));
        u64::try_from(calls).unwrap_or(u64::MAX)
    }

    /// Returns the time in which the service takes this number of calls.
    pub(super) fn time_for(self, calls: u64) -> Duration {
        let nanos = u128::from(calls) * u128::from(self.time.0) / u128::from(self.served.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Returns the calls per second.
    pub(super) fn per_second(self) -> f64 {
        self.served as f64 * 1e9 / self.time.0.max(1) as f64
    }
}
