use crate::clock::Nanos;
use std::time::Duration;

/// The time until a backlog is gone, at the rates of the last ten seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainTime {
    /// After this time.
    In(Duration),
    /// The backlog does not shrink: at least as many calls join the queue as leave it. A burst counts in the rates for
    /// up to ten seconds after its end.
    Never,
    /// The backlog is too young for rates. They are known once it has lasted for 50 ms and ten calls have left the
    /// queue, or once it has lasted for ten seconds. A change of the concurrency or the pace begins the rates again.
    Unknown,
}

/// The calls since the queue was built. All counts wrap. Calls that a [`Queue`](super::Queue) admits without its lock
/// are not counted. The rates use only differences within a backlog, in which every call takes the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// All calls that came, refused calls included.
    pub(crate) arrived: u64,
    /// The calls that took a place in the queue.
    pub(crate) joined: u64,
    /// The calls that were served, at once or after a wait.
    pub(crate) served: u64,
    /// The calls that left the queue, served or not.
    pub(crate) left: u64,
}

/// [`Totals`] per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Flow {
    pub(crate) arrived: f64,
    pub(crate) joined: f64,
    pub(crate) served: f64,
    pub(crate) left: f64,
}

/// How fast a queue grew and shrank in the last ten seconds, or since the backlog began. A sample is taken only when
/// the queue changes, for example when a call comes or goes. If this happens less often than twice per second, the
/// rates cover more than ten seconds.
///
/// Rates are unknown until a backlog has lasted for [`SHORTEST`] and [`FEWEST`] calls have left the queue, or until it
/// has lasted for [`LONG`]. Rates without a backlog would measure the demand, not the capacity.
///
/// | from | to | when |
/// |---|---|---|
/// | no backlog | backlog | a call waits: [`begin`](Self::begin) |
/// | backlog, no backlog | unchanged | the capacity changes: [`begin_again`](Self::begin_again) |
/// | backlog | no backlog | no call waits: [`end`](Self::end) |
///
/// It keeps the counts of 21 instants.
#[derive(Debug)]
pub(crate) struct Rates {
    /// A ring: the sample number n of the backlog, counted from 0, is at n modulo [`SAMPLES`].
    samples: [Sample; SAMPLES],
    /// The number of samples taken since the backlog began, or since the capacity last changed in it. The last 21 are
    /// kept. Zero without a backlog.
    taken: usize,
    /// The last known rates of an earlier backlog. They apply until this backlog has lasted for long enough.
    before: Option<Flow>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    at: Nanos,
    totals: Totals,
}

/// The number of samples that are kept.
const SAMPLES: usize = 21;
/// The least time between two samples, half a second. Twenty intervals are ten seconds.
const SPACING: Nanos = Nanos(500_000_000);
/// The shortest backlog that gives a rate. [`Readings`](super::Readings) states this number and the two below.
const SHORTEST: Nanos = Nanos(50_000_000);
/// The fewest departures that give a rate.
const FEWEST: u64 = 10;
/// The time that the samples cover. Once it has passed, any number of departures gives a rate.
const LONG: Nanos = Nanos((SAMPLES as u64 - 1) * SPACING.0);

impl Rates {
    pub(crate) fn new() -> Self {
        Self { samples: [Sample::default(); SAMPLES], taken: 0, before: None }
    }

    /// Begins a backlog.
    // No backlog => Backlog
    pub(crate) fn begin(&mut self, at: Nanos, totals: Totals) {
        self.samples[0] = Sample { at, totals };
        self.taken = 1;
    }

    /// Ends a backlog.
    // Backlog => No backlog
    pub(crate) fn end(&mut self, at: Nanos, totals: Totals) {
        self.before = self.flow(at, totals);
        self.taken = 0;
    }

    /// Begins again, because the capacity changes and the rates until now do not apply to it.
    // Backlog => Backlog, No backlog => No backlog
    pub(crate) fn begin_again(&mut self, at: Nanos, totals: Totals) {
        self.before = None;
        if self.taken > 0 {
            self.begin(at, totals);
        }
    }

    /// Takes a sample if one is due.
    #[inline]
    pub(crate) fn note(&mut self, at: Nanos, totals: Totals) {
        if self.taken == 0 {
            return;
        }
        if at.saturating_sub(self.samples[(self.taken - 1) % SAMPLES].at) >= SPACING {
            self.samples[self.taken % SAMPLES] = Sample { at, totals };
            self.taken += 1;
        }
    }

    /// Returns the rates of this backlog until now, or the last known rates of an earlier one.
    pub(crate) fn flow(&self, at: Nanos, totals: Totals) -> Option<Flow> {
        self.flow_of_this(at, totals).or(self.before)
    }

    /// Returns the rates of this backlog until now. The drain time needs them, because the join rate of an earlier
    /// backlog does not apply to this one.
    pub(crate) fn flow_of_this(&self, at: Nanos, totals: Totals) -> Option<Flow> {
        let last = self.taken.checked_sub(1)?;
        let oldest = self.samples[last.saturating_sub(SAMPLES - 1) % SAMPLES];
        let length = at.saturating_sub(oldest.at);
        // After ten seconds any number counts: a service may be slow, or stand still.
        let is_short = length < SHORTEST || totals.left.wrapping_sub(oldest.totals.left) < FEWEST;
        if is_short && length < LONG {
            return None;
        }
        let rate = |count: u64, before: u64| count.wrapping_sub(before) as f64 * 1e9 / length.0 as f64;
        Some(Flow {
            arrived: rate(totals.arrived, oldest.totals.arrived),
            joined: rate(totals.joined, oldest.totals.joined),
            served: rate(totals.served, oldest.totals.served),
            left: rate(totals.left, oldest.totals.left),
        })
    }
}

/// Returns the time for `count` calls at this rate per second. `None` if the rate is zero.
pub(crate) fn time_for(count: u64, per_second: f64) -> Option<Duration> {
    (per_second > 0.0).then(|| seconds(count as f64 / per_second))
}

/// Returns the time until a backlog is gone. A backlog shrinks by the calls that leave and grows by those that join:
/// `waiting / (left - joined)`.
pub(crate) fn drain_time(waiting: u64, flow: Option<Flow>) -> DrainTime {
    match flow {
        _ if waiting == 0 => DrainTime::In(Duration::ZERO),
        None => DrainTime::Unknown,
        Some(flow) if flow.left <= flow.joined => DrainTime::Never,
        Some(flow) => DrainTime::In(seconds(waiting as f64 / (flow.left - flow.joined))),
    }
}

/// Returns a duration of at most 584 years, the longest that [`Nanos`] can represent.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).map_or(Nanos::MAX, Nanos::of).duration()
}
