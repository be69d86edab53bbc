use crate::clock;
use std::time::Duration;

/// When a backlog is gone, if all goes on as it did of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainTime {
    /// After so long.
    In(Duration),
    /// No sooner than more is done than arrives. As long as a burst is in the rates it is as if it went on: so it says
    /// for up to ten seconds after one.
    Never,
    /// The backlog has not been there for long enough to tell: not for 50 ms with ten calls that left the queue, and not for
    /// ten seconds.
    Unknown,
}

/// What went through a queue, ever. All counts wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// All that came, whether there was a place for it or not.
    pub(crate) arrived: u64,
    /// What came into the queue.
    pub(crate) joined: u64,
    /// What was served: it was in the queue, or found nobody there.
    pub(crate) served: u64,
    /// What left the queue, served or not.
    pub(crate) left: u64,
}

/// What goes through a queue per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Flow {
    pub(crate) arrived: f64,
    pub(crate) joined: f64,
    pub(crate) served: f64,
    pub(crate) left: f64,
}

/// How fast a queue grew and shrank in the last ten seconds, or for as long as there has been a backlog. Where calls
/// come and go less often than twice per second the time is longer.
///
/// Rates are unknown until a backlog has lasted for [`SHORTEST`] and [`FEWEST`] have left the queue, or for [`LONG`].
///
/// It keeps the counts of about twenty instants of that time. Rates from a time without a backlog would say nothing of
/// what can be done, only of what there was to do.
#[derive(Debug)]
pub(crate) struct Rates {
    samples: [Sample; SAMPLES],
    /// The number of samples taken since the backlog began; the last ones are kept.
    taken: usize,
    /// The rates of the backlog before, until this one has lasted for long enough.
    before: Option<Flow>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    at: u64,
    totals: Totals,
}

const SAMPLES: usize = 21;
/// Twenty of them are ten seconds.
const SPACING: u64 = 500_000_000;
/// Less time says nothing. [`Readings`](super::Readings) states this and the two numbers below.
const SHORTEST: u64 = 50_000_000;
/// Nor do fewer departures.
const FEWEST: u64 = 10;
/// The time that is kept. Once it has passed, any number of departures counts.
const LONG: u64 = (SAMPLES as u64 - 1) * SPACING;

impl Rates {
    pub(crate) fn new() -> Self {
        Self { samples: [Sample::default(); SAMPLES], taken: 0, before: None }
    }

    /// A backlog begins, at the time `at` in nanoseconds.
    pub(crate) fn begin(&mut self, at: u64, totals: Totals) {
        self.samples[0] = Sample { at, totals };
        self.taken = 1;
    }

    /// The backlog is gone.
    pub(crate) fn end(&mut self, at: u64, totals: Totals) {
        self.before = self.flow(at, totals);
        self.taken = 0;
    }

    /// What is done from now on is done in another way: what was seen until now says nothing of it.
    pub(crate) fn begin_anew(&mut self, at: u64, totals: Totals) {
        self.before = None;
        if self.taken > 0 {
            self.begin(at, totals);
        }
    }

    /// Takes a sample if it is time for one.
    #[inline]
    pub(crate) fn note(&mut self, at: u64, totals: Totals) {
        if self.taken == 0 {
            return;
        }
        if at.saturating_sub(self.samples[(self.taken - 1) % SAMPLES].at) >= SPACING {
            self.samples[self.taken % SAMPLES] = Sample { at, totals };
            self.taken += 1;
        }
    }

    /// The rates until now, or those of the backlog before.
    pub(crate) fn flow(&self, at: u64, totals: Totals) -> Option<Flow> {
        self.flow_of_this(at, totals).or(self.before)
    }

    /// The rates of this backlog until now. How fast the one before was joined says nothing of this one.
    pub(crate) fn flow_of_this(&self, at: u64, totals: Totals) -> Option<Flow> {
        let last = self.taken.checked_sub(1)?;
        let oldest = self.samples[last.saturating_sub(SAMPLES - 1) % SAMPLES];
        let nanos = at.saturating_sub(oldest.at);
        // What was seen for ten seconds counts, however little it was: a service may be slow, or stand still.
        let is_short = nanos < SHORTEST || totals.left.wrapping_sub(oldest.totals.left) < FEWEST;
        if is_short && nanos < LONG {
            return None;
        }
        let rate = |count: u64, before: u64| count.wrapping_sub(before) as f64 * 1e9 / nanos as f64;
        Some(Flow {
            arrived: rate(totals.arrived, oldest.totals.arrived),
            joined: rate(totals.joined, oldest.totals.joined),
            served: rate(totals.served, oldest.totals.served),
            left: rate(totals.left, oldest.totals.left),
        })
    }
}

/// The time for so many at this rate per second.
pub(crate) fn time_for(count: u64, per_second: f64) -> Option<Duration> {
    (per_second > 0.0).then(|| seconds(count as f64 / per_second))
}

/// A backlog shrinks by what leaves and grows by what joins: B / (u - l).
pub(crate) fn drain_time(waiting: u64, flow: Option<Flow>) -> DrainTime {
    match flow {
        _ if waiting == 0 => DrainTime::In(Duration::ZERO),
        None => DrainTime::Unknown,
        Some(flow) if flow.left <= flow.joined => DrainTime::Never,
        Some(flow) => DrainTime::In(seconds(waiting as f64 / (flow.left - flow.joined))),
    }
}

/// At most what a number of nanoseconds can hold.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds)
        .map_or(Duration::from_nanos(u64::MAX), |wait| Duration::from_nanos(clock::nanos(wait)))
}
