use super::synchronizer::Crew;
use crate::{
    rate_limit::distributed::{
        outage::Outage,
        store::{Store, StoreError},
    },
    sync::{AtomicU64, Mutex, Ordering, lock},
};
use std::time::Duration;
use tokio::time::Instant;

/// How well the store of a limit answers: part of the limit's [`Readings`](crate::rate_limit::distributed::Readings).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StoreHealth {
    /// Whether the store decides. It does not decide in three cases:
    ///
    /// - It failed three times in a row, and the flusher only probes it.
    /// - It answers again, but the processes still report what they spent.
    /// - There is no flusher, or there was none and the store has not answered the new one yet.
    pub is_up: bool,
    /// The number of calls to the store by this limit that have ended, probes included.
    pub asked: u64,
    /// The number of calls that failed or were not answered in time.
    pub failed: u64,
    /// The time since the store last answered, or since the limit was built if it never did.
    pub staleness: Duration,
    /// The error of the last failure. It stays after the store answers again. For an alert, use [`is_up`](Self::is_up).
    pub last_error: Option<StoreError>,
    /// A sentence for an operator about a property of the store that lets limits admit too much: see
    /// [`Store::concern`]. `None` if no such property is known. The sentence does not depend on outages. Alert on it
    /// once, and change the store's configuration.
    pub concern: Option<String>,
}

/// The longest [reconnect time](Store::returns_within) of a store that counts. A longer one counts as this.
pub(crate) const LONGEST_RETURN: Duration = Duration::from_secs(3600);

/// The number of failures in a row after which the store is down.
const FAILURES: u32 = 3;

/// Counts the answers of the store, and says whether the store decides about calls, or this process alone.
///
/// | state | event | next |
/// |---|---|---|
/// | `Up` | the third failure in a row | `Down` |
/// | `Down` | an answer | `Reporting` |
/// | `Reporting` | the third failure in a row | `Down` |
/// | `Reporting` | the time for reports is over | `Up` |
/// | any | the last flusher is dropped | `Unasked` |
/// | `Unasked` | a flusher begins | `Down` |
pub(crate) struct Health {
    asked: AtomicU64,
    failed: AtomicU64,
    /// 1 if the store decides about calls, else 0. Relaxed: it guards no other memory.
    decides: AtomicU64,
    state: Mutex<HealthState>,
    /// The time that processes have to report their spends, once the store answers again. Zero for `Leased`, where each
    /// key has its own time for reports.
    report_for: Duration,
}

struct HealthState {
    store: StoreState,
    /// The number of the present outage, or of the last one. It rises at the first failure of a store that is up, even
    /// if no outage follows. It also rises when the last flusher is dropped while the store is up, unless it has just
    /// risen for a failure.
    outage: Outage,
    /// When the store last answered, or when the limit was built if it never did.
    answered: Instant,
    /// When the last failure that counts (see `note`) was noticed.
    failed: Option<Instant>,
    last_error: Option<StoreError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StoreState {
    /// The store answers, or has failed fewer than three times in a row.
    Up { failures: u32 },
    /// The store is given up. The flusher only probes it.
    Down,
    /// The store answers again, and all processes report what they spent. It decides after `until`.
    Reporting { until: Instant, failures: u32 },
    /// There is no flusher that asks the store.
    Unasked,
}

impl Health {
    pub(crate) fn new(now: Instant, report_for: Duration) -> Self {
        let state = HealthState {
            store: StoreState::Up { failures: 0 },
            outage: Outage(0),
            answered: now,
            failed: None,
            last_error: None,
        };
        Self {
            asked: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            decides: AtomicU64::new(1),
            state: Mutex::new(state),
            report_for,
        }
    }

    /// Returns whether the store decides about calls.
    pub(crate) fn decides(&self) -> bool {
        self.decides.load(Ordering::Relaxed) == 1
    }

    /// Returns whether the store is given up, so that the flusher only probes it.
    pub(crate) fn is_down(&self) -> bool {
        lock(&self.state).store == StoreState::Down
    }

    /// Returns when the store decides again, if that is known.
    pub(crate) fn decides_from(&self) -> Option<Instant> {
        match lock(&self.state).store {
            StoreState::Reporting { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Returns the number of the present outage, or of the last one. A caller compares it with the number that it
    /// noted, to see whether that outage still lasts.
    pub(crate) fn outage(&self) -> Outage {
        lock(&self.state).outage
    }

    /// Notes the answer of the store to a call that was sent at `sent` with this `patience`.
    ///
    /// Of calls that were in flight at the same time, only one failure counts, since they are late together. A call
    /// that was given up long after its patience does not count: then this process stood still, not the store.
    pub(crate) fn note<T>(&self, answer: &Result<T, StoreError>, sent: Instant, patience: Duration, now: Instant) {
        let mut state = lock(&self.state);
        self.asked.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(_) => state.answered = now,
            Err(error) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                state.last_error = Some(error.clone());
                let is_one_of_many = state.failed.is_some_and(|failed| sent < failed);
                // A timer fires up to a millisecond late.
                let in_time = patience.saturating_mul(2).saturating_add(Duration::from_millis(2));
                if is_one_of_many || now.saturating_duration_since(sent) >= in_time {
                    return;
                }
                state.failed = Some(now);
            }
        }
        state.store = match (answer, state.store) {
            // Unasked => Unasked
            (_, StoreState::Unasked) => StoreState::Unasked,
            // Down => Reporting
            (Ok(_), StoreState::Down) => StoreState::Reporting { until: now + self.report_for, failures: 0 },
            // Reporting => Reporting
            (Ok(_), StoreState::Reporting { until, .. }) if now < until => StoreState::Reporting { until, failures: 0 },
            (Err(_), StoreState::Reporting { until, failures }) if failures + 1 < FAILURES => {
                StoreState::Reporting { until, failures: failures + 1 }
            }
            // (Up | Reporting) => Up
            (Ok(_), StoreState::Up { .. } | StoreState::Reporting { .. }) => StoreState::Up { failures: 0 },
            // Up => Up
            (Err(_), StoreState::Up { failures }) if failures + 1 < FAILURES => {
                if failures == 0 {
                    state.outage.0 += 1;
                }
                StoreState::Up { failures: failures + 1 }
            }
            // (Up | Down | Reporting) => Down
            (Err(_), StoreState::Up { .. } | StoreState::Down | StoreState::Reporting { .. }) => StoreState::Down,
        };
        self.show(&state);
    }

    /// Notes that the last flusher has gone. From now on the process decides alone.
    pub(crate) fn flushers_are_gone(&self, _crew: &mut Crew) {
        let mut state = lock(&self.state);
        if matches!(state.store, StoreState::Up { failures: 0 }) {
            state.outage.0 += 1;
        }
        // (Up | Down | Reporting | Unasked) => Unasked
        state.store = StoreState::Unasked;
        self.show(&state);
    }

    /// Notes that a flusher begins. If there was none for a time, the store is probed as after an outage. Returns
    /// whether there was such a time.
    pub(crate) fn flusher_begins(&self, _crew: &mut Crew) -> bool {
        let mut state = lock(&self.state);
        let was_unasked = state.store == StoreState::Unasked;
        if was_unasked {
            // Unasked => Down
            state.store = StoreState::Down;
            self.show(&state);
        }
        was_unasked
    }

    /// Lets the store decide again, if it answers and the time for reports is over.
    pub(crate) fn look(&self, now: Instant) {
        let mut state = lock(&self.state);
        if matches!(state.store, StoreState::Reporting { until, .. } if until <= now) {
            // Reporting => Up
            state.store = StoreState::Up { failures: 0 };
            self.show(&state);
        }
    }

    fn show(&self, state: &HealthState) {
        let decides = matches!(state.store, StoreState::Up { .. });
        self.decides.store(u64::from(decides), Ordering::Relaxed);
    }

    pub(crate) fn read(&self, store: &dyn Store, now: Instant) -> StoreHealth {
        // User code, so not under the lock.
        let concern = store.concern();
        let state = lock(&self.state);
        StoreHealth {
            is_up: matches!(state.store, StoreState::Up { .. }),
            asked: self.asked.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            staleness: now.saturating_duration_since(state.answered),
            last_error: state.last_error.clone(),
            concern,
        }
    }
}
