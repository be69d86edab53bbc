//! What the calls of one stack have come to, counted by the threads that run them.

use super::{
    lanes::{Lanes, Writer},
    outcome::CallOutcome,
    reason::{DENIALS, REASONS, Reason, denial_index},
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

/// The kinds of attempts, as the label `kind` has them.
pub(super) const KINDS: [&str; 2] = ["first", "retry"];

const OUTCOMES: usize = CallOutcome::ALL.len();

/// A histogram that is made by the first duration it counts.
#[derive(Default)]
struct Durations(OnceLock<Box<[Bucket; COUNT]>>);

/// A count and a sum of nanoseconds, beside each other in one cache line. The sum is written first and read last, so
/// that it has all durations that are counted.
#[derive(Default)]
struct Bucket {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Durations {
    #[inline]
    fn record(&self, took: Duration, writer: Writer) {
        let nanos = Nanos::of(took);
        let buckets = self.0.get_or_init(|| Box::new(array::from_fn(|_| Bucket::default())));
        let Bucket { count, nanos: sum } = &buckets[bucket(nanos)];
        writer.add(sum, nanos.0);
        // After the sum, with release: it pairs with the reading.
        writer.add(count, 1);
    }

    fn add_to(&self, histogram: &mut Histogram) {
        for (place, bucket) in self.0.get().into_iter().flat_map(|buckets| buckets.iter().enumerate()) {
            let Bucket { count, nanos } = bucket;
            let count = count.load(Ordering::Acquire);
            histogram.add(place, count, nanos.load(Ordering::Relaxed));
        }
    }
}

/// What one thread has counted, or several that share a lane.
#[derive(Default)]
struct Lane {
    calls: [Durations; OUTCOMES],
    attempts: [[Durations; OUTCOMES]; KINDS.len()],
    delays: Durations,
    denied: [AtomicU64; DENIALS.len()],
    /// By reason, and whether the service was reached.
    rejected: [[AtomicU64; 2]; REASONS.len()],
}

/// What the calls of one stack have come to.
///
/// A thread counts on a lane of its own. A histogram takes 304 bytes for each thread and each outcome that has come up.
#[derive(Default)]
pub(super) struct Tally(Lanes<Lane>);

impl Tally {
    /// Counts a call that has ended.
    #[inline]
    pub(super) fn count_call(&self, end: &End<'_>) {
        let (lane, writer) = self.0.own();
        lane.calls[CallOutcome::of(end).index()].record(end.took(), writer);
        let retries = end.retries();
        if retries.attempts() > 1 {
            lane.delays.record(retries.waited(), writer);
        }
        if let Some(denied) = retries.denied() {
            writer.add(&lane.denied[denial_index(denied)], 1);
        }
        if let Some(rejection) = end.rejection() {
            let reached = usize::from(rejection.reached_service());
            writer.add(&lane.rejected[Reason::of(rejection).index()][reached], 1);
        }
    }

    /// Counts an attempt that has ended.
    #[inline]
    pub(super) fn count_attempt(&self, is_retry: bool, end: &End<'_>) {
        let (lane, writer) = self.0.own();
        lane.attempts[usize::from(is_retry)][CallOutcome::of(end).index()].record(end.took(), writer);
    }

    /// What was counted so far. Threads may count meanwhile.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.0.iter().for_each(|lane| totals.add(lane));
        totals
    }
}

/// The sums of all lanes.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) calls: [Histogram; OUTCOMES],
    pub(super) attempts: [[Histogram; OUTCOMES]; KINDS.len()],
    pub(super) delays: Histogram,
    pub(super) denied: [u64; DENIALS.len()],
    pub(super) rejected: [[u64; 2]; REASONS.len()],
}

impl Totals {
    fn add(&mut self, lane: &Lane) {
        let attempts = lane.attempts.iter().flatten().zip(self.attempts.iter_mut().flatten());
        let histograms = lane.calls.iter().zip(&mut self.calls).chain(attempts);
        for (durations, histogram) in histograms.chain([(&lane.delays, &mut self.delays)]) {
            durations.add_to(histogram);
        }
        let rejected = lane.rejected.iter().flatten().zip(self.rejected.iter_mut().flatten());
        for (count, sum) in lane.denied.iter().zip(&mut self.denied).chain(rejected) {
            *sum = sum.wrapping_add(count.load(Ordering::Relaxed));
        }
    }
}
