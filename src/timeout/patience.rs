use super::{PerRequest, Quantile, quantile::Era};
use crate::{
    deadline::Deadline,
    error::{ConfigError, check_duration},
    shell::{CallSettings, Explanation, Frame},
    words::Wait,
};
use std::{fmt, time::Duration};
use tokio::time::Instant;

mod sealed {
    pub trait Sealed {}
    impl Sealed for std::time::Duration {}
    impl Sealed for super::Quantile {}
    impl<F> Sealed for super::PerRequest<F> {}
}

/// How long a call may take: a [`Duration`], a [`Quantile`] that learns from the calls, or a [`PerRequest`] that
/// chooses a limit for each request.
///
/// The trait is sealed. Generic code names it to pass a limit to a builder.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a timeout",
    label = "expected a `Duration`, a `timeout::Quantile` or a `timeout::PerRequest`",
    note = "build a quantile before you use it: `Quantile::builder(0.001).build()?`",
    note = "wrap a closure: `PerRequest::new(|request: &Request| ..)`"
)]
pub trait Patience: sealed::Sealed + fmt::Debug {
    /// The state that a call keeps: none for a duration.
    #[doc(hidden)]
    type Kept: Copy + fmt::Debug;
    /// Whether the limit is learned from calls.
    #[doc(hidden)]
    const LEARNS: bool;

    /// Returns the limit of a call, if it has one. `of_settings` returns the limit in the settings of a live stack; it
    /// replaces a fixed limit, and no other.
    #[doc(hidden)]
    fn limit(&self, kept: Self::Kept, of_settings: impl FnOnce() -> Option<Duration>) -> Option<Duration>;

    /// Returns whether a call is refused because the time that it has left is too short for any answer. A learned limit
    /// lets one such call in a second pass, and notes that it did.
    #[doc(hidden)]
    fn is_hopeless(&self, left: Duration, now: Instant) -> bool;

    /// Learns that the service answered with a [`Success`](crate::Outcome::Success).
    #[doc(hidden)]
    fn answered(&self, kept: Self::Kept, now: impl FnOnce() -> Instant);

    /// Learns that the call was given up at its limit.
    #[doc(hidden)]
    fn given_up(&self, kept: Self::Kept);

    /// Learns from a call that ended without a success at `now`, if it ended within a millisecond of its limit or of an
    /// inherited deadline, or later.
    #[doc(hidden)]
    fn failed(&self, kept: Self::Kept, now: impl FnOnce() -> Instant);

    /// Predicts whether a call that begins at `due` with this time left is hopeless. Changes no state.
    #[doc(hidden)]
    fn would_be_hopeless(&self, left: Duration, due: Instant) -> bool;

    /// Learns that another deadline ended the call.
    #[doc(hidden)]
    fn cut(&self, kept: Self::Kept, now: impl FnOnce() -> Instant);

    /// Returns the longest possible limit, if there is a maximum.
    #[doc(hidden)]
    fn longest(&self) -> Option<Duration>;

    /// Returns the limit, if it is fixed and a configuration can replace it. Otherwise returns the rule that a
    /// configuration breaks if it sets this limit.
    #[doc(hidden)]
    fn fixed(&self) -> Result<Duration, &'static str>;

    /// Checks the limit. `field` is its name in the error.
    #[doc(hidden)]
    fn check(&self, field: &'static str) -> Result<(), ConfigError>;

    /// Adds the instrument of a learned limit to the explanation.
    #[doc(hidden)]
    fn explain(&self, explanation: &mut Explanation);
}

/// A [`Patience`] for calls with this request.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not choose a limit for a `{Request}`",
    label = "its closure takes another request"
)]
pub trait PatienceWith<Request>: Patience {
    /// Whether the limit depends on the request, so that it is chosen before the inner stages start.
    #[doc(hidden)]
    const READS_REQUEST: bool;

    /// Returns the state of a call that begins now.
    #[doc(hidden)]
    fn begin(&self, request: &Request, frame: &mut Frame) -> Self::Kept;
}

impl Patience for Duration {
    type Kept = ();
    const LEARNS: bool = false;

    #[inline]
    fn limit(&self, (): (), of_settings: impl FnOnce() -> Option<Duration>) -> Option<Duration> {
        Some(of_settings().unwrap_or(*self))
    }

    #[inline]
    fn is_hopeless(&self, _left: Duration, _now: Instant) -> bool {
        false
    }

    #[inline]
    fn answered(&self, (): (), _now: impl FnOnce() -> Instant) {}

    #[inline]
    fn given_up(&self, (): ()) {}

    #[inline]
    fn failed(&self, (): (), _now: impl FnOnce() -> Instant) {}

    #[inline]
    fn would_be_hopeless(&self, _left: Duration, _due: Instant) -> bool {
        false
    }

    #[inline]
    fn cut(&self, (): (), _now: impl FnOnce() -> Instant) {}

    fn longest(&self) -> Option<Duration> {
        Some(*self)
    }

    fn fixed(&self) -> Result<Duration, &'static str> {
        Ok(*self)
    }

    fn check(&self, field: &'static str) -> Result<(), ConfigError> {
        check_duration(field, *self)
    }

    fn explain(&self, _explanation: &mut Explanation) {}
}

impl<Request> PatienceWith<Request> for Duration {
    const READS_REQUEST: bool = false;

    #[inline]
    fn begin(&self, _request: &Request, _frame: &mut Frame) {}
}

/// When a call began, its limit at that time, and the era in which it counts. A new era begins when the limit begins
/// again at the ceiling.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    at: Instant,
    limit: Duration,
    /// The deadline that the call inherited.
    given: Deadline,
    era: Era,
}

/// The resolution of timers: inner stages may give up this much earlier than the deadline that they inherit.
const TIMER: Duration = Duration::from_millis(1);

impl Patience for Quantile {
    type Kept = Begun;
    const LEARNS: bool = true;

    #[inline]
    fn limit(&self, kept: Begun, _of_settings: impl FnOnce() -> Option<Duration>) -> Option<Duration> {
        Some(kept.limit)
    }

    #[inline]
    fn is_hopeless(&self, left: Duration, now: Instant) -> bool {
        self.refuses(left, now)
    }

    #[inline]
    fn answered(&self, kept: Begun, now: impl FnOnce() -> Instant) {
        self.record_of(kept.era, now().saturating_duration_since(kept.at));
    }

    #[inline]
    fn given_up(&self, kept: Begun) {
        self.given_up_of(kept.era, kept.limit);
    }

    fn failed(&self, kept: Begun, now: impl FnOnce() -> Instant) {
        let now = now();
        let spent = now.saturating_duration_since(kept.at);
        if spent.saturating_add(TIMER) > kept.limit {
            self.given_up_of(kept.era, kept.limit);
        } else if kept.given.remaining(now).is_some_and(|left| left < TIMER) {
            self.cut_of(kept.era, spent);
        }
    }

    fn would_be_hopeless(&self, left: Duration, due: Instant) -> bool {
        self.would_refuse(left, due)
    }

    #[inline]
    fn cut(&self, kept: Begun, now: impl FnOnce() -> Instant) {
        self.cut_of(kept.era, now().saturating_duration_since(kept.at));
    }

    fn longest(&self) -> Option<Duration> {
        Some(self.ceiling())
    }

    fn fixed(&self) -> Result<Duration, &'static str> {
        Err("must be left out: the stack learns this timeout")
    }

    fn check(&self, _field: &'static str) -> Result<(), ConfigError> {
        Ok(())
    }

    fn explain(&self, explanation: &mut Explanation) {
        explanation.instrument(self.clone());
    }
}

impl<Request> PatienceWith<Request> for Quantile {
    const READS_REQUEST: bool = false;

    #[inline]
    fn begin(&self, _request: &Request, frame: &mut Frame) -> Begun {
        let given = frame.inherited().deadline();
        Begun { at: frame.now(), limit: self.current(), given, era: self.era() }
    }
}

/// The limit that the closure chose for a call.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Chosen(Wait);

impl<F> Patience for PerRequest<F> {
    type Kept = Chosen;
    const LEARNS: bool = false;

    #[inline]
    fn limit(&self, kept: Chosen, _of_settings: impl FnOnce() -> Option<Duration>) -> Option<Duration> {
        kept.0.get()
    }

    #[inline]
    fn is_hopeless(&self, _left: Duration, _now: Instant) -> bool {
        false
    }

    #[inline]
    fn answered(&self, _kept: Chosen, _now: impl FnOnce() -> Instant) {}

    #[inline]
    fn given_up(&self, _kept: Chosen) {}

    #[inline]
    fn failed(&self, _kept: Chosen, _now: impl FnOnce() -> Instant) {}

    #[inline]
    fn would_be_hopeless(&self, _left: Duration, _due: Instant) -> bool {
        false
    }

    #[inline]
    fn cut(&self, _kept: Chosen, _now: impl FnOnce() -> Instant) {}

    fn longest(&self) -> Option<Duration> {
        None
    }

    fn fixed(&self) -> Result<Duration, &'static str> {
        Err("must be left out: the stack chooses this timeout for each request")
    }

    fn check(&self, _field: &'static str) -> Result<(), ConfigError> {
        Ok(())
    }

    fn explain(&self, _explanation: &mut Explanation) {}
}

impl<Request, F> PatienceWith<Request> for PerRequest<F>
where
    F: Fn(&Request) -> Option<Duration>,
{
    const READS_REQUEST: bool = true;

    #[inline]
    fn begin(&self, request: &Request, frame: &mut Frame) -> Chosen {
        let limit = self.choose(request);
        frame.user_code_runs();
        Chosen(Wait::of(limit))
    }
}

/// Returns the limit in the settings of a live stack, if there are any.
#[inline]
pub(super) fn of_settings(settings: Option<&CallSettings>, of: super::Of) -> Option<Duration> {
    settings.and_then(|settings| of.limit(settings))
}
