mod buffer;
mod error;
mod readers;

pub(super) use buffer::longer;
pub use error::ReplayError;

use crate::sync::{Mutex, lock};
use buffer::{BodyRest, ReadPosition, ReadStep, ReplayBuffer};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use readers::LAST;
use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

/// The request body of one attempt. It replays the frames that earlier attempts have read, then reads on from the
/// caller's body.
///
/// [`Retry::bodies`](crate::retry::Retry::bodies) makes it, and passes it to a function that wraps it in the body type
/// of the requests. The first attempt streams: a frame is sent as soon as the caller's body has it, and is kept for
/// later attempts. Data and trailers are kept. Empty data frames are passed on and not kept.
///
/// # Above the cap
///
/// A frame that would exceed the cap goes to the newest live attempt. From then on that attempt alone reads the
/// caller's body, no frames are kept any more, and no new attempts begin. Other attempts can only be live if a stage of
/// your own makes several at once. They fail with [`ReplayError::TooLarge`], at the latest after they have replayed the
/// frames kept so far.
///
/// # Errors
///
/// If the caller's body fails, the attempt that polled it gets [`ReplayError::Body`]. Up to the cap, all other attempts
/// get [`ReplayError::FailedElsewhere`], also after a panic of that body. No new attempts begin.
///
/// # Two attempts at once
///
/// An attempt that has replayed all kept frames may poll the caller's body, so a stalled attempt does not block the
/// other. A new frame wakes the other attempt. No lock is held while the caller's body is polled.
///
/// # Cancellation
///
/// Frames that a dropped attempt has read are kept, up to the cap. Later attempts replay them, so no part of the body
/// is lost.
///
/// # Cost
///
/// Three allocations for each body: the shared state, the waker, and the list of readers. Frames are not copied. Each
/// kept frame costs 32 bytes in a list and about five uncontended locks. Each replay of a frame costs one lock. A frame
/// that was made from a `Vec` also costs one allocation to share it. A frame that is part of a larger buffer keeps the
/// whole buffer in memory. An empty body costs none of this.
///
/// ```
/// use std::{pin::Pin, task::{Context, Poll}};
/// use bytes::Bytes;
/// use http_body::{Body, Frame, SizeHint};
/// use hyper::body::Incoming;
/// use steadfast::http::{self, ReplayBody, ReplayError};
///
/// /// The body of a proxy's requests: `Incoming` cannot wrap another body.
/// enum ProxyBody {
///     Incoming(Incoming),
///     Replay(Box<ReplayBody<ProxyBody>>),
/// }
///
/// impl Body for ProxyBody {
///     type Data = Bytes;
///     type Error = Box<dyn std::error::Error + Send + Sync>;
///
///     fn poll_frame(
///         self: Pin<&mut Self>,
///         cx: &mut Context<'_>,
///     ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
///         match self.get_mut() {
///             Self::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
///             Self::Replay(body) => Pin::new(body).poll_frame(cx).map_err(|error| match error {
///                 ReplayError::Body(error) => error,
///                 error => error.to_string().into(),
///             }),
///         }
///     }
///
///     fn is_end_stream(&self) -> bool {
///         match self {
///             Self::Incoming(body) => body.is_end_stream(),
///             Self::Replay(body) => body.is_end_stream(),
///         }
///     }
///
///     fn size_hint(&self) -> SizeHint {
///         match self {
///             Self::Incoming(body) => body.size_hint(),
///             Self::Replay(body) => body.size_hint(),
///         }
///     }
/// }
///
/// let retry = http::retry(3).bodies(http::DEFAULT_REPLAY_CAP, |body| ProxyBody::Replay(Box::new(body)));
/// # let _ = retry;
/// ```
pub struct ReplayBody<B> {
    reads: ReadsFrom<B>,
}

enum ReadsFrom<B> {
    /// The body is empty, has ended, or has failed.
    Nothing,
    /// Replays the kept frames, then polls the source.
    Shared(BodyReader<B>),
    /// Polls the source without other readers, because the body exceeds the cap.
    Alone(B),
}

/// A body that several attempts may read.
pub(super) struct ReplaySource<B> {
    buffer: Arc<ReplayBuffer>,
    /// `None` while a reader polls it, after it has ended or failed, and after the newest reader has taken it for good.
    /// The lock is held only to move the body in or out.
    body: Mutex<Option<B>>,
}

struct BodyReader<B> {
    source: Arc<ReplaySource<B>>,
    position: ReadPosition,
}

impl<B> Drop for BodyReader<B> {
    fn drop(&mut self) {
        self.source.buffer.leave(self.position.number);
    }
}

impl<B: Body<Data = Bytes> + Unpin> ReplaySource<B> {
    pub(super) fn new(body: B, cap: usize) -> Arc<Self> {
        let buffer = Arc::new(ReplayBuffer::new(cap, rest_of(&body)));
        Arc::new(Self { buffer, body: Mutex::new(Some(body)) })
    }

    /// Returns the body of a new attempt, which becomes the newest.
    pub(super) fn attempt(self: &Arc<Self>) -> ReplayBody<B> {
        self.reader(self.buffer.join(None))
    }

    /// Returns the body of the last attempt, before that attempt begins. The buffer counts the body as a reader, the
    /// newest one, only after [`begin_last`](Self::begin_last).
    pub(super) fn last_attempt(self: &Arc<Self>) -> ReplayBody<B> {
        self.reader(LAST)
    }

    /// Makes the last attempt the newest, when it begins. Until then, an earlier attempt is the newest, and takes the
    /// source above the cap.
    pub(super) fn begin_last(&self) {
        self.buffer.join(Some(LAST));
    }

    pub(super) fn can_be_replayed(&self) -> bool {
        self.buffer.can_be_replayed()
    }

    fn reader(self: &Arc<Self>, number: u64) -> ReplayBody<B> {
        ReplayBody {
            reads: ReadsFrom::Shared(BodyReader { source: self.clone(), position: ReadPosition::start(number) }),
        }
    }
}

impl<B> ReplayBody<B> {
    pub(super) fn empty() -> Self {
        Self { reads: ReadsFrom::Nothing }
    }
}

fn rest_of(body: &impl Body) -> BodyRest {
    BodyRest { size: body.size_hint(), is_over: body.is_end_stream() }
}

/// Fails the body for all readers when dropped, unless `poll_source` has set the field to `None`. `poll_source` leaves
/// the field set if the source returns an error, panics, or is missing. The source is never missing, because the buffer
/// lets one reader poll at a time.
struct FailUnlessDisarmed<'reader>(Option<(&'reader ReplayBuffer, &'reader ReadPosition)>);

impl Drop for FailUnlessDisarmed<'_> {
    fn drop(&mut self) {
        if let Some((buffer, position)) = self.0 {
            buffer.fail(position);
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> BodyReader<B> {
    /// Takes the source, polls it, and reports the result to the buffer. Returns only items that are not kept: empty
    /// frames and errors. After `None` the reader asks the buffer for its next step.
    fn poll_source(&self) -> Poll<Option<Result<Frame<Bytes>, ReplayError<B::Error>>>> {
        let Self { source, position } = self;
        let buffer = &*source.buffer;
        let mut guard = FailUnlessDisarmed(Some((buffer, position)));
        let Some(mut body) = lock(&source.body).take() else { return Poll::Ready(None) };
        let waker = Waker::from(source.buffer.clone());
        let polled = Pin::new(&mut body).poll_frame(&mut Context::from_waker(&waker));
        let rest = rest_of(&body);
        let back = |body| drop(lock(&source.body).replace(body));
        match polled {
            Poll::Pending => {
                back(body);
                guard.0 = None;
                buffer.pending(position, rest);
                Poll::Pending
            }
            Poll::Ready(None) => {
                guard.0 = None;
                buffer.end(position, None);
                Poll::Ready(None)
            }
            // The guard reports the failure.
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(ReplayError::Body(error)))),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    let empty = data.is_empty().then(Bytes::new);
                    back(body);
                    guard.0 = None;
                    buffer.push(position, data, rest);
                    Poll::Ready(empty.map(|empty| Ok(Frame::data(empty))))
                }
                Err(frame) => {
                    guard.0 = None;
                    buffer.end(position, frame.into_trailers().ok().map(Box::new));
                    Poll::Ready(None)
                }
            },
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ReplayBody<B> {
    type Data = Bytes;
    type Error = ReplayError<B::Error>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplayError<B::Error>>>> {
        let reads = &mut self.get_mut().reads;
        let last = loop {
            let reader = match reads {
                ReadsFrom::Nothing => return Poll::Ready(None),
                ReadsFrom::Alone(body) => return Pin::new(body).poll_frame(cx).map_err(ReplayError::Body),
                ReadsFrom::Shared(reader) => reader,
            };
            let BodyReader { source, position } = reader;
            let buffer = &source.buffer;
            match buffer.next(position, cx.waker()) {
                ReadStep::Return(frame) => return Poll::Ready(Some(Ok(frame))),
                ReadStep::Wait => return Poll::Pending,
                ReadStep::Poll => match ready!(reader.poll_source()) {
                    Some(Err(error)) => break Some(Err(error)),
                    Some(frame) => return Poll::Ready(Some(frame)),
                    None => {}
                },
                ReadStep::GoOnAlone(frame) => {
                    // The body is there: the reader that polled it put it back before the buffer came to its cap.
                    let body = lock(&source.body).take();
                    *reads = body.map_or(ReadsFrom::Nothing, ReadsFrom::Alone);
                    return Poll::Ready(Some(Ok(Frame::data(frame))));
                }
                ReadStep::End => break None,
                ReadStep::TooLarge => break Some(Err(ReplayError::TooLarge { cap: buffer.cap() })),
                ReadStep::Failed => break Some(Err(ReplayError::FailedElsewhere)),
            }
        };
        *reads = ReadsFrom::Nothing;
        Poll::Ready(last)
    }

    fn is_end_stream(&self) -> bool {
        match &self.reads {
            ReadsFrom::Nothing => true,
            ReadsFrom::Shared(reader) => reader.source.buffer.rest(&reader.position).is_over,
            ReadsFrom::Alone(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.reads {
            ReadsFrom::Nothing => SizeHint::with_exact(0),
            ReadsFrom::Shared(reader) => reader.source.buffer.rest(&reader.position).size,
            ReadsFrom::Alone(body) => body.size_hint(),
        }
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody").finish_non_exhaustive()
    }
}
