//! The configuration of a queue, which can change while calls pass.

use super::{
    builder::{check_concurrency, check_depth, check_max_wait, check_max_weight},
    discipline::Discipline,
    pace,
    queue::Queue,
};
use crate::{
    clock::Nanos,
    error::ConfigError,
    pace::Pace,
    shell::{Course, Reconfigure},
};
use std::time::Duration;

/// The settings of a queue that can change, with the defaults and bounds of
/// [`QueueBuilder`](crate::load_level::QueueBuilder). Whether a queue is adaptive, and whether it serves by
/// criticality, is fixed when it is built.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct LoadLevelConfig {
    /// The most calls in the service.
    pub concurrency: usize,
    /// The most calls that wait.
    pub depth: usize,
    /// The largest total weight of all waiters. Default: no bound.
    #[cfg_attr(feature = "serde", serde(default))]
    pub max_weight: Option<u64>,
    /// The longest time that a call waits. Default: 1 s.
    #[cfg_attr(
        feature = "serde",
        serde(default = "LoadLevelConfig::default_max_wait", with = "crate::durations::max_wait")
    )]
    pub max_wait: Duration,
    /// Which waiter is served next, and which has waited too long.
    #[cfg_attr(feature = "serde", serde(default))]
    pub discipline: Discipline,
    /// The most calls that begin per period. Default: no pace. Calls then begin as soon as the service has room.
    #[cfg_attr(feature = "serde", serde(default))]
    pub pace: Option<Pace>,
}

impl LoadLevelConfig {
    /// Returns the settings with this concurrency and depth, and the defaults of all others.
    pub fn new(concurrency: usize, depth: usize) -> Self {
        Self {
            concurrency,
            depth,
            max_weight: None,
            max_wait: Self::default_max_wait(),
            discipline: Discipline::default(),
            pace: None,
        }
    }

    fn default_max_wait() -> Duration {
        Duration::from_secs(1)
    }
}

impl Queue {
    /// Applies all of these settings in one step. The setter of each says how it affects waiters. A setting that is
    /// already in force changes nothing.
    ///
    /// # Errors
    ///
    /// As [`build`](super::QueueBuilder::build); the old settings stay.
    pub fn configure(&self, config: &LoadLevelConfig) -> Result<(), ConfigError> {
        self.configure_quietly(config)?;
        self.wake_pending();
        Ok(())
    }

    /// Applies the settings without waking waiters. [`wake_pending`](Self::wake_pending) wakes those whose turn has
    /// come, once the caller holds no lock.
    fn configure_quietly(&self, config: &LoadLevelConfig) -> Result<(), ConfigError> {
        let (limit, pace) = checked(config)?;
        let LoadLevelConfig { depth, max_weight, max_wait, discipline, .. } = *config;
        self.change_quietly(|state, places, now| {
            let pace = pace.map(|pace| pace.in_place_of(state.pace, now));
            if (limit, pace) != (places.limit, state.pace) {
                state.capacity_changes(now);
            }
            if pace != state.pace {
                state.pace_changes();
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
    /// Returns an error if a queue cannot apply these settings.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        checked(self).map(drop)
    }
}

/// Returns the concurrency and the pace, if all settings are valid.
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

impl Reconfigure for Queue {
    type Config = LoadLevelConfig;

    fn read(&self) -> LoadLevelConfig {
        self.configuration()
    }

    fn check(&self, config: &LoadLevelConfig) -> Result<(), ConfigError> {
        config.check()
    }

    /// In one step, under the queue's lock. [`Course::Strictest`] would need an intermediate configuration that refuses
    /// exactly the calls that the old or the new one refuses. A queue has none, because its refusals depend on which
    /// calls wait already.
    fn course(&self, _now: &LoadLevelConfig, _to: &LoadLevelConfig) -> Course<LoadLevelConfig> {
        Course::AtOnce
    }

    fn apply(&self, config: &LoadLevelConfig) {
        // `check` has accepted these settings.
        let _ = self.configure_quietly(config);
    }

    fn settle(&self) {
        self.wake_pending();
    }
}
