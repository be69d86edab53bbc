//! Token buckets with a warm-up. A cold bucket holds one token. On the ramp, its rate grows from a third to the whole.
//! The tests check how much the ramp mints, when a bucket gets cold, and what a changed quota does.

use crate::support::{Counted, Stopwatch, ms, secs};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::time::Duration;
use steadfast::rate_limit::{Quota, TokenBucket};
use tokio::{
    runtime, spawn,
    time::{Instant, advance},
};

fn nanos(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

/// A stopped clock, so that the bucket is built at the instant from which the tests count.
fn standing_clock() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

fn bucket(count: u64, burst: u64, warm_up: Duration) -> TokenBucket {
    let builder = TokenBucket::builder(count, secs(1)).burst(burst).warm_up(warm_up);
    builder.max_wait(secs(3600)).build().unwrap()
}

/// Takes all available tokens.
fn drain(bucket: &TokenBucket, now: Instant) -> u64 {
    let mut taken = 0;
    while bucket.try_acquire_at(1, now).is_ok() {
        taken += 1;
    }
    taken
}

/// The tokens that a cold bucket of `count` per second mints in `elapsed`, in units of 2^-20 of a token. The rate grows
/// from a third to the whole in `warm_up`.
fn minted(count: u64, warm_up: Duration, elapsed: Duration) -> u128 {
    let (whole, elapsed) = (warm_up.as_nanos(), elapsed.as_nanos());
    let rate = u128::from(count) << 20;
    let ramp = elapsed.min(whole);
    rate * (ramp * (whole + ramp) + 3 * whole * (elapsed - ramp)) / (3 * whole * 1_000_000_000)
}

#[test]
fn a_new_bucket_has_one_token_and_its_rate_grows_from_a_third_to_the_whole() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now();
    let bucket = bucket(90, 10_000, secs(30));
    // After a share `x` of the warm-up, `x (1 + x) / 3` of its 2,700 tokens at the full rate are minted.
    for (elapsed, there) in [(0, 1), (10, 1 + 400), (20, 1 + 1000), (30, 1 + 1800), (40, 1 + 2700), (50, 1 + 3600)] {
        // A token may come a nanosecond late.
        assert_eq!(bucket.available_at(now + secs(elapsed) + nanos(1)), there, "after {elapsed} s");
    }
    assert_eq!(drain(&bucket, now), 1);
    assert_eq!(drain(&bucket, now + secs(30)), 1800);
    assert_eq!(drain(&bucket, now + secs(31)), 90);
}

#[test]
fn the_tokens_of_the_documented_example_come_on_time() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now();
    let bucket = bucket(10, 1000, secs(10));
    // Add the one token that a cold bucket holds. A token may come a nanosecond late.
    let there = |millis| bucket.available_at(now + ms(millis) + nanos(1));
    assert_eq!([5_000, 8_228, 8_229].map(there), [1 + 25, 1 + 49, 1 + 50]);
}

#[test]
fn each_token_of_the_ramp_comes_at_its_nanosecond_and_a_refusal_names_it() {
    let clock = standing_clock();
    let _guard = clock.enter();
    for (count, warm_up) in
        [(1, secs(100)), (7, secs(10)), (100, secs(30)), (1000, ms(500)), (999_983, nanos(12_345_679))]
    {
        let now = Instant::now();
        let bucket = bucket(count, 50, warm_up);
        bucket.try_acquire_at(1, now).unwrap();
        let mut elapsed = Duration::ZERO;
        for tokens in 1..300 {
            let wait = bucket.try_acquire_at(1, now + elapsed).unwrap_err().retry_after().unwrap();
            elapsed += wait;
            let exact = |elapsed| minted(count, warm_up, elapsed);
            let (early, late) = (elapsed.saturating_sub(nanos(4)), elapsed + nanos(4));
            assert!(
                exact(early) < tokens << 20 && exact(late) >= tokens << 20,
                "{count}/s in {warm_up:?}: token {tokens} after {elapsed:?}"
            );
            assert!(bucket.try_acquire_at(1, now + elapsed - nanos(1)).is_err(), "a nanosecond before");
            assert!(bucket.try_acquire_at(1, now + elapsed).is_ok(), "refused after the wait");
        }
    }
}

#[test]
fn no_interval_admits_more_than_the_burst_and_the_rate() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let mut random = SmallRng::seed_from_u64(3);
    for _ in 0..200 {
        let (count, burst) = (random.random_range(1..1000), random.random_range(1..100));
        let warm_up = ms(random.random_range(1..60_000));
        let now = Instant::now();
        let bucket = bucket(count, burst, warm_up);
        let (mut elapsed, mut log) = (0, Vec::new());
        for _ in 0..100 {
            elapsed += match random.random_range(0..20) {
                0 => 2 * warm_up.as_nanos() + u128::from(burst) * 1_000_000_000 / u128::from(count),
                _ => random.random_range(0..3 * u128::from(burst) * 1_000_000_000 / u128::from(count)),
            };
            let tokens = random.random_range(1..=burst);
            let taken = bucket.try_acquire_at(tokens, now + nanos(elapsed as u64)).is_ok();
            log.push((elapsed, if taken { u128::from(tokens) } else { 0 }));
        }
        for first in 0..log.len() {
            let mut tokens = 0;
            for (at, more) in &log[first..] {
                tokens += more;
                let minted = u128::from(count) * (at - log[first].0 + 4) / 1_000_000_000;
                assert!(tokens <= u128::from(burst) + minted, "{count}/s, {burst} at once: {tokens}");
            }
        }
    }
}

#[test]
fn a_bucket_is_cold_after_it_was_full_for_its_warm_up_and_not_a_nanosecond_earlier() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let start = Instant::now();
    let warm_up = secs(30);
    // The bucket is warm and empty after 50 s, and full 5 s after that.
    let warm = || {
        let bucket = bucket(10, 50, warm_up);
        while bucket.try_acquire_at(1, start + secs(20)).is_ok() {}
        assert_eq!(drain(&bucket, start + secs(50)), 50);
        bucket
    };
    let full = start + secs(55);
    assert_eq!(drain(&warm(), full + warm_up - nanos(1)), 50);
    let cold = warm();
    assert_eq!(cold.available_at(full + warm_up), 1);
    assert_eq!(drain(&cold, full + warm_up), 1);
    assert_eq!(drain(&cold, full + warm_up + secs(15)), 50, "75 tokens were minted");
    // A use moves the time at which the bucket gets cold.
    let again = full + warm_up + secs(30);
    assert_eq!(drain(&cold, again), 50);
    assert_eq!(drain(&cold, again + secs(1)), 10, "warm");
}

#[test]
fn an_unused_new_bucket_warms_up_and_gets_cold_like_any_other() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now();
    // The bucket holds only one token: it is full from the start, and half way up the ramp after 15 s.
    let half_way = bucket(30, 1, secs(30));
    assert_eq!(drain(&half_way, now + secs(15)), 1);
    // At two thirds of its rate and a little more, the next token comes in a little less than 50 ms.
    let wait = half_way.try_acquire_at(1, now + secs(15)).unwrap_err().retry_after().unwrap();
    assert!((ms(49)..ms(50)).contains(&wait), "{wait:?}");
    let cold = bucket(30, 1, secs(30));
    assert_eq!(drain(&cold, now + secs(30)), 1);
    let wait = cold.try_acquire_at(1, now + secs(30)).unwrap_err().retry_after().unwrap();
    assert!((ms(99)..ms(101)).contains(&wait), "{wait:?}");
}

#[test]
fn a_warm_bucket_in_use_never_gets_cold() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let start = Instant::now();
    let warm_up = secs(30);
    let bucket = bucket(10, 400, warm_up);
    let mut now = start + secs(60);
    drain(&bucket, now);
    // One call in about 30 s, so the bucket is full most of the time. The calls go on for 50 minutes: after each 18
    // minutes the bucket moves its anchor, the instant from which it counts minted tokens.
    for _ in 0..100 {
        now += warm_up + nanos(100_000_000) - nanos(1);
        assert!(bucket.available_at(now) > 1);
        assert!(bucket.try_acquire_at(1, now).is_ok());
    }
    now += secs(10);
    assert_eq!(drain(&bucket, now), 400);
}

#[test]
fn a_late_refund_does_not_make_a_warm_bucket_cold() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now() + secs(100);
    let bucket = bucket(10, 400, secs(30));
    drain(&bucket, now);
    // The bucket is full again 40 s after it was drained. After the next call, the refunds give back more tokens than
    // were ever taken. Ten seconds later, the bucket is still warm.
    let later = now + secs(45);
    bucket.try_acquire_at(50, later).unwrap();
    for _ in 0..100 {
        bucket.refund(400);
    }
    assert_eq!(drain(&bucket, later + secs(10)), 400);
}

#[test]
fn a_lower_rate_makes_a_bucket_cold_later() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let start = Instant::now();
    let bucket = bucket(10, 50, secs(30));
    while bucket.try_acquire_at(1, start + secs(20)).is_ok() {}
    assert_eq!(drain(&bucket, start + secs(50)), 50);
    // It would have been full after 5 s, and cold 30 s after that. Now it is full after 50 s.
    bucket.set_quota_at(Quota::new(1, secs(1)).with_burst(50), start + secs(50)).unwrap();
    assert_eq!(bucket.available_at(start + secs(90)), 40);
    assert_eq!(bucket.available_at(start + secs(130) - nanos(1)), 50);
    assert_eq!(bucket.available_at(start + secs(130)), 1);
}

#[test]
fn a_changed_quota_continues_the_same_ramp() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let warm_up = secs(30);
    let bucket = bucket(90, 10_000, warm_up);
    bucket.try_acquire(1).unwrap();
    // A token may come a nanosecond late.
    let now = Instant::now() + nanos(1);
    // 400 tokens in the first third, twice 600 in the second, and half of 800 in the last.
    bucket.set_quota_at(Quota::new(180, secs(1)).with_burst(10_000), now + secs(10)).unwrap();
    assert_eq!(bucket.available_at(now + secs(10)), 400);
    assert_eq!(bucket.available_at(now + secs(20)), 400 + 1200);
    bucket.set_quota_at(Quota::new(45, secs(1)).with_burst(1900), now + secs(20)).unwrap();
    assert_eq!(bucket.available_at(now + secs(20)), 1600);
    assert_eq!(bucket.available_at(now + secs(30)), 1900);
    assert_eq!(drain(&bucket, now + secs(20)), 1600);
    assert_eq!(drain(&bucket, now + secs(30)), 400);
    assert_eq!(drain(&bucket, now + secs(31)), 45);
    // A change by a clock that is behind mints nothing twice.
    bucket.set_quota_at(Quota::new(90, secs(1)), now + secs(31)).unwrap();
    bucket.set_quota_at(Quota::new(45, secs(1)), now).unwrap();
    assert_eq!(drain(&bucket, now + secs(31)), 0);
    assert_eq!(drain(&bucket, now + secs(32)), 45);
}

#[tokio::test(start_paused = true)]
async fn waiters_are_served_along_the_ramp_and_woken_once() {
    let bucket = bucket(9, 5, secs(30));
    bucket.try_acquire(1).unwrap();
    let stopwatch = Stopwatch::start();
    let tasks: Vec<_> = (1..=200u128)
        .map(|n| {
            let bucket = bucket.clone();
            spawn(async move {
                let (answer, polls) = Counted::new(bucket.acquire(1)).await;
                assert_eq!((answer, polls), (Ok(()), 2));
                let at = stopwatch.read();
                let exact = |elapsed| minted(9, secs(30), elapsed) >> 20;
                assert!(exact(at + nanos(4)) >= n && exact(at - ms(1) - nanos(4)) < n, "number {n} at {at:?}");
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_refund_to_a_warming_bucket_serves_a_waiter() {
    let bucket = bucket(1, 5, secs(600));
    bucket.try_acquire(1).unwrap();
    let stopwatch = Stopwatch::start();
    let waiting = spawn({
        let bucket = bucket.clone();
        async move { Counted::new(bucket.acquire(1)).await }
    });
    advance(ms(10)).await;
    bucket.refund(1);
    assert_eq!(waiting.await.unwrap(), (Ok(()), 2));
    assert_eq!(stopwatch.read(), ms(10));
}

#[test]
fn a_bucket_with_a_warm_up_works_until_the_end_of_time() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let now = Instant::now();
    let century = secs(100 * 366 * 24 * 60 * 60);
    for first in 0..8 {
        let bucket = bucket(10, 5, secs(600));
        for centuries in first..8 {
            let now = now + century * centuries;
            let _ = bucket.available_at(now);
            bucket.set_quota_at(Quota::new(10 + u64::from(centuries), secs(1)).with_burst(5), now).unwrap();
            let _ = bucket.try_acquire_or_owe_at(5, now);
            let _ = bucket.try_acquire_at(1, now + secs(100));
            assert!(bucket.available_at(now) <= 5);
        }
    }
}

#[test]
fn a_bucket_in_debt_gets_cold_only_after_it_was_full_for_the_warm_up() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let start = Instant::now();
    let bucket = bucket(10, 100, secs(10));
    // After a minute of calls at half the rate, the bucket is warm and full.
    let mut now = start;
    while now < start + secs(60) {
        let _ = bucket.try_acquire_at(5, now);
        now += secs(1);
    }
    let there = bucket.available_at(now);
    bucket.try_acquire_at(there, now).unwrap();
    bucket.try_acquire_or_owe_at(100, now).unwrap_err();
    // Ten seconds to pay the debt, ten to fill, and ten more until it is cold.
    assert!(bucket.available_at(now + secs(29)) >= 99, "{}", bucket.available_at(now + secs(29)));
    assert_eq!(bucket.available_at(now + secs(31)), 1);
}

#[test]
fn a_cold_bucket_stays_cold_when_its_quota_changes_and_when_a_cost_is_above_the_burst() {
    let clock = standing_clock();
    let _guard = clock.enter();
    let start = Instant::now();
    let bucket = TokenBucket::builder(100, secs(1)).warm_up(secs(60)).build().unwrap();
    let idle = start + secs(1000);
    assert_eq!(bucket.available_at(idle), 1);
    bucket.set_quota_at(Quota::new(101, secs(1)), idle).unwrap();
    assert_eq!(bucket.available_at(idle), 1);
    // No call was admitted, so the warm-up has not begun.
    assert_eq!(bucket.try_acquire_at(1000, idle).unwrap_err().retry_after(), None);
    assert_eq!(bucket.available_at(idle + secs(59)), 1);
    bucket.try_acquire_at(1, idle + secs(59)).unwrap();
    assert!(bucket.try_acquire_at(1, idle + secs(59)).is_err());
}
