//! Failures in the middle of a script, or of a failover.

use crate::durable_fixture::{
    Calls, Running, append, builder, encode, millis, noting, queue, readings, succeed, until, until_done, worker,
};
use crate::{server::RedisServer, trial::trials};
use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};
use steadfast::{
    Rejection,
    error::QueueFullCause,
    load_level::durable::{AppendError, Delivery, DurableQueue, Message},
};
use tokio::net::{TcpListener, TcpStream};
use tower::{Service, ServiceExt};

trials![
    a_retry_whose_write_is_refused_is_not_lost,
    a_retry_whose_move_is_refused_is_not_lost,
    a_dead_letter_whose_write_is_refused_is_not_lost,
    a_worker_that_starts_while_the_server_is_out_of_memory_makes_room,
    a_producer_follows_the_name_of_the_server_after_a_failover,
    two_waiting_requests_for_messages_are_answered_in_time,
    a_letter_is_revived_by_its_whole_identity_only,
    totals_that_are_not_numbers_fail_no_message,
    bytes_on_the_way_are_bounded,
];

/// Runs a worker whose user lacks a command for a while. Its message ends as it should, but later.
async fn without(command: &str, tries: u32) -> (DurableQueue, RedisServer, Calls) {
    let (server, queue) = queue().await;
    append(&queue, "one").await;
    let (lacks, has) = (format!("-{command}"), format!("+{command}"));
    server.command(&["ACL", "SETUSER", "worker", "on", ">pw", "~*", "&*", "+@all", &lacks]).await;
    let url = format!("redis://worker:pw@127.0.0.1:{}", server.port());
    let limited = DurableQueue::builder(url, "orders").connect().await.expect("a working server");
    let calls = Calls::default();
    let fail_once = async |delivery: Delivery| if delivery.attempt == 1 { Err("once more") } else { Ok(()) };
    let running = Running::start(worker(&limited, noting(&calls, fail_once)).max_tries(tries));
    until("the server refuses", async || running.monitor.readings().redis_failures > 1).await;
    assert_eq!(readings(&queue).await.backlog(), 1);
    server.command(&["ACL", "SETUSER", "worker", &has]).await;
    until("it is over", async || readings(&queue).await.backlog() == 0).await;
    running.stop().await;
    (queue, server, calls)
}

async fn a_retry_whose_write_is_refused_is_not_lost() {
    let (queue, _server, calls) = without("zadd", 2).await;
    assert_eq!((calls.count(), readings(&queue).await.acknowledged), (2, 1));
}

async fn a_retry_whose_move_is_refused_is_not_lost() {
    let (queue, _server, calls) = without("xadd", 2).await;
    assert_eq!((calls.count(), readings(&queue).await.acknowledged), (2, 1));
}

async fn a_dead_letter_whose_write_is_refused_is_not_lost() {
    let (queue, _server, calls) = without("xadd", 1).await;
    let letters = queue.dead_letters(10).await.expect("a server that answers");
    assert_eq!((calls.count(), letters.len(), readings(&queue).await.dead), (1, 1, 1));
}

async fn a_worker_that_starts_while_the_server_is_out_of_memory_makes_room() {
    let (server, queue) = queue().await;
    for number in 0..10 {
        append(&queue, &number.to_string()).await;
    }
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let calls = Calls::default();
    let fail_once = async |delivery: Delivery| if delivery.attempt == 1 { Err("once more") } else { Ok(()) };
    let running = Running::start(worker(&queue, noting(&calls, fail_once)));
    until_done(&queue, 10).await;
    assert_eq!(running.stop().await.succeeded, 10);
}

/// A proxy that connects to the port that a name leads to now. Existing connections stay.
async fn name_of(port: u16) -> (u16, Arc<AtomicU16>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let own = listener.local_addr().expect("a bound socket has an address").port();
    let leads_to = Arc::new(AtomicU16::new(port));
    let target = leads_to.clone();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let port = target.load(Ordering::Relaxed);
            tokio::spawn(async move {
                let mut to = TcpStream::connect(("127.0.0.1", port)).await?;
                let _ = (from.set_nodelay(true), to.set_nodelay(true));
                tokio::io::copy_bidirectional(&mut from, &mut to).await
            });
        }
    });
    (own, leads_to)
}

async fn a_producer_follows_the_name_of_the_server_after_a_failover() {
    let (old, new) = (RedisServer::start().await, RedisServer::start().await);
    let (port, leads_to) = name_of(old.port()).await;
    let url = format!("redis://127.0.0.1:{port}");
    let queue = DurableQueue::builder(url, "orders").connect().await.expect("a working server");
    append(&queue, "before").await;
    leads_to.store(new.port(), Ordering::Relaxed);
    old.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let error = queue.producer(encode).oneshot(Message::new("no")).await.expect_err("it is read-only");
    assert!(!error.may_be_appended() && format!("{error}").contains("read only replica"), "{error}");
    until("it appends to the new one", async || queue.producer(encode).oneshot(Message::new("yes")).await.is_ok())
        .await;
    assert_eq!(new.integer(&["XLEN", "steadfast:q:{orders}:stream"]).await, 1);
}

async fn two_waiting_requests_for_messages_are_answered_in_time() {
    let server = RedisServer::start().await;
    let hasty = builder(&server).answer_timeout(millis(190)).connect().await.expect("a working server");
    let queue = builder(&server).connect().await.expect("a working server");
    let calls = Calls::default();
    let running = Running::start(worker(&hasty, noting(&calls, succeed)).concurrency(4).prefetch(4));
    let producer = queue.producer(encode);
    let mut appended = 0;
    // Some of these rounds leave no message for the second of two requests.
    for count in 9..33 {
        let appends = (0..count).map(|number| producer.clone().oneshot(Message::new(number.to_string())));
        futures::future::try_join_all(appends).await.expect("room");
        appended += count;
        until_done(&queue, appended).await;
        tokio::time::sleep(millis(450)).await;
    }
    // The first request may come before there is a connection.
    assert!(running.monitor.readings().redis_failures <= 1, "{:?}", running.monitor);
    running.stop().await;
}

async fn a_letter_is_revived_by_its_whole_identity_only() {
    let (_server, queue) = queue().await;
    for number in 0..10 {
        append(&queue, &number.to_string()).await;
    }
    let fail = async |_| Err::<(), _>("no");
    let running = Running::start(worker(&queue, noting(&Calls::default(), fail)).max_tries(1).concurrency(10));
    until("all are dead", async || readings(&queue).await.dead == 10).await;
    running.stop().await;
    let letters = queue.dead_letters(10).await.expect("a server that answers");
    for letter in &letters {
        let (millis, _) = letter.id.split_once('-').expect("milliseconds and a number");
        let other = format!("{millis}-123456");
        assert_eq!(queue.revive(&other).await.expect("a server that answers"), None, "{other}");
        for text in [millis, "hello", "", "-", "+"] {
            let error = queue.revive(text).await.expect_err("no identity");
            assert!(matches!(&error, AppendError::NoIdentity { id } if id == text), "{error:?}");
            assert!(
                error.to_string().starts_with(&format!("{text:?} is not the identity of a dead letter")),
                "{error}"
            );
        }
    }
    let now = readings(&queue).await;
    assert_eq!((now.dead_letters, now.backlog()), (10, 0));
}

async fn totals_that_are_not_numbers_fail_no_message() {
    let (server, queue) = queue().await;
    for total in ["appended", "acknowledged", "redelivered", "dead", "dropped", "trimmed", "revived"] {
        server.command(&["HSET", "steadfast:q:{orders}:totals", total, "mine"]).await;
    }
    append(&queue, "one").await;
    append(&queue, "two").await;
    let now = readings(&queue).await;
    assert_eq!((now.backlog(), now.appended), (2, 0));
    let calls = Calls::default();
    let fail_once = async |delivery: Delivery| if delivery.attempt == 1 { Err("once more") } else { Ok(()) };
    let running = Running::start(worker(&queue, noting(&calls, fail_once)));
    until_done(&queue, 0).await;
    assert_eq!(calls.count(), 4);
    running.stop().await;
}

async fn bytes_on_the_way_are_bounded() {
    let server = RedisServer::start().await;
    let queue =
        builder(&server).on_the_way(10, 100).answer_timeout(millis(10_000)).connect().await.expect("a working server");
    server.stop();
    let mut producer = queue.producer(encode);
    let first = producer.call(Message::new(vec![7; 60]));
    let error = producer.call(Message::new(vec![7; 60])).await.expect_err("120 bytes");
    let Some(Rejection::QueueFull(full)) = error.rejection() else { panic!("{error:?}") };
    assert_eq!((full.cause(), full.bound()), (QueueFullCause::OnTheWay, 100));
    server.cont();
    assert!(first.await.is_ok());
    assert!(producer.call(Message::new(vec![7; 200])).await.is_ok(), "a single message may be longer");
}
