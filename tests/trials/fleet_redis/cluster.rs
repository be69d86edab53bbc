//! A cluster of three real servers.

use super::fixture::{charged, demand, settled, slow, want};
use crate::{server::RedisCluster, trial::trials};
use redis::Value;
use std::time::Duration;
use steadfast::rate_limit::distributed::{Charge, Demand, Redis, Store, StoreErrorKind};
use tokio::time::{Instant, sleep};

trials![
    a_batch_is_split_by_slots_and_put_in_order_again,
    a_slot_that_moves_is_followed,
    a_server_that_dies_affects_only_its_slots,
    a_lazy_store_finds_all_servers,
];

async fn cluster() -> (RedisCluster, Redis) {
    let cluster = RedisCluster::start(3).await;
    let store = Redis::builder(cluster.url()).cluster(true).connect().await.expect("a cluster that is right");
    (cluster, store)
}

async fn a_batch_is_split_by_slots_and_put_in_order_again() {
    let (cluster, store) = cluster().await;
    let charges: Vec<Charge> = (0..64).map(|key| want(format!("key {key}"), slow(100), key)).collect();
    for times in 1..=2 {
        let answers = store.charge(&charges).await.expect("a cluster that answers");
        for (key, charged) in answers.iter().enumerate() {
            let key = key as u64;
            let expected = if times * key <= 100 { (key, times * key) } else { (0, key) };
            assert_eq!((charged.granted, charged.level), expected, "key {key}");
        }
    }
    for server in &cluster.servers {
        let keys = server.integer(&["DBSIZE"]).await;
        assert!(keys > 5, "{keys} keys at {}", server.url());
    }
    let demands: Vec<Demand> = (0..64)
        .map(|key| Demand { want: key, ..demand(format!("{{{key}}}x"), 100, Duration::from_secs(9), 1) })
        .collect();
    let answers = store.settle(&demands).await.expect("a cluster that answers");
    assert_eq!(answers.iter().map(|settled| settled.granted).collect::<Vec<_>>(), (0..64).collect::<Vec<_>>());
}

async fn a_slot_that_moves_is_followed() {
    let (cluster, store) = cluster().await;
    let key = "{tag}key";
    charged(&store, want(key, slow(100), 30)).await;
    settled(&store, Demand { want: 3, ..demand(key, 9, Duration::from_secs(99), 1) }).await;
    let slot = cluster.servers[0].integer(&["CLUSTER", "KEYSLOT", key]).await.to_string();
    let mut has = 0;
    for (place, server) in cluster.servers.iter().enumerate() {
        if server.integer(&["CLUSTER", "COUNTKEYSINSLOT", &slot]).await == 2 {
            has = place;
        }
    }
    let (from, to) = (&cluster.servers[has], &cluster.servers[(has + 1) % 3]);
    let id = |value| crate::server::text(&value);
    let from_id = id(from.command(&["CLUSTER", "MYID"]).await);
    let to_id = id(to.command(&["CLUSTER", "MYID"]).await);
    to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]).await;
    from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]).await;
    let port = to.port().to_string();
    let bucket = format!("steadfast:b:{key}");
    from.command(&["MIGRATE", "127.0.0.1", &port, &bucket, "0", "1000"]).await;
    // The bucket has moved and the slot has not, so the server redirects with `ASK`.
    assert_eq!(charged(&store, want(key, slow(100), 30)).await.level, 60);
    let window = format!("steadfast:w:{key}");
    from.command(&["MIGRATE", "127.0.0.1", &port, &window, "0", "1000"]).await;
    for server in [to, from, &cluster.servers[(has + 2) % 3]] {
        server.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]).await;
    }
    assert_eq!(charged(&store, want(key, slow(100), 30)).await.level, 90);
    assert_eq!(
        settled(&store, demand(key, 9, Duration::from_secs(99), 1)).await.granted,
        0,
        "the new server knows the demand"
    );
    sleep(Duration::from_millis(300)).await;
    let redirected = from.info("errorstat_MOVED").await;
    charged(&store, want(key, slow(100), 1)).await;
    assert_eq!(from.info("errorstat_MOVED").await, redirected, "the store knows the new server of the slot");
    assert_eq!(to.command(&["EXISTS", &bucket]).await, Value::Int(1));
}

async fn a_server_that_dies_affects_only_its_slots() {
    let (mut cluster, store) = cluster().await;
    for server in &cluster.servers {
        server.command(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]).await;
    }
    cluster.servers[1].kill();
    let began = Instant::now();
    let (mut lost, mut answered) = (0, 0);
    while Instant::now() - began < Duration::from_secs(4) {
        for key in 0..20 {
            let began = Instant::now();
            match store.charge(&[want(format!("key {key}"), slow(1 << 40), 1)]).await {
                Ok(_) => answered += 1,
                Err(error) => {
                    assert!(!matches!(error.kind(), StoreErrorKind::Incomprehensible), "{error}");
                    lost += 1;
                }
            }
            let took = Instant::now() - began;
            assert!(took < Duration::from_millis(20), "{took:?}");
        }
        sleep(Duration::from_millis(10)).await;
    }
    let share = f64::from(lost) / f64::from(lost + answered);
    assert!((0.15..0.55).contains(&share), "{lost} of {} failed", lost + answered);
    cluster.servers[1].restart().await;
    let began = Instant::now();
    let charges: Vec<Charge> = (0..20).map(|key| want(format!("key {key}"), slow(1 << 40), 1)).collect();
    while store.charge(&charges).await.is_err() {
        assert!(Instant::now() - began < Duration::from_secs(5), "the cluster is not complete again");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn a_lazy_store_finds_all_servers() {
    let cluster = RedisCluster::start(3).await;
    let store = Redis::builder(cluster.url()).cluster(true).connect_lazily().expect("a URL that is one");
    let began = Instant::now();
    let charges: Vec<Charge> = (0..64).map(|key| want(format!("key {key}"), slow(100), 1)).collect();
    while let Err(error) = store.charge(&charges).await {
        assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
        assert!(Instant::now() - began < Duration::from_secs(1), "{error}");
        sleep(Duration::from_millis(10)).await;
    }
}
