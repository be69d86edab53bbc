//! The settings of a queue, read and changed while calls wait.

use super::Queue;
use crate::{
    clock::Nanos,
    error::ConfigError,
    load_level::{
        Discipline,
        builder::{check_concurrency, check_depth, check_max_wait, check_max_weight},
        config::LoadLevelConfig,
        pace::Pace,
        places::ServicePlaces,
        state::QueueState,
    },
    sync::lock,
};
use std::time::Duration;
use tokio::time::Instant;

impl Queue {
    /// Changes the concurrency: the number of calls that may be in the service. If more are in the service, they go on,
    /// and the queue admits no call until enough of them have ended. An adaptive concurrency limit can call this.
    ///
    /// # Errors
    ///
    /// The value must be from 1 to 2^31 - 1; otherwise the old one stays.
    pub fn set_concurrency(&self, concurrency: usize) -> Result<(), ConfigError> {
        let limit = check_concurrency(concurrency)?;
        self.change(|state, places, now| {
            places.limit = limit;
            state.capacity_changes(now);
            state.admit(places, now);
        });
        Ok(())
    }

    /// Changes the number of calls that may wait. In an [adaptive](Self::adaptive) queue this is the upper bound of the
    /// depth. If more calls wait, they stay. Once a newcomer that is worth more than they are needs a place, the queue
    /// refuses the surplus at once.
    ///
    /// # Errors
    ///
    /// The value must be at least 1; otherwise the old one stays.
    pub fn set_depth(&self, depth: usize) -> Result<(), ConfigError> {
        check_depth(depth)?;
        self.change(|state, _, _| state.depth = depth);
        Ok(())
    }

    /// Changes the largest total weight of all waiters. If the present waiters weigh more, they stay, as with
    /// [`set_depth`](Self::set_depth).
    ///
    /// # Errors
    ///
    /// The value must be at least 1; otherwise the old one stays.
    pub fn set_max_weight(&self, max_weight: u64) -> Result<(), ConfigError> {
        check_max_weight(max_weight)?;
        self.change(|state, _, _| state.max_weight = max_weight.into());
        Ok(())
    }

    /// Changes the longest time that a call may wait, for the calls that come from now on.
    ///
    /// # Errors
    ///
    /// The value must be longer than zero and at most 366 days; otherwise the old one stays.
    pub fn set_max_wait(&self, max_wait: Duration) -> Result<(), ConfigError> {
        check_max_wait(max_wait)?;
        self.change(|state, _, _| state.max_wait = Nanos::of(max_wait));
        Ok(())
    }

    /// Changes the discipline. Each waiter keeps its time to wait. A target of [`Discipline::adaptive`] also applies to
    /// the calls that wait already.
    ///
    /// # Errors
    ///
    /// As [`build`](crate::load_level::QueueBuilder::build); the old one stays.
    pub fn set_discipline(&self, discipline: Discipline) -> Result<(), ConfigError> {
        discipline.check()?;
        self.change(|state, _, _| state.set_discipline(discipline));
        Ok(())
    }

    /// Changes or removes the pace, for the waiters too. If the next call was due by now under the old pace, or there
    /// was no pace, it may begin now. Otherwise the interval of the new pace counts from the call that began last.
    ///
    /// # Errors
    ///
    /// As [`build`](crate::load_level::QueueBuilder::build); the old one stays.
    pub fn set_pace(&self, pace: Option<(u64, Duration)>) -> Result<(), ConfigError> {
        let pace = pace.map(|(calls, period)| Pace::new("load_level.pace", calls, period)).transpose()?;
        self.change(|state, places, now| {
            state.pace = pace.map(|pace| pace.in_place_of(state.pace, now));
            state.capacity_changes(now);
            state.pace_changes();
            state.admit(places, now);
        });
        Ok(())
    }

    /// Returns the settings of the queue that can change.
    pub fn configuration(&self) -> LoadLevelConfig {
        let state = lock(&self.shared.state);
        let pace = state.pace.map(|pace| pace.terms());
        LoadLevelConfig {
            concurrency: self.concurrency(),
            depth: state.depth,
            max_weight: u64::try_from(state.max_weight).ok(),
            max_wait: state.max_wait.duration(),
            discipline: state.discipline(),
            pace: pace.map(|(count, period)| crate::pace::Pace { count, period }),
        }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut QueueState, &mut ServicePlaces, Nanos)) {
        self.locked(Instant::now(), change);
    }

    /// Applies a change without waking waiters. [`wake_pending`](Self::wake_pending) wakes those whose turn has come.
    pub(in crate::load_level) fn change_quietly(
        &self,
        change: impl FnOnce(&mut QueueState, &mut ServicePlaces, Nanos),
    ) {
        drop(self.with_lock(Instant::now(), change));
    }

    /// Wakes the waiters whose turn has come through [`change_quietly`](Self::change_quietly).
    pub(in crate::load_level) fn wake_pending(&self) {
        self.change(|_, _, _| {});
    }

    pub(crate) fn describe(&self) -> String {
        lock(&self.shared.state).describe(self.shared.word.places().limit)
    }

    pub(crate) fn longest_wait(&self) -> Duration {
        lock(&self.shared.state).max_wait.duration()
    }
}
