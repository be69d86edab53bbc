use super::algorithm::{Algorithm, Limit, Window};
use crate::error::ConfigError;

/// Additive increase, multiplicative decrease, as in TCP's congestion control and the limits of other libraries.
///
/// After a window with late calls the limit is multiplied by a factor. After a window without late calls it grows by
/// one call, if at least half of it was in use.
///
/// Use it where deadlines are known but say little about how long a call should take, as with streams.
/// [`Little`](super::Little) does better in a metastable collapse: in simulations it served 83% to 97% of the calls,
/// AIMD 44% to 58%. While a service was three times slower, AIMD lost less than 1% of the goodput of the best fixed
/// limit, and `Little` 3% to 4%. See `examples/experiments`, E4 and E11.
#[derive(Clone, Debug)]
pub struct Aimd {
    limit: f64,
    factor: f64,
}

impl Aimd {
    /// Starts with this limit and multiplies it by `factor` after a window with late calls. Usual factors are 0.9 and
    /// 0.95.
    ///
    /// # Errors
    ///
    /// The limit must be at least 1, and the factor between 0 and 1.
    pub fn new(limit: usize, factor: f64) -> Result<Self, ConfigError> {
        if limit == 0 {
            return Err(ConfigError::new("aimd.limit", limit, "must be at least 1"));
        }
        if !(factor > 0.0 && factor < 1.0) {
            return Err(ConfigError::new("aimd.factor", factor, "must be above 0 and below 1"));
        }
        Ok(Self { limit: limit as f64, factor })
    }
}

impl Algorithm for Aimd {
    fn first(&mut self) -> Limit {
        Limit::Calls(self.limit as usize)
    }

    fn learn(&mut self, window: &Window) -> Limit {
        if window.late > 0 {
            self.limit = (self.limit * self.factor).max(1.0);
        } else if 2 * window.most_in_flight >= self.limit as usize {
            self.limit += 1.0;
        }
        self.first()
    }
}
