//! What a decision of `Leased` with held credit costs: on one thread, without a call to the server.

use crate::{
    allocations,
    limits::{Leased, Limit, NAMES, Opened, Terms},
    server::Server,
};
use std::{hint::black_box, time::Instant};
use tokio::runtime::Builder;

pub struct Held {
    pub try_acquire_nanos: f64,
    pub acquire_nanos: f64,
    pub allocations: f64,
}

/// The number of decisions timed together, because one clock reading costs as much as a fraction of a decision.
const TOGETHER: usize = 64;
const TIMES: usize = 2_001;
const ALL: u64 = (TOGETHER * TIMES) as u64;

pub fn measure(server: &mut Server, url: &str) -> Opened<Held> {
    server.clear();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let Leased(limit) = Leased::open(url, Terms { tokens: 1 << 40, seconds: 10 }).await?;
        let key = NAMES[0].as_bytes();
        // Spends until enough credit is held. Demand that cannot be met is granted later.
        while limit.held(key) < 4 * ALL {
            limit.acquire(key, 4 * ALL).await.ok();
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let try_acquire_nanos = median(|| assert!(black_box(limit.try_acquire(black_box(key), 1)).is_ok()));
        allocations::count(true);
        let before = allocations::so_far();
        for _ in 0..ALL {
            assert!(limit.try_acquire(key, 1).is_ok());
        }
        let allocations = (allocations::so_far() - before) as f64 / ALL as f64;
        allocations::count(false);
        let mut times = Vec::with_capacity(TIMES);
        for _ in 0..TIMES {
            let began = Instant::now();
            for _ in 0..TOGETHER {
                assert!(black_box(limit.acquire(black_box(key), 1).await).is_ok());
            }
            times.push(began.elapsed().as_nanos());
        }
        times.sort_unstable();
        let acquire_nanos = times[TIMES / 2] as f64 / TOGETHER as f64;
        Ok(Held { try_acquire_nanos, acquire_nanos, allocations })
    })
}

fn median(decide: impl Fn()) -> f64 {
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let began = Instant::now();
        (0..TOGETHER).for_each(|_| decide());
        times.push(began.elapsed().as_nanos());
    }
    times.sort_unstable();
    times[TIMES / 2] as f64 / TOGETHER as f64
}
