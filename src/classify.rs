//! One verdict on what the service itself answered, shared by retry, circuit breaker, limits and telemetry.
//!
//! Only the user knows which answers are failures: to tower a `503` is an `Ok`. A [`Classify`] says it once for a
//! whole stack; every layer then draws its own conclusion from the same [`Outcome`]. Rejections by the stack's own
//! layers are never classified: what they mean is fixed (see [`shell::Ending`](crate::shell::Ending)).
//!
//! ```
//! use steadfast::{Outcome, classify::Classify};
//!
//! let by_status = |result: Result<&u16, &std::io::Error>| match result {
//!     Ok(503) => Outcome::Overloaded { retry_after: None },
//!     Ok(500..) => Outcome::Failure,
//!     Ok(400..) => Outcome::Permanent,
//!     Ok(_) => Outcome::Success,
//!     Err(_) => Outcome::Failure,
//! };
//! assert_eq!(by_status.classify(Ok(&500)), Outcome::Failure);
//! ```

use crate::error::{Error, Rejection};
use std::time::Duration;
use tower::BoxError;

/// What an answer of the service means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The service did what it was asked.
    Success,
    /// The service failed; another try may succeed.
    Failure,
    /// The service says that it has too much to do. A retry waits at least as long as the hint. There is no retry
    /// without a hint, or if the hint is longer than [`Retry::max_hint`](crate::retry::Retry::max_hint) (60 s by
    /// default).
    Overloaded {
        /// How long the service asks callers to stay away.
        retry_after: Option<Duration>,
    },
    /// The service provably did nothing with the request: no connection came about, or the service said so. Any
    /// request may be sent again, also one that must not be processed twice.
    ///
    /// With a hint a living service refused the request: a retry waits at least that long, at most
    /// [`Retry::max_hint`](crate::retry::Retry::max_hint), and a circuit breaker takes it for `Overloaded`. Without one
    /// the service could not be reached: a retry comes after the backoff, and a circuit breaker takes it for `Failure`.
    ///
    /// An error that leaves open whether the service has seen the request, such as a connection that breaks before the
    /// answer is complete, is a `Failure`.
    Unprocessed {
        /// How long the service asks callers to stay away.
        retry_after: Option<Duration>,
    },
    /// The caller's fault: the service is alive, but another try is pointless.
    Permanent,
    /// The answer says nothing about the service.
    Ignored,
}

/// Says what an answer of the service means.
///
/// Implemented by every closure `Fn(Result<&Response, &Error>) -> Outcome`. It runs once per attempt, in the poll in
/// which the service answers; it should not block.
pub trait Classify<Response, Error> {
    /// The verdict on one answer.
    fn classify(&self, result: Result<&Response, &Error>) -> Outcome;

    /// Whether the answer asks callers not to send the request again, whatever it means otherwise. A retry then makes
    /// no further attempt, and the callers further out hear of it; see
    /// [`CallContext::forbid_retry`](crate::CallContext::forbid_retry).
    ///
    /// Default: no.
    #[inline]
    fn forbids_retry(&self, _result: Result<&Response, &Error>) -> bool {
        false
    }

    /// Removes from an answer what its sender has no right to say, so that the callers further out do not believe it
    /// when the answer is passed on to them. It runs after the verdict.
    ///
    /// Default: removes nothing.
    #[inline]
    fn disbelieve(&self, _response: &mut Response) {}

    /// The rejection inside an error, where the service is itself a layer of this crate.
    ///
    /// Such an error is not classified: its meaning is fixed. Needed only where layers are stacked by hand; see
    /// [`Layered`].
    fn rejection<'error>(&self, _error: &'error Error) -> Option<&'error Rejection> {
        None
    }
}

impl<Function, Response, Error> Classify<Response, Error> for Function
where
    Function: Fn(Result<&Response, &Error>) -> Outcome,
{
    fn classify(&self, result: Result<&Response, &Error>) -> Outcome {
        self(result)
    }
}

/// Takes every `Ok` for a success and every `Err` for a failure. The default.
///
/// A rejection in the service's own error is a failure like any other. It is the answer of another stack: a server
/// behind a link, say, whose error type holds its refusals. A retry sends such a call again after its backoff, and a
/// breaker counts it. [`Layered`] is for layers of the same process.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnyError;

impl<Response, Error> Classify<Response, Error> for AnyError {
    fn classify(&self, result: Result<&Response, &Error>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Failure,
        }
    }
}

/// Knows the rejections of other layers of this crate, further in, that were stacked by hand with `ServiceBuilder`.
///
/// A layer used alone cannot see that the service under it is a layer too: to it, the inner breaker's refusal is an
/// error like any other. This classifier finds the [`Rejection`] in an [`Error`] and in tower's `BoxError` and leaves
/// all else to the classifier inside. A stack of [`client`](crate::client) or [`server`](crate::server) needs none for
/// its own layers.
///
/// A rejection that was found means what it means inside a stack:
///
/// | the rejection | evidence | tokens | a [retry](crate::retry) |
/// |---|---|---|---|
/// | did not reach the service | none | given back | ends the call, unless [asked to wait](crate::retry::Retry::wait_for_refusals) |
/// | a timeout in the service | a failure | spent | sends it again |
/// | a timeout that was [cut short](crate::error::TimedOut::was_cut_short) | none | spent | ends the call |
/// | another one, after an earlier attempt | none | spent | ends the call |
///
/// Where the error comes from another process, its refusals are that service's answers. Use a classifier of your own
/// there, and say [`Outcome::Overloaded`] with the time after which to come back.
///
/// ```
/// # fn main() -> Result<(), steadfast::ConfigError> {
/// use steadfast::{classify::{AnyError, Layered}, retry::{Retry, RetryLayer}};
///
/// let retry = RetryLayer::new(Retry::new(3))?.classify_with(Layered(AnyError));
/// # let _ = retry;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Layered<Inner = AnyError>(
    /// Classifies what is no rejection.
    pub Inner,
);

/// A [`Layered`] around a closure, which needs no annotation.
pub fn layered<F, Response, E>(classifier: F) -> Layered<F>
where
    F: Fn(Result<&Response, &E>) -> Outcome,
{
    Layered(classifier)
}

impl<Inner, Response, E> Classify<Response, Error<E>> for Layered<Inner>
where
    Inner: Classify<Response, E>,
{
    fn classify(&self, result: Result<&Response, &Error<E>>) -> Outcome {
        match result {
            Ok(response) => self.0.classify(Ok(response)),
            Err(Error::Service(error)) => self.0.classify(Err(error)),
            Err(Error::Rejected(_)) => Outcome::Ignored,
        }
    }

    fn forbids_retry(&self, result: Result<&Response, &Error<E>>) -> bool {
        match result {
            Ok(response) => self.0.forbids_retry(Ok(response)),
            Err(Error::Service(error)) => self.0.forbids_retry(Err(error)),
            Err(Error::Rejected(_)) => false,
        }
    }

    fn disbelieve(&self, response: &mut Response) {
        self.0.disbelieve(response);
    }

    fn rejection<'error>(&self, error: &'error Error<E>) -> Option<&'error Rejection> {
        match error {
            Error::Rejected(rejection) => Some(rejection),
            Error::Service(error) => self.0.rejection(error),
        }
    }
}

impl<Inner, Response> Classify<Response, BoxError> for Layered<Inner>
where
    Inner: Classify<Response, BoxError>,
{
    fn classify(&self, result: Result<&Response, &BoxError>) -> Outcome {
        self.0.classify(result)
    }

    fn forbids_retry(&self, result: Result<&Response, &BoxError>) -> bool {
        self.0.forbids_retry(result)
    }

    fn disbelieve(&self, response: &mut Response) {
        self.0.disbelieve(response);
    }

    fn rejection<'error>(&self, error: &'error BoxError) -> Option<&'error Rejection> {
        let outermost: &(dyn std::error::Error + 'static) = &**error;
        std::iter::successors(Some(outermost), |error| error.source()).find_map(|error| error.downcast_ref())
    }
}
