//! A cluster that loses one of its three masters, whose replica takes over.

use super::{
    client::PROCESSES,
    fleet::{fault, run},
    verdict::{Beyond, check},
};
use crate::{
    server::{RedisCluster, RedisServer, text},
    trial::trials,
};
use std::time::Duration;
use tokio::{sync::Mutex, time::sleep};

trials![a_master_dies_and_its_replica_takes_over];

async fn a_master_dies_and_its_replica_takes_over() {
    let mut cluster = RedisCluster::start(3).await;
    let replica = RedisServer::start_with(&["--cluster-enabled", "yes"]).await;
    replica.command(&["CLUSTER", "MEET", "127.0.0.1", &cluster.servers[1].port().to_string()]).await;
    let dying = text(&cluster.servers[2].command(&["CLUSTER", "MYID"]).await);
    while !text(&replica.command(&["CLUSTER", "NODES"]).await).contains(&dying) {
        sleep(Duration::from_millis(50)).await;
    }
    replica.command(&["CLUSTER", "REPLICATE", &dying]).await;
    while replica.info("master_link_status").await != "up" {
        sleep(Duration::from_millis(50)).await;
    }
    let url = cluster.url();
    let last = Mutex::new(cluster.servers.pop().expect("there are three"));
    let begin = async || last.lock().await.kill();
    let end = async || drop(replica.command(&["CLUSTER", "FAILOVER", "TAKEOVER"]).await);
    let urls = [const { String::new() }; PROCESSES].map(|_| url.clone());
    let run = run(urls, true, begin, end).await;
    // Writes that the replica did not get are lost. And one batch may have keys of all servers.
    check("failover", &run, Beyond::loss(fault().as_secs_f64() + 0.5));
}
