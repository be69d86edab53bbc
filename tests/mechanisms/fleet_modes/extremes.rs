//! Configurations at the edges of their ranges.

use super::{
    fleet::{exact_by, write_behind_by},
    store::{Fickle, Mode},
};
use crate::support::{ms, secs};
use std::time::Duration;
use steadfast::rate_limit::{
    Quota,
    distributed::{Embedded, Exact, OnOutage, WriteBehind},
};
use tokio::time::{Instant, sleep};

const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);
const NANO: Duration = Duration::from_nanos(1);

fn quotas() -> [Quota; 6] {
    [
        Quota::new(1, NANO).with_burst(1 << 55),
        Quota::new(1 << 54, Duration::from_nanos(1 << 54)).with_burst(1 << 55),
        Quota::new(1, NANO).with_burst(1),
        Quota::new(1, YEAR),
        Quota::new(1, YEAR).with_burst(99),
        Quota::new(1_000_000_000, secs(1)).with_burst(1),
    ]
}

const COSTS: [u64; 6] = [0, 1, 7, 1 << 54, 1 << 55, u64::MAX];

#[tokio::test(start_paused = true)]
async fn no_quota_and_no_cost_is_too_large_or_too_small() {
    let policies =
        [OnOutage::FairShare, OnOutage::LastKnown, OnOutage::Open, OnOutage::Closed, OnOutage::Local(quotas()[0])];
    for policy in policies {
        for processes in [1, 3, u64::MAX] {
            let store = Fickle::slow(0, 2);
            let quota = quotas()[0];
            let exact =
                exact_by(&store, quota, 1, |builder| builder.on_outage(policy).processes(processes).max_debt(1 << 55));
            let behind = write_behind_by(&store, quota, processes, 1, |builder| {
                builder.on_outage(policy).max_unflushed(u64::MAX).max_debt(1 << 55)
            });
            for mode in [Mode::Answers, Mode::Fails, Mode::Answers, Mode::IsNotHeard] {
                store.becomes(mode);
                for quota in quotas() {
                    exact.set_quota(quota).unwrap();
                    behind.set_quota(quota).unwrap();
                    for tokens in COSTS.into_iter().flat_map(|cost| [cost; 4]) {
                        let taken = exact.acquire(b"key", tokens).await;
                        let noted = behind.try_acquire(b"key", tokens);
                        if tokens > quota.burst() {
                            assert!(taken.is_err() && noted.is_err());
                        }
                        if tokens % 7 == 0 {
                            taken.into_iter().for_each(|taken| exact.refund(taken));
                            noted.into_iter().for_each(|noted| behind.refund(noted));
                        }
                        sleep(ms(7)).await;
                    }
                    let _ = (exact.share(b"key"), exact.readings(), exact.overshoot_bound());
                    let _ = (behind.share(b"key"), behind.readings(), behind.overshoot_bound());
                }
                sleep(secs(2)).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_shortest_and_the_longest_times_work_and_nothing_spins() {
    for mode in [Mode::Answers, Mode::Fails, Mode::Hangs] {
        for (deadline, period) in [(NANO, NANO), (YEAR, YEAR), (NANO, YEAR)] {
            let store = Fickle::new();
            let quota = Quota::new(10, secs(1));
            let exact = exact_by(&store, quota, 1, |builder| builder.deadline(deadline).probe_every(period));
            let behind = write_behind_by(&store, quota, 4, 1, |builder| builder.deadline(deadline).flush_every(period));
            store.becomes(mode);
            let start = Instant::now();
            for _ in 0..100 {
                if deadline == NANO || mode == Mode::Fails {
                    let _ = exact.acquire(b"key", 1).await;
                }
                let _ = behind.try_acquire(b"key", 1);
                sleep(ms(10)).await;
            }
            // No wait is shorter than a tick of the timer, which is a millisecond.
            let ticks = (Instant::now() - start).as_millis() as usize;
            assert!(store.calls() <= 2 * ticks + 400, "{} calls in {ticks} ms", store.calls());
        }
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused_by_the_name_of_the_field() {
    let exact = |quota| Exact::builder(Embedded::new(), quota);
    let behind = |processes| WriteBehind::builder(Embedded::new(), Quota::new(1, secs(1)), processes);
    let one = Quota::new(1, secs(1));
    let fields = [
        exact(Quota::new(0, secs(1))).build().unwrap_err(),
        exact(Quota::new(2, NANO)).build().unwrap_err(),
        exact(one.with_burst(0)).build().unwrap_err(),
        exact(one).deadline(Duration::ZERO).build().unwrap_err(),
        exact(one).deadline(Duration::MAX).build().unwrap_err(),
        exact(one).probe_every(Duration::ZERO).build().unwrap_err(),
        exact(one).processes(0).build().unwrap_err(),
        exact(one).max_keys(0).build().unwrap_err(),
        exact(one).max_debt(u64::MAX).build().unwrap_err(),
        exact(one).on_outage(OnOutage::Local(one.with_burst(0))).build().unwrap_err(),
        behind(0).build().unwrap_err(),
        behind(1).flush_every(Duration::ZERO).build().unwrap_err(),
        behind(1).deadline(Duration::MAX).build().unwrap_err(),
        behind(1).max_unflushed(0).build().unwrap_err(),
    ]
    .map(|error| error.field());
    let names = [
        "count",
        "count",
        "burst",
        "deadline",
        "deadline",
        "probe_every",
        "processes",
        "max_keys",
        "max_debt",
        "burst",
        "processes",
        "flush_every",
        "deadline",
        "max_unflushed",
    ];
    assert_eq!(fields.map(|field| field.trim_start_matches("rate_limit.")), names);
}
