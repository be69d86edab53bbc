//! The policies for outages, and how much all processes admit together.

use super::{
    exact::still,
    fleet::{Load, Process, Report, between, exact_by, run, write_behind_by},
    store::{Fickle, Mode},
};
use crate::support::{ms, secs, size};
use std::time::Duration;
use steadfast::{
    Random,
    rate_limit::{
        Quota,
        distributed::{Exact, Leased, OnOutage, WriteBehind},
    },
};
use tokio::{
    spawn,
    time::{Instant, sleep},
};

const OUTAGE: Duration = Duration::from_secs(10);

fn quota() -> Quota {
    Quota::new(100, secs(1)).with_burst(50)
}

fn exact_fleet(store: &Fickle, quota: Quota, policy: OnOutage) -> Vec<Exact> {
    let one = |seed| exact_by(store, quota, seed, |builder| builder.on_outage(policy).processes(4));
    (0..4).map(one).collect()
}

fn write_behind_fleet(store: &Fickle, quota: Quota, policy: OnOutage) -> Vec<WriteBehind> {
    let one = |seed| write_behind_by(store, quota, 4, seed, |builder| builder.on_outage(policy));
    (0..4).map(one).collect()
}

/// Runs five seconds without an outage, and then ten seconds with one. Returns the tokens that were wanted in the
/// outage, those that were admitted in it, and the report of the whole run.
async fn in_an_outage<P: Process>(store: &Fickle, fleet: Vec<P>, rates: [f64; 4]) -> (u64, u64, Report) {
    let fleet: Vec<_> = fleet.into_iter().zip(rates).map(|(limit, rate)| (limit, Load { rate, keys: 1 })).collect();
    let start = Instant::now();
    let report = run(&fleet, secs(5) + OUTAGE, 1, |passed| {
        if passed == secs(5) {
            store.becomes(Mode::Fails);
        }
    })
    .await;
    let (from, to) = (start + secs(5), start + secs(5) + OUTAGE);
    (between(&report.wanted[&1], from, to), between(&report.admitted[&1], from, to), report)
}

const RATES: [[f64; 4]; 4] =
    [[100.0; 4], [300.0, 60.0, 30.0, 10.0], [400.0, 0.0, 0.0, 0.0], [500.0, 500.0, 500.0, 500.0]];

#[tokio::test(start_paused = true)]
async fn with_fair_shares_all_processes_together_keep_to_the_limit() {
    let quotas = [quota(), Quota::new(100, secs(1)).with_burst(2), Quota::new(1000, secs(1)).with_burst(1000)];
    for rates in RATES {
        for quota in quotas[..size(1, 3)].iter().copied() {
            let rate = quota.count() * 10;
            let rates = rates.map(|load| load * quota.count() as f64 / 100.0);
            for is_exact in [true, false] {
                let store = Fickle::slow(0, 2);
                let (_, admitted, report) = if is_exact {
                    in_an_outage(&store, exact_fleet(&store, quota, OnOutage::FairShare), rates).await
                } else {
                    in_an_outage(&store, write_behind_fleet(&store, quota, OnOutage::FairShare), rates).await
                };
                let says = format!("{admitted} of {rate} of {quota} by {rates:?}, exact: {is_exact}");
                // If a process's share of the burst is less than a token, its bucket saves up nothing. A caller that
                // comes a little late then loses the tokens of that time. With a small burst, the shares are also less
                // exact.
                let (least, most) = if quota.burst() < 4 { (0.65, 1.25) } else { (0.85, 1.1) };
                assert!(admitted as f64 <= most * (quota.burst() + rate) as f64, "{says}");
                assert!(admitted as f64 >= least * rate as f64, "{says}");
                assert!(report.slowest <= ms(5), "{:?}", report.slowest);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_the_last_known_state_each_process_keeps_to_the_limit() {
    let store = Fickle::slow(0, 2);
    let (_, exact, _) = in_an_outage(&store, exact_fleet(&store, quota(), OnOutage::LastKnown), [300.0; 4]).await;
    assert!((3900..=4 * 1050).contains(&exact), "{exact}");
    let store = Fickle::slow(0, 2);
    let fleet = write_behind_fleet(&store, quota(), OnOutage::LastKnown);
    let (_, behind, _) = in_an_outage(&store, fleet, [300.0; 4]).await;
    assert!((3900..=4 * 1050).contains(&behind), "{behind}");
}

#[tokio::test(start_paused = true)]
async fn open_admits_all_and_closed_none() {
    let store = Fickle::slow(0, 2);
    let (wanted, admitted, _) = in_an_outage(&store, exact_fleet(&store, quota(), OnOutage::Open), [300.0; 4]).await;
    // Until three calls to the store have failed, a process repeats refusals that it remembers.
    assert!(admitted <= wanted && admitted * 100 >= wanted * 99, "{admitted} of {wanted}");
    let store = Fickle::slow(0, 2);
    let (_, admitted, _) = in_an_outage(&store, exact_fleet(&store, quota(), OnOutage::Closed), [300.0; 4]).await;
    // At most the calls whose tokens the store had already granted.
    assert!(admitted <= 4, "{admitted}");
    let store = Fickle::slow(0, 2);
    let fleet = write_behind_fleet(&store, quota(), OnOutage::Open);
    let (wanted, admitted, _) = in_an_outage(&store, fleet, [300.0; 4]).await;
    assert!(admitted <= wanted && admitted * 100 >= wanted * 95, "{admitted} of {wanted}");
    let store = Fickle::slow(0, 2);
    let fleet = write_behind_fleet(&store, quota(), OnOutage::Closed);
    let (_, admitted, _) = in_an_outage(&store, fleet, [300.0; 4]).await;
    // At most the tokens that each process may leave unreported: those that the rate gives in a flush period.
    assert!(admitted <= 4 * 10, "{admitted}");
}

#[tokio::test(start_paused = true)]
async fn with_a_local_quota_each_process_admits_exactly_that() {
    let own = Quota::new(10, secs(1)).with_burst(5);
    let store = Fickle::new();
    let exact = exact_by(&store, still(1000), 1, |builder| builder.on_outage(OnOutage::Local(own)));
    let behind = write_behind_by(&store, still(1000), 4, 1, |builder| {
        builder.on_outage(OnOutage::Local(own)).max_unflushed(100)
    });
    store.becomes(Mode::Fails);
    for _ in 0..200 {
        let _ = (exact.acquire(b"other", 1).await, behind.try_acquire(b"other", 1));
        sleep(ms(10)).await;
    }
    assert!(!exact.readings().store.is_up && !behind.readings().store.is_up);
    let (start, mut admitted) = (Instant::now(), (0, 0));
    while Instant::now() - start < OUTAGE {
        admitted.0 += u64::from(exact.acquire(b"key", 1).await.is_ok());
        admitted.1 += u64::from(behind.try_acquire(b"key", 1).is_ok());
        sleep(ms(1)).await;
    }
    assert_eq!(admitted, (5 + 99, 5 + 99));
    let wait = exact.acquire(b"key", 1).await.map(|_| ()).and(exact.acquire(b"key", 1).await.map(|_| ()));
    assert_eq!(wait.unwrap_err().retry_after(), Some(ms(100)));
}

/// Asks each leased limit for a token each millisecond, for this time. Returns the times of the admissions.
async fn ask_all(limits: &[Leased], length: Duration) -> Vec<Instant> {
    let (start, mut admitted) = (Instant::now(), Vec::new());
    while Instant::now() - start < length {
        for limit in limits {
            if limit.acquire(b"key", 1).await.is_ok() {
                admitted.push(Instant::now());
            }
        }
        sleep(ms(1)).await;
    }
    admitted
}

/// Returns the most admissions in a window that ends with an admission. Looks at every fifth of these windows.
fn worst_window(admitted: &[Instant], window: Duration) -> usize {
    let in_window = |end: Instant| admitted.iter().filter(move |at| **at <= end && end - **at < window).count();
    admitted.iter().step_by(5).map(|end| in_window(*end)).max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn a_leased_limit_follows_the_policy_in_an_outage_and_keeps_its_limit_after_it() {
    let (limit, window) = (200, secs(5));
    let own = Quota::new(10, secs(1)).with_burst(5);
    for (policy, least, most) in [
        (OnOutage::FairShare, 300, 600),
        (OnOutage::LastKnown, 300, 600),
        (OnOutage::Closed, 0, 0),
        (OnOutage::Open, 39_900, 40_000),
        (OnOutage::Local(own), 4 * 98, 4 * 105),
    ] {
        let store = Fickle::new();
        let fleet: Vec<_> = (0..4)
            .map(|seed| {
                let builder = Leased::builder(store.clone(), limit, window).flush_every(ms(200));
                let (limit, flusher) = builder.on_outage(policy).random(Random::seeded(seed)).build().unwrap();
                spawn(flusher.run());
                limit
            })
            .collect();
        let before = ask_all(&fleet, 2 * window).await;
        assert!(before.len() <= 600 && worst_window(&before, window) <= 200, "{} {policy:?}", before.len());
        store.becomes(Mode::Fails);
        // In this time each process gives the store up, after three failures.
        ask_all(&fleet, ms(800)).await;
        let during = ask_all(&fleet, OUTAGE).await;
        assert!((least..=most).contains(&during.len()), "{} by {policy:?}", during.len());
        let held: u64 = fleet.iter().map(|limit| limit.held(b"key")).sum();
        assert!(held <= 200, "{held} held at the end of the outage, by {policy:?}");
        store.becomes(Mode::Answers);
        // After this time all processes know that the store is back.
        ask_all(&fleet, ms(800)).await;
        let after = ask_all(&fleet, 4 * window).await;
        let worst = worst_window(&after, window);
        assert!(worst <= 200, "{worst} in a window after the outage, by {policy:?}");
        assert!(after.len() >= 200, "{} after the outage, by {policy:?}", after.len());
    }
}
