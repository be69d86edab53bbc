//! One verdict on each answer of the service, shared by retry, circuit breaker, limits and telemetry.
//!
//! Only the user knows which answers are failures: to tower a `503` is an `Ok`. A [`Classify`] decides once for a whole
//! stack, and every layer acts on the same [`Outcome`]. Rejections by the stack's own layers are not classified: their
//! meaning is fixed (see [`shell::Ending`](crate::shell::Ending)).
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

/// The meaning of an answer of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The service processed the request.
    Success,
    /// The service failed; another attempt may succeed.
    Failure,
    /// The service reports overload. A retry waits at least for the hint. Without a hint, or with one longer than
    /// [`Retry::max_hint`](crate::retry::Retry::max_hint) (60 s by default), there is no retry.
    Overloaded {
        /// How long the service asks callers to wait.
        retry_after: Option<Duration>,
    },
    /// The service provably did not process the request: no connection was established, or the service said so. Any
    /// request may be sent again, even one that must not be processed twice.
    ///
    /// With a hint, a running service refused the request. A retry waits at least for the hint, and a circuit breaker
    /// treats the answer as `Overloaded`. If the hint is longer than
    /// [`Retry::max_hint`](crate::retry::Retry::max_hint), there is no retry.
    ///
    /// Without a hint, the service could not be reached. A retry waits for the backoff, and a circuit breaker treats
    /// the answer as `Failure`.
    ///
    /// An error that does not prove that the request was not processed is a `Failure`. An example is a connection that
    /// breaks before the answer is complete.
    Unprocessed {
        /// How long the service asks callers to wait.
        retry_after: Option<Duration>,
    },
    /// The request is at fault: the service works, but another attempt is pointless.
    Permanent,
    /// The answer says nothing about the service.
    Ignored,
}

/// Decides what an answer of the service means.
///
/// Every closure `Fn(Result<&Response, &Error>) -> Outcome` implements this trait. A stack or a layer calls its
/// classifier once for each answer, in the poll in which the service answers. The classifier must not block.
pub trait Classify<Response, Error> {
    /// Returns the verdict on one answer.
    fn classify(&self, result: Result<&Response, &Error>) -> Outcome;

    /// Returns whether the answer asks callers not to send the request again, independent of its outcome. If so, a
    /// retry makes no further attempt, and outer callers learn of it; see
    /// [`CallContext::forbid_retry`](crate::CallContext::forbid_retry).
    ///
    /// Default: no.
    #[inline]
    fn forbids_retry(&self, _result: Result<&Response, &Error>) -> bool {
        false
    }

    /// Removes the parts of an answer that its sender is not trusted to set, before outer callers receive the answer.
    /// Runs after the verdict.
    ///
    /// Default: removes nothing.
    #[inline]
    fn remove_untrusted(&self, _response: &mut Response) {}

    /// Returns the rejection inside an error, if the service is itself a layer of this crate.
    ///
    /// Such an error is not classified, because its meaning is fixed. Needed only for layers stacked by hand; see
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

/// Treats every `Ok` as a success and every `Err` as a failure. The default.
///
/// A rejection inside the service's own error is a failure, as any other error is. `AnyError` assumes that it comes
/// from another stack, for example that of a remote server whose error type holds the server's refusals. A retry sends
/// such a call again after its backoff, and a breaker counts it. [`Layered`] is for layers of the same process.
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

/// Recognizes rejections by inner layers of this crate that were stacked by hand with `ServiceBuilder`.
///
/// A layer used alone does not know that its inner service is a layer too. It treats the refusal of an inner breaker as
/// any other error. This classifier finds the [`Rejection`] in an [`Error`] and in tower's `BoxError`, and passes
/// all else to the inner classifier. A stack of [`client`](crate::client) or [`server`](crate::server) does not need it
/// for its own layers.
///
/// A recognized rejection has the meaning that it has inside a stack:
///
/// | rejection | evidence about the service | tokens of rate limits | [retry](crate::retry) |
/// |---|---|---|---|
/// | did not reach the service | none | returned | ends the call, unless [asked to wait](crate::retry::Retry::wait_for_refusals) |
/// | a timeout after the service was called | a failure | spent | sends the call again |
/// | such a timeout, but [cut short](crate::error::TimedOut::was_cut_short) | none | spent | ends the call |
/// | any other rejection, after an earlier attempt reached the service | none | spent | ends the call |
///
/// A refusal by another process is an answer of that service. Use your own classifier for it, and return
/// [`Outcome::Overloaded`] with the time after which to retry.
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
    /// Classifies the results that are not rejections.
    pub Inner,
);

/// Makes a [`Layered`] from a closure, whose types need no annotation.
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

    fn remove_untrusted(&self, response: &mut Response) {
        self.0.remove_untrusted(response);
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

    fn remove_untrusted(&self, response: &mut Response) {
        self.0.remove_untrusted(response);
    }

    fn rejection<'error>(&self, error: &'error BoxError) -> Option<&'error Rejection> {
        let outermost: &(dyn std::error::Error + 'static) = &**error;
        std::iter::successors(Some(outermost), |error| error.source()).find_map(|error| error.downcast_ref())
    }
}
