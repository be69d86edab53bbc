use super::{grpc::GrpcCode, replay_body::longer, verdict::awaits_trailers};
use bytes::Buf;
use http::{HeaderMap, HeaderName, Request, Response, header, response::Parts};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::{Layer, Service};

/// Returns a layer around a gRPC client. If a call fails before its first message, the layer copies the status from the
/// trailers into the head of the response. The [`retry`](super::retry) and all outer layers can act on the status
/// there.
///
/// A server that fails before it sends a message puts its status into the head, or only into the trailers. A proxy may
/// turn the first form into the second. In the second form the response looks like a success until its body is read.
/// With this layer the head waits for the first frame of the body:
///
/// | first frame | the head is passed on |
/// |---|---|
/// | trailers with a `grpc-status` other than 0 | with the trailers copied into it |
/// | trailers with a `grpc-status` of 0, or without it | unchanged |
/// | data, an error, or none | unchanged |
///
/// The first frame stays at the front of the body, even if it is the trailers. Custom metadata and
/// `grpc-status-details-bin` are copied too, because a client that finds the status in the head, such as tonic, reads
/// no trailers. Fields that the head has already are kept, except `grpc-*`. Fields of HTTP framing and `steadfast-*`
/// are not copied.
///
/// Responses with another content type, a status other than 200, a `grpc-status` in the head, or a body that has
/// already ended pass at once.
///
/// **It delays the head of a stream until its first message**, and is therefore not on by default. The client of a
/// stream that is silent at first, such as a subscription, waits for the head, and an attempt timeout includes that
/// time.
///
/// # Errors
///
/// A body that fails at its first frame fails when it is read, as it does without this layer.
///
/// # Cancellation
///
/// Dropping the future drops the response, which resets its stream.
///
/// # Cost
///
/// No allocation, except for the copied trailers. The body has to be `Unpin`, as the bodies of hyper, tonic and axum
/// are.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::convert::Infallible;
/// use bytes::Bytes;
/// use http_body::Frame;
/// use http_body_util::{StreamBody, combinators::BoxBody};
/// use hyper::{HeaderMap, Request, Response};
/// use steadfast::http;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// let service = service_fn(async |_: Request<String>| {
///     let mut trailers = HeaderMap::new();
///     trailers.insert("grpc-status", "14".parse().unwrap());
///     let frame = Ok::<_, Infallible>(Frame::<Bytes>::trailers(trailers));
///     let body = BoxBody::new(StreamBody::new(futures::stream::iter([frame])));
///     Ok::<_, Infallible>(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
/// });
/// let service = ServiceBuilder::new().layer(http::peek()).service(service);
/// let answer = service.oneshot(Request::new(String::new())).await?;
/// assert_eq!(answer.headers()["grpc-status"], "14");
/// # Ok(())
/// # }
/// ```
pub fn peek() -> Peek {
    Peek(())
}

/// The layer that [`peek`] returns.
#[derive(Clone, Copy, Debug)]
pub struct Peek(());

/// A gRPC client with the layer of [`peek`]. If a call fails before its first message, the head of its response has the
/// status.
#[derive(Clone, Copy, Debug)]
pub struct PeekService<S> {
    inner: S,
}

impl<S> Layer<S> for Peek {
    type Service = PeekService<S>;

    fn layer(&self, inner: S) -> PeekService<S> {
        PeekService { inner }
    }
}

impl<S, A, B> Service<Request<A>> for PeekService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: Body + Unpin,
{
    type Response = Response<PeekBody<B>>;
    type Error = S::Error;
    type Future = PeekFuture<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        PeekFuture { answer: self.inner.call(request), held: None }
    }
}

pin_project! {
    /// The response future of a [`PeekService`].
    pub struct PeekFuture<F, B> {
        #[pin]
        answer: F,
        // The response, while its first frame is awaited.
        held: Option<Response<B>>,
    }
}

impl<F, B, E> Future for PeekFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body + Unpin,
{
    type Output = Result<Response<PeekBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answer = match this.held.take() {
            Some(answer) => answer,
            None => {
                let answer = ready!(this.answer.poll(cx))?;
                if !is_open(&answer) {
                    return Poll::Ready(Ok(answer.map(|rest| PeekBody { next: NextFrame::Rest, rest })));
                }
                answer
            }
        };
        let Poll::Ready(first) = Pin::new(answer.body_mut()).poll_frame(cx) else {
            *this.held = Some(answer);
            return Poll::Pending;
        };
        let (mut head, rest) = answer.into_parts();
        if let Some(trailers) = first.as_ref().and_then(|first| first.as_ref().ok()?.trailers_ref()) {
            copy_failure(trailers, &mut head);
        }
        let next = first.map_or(NextFrame::End, NextFrame::First);
        Poll::Ready(Ok(Response::from_parts(head, PeekBody { next, rest })))
    }
}

/// Whether the status comes in the trailers of a body that has not ended yet.
fn is_open<B: Body>(answer: &Response<B>) -> bool {
    awaits_trailers(answer) && !answer.body().is_end_stream()
}

/// If the trailers report a failure, copies them into the head.
fn copy_failure(trailers: &HeaderMap, head: &mut Parts) {
    if GrpcCode::peek(trailers).is_none_or(|code| code == GrpcCode::OK) {
        return;
    }
    for name in trailers.keys() {
        let is_of_grpc = name.as_str().starts_with("grpc-");
        // This crate writes its marks, the `steadfast-*` headers, into the head only. Marks in trailers may have passed
        // a proxy that checks only the head.
        let is_mark = name.as_str().starts_with("steadfast-");
        if is_mark || is_of_framing(name) || (head.headers.contains_key(name) && !is_of_grpc) {
            continue;
        }
        head.headers.remove(name);
        for value in trailers.get_all(name) {
            // If the header map of the head is full, this value is not copied.
            let _ = head.headers.try_append(name.clone(), value.clone());
        }
    }
}

/// Whether the field belongs to message framing, which RFC 9110 (6.5.1) forbids in trailers.
fn is_of_framing(name: &HeaderName) -> bool {
    [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ]
    .contains(name)
}

/// A body whose first frame may have been read already: see [`peek`].
///
/// Services around a [`PeekService`] use it to write the type of their response.
pub struct PeekBody<B: Body> {
    next: NextFrame<B::Data, B::Error>,
    rest: B,
}

/// What the next poll returns.
enum NextFrame<D, E> {
    /// This frame or error, which was read already.
    First(Result<Frame<D>, E>),
    /// The next frame of the body itself.
    Rest,
    /// The end: the body had no frame.
    End,
}

/// The frame is never pinned.
impl<B: Body + Unpin> Unpin for PeekBody<B> {}

impl<B: Body + Unpin> Body for PeekBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.get_mut();
        match this.next {
            NextFrame::Rest => Pin::new(&mut this.rest).poll_frame(cx),
            NextFrame::End => Poll::Ready(None),
            NextFrame::First(_) => match mem::replace(&mut this.next, NextFrame::Rest) {
                NextFrame::First(first) => Poll::Ready(Some(first)),
                NextFrame::Rest | NextFrame::End => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.next {
            NextFrame::First(_) => false,
            NextFrame::Rest => self.rest.is_end_stream(),
            NextFrame::End => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let data = match &self.next {
            NextFrame::First(Ok(first)) => first.data_ref().map_or(0, Buf::remaining),
            NextFrame::First(Err(_)) | NextFrame::Rest | NextFrame::End => 0,
        };
        longer(&self.rest.size_hint(), data)
    }
}

impl<B: Body> fmt::Debug for PeekBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeekBody").finish_non_exhaustive()
    }
}
