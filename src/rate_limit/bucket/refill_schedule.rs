use crate::{
    clock::Nanos,
    rate_limit::{
        fixed_point_rate::FixedPointRate,
        quota::Quota,
        tokens::{Subtokens, Tokens},
    },
    sync::{AtomicU64, Ordering},
};
use std::time::Duration;

/// The binary digits of a rate after the point. A [`HORIZON`] is 2^40 ns, so it mints a whole number of subtokens. The
/// anchor of a [`RefillSchedule`] moves by whole horizons, so a move neither adds nor loses a fraction of a subtoken.
pub(super) const FRACTION: u32 = 40;
/// At most 2^14 subtokens are minted per nanosecond, so a horizon mints at most 2^54.
const MOST_LOG2: u32 = 14;
/// A burst has at most 2^55 subtokens.
const BURST_LOG2: u32 = 55;
/// About 18 minutes. After this time at its full rate, a schedule is rebased, so that its numbers stay small.
pub(super) const HORIZON: Nanos = Nanos(1 << FRACTION);

/// A cold bucket mints at a third of its rate: the cold factor of Guava's `SmoothWarmingUp`.
const COLD_FACTOR: u64 = 3;

/// Computes the subtokens minted by an instant: the contents of a bucket that has spent nothing.
///
/// These are `burst + rate * time since the anchor`. A schedule that warms up mints less between its `start` and its
/// `warm` instant. Its anchor is later than the start by the time that the lower rate costs. Once warm, it mints as if
/// it had begun at the anchor.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefillSchedule {
    pub(super) rate: FixedPointRate<FRACTION>,
    pub(super) burst: Tokens,
    pub(super) anchor: Nanos,
    /// The time from the anchor until the full rate is reached.
    pub(super) warm_after: Nanos,
    /// A third of the warm-up: the time from the start to the anchor. Zero if the schedule does not warm up.
    pub(super) warm_up_third: Nanos,
}

impl RefillSchedule {
    /// Makes the schedule of a checked quota, with the full rate from `anchor` on.
    pub(super) fn new(quota: Quota, anchor: Nanos) -> Self {
        let rate = FixedPointRate::new(quota, MOST_LOG2, BURST_LOG2);
        Self { rate, burst: Tokens(quota.burst()), anchor, warm_after: Nanos::ZERO, warm_up_third: Nanos::ZERO }
    }

    /// Returns this schedule, cold at `start`, and warm after three times `warm_up_third`.
    pub(super) fn warming_up(self, start: Nanos, warm_up_third: Nanos) -> Self {
        Self {
            anchor: start.saturating_add(warm_up_third),
            warm_after: warm_up_third.saturating_add(warm_up_third),
            warm_up_third,
            ..self
        }
    }

    /// Returns the subtokens that a cold bucket has spent: all but one token.
    pub(super) fn spent_when_cold(&self) -> Subtokens {
        self.rate.burst_subtokens.saturating_sub(self.rate.subtokens(Tokens(1)))
    }

    /// Returns when the schedule begins to mint.
    pub(super) fn start(&self) -> Nanos {
        self.anchor.saturating_sub(self.warm_up_third)
    }

    /// Returns when the schedule reaches its full rate.
    pub(super) fn warm(&self) -> Nanos {
        self.anchor.saturating_add(self.warm_after)
    }

    /// Returns the subtokens minted by `now`, rounded down. Never less for a later time.
    ///
    /// During the warm-up the rate grows from a third to the full rate. After a share `x` of the warm-up `W`, it is
    /// `(1 + 2x) / 3` of the full rate. The integral of that is `W x (1 + x) / 3`: the time in which the full rate
    /// mints as many subtokens.
    pub(super) fn minted(&self, now: Nanos) -> Subtokens {
        let since = now.saturating_sub(self.anchor);
        if since >= self.warm_after {
            return self.rate.burst_subtokens.saturating_add(self.rate.minted(since));
        }
        let warm_up = u128::from(self.warm_up_third.0) * u128::from(COLD_FACTOR);
        let elapsed = u128::from(now.saturating_sub(self.start()).0);
        // The time in which the full rate mints as many subtokens. In units of 2^-14 ns, less than 2^56. The rate is
        // less than 2^55, so the product fits.
        let equivalent =
            ((elapsed * (warm_up + elapsed)) << WARM_FRACTION) / (warm_up * u128::from(COLD_FACTOR)).max(1);
        let subtokens = (equivalent * u128::from(self.rate.subtokens_per_nano)) >> (FRACTION + WARM_FRACTION);
        self.rate.burst_subtokens.saturating_add(Subtokens(subtokens as u64))
    }

    /// Returns when `minted` subtokens will have been minted: the first instant for which [`minted`](Self::minted) is
    /// at least that, but not before the start.
    pub(super) fn due(&self, minted: Subtokens) -> Nanos {
        let linear =
            self.anchor.saturating_add(self.rate.time_to_mint(minted.saturating_sub(self.rate.burst_subtokens)));
        let warm = self.warm();
        if linear >= warm {
            return linear;
        }
        let (mut early, mut late) = (self.start().0, warm.0);
        while early < late {
            let middle = early + (late - early) / 2;
            if self.minted(Nanos(middle)) < minted { early = middle + 1 } else { late = middle }
        }
        Nanos(late)
    }

    /// Returns when a bucket that has spent this much will have been full for three times `warm_up_third`.
    pub(super) fn cold_after(&self, spent: Subtokens, warm_up_third: Nanos) -> Nanos {
        let warm_up = Nanos(warm_up_third.0.saturating_mul(COLD_FACTOR));
        self.due(spent.saturating_add(self.rate.burst_subtokens)).saturating_add(warm_up)
    }

    /// Returns this schedule with a later anchor: moved by whole horizons, to `now` at the latest. Also returns the
    /// subtokens minted between the two anchors, which the new schedule does not count. Returns the schedule unchanged
    /// until it has been warm for a horizon.
    pub(super) fn rebased_to(&self, now: Nanos) -> (Self, Subtokens) {
        if now.saturating_sub(self.warm()) < HORIZON {
            return (*self, Subtokens::ZERO);
        }
        let horizons = now.saturating_sub(self.anchor).0 / HORIZON.0;
        let anchor = self.anchor.saturating_add(Nanos(horizons.saturating_mul(HORIZON.0)));
        // A horizon mints 2^`FRACTION` times the rate: the integer `subtokens_per_nano`.
        let fewer = Subtokens(horizons.saturating_mul(self.rate.subtokens_per_nano));
        (Self { anchor, warm_after: Nanos::ZERO, warm_up_third: Nanos::ZERO, ..*self }, fewer)
    }

    /// Converts subtokens of this schedule to those of another, rounded down.
    pub(super) fn convert(&self, subtokens: Subtokens, other: &Self) -> Subtokens {
        let product = u128::from(subtokens.0) * u128::from(other.rate.subtokens_per_token);
        Subtokens(u64::try_from(product / u128::from(self.rate.subtokens_per_token.max(1))).unwrap_or(u64::MAX))
    }

    /// Converts like [`convert`](Self::convert), rounded up.
    pub(super) fn convert_up(&self, subtokens: Subtokens, other: &Self) -> Subtokens {
        let product = u128::from(subtokens.0) * u128::from(other.rate.subtokens_per_token);
        Subtokens(u64::try_from(product.div_ceil(u128::from(self.rate.subtokens_per_token.max(1)))).unwrap_or(u64::MAX))
    }
}

/// A third of a warm-up, rounded up.
pub(super) fn third_of(warm_up: Duration) -> Nanos {
    Nanos(Nanos::of(warm_up).0.div_ceil(COLD_FACTOR))
}

/// The longest warm-up. It is shorter than a horizon.
pub(super) const LONGEST_WARM_UP: Duration = Duration::from_secs(10 * 60);

/// For an instant in a warm-up, [`RefillSchedule::minted`] computes a time in nanoseconds. This is the number of its
/// binary digits after the point.
const WARM_FRACTION: u32 = 14;

/// A [`RefillSchedule`] that threads read while another thread overwrites it.
///
/// A thread loads the schedule that the bucket's word names. Another thread overwrites it only after the word names the
/// other schedule. The stores are releases and pair with the acquire loads. A thread that loads a field of the new
/// schedule therefore also sees the newer word, and discards what it loaded.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct SharedRefillSchedule {
    anchor: AtomicU64,
    warm_after: AtomicU64,
    subtokens_per_nano: AtomicU64,
    subtokens_per_token: AtomicU64,
    burst_subtokens: AtomicU64,
    burst: AtomicU64,
    warm_up_third: AtomicU64,
}

impl SharedRefillSchedule {
    pub(super) fn new(schedule: &RefillSchedule) -> Self {
        Self {
            anchor: AtomicU64::new(schedule.anchor.0),
            warm_after: AtomicU64::new(schedule.warm_after.0),
            subtokens_per_nano: AtomicU64::new(schedule.rate.subtokens_per_nano),
            subtokens_per_token: AtomicU64::new(schedule.rate.subtokens_per_token),
            burst_subtokens: AtomicU64::new(schedule.rate.burst_subtokens.0),
            burst: AtomicU64::new(schedule.burst.0),
            warm_up_third: AtomicU64::new(schedule.warm_up_third.0),
        }
    }

    /// Loads the anchor and the rate: all that a call without the lock needs.
    #[inline]
    pub(super) fn load_rate(&self) -> (Nanos, FixedPointRate<FRACTION>) {
        let rate = FixedPointRate {
            subtokens_per_nano: self.subtokens_per_nano.load(Ordering::Acquire),
            subtokens_per_token: self.subtokens_per_token.load(Ordering::Acquire),
            burst_subtokens: Subtokens(self.burst_subtokens.load(Ordering::Acquire)),
        };
        (Nanos(self.anchor.load(Ordering::Acquire)), rate)
    }

    pub(super) fn load(&self) -> RefillSchedule {
        let (anchor, rate) = self.load_rate();
        RefillSchedule {
            rate,
            burst: Tokens(self.burst.load(Ordering::Acquire)),
            anchor,
            warm_after: Nanos(self.warm_after.load(Ordering::Acquire)),
            warm_up_third: Nanos(self.warm_up_third.load(Ordering::Acquire)),
        }
    }

    pub(super) fn store(&self, schedule: &RefillSchedule) {
        self.anchor.store(schedule.anchor.0, Ordering::Release);
        self.warm_after.store(schedule.warm_after.0, Ordering::Release);
        self.subtokens_per_nano.store(schedule.rate.subtokens_per_nano, Ordering::Release);
        self.subtokens_per_token.store(schedule.rate.subtokens_per_token, Ordering::Release);
        self.burst_subtokens.store(schedule.rate.burst_subtokens.0, Ordering::Release);
        self.burst.store(schedule.burst.0, Ordering::Release);
        self.warm_up_third.store(schedule.warm_up_third.0, Ordering::Release);
    }
}
