use super::replay_body::{ReplayBody, ReplaySource};
use crate::{
    retry::{Repeat, Replay, Retry},
    shell::Frame,
};
use bytes::Bytes;
use http::{Method, Request, request::Parts};
use http_body::Body;
use std::sync::Arc;

/// A cap for [`Retry::bodies`] that suits most APIs: 64 KiB, as in linkerd. Most API requests are smaller, and 10,000
/// calls in flight then keep at most 655 MB.
pub const DEFAULT_REPLAY_CAP: usize = 64 * 1024;

/// A client puts a value of its choice into this header. The server recognizes a repeated request by that value.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Decides by method and headers whether an HTTP request may be retried. [`retry`] makes it.
///
/// | request | retried |
/// |---|---|
/// | GET, HEAD, OPTIONS, TRACE, PUT, DELETE: idempotent by RFC 9110, 9.2.2 | [`Repeat::Always`] |
/// | any request with a non-empty `Idempotency-Key` | [`Repeat::Always`] |
/// | any request for which your [`idempotent`](Retry::idempotent) answers `true` | [`Repeat::Always`] |
/// | any other, such as POST and PATCH; this includes all of gRPC | [`Repeat::IfUnprocessed`] |
///
/// The retry sends clones of the request, so the bodies have to be `Clone`. With [`bodies`](Retry::bodies) they need
/// not be.
///
/// Use it to write the type of a field or an argument: `Retry<Repeatable>`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repeatable<I = StandardOnly, M = SendClones> {
    idempotent: I,
    bodies: M,
}

/// Makes up to `attempts` attempts for each request, including the first, if the request may be retried: see
/// [`Repeatable`]. All other settings, including the budget, are those of [`Retry::new`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{convert::Infallible, sync::atomic::{AtomicU32, Ordering::Relaxed}};
/// use hyper::{Method, Request, Response};
/// use steadfast::{Outcome, http};
/// use tower::{ServiceExt, service_fn};
///
/// static CALLS: AtomicU32 = AtomicU32::new(0);
/// let service = service_fn(async |_: Request<String>| {
///     CALLS.fetch_add(1, Relaxed);
///     Ok::<_, Infallible>(Response::builder().status(503).body(()).unwrap())
/// });
/// let client = steadfast::client()
///     .retry(http::retry(3).without_budget())
///     .classify(|_: Result<&Response<()>, &Infallible>| Outcome::Failure)
///     .service(service)?;
///
/// let get = Request::get("http://example.com/").body(String::new())?;
/// assert_eq!(client.clone().oneshot(get).await?.status(), 503);
/// assert_eq!(CALLS.swap(0, Relaxed), 3);
///
/// // The service may have processed the POST.
/// let post = Request::post("http://example.com/orders").body("two apples".to_owned())?;
/// assert_eq!(client.clone().oneshot(post).await?.status(), 503);
/// assert_eq!(CALLS.swap(0, Relaxed), 1);
/// # Ok(())
/// # }
/// ```
#[doc(alias("RetryTransientMiddleware", "idempotency key"))]
pub fn retry(attempts: u32) -> Retry<Repeatable> {
    Retry::new(attempts).replay_by(Repeatable::default())
}

impl<I, M> Retry<Repeatable<I, M>> {
    /// Also retries a request after every failure if `idempotent` says that processing it twice does no harm, such as a
    /// search by POST. `idempotent` only adds to the requests that [`Repeatable`] repeats after every failure.
    ///
    /// `idempotent` is a closure or function `Fn(&Request<B>) -> bool`. It runs at most once for each call, before the
    /// first attempt. It does not run if the method or an `Idempotency-Key` already allows retries. A second call of
    /// this method replaces the function.
    ///
    /// ```
    /// use hyper::Request;
    /// use steadfast::http;
    ///
    /// let retry = http::retry(3).idempotent(|request: &Request<String>| request.uri().path() == "/search");
    /// # let _ = retry;
    /// ```
    pub fn idempotent<F, B>(self, idempotent: F) -> Retry<Repeatable<Idempotent<F>, M>>
    where
        F: Fn(&Request<B>) -> bool,
    {
        self.map_replay(|replay| Repeatable { idempotent: Idempotent(idempotent), bodies: replay.bodies })
    }

    /// Streams the first attempt, keeps up to `cap` bytes of each body, and replays them, so bodies need not be
    /// `Clone`. See [`ReplayBody`].
    ///
    /// `wrap` turns a `ReplayBody` into the body type of the requests: `axum::body::Body::new`,
    /// `tonic::body::Body::new`, `reqwest::Body::wrap`, or for hyper's `Incoming` a variant of your own enum. Method,
    /// URI, version, headers and extensions are cloned for each attempt.
    ///
    /// - A body is sent once and not kept if the lower bound of its initial [`size_hint`](Body::size_hint) exceeds the
    ///   cap. If any other body turns out to exceed the cap, the attempt that reads beyond the cap is the last: the
    ///   caller gets its result.
    /// - A body that fails ends the retries of its call. The attempt that reads the error fails with it.
    /// - An empty body is sent unchanged and can always be replayed. With a cap of 0, only empty bodies are replayed.
    ///
    /// The body must be `Unpin`: box other bodies with `Box::pin`.
    ///
    /// Bodies are not kept by default, because that needs `wrap`. [`DEFAULT_REPLAY_CAP`] is a cap that suits most APIs.
    ///
    /// ```
    /// use axum::body::Body;
    /// use steadfast::http;
    ///
    /// let retry = http::retry(3).bodies(http::DEFAULT_REPLAY_CAP, Body::new);
    /// # let _ = retry;
    /// ```
    pub fn bodies<W, B>(self, cap: usize, wrap: W) -> Retry<Repeatable<I, ReplayBodies<W>>>
    where
        W: Fn(ReplayBody<B>) -> B,
    {
        self.map_replay(|replay| Repeatable { idempotent: replay.idempotent, bodies: ReplayBodies { cap, wrap } })
    }
}

/// Says which requests are idempotent beyond the standard.
pub trait IsIdempotent<B> {
    /// Whether processing this request twice does no harm.
    fn is_idempotent(&self, request: &Request<B>) -> bool;
}

/// Adds nothing to the method and `Idempotency-Key`.
#[derive(Clone, Copy, Debug, Default)]
pub struct StandardOnly;

/// Asks a function of the user: [`Retry::idempotent`].
#[derive(Clone, Copy, Debug)]
pub struct Idempotent<F>(F);

impl<B> IsIdempotent<B> for StandardOnly {
    fn is_idempotent(&self, _: &Request<B>) -> bool {
        false
    }
}

impl<B, F: Fn(&Request<B>) -> bool> IsIdempotent<B> for Idempotent<F> {
    fn is_idempotent(&self, request: &Request<B>) -> bool {
        (self.0)(request)
    }
}

/// Sends clones of requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendClones;

/// Replays kept bodies: [`Retry::bodies`].
#[derive(Clone, Copy, Debug)]
pub struct ReplayBodies<W> {
    cap: usize,
    wrap: W,
}

impl<I, M> Repeatable<I, M> {
    fn repeat<B>(&self, request: &Request<B>) -> Repeat
    where
        I: IsIdempotent<B>,
    {
        // Does not call `Method::is_idempotent`: if a new version of `http` adds a method there, nothing changes here.
        let by_method = matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
        );
        let has_key = || request.headers().get_all(IDEMPOTENCY_KEY).iter().any(|key| !key.is_empty());
        if by_method || has_key() || self.idempotent.is_idempotent(request) {
            Repeat::Always
        } else {
            Repeat::IfUnprocessed
        }
    }
}

impl<B: Clone, I: IsIdempotent<B>> Replay<Request<B>> for Repeatable<I> {
    type Kept = Request<B>;

    fn keep(&self, request: Request<B>, _frame: &mut Frame) -> (Request<B>, Option<(Repeat, Request<B>)>) {
        let kept = (self.repeat(&request), request.clone());
        (request, Some(kept))
    }

    fn look<'kept>(&self, kept: &'kept Request<B>) -> Option<&'kept Request<B>> {
        Some(kept)
    }

    fn copy(&self, kept: &Request<B>, _frame: &mut Frame) -> Option<Request<B>> {
        Some(kept.clone())
    }

    fn last(&self, kept: Request<B>, _frame: &mut Frame) -> Request<B> {
        kept
    }
}

/// A kept request whose body is replayed.
pub struct KeptBody<B> {
    /// The request of the last attempt.
    request: Request<B>,
    /// `None` if the body is empty.
    source: Option<Arc<ReplaySource<B>>>,
}

impl<B, I, W> Replay<Request<B>> for Repeatable<I, ReplayBodies<W>>
where
    B: Body<Data = Bytes> + Unpin,
    I: IsIdempotent<B>,
    W: Fn(ReplayBody<B>) -> B,
{
    type Kept = KeptBody<B>;

    fn keep(&self, request: Request<B>, _frame: &mut Frame) -> (Request<B>, Option<(Repeat, KeptBody<B>)>) {
        let ReplayBodies { cap, wrap } = &self.bodies;
        let cap_bytes = u64::try_from(*cap).unwrap_or(u64::MAX);
        if request.body().size_hint().lower() > cap_bytes {
            return (request, None);
        }
        let repeat = self.repeat(&request);
        let (head, body) = request.into_parts();
        if body.is_end_stream() {
            let kept = Request::from_parts(head.clone(), wrap(ReplayBody::empty()));
            let request = Request::from_parts(head, body);
            return (request, Some((repeat, KeptBody { request: kept, source: None })));
        }
        let source = ReplaySource::new(body, *cap);
        let first = Request::from_parts(head.clone(), wrap(source.attempt()));
        let request = Request::from_parts(head, wrap(source.last_attempt()));
        (first, Some((repeat, KeptBody { request, source: Some(source) })))
    }

    fn look<'kept>(&self, kept: &'kept KeptBody<B>) -> Option<&'kept Request<B>> {
        let can_be_replayed = kept.source.as_ref().is_none_or(|source| source.can_be_replayed());
        can_be_replayed.then_some(&kept.request)
    }

    fn copy(&self, kept: &KeptBody<B>, _frame: &mut Frame) -> Option<Request<B>> {
        let body = kept.source.as_ref().map_or_else(ReplayBody::empty, ReplaySource::attempt);
        Some(Request::from_parts(clone_head(&kept.request), (self.bodies.wrap)(body)))
    }

    fn last(&self, kept: KeptBody<B>, _frame: &mut Frame) -> Request<B> {
        if let Some(source) = &kept.source {
            source.begin_last();
        }
        kept.request
    }
}

/// Clones a request without its body.
fn clone_head<B>(request: &Request<B>) -> Parts {
    let mut head = Request::new(()).into_parts().0;
    head.method = request.method().clone();
    head.uri = request.uri().clone();
    head.version = request.version();
    head.headers = request.headers().clone();
    head.extensions = request.extensions().clone();
    head
}
