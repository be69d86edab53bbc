use super::store::{Charge, Charged};
use crate::{clock, rate_limit::Quota};
use std::{collections::VecDeque, time::Duration};

/// How full a bucket is with what was spent: it drains at the rate of its quota, and admits up to the burst.
///
/// It admits exactly what a token bucket does. But what was spent is kept as tokens, not as the time at which they will be
/// back: so a new rate does not change the price of what is owed, more than the burst can be owed, and a clock that goes
/// back moves the time only.
///
/// Beside the level there may be a debt. It takes no room, but two fifths of the rate repay it, or all of the rate while the
/// level is zero. So a debt slows callers down and never locks them out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Level {
    /// In parts of a token, `unit` of them in one.
    parts: u128,
    /// In parts of a token too.
    debt: u128,
    /// When it was so, in nanoseconds.
    at: u64,
    /// The parts that drain in a nanosecond, and that are a token: `count` and `period` of the quota.
    rate: u64,
    unit: u64,
}

impl Level {
    /// An empty bucket.
    pub(super) fn empty(quota: &Quota, now: u64) -> Self {
        Self { parts: 0, debt: 0, at: now, rate: quota.count(), unit: clock::nanos(quota.period()).max(1) }
    }

    /// When it was last drained.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// So many tokens were spent at `now`.
    pub(super) fn of(quota: &Quota, tokens: u64, now: u64) -> Self {
        let empty = Self::empty(quota, now);
        Self { parts: u128::from(tokens) * u128::from(empty.unit), ..empty }
    }

    /// Lets drain what has drained by `now`, and goes on at the rate of this quota.
    pub(super) fn drain(&mut self, quota: &Quota, now: u64) {
        let drained = u128::from(now.saturating_sub(self.at)) * u128::from(self.rate);
        // Exact too where the level or the debt reaches zero in between: the other then has the whole rate.
        let repaid = self.debt.min(drained / REPAID.1 * REPAID.0 + (drained % REPAID.1 * REPAID.0).div_ceil(REPAID.1));
        let left = drained - repaid;
        self.debt = (self.debt - repaid).saturating_sub(left.saturating_sub(self.parts));
        self.parts = self.parts.saturating_sub(left);
        self.at = now;
        let Self { rate, unit, .. } = Self::empty(quota, now);
        if unit != self.unit {
            let (old, new) = (u128::from(self.unit), u128::from(unit));
            let convert = |parts: u128| {
                let (whole, part) = (parts / old, parts % old);
                whole.saturating_mul(new).saturating_add((part * new).div_ceil(old))
            };
            (self.parts, self.debt) = (convert(self.parts), convert(self.debt));
        }
        (self.rate, self.unit) = (rate, unit);
    }

    /// The time at which it will be empty, if nothing is spent.
    pub(super) fn empty_at(&self) -> u64 {
        let wait = self.parts.saturating_add(self.debt).div_ceil(u128::from(self.rate.max(1)));
        self.at.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// Begins to drain later, by the time in which these parts of a token drain.
    pub(super) fn rest(&mut self, parts: u128) {
        let nanos = parts / u128::from(self.rate.max(1));
        self.at = self.at.saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX));
    }

    /// Adds what was spent, up to `most` tokens in all.
    pub(super) fn add(&mut self, tokens: u64, most: u64) {
        let most = u128::from(most) * u128::from(self.unit);
        let sum = self.parts.saturating_add(u128::from(tokens) * u128::from(self.unit));
        // A level that is above the most already, by another quota, stays.
        self.parts = sum.min(most.max(self.parts));
    }

    /// Adds what was spent: to the level up to `burst`, and what is beyond that to the debt, up to `most` tokens in all.
    pub(super) fn add_or_owe(&mut self, tokens: u64, burst: u64, most: u64) {
        let spent = self.in_parts(tokens);
        let room = self.in_parts(burst).saturating_sub(self.parts).min(spent);
        self.parts += room;
        let most = self.in_parts(most).saturating_sub(self.parts);
        // A debt that is above the most already, by another charge, stays.
        self.debt = self.debt.saturating_add(spent - room).min(most.max(self.debt));
    }

    /// This level, with a debt.
    pub(super) fn with_debt(self, tokens: u64) -> Self {
        Self { debt: self.in_parts(tokens), ..self }
    }

    /// The tokens that are owed beside the level, rounded up.
    pub(super) fn debt(&self) -> u64 {
        u64::try_from(self.debt.div_ceil(u128::from(self.unit.max(1)))).unwrap_or(u64::MAX)
    }

    /// The parts of a token that have not drained.
    pub(super) fn parts(&self) -> u128 {
        self.parts
    }

    /// So many tokens, in parts of one.
    pub(super) fn in_parts(&self, tokens: u64) -> u128 {
        u128::from(tokens) * u128::from(self.unit)
    }

    /// Adds so many parts of a token, whatever the level.
    pub(super) fn add_parts(&mut self, parts: u128) {
        self.parts = self.parts.saturating_add(parts);
    }

    /// Takes back so many parts of a token.
    pub(super) fn take_back_parts(&mut self, parts: u128) {
        self.parts = self.parts.saturating_sub(parts);
    }

    /// Adds the least that drains of a level in `nanos`, up to `most` tokens in all.
    pub(super) fn add_what_drains_in(&mut self, nanos: u64, most: u64) {
        let most = u128::from(most) * u128::from(self.unit);
        let drains = u128::from(nanos) * u128::from(self.rate);
        let (to_debt, of) = REPAID;
        let drains = if self.debt == 0 { drains } else { drains / of * (of - to_debt) };
        self.parts = (self.parts + drains).min(most);
    }

    /// Takes back what was added `age` ago, but what has drained of it since: of an addition that met an empty bucket so
    /// much would not have been there to drain.
    pub(super) fn take_back(&mut self, tokens: u64, age: u64) {
        self.take_back_of(self.in_parts(tokens), age);
    }

    /// The same in parts of a token.
    pub(super) fn take_back_of(&mut self, added: u128, age: u64) {
        let drained = u128::from(age) * u128::from(self.rate);
        self.parts = self.parts.saturating_sub(added.saturating_sub(drained));
    }

    /// Raises the level to what is left of `tokens` after `age`.
    pub(super) fn raise_to(&mut self, tokens: u64, age: u64) {
        let drained = u128::from(age) * u128::from(self.rate);
        self.parts = self.parts.max(self.in_parts(tokens).saturating_sub(drained));
    }

    /// The tokens spent that have not drained, rounded up.
    pub(super) fn tokens(&self) -> u64 {
        u64::try_from(self.parts.div_ceil(u128::from(self.unit))).unwrap_or(u64::MAX)
    }

    /// The whole tokens for which there is room.
    pub(super) fn room(&self, burst: u64) -> u64 {
        burst.saturating_sub(self.tokens())
    }

    /// The time until there is room for so many, in nanoseconds.
    pub(super) fn until_room(&self, tokens: u64, burst: u64) -> u64 {
        self.until_room_for_parts(self.in_parts(tokens), burst)
    }

    /// The time until there is room for so many parts of a token, in nanoseconds.
    pub(super) fn until_room_for_parts(&self, parts: u128, burst: u64) -> u64 {
        let allowed = self.in_parts(burst).saturating_sub(parts);
        let (excess, rate) = (self.parts.saturating_sub(allowed), u128::from(self.rate.max(1)));
        let (to_debt, of) = REPAID;
        let to_level = of - to_debt;
        // Until the debt is repaid the level has a part of the rate, then all of it.
        let wait = if excess.saturating_mul(to_debt) <= self.debt.saturating_mul(to_level) {
            excess.saturating_mul(of).div_ceil(rate.saturating_mul(to_level))
        } else {
            excess.saturating_add(self.debt).div_ceil(rate)
        };
        u64::try_from(wait).unwrap_or(u64::MAX)
    }
}

/// A debt is repaid with two fifths of the rate.
const REPAID: (u128, u128) = (2, 5);

/// What the store knows of the bucket of one key.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    level: Level,
    total: u64,
    /// The latest charge of each process that may send one again, the longest unheard of first.
    heard: VecDeque<(u64, u64)>,
}

/// The store tells charges that come again from new ones for so many processes. Beyond that, one that comes again may be
/// counted twice: on the safe side.
const PROCESSES_KNOWN: usize = 64;

impl Bucket {
    /// That of a key that nobody has spent of.
    pub(super) fn new(quota: &Quota, now: u64) -> Self {
        Self { level: Level::empty(quota, now), total: 0, heard: VecDeque::new() }
    }

    /// Settles one charge at `now`, in nanoseconds by the store's clock.
    pub(super) fn charge(&mut self, charge: &Charge, now: u64) -> Charged {
        let Charge { quota, want, least, hint, .. } = charge;
        let most = quota.burst().saturating_add(charge.max_debt);
        self.level.drain(quota, now);
        if self.total < hint.total {
            // It has lost its data, or forgotten a bucket that was empty: then the hint says so too.
            self.total = hint.total;
            self.level.raise_to(hint.level.min(most), now.saturating_sub(clock::nanos(hint.at)));
        }
        let age = now.saturating_sub(clock::nanos(charge.refund_of));
        self.level.take_back(charge.refund, age);
        if charge.spent > 0 && self.is_new(charge) {
            let late = charge.late.min(charge.spent);
            self.level.add(charge.spent - late, most);
            self.level.add_or_owe(late, quota.burst(), most);
            self.total = self.total.saturating_add(charge.spent);
        }
        let granted = (*want).min(self.level.room(quota.burst()));
        let granted = if granted < *least { 0 } else { granted };
        self.level.add(granted, most);
        self.total = self.total.saturating_add(granted);
        Charged {
            granted,
            level: self.level.tokens(),
            debt: self.level.debt(),
            total: self.total,
            retry_after: match granted {
                0 => Duration::from_nanos(self.level.until_room(*least, quota.burst())),
                _ => Duration::ZERO,
            },
            at: Duration::from_nanos(now),
        }
    }

    /// Whether nothing is left at `now` that a new bucket would not know.
    pub(super) fn is_fresh(&self, now: u64) -> bool {
        let Level { parts, debt, at, rate, .. } = self.level;
        let drained = u128::from(now.saturating_sub(at).saturating_sub(KEPT_EMPTY)) * u128::from(rate);
        parts.saturating_add(debt) <= drained
    }

    /// Whether this charge has not come before; remembers that it has.
    fn is_new(&mut self, charge: &Charge) -> bool {
        let known = self.heard.iter().position(|(client, _)| *client == charge.client);
        let last = known.and_then(|place| self.heard.remove(place)).map_or(0, |(_, sequence)| sequence);
        if self.heard.len() == PROCESSES_KNOWN {
            self.heard.pop_front();
        }
        self.heard.push_back((charge.client, charge.sequence.max(last)));
        charge.sequence > last
    }
}

/// So long an empty bucket is remembered, for the charges that may come again.
const KEPT_EMPTY: u64 = 1_000_000_000;
