//! A store that fails for one key and answers for all others.

use super::{
    exact::still,
    fleet::write_behind_by,
    store::{Fickle, Mode},
};
use crate::support::{ms, secs};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use steadfast::{
    Random,
    rate_limit::{
        Quota,
        distributed::{
            Answering, Charge, Charged, Demand, Embedded, Exact, Leased, OnOutage, Settled, Store, StoreError,
            StoreErrorKind, WriteBehind,
        },
    },
};
use tokio::{
    spawn,
    time::{Instant, sleep, sleep_until, timeout},
};

/// The batches of charges that fail. Demands fail only with `All`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fails {
    None,
    All,
    /// Batches with this key.
    With(&'static [u8]),
    /// Batches without this key. A batch with it is answered after this number of milliseconds.
    Without(&'static [u8], u64),
}

/// An [`Embedded`] store that fails for some keys. Clones are the same store.
#[derive(Clone)]
struct Partly {
    inner: Embedded,
    fails: Arc<Mutex<Fails>>,
}

impl Partly {
    fn new() -> Self {
        Self { inner: Embedded::new(), fails: Arc::new(Mutex::new(Fails::None)) }
    }

    fn becomes(&self, fails: Fails) {
        *self.fails.lock().unwrap() = fails;
    }

    /// Returns how many tokens of this key are free.
    fn free(&self, key: &[u8], quota: Quota) -> u64 {
        let mut reader = Fickle::new();
        reader.inner = self.inner.clone();
        reader.free(key, quota)
    }
}

impl Store for Partly {
    fn charge<'a>(&'a self, charges: &'a [Charge]) -> Answering<'a, Charged> {
        Box::pin(async move {
            let has = |key: &[u8]| charges.iter().any(|charge| *charge.key == *[b"0::", key].concat());
            let fails = *self.fails.lock().unwrap();
            let is_away = match fails {
                Fails::None => false,
                Fails::All => true,
                Fails::With(key) => has(key),
                Fails::Without(key, millis) => {
                    if has(key) {
                        sleep(ms(millis)).await;
                    }
                    !has(key)
                }
            };
            if is_away {
                return Err(StoreError::new(StoreErrorKind::Unreachable, "as the test asked for"));
            }
            Ok(self.inner.charge_at(charges, Instant::now()))
        })
    }

    fn settle<'a>(&'a self, demands: &'a [Demand]) -> Answering<'a, Settled> {
        Box::pin(async move {
            match *self.fails.lock().unwrap() {
                Fails::All => Err(StoreError::new(StoreErrorKind::Unreachable, "as the test asked for")),
                _ => Ok(self.inner.settle_at(demands, Instant::now())),
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_that_drained_in_an_outage_do_not_count_again_in_the_next_one() {
    let (store, quota) = (Partly::new(), Quota::new(100, secs(1)).with_burst(50));
    let (limit, flusher) = WriteBehind::builder(store.clone(), quota, 1).random(Random::seeded(1)).build().unwrap();
    spawn(flusher.run());
    let call = async |millis: u64| {
        let mut admitted = 0;
        for _ in 0..millis / 4 {
            admitted += u64::from(limit.try_acquire(b"key", 1).is_ok());
            sleep(ms(4)).await;
        }
        admitted
    };
    call(1000).await;
    store.becomes(Fails::All);
    let alone = call(20_000).await;
    assert!((1900..=2150).contains(&alone), "{alone}");
    // The store answers probes, so each outage ends. But reports for this key fail, so the next outage begins.
    store.becomes(Fails::With(b"key"));
    let mut each = Vec::new();
    for _ in 0..10 {
        each.push(call(2000).await);
    }
    assert!(each.iter().all(|admitted| (150..=250).contains(admitted)), "{each:?}");
    store.becomes(Fails::None);
    sleep(secs(1)).await;
    assert_eq!((store.free(b"key", quota), limit.readings().unflushed), (50, 0));
}

#[tokio::test(start_paused = true)]
async fn spends_that_the_store_counted_silently_drain_before_unreported_ones() {
    let (store, quota) = (Fickle::new(), Quota::new(10, secs(1)).with_burst(1000));
    let limit = write_behind_by(&store, quota, 1, 1, |builder| builder.max_unflushed(1000).on_outage(OnOutage::Open));
    let start = Instant::now();
    store.becomes(Mode::IsNotHeard);
    limit.try_acquire(b"key", 50).unwrap();
    while limit.readings().store.is_up {
        sleep(ms(50)).await;
    }
    limit.try_acquire(b"key", 100).unwrap();
    sleep_until(start + secs(6)).await;
    store.becomes(Mode::Answers);
    sleep_until(start + secs(8)).await;
    // A token bucket with the same calls would have 930 free. The process lets unreported spends drain only from the
    // beginning of the outage on, so the store may have a few less.
    let free = store.free(b"key", quota);
    assert!((920..=931).contains(&free), "{free}");
}

#[tokio::test(start_paused = true)]
async fn a_late_grant_pays_for_no_more_than_is_left_to_pay() {
    let (store, quota) = (Partly::new(), Quota::new(100, secs(1)));
    let builder = Exact::builder(store.clone(), quota).random(Random::seeded(1)).deadline(secs(2)).processes(1);
    let (limit, flusher) = builder.build().unwrap();
    spawn(flusher.run());
    let start = Instant::now();
    store.becomes(Fails::Without(b"key", 1600));
    // This caller gives up before its answer comes.
    assert!(timeout(ms(10), limit.acquire(b"key", 50)).await.is_err());
    while limit.readings().store.is_up {
        let _ = limit.acquire(b"another", 1).await;
        sleep(ms(10)).await;
    }
    for _ in 0..100 {
        limit.acquire(b"key", 1).await.unwrap();
    }
    // By now all admitted tokens have drained.
    sleep_until(start + ms(1599)).await;
    store.becomes(Fails::None);
    sleep(ms(50)).await;
    let free = store.free(b"key", quota);
    assert!(free >= 95, "{free} of 100");
}

/// Returns how many calls are admitted in five outages, with enough time in between to forget idle keys.
async fn in_five_outages(store: &Partly, down: Duration, mut admits: impl AsyncFnMut() -> bool) -> u64 {
    let mut admitted = 0;
    for _ in 0..5 {
        store.becomes(Fails::All);
        sleep(down).await;
        for _ in 0..20 {
            admitted += u64::from(admits().await);
            sleep(ms(10)).await;
        }
        store.becomes(Fails::None);
        sleep(secs(11)).await;
    }
    admitted
}

#[tokio::test(start_paused = true)]
async fn a_local_quota_is_remembered_from_one_outage_to_the_next() {
    let (store, policy) = (Partly::new(), OnOutage::Local(Quota::new(1, secs(3600))));
    let builder = Exact::builder(store.clone(), Quota::new(1000, secs(1))).random(Random::seeded(1));
    let (exact, flusher) = builder.on_outage(policy).build().unwrap();
    spawn(flusher.run());
    let exact = in_five_outages(&store, ms(0), async || {
        let is_admitted = exact.acquire(b"key", 1).await.is_ok();
        // After three failures the store is down.
        let _ = exact.acquire(b"another", 1).await;
        is_admitted
    });
    assert_eq!(exact.await, 1);
    let builder = Leased::builder(store.clone(), 1000, secs(1)).random(Random::seeded(1));
    let (leased, flusher) = builder.on_outage(policy).build().unwrap();
    spawn(flusher.run());
    let other = leased.clone();
    spawn(async move {
        loop {
            let _ = other.acquire(b"another", 1).await;
            sleep(ms(50)).await;
        }
    });
    let leased = in_five_outages(&store, secs(2), async || {
        assert!(!leased.readings().store.is_up);
        leased.acquire(b"key", 1).await.is_ok()
    });
    assert_eq!(leased.await, 1);
}

#[tokio::test(start_paused = true)]
async fn tokens_refunded_in_an_outage_return_to_the_local_quota() {
    for is_down in [false, true] {
        let (store, policy) = (Partly::new(), OnOutage::Local(Quota::new(2, secs(3600))));
        let builder = Exact::builder(store.clone(), Quota::new(1000, secs(1))).random(Random::seeded(1));
        let (limit, flusher) = builder.on_outage(policy).build().unwrap();
        spawn(flusher.run());
        store.becomes(Fails::All);
        if is_down {
            for _ in 0..3 {
                let _ = limit.acquire(b"another", 1).await;
                sleep(ms(10)).await;
            }
        }
        assert_eq!(limit.readings().store.is_up, !is_down);
        let taken = limit.acquire(b"key", 2).await.unwrap();
        sleep(ms(50)).await;
        limit.refund(taken);
        assert!(limit.acquire(b"key", 1).await.is_ok(), "down: {is_down}");
    }
}

#[tokio::test(start_paused = true)]
async fn processes_have_two_and_a_half_periods_to_report_for_any_length_of_a_period() {
    let (store, hour) = (Partly::new(), secs(3600));
    let builder = WriteBehind::builder(store.clone(), still(100), 2).random(Random::seeded(1)).flush_every(hour);
    let (limit, flusher) = builder.max_unflushed(1).build().unwrap();
    spawn(flusher.run());
    store.becomes(Fails::All);
    let _ = limit.try_acquire(b"key", 1);
    sleep(5 * hour).await;
    assert!(!limit.readings().store.is_up);
    store.becomes(Fails::None);
    while limit.readings().store.staleness > secs(60) {
        sleep(secs(30)).await;
    }
    sleep(2 * hour).await;
    assert!(!limit.readings().store.is_up, "another process may not have reported");
    sleep(hour).await;
    assert!(limit.readings().store.is_up);
}
