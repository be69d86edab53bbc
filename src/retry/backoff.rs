use crate::{
    clock::nanos,
    error::{ConfigError, check_duration},
    random::Random,
};
use rand::RngExt;
use std::{fmt, time::Duration};

/// How long to wait before each retry: a ceiling that doubles up to a cap, and how the wait is drawn below it.
///
/// The ceiling of the n-th retry, from 1, is `min(cap, base * 2^(n-1))`. The jitter is drawn below the cap, never added
/// on top and cut off by it, so that clients that have reached the cap do not line up on one instant.
///
/// Formulas and names are those of M. Brooker, "Exponential Backoff and Jitter" (AWS Architecture Blog, 2015).
///
/// ```
/// use std::time::Duration;
/// use steadfast::retry::Backoff;
///
/// let backoff = Backoff::exponential(Duration::from_millis(50), Duration::from_secs(1));
/// assert_eq!(backoff.ceiling(1), Duration::from_millis(50));
/// assert_eq!(backoff.ceiling(3), Duration::from_millis(200));
/// assert_eq!(backoff.ceiling(99), Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Backoff {
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::backoff_base"))]
    base: Duration,
    #[cfg_attr(feature = "serde", serde(with = "crate::durations::backoff_cap"))]
    cap: Duration,
    jitter: Jitter,
}

/// How a wait is drawn below the ceiling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Jitter {
    /// Uniform from zero to the ceiling. The default: it spreads clients the most for the fewest calls.
    #[default]
    Full,
    /// Half of the ceiling, and the other half uniform.
    Equal,
    /// Uniform from the base to three times the wait before. The ceiling does not count. The published formula cuts what
    /// is drawn beyond the cap off at it; here that is drawn again, uniformly from the last quarter below the cap.
    Decorrelated,
    /// The ceiling itself. Clients that fail together retry together: for tests and comparison.
    None,
}

impl Backoff {
    /// Waits that double from `base` up to `cap`, with full jitter.
    ///
    /// Checked when the retry is built: both must be longer than zero, and `base` at most `cap`.
    pub const fn exponential(base: Duration, cap: Duration) -> Self {
        Self { base, cap, jitter: Jitter::Full }
    }

    /// No wait at all: retries follow at once.
    pub const fn none() -> Self {
        Self { base: Duration::ZERO, cap: Duration::ZERO, jitter: Jitter::None }
    }

    /// The same backoff with another jitter.
    #[must_use]
    pub const fn jitter(self, jitter: Jitter) -> Self {
        Self { jitter, ..self }
    }

    /// The longest possible wait before the n-th retry, counted from 1, but for [`Jitter::Decorrelated`], whose waits
    /// are bounded by the cap alone.
    pub fn ceiling(&self, retry: u32) -> Duration {
        // 64 bits shifted by at most 64 fit.
        let base = u128::from(nanos(self.base));
        let ceiling = base << retry.saturating_sub(1).min(DOUBLINGS);
        Duration::from_nanos(u64::try_from(ceiling).unwrap_or(u64::MAX)).min(self.cap)
    }

    /// Draws the wait before the n-th retry, counted from 1. `previous` is the wait before the last one, zero at first;
    /// only [`Jitter::Decorrelated`] looks at it.
    pub fn draw(&self, retry: u32, previous: Duration, random: &Random) -> Duration {
        let ceiling = self.ceiling(retry);
        match self.jitter {
            Jitter::Full => uniform(Duration::ZERO, ceiling, random),
            Jitter::Equal => uniform(ceiling / 2, ceiling, random),
            Jitter::Decorrelated => {
                let drawn = uniform(self.base, previous.max(self.base).saturating_mul(3), random);
                let last_quarter = (self.cap - self.cap / 4).max(self.base).min(self.cap);
                if drawn <= self.cap { drawn } else { uniform(last_quarter, self.cap, random) }
            }
            Jitter::None => ceiling,
        }
    }

    /// The base, the cap, and the jitter.
    pub(crate) fn parts(&self) -> (Duration, Duration, Jitter) {
        (self.base, self.cap, self.jitter)
    }

    /// The shortest wait that can come before the first retry.
    pub(crate) fn shortest_first_wait(&self) -> Duration {
        match self.jitter {
            Jitter::Full => Duration::ZERO,
            Jitter::Equal => self.ceiling(1) / 2,
            Jitter::Decorrelated | Jitter::None => self.ceiling(1),
        }
    }

    /// The longest that the waits before `retries` retries can add up to.
    pub(crate) fn worst_case(&self, retries: u32) -> Duration {
        let longest = |retry| match self.jitter {
            Jitter::Decorrelated => self.cap,
            Jitter::Full | Jitter::Equal | Jitter::None => self.ceiling(retry),
        };
        // Past the last doubling every wait is the cap, or the base is zero.
        let doubling = retries.min(DOUBLINGS);
        let rest = longest(u32::MAX).saturating_mul(retries - doubling);
        (1..=doubling).map(longest).fold(rest, Duration::saturating_add)
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if *self == Self::none().jitter(self.jitter) {
            return Ok(());
        }
        check_duration("retry.backoff.base", self.base)?;
        check_duration("retry.backoff.cap", self.cap)?;
        if self.base > self.cap {
            return Err(ConfigError::new("retry.backoff.base", self.base, "must be at most the cap"));
        }
        Ok(())
    }
}

impl Default for Backoff {
    /// From 50 ms to 2 s: the first retry comes soon enough for a user who waits, the cap gives a service that restarts
    /// the time to.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(50), Duration::from_secs(2))
    }
}

fn uniform(lowest: Duration, highest: Duration, random: &Random) -> Duration {
    let width = nanos(highest.saturating_sub(lowest));
    lowest.saturating_add(Duration::from_nanos(random.with(|random| random.random_range(0..=width))))
}

/// After so many doublings a nanosecond is longer than any duration here.
const DOUBLINGS: u32 = 64;

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base, cap, .. } = self;
        let jitter = match self.jitter {
            _ if *self == Self::none() => return f.write_str("no waits"),
            Jitter::Full => "full jitter",
            Jitter::Equal => "equal jitter",
            Jitter::Decorrelated => return write!(f, "waits from {base:?} up to {cap:?}, decorrelated jitter"),
            Jitter::None => "no jitter",
        };
        write!(f, "waits of at most {base:?}, doubling up to {cap:?}, {jitter}")
    }
}
