//! How many calls the simulator makes per second through a bare backend, and that the cost of one does not grow.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::{hint::black_box, time::Duration};
use steadfast::sim::{Backend, Latency, Load, Report, Scenario};

const RPS: f64 = 1000.0;

/// A run of about so many calls.
fn run(calls: u64) -> Report {
    let length = Duration::from_secs_f64(calls as f64 / RPS);
    let scenario = Scenario::new(Load::poisson(RPS)).length(length);
    let latency = Latency::exponential(Duration::from_millis(10));
    scenario.run(|sim| Ok(sim.backend(Backend::new(latency)))).unwrap()
}

fn bare_backend(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("simulated calls");
    group.sample_size(10).warm_up_time(Duration::from_millis(300));
    for calls in [10_000, 100_000, 1_000_000] {
        group.throughput(Throughput::Elements(calls));
        group.bench_function(BenchmarkId::from_parameter(calls), |bencher| bencher.iter(|| black_box(run(calls))));
    }
    group.finish();
}

criterion_group!(benches, bare_backend);
criterion_main!(benches);
