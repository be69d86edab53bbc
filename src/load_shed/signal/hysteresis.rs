use crate::error::ConfigError;

/// The levels of a [`Signal`](super::Signal) at which overload begins and ends. Between them the state stays, so that a
/// level near one bound does not change the state at each reading.
///
/// | state | level | next |
/// |---|---|---|
/// | normal | at or above the upper bound | overloaded |
/// | overloaded | below the lower bound, or unknown | normal |
///
/// ```
/// use steadfast::load_shed::Hysteresis;
///
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// let cpu = Hysteresis::new(0.9, 0.7)?;
/// assert!(Hysteresis::new(0.7, 0.9).is_err());
/// # let _ = cpu;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hysteresis {
    high: f64,
    low: f64,
}

/// Overloaded at 1, the bound of the signal. Recovered below 0.8, which leaves room for the returning load.
impl Default for Hysteresis {
    fn default() -> Self {
        Self { high: 1.0, low: 0.8 }
    }
}

impl Hysteresis {
    /// Begins overload at `overloaded_at` and above, and ends it below `recovered_below`.
    ///
    /// # Errors
    ///
    /// Both must be above 0 and at most 1, and the second below the first.
    pub fn new(overloaded_at: f64, recovered_below: f64) -> Result<Self, ConfigError> {
        if !(overloaded_at > 0.0 && overloaded_at <= 1.0) {
            let rule = "must be above 0 and at most 1";
            return Err(ConfigError::new("load_shed.signal.overloaded_at", overloaded_at, rule));
        }
        if !(recovered_below > 0.0 && recovered_below < overloaded_at) {
            let rule = format!("must be above 0 and below overloaded_at, {overloaded_at}");
            return Err(ConfigError::new("load_shed.signal.recovered_below", recovered_below, rule));
        }
        Ok(Self { high: overloaded_at, low: recovered_below })
    }

    /// Returns whether the state after this level is overloaded. A level of `None` is unknown.
    pub(super) fn step(self, is_overloaded: bool, level: Option<f64>) -> bool {
        let Some(level) = level.filter(|level| !level.is_nan()) else { return false };
        let level = level.clamp(0.0, 1.0);
        if is_overloaded { level >= self.low } else { level >= self.high }
    }
}

#[cfg(all(test, not(steadfast_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_invalid_bound_is_named_by_the_error() {
        for (high, low, field) in [
            (f64::NAN, 0.5, "load_shed.signal.overloaded_at"),
            (0.0, 0.0, "load_shed.signal.overloaded_at"),
            (1.1, 0.5, "load_shed.signal.overloaded_at"),
            (0.9, 0.9, "load_shed.signal.recovered_below"),
            (0.9, 0.0, "load_shed.signal.recovered_below"),
            (0.9, f64::NAN, "load_shed.signal.recovered_below"),
        ] {
            assert_eq!(Hysteresis::new(high, low).unwrap_err().field(), field, "{high} {low}");
        }
    }

    #[test]
    fn an_unknown_level_is_no_overload() {
        let bounds = Hysteresis::default();
        assert!(bounds.step(false, Some(1.0)));
        assert!(bounds.step(false, Some(f64::INFINITY)));
        for unknown in [None, Some(f64::NAN)] {
            assert!(!bounds.step(true, unknown) && !bounds.step(false, unknown));
        }
    }

    proptest! {
        #[test]
        fn it_is_overloaded_from_the_last_high_level_until_a_low_one(
            bounds in (0.01..=1.0_f64, 0.01..0.99_f64),
            levels in proptest::collection::vec(-0.5..1.5_f64, 1..100),
        ) {
            let (high, low) = (bounds.0, bounds.0 * bounds.1);
            let hysteresis = Hysteresis::new(high, low).unwrap();
            let mut state = false;
            for (at, level) in levels.iter().enumerate() {
                state = hysteresis.step(state, Some(*level));
                // The last level outside of the two bounds decides.
                let decisive = levels[..=at].iter().rev().find(|level| **level >= high || **level < low);
                prop_assert_eq!(state, decisive.is_some_and(|level| *level >= high));
            }
        }
    }
}
