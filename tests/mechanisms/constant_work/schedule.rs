//! When ticks happen.

use super::support::{Answer, SECOND, Scripted, builder, copy, limit, published, shape};
use std::time::Duration;
use steadfast::Random;
use tokio::time::{Instant, sleep};

/// Runs a poller for `length`. Returns its phase, the times of its fetches in milliseconds from the start, and the
/// number of missed ticks.
async fn fetches(source: &Scripted, seed: u64, length: Duration) -> (Duration, Vec<u64>, u64) {
    let begun = Instant::now();
    let poller = builder(source, shape(1)).random(Random::seeded(seed)).build(copy).unwrap();
    let (phase, readings) = (poller.phase(), poller.readings());
    let task = tokio::spawn(poller.run());
    sleep(length).await;
    task.abort();
    let at = source.fetches().iter().map(|at| at.saturating_duration_since(begun).as_millis() as u64).collect();
    (phase, at, readings.now().ticks.missed())
}

#[tokio::test(start_paused = true)]
async fn the_first_tick_is_at_once_and_later_ticks_follow_the_drawn_phase() {
    let mut phases = Vec::new();
    for seed in [1, 2, 1] {
        let source = Scripted::down();
        let (phase, at, missed) = fetches(&source, seed, Duration::from_millis(5_999)).await;
        // tokio's timers end on the next whole millisecond.
        let first = phase.as_nanos().div_ceil(1_000_000) as u64;
        assert_eq!(at[..6], [0, first, first + 1_000, first + 2_000, first + 3_000, first + 4_000]);
        assert_eq!(missed, 0);
        assert!(phase > Duration::ZERO && phase <= SECOND);
        phases.push(phase);
    }
    assert_ne!(phases[0], phases[1]);
    assert_eq!(phases[0], phases[2]);
}

#[tokio::test(start_paused = true)]
async fn the_phases_of_a_fleet_cover_the_period() {
    let mut tenths = [0; 10];
    for seed in 0..1_000 {
        let poller = builder(&Scripted::down(), shape(1)).random(Random::seeded(seed)).build(copy).unwrap();
        tenths[(poller.phase().as_nanos() as usize - 1) / 100_000_000] += 1;
    }
    assert!(tenths.iter().all(|tenth| (60..140).contains(tenth)), "{tenths:?}");
}

#[tokio::test(start_paused = true)]
async fn failures_change_nothing_about_the_schedule() {
    let good = Scripted::new(Answer::Bytes(published(shape(1), 1, 1, &[limit(1, 1)])));
    let (_, well, _) = fetches(&good, 1, 10 * SECOND).await;
    let (_, down, _) = fetches(&Scripted::down(), 1, 10 * SECOND).await;
    assert_eq!(well, down);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_asked_once_per_period() {
    let (_, at, missed) = fetches(&Scripted::new(Answer::Hangs), 1, 20 * SECOND).await;
    assert!((19..=21).contains(&at.len()), "{at:?}");
    assert!(missed <= 1);
}

#[tokio::test(start_paused = true)]
async fn a_poller_not_polled_for_several_periods_skips_ticks_and_keeps_the_phase() {
    let begun = Instant::now();
    let source = Scripted::down();
    // After the third tick, the test does not poll the poller for 3.3 seconds, as if a slow build blocked its task.
    let poller = builder(&source, shape(1)).build(|_: &[super::support::Limit]| ()).unwrap();
    let (phase, readings) = (poller.phase(), poller.readings());
    let mut run = std::pin::pin!(poller.run());
    let mut until = async |end: Duration| {
        tokio::select! {
            _ = &mut run => unreachable!("it never returns"),
            () = tokio::time::sleep_until(begun + end) => {}
        }
    };
    until(phase + Duration::from_millis(1_500)).await;
    // The poller is not polled during this time.
    tokio::time::advance(Duration::from_millis(3_300)).await;
    until(phase + Duration::from_millis(7_500)).await;
    let first = phase.as_nanos().div_ceil(1_000_000) as u64;
    let at: Vec<_> = source.fetches().iter().map(|at| at.saturating_duration_since(begun).as_millis() as u64).collect();
    assert_eq!(at[..3], [0, first, first + 1_000]);
    let resumed = at[3];
    assert!((first + 4_800..first + 4_802).contains(&resumed), "{at:?}");
    assert_eq!(at[4..], [first + 5_000, first + 6_000, first + 7_000]);
    assert_eq!(readings.now().ticks.missed(), 2);
}
