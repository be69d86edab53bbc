use crate::{
    clock::Nanos,
    rate_limit::{Quota, tokens::Tokens},
};

/// A debt is repaid with two fifths of the rate.
const REPAID: (u128, u128) = (2, 5);

/// Fractions of a token of one level, which says how many of them are a token.
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

/// How full a bucket is with spent tokens: it drains at the rate of its quota, and admits up to the burst.
///
/// It admits what a token bucket does, with three differences. It keeps spent tokens, not the time at which they will
/// be back, so a new rate does not change the price of spent tokens. More than the burst can be owed. A clock that goes
/// back moves the time only.
///
/// Beside the level there may be a debt. It takes no room, but two fifths of the rate repay it, or all of the rate
/// while the level is zero. So a debt slows callers down and never locks them out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Level {
    level: Subtokens,
    debt: Subtokens,
    /// The time of level and debt.
    at: Nanos,
    /// The subtokens that drain in a nanosecond: the quota's count.
    rate: u64,
    /// The subtokens in a token: the nanoseconds of the quota's period.
    unit: u64,
}

impl Level {
    /// An empty bucket.
    pub(crate) fn empty(quota: &Quota, now: Nanos) -> Self {
        let unit = Nanos::of(quota.period()).0.max(1);
        Self { level: Subtokens(0), debt: Subtokens(0), at: now, rate: quota.count(), unit }
    }

    /// A bucket in which `tokens` were spent at `now`.
    pub(crate) fn of(quota: &Quota, tokens: Tokens, now: Nanos) -> Self {
        let empty = Self::empty(quota, now);
        Self { level: empty.in_parts(tokens), ..empty }
    }

    /// This level, with a debt of `tokens`.
    pub(crate) fn with_debt(self, tokens: Tokens) -> Self {
        Self { debt: self.in_parts(tokens), ..self }
    }

    /// When it was last drained.
    pub(crate) fn at(&self) -> Nanos {
        self.at
    }

    /// Drains what has drained by `now`, and continues at the rate of this quota.
    pub(crate) fn drain(&mut self, quota: &Quota, now: Nanos) {
        let drained = self.drains_in(now.saturating_sub(self.at)).0;
        // Exact too where the level or the debt reaches zero in between: the other then has the whole rate.
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

    /// The time at which it will be empty, if nothing is spent.
    pub(crate) fn empty_at(&self) -> Nanos {
        let wait = self.level.saturating_add(self.debt).0.div_ceil(u128::from(self.rate.max(1)));
        self.at.saturating_add(nanos(wait))
    }

    /// Begins to drain later, by the time in which these parts of a token drain.
    pub(crate) fn rest(&mut self, parts: Subtokens) {
        self.at = self.at.saturating_add(nanos(parts.0 / u128::from(self.rate.max(1))));
    }

    /// Adds spent tokens, up to `most` tokens in all.
    pub(crate) fn add(&mut self, tokens: Tokens, most: Tokens) {
        let sum = self.level.saturating_add(self.in_parts(tokens));
        // A level that is above the most already, by another quota, stays.
        self.level = sum.min(self.in_parts(most).max(self.level));
    }

    /// Adds spent tokens: to the level up to the burst, and the rest to the debt, up to `most` tokens in all.
    pub(crate) fn add_or_owe(&mut self, tokens: Tokens, quota: &Quota, most: Tokens) {
        let spent = self.in_parts(tokens);
        let room = self.in_parts(burst_of(quota)).saturating_sub(self.level).min(spent);
        self.level = self.level.saturating_add(room);
        let most = self.in_parts(most).saturating_sub(self.level);
        // A debt that is above the most already, by another charge, stays.
        self.debt = self.debt.saturating_add(spent.saturating_sub(room)).min(most.max(self.debt));
    }

    /// The tokens that are owed beside the level, rounded up.
    pub(crate) fn debt(&self) -> Tokens {
        tokens(self.debt.0.div_ceil(u128::from(self.unit.max(1))))
    }

    /// The parts of a token that have not drained.
    pub(crate) fn parts(&self) -> Subtokens {
        self.level
    }

    /// `tokens` in parts of one.
    pub(crate) fn in_parts(&self, tokens: Tokens) -> Subtokens {
        Subtokens(u128::from(tokens.0) * u128::from(self.unit))
    }

    /// The parts of a token that drain in a time.
    fn drains_in(&self, time: Nanos) -> Subtokens {
        Subtokens(u128::from(time.0) * u128::from(self.rate))
    }

    /// Adds parts of a token, up to any level.
    pub(crate) fn add_parts(&mut self, parts: Subtokens) {
        self.level = self.level.saturating_add(parts);
    }

    /// Takes back parts of a token.
    pub(crate) fn take_back_parts(&mut self, parts: Subtokens) {
        self.level = self.level.saturating_sub(parts);
    }

    /// Adds the least that drains of a level in a time, up to `most` tokens in all.
    pub(crate) fn add_what_drains_in(&mut self, time: Nanos, most: Tokens) {
        let Subtokens(drains) = self.drains_in(time);
        let (to_debt, of) = REPAID;
        let drains = if self.debt == Subtokens(0) { drains } else { drains / of * (of - to_debt) };
        self.level = self.level.saturating_add(Subtokens(drains)).min(self.in_parts(most));
    }

    /// Takes back tokens that were added `age` ago, less what has drained since. Had the addition met an empty bucket,
    /// nothing else would have drained in that time.
    pub(crate) fn take_back(&mut self, tokens: Tokens, age: Nanos) {
        self.take_back_of(self.in_parts(tokens), age);
    }

    /// Takes back parts of a token as [`take_back`](Self::take_back) does tokens.
    pub(crate) fn take_back_of(&mut self, added: Subtokens, age: Nanos) {
        self.level = self.level.saturating_sub(added.saturating_sub(self.drains_in(age)));
    }

    /// Raises the level to what is left of `tokens` after `age`.
    pub(crate) fn raise_to(&mut self, tokens: Tokens, age: Nanos) {
        self.level = self.level.max(self.in_parts(tokens).saturating_sub(self.drains_in(age)));
    }

    /// The tokens spent that have not drained, rounded up.
    pub(crate) fn tokens(&self) -> Tokens {
        tokens(self.level.0.div_ceil(u128::from(self.unit)))
    }

    /// The whole tokens for which there is room.
    pub(crate) fn room(&self, quota: &Quota) -> Tokens {
        burst_of(quota).saturating_sub(self.tokens())
    }

    /// Whether level and debt have drained by `now`.
    pub(crate) fn is_empty_at(&self, now: Nanos) -> bool {
        self.level.saturating_add(self.debt) <= self.drains_in(now.saturating_sub(self.at))
    }

    /// The time until there is room for `tokens`.
    pub(crate) fn until_room(&self, tokens: Tokens, quota: &Quota) -> Nanos {
        self.until_room_for_parts(self.in_parts(tokens), quota)
    }

    /// The time until there is room for these parts of a token.
    pub(crate) fn until_room_for_parts(&self, parts: Subtokens, quota: &Quota) -> Nanos {
        let allowed = self.in_parts(burst_of(quota)).saturating_sub(parts);
        let (excess, rate) = (self.level.saturating_sub(allowed).0, u128::from(self.rate.max(1)));
        let (to_debt, of) = REPAID;
        let to_level = of - to_debt;
        // Until the debt is repaid the level has a part of the rate, then all of it.
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
