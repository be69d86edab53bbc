//! The buckets of `Embedded` against a model that follows the documentation of `Charge`.

use proptest::prelude::*;
use std::{collections::HashMap, sync::Arc, time::Duration};
use steadfast::rate_limit::{
    Quota,
    distributed::{Charge, Charged, Embedded, Hint},
};
use tokio::time::Instant;

/// A number of tokens: the number of its parts, and the number of parts in one token.
#[derive(Clone, Copy)]
struct Tokens(u128, u128);

impl Tokens {
    /// Converts to parts of another size, rounded up.
    fn in_parts_of(self, token: u128) -> Self {
        let Self(parts, old) = self;
        // In two steps, since the product may overflow.
        Self(parts / old * token + (parts % old * token).div_ceil(old), token)
    }

    fn rounded_up(self) -> u128 {
        self.0.div_ceil(self.1)
    }
}

/// An event in the history of a bucket.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// This number of nanoseconds passed.
    Passed(u64),
    Changed(Quota),
    /// The level was raised to the part of these tokens that is left after these nanoseconds.
    Raised(u128, u64),
    /// Tokens were added to the level, up to a maximum of the level.
    Added(u128, u128),
    /// Tokens were added to the level up to a burst, and the rest to the debt, up to a maximum of both together.
    AddedLate(u128, u128, u128),
    /// Tokens were taken back, less those that drained in the nanoseconds since they were added.
    TakenBack(u128, u64),
}

fn token(quota: Quota) -> u128 {
    quota.period().as_nanos()
}

/// The whole history of a bucket, and the last sequences of its clients.
struct Model {
    first: Quota,
    events: Vec<Event>,
    now: u64,
    total: u64,
    sequences: HashMap<u64, u64>,
}

impl Model {
    fn new(quota: Quota, now: u64) -> Self {
        Self { first: quota, events: Vec::new(), now, total: 0, sequences: HashMap::new() }
    }

    /// Computes the level and the debt from the whole history.
    fn state(&self) -> [Tokens; 2] {
        let none = Tokens(0, token(self.first));
        let (mut quota, mut level, mut debt) = (self.first, none, none);
        for event in &self.events {
            let parts = level.0;
            let in_a_token = token(quota);
            let drained = |nanos: u64| u128::from(nanos) * u128::from(quota.count());
            level.0 = match *event {
                Event::Passed(nanos) => {
                    // Three fifths of the rate drain the level, and two fifths repay the debt. The part that one of
                    // them does not need goes to the other.
                    let drained = drained(nanos);
                    let of_level = drained / 5 * 3 + drained % 5 * 3 / 5;
                    let of_debt = drained - of_level;
                    let owed = debt.0;
                    debt.0 = owed.saturating_sub(of_debt.saturating_add(of_level.saturating_sub(parts)));
                    parts.saturating_sub(of_level.saturating_add(of_debt.saturating_sub(owed)))
                }
                Event::Changed(new) => {
                    quota = new;
                    level = level.in_parts_of(token(new));
                    debt = debt.in_parts_of(token(new));
                    continue;
                }
                Event::Raised(tokens, age) => parts.max((tokens * in_a_token).saturating_sub(drained(age))),
                // A level above the maximum stays: it was reached under a higher maximum.
                Event::Added(tokens, most) => parts.max((parts + tokens * in_a_token).min(most * in_a_token)),
                Event::AddedLate(tokens, burst, most) => {
                    let tokens = tokens * in_a_token;
                    let fits = tokens.min((burst * in_a_token).saturating_sub(parts));
                    let most = (most * in_a_token).saturating_sub(parts + fits);
                    debt.0 = debt.0.max((debt.0 + tokens - fits).min(most));
                    parts + fits
                }
                Event::TakenBack(tokens, age) => {
                    parts.saturating_sub((tokens * in_a_token).saturating_sub(drained(age)))
                }
            };
        }
        [level, debt]
    }

    fn level(&self) -> Tokens {
        self.state()[0]
    }

    /// Returns whether `tokens` fit below the burst, `nanos` from now.
    fn has_room_after(&mut self, nanos: u64, tokens: u64, burst: u64) -> bool {
        self.events.push(Event::Passed(nanos));
        let level = self.level().rounded_up();
        self.events.pop();
        level + u128::from(tokens) <= u128::from(burst)
    }

    fn charge(&mut self, charge: &Charge, now: u64) -> Charged {
        let burst = charge.quota.burst();
        // The maximum saturates, as in the store.
        let most = u128::from(burst.saturating_add(charge.max_debt));
        self.events.push(Event::Passed(now.saturating_sub(self.now)));
        self.events.push(Event::Changed(charge.quota));
        self.now = now;
        if self.total < charge.hint.total {
            self.total = charge.hint.total;
            let age = now.saturating_sub(charge.hint.at.as_nanos() as u64);
            self.events.push(Event::Raised(u128::from(charge.hint.level).min(most), age));
        }
        let age = now.saturating_sub(charge.refund_of.as_nanos() as u64);
        self.events.push(Event::TakenBack(charge.refund.into(), age));
        if charge.spent > 0 {
            let last = self.sequences.entry(charge.client).or_default();
            if *last < charge.sequence {
                *last = charge.sequence;
                let late = charge.late.min(charge.spent);
                self.events.push(Event::Added((charge.spent - late).into(), most));
                self.events.push(Event::AddedLate(late.into(), burst.into(), most));
                self.total = self.total.saturating_add(charge.spent);
            }
        }
        // The largest grant that keeps the level within the burst, by bisection.
        let level = self.level().rounded_up();
        let fits = |tokens: u64| level + u128::from(tokens) <= u128::from(burst);
        let (mut granted, mut too_many) = (0, u128::from(charge.want) + 1);
        while u128::from(granted) + 1 < too_many {
            let middle = granted + ((too_many - u128::from(granted)) / 2) as u64;
            if fits(middle) { granted = middle } else { too_many = middle.into() }
        }
        if granted < charge.least {
            granted = 0;
        }
        self.events.push(Event::Added(granted.into(), most));
        self.total = self.total.saturating_add(granted);
        let [level, debt] = self.state().map(Tokens::rounded_up);
        let debt = u64::try_from(debt).unwrap_or(u64::MAX);
        Charged { granted, level: level as u64, debt, total: self.total, ..Charged::default() }
    }
}

const YEAR: u64 = 366 * 24 * 3600 * 1_000_000_000;

/// Small, large and nearly the largest numbers.
fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..30u64, 2 => Just(0), 1 => 0..1u64 << 40, 1 => Just(u64::MAX >> 1), 1 => (u64::MAX - 9)..=u64::MAX]
}

/// Quotas with periods from a nanosecond to a year, and with bursts that drain within a hundred years.
fn quota() -> impl Strategy<Value = Quota> {
    let nanos = prop_oneof![Just(1_000_000_000), Just(1), Just(7), Just(YEAR), 1..YEAR, 1..5_000_000_000u64];
    (nanos, prop_oneof![1..20u64, any::<u64>()], prop_oneof![1..40u64, 1..1u64 << 55]).prop_map(
        |(nanos, count, burst)| {
            let count = count % nanos + 1;
            let fills = 100 * u128::from(YEAR / 366 * 365) * u128::from(count) / u128::from(nanos);
            let burst = u128::from(burst).min(fills).max(1) as u64;
            Quota::new(count, Duration::from_nanos(nanos)).with_burst(burst)
        },
    )
}

/// How far the clock moves: not at all, a little, years, or back.
fn passes() -> impl Strategy<Value = i64> {
    let (little, year) = (10_000_000_000i64, YEAR as i64);
    prop_oneof![3 => Just(0), 4 => 0..little, 2 => 0..1000i64, 1 => 0..5 * year, 1 => -little..0]
}

fn charge(quota: Quota) -> impl Strategy<Value = Charge> {
    let counted = (1..4u64, 0..6u64, amount(), amount(), amount(), amount(), amount());
    let asked = (
        amount(),
        0..20u64,
        prop_oneof![3 => Just(Hint::default()), 1 => (0..50u64, amount(), 0..200u64).prop_map(|(level, at, total)| {
            Hint { level, at: Duration::from_nanos(at), total }
        })],
    );
    (counted, asked).prop_map(move |(counted, (want, least, hint))| {
        let (client, sequence, spent, late, max_debt, refund, refund_of) = counted;
        let (key, refund_of) = (Arc::from(&b"key"[..]), Duration::from_nanos(refund_of));
        Charge { key, quota, client, sequence, spent, late, max_debt, refund, refund_of, want, least, hint }
    })
}

/// Charges with one of at most three quotas. Each comes with the nanoseconds that pass before it.
fn history() -> impl Strategy<Value = Vec<(Charge, i64)>> {
    prop::collection::vec(quota(), 1..4).prop_flat_map(|quotas| {
        let one = prop::sample::select(quotas).prop_flat_map(charge);
        prop::collection::vec((one, passes()), 1..40)
    })
}

proptest! {
    #![proptest_config(crate::support::cases(1000))]

    #[test]
    fn a_bucket_matches_the_model(history in history()) {
        let (store, start) = (Embedded::new(), Instant::now());
        let (mut now, mut model) = (0u64, None);
        for (charge, passes) in history {
            now = now.saturating_add_signed(passes);
            let answer = store.charge_at(std::slice::from_ref(&charge), start + Duration::from_nanos(now))[0];
            let by_the_store = answer.at.as_nanos() as u64;
            let model = model.get_or_insert_with(|| Model::new(charge.quota, by_the_store));
            let expected = model.charge(&charge, by_the_store);
            prop_assert_eq!(
                (answer.granted, answer.level, answer.debt, answer.total),
                (expected.granted, expected.level, expected.debt, expected.total),
                "at {} of {:?}", now, charge
            );
            prop_assert!(answer.granted == 0 || answer.level <= charge.quota.burst());
            prop_assert!(answer.granted == 0 || answer.retry_after.is_zero());
            // The wait is exact. Waits beyond `u64::MAX` nanoseconds are not checked.
            let (wait, burst, least) = (answer.retry_after.as_nanos() as u64, charge.quota.burst(), charge.least);
            if answer.granted == 0 && wait < u64::MAX && (1..=burst).contains(&least) {
                prop_assert!(model.has_room_after(wait, least, burst), "not granted after {} ns", wait);
                prop_assert!(wait == 0 || !model.has_room_after(wait - 1, least, burst), "granted before {} ns", wait);
            }
        }
    }
}

/// The part of a grant that was not refunded: its time, and its tokens.
type Kept = (u128, u64);

/// Finds an interval in which more tokens were kept than the burst and those that drain in it. Returns its first grant,
/// its last grant, and the sum of its tokens.
fn worst(kept: &[Kept], quota: Quota) -> Option<(Kept, Kept, u128)> {
    let (count, period) = (u128::from(quota.count()), quota.period().as_nanos());
    for (first, (start, _)) in kept.iter().enumerate() {
        let mut sum = 0u128;
        for (end, tokens) in &kept[first..] {
            sum += u128::from(*tokens);
            if sum * period > u128::from(quota.burst()) * period + (end - start) * count {
                return Some((kept[first], (*end, *tokens), sum));
            }
        }
    }
    None
}

proptest! {
    #![proptest_config(crate::support::cases(1000))]

    #[test]
    fn no_interval_keeps_more_than_the_burst_and_the_rate_allow(
        (count, millis, burst) in (1..20u64, 20..2000u64, 1..60u64),
        steps in prop::collection::vec((0..400u64, 0..40u64, 1..5u64, any::<prop::sample::Index>(), 0..=100u64), 1..80),
    ) {
        let quota = Quota::new(count, Duration::from_millis(millis)).with_burst(burst);
        let (store, mut now) = (Embedded::new(), Instant::now());
        // For each grant, its time by the store's clock, and its tokens that were not refunded.
        let mut grants: Vec<(Duration, u64)> = Vec::new();
        for (passed, want, least, which, percent) in steps {
            now += Duration::from_millis(passed);
            let (mut refund, mut refund_of) = (0, Duration::ZERO);
            if percent > 50 && !grants.is_empty() {
                let which = which.index(grants.len());
                let (at, kept) = &mut grants[which];
                (refund, refund_of) = (*kept * (percent - 50) / 50, *at);
                *kept -= refund;
            }
            let key = Arc::from(&b"key"[..]);
            let (client, sequence, spent, late, max_debt, hint) = (1, 0, 0, 0, 0, Hint::default());
            let charge = Charge { key, quota, client, sequence, spent, late, max_debt, refund, refund_of, want, least, hint };
            let answer = store.charge_at(&[charge], now)[0];
            grants.push((answer.at, answer.granted));
        }
        let kept: Vec<Kept> = grants.iter().map(|(at, kept)| (at.as_nanos(), *kept)).collect();
        prop_assert_eq!(worst(&kept, quota), None);
    }
}
