//! A store that is slow, hangs, fails, gives wrong answers or panics, and recovers.

use super::{
    exact::still,
    fleet::{Load, exact, exact_by, excess, run, sum, write_behind_by},
    store::{Fickle, Mode},
};
use crate::support::{Stopwatch, ms, secs, size};
use std::time::Duration;
use steadfast::rate_limit::{
    Quota,
    distributed::{Exact, OnOutage, StoreErrorKind},
};
use tokio::time::{Instant, sleep, timeout};

/// Makes ten calls, after which the store must be down. None of them may wait longer than the deadline of 5 ms.
async fn until_it_is_down(limit: &Exact) {
    for _ in 0..10 {
        let time = Stopwatch::start();
        let _ = limit.acquire(b"key", 1).await;
        assert!(time.read() <= ms(5), "{:?}", time.read());
        sleep(ms(10)).await;
    }
    assert!(!limit.readings().store.is_up);
}

#[tokio::test(start_paused = true)]
async fn no_caller_waits_longer_than_the_deadline_for_a_store_that_hangs_and_soon_none_waits_at_all() {
    for mode in [Mode::Hangs, Mode::Fails, Mode::AnswersTooFew, Mode::IsNotHeard] {
        let (store, quota) = (Fickle::new(), Quota::new(100, secs(1)));
        let limit = exact(&store, quota, 1);
        limit.acquire(b"key", 1).await.unwrap();
        store.becomes(mode);
        until_it_is_down(&limit).await;
        let (calls, time) = (store.calls(), Stopwatch::start());
        for _ in 0..1000 {
            let _ = limit.acquire(b"key", 1).await;
        }
        assert_eq!((time.read(), store.calls()), (Duration::ZERO, calls));
        // From then on the flusher probes the store every 100 ms, plus or minus a tenth.
        let start = Instant::now();
        for _ in 0..1000 {
            sleep(ms(10)).await;
            let _ = limit.acquire(b"key", 1).await;
            let _ = limit.acquire(b"another", 1).await;
        }
        let probes: Vec<_> = store.batches().into_iter().map(|(at, _)| at).filter(|at| *at > start).collect();
        assert!((85..=112).contains(&probes.len()), "{} probes, {mode:?}", probes.len());
        assert!(probes.windows(2).all(|pair| (ms(85)..=ms(120)).contains(&(pair[1] - pair[0]))), "{probes:?}");
        let health = limit.readings().store;
        assert!(health.staleness >= secs(9) && health.failed >= 85, "{health:?}");
        let kind = match mode {
            Mode::Fails => StoreErrorKind::Refused,
            Mode::AnswersTooFew => StoreErrorKind::Incomprehensible,
            _ => StoreErrorKind::Unreachable,
        };
        assert_eq!(health.last_error.unwrap().kind(), kind);
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_admitted_in_an_outage_are_owed_and_repaid_with_two_fifths_of_the_rate() {
    let (store, quota) = (Fickle::new(), Quota::new(100, secs(1)).with_burst(50));
    let limit = exact_by(&store, quota, 1, |builder| builder.on_outage(OnOutage::Open).max_debt(1000));
    limit.acquire(b"key", 1).await.unwrap();
    store.becomes(Mode::Fails);
    until_it_is_down(&limit).await;
    let admitted = limit.readings().unflushed;
    for _ in 0..500 {
        limit.acquire(b"key", 1).await.unwrap();
    }
    assert_eq!(limit.readings().unflushed, admitted + 500);
    store.becomes(Mode::Answers);
    // The next probe comes within 110 ms. Then all processes have 2.5 probe periods, 250 ms, to report their spends.
    sleep(ms(400)).await;
    let readings = limit.readings();
    assert!(readings.store.is_up);
    assert_eq!(readings.unflushed, 0);
    assert!((430..=500).contains(&readings.overshoot), "{}", readings.overshoot);
    // The debt is about 450 tokens. For eleven seconds 40 tokens per second repay it, and 60 per second are admitted.
    // After that, 100 per second are admitted.
    let mut admitted = Vec::new();
    for second in 0..14 {
        let (mut sum, end) = (0u64, Instant::now() + secs(1));
        while Instant::now() < end {
            sum += u64::from(limit.acquire(b"key", 1).await.is_ok());
            sleep(ms(1)).await;
        }
        assert!(second == 0 || sum >= 55, "{admitted:?}, {sum}");
        admitted.push(sum);
    }
    let of = |seconds: std::ops::Range<usize>| admitted[seconds].iter().sum::<u64>();
    assert!((590..=640).contains(&of(0..10)) && (195..=205).contains(&of(12..14)), "{admitted:?}");
}

#[tokio::test(start_paused = true)]
async fn charges_that_a_stopped_store_works_off_later_do_not_fill_a_bucket_that_was_empty() {
    let (store, quota) = (Fickle::new(), Quota::new(100, secs(1)).with_burst(200));
    let fleet: Vec<_> = (0..4)
        .map(|seed| {
            let limit = exact_by(&store, quota, seed, |builder| builder.processes(4));
            (limit, Load { rate: 150.0, keys: 1 })
        })
        .collect();
    run(&fleet, secs(3), 3, |_| {}).await;
    store.becomes(Mode::IsStopped);
    run(&fleet, secs(3), 3, |_| {}).await;
    // By now the bucket has drained. A store forgets an empty bucket, which this store does here.
    store.inner.clear();
    store.becomes(Mode::Answers);
    let report = run(&fleet, secs(6), 3, |_| {}).await;
    let admitted = sum(&report.admitted[&1]);
    assert!((590..=610).contains(&admitted), "{admitted} of 600");
    assert!(fleet.iter().all(|(limit, _)| limit.readings().overshoot <= 50), "{:?}", fleet[0].0.readings());
}

#[tokio::test(start_paused = true)]
async fn a_late_grant_is_returned() {
    let store = Fickle::slow(10, 10);
    let limit = exact_by(&store, still(10), 1, |builder| builder.deadline(ms(50)));
    assert!(timeout(ms(5), limit.acquire(b"key", 4)).await.is_err());
    sleep(ms(53)).await;
    assert_eq!((store.granted(), store.free(b"key", still(10))), (4, 10));
}

#[tokio::test(start_paused = true)]
async fn slow_answers_do_not_let_four_processes_admit_much_more() {
    // The deadline of a request and of a caller is 5 ms. With the first two latencies no request exceeds it. But a
    // caller that comes while two requests are in flight waits for a third one, often until its own deadline. With the
    // third latency, requests exceed the deadline, too.
    let seconds = size(8, 20);
    for (least, most) in [(3, 4), (4, 4), (0, 12)] {
        let store = Fickle::slow(0, 0);
        let quota = Quota::new(200, secs(1)).with_burst(100);
        let fleet: Vec<_> = (0..4)
            .map(|seed| {
                let limit = exact_by(&store, quota, seed, |builder| builder.processes(4));
                (limit, Load { rate: 150.0, keys: 1 })
            })
            .collect();
        run(&fleet, secs(2), 3, |_| {}).await;
        store.becomes_slow(least, most);
        let report = run(&fleet, secs(seconds), 3, |_| {}).await;
        let (excess, all) = (excess(report.admitted[&1].clone(), quota), sum(&report.admitted[&1]));
        assert!(excess <= 20.0, "{excess} too many at {least} to {most} ms");
        assert!(report.slowest <= ms(5), "{:?}", report.slowest);
        assert!(all >= 160 * seconds, "{all} at {least} to {most} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_grant_pays_for_tokens_that_its_caller_took_without_it() {
    let seconds = size(8, 20);
    // `least` is below `rate`. If no caller took tokens without its grant, a late grant is returned to the store. The
    // part of the grant that has drained is then lost.
    for (latency, rate, least) in [(40, 1000, 990), (46, 1000, 960), (49, 1000, 940), (46, 100, 85), (49, 100, 82)] {
        let store = Fickle::slow(latency, latency);
        let quota = Quota::new(rate, secs(1)).with_burst(rate);
        let fleet: Vec<_> = (0..4)
            .map(|seed| {
                let limit = exact_by(&store, quota, seed, |builder| builder.processes(4).deadline(ms(50)));
                (limit, Load { rate: rate as f64 / 2.0, keys: 1 })
            })
            .collect();
        run(&fleet, secs(3), 3, |_| {}).await;
        let report = run(&fleet, secs(seconds), 3, |_| {}).await;
        let all = sum(&report.admitted[&1]);
        assert!(fleet.iter().all(|(limit, _)| limit.readings().store.failed == 0));
        assert!(all >= least * seconds, "{all} of {} after {latency} ms", rate * seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_counts_as_not_answering() {
    let store = Fickle::new();
    let limit = exact_by(&store, still(100), 1, |builder| builder.processes(1));
    limit.acquire(b"key", 1).await.unwrap();
    store.becomes(Mode::Panics);
    until_it_is_down(&limit).await;
    let time = Stopwatch::start();
    for _ in 0..50 {
        limit.acquire(b"key", 1).await.unwrap();
    }
    assert_eq!(time.read(), Duration::ZERO);
    store.becomes(Mode::Answers);
    sleep(secs(1)).await;
    assert!(limit.readings().store.is_up);
    assert_eq!(store.free(b"key", still(100)), 100 - 1 - 10 - 50);
}

#[tokio::test(start_paused = true)]
async fn spends_are_reported_once_a_panicking_store_recovers() {
    let store = Fickle::new();
    let limit = write_behind_by(&store, still(100), 1, 1, |builder| builder.max_unflushed(100));
    store.becomes(Mode::Panics);
    for _ in 0..50 {
        limit.try_acquire(b"key", 1).unwrap();
        sleep(ms(20)).await;
    }
    store.becomes(Mode::Answers);
    sleep(secs(1)).await;
    assert!(limit.readings().store.is_up);
    assert_eq!(store.free(b"key", still(100)), 50);
}

#[tokio::test(start_paused = true)]
async fn a_caller_behind_others_waits_no_longer_than_the_deadline() {
    for (mode, is_slow) in
        [(Mode::Answers, true), (Mode::Hangs, true), (Mode::IsNotHeard, true), (Mode::Answers, false)]
    {
        let store = if is_slow { Fickle::slow(4, 4) } else { Fickle::slow(0, 4) };
        store.becomes(mode);
        let quota = Quota::new(100, secs(1)).with_burst(100);
        let limit = exact_by(&store, quota, 1, |builder| builder.processes(1));
        let report = run(&[(limit, Load { rate: 4000.0, keys: 1 })], ms(300), 1, |_| {}).await;
        assert!(report.slowest <= ms(5), "{:?}, {mode:?}", report.slowest);
        // The store admits some calls, and the process alone admits others, by its own ledger.
        let excess = excess(report.admitted[&1].clone(), quota);
        assert!(excess <= 5.0, "{excess} too many, {mode:?}");
        assert!(sum(&report.admitted[&1]) >= 100);
    }
}
