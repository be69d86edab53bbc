//! The waits before retries: their bounds, their spread, and that nobody draws what somebody else drew.

use proptest::prelude::*;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use steadfast::{
    Random,
    retry::{Backoff, Jitter, Retry, RetryLayer},
};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};

const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A duration from a nanosecond to 366 days, as likely in the microseconds as in the days.
fn any_duration() -> impl Strategy<Value = Duration> {
    (1..=YEAR.as_nanos() as u64, 0..55u32).prop_map(|(nanos, shift)| Duration::from_nanos((nanos >> shift).max(1)))
}

/// A base and a cap that a retry accepts.
fn any_backoff() -> impl Strategy<Value = (Duration, Duration)> {
    (any_duration(), any_duration()).prop_map(|(one, other)| (one.min(other), one.max(other)))
}

fn any_retry() -> impl Strategy<Value = u32> {
    prop_oneof![1..70u32, any::<u32>().prop_map(|retry| retry.max(1)), Just(u32::MAX)]
}

fn any_jitter() -> impl Strategy<Value = Jitter> {
    prop::sample::select(vec![Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::None])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ceiling_doubles_from_the_base_to_the_cap((base, cap) in any_backoff(), retry in any_retry()) {
        let backoff = Backoff::exponential(base, cap);
        let factor = 1u128.checked_shl(retry - 1).unwrap_or(u128::MAX);
        let expected = base.as_nanos().saturating_mul(factor).min(cap.as_nanos());
        prop_assert_eq!(backoff.ceiling(retry).as_nanos(), expected);
    }

    #[test]
    fn the_ceiling_never_falls((base, cap) in any_backoff(), retry in any_retry(), later in any_retry()) {
        let backoff = Backoff::exponential(base, cap);
        let (retry, later) = (retry.min(later), retry.max(later));
        prop_assert!(base <= backoff.ceiling(retry));
        prop_assert!(backoff.ceiling(retry) <= backoff.ceiling(later));
        prop_assert!(backoff.ceiling(later) <= cap);
    }

    #[test]
    fn every_wait_is_within_the_bounds_of_its_jitter(
        (base, cap) in any_backoff(),
        retry in any_retry(),
        seed in any::<u64>(),
    ) {
        let random = Random::seeded(seed);
        let backoff = Backoff::exponential(base, cap);
        let ceiling = backoff.ceiling(retry);
        let mut decorrelated = Duration::ZERO;
        for _ in 0..10 {
            let full = backoff.draw(retry, Duration::ZERO, &random);
            prop_assert!(full <= ceiling);
            let equal = backoff.jitter(Jitter::Equal).draw(retry, Duration::ZERO, &random);
            prop_assert!(ceiling / 2 <= equal && equal <= ceiling);
            let none = backoff.jitter(Jitter::None).draw(retry, Duration::ZERO, &random);
            prop_assert_eq!(none, ceiling);
            let most = decorrelated.max(base).saturating_mul(3).min(cap);
            decorrelated = backoff.jitter(Jitter::Decorrelated).draw(retry, decorrelated, &random);
            prop_assert!(base <= decorrelated && decorrelated <= most);
        }
    }

    #[test]
    fn no_values_at_all_panic_even_those_that_no_retry_accepts(
        base in prop_oneof![Just(Duration::ZERO), Just(Duration::MAX), any_duration()],
        cap in prop_oneof![Just(Duration::ZERO), Just(Duration::MAX), any_duration()],
        jitter in any_jitter(),
        retry in any::<u32>(),
        previous in prop_oneof![Just(Duration::ZERO), Just(Duration::MAX), any_duration()],
    ) {
        let random = Random::seeded(0);
        for retry in [retry, 0, 1, 32, 33, u32::MAX] {
            let wait = Backoff::exponential(base, cap).jitter(jitter).draw(retry, previous, &random);
            prop_assert!(wait <= cap);
        }
    }
}

/// How many of a thousand waits fall into each tenth of the range from `lowest` to `highest`.
fn tenths(waits: impl Iterator<Item = Duration>, lowest: Duration, highest: Duration) -> [u32; 10] {
    let mut tenths = [0; 10];
    for wait in waits {
        let part = (wait - lowest).as_secs_f64() / (highest - lowest).as_secs_f64() * 10.0;
        tenths[(part as usize).min(9)] += 1;
    }
    tenths
}

#[test]
fn a_thousand_clients_at_the_cap_spread_evenly_and_hardly_two_come_together() {
    let (base, cap) = (Duration::from_millis(50), Duration::from_secs(2));
    let backoff = Backoff::exponential(base, cap);
    let ranges = [(Jitter::Full, Duration::ZERO), (Jitter::Equal, cap / 2)];
    for (jitter, lowest) in ranges {
        for retry in [10, 1000, u32::MAX] {
            let client = |seed| backoff.jitter(jitter).draw(retry, cap, &Random::seeded(seed));
            let mut waits: Vec<_> = (0..1000).map(client).collect();
            let tenths = tenths(waits.iter().copied(), lowest, cap);
            // A hundred each; thirty are more than three standard deviations.
            assert!(tenths.iter().all(|count| (70..=130).contains(count)), "{jitter:?}, retry {retry}: {tenths:?}");
            waits.sort();
            waits.dedup();
            assert!(waits.len() > 995, "{jitter:?}, retry {retry}: {} different waits", waits.len());
        }
    }
}

#[test]
fn decorrelated_clients_at_the_cap_do_not_line_up_on_it() {
    let (base, cap) = (Duration::from_millis(50), Duration::from_secs(2));
    let backoff = Backoff::exponential(base, cap).jitter(Jitter::Decorrelated);
    let mut waits: Vec<_> = (0..3000).map(|seed| backoff.draw(10, cap, &Random::seeded(seed))).collect();
    // Two thirds are drawn beyond the cap and then again: a quarter of the rest is among them.
    let beyond = waits.iter().copied().filter(|wait| *wait >= cap * 3 / 4);
    assert!((2150..=2350).contains(&beyond.clone().count()), "{}", beyond.count());
    let tenths = tenths(beyond, cap * 3 / 4, cap);
    assert!(tenths.iter().all(|count| (175..=275).contains(count)), "{tenths:?}");
    waits.sort();
    waits.dedup();
    assert!(waits.len() > 2985, "{} different waits", waits.len());
}

#[test]
fn no_backoff_means_no_wait() {
    let random = Random::seeded(0);
    for jitter in [Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::None] {
        for retry in [0, 1, 33, u32::MAX] {
            assert_eq!(Backoff::none().jitter(jitter).draw(retry, Duration::ZERO, &random), Duration::ZERO);
        }
    }
}

/// The waits between the attempts of one call that always fails.
async fn waits_of_one_call(layer: &RetryLayer) -> Vec<Duration> {
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let seen = attempts.clone();
    let dead = service_fn(move |_: ()| {
        seen.lock().unwrap().push(Instant::now());
        async { Err::<(), tower::BoxError>("dead".into()) }
    });
    layer.layer(dead).oneshot(()).await.unwrap_err();
    let attempts = attempts.lock().unwrap();
    attempts.windows(2).map(|pair| pair[1].saturating_duration_since(pair[0])).collect()
}

#[tokio::test(start_paused = true)]
async fn layers_of_one_cloned_specification_never_draw_the_same_waits() {
    let backoff = Backoff::exponential(Duration::from_secs(10), Duration::from_secs(10));
    let by_default = Retry::new(6).backoff(backoff).without_budget();
    let seeded = by_default.clone().random(Random::seeded(7));
    for specification in [by_default, seeded] {
        let one = RetryLayer::new(specification.clone()).unwrap();
        let other = RetryLayer::new(specification).unwrap();
        // Two layers, and each of them twice; also a clone of one.
        let mut calls = Vec::new();
        for layer in [&one, &other, &one, &other, &one.clone()] {
            calls.push(waits_of_one_call(layer).await);
        }
        assert!(calls.iter().all(|waits| waits.len() == 5), "{calls:?}");
        // Timers go by milliseconds: of 25 waits below ten seconds hardly two are the same.
        let mut waits: Vec<_> = calls.into_iter().flatten().collect();
        waits.sort();
        waits.dedup();
        assert!(waits.len() >= 23, "only {} different waits: {waits:?}", waits.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_seed_repeats_the_waits_of_an_earlier_run() {
    let backoff = Backoff::exponential(Duration::from_secs(10), Duration::from_secs(10));
    let run = async |seed| {
        let retry = Retry::new(6).backoff(backoff).without_budget().random(Random::seeded(seed));
        waits_of_one_call(&RetryLayer::new(retry).unwrap()).await
    };
    assert_eq!(run(1).await, run(1).await);
    assert_ne!(run(1).await, run(2).await);
}
