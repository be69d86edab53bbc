//! The lower bounds: reading a clock, and writing a word that another thread also writes.

use crate::harness::{Contestant, Role, Row};
use std::{
    hint::black_box,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

pub fn rows() -> Vec<Row> {
    vec![clocks(), words()]
}

fn clocks() -> Row {
    let tsc = || quanta::Clock::new();
    Row::new(
        "floor: read a clock",
        vec![
            Contestant::on_threads(
                Role::Peer,
                "std",
                || (),
                |_| {
                    black_box(std::time::Instant::now());
                    true
                },
            ),
            Contestant::on_threads(
                Role::Peer,
                "tokio",
                || (),
                |_| {
                    black_box(tokio::time::Instant::now());
                    true
                },
            ),
            Contestant::on_threads(Role::Peer, "quanta (TSC)", tsc, |clock| {
                black_box(clock.now());
                true
            }),
        ],
    )
    .informational("the lower bound of every peer")
}

fn words() -> Row {
    let word = || Arc::new(AtomicU64::new(u64::MAX));
    Row::new(
        "floor: write a shared word",
        vec![
            Contestant::on_threads(Role::Peer, "fetch_sub", word, |word| word.fetch_sub(1, Relaxed) > 0),
            Contestant::on_threads(Role::Peer, "load and CAS", word, |word| {
                let mut seen = word.load(Relaxed);
                while let Err(newer) = word.compare_exchange_weak(seen, seen - 1, Relaxed, Relaxed) {
                    seen = newer;
                }
                seen > 0
            }),
            Contestant::on_threads(
                Role::Peer,
                "Arc clone and drop",
                || Arc::new(7),
                |shared| **black_box(&Arc::clone(shared)) == 7,
            ),
            Contestant::on_threads(
                Role::Peer,
                "std Mutex",
                || Arc::new(Mutex::new(0_u64)),
                |shared| {
                    let mut count = shared.lock().expect("no thread panics while it holds this lock");
                    *count += 1;
                    *count > 0
                },
            ),
        ],
    )
    .informational("the lower bound of every peer")
}
