//! Charges and demands of the trials.

pub use crate::fleet::{Process, charge, want};

use crate::server::RedisServer;
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use std::{sync::Arc, time::Duration};
use steadfast::rate_limit::{
    Quota,
    distributed::{Charge, Charged, Demand, Redis, Settled, Store},
};

pub const SECOND: Duration = Duration::from_secs(1);

/// Returns a quota of one token in ten thousand seconds: nothing drains during a trial.
pub fn slow(burst: u64) -> Quota {
    Quota::new(1, 10_000 * SECOND).with_burst(burst)
}

/// Returns a demand of the first process that wants nothing.
pub fn demand(key: impl AsRef<[u8]>, limit: u64, window: Duration, sequence: u64) -> Demand {
    Demand {
        key: Arc::from(key.as_ref()),
        limit,
        window,
        client: 1,
        sequence,
        spent: 0,
        spends: Vec::new(),
        held: 0,
        want: 0,
        total: 0,
    }
}

/// Starts a server, and connects a store to it.
pub async fn store() -> (RedisServer, Redis) {
    let server = RedisServer::start().await;
    let store = Redis::builder(server.url()).connect().await.expect("a server that is right");
    (server, store)
}

/// Returns the answer to one charge.
pub async fn charged(store: &impl Store, charge: Charge) -> Charged {
    store.charge(&[charge]).await.expect("a store that answers")[0]
}

/// Returns the answer to one demand.
pub async fn settled(store: &impl Store, demand: Demand) -> Settled {
    store.settle(&[demand]).await.expect("a store that answers")[0]
}

pub fn seeded(seed: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed)
}

/// Draws one of these.
pub fn one_of<T: Copy>(random: &mut Xoshiro256PlusPlus, choices: &[T]) -> T {
    choices[random.random_range(0..choices.len())]
}
