//! Errors name what is wrong with a server, and what to do.

use super::fixture::{charge, slow, want};
use crate::{
    server::{RedisServer, free_port},
    trial::trials,
};
use std::time::Duration;
use steadfast::rate_limit::distributed::{Redis, RedisError, Store, StoreErrorKind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{Instant, sleep},
};

trials![
    an_invalid_url_is_refused_without_showing_its_password,
    a_port_without_a_server_is_unreachable,
    another_kind_of_server_is_not_a_redis_server,
    an_old_server_is_too_old,
    a_server_without_resp3_is_too_old,
    a_server_of_a_cluster_needs_cluster_mode,
    a_server_outside_of_a_cluster_refuses_cluster_mode,
    a_wrong_password_is_refused_and_not_shown,
    a_lazy_store_reports_the_last_error_with_each_call,
    a_full_server_refuses,
    a_replica_refuses_and_the_store_reconnects,
    an_invalid_answer_is_an_error,
];

async fn an_invalid_url_is_refused_without_showing_its_password() {
    for url in ["http://u:secret@host", "", "u:secret@host", "redis://:secret@host:port", "redis://host/secret?x"] {
        let builder = Redis::builder(url);
        let texts = format!("{builder:?}");
        let error = builder.connect_lazily().expect_err(url);
        assert!(matches!(error, RedisError::Url { .. }), "{error:?}");
        let texts = format!("{texts} {error} {error:?}");
        // In the last URL `secret` is a database.
        assert!(url.ends_with("?x") || !texts.contains("secret"), "{texts}");
    }
}

async fn a_port_without_a_server_is_unreachable() {
    let port = free_port();
    let error =
        Redis::builder(format!("redis://:secret@127.0.0.1:{port}")).connect().await.expect_err("no server there");
    assert!(
        matches!(&error, RedisError::Unreachable { address, .. } if address.ends_with(&port.to_string())),
        "{error:?}"
    );
    assert!(!format!("{error} {error:?}").contains("secret"));
    // A server that accepts connections and sends nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("redis://{}", silent.local_addr().expect("an address"));
    let began = Instant::now();
    let error = Redis::builder(url).connect_timeout(Duration::from_millis(100)).connect().await.expect_err("silence");
    assert!(matches!(error, RedisError::Unreachable { .. }), "{error:?}");
    assert!(Instant::now() - began < Duration::from_millis(200));
}

/// Starts a server that answers the commands with these answers in order, and all later commands with the last one.
async fn fake(answers: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("redis://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut answered = 0;
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = client.read(&mut buffer).await {
                    // A command is a list of strings.
                    for _ in 0..buffer[..length].iter().filter(|byte| **byte == b'*').count() {
                        let answer = answers[answered.min(answers.len() - 1)];
                        answered += 1;
                        if client.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    url
}

async fn another_kind_of_server_is_not_a_redis_server() {
    let url = fake(&["HTTP/1.1 400 Bad Request\r\n\r\n"]).await;
    let error = Redis::builder(url).connect().await.expect_err("no Redis");
    assert!(matches!(error, RedisError::NotRedis { .. }), "{error:?}");
}

async fn an_old_server_is_too_old() {
    let url = fake(&["+OK\r\n", "$27\r\n# Server\r\nredis_version:6.0\r\n"]).await;
    let error = Redis::builder(url).connect().await.expect_err("an old server");
    assert!(matches!(&error, RedisError::TooOld { version, least: "6.2", .. } if version == "6.0"), "{error:?}");
}

async fn a_server_without_resp3_is_too_old() {
    let url = fake(&["-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n"]).await;
    let error = Redis::builder(url).connect().await.expect_err("an old server");
    assert!(matches!(error, RedisError::TooOld { .. }), "{error:?}");
}

async fn a_server_of_a_cluster_needs_cluster_mode() {
    let server = RedisServer::start_with(&["--cluster-enabled", "yes"]).await;
    let error = Redis::builder(server.url()).connect().await.expect_err("a part of a cluster");
    assert!(matches!(error, RedisError::NeedsCluster { .. }), "{error:?}");
    assert!(error.to_string().contains(".cluster(true)"), "{error}");
}

async fn a_server_outside_of_a_cluster_refuses_cluster_mode() {
    let server = RedisServer::start().await;
    let error = Redis::builder(server.url()).cluster(true).connect().await.expect_err("no cluster");
    assert!(matches!(error, RedisError::NotACluster { .. }), "{error:?}");
}

async fn a_wrong_password_is_refused_and_not_shown() {
    let server = RedisServer::start_with(&["--requirepass", "right"]).await;
    let at = |secret: &str| format!("redis://:{secret}@127.0.0.1:{}", server.port());
    let store = Redis::builder(at("right")).connect().await.expect("the right password");
    assert!(!format!("{store:?}").contains("right"), "{store:?}");
    for url in [at("hunter2"), server.url()] {
        let error = Redis::builder(url).connect().await.expect_err("no or another password");
        assert!(matches!(error, RedisError::Refused { .. }), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

async fn a_lazy_store_reports_the_last_error_with_each_call() {
    let server = RedisServer::start_with(&["--cluster-enabled", "yes"]).await;
    let store = Redis::builder(server.url()).connect_lazily().expect("a URL that is one");
    let error = store.charge(&[want("key", slow(1), 1)]).await.expect_err("not yet reached");
    assert_eq!(error.kind(), StoreErrorKind::Unreachable);
    sleep(Duration::from_millis(200)).await;
    let error = store.charge(&[want("key", slow(1), 1)]).await.expect_err("a part of a cluster");
    assert_eq!(error.kind(), StoreErrorKind::Refused);
    assert!(error.to_string().contains(".cluster(true)"), "{error}");
}

async fn a_full_server_refuses() {
    let server = RedisServer::start().await;
    let store = Redis::builder(server.url()).connect().await.expect("a server that is right");
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let batch = [want("one", slow(5), 1), want("two", slow(5), 1)];
    let error = store.charge(&batch).await.expect_err("no memory");
    assert_eq!(error.kind(), StoreErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("OOM"), "{error}");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let answers = store.charge(&batch).await.expect("memory");
    assert!(answers.iter().all(|charged| charged.total == 1), "nothing was done in part: {answers:?}");
}

async fn a_replica_refuses_and_the_store_reconnects() {
    let (main, replica) = (RedisServer::start().await, RedisServer::start().await);
    let store = Redis::builder(replica.url()).connect().await.expect("a server that is right");
    replica.command(&["REPLICAOF", "127.0.0.1", &main.port().to_string()]).await;
    let connections = replica.info("total_connections_received").await.parse::<u64>().expect("a number");
    let error = store.charge(&[want("key", slow(5), 1)]).await.expect_err("a replica");
    assert_eq!(error.kind(), StoreErrorKind::Refused, "{error}");
    sleep(Duration::from_millis(200)).await;
    let after = replica.info("total_connections_received").await.parse::<u64>().expect("a number");
    assert_eq!(after - connections, 2, "one connection of the store, one of `info`");
}

async fn an_invalid_answer_is_an_error() {
    for answer in ["*0\r\n", ":5\r\n", "*1\r\n$3\r\nabc\r\n", "*1\r\n:3\r\n", "_\r\n", "*2\r\n$1\r\na\r\n$1\r\na\r\n"] {
        let answers: &[&str] = Box::leak(Box::new(["+OK\r\n", "$0\r\n\r\n", "$0\r\n\r\n", answer]));
        let store = Redis::builder(fake(answers).await).connect().await.expect("a server that is right");
        let error = store.charge(&[charge("key", slow(1))]).await.expect_err(answer);
        assert_eq!(error.kind(), StoreErrorKind::Incomprehensible, "{answer:?}: {error}");
    }
    let store = Redis::builder(fake(&["+OK\r\n", "$0\r\n\r\n", "$0\r\n\r\n", "?what\r\n"]).await).connect().await;
    let store = store.expect("a server that is right");
    assert!(store.charge(&[charge("key", slow(1))]).await.is_err());
}
