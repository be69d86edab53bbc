//! Limits that many processes keep together: what is in the store, and the engine around it.

use proptest::prelude::*;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use steadfast::{
    Random,
    rate_limit::distributed::{
        Answering, Charge, Charged, Demand, Embedded, Flusher, LONGEST_KEY, Leased, Settled, Store, StoreError,
        StoreErrorKind, StoreHealth,
    },
};
use tokio::{
    spawn,
    time::{Instant, advance, sleep},
};

const WINDOW: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

/// A process as the store sees it: what it holds, and what it spent and when.
struct Process {
    client: u64,
    held: u64,
    spent: u64,
    spends: VecDeque<(Instant, u64)>,
    sequence: u64,
    total: u64,
}

impl Process {
    fn new(client: u64) -> Self {
        Self { client, held: 0, spent: 0, spends: VecDeque::new(), sequence: 0, total: 0 }
    }

    fn spend(&mut self, tokens: u64, now: Instant) {
        self.held -= tokens;
        self.spent += tokens;
        self.spends.push_front((now, tokens));
    }

    fn demand(&mut self, limit: u64, want: u64, now: Instant) -> Demand {
        self.spends.retain(|(at, _)| now - *at < WINDOW);
        self.sequence += 1;
        Demand {
            key: Arc::from(&b"key"[..]),
            limit,
            window: WINDOW,
            client: self.client,
            sequence: self.sequence,
            spent: self.spent,
            spends: self.spends.iter().map(|(at, tokens)| (now - *at, *tokens)).collect(),
            held: self.held,
            want,
            total: self.total,
        }
    }

    fn answered(&mut self, settled: &Settled) {
        self.held += settled.granted;
        self.total = settled.total;
    }
}

/// The most in any window that ends with a spend.
fn worst_window(spends: &[(Instant, u64)]) -> u64 {
    let ending_at = |end: Instant| spends.iter().filter(move |(at, _)| *at <= end && end - *at < WINDOW);
    spends.iter().map(|(end, _)| ending_at(*end).map(|(_, tokens)| tokens).sum()).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(crate::support::cases(400))]

    #[test]
    fn in_no_window_do_three_processes_spend_more_than_the_limit(
        limit in 1..200u64,
        steps in prop::collection::vec(
            (0..3usize, 0..4000u64, 0..=100u64, 0..300u64, any::<bool>(), any::<bool>()),
            1..120,
        ),
    ) {
        let store = Embedded::new();
        let mut now = Instant::now();
        let mut all: Vec<Process> = (1..=3).map(Process::new).collect();
        let mut spends = Vec::new();
        let mut heard = [now; 3];
        for (who, millis, percent, want, is_answered, comes_again) in steps {
            now += Duration::from_millis(millis);
            // Whoever is not heard of for two windows is taken for gone.
            for (process, heard) in all.iter_mut().zip(&mut heard).filter(|(_, heard)| now - **heard > WINDOW) {
                let demand = process.demand(limit, 0, now);
                process.answered(&store.settle_at(&[demand], now)[0]);
                *heard = now;
            }
            let process = &mut all[who];
            let tokens = process.held * percent / 100;
            if tokens > 0 {
                process.spend(tokens, now);
                spends.push((now, tokens));
            }
            let demand = process.demand(limit, want, now);
            let settled = store.settle_at(std::slice::from_ref(&demand), now)[0];
            heard[who] = now;
            if comes_again {
                // Overtaken, or sent again: nothing of it counts.
                prop_assert_eq!(store.settle_at(&[demand], now)[0].granted, 0);
            }
            // An answer that is lost was granted to nobody.
            if is_answered {
                process.answered(&settled);
            }
        }
        prop_assert!(worst_window(&spends) <= limit, "{} of {limit}", worst_window(&spends));
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_process_holds_or_spent_another_does_not_get() {
    let (store, now) = (Embedded::new(), Instant::now());
    let (mut first, mut second) = (Process::new(1), Process::new(2));
    let settle = |process: &mut Process, want, now| {
        let demand = process.demand(100, want, now);
        let settled = store.settle_at(&[demand], now)[0];
        process.answered(&settled);
        settled.granted
    };
    assert_eq!(settle(&mut first, 60, now), 60);
    assert_eq!(settle(&mut second, 60, now), 40);
    first.spend(60, now + SECOND);
    assert_eq!(settle(&mut first, 10, now + SECOND), 0);
    // Spent at 1 s, in a cell of a quarter of a second, and counted until a window after its end.
    assert_eq!(settle(&mut second, 10, now + WINDOW + SECOND), 0);
    assert_eq!(settle(&mut second, 100, now + WINDOW + SECOND + SECOND / 4), 60);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_lost_its_data_learns_what_was_spent_and_grants_nothing_for_a_window() {
    let (store, now) = (Embedded::new(), Instant::now());
    let mut process = Process::new(1);
    let demand = process.demand(100, 80, now);
    process.answered(&store.settle_at(&[demand], now)[0]);
    process.spend(70, now);
    let demand = process.demand(100, 0, now);
    process.answered(&store.settle_at(&[demand], now)[0]);
    store.clear();
    let demand = process.demand(100, 0, now + SECOND);
    let settled = store.settle_at(&[demand], now + SECOND)[0];
    assert_eq!((settled.lost, settled.total, settled.free), (true, 140, 0));
    // One that knows of nothing gets nothing either, until no process can have spent what none reports.
    let mut newcomer = Process::new(2);
    let mut granted = |at| {
        let demand = newcomer.demand(100, 10, at);
        store.settle_at(&[demand], at)[0].granted
    };
    assert_eq!(granted(now + SECOND + WINDOW - Duration::from_nanos(1)), 0);
    assert_eq!(granted(now + SECOND + WINDOW), 10);
}

#[tokio::test(start_paused = true)]
async fn keys_that_nobody_uses_are_forgotten_by_the_store() {
    let (store, mut now) = (Embedded::new(), Instant::now());
    for number in 0..100_000u64 {
        now += Duration::from_millis(10);
        let mut process = Process::new(1);
        let mut demand = process.demand(100, 0, now);
        demand.key = Arc::from(&number.to_le_bytes()[..]);
        store.settle_at(&[demand], now);
    }
    // Those of the last two windows, and as many again.
    assert!(store.keys() < 6000, "{} keys", store.keys());
}

/// A store that can be switched off.
#[derive(Clone)]
struct Switched {
    inner: Embedded,
    is_off: Arc<AtomicBool>,
}

impl Switched {
    fn new() -> Self {
        Self { inner: Embedded::new(), is_off: Arc::default() }
    }

    fn switch(&self, is_off: bool) {
        self.is_off.store(is_off, Ordering::Relaxed);
    }
}

impl Store for Switched {
    fn charge<'a>(&'a self, charges: &'a [Charge]) -> Answering<'a, Charged> {
        if self.is_off.load(Ordering::Relaxed) {
            return Box::pin(async { Err(StoreError::new(StoreErrorKind::Unreachable, "switched off")) });
        }
        self.inner.charge(charges)
    }

    fn settle<'a>(&'a self, demands: &'a [Demand]) -> Answering<'a, Settled> {
        if self.is_off.load(Ordering::Relaxed) {
            return Box::pin(async { Err(StoreError::new(StoreErrorKind::Unreachable, "switched off")) });
        }
        self.inner.settle(demands)
    }
}

fn leased(store: &Switched, seed: u64) -> (Leased, Flusher) {
    let builder = Leased::builder(store.clone(), 100, WINDOW).flush_every(SECOND).random(Random::seeded(seed));
    builder.build().unwrap()
}

/// Takes whatever there is, every ten milliseconds for so long.
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
async fn the_first_call_of_a_key_waits_for_the_store_and_no_longer_than_that_has_time() {
    let store = Switched::new();
    let (limit, flusher) = leased(&store, 1);
    spawn(flusher.run());
    let start = Instant::now();
    assert_eq!(limit.try_acquire(b"other", 1).unwrap_err().retry_after(), Some(SECOND));
    limit.acquire(b"key", 1).await.unwrap();
    assert_eq!(Instant::now(), start);
    // A store that does not answer at all.
    struct Silent;
    impl Store for Silent {
        fn charge<'a>(&'a self, _: &'a [Charge]) -> Answering<'a, Charged> {
            Box::pin(std::future::pending())
        }

        fn settle<'a>(&'a self, _: &'a [Demand]) -> Answering<'a, Settled> {
            Box::pin(std::future::pending())
        }
    }
    let (limit, flusher) = Leased::builder(Silent, 100, WINDOW).deadline(SECOND / 100).build().unwrap();
    spawn(flusher.run());
    assert!(limit.acquire(b"key", 1).await.is_err());
    assert_eq!(Instant::now(), start + SECOND / 100);
}

#[tokio::test(start_paused = true)]
async fn what_one_process_does_not_use_another_gets() {
    let store = Switched::new();
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
async fn the_last_handle_gives_back_what_it_holds() {
    let store = Switched::new();
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
    // All of it. What was spent is forgotten by now; what was held would be counted for one more window.
    other.acquire(b"key", 100).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_cut_off_keeps_to_its_share_and_comes_back() {
    let store = Switched::new();
    let (limit, flusher) = leased(&store, 1);
    spawn(flusher.run());
    let before = take_all(&limit, 30 * SECOND).await;
    store.switch(true);
    let during = take_all(&limit, 100 * SECOND).await;
    assert!((800..=1000).contains(&during), "{during} while cut off, {before} before");
    let StoreHealth { asked, failed, .. } = limit.readings().store;
    assert!(failed >= 90 && asked > failed, "{failed} of {asked}");
    store.switch(false);
    let after = take_all(&limit, 30 * SECOND).await;
    assert!((200..=300).contains(&after), "{after}");
}

#[tokio::test(start_paused = true)]
async fn a_cost_above_the_limit_and_a_key_that_is_too_long_are_refused_for_ever() {
    let (limit, _flusher) = leased(&Switched::new(), 1);
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
    let field = |builder: steadfast::rate_limit::distributed::LeasedBuilder| builder.build().unwrap_err().field();
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
