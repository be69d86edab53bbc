//! Invalid settings.

use crate::durable_fixture::{builder, decode, queue};
use crate::{server::RedisServer, trial::trials};
use std::{convert::Infallible, time::Duration};
use steadfast::{
    load_level::durable::{Delivery, DurableQueue, DurableQueueBuilder, RedisError, WorkerBuilder},
    retry::Backoff,
};
use tower::service_fn;

trials![
    invalid_settings_of_a_durable_queue_are_refused,
    invalid_settings_of_a_worker_are_refused,
    an_invalid_url_is_refused
];

async fn invalid_settings_of_a_durable_queue_are_refused() {
    let server = RedisServer::start().await;
    type Change = fn(DurableQueueBuilder) -> DurableQueueBuilder;
    let changes: [(&str, Change); 13] = [
        ("durable.depth", |builder| builder.depth(0)),
        ("durable.depth", |builder| builder.depth(u64::MAX)),
        ("durable.dead_letters", |builder| builder.dead_letters(0)),
        ("durable.longest_message", |builder| builder.longest_message(0)),
        ("durable.longest_message", |builder| builder.longest_message(usize::MAX)),
        ("durable.on_the_way.messages", |builder| builder.on_the_way(0, 1)),
        ("durable.on_the_way.bytes", |builder| builder.on_the_way(1, 0)),
        ("durable.batch", |builder| builder.batch(0)),
        ("durable.dedup_for", |builder| builder.dedup_for(Duration::ZERO)),
        ("durable.dedup_for", |builder| builder.dedup_for(Duration::from_nanos(1))),
        ("durable.dedup_for", |builder| builder.dedup_for(Duration::MAX)),
        ("durable.answer_timeout", |builder| builder.answer_timeout(Duration::ZERO)),
        ("durable.prefix", |builder| builder.prefix("{")),
    ];
    for (field, change) in changes {
        match change(builder(&server)).connect_lazily() {
            Err(RedisError::Config(error)) => assert_eq!(error.field(), field),
            other => panic!("{field}: {other:?}"),
        }
    }
    for name in ["", "a}b", "{", &"n".repeat(513)] {
        let error = DurableQueue::builder(server.url(), name).connect().await.expect_err("no such name");
        assert!(matches!(&error, RedisError::Config(error) if error.field() == "durable.name"), "{error:?}");
    }
}

async fn invalid_settings_of_a_worker_are_refused() {
    let (_server, queue) = queue().await;
    let service = service_fn(async |_: Delivery| Ok::<(), Infallible>(()));
    macro_rules! refused {
        ($field:literal, $change:expr) => {
            let change: fn(WorkerBuilder<_, _>) -> WorkerBuilder<_, _> = $change;
            let error = change(queue.worker(decode, service)).build().expect_err($field);
            assert_eq!(error.field(), $field);
        };
    }
    refused!("durable.worker.concurrency", |worker| worker.concurrency(0));
    refused!("durable.worker.concurrency", |worker| worker.concurrency(usize::MAX));
    refused!("durable.worker.prefetch", |worker| worker.prefetch(usize::MAX));
    refused!("durable.worker.pace", |worker| worker.pace(0, Duration::from_secs(1)));
    refused!("durable.worker.pace", |worker| worker.pace(1, Duration::ZERO));
    refused!("durable.worker.max_tries", |worker| worker.max_tries(0));
    refused!("durable.worker.max_age", |worker| worker.max_age(Duration::ZERO));
    refused!("durable.worker.max_age", |worker| worker.max_age(Duration::MAX));
    refused!("durable.worker.takeover_after", |worker| worker.takeover_after(Duration::ZERO));
    refused!("durable.worker.takeover_after", |worker| worker.takeover_after(Duration::from_millis(99)));
    refused!("retry.backoff.base", |worker| {
        worker.backoff(Backoff::exponential(Duration::from_secs(2), Duration::from_secs(1)))
    });
}

async fn an_invalid_url_is_refused() {
    let error = DurableQueue::builder("http://x", "orders").connect_lazily().expect_err("no URL of a Redis");
    assert!(matches!(error, RedisError::Url { .. }), "{error:?}");
    let error = DurableQueue::builder("redis://127.0.0.1:1", "orders").connect().await.expect_err("no server");
    assert!(matches!(error, RedisError::Unreachable { .. }), "{error:?}");
}
