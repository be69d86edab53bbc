//! Leased limits of one and of two processes: leases that move, and outages.

use super::store::{Fickle, Mode};
use std::time::Duration;
use steadfast::{
    Random,
    rate_limit::distributed::{Embedded, Flusher, LONGEST_KEY, Leased, LeasedBuilder, StoreHealth},
};
use tokio::{
    spawn,
    time::{Instant, advance, sleep},
};

const WINDOW: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

fn leased(store: &Fickle, seed: u64) -> (Leased, Flusher) {
    let builder = Leased::builder(store.clone(), 100, WINDOW).flush_every(SECOND).random(Random::seeded(seed));
    builder.build().unwrap()
}

/// Takes all available tokens every 10 ms for this time. Returns their number.
async fn take_all(limit: &Leased, length: Duration) -> u64 {
    let (start, mut taken) = (Instant::now(), 0);
    while Instant::now() - start < length {
        while limit.try_acquire(b"key", 1).is_ok() {
            taken += 1;
        }
        sleep(Duration::from_millis(10)).await;
    }
    taken
}

#[tokio::test(start_paused = true)]
async fn the_first_call_of_a_key_waits_for_the_store_at_most_for_its_deadline() {
    let store = Fickle::new();
    let (limit, flusher) = leased(&store, 1);
    spawn(flusher.run());
    let start = Instant::now();
    assert_eq!(limit.try_acquire(b"other", 1).unwrap_err().retry_after(), Some(SECOND));
    limit.acquire(b"key", 1).await.unwrap();
    assert_eq!(Instant::now(), start);
    let silent = Fickle::new();
    silent.becomes(Mode::Hangs);
    let (limit, flusher) = Leased::builder(silent, 100, WINDOW).deadline(SECOND / 100).build().unwrap();
    spawn(flusher.run());
    assert!(limit.acquire(b"key", 1).await.is_err());
    assert_eq!(Instant::now(), start + SECOND / 100);
}

#[tokio::test(start_paused = true)]
async fn unused_tokens_move_to_another_process() {
    let store = Fickle::new();
    let [(one, first), (other, second)] = [leased(&store, 1), leased(&store, 2)];
    spawn(first.run());
    spawn(second.run());
    let before = take_all(&one, 20 * SECOND).await;
    assert!((170..=300).contains(&before), "{before}");
    let after = take_all(&other, 20 * SECOND).await;
    assert!((150..=300).contains(&after), "{after}");
    assert_eq!(one.held(b"key"), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_returns_held_tokens() {
    let store = Fickle::new();
    let (one, flusher) = leased(&store, 1);
    let run = spawn(flusher.run());
    for _ in 0..10 {
        let _ = one.acquire(b"key", 20).await;
        sleep(SECOND / 2).await;
    }
    drop(one);
    run.await.unwrap();
    let (other, flusher) = leased(&store, 2);
    spawn(flusher.run());
    sleep(WINDOW + SECOND).await;
    // The whole limit is free. The spends no longer count. A lease that was not returned would still count now.
    other.acquire(b"key", 100).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_cut_off_keeps_to_its_share_and_comes_back() {
    let store = Fickle::new();
    let (limit, flusher) = leased(&store, 1);
    spawn(flusher.run());
    let before = take_all(&limit, 30 * SECOND).await;
    store.becomes(Mode::Fails);
    let during = take_all(&limit, 100 * SECOND).await;
    assert!((800..=1000).contains(&during), "{during} while cut off, {before} before");
    let StoreHealth { asked, failed, .. } = limit.readings().store;
    assert!(failed >= 90 && asked > failed, "{failed} of {asked}");
    store.becomes(Mode::Answers);
    let after = take_all(&limit, 30 * SECOND).await;
    assert!((200..=300).contains(&after), "{after}");
}

#[tokio::test(start_paused = true)]
async fn a_cost_above_the_limit_and_a_key_that_is_too_long_are_refused_for_ever() {
    let (limit, _flusher) = leased(&Fickle::new(), 1);
    assert_eq!(limit.try_acquire(b"key", 101).unwrap_err().retry_after(), None);
    let refused = limit.try_acquire(&[0; LONGEST_KEY + 1], 1).unwrap_err();
    assert_eq!(refused.retry_after(), None);
    assert_eq!(refused.to_string(), "the key is 1025 bytes long, and must be at most 1024");
    assert!(limit.try_acquire(&[0; LONGEST_KEY + 1], 0).is_ok());
    advance(SECOND).await;
}

#[test]
fn a_configuration_that_cannot_work_is_refused_by_the_name_of_the_field() {
    let builder = |limit, window| Leased::builder(Embedded::new(), limit, window);
    let field = |builder: LeasedBuilder| builder.build().unwrap_err().field();
    assert_eq!(field(builder(0, WINDOW)), "rate_limit.limit");
    assert_eq!(field(builder(u64::MAX, WINDOW)), "rate_limit.limit");
    assert_eq!(field(builder(1, Duration::ZERO)), "rate_limit.window");
    assert_eq!(field(builder(1, Duration::MAX)), "rate_limit.window");
    assert_eq!(field(builder(1, WINDOW).flush_every(Duration::ZERO)), "rate_limit.flush_every");
    assert_eq!(field(builder(1, WINDOW).flush_every(WINDOW)), "rate_limit.flush_every");
    assert_eq!(field(builder(1, WINDOW).deadline(Duration::ZERO)), "rate_limit.deadline");
    assert_eq!(field(builder(1, WINDOW).deadline(WINDOW)), "rate_limit.deadline");
    assert_eq!(field(builder(1, WINDOW).max_keys(0)), "rate_limit.max_keys");
}
