//! Measures one operation on one thread, and on two threads that share one object.

use criterion::{BenchmarkId, Criterion};
use std::{sync::Barrier, thread, time::Duration};

/// Real time, read without the library's clock.
#[allow(clippy::disallowed_types, reason = "a bench measures real time")]
type Clock = std::time::Instant;

/// Measures `operation` under `name`, with one thread and with two. The time is per operation of each thread.
pub fn bench<F: Fn() + Sync>(criterion: &mut Criterion, name: &str, operation: F) {
    let mut group = criterion.benchmark_group(name);
    group.bench_function(BenchmarkId::from_parameter("1 thread"), |bencher| bencher.iter(&operation));
    group.bench_function(BenchmarkId::from_parameter("2 threads"), |bencher| {
        bencher.iter_custom(|iterations| on_two_threads(iterations, &operation));
    });
    group.finish();
}

/// Runs `operation` `iterations` times on each of two threads that start together. Returns the time of the slower
/// thread.
fn on_two_threads<F: Fn() + Sync>(iterations: u64, operation: &F) -> Duration {
    let start = Barrier::new(2);
    let run = || {
        start.wait();
        let begin = Clock::now();
        for _ in 0..iterations {
            operation();
        }
        begin.elapsed()
    };
    thread::scope(|scope| {
        let other = scope.spawn(run);
        let own = run();
        other.join().map_or(own, |other| own.max(other))
    })
}
