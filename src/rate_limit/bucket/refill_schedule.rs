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

/// Binary digits of a rate after the point. They are also those of the horizon, so that an anchor which moves on by
/// whole horizons takes nothing with it and loses nothing.
pub(super) const FRACTION: u32 = 40;
/// At most 2^14 parts per nanosecond, so that a horizon mints at most 2^54 of them; a burst has at most 2^55.
const MOST_LOG2: u32 = 14;
const FULL_LOG2: u32 = 55;
/// For this long (18 minutes) from its anchor on, a plan is computed in 64 bits.
pub(super) const HORIZON: Nanos = Nanos(1 << FRACTION);

/// A bucket that warms up mints at a third of its rate when it is cold: the cold factor of Guava's `SmoothWarmingUp`.
const COLD_FACTOR: u64 = 3;

/// How many parts of a token a bucket has minted by now: what it holds if nothing was spent.
///
/// From the anchor on, `full + rate * time`. A plan that warms up mints less from its `start` to its `warm` instant;
/// its anchor is as much later than the start as that costs, so that it then goes on as if it had begun at the anchor.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefillSchedule {
    pub(super) rate: FixedPointRate<FRACTION>,
    pub(super) burst: Tokens,
    pub(super) anchor: Nanos,
    /// The time after the anchor at which the rate is reached.
    pub(super) warm_after: Nanos,
    /// A third of the warm-up: what was before the anchor of a plan that warms up. Zero for one that does not.
    pub(super) third: Nanos,
}

impl RefillSchedule {
    /// A plan by a checked quota that is at its rate from `anchor` on.
    pub(super) fn new(quota: Quota, anchor: Nanos) -> Self {
        let rate = FixedPointRate::new(quota, MOST_LOG2, FULL_LOG2);
        Self { rate, burst: Tokens(quota.burst()), anchor, warm_after: Nanos::ZERO, third: Nanos::ZERO }
    }

    /// The same, cold at `start`, and warm after three times a `third` of a warm-up.
    pub(super) fn warming_up(self, start: Nanos, third: Nanos) -> Self {
        Self { anchor: start.saturating_add(third), warm_after: third.saturating_add(third), third, ..self }
    }

    /// The parts spent of a bucket that is cold: all but one token.
    pub(super) fn spent_when_cold(&self) -> Subtokens {
        self.rate.full.saturating_sub(self.rate.subtokens(Tokens(1)))
    }

    /// Where it begins to mint.
    pub(super) fn start(&self) -> Nanos {
        self.anchor.saturating_sub(self.third)
    }

    /// Where it mints at its rate.
    pub(super) fn warm(&self) -> Nanos {
        self.anchor.saturating_add(self.warm_after)
    }

    /// The parts minted by `now`, rounded down: never less at a later time.
    ///
    /// While it warms up the rate grows from a third to the whole. After a share `x` of the warm-up `W` the tokens of
    /// `W x (1 + x) / 3` at the full rate have been minted, which is the integral of `(1 + 2x) / 3`.
    pub(super) fn minted(&self, now: Nanos) -> Subtokens {
        let since = now.saturating_sub(self.anchor);
        if since >= self.warm_after {
            return self.rate.full.saturating_add(self.rate.minted(since));
        }
        let warm_up = u128::from(self.third.0) * u128::from(COLD_FACTOR);
        let elapsed = u128::from(now.saturating_sub(self.start()).0);
        // In 2^-14 ns: less than 2^56 of them, and the rate has less than 2^55.
        let equivalent =
            ((elapsed * (warm_up + elapsed)) << WARM_FRACTION) / (warm_up * u128::from(COLD_FACTOR)).max(1);
        let subtokens = (equivalent * u128::from(self.rate.subtokens_per_nano)) >> (FRACTION + WARM_FRACTION);
        self.rate.full.saturating_add(Subtokens(subtokens as u64))
    }

    /// When `minted` parts will have been minted: the first instant at which [`minted`](Self::minted) says so, or the
    /// origin where that was before.
    pub(super) fn due(&self, minted: Subtokens) -> Nanos {
        let linear = self.anchor.saturating_add(self.rate.time_to_mint(minted.saturating_sub(self.rate.full)));
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

    /// When a bucket that has spent this much will have been full for three times a `third` of a warm-up.
    pub(super) fn cold_after(&self, spent: Subtokens, third: Nanos) -> Nanos {
        let warm_up = Nanos(third.0.saturating_mul(COLD_FACTOR));
        self.due(spent.saturating_add(self.rate.full)).saturating_add(warm_up)
    }

    /// The same plan with its anchor moved on by whole horizons to the last one before `now`, and how many parts fewer
    /// it then says have been minted: exactly as many as were minted in between. Not before it has been warm for one.
    pub(super) fn rebased_to(&self, now: Nanos) -> (Self, Subtokens) {
        if now.saturating_sub(self.warm()) < HORIZON {
            return (*self, Subtokens::ZERO);
        }
        let horizons = now.saturating_sub(self.anchor).0 / HORIZON.0;
        let anchor = self.anchor.saturating_add(Nanos(horizons.saturating_mul(HORIZON.0)));
        // A horizon mints its rate without the point.
        let fewer = Subtokens(horizons.saturating_mul(self.rate.subtokens_per_nano));
        (Self { anchor, warm_after: Nanos::ZERO, third: Nanos::ZERO, ..*self }, fewer)
    }

    /// These parts by this plan as parts by another, rounded down.
    pub(super) fn convert(&self, subtokens: Subtokens, other: &Self) -> Subtokens {
        let product = u128::from(subtokens.0) * u128::from(other.rate.subtokens_per_token);
        Subtokens(u64::try_from(product / u128::from(self.rate.subtokens_per_token.max(1))).unwrap_or(u64::MAX))
    }

    /// As [`convert`](Self::convert), rounded up.
    pub(super) fn convert_up(&self, subtokens: Subtokens, other: &Self) -> Subtokens {
        let product = u128::from(subtokens.0) * u128::from(other.rate.subtokens_per_token);
        Subtokens(u64::try_from(product.div_ceil(u128::from(self.rate.subtokens_per_token.max(1)))).unwrap_or(u64::MAX))
    }
}

/// A third of a warm-up, rounded up.
pub(super) fn third_of(warm_up: Duration) -> Nanos {
    Nanos(Nanos::of(warm_up).0.div_ceil(COLD_FACTOR))
}

/// The longest warm-up: shorter than a horizon, by far.
pub(super) const LONGEST_WARM_UP: Duration = Duration::from_secs(10 * 60);

/// Binary digits of a nanosecond while a plan warms up.
const WARM_FRACTION: u32 = 14;

/// A [`RefillSchedule`] that threads read while another writes the next one.
///
/// Relaxed stores would do for the values; they are releases, and the loads acquires, so that a thread which saw a part
/// of a plan also sees that the word which named its predecessor is out of date.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct SharedRefillSchedule {
    anchor: AtomicU64,
    warm_after: AtomicU64,
    subtokens_per_nano: AtomicU64,
    subtokens_per_token: AtomicU64,
    full: AtomicU64,
    burst: AtomicU64,
    third: AtomicU64,
}

impl SharedRefillSchedule {
    pub(super) fn new(schedule: &RefillSchedule) -> Self {
        Self {
            anchor: AtomicU64::new(schedule.anchor.0),
            warm_after: AtomicU64::new(schedule.warm_after.0),
            subtokens_per_nano: AtomicU64::new(schedule.rate.subtokens_per_nano),
            subtokens_per_token: AtomicU64::new(schedule.rate.subtokens_per_token),
            full: AtomicU64::new(schedule.rate.full.0),
            burst: AtomicU64::new(schedule.burst.0),
            third: AtomicU64::new(schedule.third.0),
        }
    }

    /// The anchor and the scale: all that counts while nothing warms up.
    #[inline]
    pub(super) fn load_rate(&self) -> (Nanos, FixedPointRate<FRACTION>) {
        let rate = FixedPointRate {
            subtokens_per_nano: self.subtokens_per_nano.load(Ordering::Acquire),
            subtokens_per_token: self.subtokens_per_token.load(Ordering::Acquire),
            full: Subtokens(self.full.load(Ordering::Acquire)),
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
            third: Nanos(self.third.load(Ordering::Acquire)),
        }
    }

    pub(super) fn store(&self, schedule: &RefillSchedule) {
        self.anchor.store(schedule.anchor.0, Ordering::Release);
        self.warm_after.store(schedule.warm_after.0, Ordering::Release);
        self.subtokens_per_nano.store(schedule.rate.subtokens_per_nano, Ordering::Release);
        self.subtokens_per_token.store(schedule.rate.subtokens_per_token, Ordering::Release);
        self.full.store(schedule.rate.full.0, Ordering::Release);
        self.burst.store(schedule.burst.0, Ordering::Release);
        self.third.store(schedule.third.0, Ordering::Release);
    }
}
