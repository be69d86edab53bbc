//! The latencies of backends and links.

use crate::error::ConfigError;
use rand::Rng;
use rand_distr::{Distribution, Exp1, LogNormal, StandardNormal};
use std::time::Duration;

/// The latency of a backend or a link: a constant or a distribution.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Latency {
    shape: Shape,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Fixed(Duration),
    Exponential { mean: Duration },
    LogNormal { median: Duration, sigma: f64 },
    Normal { mean: Duration, deviation: Duration },
    GrowingWithInFlight { base: Duration, per_call: Duration },
}

impl Latency {
    /// Returns a constant latency.
    pub const fn fixed(duration: Duration) -> Self {
        Self { shape: Shape::Fixed(duration) }
    }

    /// Returns an exponential distribution with this mean.
    pub const fn exponential(mean: Duration) -> Self {
        Self { shape: Shape::Exponential { mean } }
    }

    /// Returns a log-normal distribution: `sigma` is the standard deviation of the logarithm. With a sigma of 1, the
    /// p99 is about ten times the median.
    pub const fn log_normal(median: Duration, sigma: f64) -> Self {
        Self { shape: Shape::LogNormal { median, sigma } }
    }

    /// Returns a normal distribution in which each negative latency becomes zero.
    pub const fn normal(mean: Duration, deviation: Duration) -> Self {
        Self { shape: Shape::Normal { mean, deviation } }
    }

    /// Returns a model of congestion collapse: a busier backend is a slower one (M. Brooker, "Metastability and
    /// Distributed Systems", 2021). When a call begins, its latency is `base` plus `per_call` for each call in the
    /// backend, including waiting calls and itself. A link counts no calls, so its latency is `base`.
    pub const fn growing_with_in_flight(base: Duration, per_call: Duration) -> Self {
        Self { shape: Shape::GrowingWithInFlight { base, per_call } }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self.shape {
            Shape::LogNormal { sigma, .. } if !sigma.is_finite() || sigma < 0.0 => {
                Err(ConfigError::new("sim.latency.sigma", sigma, "must be a number of at least 0"))
            }
            _ => Ok(()),
        }
    }

    /// Draws a latency, with `in_flight` calls in the backend.
    pub(super) fn draw(&self, in_flight: u64, random: &mut dyn Rng) -> Duration {
        let scaled = |duration: Duration, factor: f64| {
            Duration::try_from_secs_f64((duration.as_secs_f64() * factor).max(0.0)).unwrap_or(Duration::MAX)
        };
        match self.shape {
            Shape::Fixed(duration) => duration,
            Shape::Exponential { mean } => scaled(mean, Exp1.sample(random)),
            Shape::LogNormal { median, sigma } => {
                // `check` refuses a sigma that `LogNormal` refuses, so the factor of 1 is never used.
                scaled(median, LogNormal::new(0.0, sigma).map_or(1.0, |factor| factor.sample(random)))
            }
            Shape::Normal { mean, deviation } => {
                let normal: f64 = StandardNormal.sample(random);
                let seconds = mean.as_secs_f64() + deviation.as_secs_f64() * normal;
                Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
            }
            Shape::GrowingWithInFlight { base, per_call } => {
                let calls = u32::try_from(in_flight).unwrap_or(u32::MAX);
                base.saturating_add(per_call.saturating_mul(calls))
            }
        }
    }
}
