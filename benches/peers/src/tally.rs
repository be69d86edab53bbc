//! The operations of the threads of a turn, and the time per operation.

use std::time::{Duration, Instant};

/// The record of one thread.
#[derive(Default)]
pub struct Tally {
    /// Operations in each batch.
    pub batch: u64,
    /// Operations with an unexpected result.
    pub wrong: u64,
    /// When each batch began, and the last one ended.
    pub marks: Vec<Instant>,
    pub allocations_before: u64,
    pub allocations_after: u64,
}

/// The cost of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Nanoseconds per operation of each thread. `None` if other processes had the cores nearly all of the time.
    pub nanos: Option<f64>,
    pub allocations: f64,
    pub wrong: u64,
}

/// A batch that took at least this long, and far longer than most, was interrupted by the scheduler.
const INTERRUPTED: Duration = Duration::from_micros(500);
const FAR_LONGER: u32 = 20;

/// The smallest undisturbed share of a turn's time that is enough.
const LEAST: f64 = 0.02;

impl Turn {
    /// Counts only the time in which all threads ran. While one thread was interrupted, the other did not share the
    /// object.
    pub fn of(tallies: &[Tally]) -> Self {
        let gaps: Vec<_> = tallies.iter().flat_map(Tally::gaps).collect();
        let first = tallies.iter().filter_map(|tally| tally.marks.first()).max();
        let last = tallies.iter().filter_map(|tally| tally.marks.last()).min();
        let together = |begin: Instant, end: Instant| {
            first.is_some_and(|first| *first <= begin)
                && last.is_some_and(|last| end <= *last)
                && !gaps.iter().any(|gap| begin < gap.1 && gap.0 < end)
        };
        let (mut time, mut all, mut operations, mut done) = (Duration::ZERO, Duration::ZERO, 0, 0);
        for tally in tallies {
            for (begin, end) in tally.batches() {
                all += end - begin;
                done += tally.batch;
                if together(begin, end) {
                    time += end - begin;
                    operations += tally.batch;
                }
            }
        }
        let before = tallies.iter().map(|tally| tally.allocations_before).min().unwrap_or_default();
        let after = tallies.iter().map(|tally| tally.allocations_after).max().unwrap_or_default();
        let enough = operations > 0 && time.as_secs_f64() >= LEAST * all.as_secs_f64();
        Self {
            nanos: enough.then(|| time.as_nanos() as f64 / operations as f64),
            allocations: (after - before) as f64 / done as f64,
            wrong: tallies.iter().map(|tally| tally.wrong).sum(),
        }
    }
}

impl Tally {
    fn batches(&self) -> impl Iterator<Item = (Instant, Instant)> {
        self.marks.windows(2).map(|pair| (pair[0], pair[1]))
    }

    /// Returns when the thread was interrupted.
    fn gaps(&self) -> Vec<(Instant, Instant)> {
        let mut lengths: Vec<_> = self.batches().map(|(begin, end)| end - begin).collect();
        lengths.sort();
        let usual = lengths.get(lengths.len() / 2).copied().unwrap_or_default();
        let long = INTERRUPTED.max(usual * FAR_LONGER);
        self.batches().filter(|(begin, end)| *end - *begin > long).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two operations per batch, in batches that take `micros` microseconds.
    fn tally(begin: Instant, micros: &[u64]) -> Tally {
        let mut marks = vec![begin];
        for length in micros {
            marks.push(marks[marks.len() - 1] + Duration::from_micros(*length));
        }
        Tally { batch: 2, marks, ..Tally::default() }
    }

    #[test]
    fn an_operation_takes_the_mean_of_all_threads() {
        let now = Instant::now();
        let turn = Turn::of(&[tally(now, &[10, 10]), tally(now, &[20])]);
        assert_eq!(turn.nanos, Some(40_000.0 / 6.0));
        let turn = Turn::of(&[tally(now, &[10, 10]), tally(now, &[20, 1, 1])]);
        assert_eq!(turn.nanos, Some(40_000.0 / 6.0));
    }

    #[test]
    fn what_one_thread_did_while_the_other_was_interrupted_does_not_count() {
        let now = Instant::now();
        let interrupted = tally(now, &[10, 10, 1000, 10]);
        let alone: Vec<u64> = [20].into_iter().chain(std::iter::repeat_n(2, 500)).chain([10]).collect();
        let other = tally(now, &alone);
        let turn = Turn::of(&[interrupted, other]);
        assert_eq!(turn.nanos, Some(60_000.0 / 10.0));
    }

    #[test]
    fn a_turn_that_was_disturbed_all_the_time_says_nothing() {
        let now = Instant::now();
        let turn = Turn::of(&[tally(now, &[1, 1, 1, 30_000])]);
        assert_eq!(turn.nanos, None);
    }
}
