//! Counts the tokens of a tier's keys, and converts them from one quota to the next.

use super::table::{UNIT, state_of};
use crate::{
    clock::Nanos,
    error::{ConfigError, RateLimited},
    rate_limit::{
        bucket::TokenBucket,
        fixed_point_rate::FixedPointRate,
        quota::Quota,
        tokens::{Subtokens, Tokens},
    },
    sync::{AtomicU64, Ordering},
};
use std::{fmt, time::Duration};

/// The binary digits of a rate after the point.
const FRACTION: u32 = 63;
/// At most one subtoken per nanosecond, so that a state of 58 bits counts for nine years before it wraps.
const MOST_LOG2: u32 = 0;
/// At most 2^55 subtokens in a burst.
const BURST_LOG2: u32 = 55;

/// The most tiers. The tag of a bucket has 7 bits for its tier, and 1 bit for which of the tier's two quotas counts it.
pub(super) const MOST_TIERS: usize = 128;

/// The longest time in which an empty bucket of a key may fill.
const LONGEST_TO_FILL: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Checks a quota of keys: valid for a token bucket, and a bucket fills within 366 days.
pub(super) fn check(quota: Quota) -> Result<(), ConfigError> {
    quota.check()?;
    if quota.time_to_fill() > LONGEST_TO_FILL {
        let rule = "must fill within 366 days if each key has a bucket";
        return Err(ConfigError::new("rate_limit.burst", quota.burst(), rule));
    }
    Ok(())
}

/// Checks the quotas of all tiers. If there are several tiers, an error names the tier.
pub(in crate::rate_limit) fn check_all(quotas: &[Quota]) -> Result<(), ConfigError> {
    quotas.iter().enumerate().try_for_each(|(tier, quota)| {
        check(*quota).map_err(|error| if quotas.len() > 1 { error.of(format_args!("in tier {tier}")) } else { error })
    })
}

/// Why a key gets no tokens.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyedRefusal {
    /// There are too few tokens, or the key has found no slot. The call may be admitted after this time.
    For(Nanos),
    /// The cost is above the burst.
    ForEver,
}

impl From<KeyedRefusal> for RateLimited {
    fn from(refusal: KeyedRefusal) -> Self {
        Self::new(match refusal {
            KeyedRefusal::For(wait) => Some(wait.duration()),
            KeyedRefusal::ForEver => None,
        })
    }
}

/// The subtokens that a bucket has minted by an instant: `full + rate * time`, modulo 2^58.
///
/// All buckets of a table count from one origin. The state of a bucket is the subtokens spent. Its contents are the
/// subtokens minted minus its state, mostly from 0 to 2^55. They are less than zero if a thread with a later clock took
/// tokens. They are up to 2^57 if no call took any for a long time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    fixed_point: FixedPointRate<FRACTION>,
}

impl Rate {
    pub(super) fn new(quota: Quota) -> Self {
        Self { fixed_point: FixedPointRate::new(quota, MOST_LOG2, BURST_LOG2) }
    }

    /// Returns the subtokens of a burst.
    #[inline]
    pub(super) fn full(&self) -> i64 {
        self.fixed_point.burst_subtokens.0 as i64
    }

    /// Returns the subtokens minted by `now`, shifted to the left by [`UNIT`] bits, as a state is.
    #[inline]
    fn minted(&self, now: Nanos) -> u64 {
        self.fixed_point.burst_subtokens.0.wrapping_add(self.fixed_point.minted(now).0) << UNIT
    }

    /// Returns the subtokens in a bucket at `now`, not bounded by the burst.
    #[inline]
    pub(super) fn left(&self, state: u64, now: Nanos) -> i64 {
        (self.minted(now).wrapping_sub(state) as i64) >> UNIT
    }

    /// Returns the state of a bucket that has `left` subtokens at `now`.
    #[inline]
    pub(super) fn state(&self, left: i64, now: Nanos) -> u64 {
        self.minted(now).wrapping_sub((left as u64) << UNIT)
    }

    /// Converts tokens to subtokens. Saturates at `i64::MAX`, which is above any burst.
    #[inline]
    pub(super) fn subtokens(&self, tokens: Tokens) -> i64 {
        self.fixed_point.subtokens(tokens).0.min(i64::MAX as u64) as i64
    }

    /// Converts subtokens to whole tokens, rounded down.
    pub(super) fn tokens(&self, subtokens: i64) -> Tokens {
        self.fixed_point.whole_tokens(Subtokens(subtokens.max(0) as u64))
    }

    /// Returns the time from `now` until `subtokens` more are minted.
    pub(super) fn time_until(&self, subtokens: i64, now: Nanos) -> Nanos {
        let minted = self.fixed_point.minted(now).saturating_add(Subtokens(subtokens.max(0) as u64));
        self.fixed_point.time_to_mint(minted).saturating_sub(now)
    }

    /// Returns the refusal of a cost above `left`, both in subtokens.
    #[inline(never)]
    fn refuse(&self, cost: i64, left: i64, now: Nanos) -> KeyedRefusal {
        match cost > self.full() {
            true => KeyedRefusal::ForEver,
            false => KeyedRefusal::For(self.time_until(cost.saturating_sub(left), now)),
        }
    }

    /// Returns the subtokens at `now` of a bucket that had `left` at `then`, not bounded by the burst. `then` is later
    /// than `now` only if the clocks of threads differ.
    pub(super) fn left_later(&self, left: i64, then: Nanos, now: Nanos) -> i64 {
        let minted = self.fixed_point.minted(now).0.wrapping_sub(self.fixed_point.minted(then).0) as i64;
        left.saturating_add(minted)
    }

    /// Converts subtokens of this rate to subtokens of another, rounded down. The result is at most one burst of the
    /// other rate, and a debt is at most one burst, too.
    pub(super) fn convert(&self, subtokens: i64, other: &Self) -> i64 {
        let wide = i128::from(subtokens) * i128::from(other.fixed_point.subtokens_per_token);
        let converted = wide.div_euclid(i128::from(self.fixed_point.subtokens_per_token.max(1)));
        // A key owes at most a burst, even if the clocks of threads differ by more.
        converted.clamp(-i128::from(other.full()), i128::from(other.full())) as i64
    }
}

/// A rate of a tier that threads read while another thread overwrites it.
///
/// The stores are releases and pair with the acquire loads. A rate is overwritten only after all its buckets were
/// converted, which gave each of them another version. A thread that loads a field of the new rate therefore also sees
/// those versions, and discards its result.
struct SharedRate {
    subtokens_per_nano: AtomicU64,
    subtokens_per_token: AtomicU64,
    burst_subtokens: AtomicU64,
    /// When the quota came into force, in nanoseconds since the table's origin.
    since: AtomicU64,
}

impl SharedRate {
    fn new(rate: Rate) -> Self {
        Self {
            subtokens_per_nano: AtomicU64::new(rate.fixed_point.subtokens_per_nano),
            subtokens_per_token: AtomicU64::new(rate.fixed_point.subtokens_per_token),
            burst_subtokens: AtomicU64::new(rate.fixed_point.burst_subtokens.0),
            since: AtomicU64::new(0),
        }
    }

    #[inline]
    fn load(&self) -> Rate {
        let fixed_point = FixedPointRate {
            subtokens_per_nano: self.subtokens_per_nano.load(Ordering::Acquire),
            subtokens_per_token: self.subtokens_per_token.load(Ordering::Acquire),
            burst_subtokens: Subtokens(self.burst_subtokens.load(Ordering::Acquire)),
        };
        Rate { fixed_point }
    }

    fn store(&self, rate: Rate, since: Nanos) {
        self.subtokens_per_nano.store(rate.fixed_point.subtokens_per_nano, Ordering::Release);
        self.subtokens_per_token.store(rate.fixed_point.subtokens_per_token, Ordering::Release);
        self.burst_subtokens.store(rate.fixed_point.burst_subtokens.0, Ordering::Release);
        self.since.store(since.0, Ordering::Release);
    }
}

/// The quota of a tier, and the bucket that its new keys share when no slot is free.
#[repr(align(128))]
pub(super) struct Tier {
    /// The index of the tier, times two. The lowest bit says which of its rates is in force.
    tag: AtomicU64,
    /// The rate in force, and the previous one, or the next one while it is written. A rate is overwritten only when no
    /// bucket has its tag.
    rates: [SharedRate; 2],
    /// The bucket that keys without a slot share. `None` if they are refused.
    overflow: Option<TokenBucket>,
}

impl Tier {
    pub(super) fn new(index: usize, quota: Quota, overflow: Option<TokenBucket>) -> Self {
        let rate = Rate::new(quota);
        let rates = [SharedRate::new(rate), SharedRate::new(rate)];
        Self { tag: AtomicU64::new((index as u64) << 1), rates, overflow }
    }

    /// Returns the tag of the rate in force.
    #[inline]
    pub(super) fn tag(&self) -> u64 {
        // The acquire pairs with the release in `change`: a thread that loads a tag also sees its rate.
        self.tag.load(Ordering::Acquire)
    }

    /// Returns the rate that a tag of this tier names. To count a bucket with it, the caller loads the bucket's word
    /// first. If the version in the word does not change after that, the rate was not overwritten.
    #[inline]
    pub(super) fn rate(&self, tag: u64) -> Rate {
        self.rates[(tag & 1) as usize].load()
    }

    /// Returns the state of a bucket with this tag after `tokens` are taken.
    #[inline]
    pub(super) fn take(&self, tag: u64, state: u64, tokens: Tokens, now: Nanos) -> Result<u64, KeyedRefusal> {
        // While another thread overwrites the rate, its numbers are arbitrary, and the arithmetic wraps. The bucket's
        // word has then changed, and the caller notices.
        let rate = self.rate(tag);
        let (cost, full) = (rate.subtokens(tokens), rate.full());
        let left = rate.left(state, now).min(full);
        if cost > left {
            return Err(rate.refuse(cost, left, now));
        }
        Ok(rate.state(left - cost, now))
    }

    pub(super) fn overflow(&self) -> Option<&TokenBucket> {
        self.overflow.as_ref()
    }

    /// Puts another quota in force. It overwrites the rate that is not in force, so no bucket may have the tag of that
    /// rate. All buckets with the old tag must be converted before the next change.
    pub(super) fn change(&self, quota: Quota, now: Nanos) {
        let tag = self.tag.load(Ordering::Acquire) ^ 1;
        self.rates[(tag & 1) as usize].store(Rate::new(quota), now);
        self.tag.store(tag, Ordering::Release);
    }

    /// Returns the subtokens above a burst that a bucket with this tag and word would hold at `now` if it had no bound.
    /// Less than zero while it is not full. Counts by the quota with the tag `in_force`. A bucket that was full when
    /// its quota changed is full by the new quota.
    pub(super) fn surplus(&self, in_force: u64, tag: u64, word: u64, now: Nanos) -> i64 {
        let (rate, state) = (self.rate(tag), state_of(word));
        if tag == in_force {
            return rate.left(state, now).saturating_sub(rate.full());
        }
        let next = self.rate(in_force);
        let since = Nanos(self.rates[(in_force & 1) as usize].since.load(Ordering::Acquire));
        let left = rate.left(state, since);
        let left = if left < rate.full() { rate.convert(left, &next) } else { next.full() };
        next.left_later(left, since, now).saturating_sub(next.full())
    }
}

impl fmt::Debug for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tier").field("tag", &self.tag()).finish_non_exhaustive()
    }
}
