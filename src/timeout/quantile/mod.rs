//! A timeout that learns its limit from a false-timeout rate.

mod builder;
mod instrument;
mod scale;
#[cfg(all(test, not(steadfast_loom)))]
mod tests;
mod window;

pub use builder::QuantileBuilder;

use crate::{
    clock::Nanos,
    sync::{AtomicU64, Mutex, Ordering},
};
pub(crate) use scale::Era;
use scale::{End, Sample, Scale};
use std::{array, fmt, sync::Arc, time::Duration};
use tokio::time::Instant;
use window::Window;

/// The number of calls in a slice: they are learned together. Without a reset, the limit can change, or freeze, at most
/// once for each slice.
pub(crate) const SLICE: usize = 128;
/// Four slices: while one slice is learned, calls fill the next ones.
const CELLS: usize = 4 * SLICE;
/// Of the calls that have less time than the fastest answer, one passes in this time. The others are refused.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// A timeout that learns its limit: the time within which all but a share `e` of the calls are answered.
///
/// `e` is the false-timeout rate. With `e = 0.001`, one call in a thousand is given up although an answer would still
/// have come. Clones share what they learn.
///
/// # How the limit is learned
///
/// - Until `5 / e` calls are known, the limit is the ceiling. Then it is the quantile `1 - e` of the last `10 / e`
///   calls. The window counts calls, not time. Latencies are kept in buckets less than 0.8% wide.
/// - In a stack or a layer, two kinds of calls are learned: those that are answered with a
///   [`Success`](crate::classify::Outcome::Success), and those that this limit ends, even before they reach the
///   service. Other failures, refusals, and calls that their callers drop, are not learned, except as the next points
///   say.
/// - A call that timed out is a censored sample: it took longer than its limit. The Kaplan-Meier estimator (1958) takes
///   censored samples into account, so the limit does not creep down. If the answers do not reach the quantile because
///   too many calls time out, the limit rises in steps. A step raises it by at most a quarter. There is at most one
///   step for each quarter of a window.
/// - A call that another deadline ended is a censored sample, too: it took longer than the time that it had. The
///   estimator assumes that the time at which a call is given up does not depend on how long the call would have taken.
///   The deadline of a caller or of an outer timeout satisfies this. Most calls that it ends are slow, so the limit
///   would creep down if they were left out. These calls count neither as timed out nor towards overload. If other
///   deadlines end all calls that would show the quantile, the limit stays as it is. If they end most calls, few
///   answers in the window decide. The limit then varies more, and the share of false timeouts can differ more from
///   `e`.
/// - A service that knows the deadline, such as another stack, may give up by itself. A call that fails within a
///   millisecond of this limit, or of an inherited deadline, counts as ended by it.
/// - During overload the limit is [frozen](Self::is_frozen). The calls are judged in slices of 128. A slice counts as
///   overload if the share of its calls that time out is above a threshold. The threshold is `10 * e`, but at least 0.1
///   and at most 0.9. Such a slice, and the slices before and after it, are not learned.
/// - After `100 / e` calls that were not learned, which would fill ten windows, the limit begins again at the ceiling.
///   The service is then taken to have changed. A call that is learned makes up for ten that were not.
///   [`reset`](Self::reset) begins again at once.
/// - In a stack or a layer, a call counts only if the limit has not begun again since the call began. So calls in
///   flight at that moment are not learned.
///
/// # Requests of different kinds
///
/// All requests of a stack share one learned limit. If a kind of request is rarer than `e` and slower than the others,
/// all its calls fit into the share that may be given up. Its calls are then always given up. Give this kind its own
/// stack and its own `Quantile`, or choose its limit with a [`PerRequest`](super::PerRequest).
///
/// # When the service becomes slower for good
///
/// The limit begins again only after `100 / e` calls were not learned, even if nearly all calls time out. A service
/// that is ten times slower for a minute looks like one that stays ten times slower. In both cases nearly all calls
/// time out. A limit at the ceiling keeps callers waiting for longest, which is worst during an outage. If you
/// know of a change, such as a new version of the service, call [`reset`](Self::reset).
///
/// # Calls that cannot be answered in time
///
/// A stack or a layer refuses a call before any work if its deadline leaves less time than the fastest recent answer
/// took. The answer to the call would come too late, and the service would have worked for nothing. The fastest recent
/// answer is the fastest of the window, the last slice and the calls since then, rounded down to its bucket. While
/// fewer than `5 / e` calls are known, no call is refused. With n known calls, the next one is faster than all of them
/// with a probability of 1 / (n + 1). So less than a share `e / 5` of the calls could be refused wrongly, on average.
///
/// One such call in a second passes nevertheless. If it is answered, later calls with as much time pass at once. A
/// service that became faster is therefore noticed within a second. If the clock jumps or goes back, the next such call
/// passes within two seconds. A retry does not wait for an attempt that would be refused.
///
/// Use one `Quantile` at most once on the path of a call. In two nested places each call would count twice. The outer
/// place would also use up the one call in a second that passes, so the inner place would refuse that call.
///
/// # Cost
///
/// A call usually costs four relaxed loads, an atomic addition and a store. It takes no lock. One call in 128 updates
/// the limit under a lock; no call waits for that lock. The memory is bounded: four bytes for each call of the window,
/// eight bytes for each bucket, and about 5 KiB.
///
/// ```
/// use steadfast::timeout::Quantile;
/// use std::time::Duration;
///
/// let ms = Duration::from_millis;
/// let limit = Quantile::builder(0.01).between(ms(1), ms(1000)).build()?;
/// assert_eq!(limit.current(), ms(1000));
/// (0..1024).for_each(|call| limit.record(ms(10 + call % 5)));
/// assert!(limit.current() >= ms(14) && limit.current() < ms(15));
/// # Ok::<(), steadfast::ConfigError>(())
/// ```
#[doc(alias("learned timeout", "adaptive timeout"))]
#[derive(Clone)]
pub struct Quantile(Arc<Learned>);

struct Learned {
    scale: Scale,
    /// The false-timeout rate.
    rate: f64,
    /// Nanoseconds. This and all atomics below are relaxed: none of them guards other memory.
    limit: AtomicU64,
    /// The share of the calls in the window that timed out, as the bits of an `f64`.
    achieved: AtomicU64,
    /// 1 while the limit is frozen, otherwise 0.
    frozen: AtomicU64,
    /// Nanoseconds: the fastest recent answer, rounded down. Zero while too few calls are known.
    fastest: AtomicU64,
    /// When a call with too little time for any answer last passed, in nanoseconds after `origin`.
    tried: AtomicU64,
    origin: Instant,
    /// The era of new calls.
    era: AtomicU64,
    /// The number of calls so far. Each call takes the cell of its number, modulo `CELLS`.
    calls: AtomicU64,
    /// The words of samples; zero is an empty cell. The call that ends a slice takes the samples out.
    cells: [AtomicU64; CELLS],
    window: Mutex<Window>,
}

impl Quantile {
    /// Returns a builder for a timeout with this false-timeout rate, from 0.0001 to 0.1. The rate is the share of calls
    /// that may be given up although an answer would still have come.
    pub fn builder(rate: f64) -> QuantileBuilder {
        QuantileBuilder::new(rate)
    }

    fn new(rate: f64, scale: Scale) -> Self {
        Self(Arc::new(Learned {
            rate,
            limit: AtomicU64::new(scale.ceiling().0),
            achieved: AtomicU64::new(0),
            frozen: AtomicU64::new(0),
            fastest: AtomicU64::new(0),
            // Far from any instant, so that the first call passes at once.
            tried: AtomicU64::new(1 << 63),
            origin: Instant::now(),
            era: AtomicU64::new(Era::default().0),
            calls: AtomicU64::new(0),
            cells: array::from_fn(|_| AtomicU64::new(0)),
            window: Mutex::new(Window::new(rate, scale, Era::default())),
            scale,
        }))
    }

    /// Returns the current limit.
    #[inline]
    pub fn current(&self) -> Duration {
        Nanos(self.0.limit.load(Ordering::Relaxed)).duration()
    }

    /// Returns the ceiling: the longest limit, and the limit while too few calls are known.
    pub fn ceiling(&self) -> Duration {
        self.0.scale.ceiling().duration()
    }

    /// Returns the share of the calls in the window that timed out. Calls during overload do not count.
    pub fn achieved_rate(&self) -> f64 {
        f64::from_bits(self.0.achieved.load(Ordering::Relaxed))
    }

    /// Returns whether the limit is frozen, because too many calls of the last slice of 128 timed out.
    pub fn is_frozen(&self) -> bool {
        self.0.frozen.load(Ordering::Relaxed) != 0
    }

    /// Learns from a call that was answered after `latency`.
    #[inline]
    pub fn record(&self, latency: Duration) {
        self.record_of(self.era(), latency);
    }

    #[inline]
    pub(super) fn record_of(&self, era: Era, latency: Duration) {
        let sample = Sample::new(self.0.scale, End::Answered, Nanos::of(latency));
        if Nanos::of(latency).0 < self.0.fastest.load(Ordering::Relaxed) {
            self.0.fastest.fetch_min(self.0.scale.lower(sample.bucket).0, Ordering::Relaxed);
        }
        self.add(sample, era);
    }

    /// Learns from a call that was given up after `limit`, and would have taken longer.
    #[inline]
    pub fn censored(&self, limit: Duration) {
        self.given_up_of(self.era(), limit);
    }

    #[inline]
    pub(super) fn given_up_of(&self, era: Era, limit: Duration) {
        self.add(Sample::new(self.0.scale, End::GivenUp, Nanos::of(limit)), era);
    }

    /// Learns from a call that another deadline ended after this time.
    #[inline]
    pub(super) fn cut_of(&self, era: Era, spent: Duration) {
        self.add(Sample::new(self.0.scale, End::Cut, Nanos::of(spent)), era);
    }

    /// Returns the era of a call that begins now.
    #[inline]
    pub(super) fn era(&self) -> Era {
        Era(self.0.era.load(Ordering::Relaxed))
    }

    /// Returns whether a call with this time left is refused: no recent answer was as fast. One such call in a second
    /// passes nevertheless.
    #[inline]
    pub(super) fn refuses(&self, left: Duration, now: Instant) -> bool {
        Nanos::of(left).0 < self.0.fastest.load(Ordering::Relaxed) && !self.tries(now)
    }

    /// Predicts whether a call that begins at `due` with this time left is refused. Changes no state.
    pub(super) fn would_refuse(&self, left: Duration, due: Instant) -> bool {
        Nanos::of(left).0 < self.0.fastest.load(Ordering::Relaxed) && self.try_at(due).is_none()
    }

    /// Returns whether a call passes although it has too little time, and notes that it does.
    #[cold]
    fn tries(&self, now: Instant) -> bool {
        self.try_at(now).is_some_and(|(tried, at)| {
            self.0.tried.compare_exchange(tried, at, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        })
    }

    /// Returns when a call with too little time last passed, and `now`, both in nanoseconds after `origin`. Returns
    /// `None` if no such call may pass now.
    fn try_at(&self, now: Instant) -> Option<(u64, u64)> {
        let tried = self.0.tried.load(Ordering::Relaxed);
        // The numbers wrap around after 584 years. Only their distance counts.
        let nanos = |length: Duration| length.as_nanos() as u64;
        let at = match now.checked_duration_since(self.0.origin) {
            Some(since) => nanos(since),
            None => nanos(self.0.origin.saturating_duration_since(now)).wrapping_neg(),
        };
        let ahead = at.wrapping_sub(tried);
        // A clock that goes back by a second or more lets the call pass: no caller waits until the clock has caught up.
        (ahead.min(ahead.wrapping_neg()) >= nanos(TRY_EVERY)).then_some((tried, at))
    }

    /// Forgets all calls: the limit is the ceiling again. Calls in flight in a stack or a layer are not learned.
    pub fn reset(&self) {
        let mut window = crate::sync::lock(&self.0.window);
        window.begin_again();
        self.publish(&window);
    }

    #[inline]
    fn add(&self, sample: Sample, era: Era) {
        let call = self.0.calls.fetch_add(1, Ordering::Relaxed) as usize % CELLS;
        if let Some(cell) = self.0.cells.get(call) {
            cell.store(sample.word(era), Ordering::Relaxed);
        }
        if call % SLICE == SLICE - 1 {
            self.end_slice(call / SLICE);
        }
    }

    /// Learns a slice, except for a call that has taken its cell but not filled it yet. The next call of that cell
    /// usually overwrites the late sample.
    #[cold]
    fn end_slice(&self, slice: usize) {
        // Another slice or `reset` holds the lock. This slice is not learned: newer samples overwrite it.
        let Ok(mut window) = self.0.window.try_lock() else { return };
        let cells = self.0.cells.iter().skip(slice * SLICE).take(SLICE);
        let era = window.era();
        window.learn(cells.filter_map(|cell| Sample::of_word(cell.swap(0, Ordering::Relaxed), era)));
        self.publish(&window);
    }

    fn publish(&self, window: &Window) {
        self.0.limit.store(window.limit().0, Ordering::Relaxed);
        self.0.achieved.store(window.achieved_rate().to_bits(), Ordering::Relaxed);
        self.0.frozen.store(u64::from(window.is_frozen()), Ordering::Relaxed);
        self.0.fastest.store(window.fastest().0, Ordering::Relaxed);
        self.0.era.store(window.era().0, Ordering::Relaxed);
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}

impl fmt::Debug for Quantile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quantile")
            .field("rate", &self.0.rate)
            .field("current", &self.current())
            .field("achieved_rate", &self.achieved_rate())
            .field("is_frozen", &self.is_frozen())
            .finish()
    }
}
