//! The answers of a producer, and the content of Redis.

use crate::durable_fixture::{
    Calls, Running, append, builder, encode, millis, noting, queue, readings, succeed, until, until_done, worker,
};
use crate::{server::RedisServer, trial::trials};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use steadfast::{
    Rejection,
    classify::{AnyError, Layered},
    error::QueueFullCause,
    load_level::durable::{AppendError, Message},
    retry::{Backoff, Retry},
};
use tokio::time::sleep;
use tower::{Service, ServiceExt};

trials![
    a_worker_that_starts_normally_reports_no_failure_of_redis,
    each_message_is_processed_once_and_leaves_nothing_in_redis,
    messages_appended_before_the_first_worker_are_processed,
    a_full_queue_refuses_messages_until_it_has_room_again,
    the_retry_after_follows_from_the_rate_of_consumption,
    a_key_is_appended_once_until_it_expires,
    a_duplicate_key_in_a_batch_is_appended_once,
    a_message_that_is_too_long_is_refused,
    an_encoding_error_has_its_own_variant,
    a_retry_around_a_producer_does_not_repeat_hopeless_appends,
    a_cancelled_append_affects_no_other,
    a_client_stack_wraps_a_producer,
    a_payload_can_be_any_bytes,
];

async fn a_worker_that_starts_normally_reports_no_failure_of_redis() {
    let (_server, queue) = queue().await;
    for _ in 0..5 {
        let running = Running::start(worker(&queue, noting(&Calls::default(), succeed)));
        append(&queue, "one").await;
        until("it is done", async || running.monitor.readings().so_far.succeeded == 1).await;
        assert_eq!(running.monitor.readings().redis_failures, 0, "{:?}", running.monitor);
        running.stop().await;
    }
}

async fn each_message_is_processed_once_and_leaves_nothing_in_redis() {
    let (server, queue) = queue().await;
    let calls = Calls::default();
    let running = Running::start(worker(&queue, noting(&calls, succeed)).concurrency(100));
    let producer = queue.producer(encode);
    let appends = (0..3000).map(|number| producer.clone().oneshot(Message::new(number.to_string())));
    let receipts = futures::future::try_join_all(appends).await.expect("room");
    until_done(&queue, 3000).await;
    let ids: HashSet<_> = receipts.iter().map(|receipt| receipt.id.clone()).collect();
    assert_eq!(ids.len(), 3000);
    assert!(receipts.iter().all(|receipt| !receipt.is_duplicate));
    let delivered: HashSet<_> = calls.all().into_iter().map(|delivery| delivery.id).collect();
    assert_eq!((calls.count(), &delivered), (3000, &ids), "each once, with the identity of its receipt");
    assert!(calls.all().iter().all(|delivery| delivery.attempt == 1));
    let report = running.stop().await;
    assert_eq!((report.succeeded, report.failed, report.unconfirmed), (3000, 0, 0));
    let readings = readings(&queue).await;
    assert_eq!((readings.appended, readings.acknowledged, readings.redelivered), (3000, 3000, 0));
    // Two keys: the stream with its group, which has no consumer left, and the totals.
    assert_eq!(server.integer(&["DBSIZE"]).await, 2);
    assert_eq!(server.integer(&["XLEN", "steadfast:q:{orders}:stream"]).await, 0);
}

async fn messages_appended_before_the_first_worker_are_processed() {
    let (_server, queue) = queue().await;
    for number in 0..5 {
        append(&queue, &number.to_string()).await;
    }
    sleep(millis(50)).await;
    let before = readings(&queue).await;
    assert_eq!((before.waiting, before.in_progress, before.backlog()), (5, 0, 5));
    assert!(before.oldest.expect("there are some") >= millis(50), "{before:?}");
    let calls = Calls::default();
    let running = Running::start(worker(&queue, noting(&calls, succeed)).concurrency(1));
    until_done(&queue, 5).await;
    assert_eq!(calls.texts(), ["0", "1", "2", "3", "4"], "in order, with one call at a time");
    assert_eq!(readings(&queue).await.oldest, None);
    running.stop().await;
}

async fn a_full_queue_refuses_messages_until_it_has_room_again() {
    let server = RedisServer::start().await;
    let queue = builder(&server).depth(10).connect().await.expect("a working server");
    let producer = queue.producer(encode);
    let appends = (0..15).map(|number| producer.clone().oneshot(Message::new(number.to_string())));
    let answers = futures::future::join_all(appends).await;
    let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 5);
    for error in refused {
        let Some(Rejection::QueueFull(full)) = error.rejection() else { panic!("{error:?}") };
        assert_eq!((full.cause(), full.bound(), full.retry_after()), (QueueFullCause::Depth, 10, None));
        assert!(!error.may_be_appended());
    }
    let calls = Calls::default();
    // A message in progress or waiting for another try still counts.
    let fail = async |_| Err::<(), _>("not today");
    let running = Running::start(
        worker(&queue, noting(&calls, fail))
            .backoff(Backoff::exponential(Duration::from_secs(60), Duration::from_secs(60))),
    );
    until("all wait for another try", async || readings(&queue).await.waiting_for_retry == 10).await;
    let error = producer.clone().oneshot(Message::new("more")).await.expect_err("still full");
    assert!(error.rejection().is_some(), "{error:?}");
    running.stop().await;
    server.command(&["DEL", "steadfast:q:{orders}:retries"]).await;
    append(&queue, "more").await;
}

async fn the_retry_after_follows_from_the_rate_of_consumption() {
    let server = RedisServer::start().await;
    let queue = builder(&server).depth(300).connect().await.expect("a working server");
    let mut producer = queue.producer(encode);
    let calls = Calls::default();
    let running = Running::start(worker(&queue, noting(&calls, succeed)).pace(100, Duration::from_secs(1)));
    let mut hint = None;
    until("a hint", async || {
        for _ in 0..20 {
            if let Err(error) = producer.call(Message::new("some")).await {
                hint = error.rejection().and_then(Rejection::retry_after).or(hint);
            }
        }
        sleep(millis(50)).await;
        calls.count() >= 250
    })
    .await;
    // 300 messages at 100 per second.
    let hint = hint.expect("after seconds of work");
    assert!(hint > millis(2400) && hint < millis(3600), "{hint:?}");
    running.stop().await;
}

async fn a_key_is_appended_once_until_it_expires() {
    let server = RedisServer::start().await;
    let queue = builder(&server).dedup_for(millis(600)).connect().await.expect("a working server");
    let mut producer = queue.producer(encode);
    let first = producer.call(Message::new("first").once("key")).await.expect("room");
    let second = producer.call(Message::new("second").once("key")).await.expect("room");
    let other = producer.call(Message::new("other").once("other key")).await.expect("room");
    assert_eq!((first.is_duplicate, second.is_duplicate, other.is_duplicate), (false, true, false));
    assert_eq!(first.id, second.id);
    assert_ne!(first.id, other.id);
    let calls = Calls::default();
    let running = Running::start(worker(&queue, noting(&calls, succeed)).concurrency(1));
    until_done(&queue, 2).await;
    let third = producer.call(Message::new("third").once("key")).await.expect("room");
    assert!(third.is_duplicate, "also after the first is done");
    sleep(millis(700)).await;
    let late = producer.call(Message::new("late").once("key")).await.expect("room");
    assert!(!late.is_duplicate);
    until_done(&queue, 3).await;
    assert_eq!(calls.texts(), ["first", "other", "late"]);
    running.stop().await;
}

async fn a_duplicate_key_in_a_batch_is_appended_once() {
    let (_server, queue) = queue().await;
    let producer = queue.producer(encode);
    let appends = (0..200).map(|number| producer.clone().oneshot(Message::new("x").once((number % 10).to_string())));
    let receipts = futures::future::try_join_all(appends).await.expect("room");
    assert_eq!(receipts.iter().filter(|receipt| !receipt.is_duplicate).count(), 10);
    assert_eq!(readings(&queue).await.backlog(), 10);
}

async fn a_message_that_is_too_long_is_refused() {
    let server = RedisServer::start().await;
    let queue = builder(&server).longest_message(100).connect().await.expect("a working server");
    let mut producer = queue.producer(encode);
    assert!(producer.call(Message::new(vec![7; 100])).await.is_ok());
    let error = producer.call(Message::new(vec![7; 100]).once("k")).await.expect_err("too long");
    let Some(Rejection::QueueFull(full)) = error.rejection() else { panic!("{error:?}") };
    assert_eq!((full.cause(), full.bound()), (QueueFullCause::TooHeavy, 100));
}

async fn an_encoding_error_has_its_own_variant() {
    let (_server, queue) = queue().await;
    let mut producer = queue.producer(|text: &'static str| text.parse::<u8>().map(|number| vec![number]));
    assert!(producer.call("7").await.is_ok());
    let error = producer.call("seven").await.expect_err("no number");
    assert!(matches!(&error, AppendError::Encode(source) if source.to_string().contains("invalid digit")), "{error:?}");
    assert_eq!(readings(&queue).await.appended, 1);
}

async fn a_cancelled_append_affects_no_other() {
    let (_server, queue) = queue().await;
    let mut producer = queue.producer(encode);
    let mut kept = Vec::new();
    for number in 0..1000 {
        let appending = producer.call(Message::new(number.to_string()));
        if number % 2 == 0 {
            kept.push(appending);
        }
    }
    let receipts = futures::future::try_join_all(kept).await.expect("room");
    assert_eq!(receipts.len(), 500);
    let backlog = readings(&queue).await.backlog();
    assert!((500..=1000).contains(&backlog), "{backlog}");
    append(&queue, "and it goes on").await;
}

async fn a_client_stack_wraps_a_producer() {
    let server = RedisServer::start().await;
    let queue = builder(&server).depth(1).connect().await.expect("a working server");
    let mut producer = steadfast::client()
        .retry(Retry::new(4).backoff(Backoff::exponential(millis(20), millis(50))))
        .keep_error()
        .service(queue.producer(encode))
        .expect("valid settings");
    assert!(producer.ready().await.expect("always").call(Message::new("one")).await.is_ok());
    let error = producer.ready().await.expect("always").call(Message::new("two")).await.expect_err("full");
    assert!(matches!(error, AppendError::Rejected(Rejection::QueueFull(_))), "{error:?}");
}

async fn a_payload_can_be_any_bytes() {
    let (_server, queue) = queue().await;
    let payload: Vec<u8> = (0..=255).chain("\r\n\0".bytes()).collect();
    let mut producer = queue.producer(encode);
    producer.call(Message::new(payload.clone()).once(payload.clone())).await.expect("room");
    producer.call(Message::new("")).await.expect("room");
    let calls = Calls::default();
    let fail_once = async |delivery: steadfast::load_level::durable::Delivery| match delivery.attempt {
        1 => Err("once more"),
        _ => Ok(()),
    };
    let running = Running::start(worker(&queue, noting(&calls, fail_once)));
    until_done(&queue, 2).await;
    let whole = calls.all().iter().filter(|delivery| delivery.payload == payload).count();
    let empty = calls.all().iter().filter(|delivery| delivery.payload.is_empty()).count();
    assert_eq!((whole, empty), (2, 2), "unchanged, also in a redelivery");
    running.stop().await;
}

async fn a_retry_around_a_producer_does_not_repeat_hopeless_appends() {
    let server = RedisServer::start().await;
    let queue = builder(&server).depth(1).longest_message(10).connect().await.expect("a working server");
    append(&queue, "first").await;
    let tries = Arc::new(AtomicU64::new(0));
    let counted = {
        let tries = tries.clone();
        queue.producer(move |text: &'static str| {
            tries.fetch_add(1, Ordering::Relaxed);
            if text.is_empty() { Err("nothing to say") } else { Ok(text) }
        })
    };
    let producer = steadfast::client()
        .retry(Retry::new(3).without_budget().backoff(Backoff::exponential(millis(1), millis(1))))
        .classify_with(Layered(AnyError))
        .keep_error()
        .service(counted)
        .expect("valid settings");
    // A full queue without a `retry_after`, a message that is too long, and one that cannot be encoded.
    for text in ["second", "much too long", ""] {
        let before = tries.load(Ordering::Relaxed);
        producer.clone().oneshot(text).await.expect_err("it cannot succeed");
        assert_eq!(tries.load(Ordering::Relaxed) - before, 1, "{text:?}");
    }
}
