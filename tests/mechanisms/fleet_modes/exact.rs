//! `Exact`: the store decides each call. A few requests to the store carry all calls, and no token is lost on the way.

use super::{
    fleet::{Load, exact, exact_by, excess, ideal, run, sum},
    store::Fickle,
};
use crate::support::{ByHand, Stopwatch, ms, secs, size};
use futures::future::join_all;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::{task::Poll, time::Duration};
use steadfast::rate_limit::Quota;
use tokio::{
    spawn,
    task::yield_now,
    time::{Instant, sleep, timeout},
};

/// Returns a quota with a rate of one token per day, so that no whole token drains in a test.
pub fn still(burst: u64) -> Quota {
    Quota::new(1, 24 * secs(3600)).with_burst(burst)
}

#[tokio::test(start_paused = true)]
async fn one_process_admits_exactly_what_a_bucket_does() {
    for (count, burst) in [(100, 20), (7, 3), (900, 1)] {
        let quota = Quota::new(count, secs(1)).with_burst(burst);
        let limit = exact(&Fickle::new(), quota, 1);
        let (mut wanted, mut admitted) = (Vec::new(), 0);
        for _ in 0..10_000 {
            wanted.push((Instant::now(), 1));
            admitted += u64::from(limit.acquire(b"key", 1).await.is_ok());
            sleep(ms(1)).await;
        }
        assert_eq!(admitted, ideal(wanted, quota), "{quota}");
    }
}

#[tokio::test(start_paused = true)]
async fn four_processes_admit_what_one_bucket_would_in_every_interval() {
    for (seed, quota) in [
        (1, Quota::new(200, secs(1)).with_burst(50)),
        (2, Quota::new(5, secs(1)).with_burst(2)),
        (3, Quota::new(30, secs(60)).with_burst(10)),
    ] {
        let store = Fickle::slow(0, 4);
        let fleet: Vec<_> =
            (0..4).map(|number| (exact(&store, quota, seed + number), Load { rate: 300.0, keys: 5 })).collect();
        let report = run(&fleet, secs(size(8, 20)), seed, |_| {}).await;
        let (mut admitted, mut of) = (0, 0);
        for (key, events) in &report.admitted {
            let (excess, bound) = (excess(events.clone(), quota), fleet[0].0.overshoot_bound());
            assert!(excess <= bound as f64, "{excess} too many of key {key}, {quota}");
            admitted += sum(events);
            of += ideal(report.wanted[key].clone(), quota);
        }
        assert!(admitted as f64 >= 0.99 * of as f64, "{admitted} of {of}, {quota}");
        assert!(report.slowest <= ms(5), "{:?}", report.slowest);
        assert!(store.most_under_way() <= 8);
    }
}

#[tokio::test(start_paused = true)]
async fn while_two_requests_are_in_flight_all_others_share_the_next_one() {
    let store = Fickle::slow(4, 4);
    let limit = exact_by(&store, still(5000), 1, |builder| builder.deadline(ms(50)));
    let call = || {
        let limit = limit.clone();
        spawn(async move { limit.acquire(b"key", 1).await })
    };
    let mut calls = vec![call()];
    sleep(ms(1)).await;
    calls.push(call());
    sleep(ms(1)).await;
    assert_eq!(store.calls(), 2);
    calls.extend((0..1000).map(|_| call()));
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!((store.calls(), store.most_under_way()), (3, 2));
    assert_eq!(store.free(b"key", still(5000)), 5000 - 1002);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_answers_at_once_makes_no_caller_wait() {
    let store = Fickle::new();
    let (limit, time) = (exact(&store, still(2000), 1), Stopwatch::start());
    for _ in 0..1000 {
        limit.acquire(b"key", 1).await.unwrap();
    }
    join_all((0..1000).map(|_| limit.acquire(b"key", 1))).await.into_iter().for_each(|end| drop(end.unwrap()));
    assert_eq!(time.read(), Duration::ZERO);
    assert!(store.calls() <= 1002, "{} calls", store.calls());
}

#[tokio::test(start_paused = true)]
async fn a_remembered_refusal_asks_no_store_and_matches_its_answer() {
    let (mut random, mut remembered) = (SmallRng::seed_from_u64(5), 0);
    for round in 0..60 {
        let quota = Quota::new(random.random_range(1..20), secs(random.random_range(1..30)));
        let quota = quota.with_burst(random.random_range(1..10));
        let store = Fickle::slow(0, if round % 2 == 0 { 0 } else { 4 });
        let limit = exact_by(&store, quota, round, |builder| builder.deadline(ms(50)));
        for _ in 0..300 {
            let tokens = random.random_range(1..=quota.burst());
            let (calls, time) = (store.calls(), Stopwatch::start());
            let answer = limit.acquire(b"key", tokens).await;
            if answer.is_err() && store.calls() == calls {
                assert_eq!(time.read(), Duration::ZERO);
                remembered += 1;
                let store_says = store.look(b"key", quota, tokens);
                assert_eq!(store_says.granted, 0, "{tokens} of {quota}: the store would have granted them");
            }
            if random.random_range(0..4) == 0 {
                // Another process spends, too.
                store.look(b"key", quota, 1);
            }
            sleep(ms(random.random_range(0..300))).await;
        }
    }
    assert!(remembered > 4000, "{remembered}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_retries_after_its_hint_is_admitted_if_no_other_comes() {
    let mut random = SmallRng::seed_from_u64(6);
    let mut refused = 0;
    for round in 0..60 {
        let quota = Quota::new(random.random_range(1..200), secs(random.random_range(1..10)));
        let quota = quota.with_burst(random.random_range(1..10));
        let store = Fickle::slow(0, 4);
        let limit = exact_by(&store, quota, round, |builder| builder.deadline(ms(50)));
        for _ in 0..100 {
            let tokens = random.random_range(1..=quota.burst());
            if let Err(too_few) = limit.acquire(b"key", tokens).await {
                refused += 1;
                // The caller retries exactly at the hinted time, not at the next whole millisecond.
                let wait = too_few.retry_after().unwrap();
                tokio::time::advance(wait).await;
                let again = limit.acquire(b"key", tokens).await;
                assert!(again.is_ok(), "{tokens} of {quota}: {wait:?}, and then {:?}", again.unwrap_err());
            }
            sleep(ms(random.random_range(0..20))).await;
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[tokio::test(start_paused = true)]
async fn callers_that_fit_are_admitted_in_order_and_left_over_tokens_are_returned() {
    let store = Fickle::slow(4, 4);
    let limit = exact_by(&store, still(20), 1, |builder| builder.deadline(ms(50)));
    let call = |tokens| {
        let limit = limit.clone();
        spawn(async move { limit.acquire(b"key", tokens).await.is_ok() })
    };
    // The store grants 10 of 20 tokens to the first two calls, so 10 are left.
    let first = [call(5), call(5)];
    sleep(ms(1)).await;
    let calls = [call(4), call(8), call(3), call(5)];
    let ends = join_all(calls).await.into_iter().map(Result::unwrap);
    assert_eq!(ends.collect::<Vec<_>>(), [true, false, true, false]);
    assert!(join_all(first).await.into_iter().all(Result::unwrap));
    sleep(ms(20)).await;
    assert_eq!(store.free(b"key", still(20)), 3);
    assert!(call(3).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_dropped_at_any_time_lose_no_tokens() {
    for seed in 0..20 {
        let store = Fickle::slow(0, 6);
        let limit = exact_by(&store, still(1 << 14), seed, |builder| builder.deadline(secs(1)));
        let (mut random, mut calls) = (SmallRng::seed_from_u64(seed), Vec::new());
        for _ in 0..500 {
            let limit = limit.clone();
            let (tokens, patience) = (random.random_range(1..5), random.random_range(0..10));
            let is_refunded = random.random_range(0..4) == 0;
            calls.push(spawn(async move {
                match timeout(ms(patience), limit.acquire(b"key", tokens)).await {
                    Ok(taken) if is_refunded => {
                        limit.refund(taken.unwrap());
                        0
                    }
                    Ok(taken) => taken.map(|_| tokens).unwrap(),
                    Err(_) => 0,
                }
            }));
            if random.random_range(0..5) == 0 {
                sleep(ms(1)).await;
            } else if random.random_range(0..2) == 0 {
                yield_now().await;
            }
            if random.random_range(0..10) == 0 {
                calls[random.random_range(0..calls.len())].abort();
            }
        }
        let mut kept = 0;
        for call in calls {
            // An aborted call was either not admitted or already over, since a call ends in the poll that admits it.
            kept += call.await.unwrap_or(0);
        }
        sleep(ms(50)).await;
        // Less than a token is missing: the part of a grant that drained before the grant was returned. The store
        // rounds its level up, so one token less is free.
        assert_eq!(store.free(b"key", still(1 << 14)), (1 << 14) - kept - 1, "seed {seed}");
        assert_eq!(limit.readings().unflushed, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_future_dropped_after_any_poll_returns_its_grant() {
    for polls in 0..6 {
        for before_the_answer in [true, false] {
            let store = Fickle::slow(3, 3);
            let limit = exact_by(&store, still(10), 1, |builder| builder.deadline(ms(50)));
            let mut call = ByHand::new(limit.acquire(b"key", 4));
            let mut admitted = 0;
            for _ in 0..polls {
                if let Poll::Ready(end) = call.poll() {
                    admitted = end.map(|_| 4).unwrap();
                    break;
                }
                sleep(ms(1)).await;
            }
            if !before_the_answer {
                sleep(ms(10)).await;
            }
            drop(call);
            sleep(ms(20)).await;
            assert_eq!(store.free(b"key", still(10)), 10 - admitted, "{polls} polls");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_quota_applies_from_the_next_answer_on() {
    let store = Fickle::new();
    let slow = Quota::new(1, secs(3600)).with_burst(10);
    let limit = exact(&store, slow, 1);
    while limit.acquire(b"key", 1).await.is_ok() {}
    let calls = store.calls();
    assert!(limit.acquire(b"key", 1).await.is_err());
    assert_eq!(store.calls(), calls);
    // Spent tokens stay spent, and there is room for 20 more.
    limit.set_quota(Quota::new(1000, secs(1)).with_burst(30)).unwrap();
    for _ in 0..20 {
        limit.acquire(b"key", 1).await.unwrap();
    }
    assert!(limit.acquire(b"key", 1).await.is_err());
    sleep(ms(30)).await;
    for _ in 0..30 {
        limit.acquire(b"key", 1).await.unwrap();
    }
    // A refusal by the old quota is not remembered under a faster one.
    limit.set_quota(slow).unwrap();
    assert!(limit.acquire(b"key", 10).await.unwrap_err().retry_after().unwrap() > secs(3600));
    limit.set_quota(Quota::new(1000, secs(1)).with_burst(10)).unwrap();
    assert!(limit.acquire(b"key", 10).await.unwrap_err().retry_after().unwrap() <= ms(31));
    sleep(ms(31)).await;
    limit.acquire(b"key", 10).await.unwrap();
    assert!(limit.set_quota(Quota::new(0, secs(1))).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_remembered_for_the_time_between_two_probes() {
    let store = Fickle::new();
    let quota = Quota::new(1000, secs(24 * 3600));
    let (one, other) = (exact(&store, quota, 1), exact(&store, quota, 2));
    let taken = one.acquire(b"key", 1000).await.unwrap();
    let refused = other.acquire(b"key", 500).await.unwrap_err();
    assert_eq!(refused.retry_after(), Some(secs(12 * 3600)));
    one.refund(taken);
    sleep(ms(101)).await;
    other.acquire(b"key", 500).await.unwrap();
}
