//! The cost of the scripts for the server. Run with `--ignored --nocapture`.

use super::fixture::{SECOND, charge, demand, store, want};
use crate::{server::RedisServer, trial::trials};
use std::time::Duration;
use steadfast::rate_limit::{
    Quota,
    distributed::{Charge, Demand, Redis, Store},
};

trials![the_cost_of_the_scripts];

async fn microseconds(server: &RedisServer) -> String {
    let stat = server.info("cmdstat_evalsha").await;
    let value = stat.split(',').find_map(|field| field.strip_prefix("usec_per_call="));
    server.command(&["CONFIG", "RESETSTAT"]).await;
    value.unwrap_or("?").to_owned()
}

async fn charges(server: &RedisServer, store: &Redis, what: &str, make: impl Fn(u64, u64) -> Charge) {
    for count in [1, 64] {
        for call in 1..=400 {
            let batch: Vec<Charge> = (0..count).map(|key| make(key, call)).collect();
            store.charge(&batch).await.expect("a store that answers");
            if call == 100 {
                microseconds(server).await;
            }
        }
        println!("charge {what}, {count} keys: {} us a call", microseconds(server).await);
    }
}

async fn size(server: &RedisServer, key: &str) -> String {
    let used = server.integer(&["MEMORY", "USAGE", key]).await;
    format!("{} bytes, {used} with the key", server.integer(&["STRLEN", key]).await)
}

async fn the_cost_of_the_scripts() {
    let (server, store) = store().await;
    let quota = Quota::new(1_000_000, SECOND);
    charges(&server, &store, "granted", |key, _| want(format!("granted {key}"), quota, 1)).await;
    println!("bucket: {}", size(&server, "steadfast:b:granted 1").await);
    let few = Quota::new(1, 3600 * SECOND);
    charges(&server, &store, "refused", |key, _| want(format!("refused {key}"), few, 1)).await;
    for processes in [1, 16, 64] {
        let spend = |key, call: u64| Charge {
            client: (call % processes + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            sequence: call,
            spent: 1,
            ..charge(format!("spent {processes} {key}"), quota)
        };
        charges(&server, &store, &format!("spent by {processes} processes"), spend).await;
        println!("bucket: {}", size(&server, &format!("steadfast:b:spent {processes} 1")).await);
    }
    for (processes, cells) in [(1, 1), (16, 40), (64, 40)] {
        for count in [1, 64] {
            // The spends of the first calls are spread over the window, and those of later calls are new.
            let make = |key: u64, call: u64| Demand {
                client: (call % processes + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                spent: call,
                spends: vec![(Duration::from_secs(if call <= 100 { call % cells * 89 } else { 0 }), 1)],
                held: 3,
                want: 1,
                ..demand(format!("{processes} {cells} {key}"), 100_000, 3600 * SECOND, call)
            };
            for call in 1..=400 {
                let batch: Vec<Demand> = (0..count).map(|key| make(key, call)).collect();
                store.settle(&batch).await.expect("a store that answers");
                if call == 100 {
                    microseconds(&server).await;
                }
            }
            let cost = microseconds(&server).await;
            println!("settle, {processes} processes, {cells} cells, {count} keys: {cost} us a call");
        }
        println!("window: {}", size(&server, &format!("steadfast:w:{processes} {cells} 1")).await);
    }
}
