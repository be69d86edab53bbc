use super::Quantile;
use crate::{
    error::{ConfigError, check_duration},
    shell::{CallSettings, Explanation},
};
use std::{fmt, time::Duration};
use tokio::time::Instant;

mod sealed {
    pub trait Sealed {}
    impl Sealed for std::time::Duration {}
    impl Sealed for super::Quantile {}
}

/// How long a call may take: a [`Duration`], or a [`Quantile`] that is learned from the calls.
///
/// It is sealed: generic code that passes a limit on to a builder names it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no timeout",
    label = "neither a `Duration` nor a `timeout::Quantile`",
    note = "build a quantile before it is used: `Quantile::builder(0.001).build()?`"
)]
pub trait Patience: sealed::Sealed + Clone + fmt::Debug {
    /// What a call keeps: nothing for a duration.
    #[doc(hidden)]
    type Kept: Copy + fmt::Debug;
    /// Whether it learns from calls, and so reads the clock where they begin.
    #[doc(hidden)]
    const LEARNS: bool;

    /// What a call keeps that begins now.
    #[doc(hidden)]
    fn begin(&self, now: impl FnOnce() -> Instant) -> Self::Kept;

    /// The limit of a call.
    #[doc(hidden)]
    fn limit(&self, kept: Self::Kept, of_settings: impl FnOnce() -> Option<Duration>) -> Duration;

    /// The service answered.
    #[doc(hidden)]
    fn answered(&self, kept: Self::Kept, now: impl FnOnce() -> Instant);

    /// The call was given up at its limit.
    #[doc(hidden)]
    fn given_up(&self, kept: Self::Kept);

    /// The longest limit.
    #[doc(hidden)]
    fn longest(&self) -> Duration;

    /// The limit as a configuration has it.
    #[doc(hidden)]
    fn fixed(&self) -> Option<Duration>;

    #[doc(hidden)]
    fn check(&self, field: &'static str) -> Result<(), ConfigError>;

    #[doc(hidden)]
    fn explain(&self, explanation: &mut Explanation);
}

impl Patience for Duration {
    type Kept = ();
    const LEARNS: bool = false;

    #[inline]
    fn begin(&self, _now: impl FnOnce() -> Instant) {}

    #[inline]
    fn limit(&self, (): (), of_settings: impl FnOnce() -> Option<Duration>) -> Duration {
        of_settings().unwrap_or(*self)
    }

    #[inline]
    fn answered(&self, (): (), _now: impl FnOnce() -> Instant) {}

    #[inline]
    fn given_up(&self, (): ()) {}

    fn longest(&self) -> Duration {
        *self
    }

    fn fixed(&self) -> Option<Duration> {
        Some(*self)
    }

    fn check(&self, field: &'static str) -> Result<(), ConfigError> {
        check_duration(field, *self)
    }

    fn explain(&self, _explanation: &mut Explanation) {}
}

/// When a call began, and its limit then.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    at: Instant,
    limit: Duration,
}

impl Patience for Quantile {
    type Kept = Begun;
    const LEARNS: bool = true;

    #[inline]
    fn begin(&self, now: impl FnOnce() -> Instant) -> Begun {
        Begun { at: now(), limit: self.current() }
    }

    #[inline]
    fn limit(&self, kept: Begun, _of_terms: impl FnOnce() -> Option<Duration>) -> Duration {
        kept.limit
    }

    #[inline]
    fn answered(&self, kept: Begun, now: impl FnOnce() -> Instant) {
        self.record(now().saturating_duration_since(kept.at));
    }

    #[inline]
    fn given_up(&self, kept: Begun) {
        self.censored(kept.limit);
    }

    fn longest(&self) -> Duration {
        self.ceiling()
    }

    fn fixed(&self) -> Option<Duration> {
        None
    }

    fn check(&self, _field: &'static str) -> Result<(), ConfigError> {
        Ok(())
    }

    fn explain(&self, explanation: &mut Explanation) {
        explanation.instrument(self.clone());
    }
}

/// The limit of settings that may be missing.
#[inline]
pub(super) fn of_settings(settings: Option<&CallSettings>, of: super::Of) -> Option<Duration> {
    settings.and_then(|settings| of.limit(settings))
}
