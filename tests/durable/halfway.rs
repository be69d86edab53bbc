//! What fails in the middle of a script, or halfway to another server.

use crate::{
    fixture::{
        Calls, Running, append, builder, encode, millis, noting, queue, readings, succeed, until, until_done, worker,
    },
    server::RedisServer,
    trial::trials,
};
use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};
use steadfast::{
    Rejection,
    error::QueueFullCause,
    load_level::durable::{Delivery, DurableQueue, Message},
};
use tokio::net::{TcpListener, TcpStream};
use tower::{Service, ServiceExt};

trials![
    a_retry_that_may_not_be_written_is_not_lost,
    a_retry_that_may_not_be_moved_is_not_lost,
    a_dead_letter_that_may_not_be_written_is_not_lost,
    a_worker_that_starts_while_the_server_is_full_makes_room,
];

/// A worker whose user lacks a command for a while: its message comes to the end that it should, later.
async fn without(command: &str, tries: u32) -> (DurableQueue, RedisServer, Calls) {
    let (server, queue) = queue().await;
    append(&queue, "one").await;
    let (lacks, has) = (format!("-{command}"), format!("+{command}"));
    server.command(&["ACL", "SETUSER", "worker", "on", ">pw", "~*", "&*", "+@all", &lacks]).await;
    let url = format!("redis://worker:pw@127.0.0.1:{}", server.port());
    let limited = DurableQueue::builder(url, "orders").connect().await.expect("a server that is right");
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

async fn a_retry_that_may_not_be_written_is_not_lost() {
    let (queue, _server, calls) = without("zadd", 2).await;
    assert_eq!((calls.count(), readings(&queue).await.acknowledged), (2, 1));
}

async fn a_retry_that_may_not_be_moved_is_not_lost() {
    let (queue, _server, calls) = without("xadd", 2).await;
    assert_eq!((calls.count(), readings(&queue).await.acknowledged), (2, 1));
}

async fn a_dead_letter_that_may_not_be_written_is_not_lost() {
    let (queue, _server, calls) = without("xadd", 1).await;
    let letters = queue.dead_letters(10).await.expect("a server that answers");
    assert_eq!((calls.count(), letters.len(), readings(&queue).await.dead), (1, 1, 1));
}

async fn a_worker_that_starts_while_the_server_is_full_makes_room() {
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
