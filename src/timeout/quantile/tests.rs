use super::*;
use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};
use rand_distr::{Distribution, LogNormal};

const MS: Duration = Duration::from_millis(1);

fn quantile(rate: f64) -> Quantile {
    Quantile::builder(rate).between(MS / 100, 60_000 * MS).build().unwrap()
}

fn within_two_percent(latencies: &[f64]) {
    let limit = quantile(0.001);
    latencies.iter().for_each(|latency| limit.record(Duration::from_secs_f64(*latency)));
    // All full slices but the last one are learned.
    let learned = latencies.len() / SLICE * SLICE - SLICE;
    let mut sorted = latencies[..learned].to_vec();
    sorted.sort_by(f64::total_cmp);
    let exact = sorted[learned - 1 - (learned as f64 * 0.001) as usize];
    let got = limit.current().as_secs_f64();
    assert!((got / exact - 1.0).abs() < 0.02, "{got} is not {exact}");
}

#[test]
fn the_quantile_of_ten_thousand_samples_is_within_two_percent_of_a_sort() {
    let mut random = SmallRng::seed_from_u64(7);
    let uniform: Vec<f64> = (0..10_000).map(|_| random.random_range(0.001..0.1)).collect();
    within_two_percent(&uniform);
    let shape = LogNormal::new(-3.0, 1.0).unwrap();
    let lognormal: Vec<f64> = (0..10_000).map(|_| shape.sample(&mut random)).collect();
    within_two_percent(&lognormal);
    let mode = |random: &mut SmallRng| if random.random_bool(0.05) { 1.0 } else { 0.01 };
    let bimodal: Vec<f64> = (0..10_000).map(|_| mode(&mut random) * random.random_range(0.9..1.1)).collect();
    within_two_percent(&bimodal);
}

/// Calls with these latencies. Returns the share that was given up.
fn calls(limit: &Quantile, count: usize, random: &mut impl Rng, factor: f64) -> f64 {
    let shape = LogNormal::new(-4.0, 1.0).unwrap();
    let mut given_up = 0;
    for _ in 0..count {
        let (latency, longest) = (Duration::from_secs_f64(factor * shape.sample(random)), limit.current());
        if latency > longest {
            given_up += 1;
            limit.censored(longest);
        } else {
            limit.record(latency);
        }
    }
    f64::from(given_up) / count as f64
}

#[test]
fn censored_calls_neither_draw_the_limit_down_nor_up() {
    for rate in [0.001, 0.01, 0.05] {
        let (limit, mut random) = (quantile(rate), SmallRng::seed_from_u64(3));
        calls(&limit, (20.0 / rate) as usize, &mut random, 1.0);
        let achieved = calls(&limit, (500.0 / rate) as usize, &mut random, 1.0);
        assert!(achieved > rate * 0.7 && achieved < rate * 1.4, "{achieved} for {rate}");
    }
}

#[test]
fn overload_freezes_the_limit_and_reset_thaws_it() {
    let (limit, mut random) = (quantile(0.001), SmallRng::seed_from_u64(5));
    calls(&limit, 30_000, &mut random, 1.0);
    let before = limit.current();
    calls(&limit, 60_000, &mut random, 10.0);
    assert!(limit.is_frozen());
    assert_eq!(limit.current(), before);
    calls(&limit, 2 * SLICE, &mut random, 1.0);
    assert!(!limit.is_frozen());
    limit.reset();
    assert_eq!(limit.current(), limit.ceiling());
}

#[test]
fn a_service_that_is_much_slower_for_good_is_learned_after_ten_windows() {
    let (limit, mut random) = (quantile(0.01), SmallRng::seed_from_u64(5));
    calls(&limit, 5_000, &mut random, 1.0);
    let before = limit.current();
    calls(&limit, 9_000, &mut random, 20.0);
    assert_eq!((limit.is_frozen(), limit.current()), (true, before));
    calls(&limit, 1_300, &mut random, 20.0);
    assert_eq!((limit.is_frozen(), limit.current()), (false, limit.ceiling()));
    calls(&limit, 5_000, &mut random, 20.0);
    let achieved = calls(&limit, 30_000, &mut random, 20.0);
    assert!(achieved > 0.005 && achieved < 0.02, "{achieved}");
}

#[test]
fn a_service_that_is_twice_as_slow_for_good_gets_a_longer_limit() {
    let (limit, mut random) = (quantile(0.01), SmallRng::seed_from_u64(5));
    calls(&limit, 5_000, &mut random, 1.0);
    calls(&limit, 30_000, &mut random, 2.0);
    let achieved = calls(&limit, 30_000, &mut random, 2.0);
    assert!(achieved > 0.005 && achieved < 0.02, "{achieved}");
}

#[test]
fn what_no_limit_can_be_is_refused() {
    let bad = [0.0, 1.0, -0.1, f64::NAN, f64::INFINITY, 0.00001];
    assert!(bad.into_iter().all(|rate| Quantile::builder(rate).build().is_err()));
    let bad = [(Duration::ZERO, MS), (2 * MS, MS), (MS, Duration::MAX)];
    assert!(bad.into_iter().all(|(floor, ceiling)| Quantile::builder(0.01).between(floor, ceiling).build().is_err()));
}

proptest! {
    /// The exact model: all samples of the window, sorted.
    #[test]
    fn without_timeouts_the_limit_is_that_of_a_sorted_window(
        latencies in prop::collection::vec(100_000_u64..1_000_000_000, 700..3000),
    ) {
        let limit = quantile(0.01);
        latencies.iter().for_each(|latency| limit.record(Duration::from_nanos(*latency)));
        let learned = latencies.len() / SLICE * SLICE - SLICE;
        let mut window = latencies[learned.saturating_sub(1000)..learned].to_vec();
        window.sort_unstable();
        if window.len() >= 500 {
            let exact = window[window.len() - 1 - (window.len() as f64 * 0.01 + 1e-6) as usize] as f64;
            let got = limit.current().as_nanos() as f64;
            prop_assert!(got >= exact && got <= exact * 1.008, "{got} is not {exact}");
        }
    }
}
