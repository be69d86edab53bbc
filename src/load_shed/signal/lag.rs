use super::Signal;
use crate::{
    clock::{Nanos, Origin},
    error::{ConfigError, check_duration},
    sync::{AtomicU64, Ordering},
};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// The sleep between two measurements.
const TICK: Duration = Duration::from_millis(10);
/// The lag decays to 1/e in this number of ticks, so that a single pause is visible for about 80 ms.
const SMOOTHING: u64 = 8;
/// Once a tick is overdue by more than this time, the lag is unknown. Four times the bound counts instead if that is
/// longer.
const STALE: Duration = Duration::from_secs(1);

/// The delay with which a tokio runtime wakes its tasks: it grows when the runtime is overloaded or blocked.
///
/// [`measure`](Self::measure) returns a future; spawn it on the runtime whose lag it shall measure. The task sleeps for
/// 10 ms in a loop and publishes the delay of each wake-up. The lag is a decaying maximum of these delays: it falls to
/// 1/e in about 80 ms. Tokio's timers are exact to a millisecond, so a delay of up to a millisecond is normal.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use steadfast::load_shed::RuntimeLag;
/// use tokio::time::{Instant, sleep};
///
/// let lag = RuntimeLag::above(Duration::from_millis(50))?;
/// assert_eq!(lag.lag(Instant::now()), None);
///
/// tokio::spawn(lag.measure());
/// sleep(Duration::from_millis(100)).await;
/// assert_eq!(lag.lag(Instant::now()), Some(Duration::ZERO));
/// # Ok(())
/// # }
/// ```
///
/// # Semantics
///
/// - The lag is unknown before the task first wakes, and after the task was dropped, for example with its runtime. It
///   is also unknown once the task is overdue by more than a second, or than four times the bound if that is longer.
///   Unknown is no overload.
/// - A task that is due and has not woken yet counts: its delay so far is lag.
/// - Clones share the measurement. Spawn one task for each signal: two tasks overwrite each other's results.
///
/// # Cost
///
/// A reading takes two loads. The task wakes 100 times per second.
#[derive(Clone, Debug)]
pub struct RuntimeLag {
    shared: Arc<Lag>,
}

#[derive(Debug)]
struct Lag {
    bound: Duration,
    origin: Origin,
    /// The lag in nanoseconds; the largest number while it is unknown. This and `due` are relaxed. A reader that
    /// combines the lag of one tick with the due time of the next sees a value that is one tick old.
    lag: AtomicU64,
    /// When the task is due to wake next, since the origin.
    due: AtomicU64,
}

impl RuntimeLag {
    /// Sets the lag at which the level is 1. The level is proportional to the lag. Bounds of 20 to 100 ms are usual: a
    /// delay that callers of the service notice.
    ///
    /// # Errors
    ///
    /// The bound must be longer than zero and at most 366 days.
    pub fn above(bound: Duration) -> Result<Self, ConfigError> {
        check_duration("load_shed.runtime_lag.above", bound)?;
        let (lag, due) = (AtomicU64::new(Nanos::MAX.0), AtomicU64::new(0));
        Ok(Self { shared: Arc::new(Lag { bound, origin: Origin::at(Instant::now()), lag, due }) })
    }

    /// Measures until the future is dropped, or until no handle of this signal is left, which it notices within 10 ms.
    /// The caller spawns the future.
    pub fn measure(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let task = Task(Arc::downgrade(&self.shared));
        async move {
            let mut due = Instant::now() + TICK;
            while task.expects(due) {
                sleep_until(due).await;
                let now = Instant::now();
                task.woke(now.saturating_duration_since(due));
                due = now + TICK;
            }
        }
    }

    /// Returns the lag at this instant. `None` if it is unknown.
    pub fn lag(&self, now: Instant) -> Option<Duration> {
        let Lag { bound, origin, lag, due } = &*self.shared;
        let known = Nanos(lag.load(Ordering::Relaxed));
        if known == Nanos::MAX {
            return None;
        }
        let overdue = origin.to(now).saturating_sub(Nanos(due.load(Ordering::Relaxed)));
        let stale = Nanos::of(STALE.max(bound.saturating_mul(4)));
        (overdue <= stale).then(|| known.max(overdue).duration())
    }
}

impl Signal for RuntimeLag {
    fn level(&self, now: Instant) -> Option<f64> {
        Some(self.lag(now)?.as_secs_f64() / self.shared.bound.as_secs_f64())
    }
}

/// The running task. When the task is dropped, the lag becomes unknown.
struct Task(Weak<Lag>);

impl Task {
    /// Records when the task is due to wake. Returns whether a handle is left.
    fn expects(&self, due: Instant) -> bool {
        let Some(lag) = self.0.upgrade() else { return false };
        lag.due.store(lag.origin.to(due).0, Ordering::Relaxed);
        true
    }

    /// Publishes the lag after the task woke. `late` is the time since the task was due.
    fn woke(&self, late: Duration) {
        let Some(lag) = self.0.upgrade() else { return };
        let before = Some(lag.lag.load(Ordering::Relaxed)).filter(|known| *known != Nanos::MAX.0).unwrap_or_default();
        let smoothed = Nanos::of(late).0.max(before - before.div_ceil(SMOOTHING));
        lag.lag.store(smoothed.min(Nanos::MAX.0 - 1), Ordering::Relaxed);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(lag) = self.0.upgrade() {
            lag.lag.store(Nanos::MAX.0, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use tokio::{
        task::yield_now,
        time::{advance, sleep},
    };

    const BOUND: Duration = Duration::from_millis(50);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_seen_while_it_lasts_and_decays_after_it() {
        let signal = RuntimeLag::above(BOUND).unwrap();
        tokio::spawn(signal.measure());
        sleep(ms(95)).await;
        assert_eq!(signal.lag(Instant::now()), Some(Duration::ZERO));

        // The runtime is blocked: no task runs.
        advance(ms(65)).await;
        let lag = signal.lag(Instant::now()).unwrap();
        assert!(lag >= ms(50) && lag <= ms(65), "{lag:?}");
        assert!(signal.level(Instant::now()).unwrap() >= 1.0);

        yield_now().await;
        sleep(ms(400)).await;
        assert!(signal.level(Instant::now()).unwrap() < 0.02, "{:?}", signal.lag(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn after_its_task_is_dropped_the_lag_is_unknown() {
        let signal = RuntimeLag::above(BOUND).unwrap();
        assert_eq!(signal.level(Instant::now()), None);
        let task = tokio::spawn(signal.measure());
        sleep(ms(50)).await;
        assert_eq!(signal.level(Instant::now()), Some(0.0));
        task.abort();
        yield_now().await;
        assert_eq!(signal.level(Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_never_wakes_again_is_overload_for_a_second_at_most() {
        let signal = RuntimeLag::above(BOUND).unwrap();
        let mut task = Box::pin(signal.measure());
        assert!(futures::poll!(&mut task).is_pending());
        advance(ms(15)).await;
        assert!(futures::poll!(&mut task).is_pending());
        advance(ms(900)).await;
        assert!(signal.level(Instant::now()).unwrap() > 1.0);
        advance(ms(200)).await;
        assert_eq!(signal.level(Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_task_ends_with_the_last_handle() {
        let signal = RuntimeLag::above(BOUND).unwrap();
        let task = tokio::spawn(signal.measure());
        sleep(ms(25)).await;
        assert!(!task.is_finished());
        drop(signal);
        sleep(ms(15)).await;
        assert!(task.is_finished());
    }

    #[test]
    fn the_bound_must_be_a_length_of_time() {
        assert_eq!(RuntimeLag::above(Duration::ZERO).unwrap_err().field(), "load_shed.runtime_lag.above");
    }
}
