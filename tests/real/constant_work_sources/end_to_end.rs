//! From a publisher to a poller, through a file and through Redis.

use super::fixture::Folder;
use crate::{server::RedisServer, trial::trials};
use serde::{Deserialize, Serialize};
use std::{fs, time::Duration};
use steadfast::{
    ConfigError,
    constant_work::{FileSink, FileSource, Poller, Publisher, RedisSink, RedisSource, Rule, Shape, Sink, Source},
};

trials![
    rules_published_to_a_file_are_in_force_one_tick_later,
    rules_published_to_redis_are_in_force_one_tick_later,
    one_publication_and_one_tick_repair_a_corrupt_file,
];

/// A timeout for a disk that other processes keep busy.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Limit(u32);

impl Rule for Limit {
    const SCHEMA: u32 = 1;

    fn inert(_: u32) -> Self {
        Self(u32::MAX)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

fn shape() -> Shape {
    Shape::for_rules::<Limit>(1000).expect("a rule like any")
}

/// The rules in force.
fn live(rules: &[Limit]) -> Vec<Limit> {
    rules.iter().filter(|rule| **rule != Limit::inert(0)).cloned().collect()
}

async fn passes_on(sink: impl Sink, source: impl Source) {
    let mut publisher = Publisher::builder(sink, shape()).timeout(PATIENCE).build().expect("settings that work");
    let mut poller = Poller::builder(source, shape()).build(live).expect("settings that work");
    let current = poller.current();
    poller.tick().await.expect_err("nothing is published");
    for count in [1, 1, 1000, 0, 7] {
        let rules = (0..count).map(Limit).collect::<Vec<_>>();
        let published = publisher.publish(&rules).await.expect("a sink that is right");
        assert_eq!(poller.tick().await.expect("it is published"), published.version);
        assert_eq!(*current.load(), rules);
    }
    publisher.publish(&vec![Limit(1); 1001]).await.expect_err("too many");
    poller.tick().await.expect("what was published before");
    assert_eq!(current.load().len(), 7);
}

async fn rules_published_to_a_file_are_in_force_one_tick_later() {
    let folder = Folder::new();
    let path = folder.path("snapshot");
    passes_on(FileSink::new(&path).expect("a name"), FileSource::new(&path)).await;
}

async fn rules_published_to_redis_are_in_force_one_tick_later() {
    let server = RedisServer::start().await;
    let sink = RedisSink::builder(server.url(), "limits").connect().await.expect("a server that is right");
    passes_on(sink, RedisSource::builder(server.url(), "limits").connect().await.expect("a server that is right"))
        .await;
}

async fn one_publication_and_one_tick_repair_a_corrupt_file() {
    let folder = Folder::new();
    let path = folder.path("snapshot");
    let sink = FileSink::new(&path).expect("a name");
    let mut publisher = Publisher::builder(sink, shape()).timeout(PATIENCE).build().expect("settings that work");
    let mut poller = Poller::builder(FileSource::new(&path), shape()).build(live).expect("settings that work");
    let current = poller.current();
    for round in 0..20 {
        publisher.publish(&[Limit(round)]).await.expect("it is replaced");
        poller.tick().await.expect("it is whole again");
        assert_eq!(*current.load(), [Limit(round)]);
        let mut bytes = fs::read(&path).expect("a file");
        let at = round as usize * 10;
        bytes[at] ^= 1;
        bytes.truncate(bytes.len() - round as usize % 3);
        fs::write(&path, bytes).expect("a folder to write in");
        poller.tick().await.expect_err("it is corrupt");
        assert_eq!(*current.load(), [Limit(round)]);
    }
}
