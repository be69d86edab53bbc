//! Compares the token bucket with an exact bucket in rational arithmetic.

use crate::support::quotas::{CENTURY, DAY, YEAR, any_bucket, leeway_nanos, of_any_size};
use proptest::prelude::*;
use std::time::Duration;
use steadfast::rate_limit::{Quota, TokenBucket};
use tokio::{runtime, time::Instant};

/// A stopped clock, so that the bucket is built at the instant from which the tests count.
fn standing_clock() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

fn bucket(count: u64, period: Duration, burst: u64) -> TokenBucket {
    TokenBucket::builder(count, period).burst(burst).build().unwrap()
}

/// A bucket in rational arithmetic. All amounts are in units of a token divided by the nanoseconds of `period`.
#[derive(Debug)]
struct Exact {
    count: i128,
    period: i128,
    full: i128,
    /// The contents at the instant `at`. Refunds may raise them above `full`. The next call forfeits the excess.
    level: i128,
    at: i128,
}

impl Exact {
    fn new(count: u64, period: Duration, burst: u64) -> Self {
        let period = period.as_nanos() as i128;
        let full = i128::from(burst).checked_mul(period).unwrap();
        Self { count: count.into(), period, full, level: full, at: 0 }
    }

    fn at(&self, nanos: i64) -> i128 {
        let since = i128::from(nanos.max(0)) - self.at;
        self.count.checked_mul(since).unwrap().checked_add(self.level).unwrap().min(self.full)
    }

    fn has(&self, tokens: u64, nanos: i64) -> bool {
        self.at(nanos) >= i128::from(tokens) * self.period
    }

    fn take(&mut self, tokens: u64, nanos: i64) {
        let left = self.at(nanos) - i128::from(tokens) * self.period;
        let nanos = i128::from(nanos.max(0));
        if nanos >= self.at {
            (self.level, self.at) = (left, nanos);
        } else {
            self.level = left + self.count * (self.at - nanos);
        }
    }

    fn refund(&mut self, tokens: u64) {
        self.level += i128::from(tokens) * self.period;
    }
}

/// The admissions in order: the time and the tokens. Refunds are negative.
#[derive(Default)]
struct Log(Vec<(i64, i128)>);

impl Log {
    /// Checks each interval: the tokens admitted in it, less those refunded in it, are at most a burst and the tokens
    /// minted in it.
    fn keeps_to(&self, count: u64, period: Duration, burst: u64) -> Result<(), String> {
        let early = leeway_nanos(count, period, burst);
        let fills = period.as_nanos() * u128::from(burst) / u128::from(count);
        let period = period.as_nanos() as i128;
        for (first, (start, _)) in self.0.iter().enumerate() {
            let (mut earliest, mut latest, mut tokens) = (*start, *start, 0);
            for (at, more) in &self.0[first..] {
                tokens += more;
                (earliest, latest) = (earliest.min(*at), latest.max(*at));
                let length = i128::from(latest - earliest);
                let length = length + i128::from(early) * (1 + length / (fills as i128).max(1));
                if tokens * period > i128::from(burst) * period + i128::from(count) * length {
                    return Err(format!("{tokens} tokens from {earliest} ns to {latest} ns"));
                }
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire(Cost),
    /// Takes tokens. If refused, tries again after the wait in the refusal.
    Obey(Cost),
    /// Gives back the tokens that were taken last and not given back yet.
    Refund,
    /// Moves the clock by some nanoseconds, forward or back.
    Wait(i64),
    /// Moves the clock by this many 64ths of the time in which a token is minted.
    WaitForTokens(u64),
    WaitToFill,
}

#[derive(Clone, Copy, Debug)]
enum Cost {
    Nothing,
    One,
    /// This many 256ths of a burst.
    Share(u64),
    TooMuch,
}

impl Cost {
    fn tokens(self, burst: u64) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::One => 1,
            Self::Share(share) => (u128::from(burst) * u128::from(share)).div_ceil(256) as u64,
            Self::TooMuch => burst + 1,
        }
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let cost = prop_oneof![
        1 => Just(Cost::Nothing),
        6 => Just(Cost::One),
        6 => (1..=256u64).prop_map(Cost::Share),
        1 => Just(Cost::TooMuch),
    ];
    prop_oneof![
        10 => cost.clone().prop_map(Step::Acquire),
        4 => cost.prop_map(Step::Obey),
        3 => Just(Step::Refund),
        2 => (0..10i64).prop_map(Step::Wait),
        1 => of_any_size(10_000_000).prop_map(|nanos| Step::Wait(-(nanos as i64))),
        3 => (1..200u64).prop_map(Step::WaitForTokens),
        1 => Just(Step::WaitForTokens(64)),
        1 => Just(Step::WaitToFill),
    ]
}

/// A token bucket and the exact bucket.
struct Trial {
    bucket: TokenBucket,
    exact: Exact,
    origin: Instant,
    /// The time, in nanoseconds since the bucket was built.
    nanos: i64,
    burst: u64,
    leeway_nanos: u64,
    /// The times in which a token and a burst are minted, rounded down.
    nanos_per_token: u64,
    nanos_to_fill: u64,
    log: Log,
    /// The tokens that can be refunded.
    taken: Vec<u64>,
}

impl Trial {
    fn new(count: u64, period: Duration, burst: u64) -> Self {
        let nanos = |tokens: u64| (period.as_nanos() * u128::from(tokens) / u128::from(count)) as u64;
        Self {
            bucket: bucket(count, period, burst),
            exact: Exact::new(count, period, burst),
            origin: Instant::now(),
            nanos: 0,
            burst,
            leeway_nanos: leeway_nanos(count, period, burst),
            nanos_per_token: nanos(1),
            nanos_to_fill: nanos(burst),
            log: Log::default(),
            taken: Vec::new(),
        }
    }

    /// Returns by how many nanoseconds the answers of the two buckets may differ now. The error of the rounded rate
    /// adds up until the bucket is full, so the leeway grows with each time to fill.
    fn leeway(&self) -> i64 {
        self.leeway_nanos as i64 * (1 + self.nanos.max(0) / (self.nanos_to_fill as i64).max(1))
    }

    fn at(&self, nanos: i64) -> Instant {
        let distance = Duration::from_nanos(nanos.unsigned_abs());
        if nanos >= 0 { self.origin + distance } else { self.origin - distance }
    }

    fn now(&self) -> Instant {
        self.at(self.nanos)
    }

    /// Takes tokens, and compares the answer with the exact bucket's. Returns the wait of a refusal.
    fn acquire(&mut self, tokens: u64) -> Result<Option<i64>, TestCaseError> {
        if tokens == 0 {
            prop_assert!(self.bucket.try_acquire_at(0, self.now()).is_ok(), "a call for zero tokens was refused");
            return Ok(None);
        }
        let Err(refused) = self.bucket.try_acquire_at(tokens, self.now()) else {
            let latest = self.nanos.max(0) + self.leeway();
            prop_assert!(self.exact.has(tokens, latest), "{} of {:?} too many", tokens, self.exact);
            self.exact.take(tokens, self.nanos);
            self.log.0.push((self.nanos.max(0), tokens.into()));
            self.taken.push(tokens);
            return Ok(None);
        };
        if tokens > self.burst {
            prop_assert_eq!(refused.retry_after(), None, "it can never be admitted");
            return Ok(None);
        }
        let wait = refused.retry_after().unwrap().as_nanos() as i64;
        let now = self.nanos.max(0);
        if self.exact.has(tokens, now) {
            let there = self.bucket.available_at(self.at(now + self.leeway()));
            prop_assert!(there >= tokens, "{} of {:?} refused, though there", tokens, self.exact);
        }
        let early = now + wait - 1 - 2 * self.leeway();
        prop_assert!(
            early <= now || !self.exact.has(tokens, early),
            "{} of {:?} only in {} ns",
            tokens,
            self.exact,
            wait
        );
        Ok(Some(wait))
    }

    /// A jump of at most a year.
    fn jump(&mut self, nanos: u64) {
        self.nanos += nanos.min(YEAR) as i64;
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Acquire(cost) => {
                self.acquire(cost.tokens(self.burst))?;
            }
            Step::Obey(cost) => {
                let tokens = cost.tokens(self.burst);
                if let Some(wait) = self.acquire(tokens)?.filter(|wait| *wait <= YEAR as i64) {
                    self.nanos = self.nanos.max(0) + wait;
                    prop_assert_eq!(self.acquire(tokens)?, None, "refused after a wait of {} ns", wait);
                }
            }
            Step::Refund => {
                if let Some(tokens) = self.taken.pop() {
                    self.bucket.refund(tokens);
                    self.exact.refund(tokens);
                    self.log.0.push((self.nanos.max(0), -i128::from(tokens)));
                }
            }
            Step::Wait(nanos) => self.nanos += nanos,
            Step::WaitForTokens(parts) => self.jump((u128::from(self.nanos_per_token) * u128::from(parts) / 64) as u64),
            Step::WaitToFill => self.jump(self.nanos_to_fill),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(crate::support::cases(1500))]

    #[test]
    fn no_interval_admits_more_than_its_share_and_no_available_token_is_refused(
        (count, period, burst) in any_bucket(),
        steps in prop::collection::vec(any_step(), 1..40),
    ) {
        let clock = standing_clock();
        let _guard = clock.enter();
        let mut trial = Trial::new(count, period, burst);
        for step in steps {
            // Five years are long enough for any process.
            if trial.nanos < 5 * YEAR as i64 {
                trial.step(step)?;
            }
        }
        prop_assert_eq!(trial.log.keeps_to(count, period, burst), Ok(()));
    }
}

/// Takes all available tokens, and returns their number. After each refusal, it asks for half as many.
fn drain(bucket: &TokenBucket, now: Instant) -> u64 {
    let (mut tokens, mut taken) = (bucket.quota().burst(), 0);
    while tokens > 0 {
        match bucket.try_acquire_at(tokens, now) {
            Ok(()) => taken += tokens,
            Err(_) => tokens /= 2,
        }
    }
    taken
}

fn nanos(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_rate_is_exact_under_frequent_and_rare_calls() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let rates = [
        (1, SECOND),
        (3, SECOND),
        (7, SECOND),
        (1_500_000, SECOND),
        (600_000_000, SECOND),
        (999_999_937, SECOND),
        (1_000_000_000, SECOND),
        (1, nanos(3 * DAY)),
        (1, nanos(YEAR)),
    ];
    for (count, period) in rates {
        // `length` is the time in which `tokens` are minted. A step mints about a tenth of a token, one token, or ten.
        let half_a_century = u128::from(CENTURY / 2);
        let tokens = (half_a_century * u128::from(count) / period.as_nanos()).min(30_000);
        let length = tokens * period.as_nanos() / u128::from(count);
        for steps in [tokens * 10, tokens, tokens / 10] {
            let origin = Instant::now();
            let bucket = bucket(count, period, 20);
            assert_eq!(drain(&bucket, origin), 20);
            // Each step is at least a nanosecond.
            let step = (length / steps).max(1) as u64;
            let steps = (length / u128::from(step)) as u64;
            let admitted: u64 = (1..=steps).map(|n| drain(&bucket, origin + Duration::from_nanos(step * n))).sum();
            // Frequent calls lose nothing. An error of 2 ns is up to two tokens at the highest rate.
            let minted = u128::from(step * steps) * u128::from(count) / period.as_nanos();
            assert!(admitted.abs_diff(minted as u64) <= 2, "{count} per {period:?}: {admitted}, not {minted}");
        }
    }
}

#[test]
fn every_rate_is_exact_to_1_ppm() {
    let clock = standing_clock();
    let _guard = clock.enter();
    for (count, period) in [(3, SECOND), (7, SECOND), (1_500_000, SECOND), (999_999_937, SECOND)] {
        let origin = Instant::now();
        let bucket = bucket(count, period, 1000);
        assert_eq!(drain(&bucket, origin), 1000);
        let step = 350 * period.as_nanos() / u128::from(count);
        let (mut admitted, mut now) = (0, 0);
        for _ in 0..15_000 {
            now += step;
            admitted += drain(&bucket, origin + Duration::from_nanos(now as u64));
        }
        let minted = (now * u128::from(count) / period.as_nanos()) as u64;
        assert!(admitted.abs_diff(minted) <= 1, "{count} per {period:?}: {admitted}, not {minted}");
    }
}

#[test]
fn a_burst_can_be_taken_token_by_token_at_one_instant() {
    let clock = standing_clock();
    let _guard = clock.enter();
    for (count, burst, later) in [
        (100, 1, 0),
        (100, 2, 0),
        (100, 100, 0),
        (3, 5, 333_333_334),
        (7, 7, 12_345_678_901),
        (33, 33, 0),
        (17, 5, 12_345_678_901),
        (999_999_937, 3, 12_345_678_901),
    ] {
        let now = Instant::now() + nanos(later);
        let bucket = bucket(count, SECOND, burst);
        let admitted = (0..2 * burst).filter(|_| bucket.try_acquire_at(1, now).is_ok()).count() as u64;
        assert_eq!(admitted, burst, "at {count}/s, {later} ns after the start");
    }
}

#[test]
fn a_drained_bucket_is_full_again_after_a_period_at_every_rate() {
    let clock = standing_clock();
    let _guard = clock.enter();
    for count in [1, 3, 17, 33, 60, 99, 100, 101, 333, 999, 999_983] {
        let now = Instant::now();
        let bucket = TokenBucket::builder(count, SECOND).build().unwrap();
        for periods in 0..5 {
            assert_eq!(drain(&bucket, now + periods * SECOND), count, "at {count}/s, after {periods} s");
        }
    }
}

#[test]
fn a_caller_paced_exactly_at_the_rate_is_never_refused() {
    let clock = standing_clock();
    let _guard = clock.enter();
    for (count, interval) in [(10, 100_000_000), (1000, 1_000_000), (1_000_000, 1000)] {
        let origin = Instant::now();
        let bucket = bucket(count, SECOND, 1);
        let admitted = (0..1000).filter(|n| bucket.try_acquire_at(1, origin + nanos(interval * n)).is_ok()).count();
        assert_eq!(admitted, 1000, "of 1000 calls at {count}/s");
    }
}

#[test]
fn a_refunded_token_can_be_taken_again_at_the_same_instant() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now();
    let bucket = bucket(10, SECOND, 1);
    for _ in 0..10 {
        assert_eq!(bucket.available_at(now), 1);
        bucket.try_acquire_at(1, now).unwrap();
        assert_eq!(bucket.available_at(now), 0);
        bucket.refund(1);
    }
}

#[test]
fn refunds_never_fill_a_bucket_beyond_its_burst() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now() + SECOND;
    let bucket = bucket(10, SECOND, 5);
    for tokens in [1, 5, 1000, u64::MAX] {
        bucket.refund(tokens);
        assert_eq!(bucket.available_at(now), 5);
    }
    assert!(bucket.try_acquire_at(5, now).is_ok());
    assert!(bucket.try_acquire_at(1, now + nanos(99_999_000)).is_err());
}

#[test]
fn a_cost_above_the_burst_is_never_admitted_and_costs_nothing() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now();
    let bucket = bucket(10, SECOND, 5);
    for tokens in [6, 1000, u64::MAX] {
        for later in [nanos(0), SECOND, nanos(YEAR)] {
            assert_eq!(bucket.try_acquire_at(tokens, now + later).unwrap_err().retry_after(), None);
        }
    }
    assert!(bucket.try_acquire_at(5, now).is_ok());
}

#[test]
fn a_call_for_zero_tokens_passes_even_in_an_empty_bucket() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now() + SECOND;
    let bucket = bucket(10, SECOND, 1);
    assert!(bucket.try_acquire_at(1, now).is_ok());
    for earlier in [0, 1, 500_000_000, 2_000_000_000] {
        assert!(bucket.try_acquire_at(0, now - nanos(earlier)).is_ok(), "{earlier} ns earlier");
    }
}

#[test]
fn a_stopped_clock_mints_nothing_and_a_jump_of_a_year_mints_a_burst() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now();
    let bucket = bucket(1_000_000, SECOND, 50);
    assert_eq!(drain(&bucket, now), 50);
    assert_eq!((0..1000).map(|_| drain(&bucket, now)).sum::<u64>(), 0);
    assert_eq!(drain(&bucket, now + nanos(YEAR)), 50);
    assert_eq!(drain(&bucket, now + nanos(YEAR)), 0);
    assert_eq!(drain(&bucket, now), 0, "the clock went back");
}

// A quota that changes.

#[test]
fn a_changed_quota_keeps_the_tokens_up_to_its_burst() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now();
    let bucket = bucket(100, SECOND, 100);
    assert!(bucket.try_acquire_at(40, now).is_ok());
    for (quota, there) in [
        (Quota::new(1, SECOND).with_burst(1000), 60),
        (Quota::new(999_999_937, SECOND).with_burst(70), 60),
        (Quota::new(7, 3 * SECOND).with_burst(50), 50),
        (Quota::new(1, nanos(YEAR)).with_burst(99), 50),
        (Quota::new(100, SECOND).with_burst(100), 50),
    ] {
        bucket.set_quota_at(quota, now).unwrap();
        assert_eq!((bucket.quota(), bucket.available_at(now)), (quota, there));
    }
    assert_eq!(drain(&bucket, now), 50);
    assert_eq!(drain(&bucket, now + SECOND / 2), 50);
}

#[test]
fn changing_a_quota_and_back_mints_nothing_and_forgives_no_debt() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now();
    // The other quota mints one whole token per nanosecond, so a bucket with it holds no part of a token.
    let (quota, other) = (Quota::new(1, SECOND).with_burst(5), Quota::new(1, nanos(1)).with_burst(5));
    let bucket = TokenBucket::with_quota(quota).build().unwrap();
    assert_eq!(drain(&bucket, now), 5);
    let later = now + SECOND * 3 / 4;
    let _ = bucket.try_acquire_or_owe_at(1, later);
    for _ in 0..100 {
        bucket.set_quota_at(other, later).unwrap();
        bucket.set_quota_at(quota, later).unwrap();
    }
    // The bucket owes a quarter of a token. The changes may round this debt up to a whole token.
    let wait = bucket.try_acquire_at(1, later).unwrap_err().retry_after().unwrap();
    assert!((SECOND * 5 / 4..=SECOND * 2).contains(&wait), "{wait:?}");
}

#[test]
fn a_change_at_an_earlier_time_mints_nothing_twice() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now();
    let bucket = bucket(10, SECOND, 1000);
    assert_eq!(drain(&bucket, now), 1000);
    let later = now + 100 * SECOND;
    bucket.set_quota_at(Quota::new(20, SECOND).with_burst(1000), later).unwrap();
    assert_eq!(drain(&bucket, later), 1000);
    bucket.set_quota_at(Quota::new(10, SECOND).with_burst(1000), now).unwrap();
    assert_eq!(drain(&bucket, later), 0);
    assert_eq!(drain(&bucket, later + SECOND), 10);
}

#[test]
fn an_invalid_quota_leaves_the_old_one() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now();
    let bucket = bucket(10, SECOND, 10);
    for quota in [
        Quota::new(0, SECOND),
        Quota::new(1, Duration::ZERO),
        Quota::new(10, SECOND).with_burst(0),
        Quota::new(2, nanos(1)),
        Quota::new(1, SECOND).with_burst(u64::MAX),
    ] {
        assert!(bucket.set_quota_at(quota, now).unwrap_err().field().starts_with("rate_limit."));
        assert_eq!((bucket.quota(), bucket.available_at(now)), (Quota::new(10, SECOND), 10));
    }
}

#[test]
fn rates_that_change_every_millisecond_mint_the_tokens_of_each_rate() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let origin = Instant::now();
    let bucket = bucket(1000, SECOND, 50);
    assert_eq!(drain(&bucket, origin), 50);
    let (mut admitted, mut millionths) = (0, 0);
    for step in 1..=100_000u64 {
        // From 901 to 1099 per second. None of these rates divides another.
        let count = 901 + (step * 37) % 199;
        let now = origin + Duration::from_millis(step);
        admitted += drain(&bucket, now);
        bucket.set_quota_at(Quota::new(count, SECOND).with_burst(50), now).unwrap();
        millionths += if step < 100_000 { count * 1000 } else { 0 };
    }
    let minted = (millionths + 1_000_000) / 1_000_000;
    // Each change may lose a nanosecond in each millisecond: 1 ppm of the 100,000 tokens.
    assert!(admitted <= minted && minted - admitted <= 2, "{admitted}, not {minted}");
}

// Refusals.

#[test]
fn a_refusal_never_says_to_come_back_at_once() {
    let clock = standing_clock();
    let _guard = clock.enter();
    for (count, period) in [(1, nanos(1)), (600_000_000, SECOND), (1_500_000, SECOND), (1, nanos(DAY))] {
        let now = Instant::now();
        let bucket = bucket(count, period, 3);
        assert_eq!(drain(&bucket, now), 3);
        for tokens in 1..=3 {
            let wait = bucket.try_acquire_at(tokens, now).unwrap_err().retry_after().unwrap();
            let exact = (u128::from(tokens) * period.as_nanos()).div_ceil(u128::from(count));
            assert_eq!(wait.as_nanos(), exact, "{tokens} at {count} per {period:?}");
        }
    }
}

#[test]
fn a_tight_loop_gets_exactly_the_rate() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let origin = Instant::now();
    let bucket = bucket(1, SECOND, 1);
    // A call every 7 µs, for 20 s.
    let admitted =
        (0..=20_000_000 / 7u64).filter(|n| bucket.try_acquire_at(1, origin + nanos(7000 * n)).is_ok()).count();
    assert_eq!(admitted, 1 + 19, "the first at once, and each further one a little more than a second later");
}

#[test]
fn a_debt_is_at_most_a_burst_and_a_call_is_admitted_once_it_is_paid() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now();
    let bucket = bucket(10, SECOND, 5);
    let wait = |refused: Result<(), steadfast::error::RateLimited>| refused.unwrap_err().retry_after();
    assert!(bucket.try_acquire_or_owe_at(5, now).is_ok());
    // Each refusal says the time until its cost and the earlier debts are paid.
    for (tokens, millis) in [(1, 100), (1, 200), (2, 400), (5, 900)] {
        assert_eq!(wait(bucket.try_acquire_or_owe_at(tokens, now)), Some(Duration::from_millis(millis)));
    }
    // The debt is five by now, its maximum.
    assert_eq!(wait(bucket.try_acquire_or_owe_at(6, now)), None);
    assert_eq!(wait(bucket.try_acquire_at(1, now)), Some(Duration::from_millis(600)));
    assert_eq!(drain(&bucket, now + nanos(600_000_000)), 1);
    assert_eq!(drain(&bucket, now + nanos(YEAR)), 5);
}

#[test]
fn a_clock_that_is_behind_forgives_no_debt() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let origin = Instant::now();
    let now = origin + SECOND;
    let wait = |bucket: &TokenBucket, now| bucket.try_acquire_at(1, now).unwrap_err().retry_after().unwrap();
    let bucket = bucket(10, SECOND, 5);
    bucket.try_acquire_or_owe_at(5, now).unwrap();
    bucket.try_acquire_or_owe_at(5, now).unwrap_err();
    assert_eq!(wait(&bucket, now), Duration::from_millis(600));
    // At a time one second earlier, the wait is one second longer.
    assert_eq!(wait(&bucket, origin), Duration::from_millis(1600));
    bucket.try_acquire_or_owe_at(1, origin).unwrap_err();
    assert_eq!(wait(&bucket, now), Duration::from_millis(600));
}

// The anchor: the instant from which a bucket counts minted tokens. It moves every 2^40 ns, or 18 minutes.

#[test]
fn rebasing_the_anchor_mints_nothing_and_loses_nothing() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let horizon = nanos(1 << 40);
    for (count, period) in [(1, SECOND), (3, SECOND), (999_999_937, SECOND), (7, nanos(DAY))] {
        for (before, after) in [(1, 0), (0, 1), (1, 1), (1000, 1000), (1, 3 << 40)] {
            let origin = Instant::now();
            let moved = bucket(count, period, 1000);
            let early = origin + horizon - nanos(before);
            let _ = drain(&moved, early);
            let taken = drain(&moved, origin + horizon + nanos(after));
            let minted = u128::from(before + after) * u128::from(count) / period.as_nanos();
            assert!(u128::from(taken).abs_diff(minted.min(1000)) <= 1, "{taken} tokens, not {minted}");
            // A clock that is behind finds no tokens.
            assert_eq!(drain(&moved, early), 0);
        }
    }
}

#[test]
fn reads_and_refusals_far_in_the_future_lock_no_caller_out() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now();
    let bucket = bucket(10, SECOND, 10);
    assert_eq!(drain(&bucket, now), 10);
    for later in [SECOND, nanos(DAY), nanos(YEAR)] {
        assert_eq!(bucket.available_at(now + later), 10);
    }
    assert_eq!(bucket.available_at(now), 0);
    assert_eq!(drain(&bucket, now + SECOND / 2), 5);
}
