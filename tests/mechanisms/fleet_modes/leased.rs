//! Leased limits under faults: forgotten keys, lost flushers, and a store that panics.

use super::store::{Fickle, Mode};
use crate::support::{ByHand, Stopwatch, ms, secs};
use std::time::Duration;
use steadfast::{
    Random,
    rate_limit::distributed::{Embedded, Flusher, Leased},
};
use tokio::{
    spawn,
    time::{Instant, sleep},
};

fn leased(store: &Fickle) -> (Leased, Flusher) {
    Leased::builder(store.clone(), 100, secs(5)).flush_every(ms(500)).random(Random::seeded(1)).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_key_that_comes_again_is_granted_and_counted() {
    let store = Fickle::new();
    let (limit, flusher) = leased(&store);
    spawn(flusher.run());
    let mut admitted = Vec::new();
    for pause in [5, 6, 7, 8, 9, 12] {
        let start = Instant::now();
        let before = admitted.len();
        while Instant::now() - start < secs(3) {
            if limit.acquire(b"key", 1).await.is_ok() {
                admitted.push(Instant::now());
            }
            sleep(ms(10)).await;
        }
        assert!(admitted.len() - before >= 60, "{} after a pause", admitted.len() - before);
        sleep(secs(pause)).await;
        assert!(limit.readings().keys <= 1);
    }
    let in_window = |end: &Instant| admitted.iter().filter(|at| *at <= end && *end - **at < secs(5)).count();
    let worst = admitted.iter().map(in_window).max().unwrap();
    assert!(worst <= 100, "{worst}");
}

#[tokio::test(start_paused = true)]
async fn no_caller_waits_without_a_flusher_or_beyond_the_deadline_for_one_that_does_not_run() {
    let (limit, flusher) = leased(&Fickle::new());
    let time = Stopwatch::start();
    assert!(limit.acquire(b"key", 1).await.is_err());
    assert_eq!(time.read(), ms(250));
    let mut waits = ByHand::pending(limit.acquire(b"another", 1));
    drop(flusher);
    assert!(waits.poll().is_ready());
    let time = Stopwatch::start();
    assert!(limit.acquire(b"third", 1).await.is_err());
    assert_eq!(time.read(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_counts_as_not_answering() {
    let store = Fickle::new();
    let (limit, flusher) = leased(&store);
    spawn(flusher.run());
    limit.acquire(b"key", 1).await.unwrap();
    store.becomes(Mode::Panics);
    sleep(secs(5)).await;
    assert!(!limit.readings().store.is_up);
    store.becomes(Mode::Answers);
    sleep(secs(5)).await;
    assert!(limit.readings().store.is_up);
    limit.acquire(b"new", 1).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_tokens_that_still_count_as_spent_can_be_refunded() {
    let store = Fickle::new();
    let (limit, flusher) = leased(&store);
    spawn(flusher.run());
    let (early, late) = (limit.acquire(b"key", 1).await.unwrap(), limit.acquire(b"key", 1).await.unwrap());
    let held = limit.held(b"key");
    limit.refund(early);
    assert_eq!(limit.held(b"key"), held + 1);
    // The window has passed, and the tokens may have been granted again.
    sleep(secs(6)).await;
    let held = limit.held(b"key");
    limit.refund(late);
    assert_eq!(limit.held(b"key"), held);
}

#[tokio::test(start_paused = true)]
async fn newcomers_of_a_full_table_share_one_lease() {
    let (limit, flusher) = Leased::builder(Embedded::new(), 100, secs(1)).max_keys(10).build().unwrap();
    spawn(flusher.run());
    for key in 0..10u64 {
        limit.acquire(&key.to_be_bytes(), 5).await.unwrap();
    }
    let mut admitted = 0;
    for key in 100..300u64 {
        admitted += u64::from(limit.acquire(&key.to_be_bytes(), 1).await.is_ok());
        sleep(ms(1)).await;
    }
    assert!((50..=100).contains(&admitted), "{admitted}");
    // Once the leases are returned and a window has passed, a new key has its own place.
    sleep(secs(4)).await;
    assert_eq!((limit.acquire(b"own", 100).await.is_ok(), limit.readings().keys), (true, 1));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_again_and_again_costs_less_than_half_of_the_limit() {
    let store = Fickle::new();
    let processes: Vec<_> = (0..4)
        .map(|seed| {
            let builder = Leased::builder(store.clone(), 100, secs(1)).random(Random::seeded(seed));
            let (limit, flusher) = builder.build().unwrap();
            spawn(flusher.run());
            limit
        })
        .collect();
    let mut admitted = Vec::new();
    for milli in 0..12_000u64 {
        // From the third second on the store fails for 300 ms and answers for 300 ms, in turn.
        store.becomes(if milli >= 3000 && milli / 300 % 2 == 0 { Mode::Fails } else { Mode::Answers });
        if processes[milli as usize % 4].acquire(b"key", 1).await.is_ok() {
            admitted.push(Instant::now());
        }
        sleep(ms(1)).await;
    }
    let in_window = |end: &Instant| admitted.iter().filter(|at| *at <= end && *end - **at < secs(1)).count();
    let worst = admitted.iter().map(in_window).max().unwrap();
    assert!(worst <= 100, "{worst}");
    let since = |start: Instant| admitted.iter().filter(|at| **at >= start).count();
    let admitted = since(Instant::now() - secs(8));
    assert!(admitted > 8 * 50, "{admitted} of 800");
}

#[tokio::test(start_paused = true)]
async fn after_the_store_lost_a_key_no_process_takes_a_lease_for_a_window() {
    let store = Embedded::new();
    let process = || {
        let (limit, flusher) = Leased::builder(store.clone(), 100, secs(10)).flush_every(secs(1)).build().unwrap();
        spawn(flusher.run());
        limit
    };
    // The first process spends about 80 of 100 tokens, and then ends. After that the store loses its data.
    let (first, second) = (process(), process());
    let mut spent = 0;
    for _ in 0..30 {
        spent += u64::from(first.acquire(b"key", 4).await.is_ok()) * 4;
        let _ = second.acquire(b"key", 1).await;
        sleep(ms(100)).await;
    }
    assert!(spent >= 60, "{spent}");
    sleep(secs(1)).await;
    drop(first);
    sleep(ms(10)).await;
    store.clear();
    sleep(secs(2)).await;
    let (newcomer, mut admitted) = (process(), 0);
    for _ in 0..60 {
        admitted += u64::from(newcomer.acquire(b"key", 1).await.is_ok());
        admitted += u64::from(second.acquire(b"key", 1).await.is_ok());
        sleep(ms(100)).await;
    }
    assert!(spent + admitted <= 100, "{spent} and {admitted} of 100");
    sleep(secs(5)).await;
    for _ in 0..30 {
        admitted += u64::from(newcomer.acquire(b"key", 1).await.is_ok());
        sleep(ms(100)).await;
    }
    assert!(admitted >= 20, "{admitted}");
}
