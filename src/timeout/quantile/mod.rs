//! A timeout that is learned from the share of calls that may be given up wrongly.

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

/// The calls that are judged together: the limit changes, or freezes, once for each slice.
pub(crate) const SLICE: usize = 128;
/// A call may end while others fill the next slices: its cell is not taken from it before.
const CELLS: usize = 4 * SLICE;
/// One call passes in this time although no answer is expected of it.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// A timeout that is learned: the time that all but a share `e` of the calls take.
///
/// With `e = 0.001`, one call in a thousand is given up although an answer would still have come. Clones share what
/// they learn.
///
/// - The limit is the ceiling until `5 / e` calls are known. Then it is the quantile of the last `10 / e` calls, in
///   buckets less than 0.8% wide. The window is one of calls, not of time.
/// - A call that timed out is known to be longer than its limit, and no more. The Kaplan-Meier estimator (1958) takes
///   such samples into account, so the limit does not creep down. Where too many calls time out, the limit rises by at
///   most a quarter for each quarter of the window.
/// - During overload the limit is [frozen](Self::is_frozen): while more than a tenth of 128 calls time out, or ten
///   times `e` if that is more. Those calls, and the 128 on either side, are not learned. After `100 / e` calls of that
///   kind, ten windows, this is how the service is: the limit begins again at the ceiling. [`reset`](Self::reset) does
///   so at once.
///
/// - In a stack or a layer, answers that are a [`Success`](crate::classify::Outcome::Success) are learned, and calls
///   that this limit ends, wherever they are. Failures, refusals and calls that their callers drop are not.
/// - A call that another deadline ends is known to be longer than the time that it had. That deadline does not depend
///   on how long the call would have taken, so the estimator takes it as any other censored sample. To leave such calls
///   out would draw the limit down: most of them are slow ones. They count neither as timed out nor towards overload.
///   Where other deadlines hide the quantile and this limit ends no call, it stays as it is.
/// - A call counts in the era in which it began. After a reset, or where the limit began again, calls under way are not
///   learned.
///
/// # When the service becomes slower for good
///
/// The limit does not begin again sooner when nearly all calls time out. A service that is ten times slower for a
/// minute and one that stays so look the same in that minute: more than nine calls in ten time out. To begin again
/// means to wait for the ceiling, and during an outage that holds the callers for longest. Where a change is known,
/// such as a new version of the service, [`reset`](Self::reset) takes effect at once.
///
/// # Calls that cannot be answered in time
///
/// In a stack or a layer, a call whose deadline comes before the fastest answer of the window is refused before any
/// work. Its answer would come too late, and the service would have worked for nothing. The fastest answer is rounded
/// down to its bucket, and so few calls are faster that the share of calls refused in vain is below `e / 5`. As long as
/// fewer than `5 / e` calls are known, none is refused.
///
/// One call in a second passes nevertheless. If it is answered, later calls with as much time pass at once: a service
/// that became faster is seen within a second. A clock that stands still or jumps locks no caller out.
///
/// # Cost
///
/// A call costs four relaxed loads, an addition and a store, and no lock. One in 128 updates the limit, behind a lock
/// that no call waits for. The memory is bounded: four bytes for each call of the window, and eight for each bucket.
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
    rate: f64,
    /// Nanoseconds. Relaxed: it guards no other memory, and so do all below.
    limit: AtomicU64,
    /// The bits of the share of calls in the window that timed out.
    achieved: AtomicU64,
    frozen: AtomicU64,
    /// Nanoseconds: the fastest answer seen lately, rounded down. Zero while too few calls are known.
    fastest: AtomicU64,
    /// When a call passed last of which no answer was expected, in nanoseconds after `origin`.
    tried: AtomicU64,
    origin: Instant,
    /// The era of new calls.
    era: AtomicU64,
    /// The calls so far. Each takes the cell of its number.
    calls: AtomicU64,
    /// The words of samples, zero where there is none. The one that ends a slice swaps them out.
    cells: [AtomicU64; CELLS],
    window: Mutex<Window>,
}

impl Quantile {
    /// Begins a timeout by which this share of the calls may be given up wrongly: from 0.0001 to 0.1.
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
            // Further away from any instant than the first call may have to wait.
            tried: AtomicU64::new(1 << 63),
            origin: Instant::now(),
            era: AtomicU64::new(Era::default().0),
            calls: AtomicU64::new(0),
            cells: array::from_fn(|_| AtomicU64::new(0)),
            window: Mutex::new(Window::new(rate, scale, Era::default())),
            scale,
        }))
    }

    /// The limit at present.
    #[inline]
    pub fn current(&self) -> Duration {
        Nanos(self.0.limit.load(Ordering::Relaxed)).duration()
    }

    /// The ceiling: the limit while too few calls are known, and the longest one.
    pub fn ceiling(&self) -> Duration {
        self.0.scale.ceiling().duration()
    }

    /// The share of the calls in the window that timed out. Calls during overload do not count.
    pub fn achieved_rate(&self) -> f64 {
        f64::from_bits(self.0.achieved.load(Ordering::Relaxed))
    }

    /// Whether the limit stays as it was, since too many of the last calls timed out.
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

    /// The era of a call that begins now.
    #[inline]
    pub(super) fn era(&self) -> Era {
        Era(self.0.era.load(Ordering::Relaxed))
    }

    /// Whether a call that has this long is not begun: no answer came as fast lately. One call in a second passes
    /// nevertheless, whatever the clock does.
    #[inline]
    pub(super) fn refuses(&self, left: Duration, now: Instant) -> bool {
        Nanos::of(left).0 < self.0.fastest.load(Ordering::Relaxed) && !self.tries(now)
    }

    #[cold]
    fn tries(&self, now: Instant) -> bool {
        let tried = self.0.tried.load(Ordering::Relaxed);
        // Numbers wrap around after 584 years: only their distance counts.
        let nanos = |length: Duration| length.as_nanos() as u64;
        let at = match now.checked_duration_since(self.0.origin) {
            Some(since) => nanos(since),
            None => nanos(self.0.origin.saturating_duration_since(now)).wrapping_neg(),
        };
        let ahead = at.wrapping_sub(tried);
        // A clock that goes back further than that counts as one that goes on: no caller waits until it is there again.
        ahead.min(ahead.wrapping_neg()) >= nanos(TRY_EVERY)
            && self.0.tried.compare_exchange(tried, at, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Forgets all calls: the limit is the ceiling again. Calls under way in a stack or a layer are not learned.
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

    /// Learns a slice. A call that has taken its cell and not filled it yet is learned with a later slice.
    #[cold]
    fn end_slice(&self, slice: usize) {
        // Another call is at it: this slice stays in its cells, until it is overwritten.
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
