//! Faults of the server: no worker ends, and no message is lost.

use crate::durable_fixture::{
    Calls, Running, append, builder, encode, millis, noting, queue, readings, succeed, until, until_done, worker,
};
use crate::{proxy::Proxy, server::RedisServer, trial::trials};
use std::{convert::Infallible, time::Duration};
use steadfast::load_level::durable::{AppendError, Delivery, DurableQueue, Message};
use tokio::time::{Instant, sleep};
use tower::{Service, ServiceExt};

trials![
    a_replica_refuses_appends_and_is_processed_once_it_is_a_master,
    a_server_without_memory_refuses_appends_and_lets_workers_finish,
    a_worker_recreates_the_group_of_a_server_that_lost_its_data,
    a_restarted_server_with_its_data_loses_no_message,
    workers_continue_after_a_server_that_was_stopped,
    a_cut_connection_loses_no_message,
    a_missing_answer_leaves_the_append_unknown,
    a_queue_can_be_built_before_its_server_starts,
    a_worker_shuts_down_without_its_server,
    a_key_of_the_wrong_type_is_left_alone,
];

async fn slow(_: Delivery) -> Result<(), Infallible> {
    sleep(millis(20)).await;
    Ok(())
}

async fn a_replica_refuses_appends_and_is_processed_once_it_is_a_master() {
    let (server, queue) = queue().await;
    append(&queue, "before").await;
    let nowhere = RedisServer::start().await;
    // A replica that keeps answering, and keeps its data because its master never answers.
    server.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let calls = Calls::default();
    let running = Running::start(worker(&queue, noting(&calls, succeed)));
    let error = queue.producer(encode).oneshot(Message::new("no")).await.expect_err("it is read-only");
    assert!(matches!(&error, AppendError::Refused { .. }), "{error:?}");
    assert!(!error.may_be_appended());
    until("the worker reports it", async || {
        running.monitor.readings().redis_error.is_some_and(|error| error.to_lowercase().contains("read"))
    })
    .await;
    assert_eq!(calls.count(), 0);
    server.command(&["REPLICAOF", "NO", "ONE"]).await;
    until_done(&queue, 1).await;
    assert_eq!(calls.texts(), ["before"]);
    until("the worker reports no error", async || running.monitor.readings().redis_error.is_none()).await;
    running.stop().await;
    drop(nowhere);
}

async fn a_server_without_memory_refuses_appends_and_lets_workers_finish() {
    let (server, queue) = queue().await;
    for number in 0..50 {
        append(&queue, &number.to_string()).await;
    }
    let calls = Calls::default();
    let fail_once = async |delivery: Delivery| if delivery.attempt == 1 { Err("once more") } else { Ok(()) };
    let running =
        Running::start(worker(&queue, noting(&calls, fail_once)).concurrency(1).pace(200, Duration::from_secs(1)));
    until("some calls", async || calls.count() > 3).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let error = queue.producer(encode).oneshot(Message::new("no").once("key")).await.expect_err("it is full");
    assert!(matches!(&error, AppendError::Refused { reason } if reason.contains("OOM")), "{error:?}");
    // Ends and retries need no memory.
    until_done(&queue, 50).await;
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(calls.count(), 100);
    let receipt = queue.producer(encode).oneshot(Message::new("yes").once("key")).await.expect("room");
    assert!(!receipt.is_duplicate, "the refused append has left no key");
    until_done(&queue, 51).await;
    running.stop().await;
}

async fn a_worker_recreates_the_group_of_a_server_that_lost_its_data() {
    let (mut server, queue) = queue().await;
    let calls = Calls::default();
    let running = Running::start(worker(&queue, noting(&calls, succeed)));
    append(&queue, "before").await;
    until_done(&queue, 1).await;
    server.restart_empty().await;
    until("it appends again", async || queue.producer(encode).oneshot(Message::new("after")).await.is_ok()).await;
    until("it is worked on", async || calls.texts().contains(&"after".to_owned())).await;
    // While the worker waits for messages.
    server.command(&["FLUSHALL"]).await;
    append(&queue, "at last").await;
    until("it is worked on", async || calls.texts().contains(&"at last".to_owned())).await;
    assert!(running.monitor.readings().redis_failures > 0);
    running.stop().await;
}

async fn a_restarted_server_with_its_data_loses_no_message() {
    let mut server = RedisServer::durable().await;
    let queue = builder(&server).connect().await.expect("a working server");
    for number in 0..200 {
        append(&queue, &number.to_string()).await;
    }
    let calls = Calls::default();
    let fail_once = async |delivery: Delivery| {
        sleep(millis(10)).await;
        if delivery.attempt == 1 && delivery.payload.ends_with(b"7") { Err("once more") } else { Ok(()) }
    };
    let running = Running::start(worker(&queue, noting(&calls, fail_once)).concurrency(4));
    for at in [20, 100] {
        until("some calls", async || calls.count() > at).await;
        server.restart().await;
    }
    until_done(&queue, 200).await;
    assert_eq!(calls.by_text().len(), 200);
    let now = readings(&queue).await;
    assert_eq!((now.appended, now.acknowledged, now.dead), (200, 200, 0));
    running.stop().await;
}

async fn workers_continue_after_a_server_that_was_stopped() {
    let (server, queue) = queue().await;
    for number in 0..100 {
        append(&queue, &number.to_string()).await;
    }
    let calls = Calls::default();
    let workers: Vec<_> = (0..2).map(|_| Running::start(worker(&queue, noting(&calls, slow)).concurrency(2))).collect();
    until("some calls", async || calls.count() > 10).await;
    server.stop();
    sleep(millis(2500)).await;
    assert!(workers[0].monitor.readings().redis_error.is_some());
    let stopped_at = calls.count();
    assert!(stopped_at < 100);
    server.cont();
    let began = Instant::now();
    until_done(&queue, 100).await;
    let took = Instant::now() - began;
    assert_eq!(calls.by_text().len(), 100);
    assert!(took < Duration::from_secs(6), "{took:?}");
    for running in workers {
        running.stop().await;
    }
}

async fn a_cut_connection_loses_no_message() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to(server.port()).await;
    let queue = DurableQueue::builder(proxy.url(), "orders").connect().await.expect("a working server");
    let direct = builder(&server).connect().await.expect("a working server");
    let calls = Calls::default();
    let running = Running::start(worker(&queue, noting(&calls, slow)).concurrency(4).max_tries(100));
    let mut producer = queue.producer(encode);
    for number in 0..200 {
        if number % 40 == 20 {
            proxy.cut();
        }
        let message = Message::new(number.to_string()).once(number.to_string());
        until("it is appended", async || producer.call(message.clone()).await.is_ok()).await;
    }
    until_done(&direct, 200).await;
    assert_eq!(calls.by_text().len(), 200);
    assert_eq!(readings(&direct).await.appended, 200, "each message is appended once, because of its key");
    running.stop().await;
}

async fn a_missing_answer_leaves_the_append_unknown() {
    let server = RedisServer::start().await;
    let queue = builder(&server).answer_timeout(millis(200)).connect().await.expect("a working server");
    let mut producer = queue.producer(encode);
    // The server has loaded the script from now on.
    append(&queue, "zero").await;
    let message = Message::new("one").once("key");
    server.stop();
    let error = producer.call(message.clone()).await.expect_err("no answer");
    assert!(matches!(&error, AppendError::Unknown { .. }) && error.may_be_appended(), "{error:?}");
    server.cont();
    let mut duplicate = None;
    until("an answer", async || {
        duplicate = producer.call(message.clone()).await.ok().map(|receipt| receipt.is_duplicate);
        duplicate.is_some()
    })
    .await;
    assert_eq!(duplicate, Some(true), "the first was appended when the server continued");
    assert_eq!(readings(&queue).await.backlog(), 2);
}

async fn a_queue_can_be_built_before_its_server_starts() {
    let mut server = RedisServer::start().await;
    server.kill();
    let queue = builder(&server).connect_lazily().expect("valid settings");
    let calls = Calls::default();
    let running = Running::start(worker(&queue, noting(&calls, succeed)));
    let error = queue.producer(encode).oneshot(Message::new("no")).await.expect_err("no server");
    assert!(matches!(error, AppendError::Refused { .. }), "{error:?}");
    assert!(queue.readings().await.is_err());
    server.restart().await;
    until("it appends", async || queue.producer(encode).oneshot(Message::new("yes")).await.is_ok()).await;
    until_done(&queue, 1).await;
    running.stop().await;
}

async fn a_worker_shuts_down_without_its_server() {
    let (mut server, queue) = queue().await;
    let calls = Calls::default();
    let running = Running::start(worker(&queue, noting(&calls, slow)).concurrency(3));
    for _ in 0..3 {
        append(&queue, "some").await;
    }
    until("they are called", async || calls.count() == 3).await;
    server.kill();
    let began = Instant::now();
    let report = running.stop().await;
    let took = Instant::now() - began;
    assert!(took > millis(500) && took < millis(2500), "the takeover time: {took:?}");
    assert_eq!((report.succeeded, report.unconfirmed), (3, 3));
}

async fn a_key_of_the_wrong_type_is_left_alone() {
    let (server, queue) = queue().await;
    server.command(&["SET", "steadfast:q:{orders}:totals", "mine"]).await;
    let error = queue.producer(encode).oneshot(Message::new("no")).await.expect_err("no totals");
    assert!(matches!(&error, AppendError::Refused { reason } if reason.contains("WRONGTYPE")), "{error:?}");
    assert_eq!(server.integer(&["EXISTS", "steadfast:q:{orders}:stream"]).await, 0);
}
