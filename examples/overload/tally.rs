//! The calls of one step, counted as they end.

use super::{
    counts::{Counters, Counts, Ending, Rates},
    scenario::DEADLINE,
};
use hdrhistogram::Histogram;
use std::{
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// The interval of one point of the picture. It is a multiple of the service time before and after the slowdown.
/// Answers that arrive thirty at a time, once per service time, therefore make no pattern.
const SAMPLE: Duration = Duration::from_millis(600);

/// All calls of one step. Each call is counted in one of two places. The report shows the first; the display shows the
/// first, and the calls per second of both.
pub struct Calls {
    /// Empty until the load begins.
    started: OnceLock<Instant>,
    /// The calls that arrived during the measured time.
    pub counted: Tally,
    /// The calls of the warm-up, and those that arrive while the last counted calls end.
    uncounted: Counters,
    /// The answers in time, in each interval since the load began.
    answers: Mutex<Vec<u64>>,
}

impl Calls {
    pub fn new(measured: Duration) -> Self {
        Self {
            started: OnceLock::new(),
            counted: Tally::new(measured),
            uncounted: Counters::default(),
            answers: Mutex::default(),
        }
    }

    /// Marks the start of the load.
    pub fn start(&self, now: Instant) {
        // A step begins once.
        let _ = self.started.set(now);
    }

    /// How long the load has been on; `None` before it begins.
    pub fn elapsed(&self, now: Instant) -> Option<Duration> {
        self.started.get().map(|started| now.saturating_duration_since(*started))
    }

    pub fn arrived(&self, counted: bool) {
        if counted { self.counted.counters.arrived() } else { self.uncounted.arrived() }
    }

    pub fn ended(&self, counted: bool, ending: Ending, attempts: u32, latency: Duration) {
        let ending = match ending {
            Ending::Answered if latency > DEADLINE => Ending::TimedOut,
            ending => ending,
        };
        if counted { self.counted.ended(ending, attempts, latency) } else { self.uncounted.ended(ending) }
    }

    /// Records the answers so far. Called at each arrival, so usually many times in each [`SAMPLE`].
    pub fn sample(&self, now: Instant) {
        let Some(elapsed) = self.elapsed(now) else { return };
        let intervals = usize::try_from(elapsed.as_millis() / SAMPLE.as_millis()).unwrap_or(usize::MAX);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() < intervals {
            let all = self.all().of(Ending::Answered);
            let before = answers.iter().sum::<u64>();
            // If intervals passed without an arrival, the last of them gets the answers.
            answers.resize(intervals, 0);
            if let Some(last) = answers.last_mut() {
                *last = all.saturating_sub(before);
            }
        }
    }

    /// The answers in time per second: the time since the load began, in seconds, and the rate.
    pub fn answers(&self) -> Vec<(f64, f64)> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = SAMPLE.as_secs_f64();
        answers.iter().enumerate().map(|(at, count)| ((at as f64 + 0.5) * sample, *count as f64 / sample)).collect()
    }

    /// Ends the step. Counted calls that have not ended count as failed; there are none unless the machine stalled.
    pub fn close(&self) {
        (0..self.counted.counts().unfinished()).for_each(|_| self.counted.counters.ended(Ending::Failed));
    }

    pub fn all(&self) -> Counts {
        self.counted.counts().plus(self.uncounted.read())
    }
}

/// What a server holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub tasks: u64,
    pub bytes: u64,
}

/// The results of the calls that arrived during the measured time of one step.
pub struct Tally {
    measured: Duration,
    counters: Counters,
    attempts: AtomicU64,
    peak_tasks: AtomicU64,
    peak_bytes: AtomicU64,
    /// Of the calls answered in time, in microseconds. The display holds this lock for microseconds, a few times a
    /// second.
    latency: Mutex<Histogram<u64>>,
}

impl Tally {
    fn new(measured: Duration) -> Self {
        let latency = Histogram::new_with_max(micros(DEADLINE), 3).expect("constants that a histogram accepts");
        let [attempts, peak_tasks, peak_bytes] = [0; 3].map(AtomicU64::new);
        let counters = Counters::default();
        Self { measured, counters, attempts, peak_tasks, peak_bytes, latency: Mutex::new(latency) }
    }

    fn ended(&self, ending: Ending, attempts: u32, latency: Duration) {
        self.attempts.fetch_add(attempts.into(), Ordering::Relaxed);
        if ending == Ending::Answered {
            self.latency().saturating_record(micros(latency));
        }
        self.counters.ended(ending);
    }

    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// Records what the server holds, during the measured time.
    pub fn held(&self, held: Held) {
        self.peak_tasks.fetch_max(held.tasks, Ordering::Relaxed);
        self.peak_bytes.fetch_max(held.bytes, Ordering::Relaxed);
    }

    /// The most that the server held. The peaks of tasks and bytes can be at different moments.
    pub fn peak(&self) -> Held {
        Held { tasks: self.peak_tasks.load(Ordering::Relaxed), bytes: self.peak_bytes.load(Ordering::Relaxed) }
    }

    /// The calls per second of the measured time.
    pub fn rates(&self) -> Rates {
        self.counts().per_second_since(&Counts::default(), self.measured)
    }

    pub fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// In milliseconds; `None` if no call was answered in time.
    pub fn percentiles<const N: usize>(&self, quantiles: [f64; N]) -> [Option<f64>; N] {
        let latency = self.latency();
        quantiles.map(|quantile| (!latency.is_empty()).then(|| latency.value_at_quantile(quantile) as f64 / 1_000.0))
    }

    fn latency(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
