//! The faults of a server, and the time until the store works again.

use super::fixture::{charge, slow, store, want};
use crate::{proxy::Proxy, server::RedisServer, trial::trials};
use std::time::Duration;
use steadfast::rate_limit::distributed::{Redis, Store, StoreErrorKind};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout},
};

trials![
    calls_of_a_killed_server_fail_at_once_and_it_is_back_within_a_second,
    a_stopped_server_is_back_within_a_second,
    a_black_hole_is_left_within_a_second,
    a_cut_connection_is_replaced_before_the_next_call,
    a_slow_connection_is_kept,
    a_dropped_store_does_not_reconnect,
    a_store_dropped_while_the_server_hangs_ends_its_attempts,
];

/// The time for which a limit waits for a store.
const DEADLINE: Duration = Duration::from_millis(5);

/// Calls the store until it answers. Returns how long that took.
async fn until_it_answers(store: &Redis) -> Duration {
    let began = Instant::now();
    loop {
        let batch = [charge("any", slow(1))];
        if let Ok(Ok(_)) = timeout(DEADLINE, store.charge(&batch)).await {
            return Instant::now() - began;
        }
        assert!(Instant::now() - began < Duration::from_secs(10), "it does not answer");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn calls_of_a_killed_server_fail_at_once_and_it_is_back_within_a_second() {
    let (mut server, store) = store().await;
    server.kill();
    // In this time the pauses between attempts would grow to seconds without a bound.
    for _ in 0..500 {
        let began = Instant::now();
        let error = store.charge(&[want("key", slow(9), 1)]).await.expect_err("no server there");
        let took = Instant::now() - began;
        assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
        assert!(took < DEADLINE, "{took:?}");
        sleep(Duration::from_millis(5)).await;
    }
    server.restart().await;
    let took = until_it_answers(&store).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

async fn a_stopped_server_is_back_within_a_second() {
    let (server, store) = store().await;
    let before = server.info("total_connections_received").await.parse::<u64>().expect("a number");
    server.stop();
    let mut refused_at_once = 0;
    for _ in 0..150 {
        let batch = [want("key", slow(9), 1)];
        match timeout(DEADLINE, store.charge(&batch)).await {
            Ok(Ok(_)) => panic!("a stopped server answers"),
            Ok(Err(error)) => {
                assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error}");
                refused_at_once += 1;
            }
            Err(_) => {}
        }
        sleep(Duration::from_millis(5)).await;
    }
    assert!(refused_at_once > 50, "{refused_at_once} of 150: the connection was not given up");
    server.cont();
    let took = until_it_answers(&store).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let after = server.info("total_connections_received").await.parse::<u64>().expect("a number");
    assert!(after > before + 1, "the connection was replaced");
}

async fn a_black_hole_is_left_within_a_second() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.port()).await;
    // An attempt to connect hangs in the black hole for longer than the store may take to recover.
    let builder = Redis::builder(proxy.url()).connect_timeout(Duration::from_secs(4));
    let store = builder.connect().await.expect("a server that is right");
    for _ in 0..3 {
        proxy.black_hole(true);
        let began = Instant::now();
        while Instant::now() - began < Duration::from_millis(1700) {
            let batch = [want("key", slow(9), 1)];
            let answer = timeout(DEADLINE, store.charge(&batch)).await;
            assert!(!matches!(answer, Ok(Ok(_))), "a black hole answers");
            sleep(Duration::from_millis(10)).await;
        }
        proxy.black_hole(false);
        let took = until_it_answers(&store).await;
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}

async fn a_cut_connection_is_replaced_before_the_next_call() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.port()).await;
    let store = Redis::builder(proxy.url()).connect().await.expect("a server that is right");
    sleep(Duration::from_millis(1100)).await;
    proxy.cut();
    sleep(Duration::from_millis(100)).await;
    assert!(store.charge(&[charge("key", slow(1))]).await.is_ok());
    proxy.refuse(true);
    sleep(Duration::from_millis(100)).await;
    assert!(store.charge(&[charge("key", slow(1))]).await.is_err());
    proxy.refuse(false);
    let took = until_it_answers(&store).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

async fn a_slow_connection_is_kept() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.port()).await;
    let store = Redis::builder(proxy.url()).connect().await.expect("a server that is right");
    let before = server.info("total_connections_received").await.parse::<u64>().expect("a number");
    proxy.delay(Duration::from_millis(20), Duration::from_millis(20));
    for _ in 0..100 {
        let batch = [want("key", slow(9), 1)];
        assert!(timeout(DEADLINE, store.charge(&batch)).await.is_err());
    }
    let after = server.info("total_connections_received").await.parse::<u64>().expect("a number");
    assert_eq!(after, before + 1, "one connection of `info`");
    assert!(store.charge(&[charge("key", slow(1))]).await.is_ok(), "a caller that waits gets an answer");
}

async fn a_dropped_store_does_not_reconnect() {
    let (mut server, store) = store().await;
    server.kill();
    sleep(Duration::from_millis(100)).await;
    drop(store);
    sleep(Duration::from_millis(1100)).await;
    server.restart().await;
    sleep(Duration::from_millis(1100)).await;
    // The other connections of the trial are closed. The one that is left is that of `info`.
    let clients = server.info("connected_clients").await;
    assert_eq!(clients, "1");
}

/// Each attempt to connect takes a second. The next one begins after at most half a second.
async fn a_store_dropped_while_the_server_hangs_ends_its_attempts() {
    let hanging = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("redis://{}", hanging.local_addr().expect("a bound socket has an address"));
    let store = Redis::builder(url).connect_lazily().expect("a URL that is right");
    let mut accepted = vec![hanging.accept().await.expect("a first attempt").0];
    accepted.push(hanging.accept().await.expect("an attempt beside the first").0);
    drop(store);
    // An attempt that has begun may still arrive.
    while let Ok(connection) = timeout(Duration::from_secs(2), hanging.accept()).await {
        accepted.push(connection.expect("an attempt").0);
        assert!(accepted.len() < 6, "the attempts go on");
    }
}
