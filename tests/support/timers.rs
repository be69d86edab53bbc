//! How late timers are: what a machine that is too busy does to tests in real time.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// The length of each timer, and so how often lateness is measured.
const PERIOD: Duration = Duration::from_millis(2);

/// Timers of a machine that is not too busy: 99 of 100 are at most this late, and the worst is.
const CALM: Lateness = Lateness { p99: Duration::from_millis(2), worst: Duration::from_millis(15) };

/// What measures lateness without the clock of the library.
#[allow(clippy::disallowed_types, reason = "it measures real time")]
type Clock = std::time::Instant;

/// Timers that run on a thread of their own until their lateness is asked for.
pub struct Timers {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

/// How late timers were.
#[derive(Clone, Copy, Debug)]
pub struct Lateness {
    p99: Duration,
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
                #[allow(clippy::disallowed_methods, reason = "the lateness of this sleep is what is measured")]
                thread::sleep(PERIOD);
                late.push(begin.elapsed().saturating_sub(PERIOD));
            }
            late
        });
        Self { is_over, thread }
    }

    pub fn lateness(self) -> Lateness {
        self.is_over.store(true, Ordering::Relaxed);
        let mut late = self.thread.join().expect("it only sleeps");
        late.sort_unstable();
        let worst = late.last().copied().unwrap_or_default();
        Lateness { p99: late.get(late.len() * 99 / 100).copied().unwrap_or(worst), worst }
    }
}

impl Lateness {
    pub fn is_calm(self) -> bool {
        self.p99 <= CALM.p99 && self.worst <= CALM.worst
    }
}

impl fmt::Display for Lateness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let (p99, worst) = (millis(self.p99), millis(self.worst));
        write!(f, "timers were late by {p99:.1} ms at p99 and {worst:.1} ms at worst")
    }
}
