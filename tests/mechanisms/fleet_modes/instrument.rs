//! The readings of the three limits.

use super::{
    exact::still,
    fleet::{exact, write_behind_by},
    store::{Fickle, Mode},
};
use crate::{
    instruments::{Collector, number, read},
    support::{ms, secs},
};
use std::{collections::BTreeMap, convert::Infallible};
use steadfast::{
    Random,
    rate_limit::{
        Quota, RateLimit,
        distributed::{Exact, Leased, OnOutage},
    },
    shell::Instrument,
};
use tokio::{
    spawn,
    time::{advance, sleep},
};
use tower::{ServiceExt, service_fn};

const NAMES: [&str; 4] = [r#"keys{mechanism="rate_limit"}"#, "store_debt", "store_sync_age_seconds", "store_up"];

fn readings(keys: f64, debt: f64, age: f64, up: f64) -> BTreeMap<String, f64> {
    NAMES.map(str::to_owned).into_iter().zip([keys, debt, age, up]).collect()
}

#[tokio::test(start_paused = true)]
async fn each_limit_is_read_from_the_beginning_on_and_reading_changes_nothing() {
    let store = Fickle::new();
    let (leased, flusher) = Leased::builder(store.clone(), 100, secs(10)).random(Random::seeded(1)).build().unwrap();
    let flushing = spawn(flusher.run());
    let limits: [Box<dyn Instrument>; 3] = [
        Box::new(exact(&store, still(10), 1)),
        Box::new(write_behind_by(&store, still(10), 2, 1, |builder| builder)),
        Box::new(leased),
    ];
    for limit in &limits {
        assert_eq!(read(&**limit), readings(0.0, 0.0, 0.0, 1.0));
    }
    advance(ms(1)).await;
    for limit in &limits {
        assert_eq!(read(&**limit), readings(0.0, 0.0, 0.001, 1.0));
    }
    assert_eq!(store.calls(), 0);
    // The boxed limits are handles. Without a handle, the flusher of the leased limit ends.
    drop(limits);
    flushing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keys_and_unconfirmed_tokens_are_read_until_the_store_confirms_them() {
    let store = Fickle::new();
    let limit = write_behind_by(&store, still(1000), 2, 1, |builder| builder.max_unflushed(100));
    for key in [b"a", b"b", b"c"] {
        drop(limit.try_acquire(key, 2).unwrap());
    }
    assert_eq!((number(&limit, NAMES[0]), number(&limit, NAMES[1])), (3.0, 6.0));
    sleep(secs(1)).await;
    assert_eq!((number(&limit, NAMES[0]), number(&limit, NAMES[1])), (3.0, 0.0));
    // An idle limit does not ask the store.
    sleep(secs(1)).await;
    assert!(number(&limit, NAMES[2]) >= 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_down_and_its_age_grows_until_it_decides_again() {
    let store = Fickle::new();
    let limit = exact(&store, Quota::new(100, secs(1)), 1);
    limit.acquire(b"key", 1).await.unwrap();
    assert_eq!(number(&limit, "store_up"), 1.0);
    store.becomes(Mode::Fails);
    for _ in 0..20 {
        let _ = limit.acquire(b"key", 1).await;
        sleep(ms(50)).await;
    }
    assert_eq!(number(&limit, "store_up"), 0.0);
    assert!((0.9..1.2).contains(&number(&limit, "store_sync_age_seconds")), "{:?}", read(&limit));
    assert!(number(&limit, "store_debt") > 0.0);
    store.becomes(Mode::Answers);
    sleep(secs(1)).await;
    assert_eq!(number(&limit, "store_up"), 1.0);
    assert_eq!(number(&limit, "store_debt"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_takes_the_place_of_an_idle_key_while_all_are_read() {
    let builder = Exact::builder(Fickle::new(), still(10)).max_keys(50).on_outage(OnOutage::Open);
    let (limit, flusher) = builder.build().unwrap();
    spawn(flusher.run());
    for key in 0..200_u64 {
        drop(limit.acquire(&key.to_be_bytes(), 1).await.unwrap());
        assert!(number(&limit, NAMES[0]) <= 51.0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_of_a_stack_reads_the_store_by_the_name_of_the_limit_and_does_not_keep_the_flusher() {
    let collector = Collector::default();
    let (exact, exact_flusher) = Exact::builder(Fickle::new(), still(10)).build().unwrap();
    let (leased, leased_flusher) = Leased::builder(Fickle::new(), 10, secs(10)).build().unwrap();
    let flushers = [spawn(exact_flusher.run()), spawn(leased_flusher.run())];
    let of_key = |_: &()| b"key";
    let exact = RateLimit::distributed(exact, of_key).named("tenants");
    let leased = RateLimit::distributed(leased, of_key);
    let service = |()| async { Ok::<_, Infallible>(()) };
    let first = steadfast::server().observe("api", collector.clone()).rate_limit(exact);
    let first = first.service(service_fn(service)).unwrap();
    let of_exact = collector.instruments();
    let second = steadfast::server().observe("api", collector.clone()).rate_limit(leased);
    let second = second.service(service_fn(service)).unwrap();
    let of_leased = collector.instruments();
    let up = |instruments: &[std::sync::Arc<dyn Instrument>]| -> Vec<_> {
        let all = instruments.iter().flat_map(|instrument| read(&**instrument));
        all.filter(|(name, _)| name.starts_with("store_up")).collect()
    };
    first.clone().oneshot(()).await.unwrap();
    second.clone().oneshot(()).await.unwrap();
    assert_eq!(up(&of_exact), [(r#"store_up{name="tenants"}"#.to_owned(), 1.0)]);
    assert_eq!(up(&of_leased), [(r#"store_up{name="rate_limit"}"#.to_owned(), 1.0)]);
    drop((first, second));
    for flusher in flushers {
        flusher.await.unwrap();
    }
    // The flusher is gone, so the store does not decide.
    assert_eq!(up(&of_exact), [(r#"store_up{name="tenants"}"#.to_owned(), 0.0)]);
}
