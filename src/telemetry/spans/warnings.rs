use crate::{
    clock::{Nanos, Origin},
    error::Rejection,
    stripes::Counter,
    sync::{AtomicU64, Ordering::Relaxed},
};
use std::time::Duration;
use tokio::time::Instant;

/// Each mechanism logs at most one warning in this time, unless the clock goes back.
const PERIOD: Nanos = Nanos::of(Duration::from_secs(10));

/// The rejections of a stack, and the times of its warnings.
pub(super) struct RejectionWarnings {
    origin: Origin,
    of_mechanisms: [MechanismWarning; Rejection::MECHANISMS.len()],
}

/// The orderings are relaxed: the numbers guard no other memory.
#[derive(Default)]
struct MechanismWarning {
    rejections: Counter,
    /// The number of rejections that the warnings so far have reported. It never falls. Each warning raises this number
    /// and reports the difference, so the counts of all warnings add up to this number.
    warned: AtomicU64,
    /// The earliest time of the next warning, in nanoseconds from the origin.
    due: AtomicU64,
}

impl RejectionWarnings {
    pub(super) fn new() -> Self {
        Self { origin: Origin::at(Instant::now()), of_mechanisms: Default::default() }
    }

    /// Counts one rejection. If a warning of its mechanism is due, returns the number of this mechanism's rejections
    /// since the last warning.
    pub(super) fn count(&self, rejection: &Rejection) -> Option<u64> {
        let mechanism = rejection.mechanism();
        let index = Rejection::MECHANISMS.iter().position(|each| *each == mechanism)?;
        self.of_mechanisms[index].count(self.origin.to(Instant::now()))
    }
}

impl MechanismWarning {
    fn count(&self, Nanos(now): Nanos) -> Option<u64> {
        self.rejections.add_one();
        let due = self.due.load(Relaxed);
        let next = now.saturating_add(PERIOD.0);
        // The next warning is due at most one period from now, unless the clock went back.
        if now < due && due <= next {
            return None;
        }
        self.due.compare_exchange(due, next, Relaxed, Relaxed).ok()?;
        let all = self.rejections.get();
        let count = all.saturating_sub(self.warned.fetch_max(all, Relaxed));
        // Zero if another thread has logged a warning that includes this rejection.
        (count > 0).then_some(count)
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use std::{sync::Barrier, thread};

    #[test]
    fn the_first_rejection_warns_at_once_and_the_next_ones_after_ten_seconds() {
        let warning = MechanismWarning::default();
        let at = |seconds| warning.count(Nanos::of(Duration::from_secs(seconds)));
        assert_eq!(
            [at(0), at(0), at(9), at(10), at(19), at(20), at(100)],
            [Some(1), None, None, Some(3), None, Some(2), Some(1)]
        );
    }

    #[test]
    fn a_clock_that_goes_back_does_not_silence_warnings() {
        let warning = MechanismWarning::default();
        let at = |seconds| warning.count(Nanos::of(Duration::from_secs(seconds)));
        assert_eq!([at(1000), at(5), at(6), at(15)], [Some(1), Some(1), None, Some(2)]);
    }

    #[test]
    fn no_rejection_is_lost_or_counted_twice_when_threads_race() {
        let (warning, barrier) = (MechanismWarning::default(), Barrier::new(4));
        let counted = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    for second in 0..5_000 {
                        let count = warning.count(Nanos::of(Duration::from_secs(second)));
                        counted.fetch_add(count.unwrap_or_default(), Relaxed);
                    }
                });
            }
        });
        let last = warning.count(Nanos::of(Duration::from_secs(10_000))).unwrap_or_default();
        assert_eq!(counted.into_inner() + last, 4 * 5_000 + 1);
    }
}
