use crate::{
    clock::Nanos,
    error::{ConfigError, check_duration},
    random::Random,
};
use rand::RngExt;
use std::{fmt, iter, time::Duration};

/// After this many doublings, even one nanosecond exceeds `u64::MAX` nanoseconds, the longest duration here.
const DOUBLINGS: u32 = 64;

/// A decorrelated wait is drawn from the wait before it, and so depends on all earlier waits. It hardly depends on
/// waits that are more than this many retries earlier.
const REMEMBERED: u32 = 64;

/// No valid configuration has more retries: it allows at most 1000 attempts. The worst case adds up the waits of this
/// many retries one by one. For each retry beyond, it adds the longest wait.
const SUMMED_RETRIES: u32 = 1000;

/// The wait before each retry. A ceiling grows up to a cap, and a jitter draws the wait, mostly below the ceiling.
///
/// The ceiling of the n-th retry, counted from 1, is
///
/// | backoff | ceiling |
/// |---|---|
/// | [`exponential`](Self::exponential) | `min(cap, base * 2^(n-1))` |
/// | [`linear`](Self::linear) | `min(cap, step * n)` |
/// | [`fixed`](Self::fixed) | `wait` |
///
/// The jitter is drawn below the cap. It is not added first and then cut off at the cap, which would make all clients
/// at the cap retry at one instant.
///
/// The formulas and names are from M. Brooker, "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015).
///
/// ```
/// use std::time::Duration;
/// use steadfast::{Random, retry::Backoff};
///
/// let backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(1));
/// assert_eq!(backoff.ceiling(1), Duration::from_millis(50));
/// assert_eq!(backoff.ceiling(3), Duration::from_millis(200));
/// assert_eq!(backoff.ceiling(99), Duration::from_secs(1));
///
/// // The waits of a retry loop of your own.
/// for (retry, wait) in (1..=3).zip(backoff.waits(&Random::new())) {
///     assert!(wait <= backoff.ceiling(retry));
/// }
/// ```
#[doc(alias = "ExponentialBackoff")]
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Backoff {
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::backoff_base"))]
    base: Duration,
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::backoff_cap"))]
    cap: Duration,
    growth: Growth,
    jitter: Jitter,
}

/// How the ceiling grows from one retry to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
pub(crate) enum Growth {
    /// Doubles.
    #[default]
    Exponential,
    /// Grows by the base.
    Linear,
}

/// How a wait is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Jitter {
    /// Uniform from zero to the ceiling. The default: it spreads the retries of many clients best, so that they succeed
    /// with the fewest attempts.
    #[default]
    Full,
    /// Uniform from half of the ceiling to the ceiling.
    Equal,
    /// Uniform from the base to three times the previous wait, or three times the base for the first retry. Ignores the
    /// ceiling. The published formula replaces a wait above the cap by the cap. Here such a wait is drawn again,
    /// uniformly from the last quarter below the cap, but not below the base.
    Decorrelated,
    /// Uniform around the ceiling, plus or minus this fraction (above 0, at most 1) of the ceiling. With a ceiling of
    /// 100 ms, `PlusMinus(0.2)` draws from 80 to 120 ms. No wait is longer than the cap: with a cap of 110 ms, it draws
    /// uniformly from 80 to 110 ms.
    PlusMinus(f64),
    /// The ceiling itself. Clients that fail together retry together. Use it in tests and comparisons.
    None,
}

impl Jitter {
    /// Returns the number of the variant, and the factor of [`PlusMinus`](Self::PlusMinus) or zero. Both are stored in
    /// place of the jitter, in the settings of a call and in a snapshot.
    pub(crate) fn numbers(self) -> (u32, f64) {
        match self {
            Self::Full => (0, 0.0),
            Self::Equal => (1, 0.0),
            Self::Decorrelated => (2, 0.0),
            Self::None => (3, 0.0),
            Self::PlusMinus(factor) => (4, factor),
        }
    }

    pub(crate) fn of_numbers(number: u32, factor: f64) -> Option<Self> {
        match number {
            0 => Some(Self::Full),
            1 => Some(Self::Equal),
            2 => Some(Self::Decorrelated),
            3 => Some(Self::None),
            4 => Some(Self::PlusMinus(factor)),
            _ => None,
        }
    }
}

impl Backoff {
    /// Doubles the ceiling of the waits from `base` up to `cap`, with full jitter.
    ///
    /// Checked when the retry is built: `base` must be at most `cap`. Both must be longer than zero and at most 366
    /// days, or both zero: then retries do not wait.
    pub const fn exponential(base: Duration, cap: Duration) -> Self {
        Self { base, cap, growth: Growth::Exponential, jitter: Jitter::Full }
    }

    /// Raises the ceiling of the waits from `step` up to `cap`, by `step` for each retry, with full jitter.
    ///
    /// Checked when the retry is built: `step` must be at most `cap`. Both must be longer than zero and at most 366
    /// days, or both zero: then retries do not wait.
    pub const fn linear(step: Duration, cap: Duration) -> Self {
        Self { base: step, cap, growth: Growth::Linear, jitter: Jitter::Full }
    }

    /// Waits exactly `wait` before each retry, without jitter.
    ///
    /// Clients that fail together then retry together. If there are many clients, add a [jitter](Self::jitter), such as
    /// [`Jitter::Full`]. The wait is also the cap, so [`Jitter::PlusMinus`] only shortens it.
    pub const fn fixed(wait: Duration) -> Self {
        Self { base: wait, cap: wait, growth: Growth::Exponential, jitter: Jitter::None }
    }

    /// Retries at once, without a wait.
    pub const fn none() -> Self {
        Self::fixed(Duration::ZERO)
    }

    /// Returns this backoff with another jitter.
    #[must_use]
    pub const fn jitter(self, jitter: Jitter) -> Self {
        Self { jitter, ..self }
    }

    /// Returns the ceiling of the n-th retry, counted from 1.
    ///
    /// It is the longest possible wait, with two exceptions. Only the cap bounds the waits of [`Jitter::Decorrelated`],
    /// and the waits of [`Jitter::PlusMinus`] can be longer than the ceiling, up to the cap.
    pub fn ceiling(&self, retry: u32) -> Duration {
        let base = u128::from(Nanos::of(self.base).0);
        let ceiling = match self.growth {
            // 64 bits shifted by at most 64 fit.
            Growth::Exponential => base << retry.saturating_sub(1).min(DOUBLINGS),
            Growth::Linear => base * u128::from(retry.max(1)),
        };
        Duration::from_nanos(u64::try_from(ceiling).unwrap_or(u64::MAX)).min(self.cap)
    }

    /// Draws the wait before the n-th retry, counted from 1. Each draw takes a short lock on the generator, except with
    /// [`Jitter::None`].
    ///
    /// Each wait of [`Jitter::Decorrelated`] depends on the one before. For this jitter, the function also draws up to
    /// 64 earlier waits. In a loop, use [`waits`](Self::waits), which draws each wait once.
    pub fn draw(&self, retry: u32, random: &Random) -> Duration {
        let previous = match self.jitter {
            Jitter::Decorrelated => {
                let before = retry.saturating_sub(1).min(REMEMBERED) as usize;
                self.waits(random).take(before).last().unwrap_or_default()
            }
            Jitter::Full | Jitter::Equal | Jitter::PlusMinus(_) | Jitter::None => Duration::ZERO,
        };
        self.draw_after(previous, retry, random)
    }

    /// Draws the waits before the first retry, the second, and so on. The iterator is endless. Each draw takes a short
    /// lock on the generator, except with [`Jitter::None`].
    pub fn waits(self, random: &Random) -> impl Iterator<Item = Duration> {
        let (mut retry, mut wait) = (0_u32, Duration::ZERO);
        iter::repeat_with(move || {
            retry = retry.saturating_add(1);
            wait = self.draw_after(wait, retry, random);
            wait
        })
    }

    /// Draws the wait before the n-th retry, counted from 1. `previous` is the wait before the previous retry,
    /// or zero for the first retry.
    pub(crate) fn draw_after(&self, previous: Duration, retry: u32, random: &Random) -> Duration {
        let ceiling = self.ceiling(retry);
        match self.jitter {
            Jitter::Full => uniform(Duration::ZERO, ceiling, random),
            Jitter::Equal => uniform(ceiling / 2, ceiling, random),
            Jitter::Decorrelated => {
                let drawn = uniform(self.base, previous.max(self.base).saturating_mul(3), random);
                let last_quarter = (self.cap - self.cap / 4).max(self.base).min(self.cap);
                if drawn <= self.cap { drawn } else { uniform(last_quarter, self.cap, random) }
            }
            Jitter::PlusMinus(factor) => {
                let spread = share(ceiling, factor);
                uniform(ceiling.saturating_sub(spread), ceiling.saturating_add(spread).min(self.cap), random)
            }
            Jitter::None => ceiling,
        }
    }

    /// Returns the base, the cap, the growth and the jitter.
    pub(crate) fn parts(&self) -> (Duration, Duration, Growth, Jitter) {
        (self.base, self.cap, self.growth, self.jitter)
    }

    pub(crate) fn of_parts((base, cap, growth, jitter): (Duration, Duration, Growth, Jitter)) -> Self {
        Self { base, cap, growth, jitter }
    }

    /// Returns the shortest possible wait before the first retry.
    pub(crate) fn shortest_first_wait(&self) -> Duration {
        let ceiling = self.ceiling(1);
        match self.jitter {
            Jitter::Full => Duration::ZERO,
            Jitter::Equal => ceiling / 2,
            Jitter::PlusMinus(factor) => ceiling.saturating_sub(share(ceiling, factor)),
            Jitter::Decorrelated | Jitter::None => ceiling,
        }
    }

    /// Returns the longest possible sum of the waits before `retries` retries.
    pub(crate) fn worst_case(&self, retries: u32) -> Duration {
        let longest = |retry| match self.jitter {
            Jitter::Decorrelated => self.cap,
            Jitter::PlusMinus(factor) => {
                let ceiling = self.ceiling(retry);
                ceiling.saturating_add(share(ceiling, factor)).min(self.cap)
            }
            Jitter::Full | Jitter::Equal | Jitter::None => self.ceiling(retry),
        };
        let summed = retries.min(SUMMED_RETRIES);
        let rest = longest(u32::MAX).saturating_mul(retries - summed);
        (1..=summed).map(longest).fold(rest, Duration::saturating_add)
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match self.jitter {
            Jitter::PlusMinus(factor) if !(factor > 0.0 && factor <= 1.0) => {
                return Err(ConfigError::new(
                    "retry.backoff.jitter.plus_minus",
                    factor,
                    "must be above 0 and at most 1",
                ));
            }
            _ => {}
        }
        if self.base.is_zero() && self.cap.is_zero() {
            return Ok(());
        }
        check_duration("retry.backoff.base", self.base)?;
        check_duration("retry.backoff.cap", self.cap)?;
        if self.base > self.cap {
            let rule = format!("must be at most the cap of {:?}", self.cap);
            return Err(ConfigError::new("retry.backoff.base", self.base, rule));
        }
        Ok(())
    }
}

impl Default for Backoff {
    /// The ceiling doubles from 50 ms to 2 s, with full jitter. The first retry comes soon enough for a user who waits.
    /// The cap gives a service time to restart.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(50), Duration::from_secs(2))
    }
}

fn uniform(lowest: Duration, highest: Duration, random: &Random) -> Duration {
    let width = Nanos::of(highest.saturating_sub(lowest)).0;
    lowest.saturating_add(Duration::from_nanos(random.with(|random| random.random_range(0..=width))))
}

/// Returns a fraction of a duration. The cast saturates, and turns NaN into zero.
fn share(duration: Duration, factor: f64) -> Duration {
    Duration::from_nanos((Nanos::of(duration).0 as f64 * factor) as u64)
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base, cap, growth, jitter } = *self;
        if cap.is_zero() {
            return f.write_str("no waits");
        }
        match jitter {
            Jitter::Decorrelated => write!(f, "waits from {base:?} up to {cap:?}")?,
            Jitter::None if base == cap => return write!(f, "waits of {base:?}"),
            Jitter::PlusMinus(_) if base == cap => write!(f, "waits of {base:?}")?,
            Jitter::Full | Jitter::Equal if base == cap => write!(f, "waits of at most {base:?}")?,
            _ => {
                // With these two jitters, the base is only the upper bound of the first wait.
                let at_most = if matches!(jitter, Jitter::Full | Jitter::Equal) { "at most " } else { "" };
                write!(f, "waits of {at_most}{base:?}, ")?;
                match growth {
                    Growth::Exponential => write!(f, "doubling up to {cap:?}")?,
                    Growth::Linear => write!(f, "growing by {base:?} up to {cap:?}")?,
                }
            }
        }
        match jitter {
            Jitter::Full => f.write_str(", full jitter"),
            Jitter::Equal => f.write_str(", equal jitter"),
            Jitter::Decorrelated => f.write_str(", decorrelated jitter"),
            Jitter::PlusMinus(factor) => write!(f, ", plus or minus {}%", (factor * 1000.0).round() / 10.0),
            Jitter::None => f.write_str(", no jitter"),
        }
    }
}
