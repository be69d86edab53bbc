use super::{rules::Rate, ticks::Ticks};
use crate::{
    clock::Nanos,
    sync::{AtomicU64, Mutex, Ordering, lock},
};

/// The number of buckets of a window. The window slides by one bucket at a time.
pub(super) const BUCKETS: u64 = 16;

/// The bits of each of the two counts in a bucket; the tag has the rest.
const COUNT_BITS: u32 = 18;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const TAG_BITS: u32 = 64 - 2 * COUNT_BITS;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;

/// Counts the recent calls, and the bad ones among them (failures or slow calls), in a ring of fixed size.
///
/// A bucket is one word: the tag of its tick, calls, and bad calls. A record is one compare-and-swap on the bucket of
/// its tick. If the bucket has passed to a later tick, the tag differs, and a thread that was delayed drops its record.
///
/// A full bucket is emptied into a side count under a lock, once for each 262,143 calls of one tick.
///
/// A tick is a sixteenth of the window, numbered by [`Ticks`]. Each era advances the numbering by a whole window, so
/// that the records of an earlier era have expired in every later one.
pub(super) struct Window {
    /// Relaxed throughout: a bucket guards no other memory, and each change is one atomic step.
    buckets: [AtomicU64; BUCKETS as usize],
    /// The latest recorded tick, in full. A tag holds only the lowest 28 bits of a tick, so tags are ambiguous after a
    /// long time without a record. This tick detects such a time: all buckets are then emptied, and the new tick is
    /// written with release. `record` and `counts_at` read it with acquire. A thread that sees the new tick there does
    /// not see the old content of a bucket.
    latest: AtomicU64,
    /// Before this tick, a good call also checks the rate: the window may have enough bad calls already, and lack only
    /// the minimum of calls. The tick only increases. Relaxed: a good call that ends at the same moment as a bad call
    /// may miss the increase that the bad call causes. That good call then does not check the rate, and a later call
    /// does.
    watched_until: AtomicU64,
    /// The counts of emptied buckets, with their ticks.
    emptied: Mutex<[(u64, Counts); BUCKETS as usize]>,
    /// Whether a bucket was ever full, so that the lock is taken only if it matters. Set with the lock held.
    overflowed: AtomicU64,
}

/// The counts of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) calls: u64,
    /// The failures or the slow calls among the calls.
    pub(super) bad: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            latest: AtomicU64::new(0),
            watched_until: AtomicU64::new(0),
            emptied: Mutex::new([(0, Counts::default()); BUCKETS as usize]),
            overflowed: AtomicU64::new(0),
        }
    }
}

impl Window {
    /// Returns the tick of this instant, or the latest recorded tick if another thread has read a later clock.
    pub(super) fn newest(&self, ticks: &Ticks, era: u32, now: Nanos) -> u64 {
        ticks.at(era, now).max(self.latest.load(Ordering::Relaxed))
    }

    /// Empties the window. The tick `newest` is not before the one that [`newest`](Self::newest) returns. The caller
    /// holds the lock of the machine.
    ///
    /// A call that another thread records meanwhile counts if that thread finds its bucket already emptied.
    pub(super) fn clear(&self, newest: u64) {
        let mut emptied = lock(&self.emptied);
        self.wipe(newest);
        *emptied = [(0, Counts::default()); BUCKETS as usize];
    }

    /// Makes each call check the rate for the next two windows, even a good call that could not bring the counts to the
    /// rate. For a change of the rules.
    pub(super) fn watch_all(&self, newest: u64) {
        self.watched_until.fetch_max(newest.wrapping_add(2 * BUCKETS), Ordering::Relaxed);
    }

    /// Records one call of this era. Returns whether the rate may be reached and must be checked.
    #[inline]
    pub(super) fn record(&self, ticks: &Ticks, era: u32, bad: bool, now: Nanos) -> bool {
        let tick = ticks.at(era, now);
        if tick > self.latest.load(Ordering::Acquire) {
            self.advance(tick);
        }
        let Some(bucket) = self.buckets.get((tick % BUCKETS) as usize) else { return false };
        let mut word = bucket.load(Ordering::Relaxed);
        loop {
            let counts = match tick.wrapping_sub(word >> (2 * COUNT_BITS)) & TAG_MASK {
                0 => Counts::unpack(word),
                // The bucket counts a later tick: this record is older than the window.
                behind if behind > TAG_MASK - MOST_BEHIND => return false,
                _ => Counts::default(),
            };
            if counts.calls == COUNT_MASK {
                self.empty(tick);
                word = bucket.load(Ordering::Relaxed);
                continue;
            }
            let after = counts.with(bad).pack(tick);
            match bucket.compare_exchange_weak(word, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return bad || tick < self.watched_until.load(Ordering::Relaxed),
                Err(newer) => word = newer,
            }
        }
    }

    /// Returns the counts of this era over the window that ends now.
    pub(super) fn counts(&self, ticks: &Ticks, era: u32, now: Nanos) -> Counts {
        self.counts_at(ticks.at(era, now))
    }

    /// Returns whether the counts reach this rate. If good calls alone can bring the counts to the rate, later good
    /// calls will check the rate too.
    pub(super) fn reaches(&self, rate: Rate, ticks: &Ticks, era: u32, now: Nanos) -> bool {
        let tick = ticks.at(era, now);
        let counts = self.counts_at(tick);
        let until = tick.wrapping_add(BUCKETS);
        if rate.is_within_reach_of(counts) && self.watched_until.load(Ordering::Relaxed) < until {
            self.watched_until.fetch_max(until, Ordering::Relaxed);
        }
        rate.is_reached_by(counts)
    }

    fn counts_at(&self, tick: u64) -> Counts {
        if tick.saturating_sub(self.latest.load(Ordering::Acquire)) >= BUCKETS {
            return Counts::default();
        }
        let sum = || {
            let words = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
            let alive = words.filter(|word| (tick.wrapping_sub(word >> (2 * COUNT_BITS)) & TAG_MASK) < BUCKETS);
            alive.fold(Counts::default(), |sum, word| sum.plus(Counts::unpack(word)))
        };
        if self.overflowed.load(Ordering::Relaxed) == 0 {
            return sum();
        }
        // While the lock is held, no counts move from a bucket to the side.
        let emptied = lock(&self.emptied);
        let alive = emptied.iter().filter(|(of, _)| tick.wrapping_sub(*of) < BUCKETS);
        alive.fold(sum(), |sum, (_, counts)| sum.plus(*counts))
    }

    /// Handles the first record of a tick. After [`MOST_BEHIND`] ticks or more without a record, empties all buckets
    /// first. The tags of the buckets become ambiguous only much later, after almost 2^28 ticks.
    fn advance(&self, tick: u64) {
        if tick.saturating_sub(self.latest.load(Ordering::Acquire)) >= MOST_BEHIND {
            let _emptied = lock(&self.emptied);
            if tick.saturating_sub(self.latest.load(Ordering::Relaxed)) >= MOST_BEHIND {
                self.wipe(tick);
                self.latest.fetch_max(tick, Ordering::Release);
            }
        }
        // A read-modify-write continues the release above: a thread that reads this tick sees the empty buckets too.
        self.latest.fetch_max(tick, Ordering::Relaxed);
    }

    /// Empties all buckets.
    fn wipe(&self, tick: u64) {
        // The tag of a tick that is older than the window, and recent enough not to be taken for a later tick.
        let wiped = Counts::default().pack(tick.wrapping_sub(BUCKETS));
        self.buckets.iter().for_each(|bucket| bucket.store(wiped, Ordering::Relaxed));
    }

    /// Empties the bucket of this tick to the side, if it is full.
    #[cold]
    fn empty(&self, tick: u64) {
        let index = (tick % BUCKETS) as usize;
        let mut emptied = lock(&self.emptied);
        self.overflowed.store(1, Ordering::Relaxed);
        let (Some(bucket), Some((of, side))) = (self.buckets.get(index), emptied.get_mut(index)) else { return };
        let word = bucket.load(Ordering::Relaxed);
        let counts = Counts::unpack(word);
        let full = counts.calls == COUNT_MASK && (tick ^ (word >> (2 * COUNT_BITS))) & TAG_MASK == 0;
        let empty = Counts::default().pack(tick);
        if full && bucket.compare_exchange(word, empty, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            *side = if *of == tick { side.plus(counts) } else { counts };
            *of = tick;
        }
    }
}

/// The number of ticks that a delayed thread may be behind before its record is taken for one of a much later tick.
/// Tags wrap around: a tag that is at most this far ahead of a record's tick counts as later, and every other tag as
/// earlier.
const MOST_BEHIND: u64 = 1 << 16;

impl Counts {
    #[inline]
    fn unpack(word: u64) -> Self {
        Self { calls: (word >> COUNT_BITS) & COUNT_MASK, bad: word & COUNT_MASK }
    }

    #[inline]
    fn pack(self, tick: u64) -> u64 {
        (tick & TAG_MASK) << (2 * COUNT_BITS) | self.calls << COUNT_BITS | self.bad
    }

    /// Adds one call.
    #[inline]
    fn with(self, bad: bool) -> Self {
        self.plus(Self { calls: 1, bad: u64::from(bad) })
    }

    #[inline]
    fn plus(self, other: Self) -> Self {
        Self { calls: self.calls + other.calls, bad: self.bad + other.bad }
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use crate::clock::Origin;
    use proptest::prelude::*;
    use std::time::Duration;
    use tokio::time::Instant;

    const LENGTH: Duration = Duration::from_millis(1600);
    const TICK: Duration = Duration::from_millis(100);

    /// A window of [`LENGTH`].
    struct Counted {
        window: Window,
        ticks: Ticks,
        origin: Origin,
    }

    impl Counted {
        fn record(&self, era: u32, failed: bool, now: Instant) {
            self.window.record(&self.ticks, era, failed, self.origin.to(now));
        }

        fn counts(&self, era: u32, now: Instant) -> Counts {
            self.window.counts(&self.ticks, era, self.origin.to(now))
        }
    }

    fn new() -> (Counted, Instant) {
        let origin = Instant::now();
        let counted = Counted { window: Window::default(), ticks: Ticks::new(LENGTH), origin: Origin::at(origin) };
        (counted, origin)
    }

    fn counts(calls: u64, bad: u64) -> Counts {
        Counts { calls, bad }
    }

    #[test]
    fn records_older_than_the_window_expire() {
        let (window, origin) = new();
        window.record(0, true, origin);
        window.record(0, false, origin + TICK);
        assert_eq!(window.counts(0, origin + 15 * TICK), counts(2, 1));
        assert_eq!(window.counts(0, origin + 17 * TICK), counts(0, 0));
        assert_eq!(window.counts(0, origin + Duration::from_secs(100_000)), counts(0, 0));
    }

    #[test]
    fn a_new_era_starts_empty_and_excludes_records_of_an_earlier_era() {
        let (window, origin) = new();
        for tick in 0..16 {
            window.record(0, true, origin + tick * TICK);
        }
        let now = origin + 15 * TICK;
        assert_eq!(window.counts(2, now), counts(0, 0));
        window.record(2, false, now);
        window.record(0, true, now);
        assert_eq!(window.counts(2, now), counts(1, 0));
    }

    #[test]
    fn more_calls_than_fit_a_bucket_are_all_counted_and_expire() {
        let (window, origin) = new();
        for call in 0..600_000u32 {
            window.record(0, call % 4 == 0, origin);
        }
        window.record(0, true, origin + TICK * 3 / 2);
        assert_eq!(window.counts(0, origin + TICK * 3 / 2), counts(600_001, 150_001));
        assert_eq!(window.counts(0, origin + 15 * TICK), counts(600_001, 150_001));
        assert_eq!(window.counts(0, origin + TICK * 33 / 2), counts(1, 1));
        assert_eq!(window.counts(1, origin + TICK * 3 / 2), counts(0, 0));
    }

    proptest! {
        #[test]
        fn it_counts_what_a_list_of_all_records_counts(
            steps in prop::collection::vec((0u64..400, any::<bool>(), 0u32..8), 1..200),
        ) {
            let (window, origin) = new();
            let (mut now, mut era) = (origin, 0);
            let mut log: Vec<(u64, u32, bool)> = Vec::new();
            for (millis, failed, change) in steps {
                now += Duration::from_millis(millis);
                era += u32::from(change == 0);
                window.record(era, failed, now);
                let tick = window.ticks.at(0, window.origin.to(now));
                log.push((tick, era, failed));
                let alive = log.iter().filter(|(at, of, _)| *of == era && tick - at < BUCKETS);
                let expected = alive.fold(Counts::default(), |sum, (_, _, failed)| sum.with(*failed));
                prop_assert_eq!(window.counts(era, now), expected);
            }
        }
    }
}
