use super::store::{Store, StoreError};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use std::time::Duration;
use tokio::time::Instant;

/// How the store of a limit answers, from the limit's [`Readings`](super::Readings).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StoreHealth {
    /// Whether the store decides. If not, it failed three times in a row and only the flusher asks it; or it answers
    /// again and processes still report; or there is no flusher any more.
    pub is_up: bool,
    /// How often this limit asked it, probes included.
    pub asked: u64,
    /// How often it did not answer in time, or answered with an error.
    pub failed: u64,
    /// The time since it last answered; since the limit was made, if it never did.
    pub staleness: Duration,
    /// The error of the last failure, from the store or the way to it. It stays when the store answers again: to alert,
    /// look at [`is_up`](Self::is_up).
    pub last_error: Option<StoreError>,
    /// A property of the store by which limits can admit too much, in a sentence for an operator: see
    /// [`Store::concern`](super::Store::concern). `None` where none is known. It does not depend on outages: alert on
    /// it once, and change the store's configuration.
    pub concern: Option<String>,
}

/// Keeps count of how the store answers, and decides whom it is asked by.
pub(super) struct Health {
    asked: AtomicU64,
    failed: AtomicU64,
    /// Whether the store decides: only then, requests ask it. Relaxed: it guards no other memory.
    decides: AtomicU64,
    state: Mutex<State>,
    /// After it has answered again, processes need so long to tell it what they spent meanwhile.
    report_for: Duration,
}

struct State {
    standing: Standing,
    /// Counts the times that it began to fail.
    outages: u64,
    answered: Instant,
    /// When the last failure that counts was noticed.
    failed: Option<Instant>,
    last_error: Option<StoreError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It answers; or the last so many answers were failures, too few to give it up.
    Up { failures: u32 },
    /// It is given up. Only the flusher asks it.
    Down,
    /// It answers again, and is told what was spent meanwhile by all. It decides from then on.
    Reporting { until: Instant, failures: u32 },
    /// There is no flusher to ask it.
    Unasked,
}

/// A store that says it takes longer to be back is taken to take so long.
pub(super) const LONGEST_RETURN: Duration = Duration::from_secs(3600);

/// So many failures in a row are no accident.
const FAILURES: u32 = 3;

impl Health {
    pub(super) fn new(now: Instant, report_for: Duration) -> Self {
        let state =
            State { standing: Standing::Up { failures: 0 }, outages: 0, answered: now, failed: None, last_error: None };
        Self {
            asked: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            decides: AtomicU64::new(1),
            state: Mutex::new(state),
            report_for,
        }
    }

    /// Whether requests ask the store.
    pub(super) fn decides(&self) -> bool {
        self.decides.load(Ordering::Relaxed) == 1
    }

    /// Whether it is given up, so that it is only asked whether it is back.
    pub(super) fn is_down(&self) -> bool {
        lock(&self.state).standing == Standing::Down
    }

    /// When the store decides again, where that is known.
    pub(super) fn decides_from(&self) -> Option<Instant> {
        match lock(&self.state).standing {
            Standing::Reporting { until, .. } => Some(until),
            _ => None,
        }
    }

    /// The number of the present outage, or of the last one: whatever was kept from another is out of date.
    pub(super) fn outage(&self) -> u64 {
        lock(&self.state).outages
    }

    /// The store was asked at `sent`, and had so long to answer; this is what came of it.
    ///
    /// Of questions that were under way at the same time one failure counts: they are late together. And one that was given up
    /// long after its time says that this process stood still, not that the store does.
    pub(super) fn note<T>(&self, answer: &Result<T, StoreError>, sent: Instant, patience: Duration, now: Instant) {
        let mut state = lock(&self.state);
        self.asked.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(_) => state.answered = now,
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                state.last_error = Some(error.clone());
                let is_one_of_many = state.failed.is_some_and(|failed| sent < failed);
                // Timers go off up to a millisecond late, whatever they are set to.
                let in_time = patience.saturating_mul(2).saturating_add(Duration::from_millis(2));
                if is_one_of_many || now.saturating_duration_since(sent) >= in_time {
                    return;
                }
                state.failed = Some(now);
            }
        }
        state.standing = match (answer, state.standing) {
            (_, Standing::Unasked) => Standing::Unasked,
            (Ok(_), Standing::Down) => Standing::Reporting { until: now + self.report_for, failures: 0 },
            (Ok(_), Standing::Reporting { until, .. }) if now < until => Standing::Reporting { until, failures: 0 },
            (Ok(_), _) => Standing::Up { failures: 0 },
            (Err(_), Standing::Reporting { until, failures }) if failures + 1 < FAILURES => {
                Standing::Reporting { until, failures: failures + 1 }
            }
            (Err(_), Standing::Up { failures }) if failures + 1 < FAILURES => {
                if failures == 0 {
                    state.outages += 1;
                }
                Standing::Up { failures: failures + 1 }
            }
            (Err(_), _) => Standing::Down,
        };
        self.show(&state);
    }

    /// There is no flusher. From here on the process is on its own.
    pub(super) fn nobody_asks(&self) {
        let mut state = lock(&self.state);
        if matches!(state.standing, Standing::Up { failures: 0 }) {
            state.outages += 1;
        }
        state.standing = Standing::Unasked;
        self.show(&state);
    }

    /// There is a flusher again. After a time without any, the store is asked as after an outage. Answers whether there was
    /// such a time.
    pub(super) fn is_asked_again(&self) -> bool {
        let mut state = lock(&self.state);
        let was_unasked = state.standing == Standing::Unasked;
        if was_unasked {
            // Unasked => Down
            state.standing = Standing::Down;
            self.show(&state);
        }
        was_unasked
    }

    /// Time has passed: whoever reported has done so.
    pub(super) fn look(&self, now: Instant) {
        let mut state = lock(&self.state);
        if matches!(state.standing, Standing::Reporting { until, .. } if until <= now) {
            state.standing = Standing::Up { failures: 0 };
            self.show(&state);
        }
    }

    fn show(&self, state: &State) {
        let decides = matches!(state.standing, Standing::Up { .. });
        self.decides.store(u64::from(decides), Ordering::Relaxed);
    }

    pub(super) fn read(&self, store: &dyn Store, now: Instant) -> StoreHealth {
        // The store's own code, so not under the lock.
        let concern = store.concern();
        let state = lock(&self.state);
        StoreHealth {
            is_up: matches!(state.standing, Standing::Up { .. }),
            asked: self.asked.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            staleness: now.saturating_duration_since(state.answered),
            last_error: state.last_error.clone(),
            concern,
        }
    }
}
