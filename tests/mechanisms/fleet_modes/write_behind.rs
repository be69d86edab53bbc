//! `WriteBehind`: no caller waits for the store. The tokens admitted beyond the limit are bounded, and are repaid.

use super::{
    exact::still,
    fleet::{Load, between, excess, run, sum, write_behind_by},
    store::Fickle,
};
use crate::support::{ms, secs, size};
use std::collections::BTreeSet;
use steadfast::rate_limit::{Quota, distributed::WriteBehind};
use tokio::time::{Instant, sleep};

fn fleet(store: &Fickle, quota: Quota, processes: u64, demand: f64, keys: u64) -> Vec<(WriteBehind, Load)> {
    let load = Load { rate: demand / processes as f64, keys };
    (0..processes).map(|seed| (write_behind_by(store, quota, processes, seed, |builder| builder), load)).collect()
}

#[tokio::test(start_paused = true)]
async fn admissions_stay_within_the_bound_and_reach_the_rate_in_the_long_run() {
    let seconds = size(15, 60);
    for (processes, losing) in [(4, 10), (16, 0), (4, 0), (16, 10)].into_iter().take(size(2, 4)) {
        let store = Fickle::slow(0, 50).losing(losing);
        let quota = Quota::new(200, secs(1)).with_burst(200);
        // Three keys: the demand for the first is four times its rate, and for the last a third above its rate.
        let fleet = fleet(&store, quota, processes, 4.0 * 200.0 * 11.0 / 6.0, 3);
        let limits: Vec<_> = fleet.iter().map(|(limit, _)| limit.clone()).collect();
        let most = limits[0].overshoot_bound() / (processes - 1);
        let report = run(&fleet, secs(seconds), processes, |_| {
            for readings in limits.iter().map(WriteBehind::readings).filter(|readings| readings.store.is_up) {
                assert!(readings.unflushed <= 3 * most, "{readings:?}");
            }
        })
        .await;
        for (key, admitted) in report.admitted {
            let bound = limits[0].overshoot_bound();
            let excess = excess(admitted.clone(), quota);
            assert!(excess <= bound as f64, "{excess} of {bound} for {processes}, {losing} % lost");
            // While no answer is lost, shares keep the excess far below the bound.
            assert!(losing > 0 || excess <= bound as f64 / 3.0, "{excess} of {bound} for {processes}");
            let all = sum(&admitted);
            assert!(all <= 200 * seconds + 200 + bound, "{all}");
            assert!(all >= 200 * seconds * 8 / 10, "{all} of key {key} for {processes}, {losing} % lost");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn in_each_period_a_batch_leaves_with_all_keys() {
    let (store, quota) = (Fickle::slow(0, 50), Quota::new(1000, secs(1)));
    let limit = write_behind_by(&store, quota, 1, 1, |builder| builder);
    let start = Instant::now();
    for number in 0..10_000u64 {
        let _ = limit.try_acquire(&(number % 64).to_be_bytes(), 1);
        sleep(ms(1)).await;
    }
    let batches: Vec<_> = store.batches().into_iter().filter(|(at, _)| *at - start < secs(10)).collect();
    assert!((88..=112).contains(&batches.len()), "{}", batches.len());
    assert!(batches.windows(2).all(|pair| pair[1].0 - pair[0].0 >= ms(88)));
    for (_, charges) in batches {
        let keys: BTreeSet<_> = charges.iter().map(|charge| &charge.key).collect();
        assert!(keys.len() == charges.len() && charges.len() <= 64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_with_a_lost_answer_is_repeated_and_nothing_counts_twice() {
    let store = Fickle::new().losing(30);
    let limit = write_behind_by(&store, still(10_000), 1, 1, |builder| builder.max_unflushed(1000));
    let mut admitted = 0;
    for _ in 0..2000 {
        admitted += u64::from(limit.try_acquire(b"key", 1).is_ok());
        sleep(ms(5)).await;
    }
    sleep(secs(2)).await;
    assert!(admitted >= 1900, "{admitted}");
    assert_eq!(store.free(b"key", still(10_000)), 10_000 - admitted);
    assert!(limit.readings().store.failed > 20);
}

#[tokio::test(start_paused = true)]
async fn the_share_follows_the_demand() {
    let (store, quota) = (Fickle::slow(0, 20), Quota::new(400, secs(1)));
    let mut fleet = fleet(&store, quota, 4, 0.0, 1);
    let loads = [[1500.0, 40.0, 0.0, 0.0], [40.0, 1500.0, 0.0, 0.0], [0.0, 0.0, 800.0, 800.0]];
    for (loads, fair) in loads.into_iter().zip([[0.9, 0.1, 0.0, 0.0], [0.1, 0.9, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]) {
        for ((_, load), rate) in fleet.iter_mut().zip(loads) {
            load.rate = rate;
        }
        let start = Instant::now();
        let report = run(&fleet, secs(6), 1, |_| {}).await;
        for (number, fair) in fair.into_iter().enumerate() {
            let part =
                report.by_process.get(&number).map_or(0, |events| between(events, start + secs(3), start + secs(6)));
            let part = part as f64 / 1200.0;
            let share = fleet[number].0.share(&1u64.to_be_bytes());
            assert!(part <= fair + 0.15 && part >= fair - 0.15, "{number} had {part:.2} of {fair:.2}");
            // The share of a process without demand is not defined.
            assert!(fair == 0.0 || share <= fair + 0.2 && share >= fair - 0.2, "{number} has {share:.2} of {fair:.2}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_faster_quota_is_used_by_one_process_too() {
    let store = Fickle::new();
    let limit = write_behind_by(&store, Quota::new(10, secs(1)), 1, 1, |builder| builder);
    limit.set_quota(Quota::new(1000, secs(1))).unwrap();
    let mut admitted = 0;
    for _ in 0..10_000 {
        admitted += u64::from(limit.try_acquire(b"key", 1).is_ok());
        sleep(ms(1)).await;
    }
    assert!((9000..=11_000).contains(&admitted), "{admitted}");
    assert_eq!(limit.overshoot_bound(), 0);
}

#[tokio::test(start_paused = true)]
async fn tokens_refunded_before_the_report_were_never_spent() {
    let store = Fickle::new();
    let limit = write_behind_by(&store, still(100), 1, 1, |builder| builder.max_unflushed(50));
    let noted = limit.try_acquire(b"key", 20).unwrap();
    limit.refund(noted);
    let noted = limit.try_acquire(b"key", 30).unwrap();
    sleep(ms(250)).await;
    assert_eq!(store.free(b"key", still(100)), 70);
    // Reported tokens stay spent.
    limit.refund(noted);
    sleep(ms(250)).await;
    assert_eq!(store.free(b"key", still(100)), 70);
    assert_eq!(limit.try_acquire(b"key", 51).unwrap_err().retry_after(), None);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_costs_more_than_the_rate_gives_in_a_period_is_admitted_up_to_the_burst() {
    // In a period of 100 ms the rate gives a sixth of a token.
    let quota = Quota::new(100, secs(60));
    let store = Fickle::new();
    let limit = write_behind_by(&store, quota, 4, 1, |builder| builder);
    for (cost, is_admitted) in [(2, true), (2, false), (50, true), (101, false), (46, true)] {
        assert_eq!(limit.try_acquire(b"key", cost).is_ok(), is_admitted, "{cost}");
        // The second call comes before the first is reported.
        sleep(if cost == 2 { ms(0) } else { ms(150) }).await;
        if cost == 2 && !is_admitted {
            sleep(ms(150)).await;
        }
    }
    assert_eq!(store.free(b"key", quota), 2);
    // If `max_unflushed` is set, a call that costs more is refused.
    let limit = write_behind_by(&store, quota, 4, 1, |builder| builder.max_unflushed(5));
    assert!(limit.try_acquire(b"another", 5).is_ok());
    assert_eq!(limit.try_acquire(b"third", 6).unwrap_err().retry_after(), None);
}
