//! Configurations of stacks, at random.

use proptest::{option, prelude::*};
use std::time::Duration;
use steadfast::{
    load_level::Discipline,
    rate_limit::Quota,
    retry::{Backoff, Jitter},
    stack::live::{
        BreakerConfig, BudgetConfig, FailureRate, Forced, LoadLevelConfig, LoadShedConfig, Pace, RateLimitConfig,
        RetryConfig, SlowCallRate, StackConfig,
    },
};

fn duration() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_nanos)
}

fn pace() -> impl Strategy<Value = Pace> {
    (any::<u64>(), duration()).prop_map(|(count, period)| Pace { count, period })
}

/// Numbers without NaN, so that a configuration is equal to its copy. JSON preserves all of them except infinity.
fn share() -> impl Strategy<Value = f64> {
    prop::sample::select(vec![0.0, 0.125, 0.25, 0.5, 1.0, 100.0, f64::INFINITY])
}

fn retry() -> impl Strategy<Value = RetryConfig> {
    let jitter = prop_oneof![
        prop::sample::select(vec![Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::None]),
        share().prop_map(Jitter::PlusMinus),
    ];
    let budget = (share(), any::<u32>(), option::of(pace()));
    let budget = budget.prop_map(|(ratio, cap, floor)| BudgetConfig { ratio, cap, floor });
    let backoff = (duration(), duration(), any::<bool>()).prop_map(|(base, cap, is_linear)| {
        if is_linear { Backoff::linear(base, cap) } else { Backoff::exponential(base, cap) }
    });
    (any::<u32>(), backoff, jitter, duration(), option::of(budget)).prop_map(
        |(attempts, backoff, jitter, max_hint, budget)| RetryConfig {
            attempts,
            backoff: backoff.jitter(jitter),
            max_hint,
            budget,
        },
    )
}

fn breaker() -> impl Strategy<Value = BreakerConfig> {
    let rate = option::of((share(), duration()).prop_map(|(rate, window)| FailureRate { rate, window }));
    let slow = option::of((share(), duration()).prop_map(|(rate, threshold)| SlowCallRate { rate, threshold }));
    let rates = (rate, slow);
    let forced = option::of(prop_oneof![Just(Forced::Open), Just(Forced::Closed)]);
    let counts = (option::of(any::<u32>()), any::<u32>(), any::<u32>());
    let open = (duration(), option::of(duration()));
    (counts, rates, open, duration(), option::of(duration()), any::<bool>(), forced).prop_map(
        |(
            (consecutive_failures, minimum_calls, probes),
            (failure_rate, slow_call_rate),
            (open_for, max_open_for),
            probe_timeout,
            after,
            overload,
            forced,
        )| {
            BreakerConfig {
                consecutive_failures,
                failure_rate,
                slow_call_rate,
                minimum_calls,
                open_for,
                max_open_for,
                probes,
                probe_timeout,
                cancelled_is_failure_after: after,
                overload_is_failure: overload,
                forced,
            }
        },
    )
}

fn rate_limit() -> impl Strategy<Value = RateLimitConfig> {
    let quota = (any::<u64>(), duration(), any::<u64>());
    let quota = quota.prop_map(|(count, period, burst)| Quota::new(count, period).with_burst(burst));
    (prop::collection::vec(quota, 0..=8), any::<bool>()).prop_map(|(quotas, shadow)| RateLimitConfig { quotas, shadow })
}

fn load_level() -> impl Strategy<Value = LoadLevelConfig> {
    let discipline = prop_oneof![
        share().prop_map(Discipline::by_deadline),
        share().prop_map(Discipline::earliest_deadline_with),
        Just(Discipline::fifo()),
        Just(Discipline::lifo()),
        (duration(), duration()).prop_map(|(target, interval)| Discipline::adaptive_with(target, interval)),
    ];
    (any::<usize>(), any::<usize>(), option::of(any::<u64>()), duration(), discipline, option::of(pace())).prop_map(
        |(concurrency, depth, max_weight, max_wait, discipline, pace)| LoadLevelConfig {
            concurrency,
            depth,
            max_weight,
            max_wait,
            discipline,
            pace,
        },
    )
}

/// Any configuration, whether it can work or not.
pub fn config() -> impl Strategy<Value = StackConfig> {
    let load_shed = (any::<usize>(), any::<bool>()).prop_map(|(limit, shadow)| LoadShedConfig { limit, shadow });
    (
        any::<bool>(),
        option::of(duration()),
        option::of(retry()),
        option::of(breaker()),
        prop::collection::vec(rate_limit(), 0..=4),
        option::of(load_shed),
        option::of(load_level()),
        option::of(duration()),
    )
        .prop_map(
            |(switched_off, timeout, retry, circuit_breaker, rate_limit, load_shed, load_level, attempt_timeout)| {
                StackConfig {
                    switched_off,
                    timeout,
                    retry,
                    circuit_breaker,
                    rate_limit,
                    load_shed,
                    load_level,
                    attempt_timeout,
                }
            },
        )
}
