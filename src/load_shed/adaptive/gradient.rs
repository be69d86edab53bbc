use super::algorithm::{Algorithm, Limit, Window};
use crate::error::ConfigError;

/// Compares the latency of a window with the mean of many windows, and lowers the limit when the latency has grown.
///
/// The formula is that of Netflix's `Gradient2Limit`. The gradient is `tolerance * mean / latency`, clamped to between
/// one half and one. The wanted limit is the present limit times the gradient, plus the square root of the present
/// limit as room for a queue. Each window moves the limit half of the way to the wanted limit. The limit does not grow
/// while less than half of it is in use.
///
/// The mean follows a changed latency within one to a few hundred windows, so that a service that becomes slower for
/// good is not throttled forever.
///
/// `Gradient` needs no deadlines. If they are known, [`Little`](super::Little) does better in a metastable collapse. In
/// simulations it served 83% to 97% of the calls, a gradient 56% to 78%. In other simulations the service became three
/// times slower for a while, under loads of 0.8, 1.5 and 3 times its capacity before. Compared with the best fixed
/// limit, a gradient lost 5% of the goodput at the load of 0.8, and nothing at the other two. `Little` lost 3% to 4% at
/// these loads. See `examples/experiments`, E4 and E11.
#[derive(Clone, Debug)]
pub struct Gradient {
    limit: f64,
    tolerance: f64,
    /// The mean latency of many windows, in seconds; zero before the first window.
    usual: f64,
}

/// The weight of a window in the mean of many.
const SHARE_OF_WINDOW: f64 = 1.0 / 100.0;

impl Gradient {
    /// Starts with this limit. Latencies up to `tolerance` times the mean do not lower it. A usual tolerance is 1.5.
    ///
    /// # Errors
    ///
    /// The limit must be at least 1, and the tolerance from 1 to 1000.
    pub fn new(limit: usize, tolerance: f64) -> Result<Self, ConfigError> {
        if limit == 0 {
            return Err(ConfigError::new("gradient.limit", limit, "must be at least 1"));
        }
        if !(1.0..=1000.0).contains(&tolerance) {
            return Err(ConfigError::new("gradient.tolerance", tolerance, "must be from 1 to 1000"));
        }
        Ok(Self { limit: limit as f64, tolerance, usual: 0.0 })
    }
}

impl Algorithm for Gradient {
    fn first(&mut self) -> Limit {
        Limit::Calls(self.limit as usize)
    }

    fn learn(&mut self, window: &Window) -> Limit {
        let now = window.mean_latency.as_secs_f64();
        if window.measured == 0 || now <= 0.0 {
            return self.first();
        }
        // A latency above twice the mean counts as twice the mean, so that one very slow window moves the mean little.
        self.usual = if self.usual == 0.0 {
            now
        } else {
            self.usual + (now.min(2.0 * self.usual) - self.usual) * SHARE_OF_WINDOW
        };
        let gradient = (self.tolerance * self.usual / now).clamp(0.5, 1.0);
        let wanted = self.limit * gradient + self.limit.sqrt();
        let is_used = 2 * window.most_in_flight >= self.limit as usize;
        if wanted < self.limit || is_used {
            self.limit = (self.limit + (wanted - self.limit) / 2.0).clamp(1.0, 1e12);
        }
        self.first()
    }
}
