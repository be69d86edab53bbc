use super::service::Refusal;
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use tokio::time::Instant;

/// A word that several threads write, on a cache line of its own to prevent false sharing.
#[repr(align(64))]
#[derive(Default)]
pub(super) struct Line<T>(pub(super) T);

/// GCRA, the generic cell rate algorithm: stores the time at which the bucket is full again.
#[derive(Default)]
pub struct Gcra(AtomicU64);

/// One token per nanosecond, with a burst of four seconds' worth.
const INTERVAL: u64 = 1;
const TOLERANCE: u64 = 4_000_000_000;

impl Gcra {
    /// Creates a bucket without a token before `nanos`.
    pub fn empty_until(nanos: u64) -> Self {
        Self(AtomicU64::new(nanos + TOLERANCE))
    }

    /// Takes one token, or returns the nanoseconds to wait.
    #[inline(always)]
    pub fn acquire(&self, now: u64) -> Result<(), u64> {
        let mut full = self.0.load(Relaxed);
        loop {
            if full > now + TOLERANCE {
                return Err(full - now - TOLERANCE);
            }
            match self.0.compare_exchange_weak(full, full.max(now) + INTERVAL, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(newer) => full = newer,
            }
        }
    }
}

/// A sliding window of sixteen buckets of half a second. Each bucket is one word: a tick, the calls and the failures.
#[derive(Default)]
struct Window([AtomicU64; 16]);

const TICK_SHIFT: u32 = 29;
const CALL: u64 = 1 << 18;

impl Window {
    #[inline(always)]
    fn record(&self, now: u64, failed: bool) {
        let tick = now >> TICK_SHIFT;
        let bucket = &self.0[tick as usize % 16];
        let mut word = bucket.load(Relaxed);
        loop {
            let counts = if word >> 36 == tick { word } else { tick << 36 };
            // A full bucket is halved, which keeps its failure rate and the cost of a call.
            let counts = if counts >> 18 & (CALL - 1) == CALL - 1 { halved(counts) } else { counts };
            match bucket.compare_exchange_weak(word, counts + CALL + u64::from(failed), Relaxed, Relaxed) {
                Ok(_) => return,
                Err(newer) => word = newer,
            }
        }
    }

    #[cold]
    fn fails(&self, now: u64) -> bool {
        let tick = now >> TICK_SHIFT;
        let recent = self.0.iter().map(|bucket| bucket.load(Relaxed)).filter(|word| tick - (word >> 36).min(tick) < 16);
        let (calls, failures) = recent.fold((0, 0), |(calls, failures), word| {
            (calls + (word >> 18 & (CALL - 1)), failures + (word & (CALL - 1)))
        });
        calls >= 20 && failures * 2 >= calls
    }
}

/// Returns the same tick with half of its calls and failures.
#[cold]
fn halved(word: u64) -> u64 {
    word >> 36 << 36 | (word >> 19 & (CALL - 1) >> 1) << 18 | (word & (CALL - 1)) >> 1
}

/// The state that all calls share.
pub(super) struct Mechanisms {
    origin: Instant,
    pub(super) limit: Duration,
    /// The attempt timeout.
    pub(super) attempt_limit: Duration,
    /// When the circuit closes again, in nanoseconds since the origin. Written when the circuit opens and closes.
    open_until: AtomicU64,
    /// The balance of retries, in thousandths. Not written while it is full.
    pub(super) budget: AtomicU64,
    rate: Line<Gcra>,
    pub(super) in_flight: Line<AtomicU64>,
    window: Line<Window>,
}

pub(super) const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(50);
const LIMIT: u64 = 1024;
const OPEN_FOR: u64 = 5_000_000_000;
const FULL_BUDGET: u64 = 10_000;
const DEPOSIT: u64 = 100;
const RETRY: u64 = 1_000;

impl Mechanisms {
    pub(super) fn new(limit: Duration, attempt_limit: Duration) -> Self {
        Self {
            origin: Instant::now(),
            limit,
            attempt_limit,
            open_until: AtomicU64::new(0),
            budget: AtomicU64::new(FULL_BUDGET),
            rate: Line::default(),
            in_flight: Line::default(),
            window: Line::default(),
        }
    }

    #[inline(always)]
    fn nanos(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        since.as_secs() * 1_000_000_000 + u64::from(since.subsec_nanos())
    }

    #[inline(always)]
    pub(super) fn admit(&self, now: Instant) -> Result<(), Refusal> {
        let nanos = self.nanos(now);
        let open_until = self.open_until.load(Relaxed);
        if open_until != 0 {
            self.admit_probe(open_until, nanos)?;
        }
        self.rate.0.acquire(nanos).map_err(|_| Refusal::RateLimited)?;
        let mut in_flight = self.in_flight.0.load(Relaxed);
        loop {
            if in_flight >= LIMIT {
                return Err(Refusal::Overloaded);
            }
            match self.in_flight.0.compare_exchange_weak(in_flight, in_flight + 1, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(newer) => in_flight = newer,
            }
        }
    }

    /// Records that the call has ended.
    #[inline(always)]
    pub(super) fn leave(&self) {
        self.in_flight.0.fetch_sub(1, Relaxed);
    }

    /// Lets one call pass as a probe each time that the open time has passed.
    #[cold]
    fn admit_probe(&self, open_until: u64, now: u64) -> Result<(), Refusal> {
        let next = self.open_until.compare_exchange(open_until, now + OPEN_FOR, Relaxed, Relaxed);
        if now < open_until || next.is_err() { Err(Refusal::CircuitOpen) } else { Ok(()) }
    }

    #[inline(always)]
    pub(super) fn succeeded(&self, now: Instant) {
        self.window.0.record(self.nanos(now), false);
        if self.open_until.load(Relaxed) != 0 {
            self.open_until.store(0, Relaxed);
        }
        let mut budget = self.budget.load(Relaxed);
        while budget < FULL_BUDGET {
            let more = (budget + DEPOSIT).min(FULL_BUDGET);
            match self.budget.compare_exchange_weak(budget, more, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(newer) => budget = newer,
            }
        }
    }

    /// Records a failed attempt. Returns when the next attempt is due, if there is one.
    #[cold]
    pub(super) fn again(&self, now: Instant, deadline: Option<Instant>, attempts: u32) -> Option<Instant> {
        let until = now + PAUSE;
        let in_time = deadline.is_some_and(|deadline| until < deadline);
        (self.failed(now) && in_time && attempts < ATTEMPTS).then_some(until)
    }

    /// Records a failure. Returns whether the budget has a retry.
    #[cold]
    pub(super) fn failed(&self, now: Instant) -> bool {
        let nanos = self.nanos(now);
        self.window.0.record(nanos, true);
        if self.window.0.fails(nanos) {
            self.open_until.store(nanos + OPEN_FOR, Relaxed);
        }
        self.budget.fetch_update(Relaxed, Relaxed, |budget| budget.checked_sub(RETRY)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_bucket_goes_on_counting_and_keeps_the_share_of_its_failures() {
        let window = Window::default();
        for call in 0..CALL - 1 {
            window.record(7, call % 4 == 0);
        }
        let full = window.0[0].load(Relaxed);
        assert_eq!((full >> 18, full & (CALL - 1)), (CALL - 1, CALL / 4));
        window.record(7, false);
        let half = window.0[0].load(Relaxed);
        assert_eq!((half >> 18, half & (CALL - 1)), (CALL / 2, CALL / 8));
        assert!(!window.fails(7));
        for _ in 0..CALL - 1 {
            window.record(7, true);
        }
        assert!(window.fails(7));
    }

    #[test]
    fn the_rate_by_hand_refuses_and_says_how_long_to_wait() {
        let rate = Gcra(AtomicU64::new(TOLERANCE));
        assert_eq!(rate.acquire(0), Ok(()));
        assert_eq!(rate.acquire(0), Err(1));
        assert_eq!(rate.acquire(1), Ok(()));
    }
}
