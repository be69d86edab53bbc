use crate::constant_work::{Source, SourceError, SourceFailure};
use bytes::Buf;
use http::{Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::BodyExt;
use std::{error::Error, future::poll_fn, marker::PhantomData, pin::pin};
use tokio::task::coop::consume_budget;
use tower::Service;

/// Gets a snapshot by HTTP, through any tower service for requests: a client of hyper-util, a stack of this crate
/// around a client, or a handler in the same process.
///
/// Every fetch is one unconditional `GET` of the same URI. The answer must be `200` with the whole snapshot, changed or
/// not. If the server demands more, such as an authorization, add it with a layer around the client.
///
/// Put no retry and no circuit breaker around the client: the next tick is the next attempt, and the request rate stays
/// constant under all faults. The tick's own timeout ends a request that hangs.
///
/// ```
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use bytes::Bytes;
/// use http_body_util::Empty;
/// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
/// use steadfast::constant_work::HttpSource;
///
/// let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
/// let source = HttpSource::<_, Empty<Bytes>>::new(client, "http://limits.internal/limits.snapshot".parse()?);
/// # drop(source);
/// # Ok(())
/// # }
/// # assert!(example().is_ok());
/// ```
///
/// # Errors
///
/// [`BadAnswer`](SourceFailure::BadAnswer) with the status for every answer except `200`, including `204`, `206` and
/// `304`; the source follows no redirections. [`Unreachable`](SourceFailure::Unreachable) with the error of the service
/// or of the body, for example if the server sent fewer bytes than it had announced.
///
/// # Cancellation
///
/// If a fetch is dropped, so is its request, together with its clone of the service.
///
/// # Costs
///
/// One clone of the service and one request. The source reads the body frame by frame, up to `at_most` bytes. It drops
/// the rest unread, and with HTTP/1 that closes the connection. It ignores the length that the server announces.
pub struct HttpSource<S, B> {
    service: S,
    uri: Uri,
    body: PhantomData<fn() -> B>,
}

impl<S, B> HttpSource<S, B> {
    /// Returns a source that gets this URI with clones of the service. The body of the request is the default value of
    /// its type: use a type whose default is empty.
    pub fn new(service: S, uri: Uri) -> Self {
        Self { service, uri, body: PhantomData }
    }

    /// Returns the URI that was given.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }
}

impl<S, B, R> Source for HttpSource<S, B>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    S::Future: Send,
    B: Default,
    R: Body + Send,
    R::Data: Send,
    R::Error: Into<Box<dyn Error + Send + Sync>>,
{
    async fn fetch(&mut self, into: &mut Vec<u8>, at_most: usize) -> Result<(), SourceError> {
        into.clear();
        let mut service = self.service.clone();
        poll_fn(|cx| service.poll_ready(cx)).await.map_err(unreachable)?;
        let called = {
            let mut request = Request::new(B::default());
            *request.uri_mut() = self.uri.clone();
            service.call(request)
        };
        let response = called.await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            let status = Some(response.status().as_u16());
            return Err(SourceError::new(SourceFailure::BadAnswer { status }));
        }
        let mut body = pin!(response.into_body());
        while into.len() < at_most {
            // Yields if the task has used up its budget. Otherwise a body that always has an empty frame ready would
            // block the thread.
            consume_budget().await;
            let Some(frame) = body.frame().await else { break };
            if let Ok(data) = frame.map_err(unreachable)?.into_data() {
                append(into, data, at_most);
            }
        }
        Ok(())
    }
}

/// Appends data until the buffer has `at_most` bytes.
fn append(into: &mut Vec<u8>, mut data: impl Buf, at_most: usize) {
    while data.has_remaining() {
        let chunk = data.chunk();
        let length = chunk.len().min(at_most.saturating_sub(into.len()));
        if length == 0 {
            return;
        }
        into.extend_from_slice(&chunk[..length]);
        data.advance(length);
    }
}

fn unreachable(error: impl Into<Box<dyn Error + Send + Sync>>) -> SourceError {
    SourceError::new(SourceFailure::Unreachable).because(error)
}
