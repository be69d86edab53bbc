//! Queues that are told other settings while calls pass.

use super::{
    LoadLevelStage, Queue,
    builder::{check_concurrency, check_depth, check_max_wait, check_max_weight},
    pace,
};
use crate::{
    clock::Nanos,
    error::ConfigError,
    stack::live::{Configure, LoadLevelConfig, Mechanisms, Pace, StackConfig},
};

impl Queue {
    /// Goes by all of these settings from now on, in one step. What each does to those who wait, its own setter says; a
    /// setting that is the one in force does nothing.
    ///
    /// # Errors
    ///
    /// As [`build`](super::QueueBuilder::build); the old settings stay.
    pub fn configure(&self, config: &LoadLevelConfig) -> Result<(), ConfigError> {
        let (limit, pace) = checked(config)?;
        let LoadLevelConfig { depth, max_weight, max_wait, discipline, .. } = *config;
        self.change(|state, places, now| {
            let pace = pace.map(|pace| pace.in_place_of(state.pace, now));
            if (limit, pace) != (places.limit, state.pace) {
                state.capacity_changes(now);
            }
            (places.limit, state.pace) = (limit, pace);
            (state.depth, state.max_wait) = (depth, Nanos::of(max_wait));
            state.max_weight = max_weight.map_or(u128::MAX, u128::from);
            state.set_discipline(discipline);
            state.admit(places, now);
        });
        Ok(())
    }
}

impl LoadLevelConfig {
    /// Whether a queue can go by this.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        checked(self).map(drop)
    }
}

/// The concurrency and the pace, if all can be.
fn checked(config: &LoadLevelConfig) -> Result<(u32, Option<pace::Pace>), ConfigError> {
    let LoadLevelConfig { concurrency, depth, max_weight, max_wait, discipline, pace } = *config;
    let limit = check_concurrency(concurrency)?;
    check_depth(depth)?;
    max_weight.map_or(Ok(()), check_max_weight)?;
    check_max_wait(max_wait)?;
    discipline.check()?;
    let new_pace = |Pace { count, period }| pace::Pace::new("load_level.pace", count, period);
    Ok((limit, pace.map(new_pace).transpose()?))
}

impl<W, C, Next> Configure for LoadLevelStage<W, C, Next> {
    fn read(&self, config: &mut StackConfig) {
        config.load_level = Some(self.level.queue.configuration());
    }

    fn check(&self, config: &StackConfig) -> Result<(), ConfigError> {
        config.load_level.as_ref().map_or(Ok(()), LoadLevelConfig::check)
    }

    fn apply(&self, config: &StackConfig) {
        if let Some(config) = &config.load_level {
            // It was checked.
            let _ = self.level.queue.configure(config);
        }
    }
}

impl<W, C, Next: Mechanisms> Mechanisms for LoadLevelStage<W, C, Next> {
    fn each(&self, visit: &mut dyn FnMut(&dyn Configure)) {
        visit(self);
        self.next.each(visit);
    }
}
