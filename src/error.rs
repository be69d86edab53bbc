//! What a call can end with besides the service's own answer, and what a configuration can be refused for.
//!
//! A layer that refuses or ends a call says so with a [`Rejection`]: one type for the whole crate, which says which
//! mechanism it was, whether the call had reached the service, and after how long another try makes sense. Inside a
//! stack a call ends with the service's answer or an [`Error`], which keeps the service's own error untouched and
//! asks nothing of its type.
//!
//! # Without tower
//!
//! A handle that is asked without tower, such as a [`Breaker`](crate::circuit_breaker::Breaker), returns the details
//! alone: [`CircuitOpen`], [`Overloaded`], [`RateLimited`]. Their messages do not name the mechanism, since the code
//! that asked the handle knows it. The [`Rejection`] that is made `from` them does:
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

/// Why a mechanism of this crate refused a call or ended it.
///
/// Each variant has its details; `Display` says the mechanism and the details in one line.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum Rejection {
    /// The call's time was up.
    #[error("timeout: {0}")]
    TimedOut(TimedOut),
    /// The circuit breaker does not let calls through at present.
    #[error("circuit breaker: {0}")]
    CircuitOpen(CircuitOpen),
    /// There was no room for one more call.
    #[error("load shed: {0}")]
    Overloaded(Overloaded),
    /// The caller has had its share.
    #[error("rate limit: {0}")]
    RateLimited(RateLimited),
    /// The queue has no place for the call, or gave it to one that is worth more.
    #[error("load level: {0}")]
    QueueFull(QueueFull),
    /// The call waited in a queue for as long as it is worth.
    #[error("load level: {0}")]
    WaitedTooLong(WaitedTooLong),
    /// The queue or the rate limit is closed, and admits no more calls.
    #[error("{name}: {0}", name = .0.name())]
    Closed(Closed),
    /// The kill switch of the stack is on.
    #[error("kill switch: {0}")]
    SwitchedOff(SwitchedOff),
}

impl Rejection {
    /// After how long another try makes sense, counted from the rejection.
    ///
    /// `None` where it cannot be known, or where another try never makes sense.
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

    /// Whether the service had been called, in this attempt or an earlier one of the same stack: if so, the call may
    /// have had effects. Of layers stacked by hand each knows only its own part: a rejection that passes a retry from
    /// further in says nothing of the attempts before.
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

    /// The names that [`mechanism`](Self::mechanism) gives.
    pub const MECHANISMS: [&str; 6] =
        ["timeout", "circuit_breaker", "load_shed", "rate_limit", "load_level", "kill_switch"];

    /// The name of the mechanism, as its module is called: `"timeout"`, `"circuit_breaker"`, ..; `"kill_switch"` of a
    /// stack that is [switched off](crate::stack::live::StackConfig::switched_off).
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

    /// The same rejection, of a call that an earlier attempt had brought to the service.
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

/// How a call through a stack fails: a layer rejected it, or the service failed.
///
/// `E` is the service's own error, of any type. `Display` names which of the two it is and shows the [`Rejection`] or
/// the service's error, since the latter may be of a type that is no error, and has no chain. `source()` leads to the
/// same one, so that code that walks the chain finds it: tonic looks for its `Status` there. A report that prints the
/// whole chain repeats that message, unless it prints with [`chain`]. All other errors of this crate say their own part
/// only.
///
/// # Passing errors on
///
/// Where the service's own error is an error type, so is `Error<E>`. `?` converts it into `Box<dyn Error>`. If `E` is
/// `Send` and `Sync`, it also converts it into tower's `BoxError`, which is `Box<dyn Error + Send + Sync>`, and into
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
/// Rust does not count a box of an error as an error. So `Error<BoxError>` is none either: it prints as above, but has
/// no `source()`, and `?` converts it into no other type. Where the service's error is a `BoxError`, the stack boxes
/// rejections as well with `.boxed_error()`. Then `?` works in a function that returns a `BoxError`. `?` converts a
/// `BoxError` neither into `Box<dyn Error>` nor into `anyhow::Error`; a function with those needs `map_err`.
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
    /// The service's own error: from its readiness or from its answer.
    Service(E),
}

impl<E> Error<E> {
    /// The rejection, if a layer refused the call or ended it.
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Service(_) => None,
        }
    }

    /// The service's own error, if it was the service that failed.
    pub fn into_service(self) -> Option<E> {
        match self {
            Self::Rejected(_) => None,
            Self::Service(error) => Some(error),
        }
    }
}

impl<E: Into<BoxError>> Error<E> {
    /// Returns the rejection or the service's error in a box. `downcast_ref` finds a [`Rejection`] or the service's
    /// error there, not an `Error<E>`. Allocates, unless the service's error is a `BoxError` already.
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

/// A configuration that cannot work: which field, the value that it had, and the rule that the value breaks.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[error("{field} = {value}: {rule}")]
pub struct ConfigError {
    field: &'static str,
    value: String,
    rule: Cow<'static, str>,
}

impl ConfigError {
    /// An error that names the thing, its value (of which 200 characters are kept) and the rule, for checks of your
    /// own.
    ///
    /// The rule is a constant, or is made for this value: `"must be at most the cap of 5s"`.
    pub fn new(field: &'static str, value: impl fmt::Debug, rule: impl Into<Cow<'static, str>>) -> Self {
        let mut value = format!("{value:?}");
        // Truncate: values can be arbitrarily long.
        if let Some((cut, _)) = value.char_indices().nth(LONGEST_VALUE) {
            value.truncate(cut);
            value.push_str("..");
        }
        Self { field, value, rule: rule.into() }
    }

    /// Names the one of several alike that is wrong: `"in tier 2"`.
    pub(crate) fn of(self, part: impl fmt::Display) -> Self {
        Self { rule: format!("{}, {part}", self.rule).into(), ..self }
    }

    /// The configured thing, with its mechanism in front: `"retry.attempts"`.
    ///
    /// - Most fields end in the name of the builder's method.
    /// - A method with several arguments may add the argument: `"circuit_breaker.failure_rate.window"`.
    /// - An argument of a constructor has a name of its own: `"load_shed.limit"` is that of
    ///   [`Limiter::fixed`](crate::load_shed::Limiter::fixed). `"retry.backoff.base"` is the base of
    ///   [`Backoff::exponential`](crate::retry::Backoff::exponential), and the step of
    ///   [`Backoff::linear`](crate::retry::Backoff::linear).
    /// - The two timeouts of a stack have no mechanism in front: `"timeout"` and `"attempt_timeout"`.
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// The value that was given, cut off after 200 characters.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The rule that the value breaks, and what would satisfy it.
    pub fn rule(&self) -> &str {
        &self.rule
    }
}

/// The most characters of a value that an error repeats.
const LONGEST_VALUE: usize = 200;

/// The longest duration that any configuration may name. tokio's timers reach a little over two years.
pub(crate) const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The rule of every configured duration.
pub(crate) fn check_duration(field: &'static str, duration: Duration) -> Result<(), ConfigError> {
    if duration.is_zero() || duration > LONGEST {
        return Err(ConfigError::new(field, duration, "must be longer than zero and at most 366 days"));
    }
    Ok(())
}
