//! Wrong configurations and extreme values. Each wrong configuration returns a `ConfigError` that names the field and
//! its value. Nothing panics, whatever values a configuration or a call has.

use proptest::prelude::*;
use std::{
    task::{Context, Waker},
    time::Duration,
};
use steadfast::{
    CallContext, ConfigError, Outcome, Random,
    circuit_breaker::{Breaker, BreakerBuilder, CircuitBreakerLayer},
    load_level::{Discipline, LoadLevel, LoadLevelLayer, Queue, QueueBuilder},
    load_shed::{Limiter, LoadShedLayer},
    rate_limit::{Keyed, Overflow, Quota, RateLimit, RateLimitLayer, SlidingWindow, TokenBucket},
    retry::{Backoff, Jitter, Retry, RetryBudget, RetryBudgetBuilder, RetryLayer},
    stack::live::{RateLimitConfig, StackConfig},
    timeout::TimeoutLayer,
};
use tokio::{runtime, time::Instant};
use tower::{Layer, Service, ServiceExt, service_fn};

const NANO: Duration = Duration::from_nanos(1);
const SECOND: Duration = Duration::from_secs(1);
/// The longest duration that any configuration may name.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Durations that are too short or too long for a setting that does not accept zero.
const NO_DURATIONS: [Duration; 3] =
    [Duration::ZERO, Duration::from_nanos(LONGEST.as_nanos() as u64 + 1), Duration::MAX];
/// Counts that are too small or too large for a breaker.
const NO_COUNTS: [u32; 3] = [0, 1_000_001, u32::MAX];

/// Checks that the error names the field and its value, and states the rule that the value breaks.
#[track_caller]
fn assert_names<T>(result: Result<T, ConfigError>, field: &str, value: impl std::fmt::Debug) {
    let Err(error) = result else { panic!("{field} = {value:?} was accepted") };
    assert_eq!(error.field(), field, "{error}");
    assert_eq!(error.value(), format!("{value:?}"), "{error}");
    assert!(error.rule().starts_with("must "), "{error}");
    assert_eq!(error.to_string(), format!("{field} = {value:?}: {}", error.rule()));
}

#[test]
fn a_timeout_is_longer_than_zero_and_at_most_366_days() {
    for limit in NO_DURATIONS {
        assert_names(TimeoutLayer::new(limit), "timeout.limit", limit);
        assert_names(steadfast::client().timeout(limit).layer(), "timeout", limit);
        assert_names(steadfast::client().attempt_timeout(limit).layer(), "attempt_timeout", limit);
        assert_names(steadfast::server().timeout(limit).layer(), "timeout", limit);
    }
    for limit in [NANO, LONGEST] {
        assert!(TimeoutLayer::new(limit).is_ok());
        assert!(steadfast::client().timeout(limit).attempt_timeout(limit).layer().is_ok());
        assert!(steadfast::server().timeout(limit).layer().is_ok());
    }
}

/// Checks that both ways to build a retry, a layer and a stack, return this error.
#[track_caller]
fn assert_retry_names(retry: Retry, field: &str, value: impl std::fmt::Debug) {
    assert_names(RetryLayer::new(retry.clone()), field, &value);
    assert_names(steadfast::client().retry(retry).layer(), field, &value);
}

#[test]
fn a_call_has_from_1_to_1000_attempts() {
    for attempts in [0, 1001, u32::MAX] {
        assert_retry_names(Retry::new(attempts), "retry.attempts", attempts);
    }
    assert!(RetryLayer::new(Retry::new(1)).is_ok() && RetryLayer::new(Retry::new(1000)).is_ok());
}

#[test]
fn a_backoff_goes_from_a_base_to_a_cap_that_is_no_smaller() {
    for jitter in [Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::None] {
        let retry = |base, cap| Retry::new(3).backoff(Backoff::exponential(base, cap).jitter(jitter));
        for bad in NO_DURATIONS {
            assert_retry_names(retry(bad, SECOND), "retry.backoff.base", bad);
            assert_retry_names(retry(SECOND, bad), "retry.backoff.cap", bad);
        }
        assert_retry_names(retry(SECOND + NANO, SECOND), "retry.backoff.base", SECOND + NANO);
        let error = RetryLayer::new(retry(2 * SECOND, SECOND)).unwrap_err();
        assert_eq!(error.to_string(), "retry.backoff.base = 2s: must be at most the cap of 1s");
        assert!(RetryLayer::new(retry(SECOND, SECOND)).is_ok());
        assert!(RetryLayer::new(retry(NANO, LONGEST)).is_ok());
        assert!(RetryLayer::new(Retry::new(3).backoff(Backoff::none().jitter(jitter))).is_ok());
    }
}

#[test]
fn the_factor_of_a_plus_or_minus_jitter_is_above_0_and_at_most_1() {
    let retry = |factor| Retry::new(3).backoff(Backoff::fixed(SECOND).jitter(Jitter::PlusMinus(factor)));
    for factor in [f64::NAN, f64::INFINITY, -0.1, 0.0, -0.0, 1.0 + f64::EPSILON, 20.0] {
        assert_retry_names(retry(factor), "retry.backoff.jitter.plus_minus", factor);
    }
    assert!(RetryLayer::new(retry(f64::MIN_POSITIVE)).is_ok() && RetryLayer::new(retry(1.0)).is_ok());
}

#[test]
fn the_ratio_of_a_budget_is_a_number_from_0_to_1_and_its_cap_at_least_1() {
    let builder = RetryBudget::builder;
    for ratio in
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.1, -f64::MIN_POSITIVE, 1.0 + f64::EPSILON, 2.0, 100.0, f64::MAX]
    {
        assert_names(builder().ratio(ratio).build(), "retry.budget.ratio", ratio);
    }
    for ratio in [0.0, -0.0, f64::MIN_POSITIVE, 1.0] {
        assert!(builder().ratio(ratio).build().is_ok());
    }
    assert_names(builder().cap(0).build(), "retry.budget.cap", 0);
    assert!(builder().cap(u32::MAX).ratio(1.0).build().is_ok());
}

#[test]
fn a_budget_starts_with_no_more_retries_than_it_can_hold() {
    let budget = |cap, initial| RetryBudget::builder().cap(cap).initial(initial).build();
    for (cap, initial) in [(10, 11), (1, 2), (1, u32::MAX)] {
        let error = budget(cap, initial).unwrap_err();
        assert_eq!(error.to_string(), format!("retry.budget.initial = {initial}: must be at most the cap of {cap}"));
    }
    for (cap, initial) in [(10, 10), (10, 0), (u32::MAX, u32::MAX)] {
        assert!(budget(cap, initial).is_ok());
    }
}

#[test]
fn the_floor_of_a_budget_is_a_rate_that_a_bucket_can_have() {
    let floor = |retries, period| RetryBudget::builder().floor(retries, period).build();
    assert_names(floor(0, SECOND), "retry.budget.floor", 0);
    for period in NO_DURATIONS {
        assert_names(floor(1, period), "retry.budget.floor", period);
    }
    for retries in [1_000_000_001, u64::MAX] {
        assert_names(floor(retries, SECOND), "retry.budget.floor", retries);
    }
    assert!(floor(1, LONGEST).is_ok() && floor(1_000_000_000, SECOND).is_ok());
}

#[test]
fn the_counts_of_a_breaker_are_from_1_to_a_million() {
    let fields: [(fn(BreakerBuilder, u32) -> BreakerBuilder, _); 3] = [
        (BreakerBuilder::consecutive_failures, "circuit_breaker.consecutive_failures"),
        (BreakerBuilder::minimum_calls, "circuit_breaker.minimum_calls"),
        (BreakerBuilder::probes, "circuit_breaker.probes"),
    ];
    for (set, field) in fields {
        for count in NO_COUNTS {
            assert_names(set(Breaker::builder(), count).build(), field, count);
        }
        assert!(set(Breaker::builder(), 1).build().is_ok() && set(Breaker::builder(), 1_000_000).build().is_ok());
    }
}

#[test]
fn the_times_of_a_breaker_are_longer_than_zero_and_at_most_366_days() {
    let fields: [(fn(BreakerBuilder, Duration) -> BreakerBuilder, _); 6] = [
        (BreakerBuilder::open_for, "circuit_breaker.open_for"),
        (BreakerBuilder::max_open_for, "circuit_breaker.max_open_for"),
        (BreakerBuilder::probe_timeout, "circuit_breaker.probe_timeout"),
        (|builder, threshold| builder.slow_call_rate(0.5, threshold), "circuit_breaker.slow_call_rate.threshold"),
        (BreakerBuilder::cancelled_is_failure_after, "circuit_breaker.cancelled_is_failure_after"),
        (|builder, window| builder.failure_rate(0.5, window), "circuit_breaker.failure_rate.window"),
    ];
    for (set, field) in fields {
        for duration in NO_DURATIONS {
            assert_names(set(Breaker::builder(), duration).build(), field, duration);
        }
        assert!(set(Breaker::builder(), LONGEST).build().is_ok(), "{field}");
    }
    let window = |window| Breaker::builder().failure_rate(0.5, window).build();
    let (shortest, shorter) = (Duration::from_micros(1), Duration::from_nanos(999));
    for wrong in [Duration::ZERO, shorter, Duration::MAX] {
        let error = window(wrong).unwrap_err();
        assert_names(Err::<(), _>(error.clone()), "circuit_breaker.failure_rate.window", wrong);
        assert_eq!(error.rule(), "must be at least a microsecond and at most 366 days");
    }
    assert!(window(shortest).is_ok());
}

#[test]
fn the_longest_open_time_is_at_least_the_first() {
    let build = |longest| Breaker::builder().open_for(SECOND).max_open_for(longest).build();
    let shorter = SECOND - Duration::from_nanos(1);
    assert_names(build(shorter), "circuit_breaker.max_open_for", shorter);
    assert!(build(SECOND).is_ok());
    let error = build(shorter).unwrap_err().to_string();
    assert!(error.ends_with("must be at least circuit_breaker.open_for of 1s, or left out"), "{error}");
}

#[test]
fn a_rate_of_a_breaker_is_a_number_above_0_and_at_most_1() {
    let build = |rate| Breaker::builder().failure_rate(rate, SECOND).build();
    let build_slow = |rate| Breaker::builder().slow_call_rate(rate, SECOND).build();
    for rate in [f64::NAN, 0.0, -0.0, -0.5, 1.0 + f64::EPSILON, f64::INFINITY, f64::NEG_INFINITY] {
        assert_names(build(rate), "circuit_breaker.failure_rate.rate", rate);
        assert_names(build_slow(rate), "circuit_breaker.slow_call_rate.rate", rate);
    }
    assert!(build(f64::MIN_POSITIVE).is_ok() && build(1.0).is_ok());
}

#[test]
fn a_limit_on_calls_in_flight_is_at_least_1_and_a_bad_one_changes_nothing() {
    assert_names(Limiter::fixed(0), "load_shed.limit", 0);
    let limiter = Limiter::fixed(usize::MAX).unwrap();
    assert_names(limiter.set_limit(0), "load_shed.limit", 0);
    assert_eq!(limiter.limit(), usize::MAX);
    assert!(limiter.try_acquire().is_ok());
}

#[test]
fn a_queue_lets_from_1_to_2_to_the_31st_minus_1_calls_in_and_at_least_1_wait() {
    const MOST: usize = (1 << 31) - 1;
    let queue = Queue::builder(3, 4).build().unwrap();
    for concurrency in [0, MOST + 1, usize::MAX] {
        assert_names(Queue::builder(concurrency, 1).build(), "load_level.concurrency", concurrency);
        assert_names(queue.set_concurrency(concurrency), "load_level.concurrency", concurrency);
    }
    assert_eq!(queue.concurrency(), 3, "a bad one changes nothing");
    assert_names(Queue::builder(1, 0).build(), "load_level.depth", 0);
    assert_names(queue.set_depth(0), "load_level.depth", 0);
    assert_names(Queue::builder(1, 1).max_weight(0).build(), "load_level.max_weight", 0);
    assert_names(queue.set_max_weight(0), "load_level.max_weight", 0);
    for (concurrency, depth, weight) in [(1, 1, 1), (MOST, usize::MAX, u64::MAX)] {
        let queue = Queue::builder(concurrency, depth).max_weight(weight).build().unwrap();
        assert!(queue.set_concurrency(concurrency).is_ok() && queue.concurrency() == concurrency);
        assert!(queue.set_depth(depth).is_ok() && queue.set_max_weight(weight).is_ok());
    }
}

#[test]
fn a_call_waits_for_longer_than_zero_and_at_most_366_days() {
    let queue = Queue::builder(1, 1).build().unwrap();
    for wait in NO_DURATIONS {
        assert_names(Queue::builder(1, 1).max_wait(wait).build(), "load_level.max_wait", wait);
        assert_names(queue.set_max_wait(wait), "load_level.max_wait", wait);
    }
    for wait in [NANO, LONGEST] {
        assert!(Queue::builder(1, 1).max_wait(wait).build().is_ok() && queue.set_max_wait(wait).is_ok());
    }
}

#[test]
fn a_pace_is_from_1_call_in_366_days_to_1_per_nanosecond() {
    let queue = Queue::builder(1, 1).build().unwrap();
    for (calls, period) in [(0, SECOND), (1_000_000_001, SECOND), (2, NANO), (u64::MAX, LONGEST)] {
        assert_names(Queue::builder(1, 1).pace(calls, period).build(), "load_level.pace", calls);
        assert_names(queue.set_pace(Some((calls, period))), "load_level.pace", calls);
    }
    for period in NO_DURATIONS {
        assert_names(Queue::builder(1, 1).pace(1, period).build(), "load_level.pace", period);
        assert_names(queue.set_pace(Some((1, period))), "load_level.pace", period);
    }
    for (calls, period) in [(1, LONGEST), (1, NANO), (1_000_000_000, SECOND)] {
        assert!(Queue::builder(1, 1).pace(calls, period).build().is_ok());
        assert!(queue.set_pace(Some((calls, period))).is_ok());
    }
    assert!(queue.set_pace(None).is_ok());
}

#[test]
fn the_numbers_of_a_discipline_are_checked_wherever_it_is_set() {
    let queue = Queue::builder(1, 1).build().unwrap();
    let names = |discipline, field, value: &dyn std::fmt::Debug| {
        assert_names(Queue::builder(1, 1).discipline(discipline).build(), field, value);
        assert_names(queue.set_discipline(discipline), field, value);
    };
    for share in [f64::NAN, 0.0, -0.0, -0.5, 1e-7, 1.0 + f64::EPSILON, f64::INFINITY, f64::NEG_INFINITY] {
        names(Discipline::by_deadline(share), "load_level.by_deadline", &share);
    }
    for bad in NO_DURATIONS {
        names(Discipline::adaptive_with(bad, SECOND), "load_level.adaptive_with.target", &bad);
        names(Discipline::adaptive_with(NANO, bad), "load_level.adaptive_with.interval", &bad);
    }
    for target in [SECOND, SECOND + NANO, LONGEST] {
        let value = format!("{target:?}, with an interval of 1s");
        names(Discipline::adaptive_with(target, SECOND), "load_level.adaptive_with.target", &format_args!("{value}"));
    }
    let good = [
        Discipline::by_deadline(1e-6),
        Discipline::by_deadline(1.0),
        Discipline::fifo(),
        Discipline::lifo(),
        Discipline::adaptive(),
        Discipline::adaptive_with(NANO, 2 * NANO),
        Discipline::adaptive_with(LONGEST - NANO, LONGEST),
    ];
    for discipline in good {
        assert!(Queue::builder(1, 1).discipline(discipline).build().is_ok());
        assert!(queue.set_discipline(discipline).is_ok());
    }
}

#[test]
fn a_bucket_has_a_rate_up_to_one_per_nanosecond_and_a_burst_that_fills_in_a_lifetime() {
    let build = |count, period| TokenBucket::builder(count, period).build();
    for (count, period) in [(0, SECOND), (1_000_000_001, SECOND), (2, NANO), (u64::MAX, LONGEST), (u64::MAX, NANO)] {
        assert_names(build(count, period), "rate_limit.count", count);
    }
    for period in NO_DURATIONS {
        assert_names(build(1, period), "rate_limit.period", period);
    }
    for burst in [0, 101 * 366 * 24 * 60 * 60, u64::MAX] {
        assert_names(TokenBucket::builder(1, SECOND).burst(burst).build(), "rate_limit.burst", burst);
    }
    for (burst, rule) in [
        (0, "must be at least 1"),
        ((1 << 55) + 1, "must be at most 2^55"),
        (101 * 366 * 24 * 60 * 60, "must fill within a hundred years"),
    ] {
        assert_eq!(TokenBucket::builder(1, SECOND).burst(burst).build().unwrap_err().rule(), rule);
    }
    for (count, period) in [(1, NANO), (1, LONGEST), (1_000_000_000, SECOND), (LONGEST.as_nanos() as u64, LONGEST)] {
        assert!(build(count, period).is_ok(), "{count} per {period:?}");
    }
    assert!(TokenBucket::builder(1, SECOND).burst(99 * 365 * 24 * 60 * 60).build().is_ok());
}

#[test]
fn a_sliding_window_has_a_limit_from_1_to_a_quintillion_and_a_bad_one_changes_nothing() {
    const QUINTILLION: u64 = 1_000_000_000_000_000_000;
    for builder in [SlidingWindow::builder, |limit, window| SlidingWindow::builder(limit, window).estimate()] {
        for limit in [0, QUINTILLION + 1, u64::MAX] {
            assert_names(builder(limit, SECOND).build(), "rate_limit.limit", limit);
            let window = builder(1, SECOND).build().unwrap();
            assert_names(window.set_limit(limit), "rate_limit.limit", limit);
            assert_eq!(window.limit(), 1);
            assert!(window.try_acquire(1).is_ok());
        }
        for window in NO_DURATIONS {
            assert_names(builder(1, window).build(), "rate_limit.window", window);
        }
        for (limit, window) in [(1, NANO), (1, LONGEST), (QUINTILLION, NANO), (QUINTILLION, LONGEST)] {
            assert!(builder(limit, window).build().is_ok(), "{limit} in {window:?}");
        }
    }
}

#[test]
fn a_keyed_limit_has_room_for_up_to_100_million_keys_and_quotas_that_buckets_can_have() {
    let quota = Quota::new(1, SECOND);
    for max_keys in [0, 100_000_001, usize::MAX] {
        assert_names(Keyed::<u64>::builder(max_keys, quota).build(), "rate_limit.max_keys", max_keys);
    }
    let with = |first, second| Keyed::<u64>::builder(1, first).tiers([second], |_| 1).build();
    for (bad, field, value) in [
        (Quota::new(0, SECOND), "rate_limit.count", 0),
        (Quota::new(2, NANO), "rate_limit.count", 2),
        (quota.with_burst(0), "rate_limit.burst", 0),
        (quota.with_burst(366 * 24 * 60 * 60 + 1), "rate_limit.burst", 366 * 24 * 60 * 60 + 1),
        (quota.with_burst(u64::MAX), "rate_limit.burst", u64::MAX),
    ] {
        assert_names(Keyed::<u64>::builder(1, bad).build(), field, value);
        assert_names(with(bad, quota), field, value);
        assert_names(with(quota, bad), field, value);
        let limit = with(quota, quota).unwrap();
        assert_names(limit.set_quota(1, bad), field, value);
        assert_eq!(limit.quota(1), quota);
    }
    for period in NO_DURATIONS {
        assert_names(Keyed::<u64>::builder(1, Quota::new(1, period)).build(), "rate_limit.period", period);
    }
    let limit = with(Quota::new(1, LONGEST), quota.with_burst(366 * 24 * 60 * 60)).unwrap();
    for tier in [2, usize::MAX] {
        assert_names(limit.set_quota(tier, quota), "rate_limit.tier", tier);
    }
    let rule = "must be less than 2, the number of tiers that were built";
    assert_eq!(limit.set_quota(2, quota).unwrap_err().rule(), rule);
    let error = Keyed::<u64>::builder(1, quota).build().unwrap().set_quota(7, quota).unwrap_err();
    assert_eq!(error.to_string(), "rate_limit.tier = 7: must be 0, the only tier that was built");
    let tiers = |more: usize| Keyed::<u64>::builder(1, quota).tiers(vec![quota; more], |key| *key as usize).build();
    assert_eq!(tiers(127).unwrap().tiers(), 128);
    assert_names(tiers(128), "rate_limit.tiers", 129);
    assert_names(tiers(200), "rate_limit.tiers", 201);
    let endless = Keyed::<u64>::builder(1, quota).tiers(std::iter::repeat(quota), |key| *key as usize).build();
    assert_eq!(endless.unwrap_err().to_string(), "rate_limit.tiers = more than 10000: must be at most 128");
}

#[test]
fn an_error_names_the_tier_and_the_limit_whose_quota_is_bad() {
    let (good, bad) = (Quota::new(1, SECOND), Quota::new(0, SECOND));
    let keyed = |quotas: [Quota; 3]| {
        let [first, second, third] = quotas;
        Keyed::<u64>::builder(1, first).tiers(vec![second, third], |key| *key as usize).build()
    };
    let message = keyed([good, good, bad]).unwrap_err().to_string();
    assert_eq!(message, "rate_limit.count = 0: must be at least 1, and at most one per nanosecond, in tier 2");
    let message = Keyed::<u64>::builder(1, bad).build().unwrap_err().to_string();
    assert_eq!(message, "rate_limit.count = 0: must be at least 1, and at most one per nanosecond");

    let bucket = || RateLimit::new(TokenBucket::builder(1, SECOND).build().unwrap());
    let tiers = RateLimit::by_key(keyed([good; 3]).unwrap(), |key: &u64| *key);
    let (_, control) = steadfast::server().rate_limit(bucket().and(tiers)).live().unwrap();
    let config = |bad| StackConfig {
        rate_limit: vec![RateLimitConfig::new([good]), RateLimitConfig::new([good, bad, good])],
        ..StackConfig::default()
    };
    assert!(control.check(&config(good)).is_ok());
    let message = control.check(&config(bad)).unwrap_err().to_string();
    assert_eq!(
        message,
        "rate_limit.count = 0: must be at least 1, and at most one per nanosecond, in tier 1, in rate limit 1"
    );
}

#[test]
fn a_bucket_warms_up_within_ten_minutes_and_lets_wait_for_366_days() {
    let builder = || TokenBucket::builder(1, SECOND);
    let ten_minutes = 600 * SECOND;
    for warm_up in [ten_minutes + NANO, Duration::MAX] {
        assert_names(builder().warm_up(warm_up).build(), "rate_limit.warm_up", warm_up);
    }
    for max_wait in [LONGEST + NANO, Duration::MAX] {
        assert_names(builder().max_wait(max_wait).build(), "rate_limit.max_wait", max_wait);
    }
    for allowed in [Duration::ZERO, NANO, ten_minutes] {
        assert!(builder().warm_up(allowed).max_wait(allowed).build().is_ok());
    }
    assert!(builder().max_wait(LONGEST).build().is_ok());
}

#[test]
fn a_quota_is_checked_wherever_it_is_set() {
    let bucket = TokenBucket::builder(1, SECOND).build().unwrap();
    for (quota, field, value) in [
        (Quota::new(0, SECOND), "rate_limit.count", 0u64),
        (Quota::new(2, NANO), "rate_limit.count", 2),
        (Quota::new(1, SECOND).with_burst(0), "rate_limit.burst", 0),
        (Quota::new(1_000_000_000, SECOND).with_burst((1 << 55) + 1), "rate_limit.burst", (1u64 << 55) + 1),
    ] {
        assert_names(TokenBucket::with_quota(quota).build(), field, value);
        assert_names(bucket.set_quota(quota), field, value);
        assert_eq!(bucket.quota(), Quota::new(1, SECOND));
    }
    assert_names(bucket.set_quota(Quota::new(1, Duration::MAX)), "rate_limit.period", Duration::MAX);
}

/// Returns a retry whose waits grow from `base` to ten times `base`.
fn waits(base: Duration, jitter: Jitter) -> Retry {
    Retry::new(3).backoff(Backoff::exponential(base, 10 * base).jitter(jitter))
}

#[test]
fn a_timeout_that_ends_before_the_first_retry_can_begin_is_refused() {
    let (fixed, shortest) = ("the first wait of the retry", "the shortest first wait that the retry's jitter allows");
    for (jitter, wait, first) in [
        (Jitter::None, 5, fixed),
        (Jitter::Decorrelated, 5, shortest),
        (Jitter::Equal, 2, shortest),
        (Jitter::PlusMinus(0.4), 3, shortest),
    ] {
        let (base, wait) = (Duration::from_nanos(5), Duration::from_nanos(wait));
        let build = |limit| steadfast::client().timeout(limit).retry(waits(base, jitter)).layer();
        for limit in [NANO, wait] {
            let error = build(limit).unwrap_err();
            let rule = format!("must be longer than {wait:?}, {first}, or no retry can run");
            assert_eq!(error.to_string(), format!("timeout = {limit:?}: {rule}"));
        }
        assert!(build(wait + NANO).is_ok(), "{jitter:?}");
    }
    let error = steadfast::client().timeout(SECOND / 10).retry(waits(5 * SECOND, Jitter::None)).layer().unwrap_err();
    let message = "timeout = 100ms: must be longer than 5s, the first wait of the retry, or no retry can run";
    assert_eq!(error.to_string(), message);

    // These are accepted, because the shortest first wait is zero, or because only one attempt is allowed.
    let build = |retry| steadfast::client().timeout(NANO).retry(retry).layer();
    assert!(build(waits(LONGEST / 10, Jitter::Full)).is_ok());
    assert!(build(Retry::new(1000)).is_ok());
    for jitter in [Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::None] {
        assert!(build(Retry::new(3).backoff(Backoff::none().jitter(jitter))).is_ok(), "{jitter:?}");
        let once = Retry::new(1).backoff(Backoff::exponential(SECOND, SECOND).jitter(jitter));
        assert!(build(once).is_ok(), "{jitter:?}");
    }
}

#[test]
fn a_timeout_below_all_attempts_together_is_accepted() {
    let millis = Duration::from_millis;
    let build =
        |limit| steadfast::client().timeout(limit).retry(waits(millis(100), Jitter::None)).attempt_timeout(SECOND);
    for limit in [SECOND, millis(2_000), millis(3_299), LONGEST] {
        assert!(build(limit).layer().is_ok());
    }
    let many = Retry::new(1000).backoff(Backoff::exponential(NANO, LONGEST));
    assert!(steadfast::client().timeout(LONGEST).retry(many).attempt_timeout(LONGEST).layer().is_ok());
}

#[test]
fn an_attempt_longer_than_the_whole_call_is_refused() {
    let error = steadfast::client().timeout(SECOND).attempt_timeout(SECOND + NANO).layer().unwrap_err();
    let rule = "must be at least the attempt timeout of 1.000000001s, or no attempt has all of its time";
    assert_eq!(error.to_string(), format!("timeout = 1s: {rule}"));
    assert!(steadfast::client().timeout(SECOND).attempt_timeout(SECOND).layer().is_ok());
}

#[test]
fn a_limit_of_calls_in_flight_that_lets_no_call_wait_in_the_queue_behind_it_is_refused() {
    let build = |limiter: &Limiter| {
        let queue = Queue::builder(8, 100).build().unwrap();
        steadfast::server().load_shed(limiter.clone()).load_level(queue)
    };
    for limit in [1, 7, 8] {
        let limiter = Limiter::fixed(limit).unwrap();
        let expected = format!(
            "load_shed.limit = {limit}: must be above 8, the concurrency of the queue behind it, or no call can wait"
        );
        assert_eq!(build(&limiter).layer().unwrap_err().to_string(), expected);
        assert_eq!(build(&limiter).live().map(drop).unwrap_err().to_string(), expected);
        // A limiter in shadow refuses no call.
        limiter.set_shadow(true);
        assert!(build(&limiter).layer().is_ok());
    }
    assert!(build(&Limiter::fixed(9).unwrap()).layer().is_ok());
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        1 => Just(Duration::ZERO),
        1 => Just(NANO),
        1 => Just(LONGEST),
        1 => Just(Duration::MAX),
        20 => (0..=LONGEST.as_nanos() as u64, 0..55u32).prop_map(|(nanos, shift)| Duration::from_nanos(nanos >> shift)),
        2 => (any::<u64>(), 0..1_000_000_000u32, 0..64u32)
            .prop_map(|(secs, nanos, shift)| Duration::new(secs >> shift, nanos)),
    ]
}

/// Any number. Most of them are below 100, and one in eleven is the largest number.
fn any_count() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 0..100u64,
        2 => (any::<u64>(), 0..64u32).prop_map(|(count, shift)| count >> shift),
        1 => Just(u64::MAX),
    ]
}

fn any_count_u32() -> impl Strategy<Value = u32> {
    any_count().prop_map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}

fn any_ratio() -> impl Strategy<Value = f64> {
    prop_oneof![1 => prop::num::f64::ANY, 8 => 0.0..1.0f64, 1 => Just(0.0), 1 => Just(1.0)]
}

fn any_backoff() -> impl Strategy<Value = Backoff> {
    let jitter = prop_oneof![
        4 => prop::sample::select(vec![Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::None]),
        1 => any_ratio().prop_map(Jitter::PlusMinus),
    ];
    (any_duration(), any_duration(), jitter)
        .prop_map(|(base, cap, jitter)| Backoff::exponential(base.min(cap), cap).jitter(jitter))
}

fn any_budget() -> impl Strategy<Value = RetryBudgetBuilder> {
    let floor = prop::option::of((any_count(), any_duration()));
    (any_ratio(), any_count_u32(), floor, prop::option::of(any_count_u32())).prop_map(|(ratio, cap, floor, initial)| {
        let builder = RetryBudget::builder().ratio(ratio).cap(cap).random(Random::seeded(0));
        let builder = initial.map_or(builder.clone(), |initial| builder.initial(initial));
        match floor {
            None => builder.no_floor(),
            Some((retries, period)) => builder.floor(retries, period),
        }
    })
}

fn any_breaker() -> impl Strategy<Value = BreakerBuilder> {
    let rate = || prop::option::of((any_ratio(), any_duration()));
    let rate = (rate(), rate(), prop::option::of(any_duration()));
    let counts = (prop::option::of(any_count_u32()), any_count_u32(), any_count_u32());
    let times = (any_duration(), any_duration(), prop::option::of(any_duration()));
    (rate, counts, times).prop_map(|(rate, (failures, minimum_calls, probes), (open_for, probe_timeout, cancelled))| {
        let mut builder = Breaker::builder().minimum_calls(minimum_calls).probes(probes);
        builder = builder.open_for(open_for).probe_timeout(probe_timeout);
        let (rate, slow, longest) = rate;
        if let Some((rate, window)) = rate {
            builder = builder.failure_rate(rate, window);
        }
        if let Some((rate, threshold)) = slow {
            builder = builder.slow_call_rate(rate, threshold);
        }
        if let Some(longest) = longest {
            builder = builder.max_open_for(longest);
        }
        if let Some(failures) = failures {
            builder = builder.consecutive_failures(failures);
        }
        if let Some(after) = cancelled {
            builder = builder.cancelled_is_failure_after(after);
        }
        builder
    })
}

fn any_discipline() -> impl Strategy<Value = Discipline> {
    prop_oneof![
        any_ratio().prop_map(Discipline::by_deadline),
        Just(Discipline::fifo()),
        Just(Discipline::lifo()),
        (any_duration(), any_duration()).prop_map(|(target, interval)| Discipline::adaptive_with(target, interval)),
    ]
}

fn any_pace() -> impl Strategy<Value = Option<(u64, Duration)>> {
    prop::option::of((any_count(), any_duration()))
}

fn any_queue() -> impl Strategy<Value = QueueBuilder> {
    let bounds = (any_count(), any_count(), prop::option::of(any_count()), any_duration());
    (bounds, any_discipline(), any_pace(), any::<bool>()).prop_map(
        |((concurrency, depth, weight, wait), discipline, pace, by_criticality)| {
            let builder = Queue::builder(concurrency as usize, depth as usize).max_wait(wait).discipline(discipline);
            let builder = weight.into_iter().fold(builder, QueueBuilder::max_weight);
            let builder = pace.into_iter().fold(builder, |builder, (calls, period)| builder.pace(calls, period));
            if by_criticality { builder.by_criticality() } else { builder }
        },
    )
}

/// The timeout of a call and that of each attempt. In half of the cases the second is a hundredth of the first, so that
/// a stack accepts both.
fn any_limits() -> impl Strategy<Value = (Duration, Duration)> {
    prop_oneof![(any_duration(), any_duration()), any_duration().prop_map(|limit| (limit, limit / 100))]
}

/// A distance by which [`shifted`] moves an instant: to a later one if the flag is set, otherwise to an earlier one.
fn any_shift() -> impl Strategy<Value = (bool, Duration)> {
    (any::<bool>(), any_duration())
}

fn shifted(now: Instant, (later, distance): (bool, Duration)) -> Instant {
    if later { now.checked_add(distance) } else { now.checked_sub(distance) }.unwrap_or(now)
}

/// What a service does with every call.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Well,
    Failure,
    Overloaded(Option<Duration>),
    Never,
}

fn any_answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        Just(Answer::Well),
        Just(Answer::Failure),
        prop::option::of(any_duration()).prop_map(Answer::Overloaded),
        Just(Answer::Never),
    ]
}

async fn answer(answer: Answer) -> Result<u64, Answer> {
    match answer {
        Answer::Well => Ok(0),
        Answer::Never => std::future::pending().await,
        failure => Err(failure),
    }
}

fn classify(result: Result<&u64, &Answer>) -> Outcome {
    match result {
        Err(Answer::Overloaded(retry_after)) => Outcome::Overloaded { retry_after: *retry_after },
        Err(_) => Outcome::Failure,
        Ok(_) => Outcome::Success,
    }
}

/// Makes three calls. Gives up each after twice the longest duration that a configuration may name.
async fn call(service: impl Service<u64> + Clone, cost: u64, context: CallContext) {
    for _ in 0..3 {
        let call = context.scope(service.clone().oneshot(cost));
        let _ = tokio::time::timeout(2 * LONGEST, call).await;
    }
}

/// Runs a test with a paused clock, which jumps to the next timer when all tasks are idle.
fn run<T>(test: impl Future<Output = T>) -> T {
    let clock = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    clock.block_on(test)
}

proptest! {
    #![proptest_config(crate::support::cases(1000))]

    #[test]
    fn no_bucket_panics(
        count in any_count(),
        period in any_duration(),
        burst in prop::option::of(any_count()),
        warm_up in prop::option::of(any_duration()),
        calls in prop::collection::vec((any_count(), any_shift(), any_duration()), 1..10),
    ) {
        let clock = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _guard = clock.enter();
        let mut builder = TokenBucket::builder(count, period).max_wait(LONGEST).warm_up(warm_up.unwrap_or_default());
        if let Some(burst) = burst {
            builder = builder.burst(burst);
        }
        if let Ok(bucket) = builder.build() {
            let mut waiting = Vec::new();
            for (tokens, shift, period) in calls {
                let now = shifted(Instant::now(), shift);
                let _ = bucket.try_acquire_at(tokens, now);
                let _ = bucket.try_acquire_or_owe_at(tokens, now);
                let _ = bucket.reserve_at(tokens, now);
                let mut acquire = Box::pin(bucket.acquire(tokens));
                if acquire.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                    waiting.push(acquire);
                }
                let _ = bucket.set_quota_at(Quota::new(tokens, period).with_burst(bucket.quota().burst()), now);
                let _ = bucket.try_acquire_at(tokens % bucket.quota().burst(), now);
                bucket.available_at(now);
                bucket.refund(tokens);
                let _ = bucket.try_acquire(tokens);
            }
            let _ = format!("{bucket:?} {:?}", bucket.quota());
        }
    }

    #[test]
    fn no_sliding_window_panics(
        limit in any_count(),
        window in any_duration(),
        estimate in any::<bool>(),
        calls in prop::collection::vec((any_count(), any_shift(), any_shift(), prop::option::of(any_count())), 1..30),
    ) {
        let mut builder = SlidingWindow::builder(limit, window);
        if estimate {
            builder = builder.estimate();
        }
        if let Ok(window) = builder.build() {
            for (tokens, shift, other_shift, limit) in calls {
                let now = shifted(Instant::now(), shift);
                let _ = window.try_acquire_at(tokens, now);
                let _ = window.try_acquire_at(tokens % window.limit(), now);
                window.available_at(shifted(now, other_shift));
                window.refund_taken_at(tokens / 2, shifted(now, other_shift));
                window.refund(tokens / 2);
                let _ = window.try_acquire(tokens);
                let _ = limit.map(|limit| window.set_limit(limit));
            }
            let _ = format!("{window:?} {:?}", window.window());
        }
    }

    #[test]
    fn no_keyed_limit_panics(
        quotas in prop::collection::vec((any_count(), any_duration(), any_count()), 1..4),
        calls in prop::collection::vec((any_count(), any_shift(), 0..20u64), 1..30),
        strict in any::<bool>(),
    ) {
        let overflow = if strict { Overflow::Refuse } else { Overflow::Shared };
        let quotas: Vec<_> =
            quotas.into_iter().map(|(count, period, burst)| Quota::new(count, period).with_burst(burst)).collect();
        let builder = Keyed::<u64>::builder(1, quotas[0]).overflow(overflow);
        if let Ok(limit) = builder.tiers(quotas[1..].to_vec(), |key| *key as usize % 4).build() {
            for (tokens, shift, key) in calls {
                let now = shifted(Instant::now(), shift);
                let _ = limit.try_acquire_at(&key, tokens, now);
                let _ = limit.try_acquire_at(&key, tokens % limit.quota(key as usize % 4).burst(), now);
                limit.available_at(&key, now);
                limit.refund_at(&key, tokens, now);
                limit.refund(&key, tokens);
                let _ = limit.set_quota_at(key as usize % 4, quotas[tokens as usize % quotas.len()], now);
                let _ = limit.try_acquire(&key, tokens);
                limit.live_keys_at(now);
            }
            let _ = format!("{limit:?}");
        }
    }

    #[test]
    fn no_budget_panics(builder in any_budget(), shifts in prop::collection::vec(any_shift(), 1..10)) {
        if let Ok(budget) = builder.build() {
            for shift in shifts {
                budget.deposit();
                let first = budget.withdraw_at(shifted(Instant::now(), shift));
                let second = budget.withdraw_at(shifted(Instant::now(), shift));
                [first, second].into_iter().flatten().for_each(|withdrawal| budget.refund(withdrawal));
            }
            let _ = format!("{budget:?}");
        }
    }

    #[test]
    fn no_breaker_panics(builder in any_breaker(), shifts in prop::collection::vec(any_shift(), 1..30)) {
        let _ = format!("{builder}");
        if let Ok(breaker) = builder.build() {
            for (number, shift) in shifts.into_iter().enumerate() {
                let now = shifted(Instant::now(), shift);
                match breaker.try_acquire_at(now) {
                    Ok(permit) if number % 4 == 0 => permit.success_at(now),
                    Ok(permit) if number % 4 == 1 => drop(permit),
                    Ok(permit) => permit.failure_at(now),
                    Err(refused) => drop(format!("{refused}")),
                }
                breaker.counts_at(now);
            }
            breaker.force_open();
            breaker.reset();
            assert!(breaker.try_acquire().is_ok());
        }
    }

    #[test]
    fn no_stack_panics_neither_when_it_is_built_nor_when_it_is_used(
        (limit, attempt_limit) in any_limits(),
        (attempts, backoff, budget) in (any_count_u32(), any_backoff(), any_budget()),
        breaker in any_breaker(),
        (count, period, burst, cost) in (any_count(), any_duration(), any_count(), any_count()),
        in_flight in any::<usize>(),
        does in any_answer(),
        deadline in prop::option::of(any_shift()),
    ) {
        run(async {
            let service = service_fn(move |_: u64| answer(does));
            let mut context = CallContext::new();
            if let Some(shift) = deadline {
                context = context.with_deadline(shifted(Instant::now(), shift));
            }
            // Calls each layer that can be built, first alone and then in stacks.
            let mut retry = Retry::new(attempts.min(50)).backoff(backoff).random(Random::seeded(0));
            if let Ok(budget) = budget.build() {
                retry = retry.budget(budget);
            } else {
                retry = retry.without_budget();
            }
            let _ = RetryLayer::new(Retry::new(attempts).backoff(backoff));
            let bucket = TokenBucket::builder(count, period).burst(burst).build();
            let limit_by = |bucket| RateLimit::new(bucket).cost(|cost: &u64| *cost);
            let (breaker, limiter) = (breaker.build(), Limiter::fixed(in_flight));

            if let Ok(layer) = TimeoutLayer::new(limit) {
                call(layer.typed_error().layer(service), cost, context).await;
            }
            if let Ok(layer) = RetryLayer::new(retry.clone()) {
                call(layer.classify(classify).typed_error().layer(service), cost, context).await;
            }
            if let Ok(breaker) = breaker.clone() {
                call(CircuitBreakerLayer::new(breaker).classify(classify).typed_error().layer(service), cost, context).await;
            }
            if let Ok(bucket) = bucket.clone() {
                call(RateLimitLayer::new(limit_by(bucket)).typed_error().layer(service), cost, context).await;
            }
            if let Ok(limiter) = limiter.clone() {
                call(LoadShedLayer::new(limiter).typed_error().layer(service), cost, context).await;
            }
            if let Ok(stack) = steadfast::client().timeout(limit).retry(retry.clone()).classify(classify).service(service) {
                let _ = stack.explain().to_string();
                call(stack, cost, context).await;
            }
            if let Ok(stack) = steadfast::client().retry(retry.clone()).attempt_timeout(attempt_limit).service(service) {
                let _ = stack.explain().to_string();
                call(stack, cost, context).await;
            }
            if let (Ok(breaker), Ok(bucket), Ok(limiter)) = (breaker, bucket.clone(), limiter.clone()) {
                let client = steadfast::client().timeout(limit).retry(retry).attempt_timeout(attempt_limit);
                let client = client.circuit_breaker(breaker).rate_limit(limit_by(bucket)).load_shed(limiter);
                if let Ok(stack) = client.classify(classify).service(service) {
                    let _ = stack.explain().to_string();
                    call(stack, cost, context).await;
                }
            }
            if let (Ok(bucket), Ok(limiter)) = (bucket, limiter) {
                let server = steadfast::server().timeout(limit).rate_limit(limit_by(bucket)).load_shed(limiter);
                if let Ok(stack) = server.service(service) {
                    let _ = stack.explain().to_string();
                    call(stack, cost, context).await;
                }
            }
        });
    }
}

proptest! {
    #![proptest_config(crate::support::cases(300))]

    #[test]
    fn no_queue_panics(
        builder in any_queue(),
        changes in (any_count(), any_count(), any_duration(), any_discipline(), any_pace()),
        calls in prop::collection::vec((any_count(), any_duration(), any_shift()), 1..10),
        answer_with in any_answer(),
    ) {
        let Ok(queue) = builder.build() else { return Ok(()) };
        run(async {
            let level = LoadLevel::new(queue.clone()).weight(|request: &u64| *request);
            let layer = LoadLevelLayer::new(level).typed_error();
            let service = layer.layer(service_fn(move |_: u64| answer(answer_with)));
            let mut waiting = Vec::new();
            for (at, (weight, deadline, shift)) in calls.into_iter().enumerate() {
                let context = Instant::now().checked_add(deadline);
                let context = context.map_or(CallContext::new(), |instant| CallContext::new().with_deadline(instant));
                let mut acquire = Box::pin(queue.acquire_weighing(weight));
                let mut cx = Context::from_waker(Waker::noop());
                if context.sync_scope(|| acquire.as_mut().poll(&mut cx)).is_pending() {
                    waiting.push(acquire);
                }
                let _ = queue.readings_at(shifted(Instant::now(), shift));
                call(service.clone(), weight, context).await;
                if at == 3 {
                    let (concurrency, depth, wait, discipline, pace) = changes;
                    let _ = queue.set_concurrency(concurrency as usize);
                    let _ = (queue.set_depth(depth as usize), queue.set_max_weight(depth), queue.set_max_wait(wait));
                    let _ = (queue.set_discipline(discipline), queue.set_pace(pace));
                }
                let _ = (queue.readings(), format!("{queue:?}"), explained(&queue));
            }
            drop(waiting);
            assert_eq!((queue.in_service(), queue.readings().waiting), (0, 0));
        });
    }
}

/// Returns the explanation of a stack with this queue.
fn explained(queue: &Queue) -> String {
    steadfast::server().load_level(queue.clone()).layer().unwrap().explain().to_string()
}

/// Returns the longest duration that can be added to `now` without an overflow of `Instant`.
fn to_the_end_of_time(now: Instant) -> Duration {
    let mut longest = Duration::ZERO;
    for bit in (0..64).rev() {
        let longer = longest + Duration::from_secs(1 << bit);
        longest = if now.checked_add(longer).is_some() { longer } else { longest };
    }
    for bit in (0..30).rev() {
        let longer = longest + Duration::from_nanos(1 << bit);
        longest = if now.checked_add(longer).is_some() { longer } else { longest };
    }
    longest
}

/// A hint that ends near the last instant of the clock must not overflow. The result of the call does not matter.
#[test]
fn a_hint_that_ends_near_the_last_instant_does_not_panic() {
    run(async {
        for early in [Duration::ZERO, NANO, Duration::from_millis(1), SECOND] {
            let hint = to_the_end_of_time(Instant::now()) - early;
            let service = service_fn(move |_: ()| async move { Err::<(), _>(hint) });
            let retry = Retry::new(2).backoff(Backoff::none()).without_budget();
            let layer = RetryLayer::new(retry).unwrap();
            let layer = layer.classify(|result: Result<&(), &Duration>| match result {
                Err(hint) => Outcome::Overloaded { retry_after: Some(*hint) },
                Ok(()) => Outcome::Success,
            });
            let call = layer.typed_error().layer(service).oneshot(());
            let _ = tokio::time::timeout(LONGEST, call).await;
        }
    });
}
