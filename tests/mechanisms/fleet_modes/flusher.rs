//! The flusher: how it ends, the limit without it, and the keys that it keeps.

use super::{
    exact::still,
    fleet::{exact, exact_by, write_behind_by},
    store::{Fickle, Mode},
};
use crate::support::{ByHand, Stopwatch, ms, secs, size};
use std::time::Duration;
use steadfast::{
    Random,
    rate_limit::{
        Quota,
        distributed::{Exact, Leased, WriteBehind},
    },
};
use tokio::{spawn, time::sleep};

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_last_handle_and_reports_the_rest() {
    let store = Fickle::slow(4, 4);
    let builder = WriteBehind::builder(store.clone(), still(1000), 1).random(Random::seeded(1)).max_unflushed(500);
    let (limit, flusher) = builder.build().unwrap();
    let (flusher, other) = (spawn(flusher.run()), limit.clone());
    // The first 200 keys have nothing to report, and are more than one batch. One more key has something to report.
    for key in 0..200u64 {
        let noted = limit.try_acquire(&key.to_be_bytes(), 1).unwrap();
        limit.refund(noted);
    }
    for _ in 0..500 {
        limit.try_acquire(b"key", 1).unwrap();
    }
    drop(limit);
    sleep(ms(1)).await;
    assert!(!flusher.is_finished());
    drop(other);
    flusher.await.unwrap();
    assert_eq!(store.free(b"key", still(1000)), 500);
}

#[tokio::test(start_paused = true)]
async fn it_ends_while_the_store_is_down() {
    for mode in [Mode::Hangs, Mode::Fails] {
        let store = Fickle::new();
        let (limit, flusher) = Exact::builder(store.clone(), still(100)).build().unwrap();
        let (flusher, time) = (spawn(flusher.run()), Stopwatch::start());
        store.becomes(mode);
        for _ in 0..5 {
            let _ = limit.acquire(b"key", 1).await;
        }
        drop(limit);
        flusher.await.unwrap();
        assert!(time.read() <= ms(100), "{:?}", time.read());
    }
}

#[tokio::test(start_paused = true)]
async fn without_it_no_caller_hangs_and_the_policy_decides() {
    // The flusher never runs, and is not dropped.
    let store = Fickle::new();
    let builder = || Exact::builder(store.clone(), still(10)).processes(1);
    let (limit, flusher) = builder().build().unwrap();
    let time = Stopwatch::start();
    for number in 0..20 {
        assert_eq!(limit.acquire(b"key", 1).await.is_ok(), number < 10);
    }
    assert!(time.read() <= ms(100), "{:?}", time.read());
    // The flusher is dropped: waiters get an answer, and later callers do not wait.
    let mut waits = ByHand::pending(limit.acquire(b"another", 1));
    drop(flusher);
    assert!(waits.poll().is_ready());
    let time = Stopwatch::start();
    assert!(limit.acquire(b"another", 1).await.is_ok());
    assert_eq!(time.read(), Duration::ZERO);
    assert!(!limit.readings().store.is_up);
    // The flusher is aborted while a caller waits.
    store.becomes(Mode::Hangs);
    let (limit, flusher) = builder().build().unwrap();
    let flusher = spawn(flusher.run());
    let mut waits = ByHand::pending(limit.acquire(b"key", 1));
    sleep(ms(1)).await;
    flusher.abort();
    sleep(ms(1)).await;
    assert!(waits.poll().is_ready());
    assert_eq!(store.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_that_no_caller_uses_any_more_are_forgotten() {
    let quota = Quota::new(10, secs(1));
    let store = Fickle::new();
    let exact = exact(&store, quota, 1);
    let write_behind = write_behind_by(&store, quota, 4, 1, |builder| builder);
    let keys = size(10_000, 100_000);
    for key in 0..keys as u64 {
        let _ = write_behind.try_acquire(&key.to_be_bytes(), 1);
        exact.acquire(&key.to_le_bytes(), 1).await.unwrap();
    }
    assert_eq!((exact.readings().keys, write_behind.readings().keys), (keys, keys));
    // A call carries 64 keys, and the next one leaves as soon as the store answers. This store answers at once, so the
    // reports of all keys take no time.
    sleep(secs(11)).await;
    assert_eq!((exact.readings().keys, write_behind.readings().keys), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn keys_without_a_place_share_one_overflow_key() {
    let quota = Quota::new(10, secs(1));
    let store = Fickle::new();
    let (limit, other) = (
        exact_by(&store, quota, 1, |builder| builder.max_keys(100)),
        exact_by(&store, quota, 2, |builder| builder.max_keys(100)),
    );
    for process in [&limit, &other] {
        for key in 0..100u64 {
            process.acquire(&key.to_be_bytes(), 2).await.unwrap();
        }
        assert_eq!(process.readings().keys, 100);
    }
    // No bucket is empty yet. The new keys of both processes share the quota of one key.
    let mut admitted = 0;
    for key in 1000..2000u64 {
        admitted += u64::from(limit.acquire(&key.to_be_bytes(), 1).await.is_ok());
        admitted += u64::from(other.acquire(&key.to_le_bytes(), 1).await.is_ok());
    }
    assert_eq!((admitted, limit.readings().keys), (10, 101));
    // Keys with a place are not affected.
    for key in 0..100u64 {
        limit.acquire(&key.to_be_bytes(), 6).await.unwrap();
    }
    sleep(secs(11)).await;
    assert_eq!(limit.readings().keys, 0);
}

#[tokio::test(start_paused = true)]
async fn in_a_full_table_a_new_key_takes_the_place_of_an_idle_key() {
    let store = Fickle::new();
    let exact = exact_by(&store, Quota::new(10, secs(1)), 1, |builder| builder.max_keys(100));
    let behind = write_behind_by(&store, Quota::new(10, secs(1)), 1, 1, |builder| builder.max_keys(100));
    for round in 0..20u64 {
        for key in 0..100u64 {
            let key = (round * 1000 + key).to_be_bytes();
            // Both limits spend a token of the same bucket. The two tokens drain in 200 ms, long before the flusher's
            // search for idle keys, every 5 s.
            exact.acquire(&key, 1).await.unwrap();
            behind.try_acquire(&key, 1).unwrap();
        }
        sleep(ms(330)).await;
    }
    // No key had to share the overflow key.
    assert_eq!((exact.readings().keys, behind.readings().keys), (100, 100));
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_key_that_comes_again_is_counted_again() {
    let quota = Quota::new(100, secs(1));
    let store = Fickle::new();
    let limit = write_behind_by(&store, quota, 1, 1, |builder| builder);
    for _ in 0..3 {
        for _ in 0..20 {
            limit.try_acquire(b"key", 1).unwrap();
            sleep(ms(100)).await;
        }
        sleep(secs(11)).await;
        assert_eq!(limit.readings().keys, 0);
    }
    for _ in 0..10 {
        limit.try_acquire(b"key", 1).unwrap();
    }
    // The spends of the last period are still unreported.
    let before = store.look(b"key", quota, 0).total;
    sleep(ms(120)).await;
    assert_eq!(store.look(b"key", quota, 0).total, before + 10);
}

#[tokio::test(start_paused = true)]
async fn another_flusher_continues_after_the_last_was_dropped() {
    let store = Fickle::new();
    let (limit, flusher) = Exact::builder(store.clone(), still(10)).processes(1).build().unwrap();
    let flusher = spawn(flusher.run());
    for _ in 0..3 {
        limit.acquire(b"key", 1).await.unwrap();
    }
    flusher.abort();
    sleep(ms(1)).await;
    for _ in 0..4 {
        limit.acquire(b"key", 1).await.unwrap();
    }
    assert_eq!((limit.readings().store.is_up, store.free(b"key", still(10))), (false, 7));
    spawn(limit.flusher().run());
    // A probe after 0.1 s, and a quarter of a second for the reports of others.
    sleep(ms(500)).await;
    assert_eq!((limit.readings().store.is_up, store.free(b"key", still(10))), (true, 3));
    for _ in 0..3 {
        limit.acquire(b"key", 1).await.unwrap();
    }
    assert!(limit.acquire(b"key", 1).await.is_err());
    assert_eq!(store.free(b"key", still(10)), 0);
}

#[tokio::test(start_paused = true)]
async fn flushers_take_turns_and_the_next_continues_at_once() {
    let store = Fickle::slow(4, 4);
    let (limit, first) = Exact::builder(store.clone(), still(100)).deadline(ms(50)).build().unwrap();
    let mut flushers: Vec<_> = (0..4).map(|_| limit.flusher()).chain([first]).map(|each| spawn(each.run())).collect();
    let mut admitted = 0;
    while let Some(flusher) = flushers.pop() {
        for _ in 0..5 {
            limit.acquire(b"key", 1).await.unwrap();
            admitted += 1;
        }
        if flushers.is_empty() {
            // The last flusher is not aborted. It ends with the last handle, after it has reported the rest.
            drop(limit);
            flusher.await.unwrap();
            break;
        }
        flushers.rotate_left(1);
        flusher.abort();
        sleep(ms(1)).await;
        assert!(limit.readings().store.is_up);
    }
    assert_eq!(store.free(b"key", still(100)), 100 - admitted);
    assert_eq!(store.most_under_way(), 1, "one caller waits for one answer at a time");
}

#[tokio::test(start_paused = true)]
async fn another_flusher_repeats_reports_that_were_in_flight() {
    for mode in [Mode::Hangs, Mode::IsNotHeard] {
        let store = Fickle::slow(4, 4);
        let builder = WriteBehind::builder(store.clone(), still(1000), 1).random(Random::seeded(1));
        let (limit, flusher) = builder.max_unflushed(500).build().unwrap();
        let flusher = spawn(flusher.run());
        store.becomes(mode);
        for _ in 0..30 {
            limit.try_acquire(b"key", 1).unwrap();
        }
        while store.calls() == 0 {
            sleep(ms(1)).await;
        }
        flusher.abort();
        sleep(ms(10)).await;
        store.becomes(Mode::Answers);
        spawn(limit.flusher().run());
        sleep(secs(1)).await;
        assert_eq!((store.free(b"key", still(1000)), limit.readings().unflushed), (970, 0), "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_flusher_takes_leases_again() {
    let store = Fickle::slow(4, 4);
    let builder = Leased::builder(store.clone(), 100, secs(5)).flush_every(ms(500)).random(Random::seeded(1));
    let (limit, flusher) = builder.build().unwrap();
    let flusher = spawn(flusher.run());
    limit.acquire(b"key", 1).await.unwrap();
    store.becomes(Mode::Hangs);
    let mut waits = ByHand::pending(limit.acquire(b"another", 1));
    sleep(ms(2)).await;
    flusher.abort();
    sleep(ms(2)).await;
    assert!(waits.poll().is_ready(), "its batch was in flight");
    drop(waits);
    while limit.try_acquire(b"key", 1).is_ok() {}
    store.becomes(Mode::Answers);
    sleep(secs(5)).await;
    assert!(limit.try_acquire(b"key", 1).is_err() && !limit.readings().store.is_up);
    spawn(limit.flusher().run());
    // The next flush comes within one period. Then other processes have 1.2 periods to report. The grant comes within
    // one more period.
    for key in [b"key".as_slice(), b"another", b"third"] {
        let time = Stopwatch::start();
        while limit.acquire(key, 1).await.is_err() {
            sleep(ms(10)).await;
        }
        assert!(time.read() <= ms(2000), "{:?}", time.read());
    }
    assert!(limit.readings().store.is_up);
}

#[tokio::test(start_paused = true)]
async fn the_next_flusher_settles_a_lease_that_was_in_flight() {
    let store = Fickle::slow(4, 4);
    let builder = Leased::builder(store.clone(), 100, secs(5)).flush_every(ms(500)).random(Random::seeded(1));
    let (limit, flusher) = builder.build().unwrap();
    let flusher = spawn(flusher.run());
    spawn(limit.flusher().run());
    store.becomes(Mode::Hangs);
    let mut waits = ByHand::pending(limit.acquire(b"key", 1));
    sleep(ms(2)).await;
    flusher.abort();
    sleep(ms(2)).await;
    assert!(waits.poll().is_ready(), "its batch was in flight");
    drop(waits);
    store.becomes(Mode::Answers);
    let time = Stopwatch::start();
    while limit.acquire(b"key", 1).await.is_err() {
        sleep(ms(10)).await;
        assert!(time.read() <= secs(3), "no flusher asks for the key again");
    }
    assert!(limit.readings().store.is_up);
}
