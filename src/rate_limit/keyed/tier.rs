//! What the keys of a tier are counted by, and the change from one quota to the next.

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

/// At most one part per nanosecond, so that a state counts them for nine years before it wraps.
const FRACTION: u32 = 63;
const MOST_LOG2: u32 = 0;
const FULL_LOG2: u32 = 55;

/// As many as fit into a tag beside the generation of the quota.
pub(super) const MOST_TIERS: usize = 128;

const LONGEST_TO_FILL: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A quota of keys: as that of a bucket, but for a burst that fills in a year.
pub(super) fn check(quota: Quota) -> Result<(), ConfigError> {
    quota.check()?;
    if quota.time_to_fill() > LONGEST_TO_FILL {
        let rule = "must fill within 366 days where each key has a bucket";
        return Err(ConfigError::new("rate_limit.burst", quota.burst(), rule));
    }
    Ok(())
}

/// The quotas of all tiers. An error names the tier, where there are several.
pub(in crate::rate_limit) fn check_all(quotas: &[Quota]) -> Result<(), ConfigError> {
    quotas.iter().enumerate().try_for_each(|(tier, quota)| {
        check(*quota).map_err(|error| if quotas.len() > 1 { error.of(format_args!("in tier {tier}")) } else { error })
    })
}

/// Why there are no tokens, and the time until there are.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyedRefusal {
    For(Nanos),
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

/// How many parts of a token a bucket has minted by now: `full + rate * time`, modulo 2^58.
///
/// All buckets of a table count from one origin. What a bucket holds is the difference to its state, which is what was
/// spent: up to 2^55 parts; less than nothing, if a thread with a later clock took them; or up to 2^57, and no more,
/// where no call took any for long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    fixed_point: FixedPointRate<FRACTION>,
}

impl Rate {
    pub(super) fn new(quota: Quota) -> Self {
        Self { fixed_point: FixedPointRate::new(quota, MOST_LOG2, FULL_LOG2) }
    }

    /// The parts of a burst.
    #[inline]
    pub(super) fn full(&self) -> i64 {
        self.fixed_point.full.0 as i64
    }

    #[inline]
    fn minted(&self, now: Nanos) -> u64 {
        self.fixed_point.full.0.wrapping_add(self.fixed_point.minted(now).0) << UNIT
    }

    /// What a bucket holds at this time in parts, or would if it held more than a burst.
    #[inline]
    pub(super) fn left(&self, state: u64, now: Nanos) -> i64 {
        (self.minted(now).wrapping_sub(state) as i64) >> UNIT
    }

    /// The state of a bucket that has `left` parts at this time.
    #[inline]
    pub(super) fn state(&self, left: i64, now: Nanos) -> u64 {
        self.minted(now).wrapping_sub((left as u64) << UNIT)
    }

    /// All parts of these tokens, or more than a burst if they are more than that.
    #[inline]
    pub(super) fn subtokens(&self, tokens: Tokens) -> i64 {
        self.fixed_point.subtokens(tokens).0.min(i64::MAX as u64) as i64
    }

    /// The whole tokens in these parts.
    pub(super) fn tokens(&self, subtokens: i64) -> Tokens {
        self.fixed_point.whole_tokens(Subtokens(subtokens.max(0) as u64))
    }

    /// The time from `now` on in which `parts` more are minted.
    pub(super) fn time_until(&self, subtokens: i64, now: Nanos) -> Nanos {
        let minted = self.fixed_point.minted(now).saturating_add(Subtokens(subtokens.max(0) as u64));
        self.fixed_point.time_to_mint(minted).saturating_sub(now)
    }

    /// Why a cost that is above what is left, in parts, is refused.
    #[inline(never)]
    fn refuse(&self, cost: i64, left: i64, now: Nanos) -> KeyedRefusal {
        match cost > self.full() {
            true => KeyedRefusal::ForEver,
            false => KeyedRefusal::For(self.time_until(cost.saturating_sub(left), now)),
        }
    }

    /// The parts at `now` of a bucket that had `left` at an earlier time.
    pub(super) fn left_later(&self, left: i64, then: Nanos, now: Nanos) -> i64 {
        let minted = self.fixed_point.minted(now).0.wrapping_sub(self.fixed_point.minted(then).0) as i64;
        left.saturating_add(minted)
    }

    /// These parts by this rate in parts by another: rounded down, and at most a burst.
    pub(super) fn convert(&self, subtokens: i64, other: &Self) -> i64 {
        let wide = i128::from(subtokens) * i128::from(other.fixed_point.subtokens_per_token);
        let converted = wide.div_euclid(i128::from(self.fixed_point.subtokens_per_token.max(1)));
        // No key owes more than a burst's worth of time, whatever the clocks say.
        converted.clamp(-i128::from(other.full()), i128::from(other.full())) as i64
    }
}

/// A quota of a tier that threads read while another writes the next one.
///
/// The loads are acquires and the stores releases, so that a thread which saw a part of a rate also sees that all
/// buckets which its predecessor counted have another version by now.
struct SharedRate {
    subtokens_per_nano: AtomicU64,
    subtokens_per_token: AtomicU64,
    full: AtomicU64,
    /// Since when it has been in force, in nanoseconds since the table's origin.
    since: AtomicU64,
}

impl SharedRate {
    fn new(rate: Rate) -> Self {
        Self {
            subtokens_per_nano: AtomicU64::new(rate.fixed_point.subtokens_per_nano),
            subtokens_per_token: AtomicU64::new(rate.fixed_point.subtokens_per_token),
            full: AtomicU64::new(rate.fixed_point.full.0),
            since: AtomicU64::new(0),
        }
    }

    #[inline]
    fn load(&self) -> Rate {
        let fixed_point = FixedPointRate {
            subtokens_per_nano: self.subtokens_per_nano.load(Ordering::Acquire),
            subtokens_per_token: self.subtokens_per_token.load(Ordering::Acquire),
            full: Subtokens(self.full.load(Ordering::Acquire)),
        };
        Rate { fixed_point }
    }

    fn store(&self, rate: Rate, since: Nanos) {
        self.subtokens_per_nano.store(rate.fixed_point.subtokens_per_nano, Ordering::Release);
        self.subtokens_per_token.store(rate.fixed_point.subtokens_per_token, Ordering::Release);
        self.full.store(rate.fixed_point.full.0, Ordering::Release);
        self.since.store(since.0, Ordering::Release);
    }
}

/// What the keys of a tier are counted by.
#[repr(align(128))]
pub(super) struct Tier {
    /// Of the tier, times two, and in the lowest bit which of its quotas is in force.
    tag: AtomicU64,
    /// The quota in force and the one before or after. One is written only when no bucket has its tag.
    rates: [SharedRate; 2],
    /// The bucket that newcomers without a slot share, if they are not refused.
    overflow: Option<TokenBucket>,
}

impl Tier {
    pub(super) fn new(index: usize, quota: Quota, overflow: Option<TokenBucket>) -> Self {
        let rate = Rate::new(quota);
        let rates = [SharedRate::new(rate), SharedRate::new(rate)];
        Self { tag: AtomicU64::new((index as u64) << 1), rates, overflow }
    }

    /// The tag of those that are counted by the quota in force.
    #[inline]
    pub(super) fn tag(&self) -> u64 {
        // Pairs with the release in `change`: a thread that sees a tag sees its rate.
        self.tag.load(Ordering::Acquire)
    }

    /// The rate by which those of a tag of this tier are counted, if it is loaded after their word.
    #[inline]
    pub(super) fn rate(&self, tag: u64) -> Rate {
        self.rates[(tag & 1) as usize].load()
    }

    /// The state of a bucket with this tag after it gave `tokens`.
    #[inline]
    pub(super) fn take(&self, tag: u64, state: u64, tokens: Tokens, now: Nanos) -> Result<u64, KeyedRefusal> {
        // A rate that is being overwritten is any numbers, and the arithmetic wraps. The word then shows it.
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

    /// Puts another quota in force. No bucket may have the tag of the one before this one; all that have the tag of
    /// this one are to be converted before the next change.
    pub(super) fn change(&self, quota: Quota, now: Nanos) {
        let tag = self.tag.load(Ordering::Acquire) ^ 1;
        self.rates[(tag & 1) as usize].store(Rate::new(quota), now);
        self.tag.store(tag, Ordering::Release);
    }

    /// How many parts more than a burst the bucket with this tag of this tier, and this word, would hold at this time,
    /// by the quota whose tag was seen in force, if it went on for ever; less than zero while it is not full. One that
    /// was full when its quota was changed is full by the next.
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
