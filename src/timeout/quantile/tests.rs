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
    // All full slices except the last one are learned.
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

/// Makes calls with lognormal latencies times `factor`. Returns the share that was given up.
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
fn censored_calls_move_the_limit_neither_down_nor_up() {
    for rate in [0.001, 0.01, 0.05] {
        let (limit, mut random) = (quantile(rate), SmallRng::seed_from_u64(3));
        calls(&limit, (20.0 / rate) as usize, &mut random, 1.0);
        let achieved = calls(&limit, (500.0 / rate) as usize, &mut random, 1.0);
        assert!(achieved > rate * 0.7 && achieved < rate * 1.4, "{achieved} for {rate}");
    }
}

#[test]
fn overload_freezes_the_limit_and_reset_returns_it_to_the_ceiling() {
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

/// Makes calls of which every other one, on average, has a caller's deadline of up to 50 ms. If `learns`, the limit
/// learns from the calls that these deadlines end.
fn calls_of_hurried_callers(limit: &Quantile, count: usize, random: &mut impl Rng, learns: bool) {
    let (shape, era) = (LogNormal::new(-4.0, 1.0).unwrap(), limit.era());
    for _ in 0..count {
        let (latency, longest) = (Duration::from_secs_f64(shape.sample(random)), limit.current());
        let deadline = if random.random_bool(0.5) { MS.mul_f64(50.0 * random.random::<f64>()) } else { Duration::MAX };
        match (latency <= deadline.min(longest), deadline < longest) {
            (true, _) => limit.record(latency),
            (false, true) if learns => limit.cut_of(era, deadline),
            (false, true) => {}
            (false, false) => limit.censored(longest),
        }
    }
}

#[test]
fn calls_that_their_callers_deadlines_end_do_not_lower_the_limit() {
    for rate in [0.01, 0.05] {
        let exact = {
            let (mut random, shape) = (SmallRng::seed_from_u64(1), LogNormal::new(-4.0, 1.0).unwrap());
            let mut all: Vec<f64> = (0..100_000).map(|_| shape.sample(&mut random)).collect();
            all.sort_by(f64::total_cmp);
            all[(100_000.0 * (1.0 - rate)) as usize]
        };
        let learned = |learns| {
            let (limit, mut random) = (quantile(rate), SmallRng::seed_from_u64(3));
            calls_of_hurried_callers(&limit, (100.0 / rate) as usize, &mut random, learns);
            let mut limits = Vec::new();
            for _ in 0..100 {
                calls_of_hurried_callers(&limit, (10.0 / rate) as usize, &mut random, learns);
                limits.push(limit.current().as_secs_f64() / exact);
            }
            assert!(!limit.is_frozen());
            limits.iter().sum::<f64>() / limits.len() as f64
        };
        let (with, without) = (learned(true), learned(false));
        assert!(with > 0.9 && with < 1.1, "{with} for {rate}");
        assert!(without < with - 0.1, "{without} for {rate}: without samples of such calls the limit should be lower");
    }
}

#[test]
fn a_limit_that_no_caller_waits_for_stays_the_same() {
    let (limit, mut random) = (quantile(0.01), SmallRng::seed_from_u64(5));
    calls(&limit, 5_000, &mut random, 1.0);
    let before = limit.current();
    // All callers wait for 20 ms, which is about the median.
    let shape = LogNormal::new(-4.0, 1.0).unwrap();
    for _ in 0..20_000 {
        let latency = Duration::from_secs_f64(shape.sample(&mut random));
        if latency < 20 * MS { limit.record(latency) } else { limit.cut_of(limit.era(), 20 * MS) }
    }
    // The limit may move while the window still has calls from before, which had no deadline.
    let after = limit.current();
    assert!(after > before.mul_f64(0.4) && after < before.mul_f64(2.5), "{before:?} {after:?}");
    assert_eq!((limit.is_frozen(), limit.achieved_rate()), (false, 0.0));
}

#[test]
fn a_call_counts_in_the_era_in_which_it_began_and_in_no_later_one() {
    let limit = quantile(0.1);
    let before = limit.era();
    limit.reset();
    (0..4 * SLICE).for_each(|_| limit.record_of(before, MS));
    (0..4 * SLICE).for_each(|_| limit.given_up_of(before, MS));
    assert_eq!((limit.current(), limit.is_frozen()), (limit.ceiling(), false));
    (0..2 * SLICE).for_each(|_| limit.record(MS));
    assert!(limit.current() < 2 * MS);
    // After ten windows of calls that were not learned, the limit begins again at the ceiling by itself, in a new era.
    let before = limit.era();
    (0..1_000 / SLICE * SLICE + 2 * SLICE).for_each(|_| limit.censored(limit.current()));
    assert_eq!(limit.current(), limit.ceiling());
    assert_ne!(limit.era(), before);
}

/// A limit whose fastest answer took 20 ms.
fn knows_20_ms() -> Quantile {
    let limit = quantile(0.1);
    (0..4 * SLICE as u32).for_each(|call| limit.record((20 + call % 7) * MS));
    limit
}

#[test]
fn a_call_with_less_time_than_the_fastest_answer_is_refused_except_one_in_a_second() {
    let (limit, now) = (knows_20_ms(), Instant::now());
    assert!(!limit.refuses(20 * MS, now), "it has the time");
    assert!(!limit.refuses(19 * MS, now), "the first one passes");
    for later in [0, 1, 500, 999] {
        assert!(limit.refuses(19 * MS, now + later * MS), "{later}");
        assert!(!limit.refuses(20 * MS, now + later * MS), "{later}");
    }
    assert!(!limit.refuses(19 * MS, now + 1000 * MS));
    assert!(limit.refuses(19 * MS, now + 1001 * MS));
    // One faster answer lets such calls pass, until the window has forgotten it.
    limit.record(5 * MS);
    assert!(!limit.refuses(6 * MS, now + 1001 * MS));
    (0..4 * SLICE).for_each(|_| limit.record(20 * MS));
    assert!(limit.refuses(19 * MS, now + 1001 * MS));
    limit.reset();
    assert!(!limit.refuses(MS, now + 1001 * MS), "too little is known");
}

#[test]
fn a_call_passes_within_two_seconds_even_if_the_clock_jumps() {
    let (limit, now) = (knows_20_ms(), Instant::now() + Duration::from_secs(1_000_000));
    let passes = |at: Instant| !limit.refuses(MS, at);
    assert!(passes(now));
    // The clock stands still, and threads read it slightly out of order.
    assert!(!passes(now) && !passes(now - MS) && !passes(now - 999 * MS));
    // It goes back by a second, goes back to before the limit was made, and jumps ahead.
    for at in [now - 1000 * MS, now - Duration::from_secs(2_000_000), now + Duration::from_secs(1 << 34)] {
        assert!(passes(at));
        assert!(!passes(at + 999 * MS));
        assert!(passes(at + 1000 * MS));
    }
}

#[test]
fn rates_and_bounds_out_of_range_are_refused() {
    let bad = [0.0, 1.0, -0.1, f64::NAN, f64::INFINITY, 0.00001];
    assert!(bad.into_iter().all(|rate| Quantile::builder(rate).build().is_err()));
    let bad = [(Duration::ZERO, MS), (2 * MS, MS), (MS, Duration::MAX)];
    assert!(bad.into_iter().all(|(floor, ceiling)| Quantile::builder(0.01).between(floor, ceiling).build().is_err()));
}

proptest! {
    /// The exact model sorts all samples of the window.
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
