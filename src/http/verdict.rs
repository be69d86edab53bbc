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

/// How long callers stay away after a 429 that does not say how long.
const WITHOUT_HINT: Duration = Duration::from_secs(1);

/// Says what an answer of HTTP or gRPC means: a [`Classify`] for all responses, whatever their bodies.
///
/// The first row that matches counts.
///
/// | answer | outcome |
/// |---|---|
/// | 1xx to 3xx; gRPC 0 | `Success` |
/// | `steadfast-retry: unprocessed`, of an internal peer | `Unprocessed` with the hint, if any; `Overloaded` without one where there is `steadfast-rejected`, too |
/// | `steadfast-retry: never`, of an internal peer | as the rows below say, but [no retry](Classify::forbids_retry) |
/// | 429, 503 with a hint; any with `x-envoy-overloaded`, or with `steadfast-rejected` other than `timeout` | `Overloaded` with the hint, if any |
/// | 429 without a hint | `Overloaded`, with a hint of 1 s |
/// | 408, 425, and from 500 on all but 501 and 505 | `Failure` |
/// | other 4xx, 501, 505 | `Permanent` |
/// | gRPC 8; any other with `grpc-retry-pushback-ms` | `Overloaded` with the hint, if any |
/// | gRPC 14, 4, 1, 2, 13, 15 | `Failure` |
/// | other gRPC codes | `Permanent` |
/// | `Err` | `Unprocessed` if [`unsent`](Self::unsent) says so, else `Failure` |
///
/// **The hint** is the answer's `Retry-After` [RFC 9110 10.2.3], in seconds or as a date. A date counts from the
/// answer's own `Date`. With gRPC the hint is the pushback if there is one [gRFC A6]. A negative or unreadable pushback
/// [forbids a retry](Classify::forbids_retry). How long a hint is heeded is the retry's
/// [`max_hint`](crate::retry::Retry::max_hint). An `Overloaded` without a hint is not retried. A header that cannot be
/// read is ignored and [counted](super::ignored_headers).
///
/// **gRPC** is an answer whose content type begins with `application/grpc`, and only its code counts:
///
/// - `grpc-status` in the headers, in an answer without a body ("trailers-only"). It is 2 if it is no number from 0 to
///   16.
/// - Without it, a status other than 200 stands for a code: 400 for 13, 401 for 16, 403 for 7, 404 for 12; 429, 502,
///   503 and 504 for 14; all others for 2. The rows of 429 and 503 still come first.
/// - Without it, 200 is a `Success` so far. The code comes in the trailers, which a verdict on the head cannot know.
///
/// An error page that a proxy answers to a call of gRPC is one of HTTP by its content type.
///
/// **Whom to believe.** Whoever answers may say that it is overloaded, and when to come back: callers then do less.
/// Only an [internal](Peer::Internal) peer may say by `steadfast-retry` that a request was not processed, which lets a
/// retry repeat any request, or forbid retries of the callers further out. From the answers of others the header is
/// [removed](Classify::disbelieve): a proxy that passes them on lends it no credit.
///
/// # Sources
///
/// 429 without a hint waits 1 s, as the SDKs of AWS do. 425 is RFC 8470. Unknown status codes from 500 on are failures
/// of the server, those of 600 and more included [RFC 9110 15]. The mapping to codes is that of
/// [gRPC](https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md).
///
/// # Cost
///
/// A success costs three look-ups in the headers, four if it is gRPC. No verdict allocates. The clock of this machine
/// is read only for a `Retry-After` that is a date, in an answer without a `Date`.
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
    /// Whether the answers are those of this process, so that what they say to an external peer is its own.
    is_own: bool,
    unsent: U,
}

impl Verdict {
    /// Judges the answers of this peer. Every error is a `Failure`, until [`unsent`](Self::unsent) says otherwise.
    pub fn new(peer: Peer) -> Self {
        Self { peer, is_own: false, unsent: NoneUnsent }
    }

    /// Judges the answers of a handler to this peer.
    pub(super) fn of_handler(peer: Peer) -> Self {
        Self { is_own: true, ..Self::new(peer) }
    }

    /// Takes the errors for which this closure answers `true` for [`Outcome::Unprocessed`]: the service provably did
    /// nothing about the request. A retry may then repeat it even if it must not be processed twice.
    ///
    /// A connection that could not be made is such an error. One that breaks is not, nor is a timeout of the client
    /// while it waits for the answer.
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
    ///     // hyper's own error, where the connection was gone before it took the request.
    ///     let canceled = error.source().and_then(|source| source.downcast_ref::<hyper::Error>());
    ///     error.is_connect() || canceled.is_some_and(hyper::Error::is_canceled)
    /// });
    ///
    /// // Nobody listens at a port that was just given back.
    /// let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    /// let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http::<Empty<Bytes>>();
    /// let request = Request::post(format!("http://{nobody}/")).body(Empty::new())?;
    /// let answer: Result<Response<Incoming>, Error> = client.request(request).await;
    /// assert_eq!(verdict.classify(answer.as_ref()), Outcome::Unprocessed { retry_after: None });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # reqwest
    ///
    /// Its own retries are turned off by `reqwest::retry::never()`.
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
    /// reqwest show that only in the `h2::Error` among the sources of their errors, and have no method for it. An
    /// application that depends on the crate `h2`, in the version that its hyper uses, looks for that error, and asks
    /// whether it `is_remote` and its `reason` is `REFUSED_STREAM`. The text of an error is no proof.
    pub fn unsent<E, F: Fn(&E) -> bool>(self, unsent: F) -> Verdict<F> {
        Verdict { peer: self.peer, is_own: self.is_own, unsent }
    }
}

impl<U> fmt::Debug for Verdict<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verdict").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Whether the code of the answer comes in its trailers: gRPC, 200, and no `grpc-status` in the headers. The verdict on
/// the head is then a success so far.
pub(super) fn awaits_trailers<B>(response: &Response<B>) -> bool {
    matches!(AnswerStatus::of(response, GrpcCode::peek), AnswerStatus::InTrailers)
}

impl<U> Verdict<U> {
    /// The verdict at the end of a body whose head [awaits its trailers](awaits_trailers), and whether it forbids a
    /// retry. Without trailers, or without a code in them, the code is 2 [gRPC].
    ///
    /// The head itself is judged by [`Classify`]. No field of it counts here: the answers that carry the headers of the
    /// table end with their head.
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
            // A service that refuses and does not say when to come back is up, and is not to be called again.
            let refuses = hint.is_none() && rejected_by.is_some();
            return if refuses { overloaded } else { Outcome::Unprocessed { retry_after: hint } };
        }
        // A timeout that ended the work is a failure, as its status says.
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

    /// The status is read only where there is a pushback.
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
    fn disbelieve(&self, response: &mut Response<B>) {
        if self.peer == Peer::External && !self.is_own {
            response.headers_mut().remove(RETRY);
        }
    }
}

#[cfg(test)]
mod tests;
