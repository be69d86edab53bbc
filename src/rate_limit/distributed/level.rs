use crate::{
    clock::Nanos,
    rate_limit::{Quota, tokens::Tokens},
};

/// The part of the rate that repays a debt: two fifths.
const REPAID: (u128, u128) = (2, 5);

/// Parts of a token. The `unit` of each [`Level`] is the number of parts that make one token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subtokens(pub(crate) u128);

impl Subtokens {
    #[must_use]
    pub(crate) fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    #[must_use]
    pub(crate) fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// The number of spent tokens in a bucket. The level drains at the rate of the bucket's quota. The bucket admits a call
/// if the call's tokens fit between the level and the burst.
///
/// A `Level` differs from a [`TokenBucket`](crate::rate_limit::TokenBucket) in three points. It stores spent tokens,
/// not the time of the next refill, so a new rate does not change the price of spent tokens. More than the burst can be
/// owed. If the clock goes back, `at` goes back with the clock, and nothing drains or fills.
///
/// Beside the level there may be a debt. The debt takes no room below the burst, but two fifths of the rate repay it,
/// or the whole rate while the level is zero. A debt slows callers down and never locks them out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Level {
    level: Subtokens,
    debt: Subtokens,
    /// The time to which level and debt have drained.
    at: Nanos,
    /// The subtokens that drain in a nanosecond: the quota's count.
    rate: u64,
    /// The subtokens of one token: the nanoseconds of the quota's period.
    unit: u64,
}

impl Level {
    /// Returns an empty bucket.
    pub(crate) fn empty(quota: &Quota, now: Nanos) -> Self {
        let unit = Nanos::of(quota.period()).0.max(1);
        Self { level: Subtokens(0), debt: Subtokens(0), at: now, rate: quota.count(), unit }
    }

    /// Returns a bucket in which `tokens` were spent at `now`.
    pub(crate) fn of(quota: &Quota, tokens: Tokens, now: Nanos) -> Self {
        let empty = Self::empty(quota, now);
        Self { level: empty.in_parts(tokens), ..empty }
    }

    /// Returns this level with a debt of `tokens`.
    pub(crate) fn with_debt(self, tokens: Tokens) -> Self {
        Self { debt: self.in_parts(tokens), ..self }
    }

    /// Returns the time to which level and debt have drained. In a backlog it may be in the future.
    pub(crate) fn at(&self) -> Nanos {
        self.at
    }

    /// Drains up to `now` at the old rate, and then takes the rate of `quota`.
    pub(crate) fn drain(&mut self, quota: &Quota, now: Nanos) {
        let drained = self.drains_in(now.saturating_sub(self.at)).0;
        // The result is exact even if the debt or the level reaches zero in between. From then on the whole rate drains
        // what is left of the level, or of the debt.
        let repaid =
            self.debt.0.min(drained / REPAID.1 * REPAID.0 + (drained % REPAID.1 * REPAID.0).div_ceil(REPAID.1));
        let left = drained - repaid;
        self.debt.0 = (self.debt.0 - repaid).saturating_sub(left.saturating_sub(self.level.0));
        self.level.0 = self.level.0.saturating_sub(left);
        self.at = now;
        let Self { rate, unit, .. } = Self::empty(quota, now);
        if unit != self.unit {
            let (old, new) = (u128::from(self.unit), u128::from(unit));
            let convert = |Subtokens(parts)| {
                let (whole, part) = (parts / old, parts % old);
                Subtokens(whole.saturating_mul(new).saturating_add((part * new).div_ceil(old)))
            };
            (self.level, self.debt) = (convert(self.level), convert(self.debt));
        }
        (self.rate, self.unit) = (rate, unit);
    }

    /// Returns the time at which level and debt will be zero if nothing more is spent.
    pub(crate) fn empty_at(&self) -> Nanos {
        let wait = self.level.saturating_add(self.debt).0.div_ceil(u128::from(self.rate.max(1)));
        self.at.saturating_add(nanos(wait))
    }

    /// Delays the next drain by the time in which these parts of a token drain.
    pub(crate) fn rest(&mut self, parts: Subtokens) {
        self.at = self.at.saturating_add(nanos(parts.0 / u128::from(self.rate.max(1))));
    }

    /// Adds spent tokens. The level rises to `most` tokens at most. A level that was higher before stays.
    pub(crate) fn add(&mut self, tokens: Tokens, most: Tokens) {
        let sum = self.level.saturating_add(self.in_parts(tokens));
        // A level that another quota has raised above `most` stays.
        self.level = sum.min(self.in_parts(most).max(self.level));
    }

    /// Adds spent tokens: to the level up to the burst, and the rest to the debt. Both together rise to `most` tokens
    /// at most.
    pub(crate) fn add_or_owe(&mut self, tokens: Tokens, quota: &Quota, most: Tokens) {
        let spent = self.in_parts(tokens);
        let room = self.in_parts(burst_of(quota)).saturating_sub(self.level).min(spent);
        self.level = self.level.saturating_add(room);
        let most = self.in_parts(most).saturating_sub(self.level);
        // A debt that another charge has raised above `most` stays.
        self.debt = self.debt.saturating_add(spent.saturating_sub(room)).min(most.max(self.debt));
    }

    /// Returns the debt in tokens, rounded up.
    pub(crate) fn debt(&self) -> Tokens {
        tokens(self.debt.0.div_ceil(u128::from(self.unit.max(1))))
    }

    /// Returns the level in parts of a token.
    pub(crate) fn parts(&self) -> Subtokens {
        self.level
    }

    /// Converts `tokens` to parts of a token.
    pub(crate) fn in_parts(&self, tokens: Tokens) -> Subtokens {
        Subtokens(u128::from(tokens.0) * u128::from(self.unit))
    }

    /// Returns the parts of a token that drain in `time`.
    fn drains_in(&self, time: Nanos) -> Subtokens {
        Subtokens(u128::from(time.0) * u128::from(self.rate))
    }

    /// Adds parts of a token, without an upper bound.
    pub(crate) fn add_parts(&mut self, parts: Subtokens) {
        self.level = self.level.saturating_add(parts);
    }

    /// Takes back parts of a token.
    pub(crate) fn take_back_parts(&mut self, parts: Subtokens) {
        self.level = self.level.saturating_sub(parts);
    }

    /// Raises the level by the least that drains from it in `time`. Without a debt, that is all that the rate gives in
    /// `time`. With a debt, it is three fifths of it. The level rises to `most` tokens at most.
    pub(crate) fn add_what_drains_in(&mut self, time: Nanos, most: Tokens) {
        let Subtokens(drains) = self.drains_in(time);
        let (to_debt, of) = REPAID;
        let drains = if self.debt == Subtokens(0) { drains } else { drains / of * (of - to_debt) };
        self.level = self.level.saturating_add(Subtokens(drains)).min(self.in_parts(most));
    }

    /// Takes back tokens that were added `age` ago, less all that has drained since. This is exact if the bucket was
    /// empty when they were added, and has had no debt since. Otherwise the rate also drained older tokens or repaid a
    /// debt, and too few are taken back.
    pub(crate) fn take_back(&mut self, tokens: Tokens, age: Nanos) {
        self.take_back_of(self.in_parts(tokens), age);
    }

    /// Takes back parts of a token, as [`take_back`](Self::take_back) takes back tokens.
    pub(crate) fn take_back_of(&mut self, added: Subtokens, age: Nanos) {
        self.level = self.level.saturating_sub(added.saturating_sub(self.drains_in(age)));
    }

    /// Raises the level to the part of `tokens` that is left after `age`. A higher level stays.
    pub(crate) fn raise_to(&mut self, tokens: Tokens, age: Nanos) {
        self.level = self.level.max(self.in_parts(tokens).saturating_sub(self.drains_in(age)));
    }

    /// Returns the spent tokens that have not drained, rounded up.
    pub(crate) fn tokens(&self) -> Tokens {
        tokens(self.level.0.div_ceil(u128::from(self.unit)))
    }

    /// Returns the whole tokens that fit below the burst.
    pub(crate) fn room(&self, quota: &Quota) -> Tokens {
        burst_of(quota).saturating_sub(self.tokens())
    }

    /// Returns whether level and debt have drained by `now`.
    pub(crate) fn is_empty_at(&self, now: Nanos) -> bool {
        self.level.saturating_add(self.debt) <= self.drains_in(now.saturating_sub(self.at))
    }

    /// Returns the time until `tokens` fit below the burst.
    pub(crate) fn until_room(&self, tokens: Tokens, quota: &Quota) -> Nanos {
        self.until_room_for_parts(self.in_parts(tokens), quota)
    }

    /// Returns the time until these parts of a token fit below the burst.
    pub(crate) fn until_room_for_parts(&self, parts: Subtokens, quota: &Quota) -> Nanos {
        let allowed = self.in_parts(burst_of(quota)).saturating_sub(parts);
        let (excess, rate) = (self.level.saturating_sub(allowed).0, u128::from(self.rate.max(1)));
        let (to_debt, of) = REPAID;
        let to_level = of - to_debt;
        // The level drains at a part of the rate until the debt is repaid, then at the whole rate.
        let wait = if excess.saturating_mul(to_debt) <= self.debt.0.saturating_mul(to_level) {
            excess.saturating_mul(of).div_ceil(rate.saturating_mul(to_level))
        } else {
            excess.saturating_add(self.debt.0).div_ceil(rate)
        };
        nanos(wait)
    }
}

fn nanos(nanos: u128) -> Nanos {
    Nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn tokens(tokens: u128) -> Tokens {
    Tokens(u64::try_from(tokens).unwrap_or(u64::MAX))
}

fn burst_of(quota: &Quota) -> Tokens {
    Tokens(quota.burst())
}
