mod retry_advice;
mod status;
mod unsent;

use self::{
    retry_advice::RetryAdvice,
    status::{AnswerStatus, of_code, of_status},
    unsent::{NoneUnsent, Unsent},
};
use super::{
    Peer,
    grpc::{GrpcCode, Pushback},
    retry_after::retry_after,
};
use crate::classify::{Classify, Outcome};
use http::{HeaderMap, HeaderName, Response};
use std::{fmt, time::Duration};

pub(super) use retry_advice::RETRY;

pub(super) const REJECTED: HeaderName = HeaderName::from_static("steadfast-rejected");
const ENVOY_OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

/// The hint for a 429 without `Retry-After`.
const WITHOUT_HINT: Duration = Duration::from_secs(1);

/// Classifies HTTP and gRPC responses: a [`Classify`] for responses with any body.
///
/// The first matching row decides.
///
/// | response | outcome |
/// |---|---|
/// | 1xx to 3xx; gRPC 0 | `Success` |
/// | `steadfast-retry: unprocessed`, of an internal peer | `Overloaded` if there is a `steadfast-rejected` and no hint; else `Unprocessed`, with the hint, if any |
/// | `steadfast-retry: never`, of an internal peer | by the rows below, but [no retry](Classify::forbids_retry) |
/// | 429 or 503, if it has a hint; any failed response with `x-envoy-overloaded`, or with `steadfast-rejected` other than `timeout` | `Overloaded` with the hint, if any |
/// | 429 without a hint | `Overloaded`, with a hint of 1 s |
/// | 408, 425; 500 and above except 501 and 505 | `Failure` |
/// | other 4xx, 501, 505 | `Permanent` |
/// | gRPC 8; any other failed code with `grpc-retry-pushback-ms` | `Overloaded` with the hint, if any |
/// | gRPC 14, 4, 1, 2, 13, 15 | `Failure` |
/// | other gRPC codes | `Permanent` |
/// | `Err` | `Unprocessed` if [`unsent`](Self::unsent) answers `true`, else `Failure` |
///
/// **The hint** is the response's `Retry-After` [RFC 9110 10.2.3], in seconds or as a date. A date counts from the
/// response's own `Date`. For gRPC the hint is the pushback, if there is one [gRFC A6]. A negative or unreadable
/// pushback [forbids a retry](Classify::forbids_retry). The retry's [`max_hint`](crate::retry::Retry::max_hint) bounds
/// the hints that it follows. A retry does not repeat a call that is `Overloaded` without a hint. Except for a pushback
/// and a `grpc-status`, a header that cannot be read is ignored. Unreadable headers other than `Date` are
/// [counted](super::ignored_headers).
///
/// **A gRPC response** has the content type `application/grpc`, with or without a format and parameters. Only its gRPC
/// code counts:
///
/// - The code is `grpc-status` in the headers, in a response without a body ("trailers-only"). A `grpc-status` that is
///   no number from 0 to 16 counts as 2.
/// - Without `grpc-status`, an HTTP status other than 200 maps to a code: 400 to 13, 401 to 16, 403 to 7, 404 to 12;
///   429, 502, 503 and 504 to 14; all others to 2. The rows of 429 and 503 still come first.
/// - Without `grpc-status`, 200 is a `Success` for now. The code comes in the trailers, which the classifier of the
///   head does not see.
///
/// An error page that a proxy returns for a gRPC call is an HTTP response by its content type.
///
/// **Trust.** Any peer may say that it is overloaded and when to retry, because callers then send less. Only an
/// [internal](Peer::Internal) peer may say more with `steadfast-retry`. `unprocessed` says that the peer did not
/// process the request; a retry may then repeat any request. `never` says that no caller may retry. The stack
/// [removes](Classify::remove_untrusted) this header from responses of external peers. Otherwise a proxy would pass the
/// header on, and callers that trust the proxy would believe it.
///
/// # Sources
///
/// A 429 without a hint waits 1 s, as the AWS SDKs do. 425 is RFC 8470. Unknown status codes from 500 are failures of
/// the server, including those from 600 [RFC 9110 15]. The mapping to codes is that of
/// [gRPC](https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md).
///
/// # Cost
///
/// A success costs three look-ups in the headers, four for gRPC. No classification allocates. The clock of this machine
/// is read only if `Retry-After` is a date and the response has no readable `Date`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use http::{Request, Response};
/// use std::{convert::Infallible, sync::atomic::{AtomicU32, Ordering::Relaxed}, time::Duration};
/// use steadfast::{http::{Peer, Verdict}, retry::{Backoff, Retry}};
/// use tokio::time::Instant;
/// use tower::{ServiceExt, service_fn};
///
/// let calls = AtomicU32::new(0);
/// let busy_once = service_fn(|_: Request<()>| {
///     let answer = match calls.fetch_add(1, Relaxed) {
///         0 => Response::builder().status(503).header("retry-after", "2").body("busy"),
///         _ => Response::builder().body("done"),
///     };
///     async { Ok::<_, Infallible>(answer.unwrap()) }
/// });
/// let client = steadfast::client()
///     .retry(Retry::new(3).without_budget().backoff(Backoff::fixed(Duration::from_millis(100))))
///     .classify_with(Verdict::new(Peer::External))
///     .service(busy_once)?;
/// let start = Instant::now();
/// let answer = client.oneshot(Request::new(())).await?;
/// assert_eq!(*answer.body(), "done");
/// assert!(start.elapsed() >= Duration::from_secs(2));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct Verdict<U = NoneUnsent> {
    peer: Peer,
    /// Whether a handler in this process made the responses. `peer` is then the client that receives them. Their
    /// `steadfast-retry` header comes from this process, so it stays even if the client is external.
    is_own: bool,
    unsent: U,
}

impl Verdict {
    /// Classifies the responses of this peer. Every error is a `Failure`, unless [`unsent`](Self::unsent) says
    /// otherwise.
    pub fn new(peer: Peer) -> Self {
        Self { peer, is_own: false, unsent: NoneUnsent }
    }

    /// Classifies the responses of a handler to this peer.
    pub(super) fn of_handler(peer: Peer) -> Self {
        Self { is_own: true, ..Self::new(peer) }
    }

    /// Classifies the errors for which this closure answers `true` as [`Outcome::Unprocessed`]: the service provably
    /// did not process the request. A retry may then repeat it even if it must not be processed twice.
    ///
    /// A failure to connect is such an error. A connection that breaks is not, and neither is a timeout of the client
    /// while it waits for the response.
    ///
    /// # hyper-util
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use http::Request;
    /// use http_body_util::Empty;
    /// use hyper::{body::{Bytes, Incoming}, Response};
    /// use hyper_util::{client::legacy::{Client, Error}, rt::TokioExecutor};
    /// use std::error::Error as _;
    /// use steadfast::{Outcome, classify::Classify, http::{Peer, Verdict}};
    ///
    /// let verdict = Verdict::new(Peer::External).unsent(|error: &Error| {
    ///     // The error of hyper if the connection closed before hyper sent the request.
    ///     let canceled = error.source().and_then(|source| source.downcast_ref::<hyper::Error>());
    ///     error.is_connect() || canceled.is_some_and(hyper::Error::is_canceled)
    /// });
    ///
    /// // No process listens on a port that was just closed.
    /// let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    /// let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http::<Empty<Bytes>>();
    /// let request = Request::post(format!("http://{closed}/")).body(Empty::new())?;
    /// let answer: Result<Response<Incoming>, Error> = client.request(request).await;
    /// assert_eq!(verdict.classify(answer.as_ref()), Outcome::Unprocessed { retry_after: None });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # reqwest
    ///
    /// `reqwest::retry::never()` turns off reqwest's own retries.
    ///
    /// ```
    /// use steadfast::http::{Peer, Verdict};
    ///
    /// let verdict = Verdict::new(Peer::External).unsent(|error: &reqwest::Error| error.is_connect());
    /// let service = tower::service_fn(async |request: http::Request<reqwest::Body>| {
    ///     let answer = reqwest::Client::new().execute(request.try_into()?).await?;
    ///     Ok::<_, reqwest::Error>(http::Response::<reqwest::Body>::from(answer))
    /// });
    /// let client = steadfast::client().classify_with(verdict).service(service);
    /// # assert!(client.is_ok());
    /// ```
    ///
    /// # HTTP/2
    ///
    /// A server that resets a stream with `REFUSED_STREAM` has not processed the request [RFC 9113 8.7]. hyper and
    /// reqwest have no method that reports this. Only the `h2::Error` among the sources of their errors shows it. An
    /// application can depend on the crate `h2`, in the version that its hyper uses, and look for that error. The error
    /// must be `is_remote`, and its `reason` must be `REFUSED_STREAM`. The text of an error is no proof.
    pub fn unsent<E, F: Fn(&E) -> bool>(self, unsent: F) -> Verdict<F> {
        Verdict { peer: self.peer, is_own: self.is_own, unsent }
    }
}

impl<U> fmt::Debug for Verdict<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verdict").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Whether the code of the response comes in its trailers: gRPC, 200, and no `grpc-status` in the headers. The head is
/// then a success for now.
pub(super) fn awaits_trailers<B>(response: &Response<B>) -> bool {
    matches!(AnswerStatus::of(response, GrpcCode::peek), AnswerStatus::InTrailers)
}

impl<U> Verdict<U> {
    /// Classifies the end of a body whose head [awaits its trailers](awaits_trailers). Also returns whether the
    /// trailers forbid a retry. Without trailers, or without a code in them, the code is 2 [gRPC].
    ///
    /// [`Classify`] has judged the head already, so the fields of the head do not count here. A rejection by a stack
    /// has its gRPC code in the head, so it never awaits trailers.
    pub(super) fn of_trailers(&self, trailers: Option<&HeaderMap>) -> (Outcome, bool) {
        let none = HeaderMap::new();
        let fields = trailers.unwrap_or(&none);
        let said = AnswerStatus::Grpc(GrpcCode::read(fields).unwrap_or(GrpcCode::UNKNOWN));
        (self.judge(said, fields), self.forbids(fields, || said))
    }

    fn judge(&self, said: AnswerStatus, fields: &HeaderMap) -> Outcome {
        if said.is_success() {
            return Outcome::Success;
        }
        let pushback = if said.is_grpc() { Pushback::read(fields) } else { None };
        let hint = match pushback {
            Some(Pushback::After(wait)) => Some(wait),
            Some(Pushback::Never) => None,
            None => retry_after(fields),
        };
        let overloaded = Outcome::Overloaded { retry_after: hint };
        let rejected_by = fields.get(REJECTED);
        if RetryAdvice::read(self.peer, fields) == Some(RetryAdvice::Unprocessed) {
            // A stack in the service refused the call and does not say when to come back. `Overloaded` without a hint
            // is not retried, and does not say that the service is down.
            let refuses = hint.is_none() && rejected_by.is_some();
            return if refuses { overloaded } else { Outcome::Unprocessed { retry_after: hint } };
        }
        // A rejection by a timeout is no sign of an overload. Its pushback or its status decides below.
        let refuses = rejected_by.is_some_and(|mechanism| mechanism != "timeout");
        if refuses || fields.contains_key(ENVOY_OVERLOADED) {
            return overloaded;
        }
        match (said.status(), hint) {
            (Some(429 | 503), Some(_)) => return overloaded,
            (Some(429), None) => return Outcome::Overloaded { retry_after: Some(WITHOUT_HINT) },
            _ => {}
        }
        match said {
            AnswerStatus::Http(status) => of_status(status),
            _ if pushback.is_some() => overloaded,
            AnswerStatus::Grpc(GrpcCode::RESOURCE_EXHAUSTED) => overloaded,
            AnswerStatus::Grpc(code) => of_code(code),
            AnswerStatus::Mapped(status) => of_code(GrpcCode::of_http(status)),
            AnswerStatus::InTrailers => Outcome::Success,
        }
    }

    /// Returns whether these fields forbid a retry. Calls `said`, which reads the status, only for
    /// [`Pushback::Never`].
    fn forbids(&self, fields: &HeaderMap, said: impl FnOnce() -> AnswerStatus) -> bool {
        if RetryAdvice::peek(self.peer, fields) == Some(RetryAdvice::Never) {
            return true;
        }
        Pushback::peek(fields) == Some(Pushback::Never) && {
            let said = said();
            said.is_grpc() && !said.is_success()
        }
    }
}

impl<B, E, U: Unsent<E>> Classify<Response<B>, E> for Verdict<U> {
    #[inline]
    fn classify(&self, result: Result<&Response<B>, &E>) -> Outcome {
        match result {
            Ok(response) => match AnswerStatus::of(response, GrpcCode::read) {
                said if said.is_success() => Outcome::Success,
                said => self.judge(said, response.headers()),
            },
            Err(error) if self.unsent.is_unsent(error) => Outcome::Unprocessed { retry_after: None },
            Err(_) => Outcome::Failure,
        }
    }

    #[inline]
    fn forbids_retry(&self, result: Result<&Response<B>, &E>) -> bool {
        result.is_ok_and(|response| self.forbids(response.headers(), || AnswerStatus::of(response, GrpcCode::peek)))
    }

    #[inline]
    fn remove_untrusted(&self, response: &mut Response<B>) {
        if self.peer == Peer::External && !self.is_own {
            response.headers_mut().remove(RETRY);
        }
    }
}

#[cfg(test)]
mod tests;
