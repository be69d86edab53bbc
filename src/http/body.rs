use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower::BoxError;

pin_project! {
    /// The response body of a stack that turns rejections into responses: the service's body, or that of a rejection.
    ///
    /// Its data is [`Bytes`]. Data of the service's body is copied, unless it is `Bytes` already. The wrapper costs a
    /// branch for each frame. Dropping the wrapper drops the service's body.
    pub struct HttpBody<B> {
        #[pin]
        kind: BodyKind<B>,
    }
}

pin_project! {
    #[project = BodyKindProjection]
    enum BodyKind<B> {
        Service { #[pin] body: B },
        // `None` once it was read, or if the response has no body.
        Rejection { bytes: Option<Bytes> },
    }
}

impl<B> HttpBody<B> {
    /// Returns the service's body, or `None` for the body of a rejection.
    pub fn into_service(self) -> Option<B> {
        match self.kind {
            BodyKind::Service { body } => Some(body),
            BodyKind::Rejection { .. } => None,
        }
    }

    pub(super) fn of_service(body: B) -> Self {
        Self { kind: BodyKind::Service { body } }
    }

    pub(super) fn of_rejection(bytes: Option<Bytes>) -> Self {
        Self { kind: BodyKind::Rejection { bytes } }
    }
}

/// An empty body, for functions that build responses of this type.
impl<B> Default for HttpBody<B> {
    fn default() -> Self {
        Self::of_rejection(None)
    }
}

impl<B> Body for HttpBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().kind.project() {
            BodyKindProjection::Service { body } => {
                let frame = ready!(body.poll_frame(cx));
                Poll::Ready(frame.map(|frame| match frame {
                    Ok(frame) => Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining()))),
                    Err(error) => Err(error.into()),
                }))
            }
            BodyKindProjection::Rejection { bytes } => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            BodyKind::Service { body } => body.is_end_stream(),
            BodyKind::Rejection { bytes } => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            BodyKind::Service { body } => body.size_hint(),
            BodyKind::Rejection { bytes } => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
        }
    }
}

impl<B> fmt::Debug for HttpBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = match self.kind {
            BodyKind::Service { .. } => "service",
            BodyKind::Rejection { .. } => "rejection",
        };
        f.debug_struct("HttpBody").field("of", &of).finish_non_exhaustive()
    }
}
