//! The cost of each mechanism without tower. The clock is read where the mechanism needs it.

mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use std::{hint::black_box, time::Duration};
use steadfast::{
    circuit_breaker::Breaker, load_level::Queue, load_shed::Limiter, rate_limit::TokenBucket, retry::RetryBudget,
};
use support::bench;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

fn clock(criterion: &mut Criterion) {
    bench(criterion, "clock", || {
        black_box(Instant::now());
    });
}

fn token_bucket(criterion: &mut Criterion) {
    let plenty = TokenBucket::builder(1_000_000_000, SECOND).build().unwrap();
    bench(criterion, "token bucket, acquire", || {
        black_box(plenty.try_acquire(1)).unwrap();
    });
    let now = Instant::now();
    let full = TokenBucket::builder(1_000_000_000, SECOND).burst(1 << 55).build().unwrap();
    bench(criterion, "token bucket, acquire, clock already read", || {
        black_box(full.try_acquire_at(1, black_box(now))).unwrap();
    });
    let empty = TokenBucket::builder(1, Duration::from_secs(1_000_000)).build().unwrap();
    empty.try_acquire(1).unwrap();
    bench(criterion, "token bucket, reject", || {
        black_box(empty.try_acquire(1)).unwrap_err();
    });
}

fn limiter(criterion: &mut Criterion) {
    let limiter = Limiter::fixed(1024).unwrap();
    bench(criterion, "in-flight limit, acquire and release", || {
        drop(black_box(limiter.try_acquire()).unwrap());
    });
    let full = Limiter::fixed(1).unwrap();
    let permit = full.try_acquire().unwrap();
    bench(criterion, "in-flight limit, reject", || {
        black_box(full.try_acquire()).unwrap_err();
    });
    drop(permit);
    let adaptive = Limiter::adaptive().build().unwrap();
    bench(criterion, "adaptive in-flight limit, acquire and release", || {
        drop(black_box(adaptive.try_acquire()).unwrap());
    });
    let full = Limiter::adaptive().ceiling(1).build().unwrap();
    let permit = full.try_acquire().unwrap();
    bench(criterion, "adaptive in-flight limit, reject", || {
        black_box(full.try_acquire()).unwrap_err();
    });
    drop(permit);
}

fn queue(criterion: &mut Criterion) {
    let queue = Queue::builder(1024, 1024).build().unwrap();
    bench(criterion, "queue, acquire and release, no call waits", || {
        drop(black_box(queue.try_acquire()).unwrap());
    });
    let paced = Queue::builder(1024, 1024).pace(1_000_000_000, SECOND).build().unwrap();
    bench(criterion, "queue with a pace, acquire and release", || {
        drop(black_box(paced.try_acquire()).unwrap());
    });
}

fn breaker(criterion: &mut Criterion) {
    let sliding = Breaker::builder().failure_rate(0.5, 10 * SECOND).build().unwrap();
    bench(criterion, "breaker, admit and record a success", || {
        black_box(sliding.try_acquire()).unwrap().success();
    });
    let consecutive = Breaker::builder().consecutive_failures(5).build().unwrap();
    bench(criterion, "breaker of failures in a row, admit and record a success", || {
        black_box(consecutive.try_acquire()).unwrap().success();
    });
    let open = Breaker::builder().consecutive_failures(1).open_for(1_000_000 * SECOND).build().unwrap();
    open.try_acquire().unwrap().failure();
    bench(criterion, "breaker, reject", || {
        black_box(open.try_acquire()).unwrap_err();
    });
}

fn retry_budget(criterion: &mut Criterion) {
    let now = Instant::now();
    let budget = RetryBudget::builder().ratio(1.0).no_floor().build().unwrap();
    bench(criterion, "retry budget, deposit and withdraw", || {
        budget.deposit();
        black_box(budget.withdraw_at(now));
    });
    let full = RetryBudget::builder().ratio(1.0).cap(1).build().unwrap();
    full.deposit();
    bench(criterion, "retry budget, deposit into a full one", || full.deposit());
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(SECOND).sample_size(20);
    targets = clock, token_bucket, limiter, queue, breaker, retry_budget
}
criterion_main!(benches);
