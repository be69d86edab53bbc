//! `PerKey`: each key has a mechanism of its own. The tests check which key is forgotten to make room, which keys are
//! kept, and which keys share the overflow mechanism.

mod contention;
mod model;
mod panics;
mod stacks;

use crate::support::{ms, secs};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use steadfast::{
    circuit_breaker::{Breaker, BreakerBuilder, BreakerState},
    load_shed::{Limiter, LoadShedConfig},
    per_key::PerKey,
    rate_limit::{SlidingWindow, TokenBucket},
    retry::RetryBudget,
};
use tokio::time::{Instant, advance};

type Breakers = PerKey<Breaker, u64, fn(&u64) -> u64>;

/// The request is its own key.
fn same(key: &u64) -> u64 {
    *key
}

fn breakers(builder: BreakerBuilder) -> Breakers {
    PerKey::new(same as fn(&u64) -> u64, builder).unwrap()
}

fn fragile() -> BreakerBuilder {
    Breaker::builder().consecutive_failures(1).open_for(secs(5))
}

fn fail(breaker: &Breaker) {
    breaker.try_acquire().unwrap().failure();
}

fn keys_of(breakers: &Breakers) -> Vec<u64> {
    let mut keys = Vec::new();
    breakers.for_each(|key, _| keys.push(*key));
    keys.sort_unstable();
    keys
}

/// Uses these keys, one per second.
async fn use_all(breakers: &Breakers, keys: impl IntoIterator<Item = u64>) {
    for key in keys {
        drop(breakers.handle(key));
        advance(secs(1)).await;
    }
}

#[test]
fn an_invalid_configuration_is_refused_once_with_its_field() {
    let field = |error: steadfast::ConfigError| error.field();
    let breaker = PerKey::new(same, Breaker::builder().probes(0)).map(|_| ());
    assert_eq!(breaker.map_err(field), Err("circuit_breaker.probes"));
    let limiter = PerKey::new(same, LoadShedConfig::new(0)).map(|_| ());
    assert_eq!(limiter.map_err(field), Err("load_shed.limit"));
    let bucket = PerKey::new(same, TokenBucket::builder(0, secs(1))).map(|_| ());
    assert_eq!(bucket.map_err(field), Err("rate_limit.count"));
    for share in [0.0, -1.0, 1.1, f64::NAN, f64::INFINITY] {
        let bound = breakers(fragile()).most_open(share).map(|_| ());
        assert_eq!(bound.map_err(field), Err("per_key.most_open"), "{share}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_key_keeps_its_own_mechanism() {
    let breakers = breakers(fragile());
    fail(&breakers.handle(1));
    assert_eq!(breakers.handle(1).state(), BreakerState::Open);
    assert_eq!(breakers.handle(2).state(), BreakerState::Closed);
    assert_eq!(keys_of(&breakers), [1, 2]);
    assert_eq!((breakers.len(), breakers.overflowed()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn get_neither_makes_a_mechanism_nor_counts_as_a_use() {
    let breakers = breakers(fragile()).max_keys(2);
    assert!(breakers.get(&1).is_none() && breakers.is_empty());
    use_all(&breakers, [1, 2]).await;
    assert!(breakers.get(&1).is_some());
    // `get` did not use key 1, so key 1 is still the first to be forgotten.
    use_all(&breakers, [3]).await;
    assert_eq!(keys_of(&breakers), [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn the_least_recently_used_key_without_failures_is_forgotten_first() {
    let breakers = breakers(fragile().consecutive_failures(2)).max_keys(3);
    use_all(&breakers, [1, 2, 3, 1]).await;
    use_all(&breakers, [4]).await;
    assert_eq!(keys_of(&breakers), [1, 3, 4]);
    // A failure is evidence, and so is an open circuit. Keys 3 and 1 are therefore kept.
    fail(&breakers.handle(3));
    fail(&breakers.handle(1));
    fail(&breakers.handle(1));
    use_all(&breakers, [5, 6]).await;
    assert_eq!(keys_of(&breakers), [1, 3, 6]);
}

#[tokio::test(start_paused = true)]
async fn new_keys_without_a_place_share_one_mechanism_and_are_counted() {
    let breakers = breakers(fragile()).max_keys(2);
    for key in [1, 2] {
        fail(&breakers.handle(key));
    }
    let shared = breakers.handle(3);
    fail(&breakers.handle(4));
    assert_eq!(shared.state(), BreakerState::Open);
    assert_eq!(breakers.overflow().unwrap().state(), BreakerState::Open);
    assert_eq!((breakers.len(), breakers.overflowed()), (2, 2));
    assert_eq!(keys_of(&breakers), [1, 2]);
    assert!(breakers.get(&3).is_none());
}

#[tokio::test(start_paused = true)]
async fn with_no_places_all_keys_share_one_mechanism() {
    let breakers = breakers(fragile()).max_keys(0);
    fail(&breakers.handle(1));
    assert_eq!(breakers.handle(2).state(), BreakerState::Open);
    assert_eq!((breakers.len(), breakers.overflowed()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_key_with_evidence_is_replaced_only_after_idle_after() {
    let breakers = breakers(fragile()).max_keys(1).idle_after(secs(60));
    fail(&breakers.handle(1));
    advance(secs(59)).await;
    drop(breakers.handle(2));
    assert_eq!(keys_of(&breakers), [1]);
    advance(secs(2)).await;
    drop(breakers.handle(2));
    assert_eq!(keys_of(&breakers), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_learned_limit_is_evidence() {
    let limiters = PerKey::new(same, || Limiter::adaptive().deadline(secs(1)).build()).unwrap();
    let limiters = limiters.max_keys(1).idle_after(secs(60));
    for _ in 0..100 {
        let limiter = limiters.handle(1);
        let permits = [(); 2].map(|()| limiter.try_acquire().unwrap());
        advance(ms(50)).await;
        drop(permits);
    }
    drop(limiters.handle(2));
    assert!(limiters.get(&1).is_some() && limiters.get(&2).is_none());
    advance(secs(60)).await;
    drop(limiters.handle(2));
    // The limit of key 2 has seen no call, so key 2 makes room for key 3.
    drop(limiters.handle(3));
    assert!(limiters.get(&2).is_none() && limiters.get(&3).is_some());
}

#[test]
fn a_key_used_at_an_earlier_instant_than_another_key_gets_a_place() {
    let now = Instant::now();
    let limiters = PerKey::new(same, LoadShedConfig::new(1)).unwrap().max_keys(2);
    let in_use = limiters.handle_at(1, now);
    drop(limiters.handle_at(2, now + secs(2)));
    drop(limiters.handle_at(3, now + secs(1)));
    assert!(limiters.get(&1).is_some() && limiters.get(&2).is_none() && limiters.get(&3).is_some());
    drop(in_use);
}

#[test]
fn a_function_that_gives_the_last_place_to_another_key_still_gets_one_for_its_key() {
    let limiters = Arc::new(OnceLock::<PerKey<Limiter, u64, fn(&u64) -> u64>>::new());
    let known = Arc::clone(&limiters);
    let make = move |key: &u64| {
        if let (3, Some(limiters)) = (*key, known.get()) {
            drop(limiters.handle(4));
        }
        Limiter::fixed(1).unwrap()
    };
    let limiters = limiters.get_or_init(|| PerKey::with(same as fn(&u64) -> u64, make).max_keys(2));
    let in_use = limiters.handle(1);
    drop(limiters.handle(2));
    drop(limiters.handle(3));
    assert!(limiters.get(&1).is_some() && limiters.get(&3).is_some());
    drop(in_use);
}

#[test]
fn a_clock_that_was_ahead_once_keeps_no_new_key_out() {
    let now = Instant::now();
    let limiters = PerKey::new(same, LoadShedConfig::new(1)).unwrap().max_keys(1);
    let in_use = limiters.handle_at(1, now);
    drop(limiters.handle_at(2, now + secs(3600)));
    drop(in_use);
    drop(limiters.handle_at(3, now + secs(1)));
    assert!(limiters.get(&3).is_some());
}

#[test]
fn a_key_for_which_a_function_fails_uses_the_overflow_mechanism_until_it_succeeds() {
    let made = AtomicUsize::new(0);
    let make = move || Limiter::fixed(usize::from(!(1..3).contains(&made.fetch_add(1, Ordering::Relaxed))));
    let limiters = PerKey::new(same, make).unwrap();
    let permit = limiters.handle(1).try_acquire_owned().unwrap();
    assert_eq!((limiters.overflow().unwrap().in_flight(), limiters.handle(2).in_flight()), (1, 1));
    assert_eq!((limiters.len(), limiters.overflowed()), (0, 2));
    assert_eq!((limiters.handle(1).in_flight(), limiters.len(), limiters.overflowed()), (0, 1, 2));
    drop(permit);
    let never = PerKey::new(same, || Limiter::fixed(0)).map(|_| ());
    assert_eq!(never.map_err(|error| error.field()), Err("load_shed.limit"));
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_kept_while_it_refuses() {
    let breakers = breakers(fragile().open_for(secs(1000)).max_open_for(secs(1000))).max_keys(1).idle_after(secs(60));
    fail(&breakers.handle(1));
    for _ in 0..9 {
        advance(secs(100)).await;
        drop(breakers.handle(2));
        assert_eq!(keys_of(&breakers), [1]);
    }
    advance(secs(100)).await;
    drop(breakers.handle(2));
    assert_eq!(keys_of(&breakers), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_an_operator_forced_is_kept() {
    let breakers = breakers(fragile()).max_keys(1).idle_after(secs(60));
    breakers.handle(1).force_open();
    advance(secs(100_000)).await;
    drop(breakers.handle(2));
    assert_eq!(keys_of(&breakers), [1]);
    breakers.get(&1).unwrap().reset();
    advance(secs(1)).await;
    drop(breakers.handle(2));
    assert_eq!(keys_of(&breakers), [2]);
}

#[tokio::test(start_paused = true)]
async fn idle_keys_are_removed_even_if_there_is_room() {
    let breakers = breakers(fragile()).idle_after(secs(60));
    use_all(&breakers, [1, 2]).await;
    advance(secs(60)).await;
    use_all(&breakers, [3]).await;
    assert_eq!(keys_of(&breakers), [3]);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_in_use_while_a_handle_or_a_permit_is_held() {
    let breakers = breakers(fragile()).max_keys(1);
    let held = breakers.handle(1);
    drop(breakers.handle(2));
    assert_eq!((keys_of(&breakers), breakers.overflowed()), (vec![1], 1));
    let permit = held.try_acquire_owned().unwrap();
    drop(held);
    advance(secs(1)).await;
    drop(breakers.handle(2));
    assert_eq!(keys_of(&breakers), [1]);
    permit.success();
    advance(secs(1)).await;
    drop(breakers.handle(2));
    assert_eq!(keys_of(&breakers), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_lower_max_keys_removes_keys_that_can_be_forgotten() {
    let breakers = breakers(fragile());
    use_all(&breakers, 0..10).await;
    fail(&breakers.handle(0));
    let breakers = breakers.max_keys(3);
    use_all(&breakers, [10]).await;
    assert_eq!(keys_of(&breakers), [0, 9, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_limiter_with_calls_in_flight_is_kept() {
    let limiters = PerKey::new(same, LoadShedConfig::new(1)).unwrap().max_keys(1);
    let permit = limiters.handle(1).try_acquire_owned().unwrap();
    assert!(limiters.handle(1).try_acquire().is_err());
    drop(limiters.handle(2));
    assert!(limiters.get(&1).is_some());
    drop(permit);
    advance(secs(1)).await;
    drop(limiters.handle(2));
    assert!(limiters.get(&1).is_none());
    assert_eq!(limiters.get(&2).map(|limiter| Limiter::limit(&limiter)), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_bucket_or_a_window_that_lacks_tokens_is_kept() {
    let buckets = PerKey::new(same, TokenBucket::builder(1, secs(10))).unwrap().max_keys(1);
    let windows = PerKey::new(same, SlidingWindow::builder(1, secs(10))).unwrap().max_keys(1);
    buckets.handle(1).try_acquire(1).unwrap();
    windows.handle(1).try_acquire(1).unwrap();
    advance(secs(9)).await;
    drop((buckets.handle(2), windows.handle(2)));
    assert!(buckets.get(&1).is_some() && windows.get(&1).is_some());
    advance(secs(2)).await;
    drop((buckets.handle(2), windows.handle(2)));
    assert!(buckets.get(&2).is_some() && windows.get(&2).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_closed_bucket_is_kept() {
    let buckets = PerKey::new(same, TokenBucket::builder(1, secs(10))).unwrap().max_keys(1).idle_after(secs(1));
    buckets.handle(1).close();
    advance(secs(100)).await;
    drop(buckets.handle(2));
    assert!(buckets.handle(1).is_closed() && buckets.get(&2).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_retry_budget_below_that_of_a_new_one_is_kept() {
    let budgets = PerKey::new(same, RetryBudget::builder().initial(2).no_floor()).unwrap().max_keys(1);
    assert!(budgets.handle(1).withdraw().is_some());
    drop(budgets.handle(2));
    assert_eq!(budgets.get(&1).unwrap().balance(), 1.0);
    (0..10).for_each(|_| budgets.handle(1).deposit());
    advance(secs(1)).await;
    drop(budgets.handle(2));
    assert!(budgets.get(&1).is_none());
}

#[tokio::test(start_paused = true)]
async fn calls_at_past_and_far_future_instants_lose_nothing_and_lock_no_key_out() {
    let breakers = breakers(fragile()).max_keys(1).idle_after(secs(60));
    let (past, now) = (Instant::now(), Instant::now() + secs(1));
    let far = now + Duration::from_secs(60 * 60 * 24 * 365 * 400);
    advance(secs(1)).await;
    fail(&breakers.handle_at(1, far));
    // The clock goes back, and stands still.
    for at in [now, past, past] {
        drop(breakers.handle_at(2, at));
        assert_eq!(keys_of(&breakers), [1]);
    }
    assert_eq!(breakers.overflowed(), 3);
    breakers.get(&1).unwrap().reset();
    drop(breakers.handle_at(2, now + secs(1)));
    assert_eq!(keys_of(&breakers), [2]);
}

#[tokio::test(start_paused = true)]
async fn at_most_the_bounded_fraction_of_circuits_opens_and_the_others_keep_counting() {
    let breakers = breakers(fragile().consecutive_failures(2).probes(1)).most_open(0.25).unwrap();
    use_all(&breakers, 0..8).await;
    for key in 0..8 {
        let breaker = breakers.handle(key);
        fail(&breaker);
        let _ = breaker.try_acquire().map(|permit| permit.failure());
    }
    let open = |key| breakers.get(&key).unwrap().state() == BreakerState::Open;
    assert_eq!((0..8).filter(|key| open(*key)).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(breakers.open(), 2);
    // A half-open circuit still counts as open, so no other circuit can open.
    advance(secs(5)).await;
    let probe = breakers.handle(0);
    let probe = probe.try_acquire().unwrap();
    fail(&breakers.handle(7));
    assert!(!open(7));
    probe.success();
    assert_eq!(breakers.open(), 1);
    // Circuit 7 has counted its failures in a row, so it opens at the next one.
    fail(&breakers.handle(7));
    assert!(open(7));
    // Circuits forced open by hand do not count.
    breakers.handle(2).force_open();
    assert_eq!(breakers.open(), 2);
    breakers.handle(7).force_open();
    assert_eq!(breakers.open(), 1);
    breakers.handle(1).reset();
    assert_eq!(breakers.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn no_key_is_forgotten_if_too_large_a_fraction_of_circuits_would_be_open() {
    let breakers = breakers(fragile().open_for(secs(500)).max_open_for(secs(500))).most_open(0.5).unwrap();
    let breakers = breakers.idle_after(secs(60));
    use_all(&breakers, 0..4).await;
    fail(&breakers.handle(0));
    fail(&breakers.handle(1));
    advance(secs(100)).await;
    for key in 4..20 {
        use_all(&breakers, [key]).await;
        assert!(breakers.open() == 2 && breakers.len() >= 4, "{:?}", keys_of(&breakers));
        advance(secs(if key == 12 { 100 } else { 1 })).await;
    }
    let keys = keys_of(&breakers);
    assert!(keys.starts_with(&[0, 1]) && !keys.contains(&2), "{keys:?}");
}

#[test]
fn debug_output_names_the_mechanism_and_its_numbers() {
    let breakers = breakers(fragile()).max_keys(7);
    drop(breakers.handle(1));
    let text = format!("{breakers:?}");
    assert_eq!(text, r#"PerKey { mechanism: "circuit breaker", keys: 1, max_keys: 7, overflowed: 0, .. }"#);
}
