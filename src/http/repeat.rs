use super::replay_body::{ReplayBody, ReplaySource};
use crate::{
    retry::{Repeat, Replay, Retry},
    shell::Frame,
};
use bytes::Bytes;
use http::{Method, Request, request::Parts};
use http_body::Body;
use std::sync::Arc;

/// How much of a request's body [`Retry::bodies`] keeps if you have no better number: 64 KiB, as linkerd does. Most
/// requests of APIs are smaller, and ten thousand calls in flight then hold at most 655 MB.
pub const DEFAULT_REPLAY_CAP: usize = 64 * 1024;

/// The header by which the client says that the server recognizes a repeated request.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Decides by its method and headers whether an HTTP request may be sent again: what [`retry`] makes.
///
/// | request | sent again |
/// |---|---|
/// | GET, HEAD, OPTIONS, TRACE, PUT, DELETE: idempotent by RFC 9110, 9.2.2 | [`Repeat::Always`] |
/// | any with an `Idempotency-Key` that is not empty | [`Repeat::Always`] |
/// | any of which your own [`idempotent`](Retry::idempotent) says so | [`Repeat::Always`] |
/// | any other: POST, PATCH, so all of gRPC | [`Repeat::IfUnprocessed`] |
///
/// Unless [`bodies`](Retry::bodies) says otherwise, it sends clones, and the bodies have to be `Clone`.
///
/// Write its name where a `Retry` is a field or an argument: `Retry<Repeatable>`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repeatable<I = StandardOnly, M = SendClones> {
    idempotent: I,
    bodies: M,
}

/// At most `attempts` attempts for each request, the first one included, where it may be sent again: see
/// [`Repeatable`]. Everything else is as [`Retry::new`] has it, the budget included.
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
/// // The service may have processed it.
/// let post = Request::post("http://example.com/orders").body("two apples".to_owned())?;
/// assert_eq!(client.clone().oneshot(post).await?.status(), 503);
/// assert_eq!(CALLS.swap(0, Relaxed), 1);
/// # Ok(())
/// # }
/// ```
pub fn retry(attempts: u32) -> Retry<Repeatable> {
    Retry::new(attempts).replay_by(Repeatable::default())
}

impl<I, M> Retry<Repeatable<I, M>> {
    /// Sends a request again after every failure, too, if `idempotent` says that processing it twice does no harm: a
    /// search by POST, say. It only adds to what [`Repeatable`] allows.
    ///
    /// `idempotent` is a closure or function `Fn(&Request<B>) -> bool`. It runs once for each call, before the first
    /// attempt, and not where the method or `Idempotency-Key` says the same. It replaces that of an earlier call.
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

    /// Keeps what the first attempt streams, up to `cap` bytes of each body, and replays it: bodies need not be
    /// `Clone`. See [`ReplayBody`].
    ///
    /// `wrap` makes the body of a request of a `ReplayBody`: `axum::body::Body::new`, `tonic::body::Body::new`,
    /// `reqwest::Body::wrap`, or a variant of your own enum, for hyper's `Incoming`. Method, URI, version, headers and
    /// extensions are cloned for each attempt.
    ///
    /// - A body whose [`size_hint`](Body::size_hint) is above the cap from the beginning is sent once, and nothing of
    ///   it is kept. Any other that turns out to be larger ends the retries of its call, once an attempt has read
    ///   beyond the cap: the caller gets the answer of that attempt.
    /// - A body that fails ends the retries of its call. The attempt that reads the error fails by it.
    /// - An empty body is sent as it is, and replayed whatever the cap. A cap of zero replays no other.
    ///
    /// A body that is not `Unpin` does not compile: box it (`Box::pin`).
    ///
    /// There is no default, since it takes `wrap`. [`DEFAULT_REPLAY_CAP`] is a cap that suits most APIs.
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

/// What the user says of requests beyond the standard.
pub trait SaysIdempotent<B> {
    /// Whether processing this request twice does no harm.
    fn says_idempotent(&self, request: &Request<B>) -> bool;
}

/// Only what the method and `Idempotency-Key` say.
#[derive(Clone, Copy, Debug, Default)]
pub struct StandardOnly;

/// A function of the user: [`Retry::idempotent`].
#[derive(Clone, Copy, Debug)]
pub struct Idempotent<F>(F);

impl<B> SaysIdempotent<B> for StandardOnly {
    fn says_idempotent(&self, _: &Request<B>) -> bool {
        false
    }
}

impl<B, F: Fn(&Request<B>) -> bool> SaysIdempotent<B> for Idempotent<F> {
    fn says_idempotent(&self, request: &Request<B>) -> bool {
        (self.0)(request)
    }
}

/// Sends clones of requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendClones;

/// Sends what was kept of bodies: [`Retry::bodies`].
#[derive(Clone, Copy, Debug)]
pub struct ReplayBodies<W> {
    cap: usize,
    wrap: W,
}

impl<I, M> Repeatable<I, M> {
    fn repeat<B>(&self, request: &Request<B>) -> Repeat
    where
        I: SaysIdempotent<B>,
    {
        // Not `is_idempotent`, so that a method which is added there changes nothing here.
        let by_method = matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
        );
        let has_key = || request.headers().get_all(IDEMPOTENCY_KEY).iter().any(|key| !key.is_empty());
        if by_method || has_key() || self.idempotent.says_idempotent(request) {
            Repeat::Always
        } else {
            Repeat::IfUnprocessed
        }
    }
}

impl<B: Clone, I: SaysIdempotent<B>> Replay<Request<B>> for Repeatable<I> {
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

/// What is kept of a request whose body is replayed.
pub struct KeptBody<B> {
    /// The request of the last attempt.
    request: Request<B>,
    /// `None` where the body is empty.
    source: Option<Arc<ReplaySource<B>>>,
}

impl<B, I, W> Replay<Request<B>> for Repeatable<I, ReplayBodies<W>>
where
    B: Body<Data = Bytes> + Unpin,
    I: SaysIdempotent<B>,
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

/// A clone of all of a request but for its body.
fn clone_head<B>(request: &Request<B>) -> Parts {
    let mut head = Request::new(()).into_parts().0;
    head.method = request.method().clone();
    head.uri = request.uri().clone();
    head.version = request.version();
    head.headers = request.headers().clone();
    head.extensions = request.extensions().clone();
    head
}
