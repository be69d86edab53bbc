//! The waits before retries: their bounds and their spread. Two layers draw different waits, and a seed repeats the
//! waits of an earlier run.

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

/// A duration from a nanosecond to 366 days, with microseconds as likely as days.
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
    prop_oneof![
        prop::sample::select(vec![Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::None]),
        any::<f64>().prop_map(Jitter::PlusMinus),
    ]
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
        for _ in 0..10 {
            let full = backoff.draw(retry, &random);
            prop_assert!(full <= ceiling);
            let equal = backoff.jitter(Jitter::Equal).draw(retry, &random);
            prop_assert!(ceiling / 2 <= equal && equal <= ceiling);
            let none = backoff.jitter(Jitter::None).draw(retry, &random);
            prop_assert_eq!(none, ceiling);
            let around = backoff.jitter(Jitter::PlusMinus(0.25)).draw(retry, &random);
            let (nanos, spread) = (ceiling.as_nanos(), ceiling.as_nanos() / 4 + 4);
            prop_assert!(nanos.saturating_sub(spread) <= around.as_nanos());
            prop_assert!(around.as_nanos() <= (nanos + spread).min(cap.as_nanos()));
        }
        let mut previous = base;
        for decorrelated in backoff.jitter(Jitter::Decorrelated).waits(&random).take(10) {
            prop_assert!(base <= decorrelated && decorrelated <= previous.saturating_mul(3).min(cap));
            previous = decorrelated;
        }
    }

    #[test]
    fn the_ceiling_grows_by_the_step_up_to_the_cap((step, cap) in any_backoff(), retry in any_retry()) {
        let expected = step.as_nanos().saturating_mul(retry.into()).min(cap.as_nanos());
        prop_assert_eq!(Backoff::linear(step, cap).ceiling(retry).as_nanos(), expected);
    }

    #[test]
    fn no_backoff_panics_even_with_values_that_a_retry_refuses(
        base in prop_oneof![Just(Duration::ZERO), Just(Duration::MAX), any_duration()],
        cap in prop_oneof![Just(Duration::ZERO), Just(Duration::MAX), any_duration()],
        jitter in any_jitter(),
        retry in any::<u32>(),
    ) {
        let random = Random::seeded(0);
        for retry in [retry, 0, 1, 32, 33, u32::MAX] {
            for backoff in [Backoff::exponential(base, cap), Backoff::linear(base, cap), Backoff::fixed(base)] {
                let longest = if backoff == Backoff::fixed(base) { base } else { cap };
                let backoff = backoff.jitter(jitter);
                prop_assert!(backoff.draw(retry, &random) <= longest);
                prop_assert!(backoff.waits(&random).take(3).all(|wait| wait <= longest));
            }
        }
    }
}

/// Returns how many of the waits fall into each tenth of the range from `lowest` to `highest`.
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
    let ranges = [(Jitter::Full, Duration::ZERO), (Jitter::Equal, cap / 2), (Jitter::PlusMinus(0.25), cap * 3 / 4)];
    for (jitter, lowest) in ranges {
        for retry in [10, 1000, u32::MAX] {
            let client = |seed| backoff.jitter(jitter).draw(retry, &Random::seeded(seed));
            let mut waits: Vec<_> = (0..1000).map(client).collect();
            let tenths = tenths(waits.iter().copied(), lowest, cap);
            // A hundred are expected in each tenth. A deviation of thirty is more than three standard deviations.
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
    let mut waits: Vec<_> = (0..3000).map(|seed| backoff.draw(10, &Random::seeded(seed))).collect();
    // After a wait at the cap, the next one is drawn from the base up to three times the cap. Two thirds of these draws
    // are beyond the cap. Each of them is drawn again, between three quarters of the cap and the cap.
    let beyond = waits.iter().copied().filter(|wait| *wait >= cap * 3 / 4);
    assert!((950..=1250).contains(&beyond.clone().count()), "{}", beyond.count());
    let tenths = tenths(beyond.clone(), cap * 3 / 4, cap);
    let each = beyond.count() as u32 / 10;
    assert!(tenths.iter().all(|count| (each - 40..=each + 40).contains(count)), "{tenths:?}");
    waits.sort();
    waits.dedup();
    assert!(waits.len() > 2985, "{} different waits", waits.len());
}

#[test]
fn a_decorrelated_wait_has_the_spread_of_one_that_follows_the_waits_before_it() {
    let backoff = Backoff::exponential(Duration::from_millis(10), Duration::from_secs(10)).jitter(Jitter::Decorrelated);
    let mean = |waits: &mut dyn Iterator<Item = Duration>| waits.map(|wait| wait.as_secs_f64()).sum::<f64>() / 4000.0;
    for retry in [1, 2, 4, 6] {
        let drawn = mean(&mut (0..4000).map(|seed| backoff.draw(retry, &Random::seeded(seed))));
        let nth = |seed| backoff.waits(&Random::seeded(seed)).nth(retry as usize - 1).unwrap();
        let followed = mean(&mut (4000..8000).map(nth));
        // Below the cap, the mean of a wait is (base + 3 * previous) / 2. `previous` is the mean of the wait before it.
        let expected = (1..=retry).fold(10.0, |previous, _| (10.0 + 3.0 * previous) / 2.0) / 1000.0;
        for mean in [drawn, followed] {
            assert!((mean / expected - 1.0).abs() < 0.06, "retry {retry}: {mean} and not {expected}");
        }
    }
}

#[test]
fn fixed_waits_are_all_the_same_until_a_jitter_is_asked_for() {
    let (random, wait) = (Random::seeded(0), Duration::from_millis(100));
    let backoff = Backoff::fixed(wait);
    assert!(backoff.waits(&random).take(100).all(|drawn| drawn == wait));
    let full: Vec<_> = backoff.jitter(Jitter::Full).waits(&random).take(1000).collect();
    assert!(tenths(full.into_iter(), Duration::ZERO, wait).iter().all(|count| (70..=130).contains(count)));
    let shortened = backoff.jitter(Jitter::PlusMinus(0.2)).waits(&random).take(100);
    assert!({ shortened }.all(|drawn| wait * 4 / 5 <= drawn && drawn <= wait));
}

#[test]
fn plus_or_minus_a_factor_is_even_on_both_sides_of_the_ceiling() {
    let (step, cap) = (Duration::from_millis(100), Duration::from_secs(1));
    let backoff = Backoff::linear(step, cap).jitter(Jitter::PlusMinus(0.5));
    for (retry, lowest, highest) in [(1, 50, 150), (4, 200, 600), (8, 400, 1000), (10, 500, 1000), (99, 500, 1000)] {
        let (lowest, highest) = (Duration::from_millis(lowest), Duration::from_millis(highest));
        let waits: Vec<_> = (0..1000).map(|seed| backoff.draw(retry, &Random::seeded(seed))).collect();
        assert!(waits.iter().all(|wait| lowest <= *wait && *wait <= highest), "retry {retry}: {waits:?}");
        let tenths = tenths(waits.into_iter(), lowest, highest);
        assert!(tenths.iter().all(|count| (70..=130).contains(count)), "retry {retry}: {tenths:?}");
    }
}

#[test]
fn what_a_backoff_says_of_itself_names_its_growth_and_its_jitter() {
    let (short, long) = (Duration::from_millis(50), Duration::from_secs(2));
    for (backoff, text) in [
        (Backoff::default(), "waits of at most 50ms, doubling up to 2s, full jitter"),
        (Backoff::linear(short, long), "waits of at most 50ms, growing by 50ms up to 2s, full jitter"),
        (
            Backoff::linear(short, long).jitter(Jitter::PlusMinus(0.5)),
            "waits of 50ms, growing by 50ms up to 2s, plus or minus 50%",
        ),
        (Backoff::exponential(short, long).jitter(Jitter::None), "waits of 50ms, doubling up to 2s, no jitter"),
        (Backoff::fixed(short), "waits of 50ms"),
        (Backoff::fixed(short).jitter(Jitter::PlusMinus(0.125)), "waits of 50ms, plus or minus 12.5%"),
        (Backoff::fixed(short).jitter(Jitter::Full), "waits of at most 50ms, full jitter"),
        (
            Backoff::exponential(short, long).jitter(Jitter::Decorrelated),
            "waits from 50ms up to 2s, decorrelated jitter",
        ),
        (Backoff::none(), "no waits"),
    ] {
        assert_eq!(backoff.to_string(), text);
    }
}

#[test]
fn no_backoff_means_no_wait() {
    let random = Random::seeded(0);
    for jitter in [Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::None] {
        for retry in [0, 1, 33, u32::MAX] {
            assert_eq!(Backoff::none().jitter(jitter).draw(retry, &random), Duration::ZERO);
        }
    }
}

/// Returns the waits between the attempts of one call that always fails.
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
        // Two layers, each of them twice, and a clone of one.
        let mut calls = Vec::new();
        for layer in [&one, &other, &one, &other, &one.clone()] {
            calls.push(waits_of_one_call(layer).await);
        }
        assert!(calls.iter().all(|waits| waits.len() == 5), "{calls:?}");
        // Tokio's timers have a resolution of a millisecond. Of 25 waits below ten seconds, hardly two are equal.
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
