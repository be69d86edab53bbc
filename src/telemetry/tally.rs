//! Counts the calls of the stacks of one name, by outcome and duration, on the threads that run them.

use super::{
    outcome::CallOutcome,
    reason::{DENIALS, REASONS, RejectionReason, denial_index},
    thread_shards::{ShardWriter, ThreadShards},
};
use crate::{
    clock::Nanos,
    histogram::{COUNT, Histogram, bucket},
    shell::End,
};
use std::{
    array,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The values of the label `kind` of attempts.
pub(super) const KINDS: [&str; 2] = ["first", "retry"];

const OUTCOMES: usize = CallOutcome::ALL.len();

/// A histogram that is allocated at its first duration.
#[derive(Default)]
struct DurationBuckets(OnceLock<Box<[DurationBucket; COUNT]>>);

/// A count and a sum of nanoseconds, next to each other, so that one cache line mostly holds both. The sum is written
/// first and read last, so it includes all durations that are counted.
#[derive(Default)]
struct DurationBucket {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl DurationBuckets {
    #[inline]
    fn record(&self, took: Duration, writer: ShardWriter) {
        let nanos = Nanos::of(took);
        let buckets = self.0.get_or_init(|| Box::new(array::from_fn(|_| DurationBucket::default())));
        let DurationBucket { count, nanos: sum } = &buckets[bucket(nanos)];
        writer.add(sum, nanos.0);
        // After the sum, with release: pairs with the acquire in `add_to`.
        writer.add(count, 1);
    }

    fn add_to(&self, histogram: &mut Histogram) {
        for (place, bucket) in self.0.get().into_iter().flat_map(|buckets| buckets.iter().enumerate()) {
            let DurationBucket { count, nanos } = bucket;
            let count = count.load(Ordering::Acquire);
            histogram.add(place, count, nanos.load(Ordering::Relaxed));
        }
    }
}

/// The counts of one thread, or of all threads on the shared shard.
#[derive(Default)]
struct ThreadCounts {
    calls: [DurationBuckets; OUTCOMES],
    attempts: [[DurationBuckets; OUTCOMES]; KINDS.len()],
    /// For each call with more than one attempt, the sum of the waits between its attempts: backoff and hints.
    delays: DurationBuckets,
    denied: [AtomicU64; DENIALS.len()],
    /// By reason and by whether the call reached the service.
    rejected: [[AtomicU64; 2]; REASONS.len()],
}

/// Counts the calls and attempts of all stacks of one name.
///
/// Each of up to 32 threads counts in its own shard, and the others share one. A histogram takes 304 bytes per shard
/// and per outcome that occurred.
#[derive(Default)]
pub(super) struct CallTally(ThreadShards<ThreadCounts>);

impl CallTally {
    /// Counts a call that has ended.
    #[inline]
    pub(super) fn count_call(&self, end: &End<'_>) {
        let (shard, writer) = self.0.own();
        shard.calls[CallOutcome::of(end).index()].record(end.took(), writer);
        let retries = end.retries();
        if retries.attempts() > 1 {
            shard.delays.record(retries.waited(), writer);
        }
        if let Some(denied) = retries.denied() {
            writer.add(&shard.denied[denial_index(denied)], 1);
        }
        if let Some(rejection) = end.rejection() {
            let reached = usize::from(rejection.reached_service());
            writer.add(&shard.rejected[RejectionReason::of(rejection).index()][reached], 1);
        }
    }

    /// Counts an attempt that has ended.
    #[inline]
    pub(super) fn count_attempt(&self, is_retry: bool, end: &End<'_>) {
        let (shard, writer) = self.0.own();
        shard.attempts[usize::from(is_retry)][CallOutcome::of(end).index()].record(end.took(), writer);
    }

    /// Sums the counts so far. Other threads may keep counting during the sum.
    pub(super) fn totals(&self) -> CallTotals {
        let mut totals = CallTotals::default();
        self.0.iter().for_each(|shard| totals.add(shard));
        totals
    }
}

/// The sums over all shards.
#[derive(Default)]
pub(super) struct CallTotals {
    pub(super) calls: [Histogram; OUTCOMES],
    pub(super) attempts: [[Histogram; OUTCOMES]; KINDS.len()],
    pub(super) delays: Histogram,
    pub(super) denied: [u64; DENIALS.len()],
    pub(super) rejected: [[u64; 2]; REASONS.len()],
}

impl CallTotals {
    fn add(&mut self, shard: &ThreadCounts) {
        let attempts = shard.attempts.iter().flatten().zip(self.attempts.iter_mut().flatten());
        let histograms = shard.calls.iter().zip(&mut self.calls).chain(attempts);
        for (durations, histogram) in histograms.chain([(&shard.delays, &mut self.delays)]) {
            durations.add_to(histogram);
        }
        let rejected = shard.rejected.iter().flatten().zip(self.rejected.iter_mut().flatten());
        for (count, sum) in shard.denied.iter().zip(&mut self.denied).chain(rejected) {
            *sum = sum.wrapping_add(count.load(Ordering::Relaxed));
        }
    }
}
