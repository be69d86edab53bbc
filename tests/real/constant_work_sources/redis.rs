//! Snapshots in a real Redis, and its faults.

use super::fixture::{LENGTH, failure, fetch, millis, number, publication, published};
use crate::{server::RedisServer, trial::trials};
use std::time::Duration;
use steadfast::{
    constant_work::{RedisBuilder, RedisSink, RedisSource, Sink, SourceFailure},
    load_level::durable::RedisError,
};
use tokio::time::{Instant, sleep, timeout};

trials![
    what_was_published_is_there,
    a_missing_key_differs_from_an_empty_one,
    the_server_sends_no_more_than_the_limit,
    a_key_of_another_type_is_a_bad_answer,
    a_server_may_go_and_come,
    a_server_may_come_late,
    a_stopped_server_costs_its_timeout_and_no_more,
    a_dropped_call_leaves_the_next_one_alone,
    a_full_server_refuses_and_keeps_what_it_has,
    settings_that_cannot_work_are_refused,
];

fn builder(server: &RedisServer) -> RedisBuilder<RedisSource> {
    RedisSource::builder(server.url(), "limits")
}

async fn both() -> (RedisServer, RedisSource, RedisSink) {
    let server = RedisServer::start().await;
    let source = builder(&server).connect().await.expect("a server that is right");
    let sink = RedisSink::builder(server.url(), "limits").connect().await.expect("a server that is right");
    (server, source, sink)
}

async fn what_was_published_is_there() {
    let (server, mut source, mut sink) = both().await;
    assert_eq!(published(&mut sink).await.expect("a server"), None);
    for number in 0..5 {
        sink.publish(&publication(number)).await.expect("a server");
        assert_eq!(published(&mut sink).await.expect("a server"), Some(publication(number)));
        assert_eq!(fetch(&mut source, LENGTH + 1).await.expect("a server"), publication(number));
    }
    assert_eq!(server.integer(&["TTL", "limits"]).await, -1);
}

async fn a_missing_key_differs_from_an_empty_one() {
    let (server, mut source, mut sink) = both().await;
    assert_eq!(failure(fetch(&mut source, 100).await), Some(SourceFailure::NotFound));
    server.command(&["SET", "limits", ""]).await;
    assert_eq!(fetch(&mut source, 100).await.expect("a key"), b"");
    assert_eq!(published(&mut sink).await.expect("a key"), Some(Vec::new()));
    server.command(&["DEL", "limits"]).await;
    assert_eq!(failure(fetch(&mut source, 100).await), Some(SourceFailure::NotFound));
}

async fn the_server_sends_no_more_than_the_limit() {
    let (server, mut source, _sink) = both().await;
    server.command_of_bytes(&[b"SET", b"limits", &vec![b'x'; 10 << 20]]).await;
    let sent = async || server.info("total_net_output_bytes").await.parse::<u64>().expect("a number");
    for (at_most, least, most) in [(0, 0, 50_000), (1, 0, 50_000), (1000, 0, 50_000), (1 << 20, 1 << 20, 1_200_000)] {
        let before = sent().await;
        assert_eq!(fetch(&mut source, at_most).await.expect("a key"), vec![b'x'; at_most]);
        let sent = sent().await - before;
        assert!((least..most).contains(&sent), "{at_most}: {sent}");
    }
}

async fn a_key_of_another_type_is_a_bad_answer() {
    let (server, mut source, mut sink) = both().await;
    server.command(&["LPUSH", "limits", "no", "string"]).await;
    let error = fetch(&mut source, 100).await.expect_err("a list");
    assert_eq!(error.failure(), SourceFailure::BadAnswer { status: None }, "{error:?}");
    let error = published(&mut sink).await.expect_err("a list");
    assert_eq!(error.failure(), SourceFailure::BadAnswer { status: None }, "{error:?}");
    // The connection still works.
    server.command(&["SET", "limits", "string"]).await;
    assert_eq!(fetch(&mut source, 100).await.expect("a string"), b"string");
}

/// Fetches until there is an answer.
async fn until_fetched(source: &mut RedisSource) -> Vec<u8> {
    let began = Instant::now();
    loop {
        match fetch(source, LENGTH + 1).await {
            Ok(bytes) => return bytes,
            Err(error) => assert!(Instant::now() < began + Duration::from_secs(20), "{error:?}"),
        }
        sleep(millis(5)).await;
    }
}

async fn a_server_may_go_and_come() {
    let mut server = RedisServer::durable().await;
    let mut source = builder(&server).connect().await.expect("a server that is right");
    let mut sink = RedisSink::builder(server.url(), "limits").connect().await.expect("a server that is right");
    sink.publish(&publication(1)).await.expect("a server");
    server.kill();
    sleep(millis(50)).await;
    for _ in 0..100 {
        let began = Instant::now();
        let error = fetch(&mut source, LENGTH + 1).await.expect_err("it is dead");
        assert_eq!(error.failure(), SourceFailure::Unreachable, "{error:?}");
        assert!(Instant::now() < began + millis(100), "without a connection it fails at once");
    }
    let error = sink.publish(&publication(2)).await.expect_err("it is dead");
    assert_eq!(error.failure(), SourceFailure::Unreachable, "{error:?}");
    server.restart().await;
    assert_eq!(number(&until_fetched(&mut source).await), 1);
}

async fn a_server_may_come_late() {
    let mut server = RedisServer::start().await;
    server.kill();
    let error = builder(&server).connect().await.err().expect("nobody is there");
    assert!(matches!(error, RedisError::Unreachable { .. }), "{error:?}");
    let mut source = builder(&server).connect_lazily().expect("a URL");
    let mut sink = RedisSink::builder(server.url(), "limits").connect_lazily().expect("a URL");
    for _ in 0..10 {
        let error = fetch(&mut source, 100).await.expect_err("nobody is there");
        assert_eq!(error.failure(), SourceFailure::Unreachable, "{error:?}");
        sleep(millis(5)).await;
    }
    server.restart().await;
    let began = Instant::now();
    while let Err(error) = sink.publish(&publication(3)).await {
        assert_eq!(error.failure(), SourceFailure::Unreachable, "{error:?}");
        assert!(Instant::now() < began + Duration::from_secs(20), "{error:?}");
        sleep(millis(5)).await;
    }
    assert_eq!(number(&until_fetched(&mut source).await), 3);
}

async fn a_stopped_server_costs_its_timeout_and_no_more() {
    let server = RedisServer::start().await;
    let mut source = builder(&server).answer_timeout(millis(50)).connect().await.expect("a server that is right");
    let mut sink = RedisSink::builder(server.url(), "limits").connect().await.expect("a server that is right");
    sink.publish(&publication(1)).await.expect("a server");
    assert_eq!(number(&fetch(&mut source, LENGTH + 1).await.expect("a server")), 1);
    server.stop();
    let began = Instant::now();
    let error = fetch(&mut source, LENGTH + 1).await.expect_err("it is stopped");
    assert_eq!(error.failure(), SourceFailure::TimedOut(millis(50)), "{error:?}");
    for _ in 0..9 {
        // Once the connection is abandoned, there is none.
        let error = fetch(&mut source, LENGTH + 1).await.expect_err("it is stopped");
        let expected = [SourceFailure::TimedOut(millis(50)), SourceFailure::Unreachable];
        assert!(expected.contains(&error.failure()), "{error:?}");
    }
    assert!(Instant::now() < began + 10 * millis(50) + millis(500));
    server.cont();
    assert_eq!(number(&until_fetched(&mut source).await), 1);
}

async fn a_dropped_call_leaves_the_next_one_alone() {
    let (server, mut source, mut sink) = both().await;
    sink.publish(&publication(1)).await.expect("a server");
    server.stop();
    for next in 2..5 {
        timeout(millis(5), fetch(&mut source, LENGTH + 1)).await.expect_err("it is stopped");
        timeout(millis(5), sink.publish(&publication(next))).await.expect_err("it is stopped");
    }
    server.cont();
    // Old or new, and whole.
    assert!((1..5).contains(&number(&until_fetched(&mut source).await)));
    let began = Instant::now();
    while let Err(error) = sink.publish(&publication(9)).await {
        assert!(Instant::now() < began + Duration::from_secs(20), "{error:?}");
        sleep(millis(5)).await;
    }
    assert_eq!(number(&until_fetched(&mut source).await), 9);
}

async fn a_full_server_refuses_and_keeps_what_it_has() {
    let (server, mut source, mut sink) = both().await;
    sink.publish(&publication(1)).await.expect("a server");
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let error = sink.publish(&publication(2)).await.expect_err("it is full");
    assert_eq!(error.failure(), SourceFailure::BadAnswer { status: None }, "{error:?}");
    assert_eq!(number(&fetch(&mut source, LENGTH + 1).await.expect("it answers")), 1);
}

async fn settings_that_cannot_work_are_refused() {
    let server = RedisServer::start().await;
    type Change = fn(RedisBuilder<RedisSource>) -> RedisBuilder<RedisSource>;
    let changes: [(&str, Change); 3] = [
        ("constant_work.redis.answer_timeout", |builder| builder.answer_timeout(Duration::ZERO)),
        ("constant_work.redis.answer_timeout", |builder| builder.answer_timeout(Duration::MAX)),
        ("constant_work.redis.connect_timeout", |builder| builder.connect_timeout(Duration::ZERO)),
    ];
    for (field, change) in changes {
        match change(builder(&server)).connect_lazily().err() {
            Some(RedisError::Config(error)) => assert_eq!(error.field(), field),
            other => panic!("{field}: {other:?}"),
        }
    }
    let builder = RedisSink::builder("http://user:secret@host", "limits");
    assert!(!format!("{builder:?}").contains("secret"), "{builder:?}");
    assert!(matches!(builder.connect_lazily().err(), Some(RedisError::Url { .. })));
    let cluster = RedisServer::start_with(&["--cluster-enabled", "yes"]).await;
    let error = RedisSource::builder(cluster.url(), "limits").connect().await.err().expect("a cluster");
    assert!(matches!(error, RedisError::NeedsCluster { .. }), "{error:?}");
}
