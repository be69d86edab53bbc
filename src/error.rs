//! The errors of calls and of configurations.
//!
//! A layer that refuses or ends a call returns a [`Rejection`], one type for the whole crate. It says which mechanism
//! rejected the call, whether the call had reached the service, and when another attempt makes sense. A call through a
//! stack ends with the service's answer or with an [`Error`]. `Error` keeps the service's own error, of any type.
//!
//! # Without tower
//!
//! Most handles used without tower, such as a [`Breaker`](crate::circuit_breaker::Breaker), return only the details:
//! [`CircuitOpen`], [`Overloaded`], [`RateLimited`]. A [`Queue`](crate::load_level::Queue) returns a [`Rejection`]. The
//! messages of the details do not name the mechanism, because the caller of the handle knows it. A `Rejection` made
//! `from` the details names the mechanism:
//!
//! ```
//! use steadfast::{Rejection, load_shed::Limiter};
//!
//! # fn main() -> Result<(), steadfast::ConfigError> {
//! let limiter = Limiter::fixed(1)?;
//! let _permit = limiter.try_acquire().unwrap();
//! let refused = limiter.try_acquire().unwrap_err();
//! assert_eq!(refused.to_string(), "1 call is in flight already");
//! assert_eq!(Rejection::from(refused).to_string(), "load shed: 1 call is in flight already");
//! # Ok(())
//! # }
//! ```

mod chain;
mod closed;
mod details;
mod overloaded;
mod readable;
mod timed_out;

pub use chain::chain;
pub use closed::Closed;
pub use details::{CircuitOpen, QueueFull, QueueFullCause, RateLimited, SwitchedOff, WaitedTooLong};
pub use overloaded::{Overloaded, OverloadedCause};
pub use timed_out::{TimedOut, TimedOutBy, TimedOutIn};

use crate::words::Flag;
use std::{borrow::Cow, error, fmt, time::Duration};
use thiserror::Error as ThisError;
use tower::BoxError;

/// Why a mechanism of this crate refused or ended a call.
///
/// Each variant holds its details. `Display` prints the mechanism and the details in one line.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum Rejection {
    /// The call ran out of time.
    #[error("timeout: {0}")]
    TimedOut(TimedOut),
    /// The circuit breaker is open, or is half-open and waits for its probes.
    #[error("circuit breaker: {0}")]
    CircuitOpen(CircuitOpen),
    /// The concurrency limit had no room for the call.
    #[error("load shed: {0}")]
    Overloaded(Overloaded),
    /// The rate limit had too few tokens for the call, or the key of the call is too long.
    #[error("rate limit: {0}")]
    RateLimited(RateLimited),
    /// The queue has no place for the call, or gave the place of the call to a more urgent one.
    #[error("load level: {0}")]
    QueueFull(QueueFull),
    /// The call reached its maximum wait in a queue.
    #[error("load level: {0}")]
    WaitedTooLong(WaitedTooLong),
    /// The queue or the rate limit is closed and admits no more calls.
    #[error("{name}: {0}", name = .0.name())]
    Closed(Closed),
    /// The kill switch of the stack is on.
    #[error("kill switch: {0}")]
    SwitchedOff(SwitchedOff),
}

impl Rejection {
    /// Returns the time from the rejection until another attempt makes sense.
    ///
    /// `None` if that is unknown, or if another attempt never makes sense.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TimedOut(_) | Self::Closed(_) | Self::SwitchedOff(_) => None,
            Self::CircuitOpen(details) => details.retry_after(),
            Self::Overloaded(details) => details.retry_after(),
            Self::RateLimited(details) => details.retry_after(),
            Self::QueueFull(details) => details.retry_after(),
            Self::WaitedTooLong(details) => details.retry_after(),
        }
    }

    /// Returns whether the service was called, in this attempt or an earlier one of the same stack. If so, the call may
    /// have had effects. A layer that was stacked by hand knows only its own part of the call: a rejection from an
    /// inner layer does not account for earlier attempts of an outer retry.
    pub fn reached_service(&self) -> bool {
        match self {
            Self::TimedOut(details) => details.reached.is_set(),
            Self::CircuitOpen(details) => details.reached.is_set(),
            Self::Overloaded(details) => details.reached.is_set(),
            Self::RateLimited(details) => details.reached.is_set(),
            Self::QueueFull(details) => details.reached.is_set(),
            Self::WaitedTooLong(details) => details.reached.is_set(),
            Self::Closed(details) => details.reached.is_set(),
            Self::SwitchedOff(details) => details.reached.is_set(),
        }
    }

    /// The names that [`mechanism`](Self::mechanism) returns.
    pub const MECHANISMS: [&str; 6] =
        ["timeout", "circuit_breaker", "load_shed", "rate_limit", "load_level", "kill_switch"];

    /// Returns the name of the mechanism's module: `"timeout"`, `"circuit_breaker"`, and so on. For a stack that is
    /// [switched off](crate::stack::live::StackConfig::switched_off) it is `"kill_switch"`.
    pub fn mechanism(&self) -> &'static str {
        match self {
            Self::TimedOut(_) => "timeout",
            Self::CircuitOpen(_) => "circuit_breaker",
            Self::Overloaded(_) => "load_shed",
            Self::RateLimited(_) => "rate_limit",
            Self::QueueFull(_) | Self::WaitedTooLong(_) => "load_level",
            Self::Closed(details) => details.mechanism(),
            Self::SwitchedOff(_) => "kill_switch",
        }
    }

    /// Marks the call of this rejection as one that reached the service in an earlier attempt.
    pub(crate) fn after_reaching_the_service(mut self) -> Self {
        match &mut self {
            Self::TimedOut(details) => details.reached = Flag::YES,
            Self::CircuitOpen(details) => details.reached = Flag::YES,
            Self::Overloaded(details) => details.reached = Flag::YES,
            Self::RateLimited(details) => details.reached = Flag::YES,
            Self::QueueFull(details) => details.reached = Flag::YES,
            Self::WaitedTooLong(details) => details.reached = Flag::YES,
            Self::Closed(details) => details.reached = Flag::YES,
            Self::SwitchedOff(details) => details.reached = Flag::YES,
        }
        self
    }
}

/// The error of a call through a stack: a layer rejected the call, or the service failed.
///
/// `E` is the service's own error, of any type. `Display` says which of the two happened, followed by the message of
/// the [`Rejection`] or of the service's error. It includes that message because a service's error that does not
/// implement `std::error::Error` is in no chain, and would not be printed otherwise.
///
/// `source()` returns the rejection or the service's error, so that code which walks the chain finds it; tonic looks
/// for its `Status` there. A report of the whole chain therefore repeats that message, unless it uses [`chain`]. All
/// other errors of this crate print only their own part.
///
/// # Passing errors on
///
/// If `E` implements `std::error::Error`, so does `Error<E>`, and `?` converts it into `Box<dyn Error>`. If `E` is also
/// `Send` and `Sync`, `?` converts it into tower's `BoxError`, which is `Box<dyn Error + Send + Sync>`, and into
/// `anyhow::Error`:
///
/// ```
/// use steadfast::load_shed::Limiter;
/// use tower::{ServiceExt, service_fn};
///
/// async fn pay(amount: u32) -> Result<u32, Box<dyn std::error::Error>> {
///     let payments = service_fn(async |amount: u32| Ok::<_, std::io::Error>(amount));
///     let stack = steadfast::client().load_shed(Limiter::fixed(1)?).service(payments)?;
///     Ok(stack.oneshot(amount).await?)
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// assert_eq!(pay(7).await.unwrap(), 7);
/// # }
/// ```
///
/// A `BoxError` does not implement `std::error::Error`, and neither does `Error<BoxError>`: it prints as above, but has
/// no `source()`, and `?` does not convert it. If the service's error is a `BoxError`, build the stack with
/// `.boxed_error()`, which boxes rejections as well. Then `?` works in a function that returns a `BoxError`. A function
/// that returns `Box<dyn Error>` or `anyhow::Error` needs `map_err`, because `?` does not convert a `BoxError`.
///
/// ```
/// use steadfast::load_shed::Limiter;
/// use tower::{BoxError, ServiceExt, service_fn};
///
/// async fn pay(amount: u32) -> Result<u32, BoxError> {
///     let payments = service_fn(async |_: u32| Err::<u32, BoxError>("connection refused".into()));
///     let stack = steadfast::client().load_shed(Limiter::fixed(1)?).boxed_error().service(payments)?;
///     Ok(stack.oneshot(amount).await?)
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// assert_eq!(pay(7).await.unwrap_err().to_string(), "connection refused");
///
/// // In a function that returns `Box<dyn Error>`.
/// async fn report(amount: u32) -> Result<u32, Box<dyn std::error::Error>> {
///     pay(amount).await.map_err(|error| -> Box<dyn std::error::Error> { error })
/// }
/// assert!(report(7).await.is_err());
/// # }
/// ```
///
/// Code that has an `Error<BoxError>` boxes it with [`into_boxed`](Self::into_boxed).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// A layer refused the call or ended it.
    Rejected(Rejection),
    /// The service failed, either to become ready or to answer.
    Service(E),
}

impl<E> Error<E> {
    /// Returns the rejection, if a layer refused or ended the call.
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Service(_) => None,
        }
    }

    /// Returns the service's own error, if the service failed.
    pub fn into_service(self) -> Option<E> {
        match self {
            Self::Rejected(_) => None,
            Self::Service(error) => Some(error),
        }
    }
}

impl<E: Into<BoxError>> Error<E> {
    /// Returns the rejection or the service's error in a box. `downcast_ref` finds a [`Rejection`] or the service's
    /// error there, not an `Error<E>`. Boxing a rejection allocates. So does boxing the service's error, unless it is a
    /// `BoxError` already.
    pub fn into_boxed(self) -> BoxError {
        match self {
            Self::Rejected(rejection) => rejection.into(),
            Self::Service(error) => error.into(),
        }
    }
}

impl<E> From<Rejection> for Error<E> {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => write!(f, "the call was rejected: {rejection}"),
            Self::Service(error) => write!(f, "the service failed: {error}"),
        }
    }
}

impl<E: error::Error + 'static> error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Service(error) => Some(error),
        }
    }
}

/// A configuration that cannot work: the field, its value, and the rule that the value breaks.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{field} = {value}: {rule}")]
pub struct ConfigError {
    field: &'static str,
    value: String,
    rule: Cow<'static, str>,
}

impl ConfigError {
    /// Makes an error from a field, its value (cut after 200 characters) and the rule that it breaks, for your own
    /// checks.
    ///
    /// The rule says which values would satisfy it: `"must be at most the cap of 5s"`.
    pub fn new(field: &'static str, value: impl fmt::Debug, rule: impl Into<Cow<'static, str>>) -> Self {
        let mut value = format!("{value:?}");
        // Truncate: values can be arbitrarily long.
        if let Some((cut, _)) = value.char_indices().nth(LONGEST_VALUE) {
            value.truncate(cut);
            value.push_str("..");
        }
        Self { field, value, rule: rule.into() }
    }

    /// Adds which of several similar parts is wrong: `"in tier 2"`.
    pub(crate) fn of(self, part: impl fmt::Display) -> Self {
        Self { rule: format!("{}, {part}", self.rule).into(), ..self }
    }

    /// Returns the name of the field, prefixed with its mechanism: `"retry.attempts"`.
    ///
    /// - Most fields end in the name of the builder's method.
    /// - A method with several arguments may add the argument: `"circuit_breaker.failure_rate.window"`.
    /// - An argument of a constructor has its own name: `"load_shed.limit"` is the argument of
    ///   [`Limiter::fixed`](crate::load_shed::Limiter::fixed). `"retry.backoff.base"` is the base of
    ///   [`Backoff::exponential`](crate::retry::Backoff::exponential), and the step of
    ///   [`Backoff::linear`](crate::retry::Backoff::linear).
    /// - The two timeouts of a stack have no prefix: `"timeout"` and `"attempt_timeout"`.
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// Returns the given value, cut after 200 characters.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Returns the rule that the value breaks. The rule says which values would satisfy it.
    pub fn rule(&self) -> &str {
        &self.rule
    }
}

/// The maximum length of a value in an error, in characters.
const LONGEST_VALUE: usize = 200;

/// The longest duration that a configuration may have. tokio's timers reach a little over two years.
pub(crate) const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Checks a configured duration.
pub(crate) fn check_duration(field: &'static str, duration: Duration) -> Result<(), ConfigError> {
    if duration.is_zero() || duration > LONGEST {
        return Err(ConfigError::new(field, duration, "must be longer than zero and at most 366 days"));
    }
    Ok(())
}
