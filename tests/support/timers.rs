//! How late timers are: what a machine that is too busy does to tests in real time.

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// The length of each timer, and so how often lateness is measured.
const PERIOD: Duration = Duration::from_millis(2);

/// Timers of a machine that is not too busy: 999 of 1000 are at most this late, and the worst is.
const CALM: Lateness = Lateness { p999: Duration::from_millis(4), worst: Duration::from_millis(15) };

/// What the processes of the trial under way have measured of their own timers. Trials that report this run one at a
/// time.
static REPORTED: Mutex<Vec<Duration>> = Mutex::new(Vec::new());

/// What measures lateness without the clock of the library.
#[allow(clippy::disallowed_types, reason = "it measures real time")]
type Clock = std::time::Instant;

/// Timers that run on a thread of their own until their lateness is asked for, or they are dropped.
pub struct Timers {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Duration>>>,
}

/// How late timers were.
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
                #[allow(clippy::disallowed_methods, reason = "the lateness of this sleep is what is measured")]
                thread::sleep(PERIOD);
                late.push(begin.elapsed().saturating_sub(PERIOD));
            }
            late
        });
        Self { is_over, thread: Some(thread) }
    }

    /// How late they were, or those of the trial's processes if these were later: a thread that only sleeps is woken
    /// before one that works.
    pub fn lateness(mut self) -> Lateness {
        self.is_over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("only this takes it");
        let own = Lateness::of(thread.join().expect("it only sleeps"));
        let reported = mem::take(&mut *REPORTED.lock().expect("nobody panics with it"));
        own.max(Lateness::of(reported))
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Says how late the timers of a process of this trial were.
#[allow(dead_code, reason = "every test binary uses a part of it")]
pub fn report(late: impl IntoIterator<Item = Duration>) {
    REPORTED.lock().expect("nobody panics with it").extend(late);
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
