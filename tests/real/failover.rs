//! A master becomes a read-only replica, and its name leads to another server. Connections to the old server stay open.

use crate::{
    durable_fixture::{Calls, Running, append, millis, noting, readings, succeed, until, worker},
    proxy::Proxy,
    server::RedisServer,
    trial::trials,
};
use std::time::Duration;
use steadfast::{
    load_level::durable::DurableQueue,
    rate_limit::{
        Quota,
        distributed::{Exact, OnOutage, Redis},
    },
};
use tokio::time::sleep;

trials![limits_go_on_with_the_new_master, a_worker_goes_on_with_the_new_master, appends_go_on_with_the_new_master];

/// A master with a replica, and a proxy to the current master.
struct Pair {
    old: RedisServer,
    new: RedisServer,
    name: Proxy,
}

impl Pair {
    async fn start() -> Self {
        let (old, new) = (RedisServer::start().await, RedisServer::start().await);
        new.command(&["REPLICAOF", "127.0.0.1", &old.port().to_string()]).await;
        until("the replica is in step", async || new.info("master_link_status").await == "up").await;
        let name = Proxy::to(old.port()).await;
        Self { old, new, name }
    }

    async fn fail_over(&self) {
        self.new.command(&["REPLICAOF", "NO", "ONE"]).await;
        self.name.lead_to(self.new.port());
        self.old.command(&["REPLICAOF", "127.0.0.1", &self.new.port().to_string()]).await;
    }
}

async fn limits_go_on_with_the_new_master() {
    let pair = Pair::start().await;
    let store = Redis::builder(pair.name.url()).connect().await.expect("a server that is right");
    let limit = Exact::builder(store, Quota::new(1_000_000, Duration::from_secs(1)))
        .deadline(Duration::from_secs(1))
        .on_outage(OnOutage::Closed);
    let (limit, flusher) = limit.build().expect("settings that can work");
    let flusher = tokio::spawn(flusher.run());
    limit.acquire(b"key", 1).await.expect("room");
    pair.fail_over().await;
    until("the new master is asked", async || limit.acquire(b"key", 1).await.is_ok()).await;
    assert_eq!(pair.new.info("role").await, "master");
    // It stays with the new master.
    for _ in 0..20 {
        limit.acquire(b"key", 1).await.expect("room, and a server that is right");
        sleep(millis(10)).await;
    }
    flusher.abort();
}

async fn queue(pair: &Pair) -> DurableQueue {
    DurableQueue::builder(pair.name.url(), "orders").connect().await.expect("a server that is right")
}

async fn a_worker_goes_on_with_the_new_master() {
    let pair = Pair::start().await;
    let queue = queue(&pair).await;
    let calls = Calls::default();
    let running = Running::start(worker(&queue, noting(&calls, succeed)));
    append(&queue, "before").await;
    until("it works", async || calls.count() == 1).await;
    pair.fail_over().await;
    let direct = DurableQueue::builder(pair.new.url(), "orders").connect().await.expect("a server that is right");
    append(&direct, "after").await;
    until("it works for the new master", async || calls.texts().contains(&"after".to_owned())).await;
    until("all is ended there", async || readings(&direct).await.backlog() == 0).await;
    until("it has nothing to say", async || running.monitor.readings().redis_error.is_none()).await;
    running.stop().await;
}

async fn appends_go_on_with_the_new_master() {
    let pair = Pair::start().await;
    let queue = queue(&pair).await;
    append(&queue, "before").await;
    pair.fail_over().await;
    let send = async || {
        let producer = queue.producer(crate::durable_fixture::encode);
        tower::ServiceExt::oneshot(producer, "after".into()).await
    };
    until("the new master has it", async || send().await.is_ok()).await;
    until("and nothing is sent to the old one", async || queue.readings().await.is_ok()).await;
}
