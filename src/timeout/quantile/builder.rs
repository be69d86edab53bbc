use super::{Quantile, scale::Scale};
use crate::{
    clock::Nanos,
    error::{ConfigError, check_duration},
};
use std::time::Duration;

/// Builds a [`Quantile`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct QuantileBuilder {
    /// The false-timeout rate.
    rate: f64,
    floor: Duration,
    ceiling: Duration,
}

impl QuantileBuilder {
    pub(super) fn new(rate: f64) -> Self {
        Self { rate, floor: Duration::from_millis(1), ceiling: Duration::from_secs(30) }
    }

    /// Sets the shortest and the longest limit. The longest one applies until enough calls are known.
    ///
    /// Default: 1 ms, because timers fire at whole milliseconds, and 30 s, because few callers wait longer. For an
    /// attempt timeout choose a ceiling of at most half of the timeout of the call. The stack does not check this.
    pub fn between(self, floor: Duration, ceiling: Duration) -> Self {
        Self { floor, ceiling, ..self }
    }

    /// Builds the timeout.
    ///
    /// # Errors
    ///
    /// The rate must be from 0.0001 to 0.1. The floor and the ceiling must be longer than zero and at most 366 days.
    /// The floor must be at most the ceiling.
    pub fn build(self) -> Result<Quantile, ConfigError> {
        let Self { rate, floor, ceiling } = self;
        if !(0.0001..=0.1).contains(&rate) {
            return Err(ConfigError::new("timeout.rate", rate, "must be from 0.0001 to 0.1"));
        }
        check_duration("timeout.floor", floor)?;
        check_duration("timeout.ceiling", ceiling)?;
        if floor > ceiling {
            let rule = format!("must be at most the ceiling of {ceiling:?}");
            return Err(ConfigError::new("timeout.floor", floor, rule));
        }
        Ok(Quantile::new(rate, Scale::new(Nanos::of(floor), Nanos::of(ceiling))))
    }
}
