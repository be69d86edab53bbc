//! How many calls the simulator makes per second, and whether the cost per call is the same for a million calls as for
//! ten thousand.
//!
//! The target is 200,000 per second on one core of the machine that the README names.

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use std::{hint::black_box, time::Duration};
use steadfast::sim::{Backend, Latency, Load, Report, Scenario};

/// Calls per second of virtual time. With a mean latency of 50 ms, some 50 are in flight at any time.
const RPS: f64 = 1_000.0;

/// Sends about `calls` calls straight to a backend.
fn simulate(calls: u64) -> Report {
    let length = Duration::from_secs_f64(calls as f64 / RPS);
    let run = Scenario::new(Load::poisson(RPS)).length(length).seed(7);
    run.run(|sim| Ok(sim.backend(Backend::new(Latency::exponential(Duration::from_millis(50)))))).unwrap()
}

fn calls_per_second(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sim");
    // A run of a million takes seconds, so criterion makes as few as it allows.
    group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_secs(1));
    for calls in [10_000, 100_000, 1_000_000] {
        group.throughput(Throughput::Elements(calls));
        group.bench_with_input(BenchmarkId::new("bare_backend", calls), &calls, |bencher, calls| {
            bencher.iter(|| black_box(simulate(black_box(*calls))));
        });
    }
    group.finish();
}

criterion_group!(benches, calls_per_second);
criterion_main!(benches);
