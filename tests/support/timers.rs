//! Measures how late timers are, because a busy machine disturbs tests in real time.

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// The length of each timer, and the interval of the measurement.
const PERIOD: Duration = Duration::from_millis(2);

/// The lateness that a calm machine does not exceed: at p99.9, and at worst.
const CALM: Lateness = Lateness { p999: Duration::from_millis(4), worst: Duration::from_millis(15) };

/// The lateness that the processes of the current trial have reported. Trials that use this run one at a time.
static REPORTED: Mutex<Vec<Duration>> = Mutex::new(Vec::new());

/// Measures lateness without the library's clock.
#[allow(clippy::disallowed_types, reason = "it measures real time")]
type Clock = std::time::Instant;

/// Timers on a thread of their own, which run until `lateness` is called or they are dropped.
pub struct Timers {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Duration>>>,
}

/// The lateness of timers.
#[derive(Clone, Copy, Debug)]
pub struct Lateness {
    p999: Duration,
    worst: Duration,
}

impl Timers {
    pub fn watch() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let thread = thread::spawn(move || {
            let mut late = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let begin = Clock::now();
                #[allow(clippy::disallowed_methods, reason = "the test measures the lateness of this sleep")]
                thread::sleep(PERIOD);
                late.push(begin.elapsed().saturating_sub(PERIOD));
            }
            late
        });
        Self { is_over, thread: Some(thread) }
    }

    /// Returns the lateness of these timers, or that of the timers in the trial's processes: the larger one, for each
    /// number. These processes report too, because a thread that works is woken later than a thread that only sleeps.
    pub fn lateness(mut self) -> Lateness {
        self.is_over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("only `lateness` takes it");
        let own = Lateness::of(thread.join().expect("a thread that only sleeps"));
        let reported = mem::take(&mut *REPORTED.lock().expect("no holder panics"));
        own.max(Lateness::of(reported))
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Reports the lateness of the timers in a process of this trial.
#[allow(dead_code, reason = "no test binary uses all of it")]
pub fn report(late: impl IntoIterator<Item = Duration>) {
    REPORTED.lock().expect("no holder panics").extend(late);
}

impl Lateness {
    fn of(mut late: Vec<Duration>) -> Self {
        late.sort_unstable();
        let worst = late.last().copied().unwrap_or_default();
        Self { p999: late.get(late.len() * 999 / 1000).copied().unwrap_or(worst), worst }
    }

    fn max(self, other: Self) -> Self {
        Self { p999: self.p999.max(other.p999), worst: self.worst.max(other.worst) }
    }

    pub fn is_calm(self) -> bool {
        self.p999 <= CALM.p999 && self.worst <= CALM.worst
    }
}

impl fmt::Display for Lateness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let (p999, worst) = (millis(self.p999), millis(self.worst));
        write!(f, "timers were late by {p999:.1} ms at p99.9 and {worst:.1} ms at worst")
    }
}
